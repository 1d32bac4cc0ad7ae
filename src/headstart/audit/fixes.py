"""A request as it was sent, and as it should be: one for each finding that can be mended by rule."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from headstart.audit.call import Call
from headstart.audit.edits import Edit, applied
from headstart.audit.findings import Finding
from headstart.audit.redaction import elided

MOST_LINES = 40
"""Of a difference that is shown."""


class Fix(NamedTuple):
    """A finding's number in the report, from 1 on, the line of the log, and the request before and after."""

    finding: int
    line: int
    before: Call
    after: Call


def fixes(findings: Sequence[Finding], calls: Iterable[Call]) -> Iterator[Fix]:
    """For each finding with edits, of the first request that they change. Edits build on one another in the order in
    which they were found."""
    calls = list(calls)
    for number, finding in enumerate(findings, 1):
        if not finding.edits:
            continue
        lines = set(finding.lines)
        ours = [call for call in calls if call.model == finding.model]
        for call in sorted(ours, key=lambda call: call.line not in lines):
            before, after = _changed(call, finding.edits)
            if after.body != before.body:
                yield Fix(number, call.line, before, after)
                break


def _changed(call: Call, edits: tuple[Edit, ...]) -> tuple[Call, Call]:
    return call, applied(edits, call)


def difference(fix: Fix, show: Callable[[str], str]) -> list[str]:
    """As `diff -u` has it, of both as indented JSON with their long texts cut short."""
    before, after = (
        json.dumps(elided(call.body, show), indent=2, ensure_ascii=False).splitlines()
        for call in (fix.before, fix.after)
    )
    lines = list(difflib.unified_diff(before, after, "as sent", "as it should be", lineterm="", n=2))
    if len(lines) > MOST_LINES:
        return [*lines[:MOST_LINES], f"… {len(lines) - MOST_LINES} more lines"]
    return lines
