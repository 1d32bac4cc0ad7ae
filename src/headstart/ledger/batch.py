"""Rows into the tables, and out of them once they are too old: one transaction each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Insert, Table, delete, insert, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from headstart.ledger.rollup import DAY, HOUR, MINUTE, rollup
from headstart.ledger.tables import batches, latencies, sums, usage
from headstart.types import Usage

MINUTES_KEPT = 2 * DAY
HOURS_KEPT = 400 * DAY
BATCHES_KEPT = DAY
PURGED_AT_ONCE = 5_000
"""Rows deleted in one transaction: a batch waits for no more."""


class Batch(NamedTuple):
    """Rows to be written together. A batch is written once, however often it is tried: its id says so."""

    id: str
    rows: Sequence[Usage]


def write(connection: Connection, batch: Batch, now: float) -> None:
    """Write a batch and what it comes to, unless it is there already."""
    new = _upsert(connection, batches).values(id=batch.id, time=now).on_conflict_do_nothing()
    if connection.execute(new.returning(batches.c.id)).first() is None:
        return
    _many(connection, insert(usage), [_storable(row) for row in batch.rows])
    totals, times = rollup(batch.rows)
    # In one order, so that two servers never wait for each other's rows.
    _add(connection, sums, [{**cell._asdict(), **totals[cell]._asdict()} for cell in sorted(totals)])
    _add(
        connection,
        latencies,
        [
            {**cell._asdict(), "warm": int(warm), "bucket": bucket, "requests": times[cell, warm, bucket]}
            for cell, warm, bucket in sorted(times)
        ],
    )


def _add(connection: Connection, table: Table, figures: list[dict[str, Any]]) -> None:
    """Add to the figures that are there."""
    if not figures:
        return
    statement = _upsert(connection, table)
    keys = [column.name for column in table.primary_key]
    added = {c.name: c + statement.excluded[c.name] for c in table.columns if c.name not in keys}
    _many(connection, statement.on_conflict_do_update(index_elements=keys, set_=added), figures)


def _many(connection: Connection, statement: Insert, rows: list[dict[str, Any]]) -> None:
    """Execute a statement for many rows, past SQLAlchemy's work for each: it took as long as all the rest."""
    compiled = statement.compile(dialect=connection.dialect)
    assert isinstance(compiled, SQLCompiler)
    order = compiled.positiontup
    given: Any = rows if order is None else [tuple(map(row.__getitem__, order)) for row in rows]
    connection.exec_driver_sql(str(compiled), given)


def _storable(row: Usage) -> dict[str, Any]:
    """A row's fields. PostgreSQL keeps no text with a NUL, which a client may have sent."""
    fields = row._asdict()
    for name in ("cache_key", "path"):
        if fields[name] is not None and "\0" in fields[name]:
            fields[name] = fields[name].replace("\0", "\\0")
    return fields


def _upsert(connection: Connection, table: Table) -> Any:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def purge(connection: Connection, now: float, days: float) -> bool:
    """Delete some of what is too old. Whether there is more."""
    row: ColumnElement[Any] = literal_column("rowid" if connection.dialect.name == "sqlite" else "ctid")
    old = select(row).select_from(usage).where(usage.c.time < now - days * DAY).limit(PURGED_AT_ONCE)
    deleted = connection.execute(delete(usage).where(row.in_(old))).rowcount
    for grain, kept in ((MINUTE, MINUTES_KEPT), (HOUR, HOURS_KEPT)):
        for table in (sums, latencies):
            connection.execute(delete(table).where(table.c.grain == grain, table.c.start < now - kept))
    connection.execute(delete(batches).where(batches.c.time < now - BATCHES_KEPT))
    return deleted == PURGED_AT_ONCE
