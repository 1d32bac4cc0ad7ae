"""Who imports whom: folders are stages, and only types cross between them (docs/structure.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import headstart

SOURCE = Path(headstart.__file__).parent
STAGES = ("prompt", "cache", "engine", "ledger", "store")
SHARED = {"types", "errors"}
ALLOWED = {
    "types": {"types"},
    "errors": set(),
    "config": SHARED,
    "sql": {*SHARED, "sql"},
    **{stage: {*SHARED, stage} for stage in STAGES},
    **{stage: {*SHARED, "sql", stage} for stage in ("ledger", "store")},
    "engine": {*SHARED, "config", "engine"},
    "pipeline": {*SHARED, *STAGES},
    "telemetry": {*SHARED, "engine", "telemetry"},
    "simulate": {*SHARED, "cache", "simulate"},
    "audit": {*SHARED, "prompt", "cache", "ledger", "simulate", "audit"},
    "api": {*SHARED, "api", "pipeline", "config", "engine", "ledger", "store"},
    "dashboard": {*SHARED, "dashboard", "api", "cache", "engine", "ledger", "sql"},
}
"""Top-level names that each may import; of `engine`, `api` and `telemetry` may import the Protocol only. `cli` and
`server` compose."""


def imports_of(path: Path) -> set[str]:
    """Modules of ours that a file imports, as `engine.base`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module]
        found |= {name.removeprefix("headstart.") for name in names if name.startswith("headstart.")}
    return found


def files() -> list[Path]:
    """Every source file."""
    return sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_types_cross_between_stages(path: Path) -> None:
    """A file imports what its stage may, and nothing else of ours."""
    stage = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if stage in ALLOWED:
        stray = {name for name in imports_of(path) if name.split(".")[0] not in ALLOWED[stage]}
        assert not stray
        if stage in ("api", "telemetry"):
            assert {name for name in imports_of(path) if name.startswith("engine")} <= {"engine.base"}


def test_one_file_imports_llama_cpp() -> None:
    """A new llama.cpp changes one file."""
    importing = [
        path.name for path in files() if "llama_cpp" in path.read_text() and "import llama_cpp" in path.read_text()
    ]
    assert importing == ["llama.py"]


def test_files_stay_small() -> None:
    """One noun per file; at 400 lines one talks it over. (All of llama_cpp in one file takes a little more.)"""
    large = {path.name for path in files() if len(path.read_text().splitlines()) > 400}
    assert large <= {"llama.py"}
