"""The database of stored responses."""

from __future__ import annotations

from pathlib import Path

from headstart.sql.sqlite import SqliteDatabase
from headstart.store.migrations import MIGRATIONS


class Database(SqliteDatabase):
    """The file of a server's stored responses, with its tables."""

    def __init__(self, path: Path, *, patience: float = 5.0) -> None:
        super().__init__(path, MIGRATIONS, patience=patience)
