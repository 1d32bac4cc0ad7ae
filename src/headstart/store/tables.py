"""The tables as the newest migration leaves them, for SQLAlchemy to write statements about."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, MetaData, String, Table

_METADATA = MetaData()

responses = Table(
    "responses",
    _METADATA,
    Column("number", Integer, primary_key=True),
    Column("id", String),
    Column("organisation", String),
    Column("parent", Integer),
    Column("created_at", Float),
    Column("body", LargeBinary),
)
"""`number` says which is older. `created_at`: Unix time in seconds. `body` is null once a response is deleted, for as
long as later ones need its items."""

items = Table(
    "items",
    _METADATA,
    Column("response", Integer, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("output", Boolean),
    Column("id", String),
    Column("body", LargeBinary),
)
"""A response's own input items, then its output items."""
