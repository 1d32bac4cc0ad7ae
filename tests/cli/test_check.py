"""`headstart check` as a build meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from headstart.cli.app import app
from headstart.errors import StartError

PITFALLS = Path(__file__).parents[2] / "examples" / "pitfalls"
BROKEN, GOOD = PITFALLS / "2-timestamp-in-front.jsonl", PITFALLS / "3-answers-are-not-cached.jsonl"


def run(*arguments: object, github: str = "") -> Result:
    """The command, in a build or not."""
    runner = CliRunner(env={"GITHUB_ACTIONS": github, "COLUMNS": "100"})
    return runner.invoke(app, ["check", *map(str, arguments)])


def test_a_good_log_passes() -> None:
    """Exit code 0, and the rate."""
    result = run(GOOD, "--min-hit-rate", "0.8")
    assert (result.exit_code, result.stdout) == (0, "The hit rate is 89.1%.\n")


def test_a_broken_prefix_fails_the_build() -> None:
    """Exit code 1; the rate, and why; no word of the prompt."""
    result = run(BROKEN, "--min-hit-rate", "0.8")
    assert result.exit_code == 1
    first, second = result.stdout.splitlines()
    assert first.endswith(":1: The hit rate is 0.0%; at least 80.0% is wanted.")
    assert ":2: A timestamp breaks the prefix at input, in 15 requests. Move the timestamp" in second


def test_annotations_in_github_actions() -> None:
    """By themselves, and escaped as GitHub wants it."""
    result = run(BROKEN, "--min-hit-rate", "0.8", github="true")
    first, second = result.stdout.splitlines()
    assert first.startswith("::error file=")
    assert "title=hit_rate::The hit rate is 0.0%25; at least 80.0%25" in first
    assert ",line=2,title=timestamp::" in second


def test_sarif() -> None:
    """With a place for each result."""
    result = run(BROKEN, "--min-hit-rate", "0.8", "--output", "sarif")
    told = json.loads(result.stdout)
    assert told["version"] == "2.1.0"
    (once,) = told["runs"]
    assert [each["ruleId"] for each in once["results"]] == ["hit_rate", "timestamp"]
    assert once["results"][1]["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}
    assert result.exit_code == 1


def test_a_baseline(tmp_path: Path) -> None:
    """What was so before passes; a fall and a new cause don't."""
    path = tmp_path / "baseline.json"
    assert run(GOOD, "--baseline", path, "--write-baseline").exit_code == 0
    assert run(GOOD, "--baseline", path).exit_code == 0
    fallen = run(BROKEN, "--baseline", path)
    assert fallen.exit_code == 1
    assert "fell from 89.1% to 0.0%" in fallen.stdout
    assert run(BROKEN, "--baseline", path, "--write-baseline").exit_code == 0
    assert run(BROKEN, "--baseline", path).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Say what is wanted"),
        (["--min-hit-rate", "0.5", "--output", "xml"], "text, github or sarif"),
        (["--min-hit-rate", "0.5", "--write-baseline"], "needs --baseline"),
        (["--baseline", str(PITFALLS / "none.json")], "--write-baseline"),
        (["--baseline", str(PITFALLS / "make.py")], "is no baseline"),
    ],
)
def test_wrong_options(arguments: list[str], words: str) -> None:
    """They say what would be right."""
    result = run(GOOD, *arguments)
    assert isinstance(result.exception, StartError)
    assert words in str(result.exception)
