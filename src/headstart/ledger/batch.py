"""Rows into the tables, and out of them once they are too old: one transaction each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Dialect, Table, delete, literal_column, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from headstart.ledger.rollup import DAY, HOUR, MINUTE, rollup
from headstart.ledger.tables import batches, latencies, sums, usage
from headstart.types import Usage

MINUTES_KEPT = 2 * DAY
HOURS_KEPT = 400 * DAY
BATCHES_KEPT = DAY
DIALECTS: Mapping[str, Dialect] = {
    "sqlite": SQLiteDialect_pysqlite(),
    "postgresql": PGDialect_psycopg(),  # type: ignore[no-untyped-call]  # SQLAlchemy's own omission
}
PURGED_AT_ONCE = 5_000
"""Rows deleted in one transaction: a batch waits for no more."""


class Batch(NamedTuple):
    """Rows to be written together. A batch is written once, however often it is tried: its id says so."""

    id: str
    rows: Sequence[Usage]


def write(connection: Connection, batch: Batch, now: float) -> None:
    """Write a batch and what it comes to, unless it is there already."""
    new = _upsert(connection.dialect.name, batches).values(id=batch.id, time=now).on_conflict_do_nothing()
    if connection.execute(new.returning(batches.c.id)).first() is None:
        return
    _insert(connection, usage, [_storable(row) for row in batch.rows])
    totals, times = rollup(batch.rows)
    # In one order, so that two servers never wait for each other's rows.
    _insert(connection, sums, [(*cell, *totals[cell]) for cell in sorted(totals)])
    counts = [(*cell, int(warm), bucket, times[cell, warm, bucket]) for cell, warm, bucket in sorted(times)]
    _insert(connection, latencies, counts)


def _insert(connection: Connection, table: Table, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows, in the order of the columns; where the table has keys, add to the figures that are there. Past
    SQLAlchemy's work for each row, which took longer than all the rest."""
    if not rows:
        return
    sql, is_positional = _statement(connection.dialect.name, table)
    names = table.columns.keys()
    connection.exec_driver_sql(sql, rows if is_positional else [dict(zip(names, row, strict=True)) for row in rows])


@cache
def _statement(dialect: str, table: Table) -> tuple[str, bool]:
    """What inserts a row, in SQL, and whether it takes values by their places."""
    statement: Any = _upsert(dialect, table)
    keys = [column.name for column in table.primary_key]
    if keys:
        added = {c.name: c + statement.excluded[c.name] for c in table.columns if c.name not in keys}
        statement = statement.on_conflict_do_update(index_elements=keys, set_=added)
    compiled = statement.compile(dialect=DIALECTS[dialect])
    order = compiled.positiontup
    assert order is None or order == table.columns.keys(), "values come in the order of the columns"
    return str(compiled), order is not None


def _storable(row: Usage) -> Usage:
    """The row as PostgreSQL can keep it, too: it has no text with a NUL, which a client may have sent."""
    for name in ("cache_key", "path"):
        text = getattr(row, name)
        if text is not None and "\0" in text:
            row = row._replace(**{name: text.replace("\0", "\\0")})
    return row


def _upsert(dialect: str, table: Table) -> Any:
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


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
