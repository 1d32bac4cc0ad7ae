"""A SQLite file: opened, brought up to date, and shared by threads and processes."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

from headstart.errors import StartError
from headstart.sql.migrations import Migration, is_up_to_date, migrate

MOMENT = 0.5
"""Seconds that a checkpoint waits for readers."""
PRAGMAS = ("foreign_keys=ON", "secure_delete=ON", "synchronous=NORMAL")
"""Of every connection. What is deleted is overwritten; a commit may be lost with the machine's power, not with the
process."""


class FileMoved(SQLAlchemyError):
    """The file is no longer at its path. SQLite would go on with it, and nobody would find it after a restart."""


class SqliteDatabase:
    """A database in write-ahead mode: readers never wait, and one writes at a time, in whichever process.

    `migrations` make its tables. `patience`: seconds that a write waits for another process's. Blocking: call it from a
    worker thread. Raises `StartError` when the file can't be used, and SQLAlchemy's errors later; they never hold a
    value.
    """

    def __init__(self, path: Path, migrations: Sequence[Migration], *, patience: float = 5.0) -> None:
        self.patience = patience
        self._path, self._migrations = path, migrations
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)),
            hide_parameters=True,  # values are prompts
            connect_args={"timeout": patience, "isolation_level": None},  # transactions begin below, not by guesswork
        )
        event.listen(self._engine, "connect", _prepare)
        try:
            self._file = _make_private(path)
            self._open()
        except StartError as error:
            self.close()
            raise StartError(f"The database {path} {error}") from None
        except (DatabaseError, OSError) as error:
            self.close()
            if isinstance(error, OperationalError) and _locked(error):
                raise StartError(f"The database {path} is being written by another process. Try again.") from error
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
        with self.read() as connection:
            if is_up_to_date(connection, self._migrations):
                return
        with self.write() as connection:
            migrate(connection, self._migrations)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        self._check_file()
        with self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: whole, or not at all."""
        self._check_file()
        with self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def checkpoint(self) -> bool:
        """Carry the log of writes over into the file and empty it. False: somebody reads it, for longer than a moment,
        and the log still holds what was deleted."""
        self._check_file()
        with self._engine.connect() as connection:
            # While it waits for readers nobody can write.
            connection.exec_driver_sql(f"PRAGMA busy_timeout={int(min(MOMENT, self.patience) * 1000)}")
            try:
                busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={int(self.patience * 1000)}")
            return not busy

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def _check_file(self) -> None:
        """Raise `FileMoved` where the path leads to no file, or to another one. To make a new file isn't safe: SQLite
        finds the log and the locks of both by one name."""
        try:
            found = self._path.stat()
        except OSError as error:
            reason = "was moved or removed" if isinstance(error, FileNotFoundError) else f"is lost: {error.strerror}"
            raise FileMoved(f"the file {self._path.name} {reason}; put it back, or restart the server") from error
        if (found.st_dev, found.st_ino) != self._file:
            raise FileMoved(f"another file was put in the place of {self._path.name}; restart the server")


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


def _make_private(path: Path) -> tuple[int, int]:
    """Make the file if it isn't there, for its owner alone; SQLite gives its companions the same mode. The file's
    identity."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise StartError(f"can be read by others; run: chmod 600 {path}")
    return found.st_dev, found.st_ino


def _locked(error: OperationalError) -> bool:
    return "locked" in str(error.orig)
