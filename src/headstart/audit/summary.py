"""A report as JSON has it, for scripts and for the page. Costs in dollars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headstart.audit.findings import Finding
from headstart.audit.report import ModelSum, Report, Sum
from headstart.types import PICO


def document(report: Report, show: Callable[[str], str]) -> dict[str, Any]:
    """All of it. `show` redacts text."""
    return {
        "requests": report.requests,
        "skipped_lines": report.skipped,
        "skipped": [skipped._asdict() for skipped in report.examples],
        "seconds": report.seconds,
        "timed_requests": report.timed,
        "out_of_order": report.shuffled,
        "studied_requests": report.studied,
        "log_days": None if report.per_day is None else 1 / report.per_day,
        "total": _sums(report),
        "models": {name: _model(model) for name, model in report.models.items()},
        "findings": [finding(each, report, show) for each in report.findings],
        "notes": report.notes,
    }


def finding(found: Finding, report: Report, show: Callable[[str], str]) -> dict[str, Any]:
    """One of them."""
    day = report.per_day
    example = None
    if found.example is not None:
        example = {
            "line": found.example.line,
            "path": found.example.path,
            "before": show(found.example.before),
            "value": show(found.example.value),
            "after": show(found.example.after),
        }
    return {
        "cause": found.cause,
        "kind": found.kind,
        "model": found.model,
        "path": found.path,
        "requests": found.requests,
        "tokens": found.tokens,
        "dollars": dollars(found.saved),
        "tokens_per_day": None if day is None or found.tokens is None else round(found.tokens * day),
        "dollars_per_day": None if day is None or found.saved is None else dollars(round(found.saved * day)),
        "estimated": found.estimated,
        "remedy": found.remedy,
        "note": found.note,
        "changes_what_the_model_sees": bool(found.changes),
        "changes": found.changes,
        "mechanical": bool(found.edits),
        "example": example,
        "lines": found.lines,
    }


def dollars(cost: int | None) -> float | None:
    """Picodollars as a number for scripts."""
    return None if cost is None else cost / PICO


def _sums(report: Report) -> dict[str, Any]:
    return {name: _sum(report.total(name)) for name in ("observed", "predicted", "attainable", "uncached")}


def _model(model: ModelSum) -> dict[str, Any]:
    parts = {name: _sum(getattr(model, name)) for name in ("observed", "predicted", "attainable", "uncached")}
    return {
        "rules": model.profile.rules,
        "exact_tokens": model.profile.exact,
        **parts,
        "output_tokens": model.output,
        "output_dollars": dollars(model.output_cost),
        "predicted_differently": model.differ,
    }


def _sum(of: Sum) -> dict[str, Any] | None:
    if not of.requests:
        return None
    return {
        "requests": of.requests,
        "input_tokens": of.input,
        "cached_tokens": of.cached,
        "written_tokens": of.written,
        "hit_rate": of.rate,
        "input_dollars": dollars(of.cost),
    }
