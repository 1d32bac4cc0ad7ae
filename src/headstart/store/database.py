"""The SQLite file of a server: opened, brought up to date, and shared by threads and processes."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from headstart.errors import StartError
from headstart.store.migrations import migrate

PRAGMAS = ("foreign_keys=ON", "secure_delete=ON", "synchronous=NORMAL")
"""Of every connection. What is deleted is overwritten; a commit may be lost with the machine's power, not with the
process."""


class Database:
    """A database in write-ahead mode: readers never wait, and one writes at a time, in whichever process.

    `patience`: seconds that a write waits for another process's. Blocking: call it from a worker thread. Raises
    `StartError` when the file can't be used, and SQLAlchemy's errors later; they never hold a value.
    """

    def __init__(self, path: Path, *, patience: float = 5.0) -> None:
        self.patience = patience
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)),
            hide_parameters=True,  # values are prompts
            connect_args={"timeout": patience, "isolation_level": None},  # transactions begin below, not by guesswork
        )
        event.listen(self._engine, "connect", _prepare)
        try:
            _make_private(path)
            self._open()
        except StartError as error:
            self.close()
            raise StartError(f"The database {path} {error}") from None
        except (DatabaseError, OSError) as error:
            self.close()
            reason = error.orig if isinstance(error, DatabaseError) else error.strerror or error
            raise StartError(
                f"The database {path} can't be opened: {reason}. If it is damaged, restore it from a copy, or move it "
                "away and an empty one is made."
            ) from error

    def _open(self) -> None:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                with self._engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                break
            except OperationalError as error:  # SQLite doesn't wait where two processes change a new file's mode
                if not _locked(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        with self.write() as connection:
            migrate(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: whole, or not at all."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def checkpoint(self) -> None:
        """Carry the log of writes over into the file and empty it, unless somebody reads it."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()


def used_bytes(connection: Connection) -> int:
    """Bytes of the file that hold something, as of the transaction."""
    pages, free, size = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _make_private(path: Path) -> None:
    """Make the file if it isn't there, for its owner alone; SQLite gives its companions the same mode."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise StartError(f"can be read by others; run: chmod 600 {path}")


def _locked(error: OperationalError) -> bool:
    return "locked" in str(error.orig)
