"""Where the ledger is: a SQLite file of this server's, or a PostgreSQL database that servers share."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from headstart.ledger.migrations import MIGRATIONS
from headstart.sql.postgres import PostgresDatabase
from headstart.sql.sqlite import SqliteDatabase


class Database(Protocol):
    """Blocking, from any thread. Both ways raise SQLAlchemy's errors."""

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database."""

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction that writes: whole, or not at all."""

    def close(self) -> None:
        """Close it."""


def open_database(where: Path | str, *, patience: float = 5.0) -> Database:
    """A file's path, or a URL as `postgresql://USER:PASSWORD@HOST/DATABASE`. A server behind a URL is reached when it
    is needed. Raises `StartError`. `patience`: seconds that another writer is waited for."""
    if isinstance(where, Path):
        return SqliteDatabase(where, MIGRATIONS, patience=patience)
    return PostgresDatabase(where, MIGRATIONS, patience=patience)
