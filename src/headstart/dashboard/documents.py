"""The documents that the page asks for. Times in Unix seconds, costs in dollars as decimal strings, null for what isn't
known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from headstart.api.receipt import Receipt
from headstart.cache.diagnosis import remedy_of
from headstart.engine.base import EngineStats
from headstart.ledger.ledger import Ledger
from headstart.ledger.reports import Dimension, Line, Span, Sums, worst_first
from headstart.types import Prefix, Usage, dollars

PATIENCE = 1.0
"""Seconds that the latest rows are waited for."""
OFF = "No usage is kept here: [ledger] enabled is false."


def of_ledger(ledger: Ledger, over: Span) -> dict[str, Any]:
    """All of it, by time, and by whom. Blocking."""
    if ledger.state().failing is None:
        ledger.flush(PATIENCE)
    state = ledger.state()
    with ledger.reports.at_once() as reports:
        total, course, examples = reports.total(over), reports.course(over), reports.examples(over)
        lines = {by: reports.lines(by, over) for by in get_args(Dimension)}
    causes = [line for line in lines["cause"] if line.value]
    return {
        **_times(over),
        "ledger": {
            "failing": state.failing is not None,
            "waiting": state.waiting,
            "lost": state.lost,
            "message": state.failing,
        },
        "totals": _line(total),
        "course": [_line(line) | {"start": int(line.value)} for line in course],
        "models": [_line(line) for line in lines["model"]],
        "organisations": [_line(line) for line in lines["organisation"]],
        "keys": [_line(line) for line in lines["key"]],
        "causes": [_cause(line, examples.get(line.value, [])) for line in worst_first(causes)],
    }


def no_ledger(over: Span) -> dict[str, Any]:
    """The same where none is kept."""
    nothing: dict[str, Any] = {name: [] for name in ("course", "models", "organisations", "keys", "causes")}
    state = {"failing": False, "waiting": 0, "lost": 0, "message": OFF}
    return {**_times(over), "ledger": state, "totals": _line(Line("", Sums())), **nothing}


def of_engine(names: Sequence[str], stats: EngineStats, prefixes: Sequence[Prefix]) -> dict[str, Any]:
    """What an engine holds, and how much it does."""
    return {
        "models": list(names),
        "running": stats.running,
        "waiting": stats.waiting,
        "prefixes": [prefix._asdict() for prefix in prefixes],
        "tiers": {
            "ram": {"bytes": stats.ram_bytes, "budget": stats.ram_budget},
            "disk": {"bytes": stats.disk_bytes, "budget": stats.disk_budget},
            "promised": {"bytes": stats.promised_bytes, "budget": stats.promised_budget},
        },
    }


def of_request(receipt: Receipt) -> dict[str, Any]:
    """A request under way."""
    return {
        "id": receipt.id or None,
        "model": receipt.model,
        "organisation": receipt.caller.organisation,
        "key": receipt.caller.name,
        "endpoint": receipt.endpoint,
        "state": receipt.state,
        "elapsed": receipt.elapsed,
        "input": receipt.input,
        "cached": receipt.report.read if receipt.report else 0,
        "output": receipt.output,
    }


def _times(over: Span) -> dict[str, Any]:
    return {"now": over.until, "since": over.since, "grain": over.grain}


def _line(line: Line) -> dict[str, Any]:
    sums = line.sums
    known = sums.is_cost_known
    return {
        "value": line.value,
        "start": None,
        **sums._asdict(),
        "hit_rate": sums.hit_rate,
        "cost": dollars(sums.cost) if known else None,
        "uncached_cost": dollars(sums.uncached_cost) if known else None,
        "saved": dollars(sums.saved) if known else None,
        "ttft": {"warm": line.warm._asdict(), "cold": line.cold._asdict()},
    }


def _cause(line: Line, examples: Sequence[Usage]) -> dict[str, Any]:
    return {
        "cause": line.value,
        "requests": line.sums.requests,
        "missed": line.sums.missed,
        "remedy": remedy_of(line.value, examples[0].kind if examples else None),
        "examples": [
            {
                name: getattr(row, name)
                for name in ("time", "id", "model", "organisation", "key", "path", "kind", "missed", "input")
            }
            for row in examples
        ],
    }
