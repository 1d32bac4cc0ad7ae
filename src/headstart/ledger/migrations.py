"""How the ledger's tables came to look as they do, one function per version, on SQLite and PostgreSQL. A published one
is never changed again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from headstart.sql.migrations import Migration


def _usage(connection: Connection) -> None:
    """Rows, their sums by time, and the batches they came in."""
    counters = ", ".join(
        f"{name} BIGINT NOT NULL"
        for name in (
            *("requests", "warm", "failed", "input", "cached", "written", "output", "missed"),
            *("priced", "cost", "uncached_cost"),
        )
    )
    clustered = " WITHOUT ROWID" if connection.dialect.name == "sqlite" else ""
    for statement in (
        "CREATE TABLE usage ("
        " time DOUBLE PRECISION NOT NULL,"
        " organisation TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL,"
        " status TEXT NOT NULL, total DOUBLE PRECISION NOT NULL, id TEXT NOT NULL, cache_key TEXT,"
        " input BIGINT NOT NULL, cached BIGINT NOT NULL, written_30m BIGINT NOT NULL, written_12h BIGINT NOT NULL,"
        " unkept BIGINT NOT NULL, output BIGINT NOT NULL, ttft DOUBLE PRECISION, error TEXT,"
        " cause TEXT, missed BIGINT NOT NULL, path TEXT, kind TEXT, cost BIGINT, uncached_cost BIGINT)",
        "CREATE INDEX usage_by_time ON usage (time)",
        "CREATE INDEX usage_by_cause ON usage (cause, time) WHERE cause IS NOT NULL",
        "CREATE TABLE sums (grain INTEGER NOT NULL, dimension TEXT NOT NULL, start BIGINT NOT NULL,"
        f" value TEXT NOT NULL, {counters}, PRIMARY KEY (grain, dimension, start, value)){clustered}",
        "CREATE TABLE latencies (grain INTEGER NOT NULL, dimension TEXT NOT NULL, start BIGINT NOT NULL,"
        " value TEXT NOT NULL, warm INTEGER NOT NULL, bucket INTEGER NOT NULL, requests BIGINT NOT NULL,"
        f" PRIMARY KEY (grain, dimension, start, value, warm, bucket)){clustered}",
        "CREATE TABLE batches (id TEXT PRIMARY KEY, time DOUBLE PRECISION NOT NULL)",
    ):
        connection.exec_driver_sql(statement)


MIGRATIONS: Sequence[Migration] = (_usage,)
"""`MIGRATIONS[n]` leads from version n to n + 1."""
