"""Rows of the ledger's tests: by hand and by hypothesis, and what they come to, counted the long way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

from hypothesis import strategies as st
from sqlalchemy import select

from headstart.ledger.database import Database
from headstart.ledger.ledger import Ledger
from headstart.ledger.rollup import DIMENSIONS, GRAINS, Cell, Dimension, Sums
from headstart.ledger.tables import latencies, sums, usage
from headstart.types import Cause, Usage

NOW = 1_760_000_000.0
"""Now and then, in the tests."""
CAUSES: tuple[Cause, ...] = get_args(Cause)


def row(number: int = 0, **fields: Any) -> Usage:
    """A row that is like no other by its id."""
    first = Usage(NOW, "default", "alice", "gpt-4.1-mini", "responses", "completed", 1.5, f"resp_{number}", input=2000)
    return first._replace(**fields)


names = st.sampled_from(["", "a", "b", "grüße 🎉", "x" * 300])
tokens = st.integers(0, 10**6)
costs = st.none() | st.integers(0, 10**13)
usages = st.builds(
    Usage,
    time=st.floats(-3 * 86_400, 0).map(lambda ago: NOW + ago),
    organisation=names,
    key=names,
    model=names,
    endpoint=st.sampled_from(["responses", "chat.completions"]),
    status=st.sampled_from(["completed", "incomplete", "failed", "cancelled", "refused"]),
    total=st.floats(0, 1e4),
    id=st.uuids().map(str),
    cache_key=st.none() | names,
    input=tokens,
    cached=st.just(0) | tokens,
    written_30m=tokens,
    written_12h=tokens,
    unkept=tokens,
    output=tokens,
    ttft=st.none() | st.floats(0, 1e3),
    error=st.none() | names,
    cause=st.none() | st.sampled_from(CAUSES),
    missed=tokens,
    path=st.none() | names,
    kind=st.none() | names,
    cost=costs,
    uncached_cost=costs,
)


def begin(database: Database, days: float = 30.0) -> Ledger:
    """A ledger at the time of the tests' rows."""
    return Ledger(database, days=days, clock=lambda: NOW)


def value_of(row: Usage, by: Dimension) -> str:
    """A row's value in a dimension."""
    if by == "all":
        return ""
    return getattr(row, by) or ""


def recount(rows: Sequence[Usage]) -> dict[Cell, Sums]:
    """What rows come to, a cell at a time."""
    found = {}
    for grain in GRAINS:
        for by in DIMENSIONS:
            for start, value in {(math.floor(row.time / grain) * grain, value_of(row, by)) for row in rows}:
                inside = [row for row in rows if start <= row.time < start + grain and value_of(row, by) == value]
                found[Cell(grain, by, start, value)] = summed(inside)
    return found


def summed(rows: Sequence[Usage]) -> Sums:
    """The sums of some rows."""
    priced = [row for row in rows if row.cost is not None]
    return Sums(
        requests=len(rows),
        warm=sum(row.cached > 0 for row in rows),
        failed=sum(row.status in ("failed", "cancelled", "refused") for row in rows),
        input=sum(row.input for row in rows),
        cached=sum(row.cached for row in rows),
        written=sum(row.written_30m + row.written_12h for row in rows),
        output=sum(row.output for row in rows),
        missed=sum(row.missed for row in rows),
        priced=len(priced),
        cost=sum(row.cost or 0 for row in priced),
        uncached_cost=sum(row.uncached_cost or 0 for row in priced),
    )


def stored(database: Database) -> list[Usage]:
    """The rows of a database, by time and id."""
    with database.read() as connection:
        return sorted(
            (Usage(*found) for found in connection.execute(select(usage))), key=lambda row: (row.time, row.id)
        )


def stored_sums(database: Database) -> dict[Cell, Sums]:
    """The sums of a database."""
    with database.read() as connection:
        return {Cell(*found[:4]): Sums(*found[4:]) for found in connection.execute(select(sums))}


def stored_times(database: Database) -> int:
    """Requests in all histograms of a database."""
    with database.read() as connection:
        return sum(connection.execute(select(latencies.c.requests)).scalars())


def is_timed(row: Usage) -> bool:
    """Whether its time to the first token counts as warm or cold."""
    return row.ttft is not None and row.cause != "below_minimum"


def agrees(database: Database) -> list[Usage]:
    """The rows, which the sums and histograms agree with."""
    rows = stored(database)
    assert stored_sums(database) == recount(rows)
    assert stored_times(database) == sum(map(is_timed, rows)) * len(GRAINS) * len(DIMENSIONS)
    return rows


def wait_for(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)
