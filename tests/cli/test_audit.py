"""`headstart audit` as a person and a script meet it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headstart.cli.app import app
from headstart.errors import StartError

runner = CliRunner(env={"COLUMNS": "100"})
PITFALLS = Path(__file__).parents[2] / "examples" / "pitfalls"
TIMESTAMP = str(PITFALLS / "2-timestamp-in-front.jsonl")


def printed(*arguments: str, stdin: bytes | None = None) -> str:
    """What the command prints."""
    result = runner.invoke(app, ["audit", *arguments], input=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_one_screen() -> None:
    """Rates, money, the finding, its place and its remedy; the prompt by its shape only."""
    output = printed(TIMESTAMP)
    assert len(output.splitlines()) <= 24
    assert max(map(len, output.splitlines())) <= 100
    for words in ("A timestamp breaks the prefix", "Predicted", "88.4%", "⟦0000-00-00x00:00:00x⟧", "a day"):
        assert words in output
    assert "Parcels" not in output
    assert "Current time" not in output


def test_words_where_they_are_asked_for() -> None:
    """And then only around the place."""
    output = printed(TIMESTAMP, "--show-text")
    assert "Current time: ⟦2026-09-21T01:07:13Z⟧" in output
    assert "Repairs take a week" not in output


def test_json() -> None:
    """All of it, without words of the prompt."""
    told: dict[str, Any] = json.loads(printed(TIMESTAMP, "--json", "--fix"))
    (finding,) = told["findings"]
    assert (finding["cause"], finding["kind"], finding["mechanical"]) == ("prefix_changed", "timestamp", True)
    assert finding["dollars_per_day"] > finding["dollars"] > 0
    assert told["total"]["attainable"]["hit_rate"] > 0.88 > told["total"]["predicted"]["hit_rate"] == 0
    assert told["fixes"][0]["line"] == 2
    assert "Parcels" not in json.dumps(told)


def test_a_fix_stands_beside_the_old_request() -> None:
    """The value has moved from the front to the end."""
    output = printed(TIMESTAMP, "--fix")
    before = next(line for line in output.splitlines() if line.lstrip().startswith('-  "input"'))
    assert "xxxxxxx xxxx: 0000-00-00" in before
    after = output[output.index('+  "input"') :]
    assert "0000-00-00x00:00:00x" in "".join(after.split()).replace("\n", "")


def test_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    """The curve, the finding with its value marked, the prefixes; no script, no address, no word of the prompt."""
    path = tmp_path / "report.html"
    printed(TIMESTAMP, "--html", str(path))
    page = path.read_text()
    assert "<mark>0000-00-00x00:00:00x</mark>" in page
    assert "<polyline" in page
    assert "88.4%" in page
    assert "<script" not in page
    assert "http" not in page
    assert "Parcels" not in page
    again = runner.invoke(app, ["audit", TIMESTAMP, "--html", str(tmp_path / "none" / "x.html")])
    assert "can't be written" in str(again.exception)


def test_text_of_the_log_is_escaped(tmp_path: Path) -> None:
    """Whatever a prompt or a model is called, it is no HTML."""
    path, log = tmp_path / "report.html", tmp_path / "log.jsonl"
    lines = [
        json.dumps({"model": "<b>m", "input": f"<script>user_{n}9a7f{n}</script> " + "Rule. " * 1500}) for n in range(4)
    ]
    log.write_text("\n".join(lines))
    printed(str(log), "--html", str(path), "--show-text")
    assert "<script" not in path.read_text()
    assert "<b>" not in path.read_text()
    assert "&lt;script" in path.read_text()


def test_standard_input_and_lines_that_cannot_be_read() -> None:
    """The rest is audited; what was skipped is said."""
    good = Path(TIMESTAMP).read_bytes()
    output = printed("-", stdin=b"junk\n" + good)
    assert "line 1 skipped: It is no JSON" in output
    assert "16 requests" in output


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no line"),
        (b"\x00\xff\xfe\n" * 9, "line 1: It is no"),
        (b'{"model": "gpt-5.1", "input": []}\n', "It has no messages"),
    ],
)
def test_logs_without_a_request(tmp_path: Path, content: bytes, words: str) -> None:
    """One sentence, and how to go on."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    result = runner.invoke(app, ["audit", str(path)])
    assert isinstance(result.exception, StartError)
    assert words in str(result.exception)


def test_wrong_options(tmp_path: Path) -> None:
    """They name what is right."""
    for arguments, words in (
        (["--format", "csv"], "use headstart, otel"),
        (["--retention", "1h"], "24h or in_memory"),
    ):
        result = runner.invoke(app, ["audit", TIMESTAMP, *arguments])
        assert isinstance(result.exception, StartError)
        assert words in str(result.exception)
    missing = runner.invoke(app, ["audit", str(tmp_path / "none")])
    assert "No such file" in str(missing.exception)


def test_one_request() -> None:
    """There is nothing to mend, and no figures for a day."""
    output = printed("-", stdin=json.dumps({"model": "gpt-5.1", "input": "Hello " * 2000}).encode())
    assert "Nothing to mend" in output
    assert "no times" in output
