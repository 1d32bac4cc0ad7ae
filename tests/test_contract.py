"""Every rule of docs/contract.md has a test, and its table says which (scripts/conformance)."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "conformance"


@pytest.fixture(scope="module")
def conformance() -> dict[str, Any]:
    """The script's functions."""
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def document(conformance: dict[str, Any]) -> str:
    """The contract."""
    return conformance["DOCUMENT"].read_text()


def test_every_rule_has_a_test_and_every_test_a_rule(conformance: dict[str, Any], document: str) -> None:
    """And no id stands twice."""
    assert conformance["problems"](document, conformance["collect"](ROOT / "tests")) == []


def test_the_table_is_up_to_date(conformance: dict[str, Any], document: str) -> None:
    """Else run scripts/conformance."""
    assert document == conformance["with_table"](document, conformance["collect"](ROOT / "tests"))


def test_markers_are_read_from_functions_and_classes(conformance: dict[str, Any], tmp_path: Path) -> None:
    """Several rules, several markers, a note; files that are no tests are left out."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "test_a.py").write_text(
        "@pytest.mark.contract('B1', 'B2', note='both')\n@pytest.mark.contract('P1')\nasync def test_x(): ...\n"
        "@pytest.mark.contract('B1')\nclass Machine:\n    @rule()\n    def step(self): ...\n"
        "@pytest.mark.timeout(5)\ndef test_y(): ...\n"
    )
    (tmp_path / "conftest.py").write_text("@pytest.mark.contract('B9')\ndef nothing(): ...\n")
    assert [tuple(line) for line in conformance["collect"](tmp_path)] == [
        ("B1", "cache/test_a.py::test_x", "both"),
        ("B2", "cache/test_a.py::test_x", "both"),
        ("P1", "cache/test_a.py::test_x", ""),
        ("B1", "cache/test_a.py::Machine", ""),
    ]


def test_the_table_and_what_is_wrong(conformance: dict[str, Any]) -> None:
    """One row a rule, in the document's order; the text around it stays, and writing twice changes nothing."""
    shown = [conformance["Shown"](*line) for line in (("P1", "a::x", ""), ("P1", "a::y", "n|m"), ("Q1", "a::z", "o"))]
    empty = f"**B1** One. **P1** Two.\n{conformance['BEGIN']}{conformance['END']}\nEnd.\n"
    written = conformance["with_table"](empty, shown)
    assert written.startswith("**B1** One.")
    assert written.endswith(f"| B1 | — |  |\n| P1 | `a::x`<br>`a::y` | `y`: n\\|m |\n{conformance['END']}\nEnd.\n")
    assert conformance["with_table"](written, shown) == written
    assert conformance["problems"](written, shown) == ["B1 has no test", "tests/a::z shows Q1, which is no rule"]
    assert conformance["problems"]("**B1** a **B1** b ", [])[0] == "B1 stands twice in the document"


def test_a_wrong_option_is_refused() -> None:
    """Nothing is written."""
    done = subprocess.run([sys.executable, SCRIPT, "--write"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--check" in done.stderr
