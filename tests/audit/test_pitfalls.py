"""The four things that go wrong with prompt caching, each a log in examples/pitfalls: each is named first."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from headstart.audit.audit import Settings, audit
from headstart.audit.call import Call
from headstart.audit.edits import applied
from headstart.audit.logs import read
from headstart.audit.replay import Prompts, Replay
from headstart.audit.report import Report
from headstart.ledger.price_list import Tokens, published

PITFALLS = Path(__file__).parents[2] / "examples" / "pitfalls"
SHORT, TIMESTAMP, REPEATED, ONE_OFF = sorted(PITFALLS.glob("*.jsonl"))


def audited(path: Path) -> Report:
    """The report of a log."""
    report, _, _ = audit(read(path), Settings())
    assert (report.skipped, report.requests) == (0, 16)
    return report


def cost(report: Report, which: str) -> int:
    """In picodollars."""
    found = report.total(which).cost
    assert found is not None
    return found


def test_a_prefix_that_is_too_short() -> None:
    """It says how much is lacking; padded, all but the first request read it, and that is the saving."""
    report = audited(SHORT)
    found = report.findings[0]
    assert (found.cause, found.path, found.requests) == ("below_minimum", "input", 16)
    assert "810 tokens, 214 fewer than the 1024" in found.remedy
    assert (
        "padding pays for prefixes of 161 tokens" in found.note
    )  # more than 1,024 · (0.1 + 0.9 / 16), docs/contract.md E8
    assert report.total("predicted").rate == 0
    assert report.total("attainable").cached == 15 * 1024
    assert found.saved == cost(report, "predicted") - cost(report, "attainable") > 0
    assert found.changes


def test_a_timestamp_in_front() -> None:
    """It is found, with its place; moved behind the rest, the prefix is read by all but the first."""
    report = audited(TIMESTAMP)
    found = report.findings[0]
    assert (found.cause, found.kind, found.path, found.requests) == ("prefix_changed", "timestamp", "input", 15)
    assert found.example is not None
    assert (found.example.before, found.example.value[:10]) == ("Current time: ", "2026-09-21")
    assert "Move the timestamp behind" in found.remedy
    assert report.total("attainable").cached == 15 * 1920
    assert found.saved == cost(report, "predicted") - cost(report, "attainable") > 0
    call = next(call for call in read(TIMESTAMP) if isinstance(call, Call))
    moved = applied(found.edits, call).body["input"]
    assert moved.startswith("Rule 1.")
    assert moved.endswith("?\n\nCurrent time: 2026-09-21T00:00:00Z")


def test_answers_are_not_cached() -> None:
    """The prompts are read, as the log's answers say; what repeated questions cost is their answers."""
    report = audited(REPEATED)
    found = report.findings[0]
    assert (found.cause, found.requests, len(report.findings)) == ("output_not_cached", 12, 1)
    assert report.total("observed").cached == report.total("predicted").cached == 15 * 1920
    calls = [call for call in read(REPEATED) if isinstance(call, Call)]
    price, again = published("gpt-5.1", calls[0].time or 0), calls[4:]
    assert price is not None
    usages = [call.usage for call in again if call.usage is not None]
    whole = sum(price.cost(Tokens(each.input, each.cached, output=each.output), None, 0).cost for each in usages)
    assert found.saved == whole
    assert any("output, which is never cached" in note for note in report.notes)


def test_prompts_that_do_not_repeat() -> None:
    """It is said plainly, with no remedy that costs anything."""
    report = audited(ONE_OFF)
    found = report.findings[0]
    assert (found.cause, found.saved, len(report.findings)) == ("unrepeated", 0, 1)
    assert "Caching can't pay" in found.remedy
    assert cost(report, "attainable") == cost(report, "uncached")


def test_the_logs_are_what_the_script_writes() -> None:
    """Word for word."""
    script = runpy.run_path(str(PITFALLS / "make.py"))
    for name, make in script["LOGS"].items():
        written = (PITFALLS / name).read_text().splitlines()
        assert [json.loads(line) for line in written] == [json.loads(make(number)) for number in range(16)]


@pytest.mark.parametrize("path", [SHORT, TIMESTAMP])
def test_savings_are_differences_of_replays(path: Path) -> None:
    """Replayed with the finding's edits, the log reads what the report calls attainable."""
    report = audited(path)
    replay = Replay(Prompts())
    calls = [call for call in read(path) if isinstance(call, Call)]
    reads = sum(replay.take(applied(report.findings[0].edits, call)).read for call in calls)
    assert reads == report.total("attainable").cached
