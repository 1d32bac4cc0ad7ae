"""The ledger's tables as the newest migration leaves them, for SQLAlchemy to write statements about."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, String, Table

_METADATA = MetaData()

usage = Table(
    "usage",
    _METADATA,
    Column("time", Float),
    Column("organisation", String),
    Column("key", String),
    Column("model", String),
    Column("endpoint", String),
    Column("status", String),
    Column("total", Float),
    Column("id", String),
    Column("cache_key", String),
    Column("input", BigInteger),
    Column("cached", BigInteger),
    Column("written_30m", BigInteger),
    Column("written_12h", BigInteger),
    Column("unkept", BigInteger),
    Column("output", BigInteger),
    Column("ttft", Float),
    Column("error", String),
    Column("cause", String),
    Column("missed", BigInteger),
    Column("path", String),
    Column("kind", String),
    Column("cost", BigInteger),
    Column("uncached_cost", BigInteger),
)
"""A row per request: the fields of `types.usage.Usage`, by their names and in their order."""

sums = Table(
    "sums",
    _METADATA,
    Column("grain", Integer, primary_key=True),
    Column("dimension", String, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("value", String, primary_key=True),
    *(
        Column(name, BigInteger)
        for name in (
            *("requests", "warm", "failed", "input", "cached", "written", "output", "missed"),
            *("priced", "cost", "uncached_cost"),
        )
    ),
)
"""What the rows of a minute, an hour or a day come to (`grain`, seconds, from `start`, Unix seconds), for each
`value` of a dimension."""

latencies = Table(
    "latencies",
    _METADATA,
    Column("grain", Integer, primary_key=True),
    Column("dimension", String, primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("value", String, primary_key=True),
    Column("warm", Integer, primary_key=True),
    Column("bucket", Integer, primary_key=True),
    Column("requests", BigInteger),
)
"""Histograms of the times to the first token (`ledger.rollup.bucket_of`), cold (0) and warm (1)."""

batches = Table("batches", _METADATA, Column("id", String, primary_key=True), Column("time", Float))
"""Batches written lately: one whose commit was not heard of is not written twice."""
