"""Whether a log's caching is good enough for a build to go on, and how CI is told: GitHub's annotations, or SARIF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from headstart.audit.findings import Finding
from headstart.audit.report import Report
from headstart.audit.words import title

SLACK = 0.01
"""How far below its baseline a hit rate may fall: questions differ in length."""
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


class Baseline(msgspec.Struct):
    """What was the case before: the hit rate by the rules, and what was known to be wrong then."""

    hit_rate: float
    findings: list[str] = []


class Failure(NamedTuple):
    """Why a build fails: where, in which file and line, and what to do."""

    rule: str
    message: str
    line: int = 1


def baseline_of(report: Report) -> Baseline:
    """For builds to come."""
    return Baseline(round(report.total("predicted").rate, 4), sorted({_name(found) for found in report.findings}))


def failures(report: Report, least: float | None, before: Baseline | None) -> list[Failure]:
    """What is wrong: the hit rate first, then the findings behind it; with a baseline only those that are new."""
    rate, found = report.total("predicted").rate, []
    if least is not None and rate < least:
        found.append(Failure("hit_rate", f"The hit rate is {rate:.1%}; at least {least:.1%} is wanted."))
    if before is not None and rate < before.hit_rate - SLACK:
        found.append(Failure("hit_rate", f"The hit rate fell from {before.hit_rate:.1%} to {rate:.1%}."))
    known = set(before.findings) if before is not None else set()
    new = [finding for finding in report.findings if _name(finding) not in known]
    if found or before is not None:
        found += [_failure(finding) for finding in new if finding.saved or finding.tokens]
    return found


def _name(finding: Finding) -> str:
    return ": ".join(filter(None, (finding.cause, finding.kind, finding.path)))


def _failure(finding: Finding) -> Failure:
    where = f" at {finding.path}" if finding.path else ""
    message = f"{title(finding.cause, finding.kind)}{where}, in {finding.requests} requests. {finding.remedy}"
    return Failure(finding.kind or finding.cause, message, finding.lines[0] if finding.lines else 1)


def github(found: Sequence[Failure], file: str) -> list[str]:
    """GitHub's workflow commands, a line for each."""
    return [
        f"::error file={_property(file)},line={each.line},title={_property(each.rule)}::{_escaped(each.message)}"
        for each in found
    ]


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def sarif(found: Sequence[Failure], file: str, version: str) -> Mapping[str, Any]:
    """A SARIF 2.1.0 log."""
    rules = [{"id": rule} for rule in dict.fromkeys(each.rule for each in found)]
    results = [
        {
            "ruleId": each.rule,
            "level": "error",
            "message": {"text": each.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": file},
                        "region": {"startLine": each.line},
                    }
                }
            ],
        }
        for each in found
    ]
    driver = {"name": "headstart check", "version": version, "rules": rules}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
