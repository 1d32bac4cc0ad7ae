"""The SQLite file: private, versioned, shared."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import IntegrityError, OperationalError

from headstart.errors import StartError
from headstart.sql.migrations import migrate
from headstart.sql.sqlite import FileMoved, used_bytes
from headstart.store.database import Database
from headstart.store.migrations import MIGRATIONS

TABLES = {"responses", "items", "schema_version"}


def tables(path: Path) -> set[str]:
    """The tables of a database."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    names = {name for (name,) in rows}
    connection.close()
    return names


def set_version(path: Path, version: int) -> None:
    """Write a version into a database of today's tables."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE schema_version SET version = ?", (version,))
    connection.close()


def insert_twice(database: Database) -> None:
    """A transaction that fails at its second statement."""
    with database.write() as connection:
        for _ in range(2):
            connection.exec_driver_sql(
                "INSERT INTO responses (id, organisation, created_at) VALUES (?, 'o', 0)", ("a secret prompt",)
            )


def test_the_file_and_its_companions_are_their_owners_alone(tmp_path: Path) -> None:
    """Prompts are in there."""
    path = tmp_path / "headstart.db"
    database = Database(path)
    files = list(tmp_path.iterdir())
    assert {file.name for file in files} == {"headstart.db", "headstart.db-wal", "headstart.db-shm"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    database.close()


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """With the command that mends it."""
    path = tmp_path / "headstart.db"
    path.touch()
    path.chmod(0o644)
    with pytest.raises(StartError, match=f"chmod 600 {path}"):
        Database(path)


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_every_earlier_version_is_brought_up_to_date(version: int, tmp_path: Path) -> None:
    """From an empty file, from each version there was, and from today's."""
    path = tmp_path / "headstart.db"
    connection = sqlite3.connect(path)
    path.chmod(0o600)
    connection.close()
    if version:
        engine = create_engine(f"sqlite:///{path}")
        with engine.begin() as older:
            migrate(older, MIGRATIONS[:version])
        engine.dispose()
    for _ in range(2):  # and a second start finds nothing to do
        Database(path).close()
    assert tables(path) == TABLES
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version FROM schema_version").fetchall() == [(len(MIGRATIONS),)]
    connection.close()


def test_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """One sentence, and no table touched."""
    path = tmp_path / "headstart.db"
    Database(path).close()
    set_version(path, len(MIGRATIONS) + 1)
    with pytest.raises(StartError, match="newer version of Headstart"):
        Database(path)
    set_version(path, len(MIGRATIONS))
    Database(path).close()


def test_a_migration_that_fails_leaves_the_earlier_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps of a start are one transaction."""
    path = tmp_path / "headstart.db"
    Database(path).close()

    def broken(connection: object) -> None:
        connection.exec_driver_sql("CREATE TABLE half (a)")  # type: ignore[attr-defined]
        connection.exec_driver_sql("NOT SQL")  # type: ignore[attr-defined]

    monkeypatch.setattr("headstart.store.database.MIGRATIONS", (*MIGRATIONS, broken))
    with pytest.raises(StartError):
        Database(path)
    monkeypatch.undo()
    assert tables(path) == TABLES
    Database(path).close()


@pytest.mark.parametrize("content", [b"this is no database, but a text. " * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    """One sentence with the way out, and the file as it was."""
    path = tmp_path / "headstart.db"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StartError, match="move it away") as caught:
        Database(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_directory_in_its_place_is_named(tmp_path: Path) -> None:
    """What the operating system says."""
    (tmp_path / "headstart.db").mkdir()
    with pytest.raises(StartError, match="can't be opened"):
        Database(tmp_path / "headstart.db")


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Whole, or not at all."""
    database = Database(tmp_path / "headstart.db")
    with pytest.raises(IntegrityError):
        insert_twice(database)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM responses").scalar() == 0
    database.close()


def test_errors_hold_no_values(tmp_path: Path) -> None:
    """They may be logged, and values are prompts."""
    database = Database(tmp_path / "headstart.db")
    with pytest.raises(IntegrityError) as caught:
        insert_twice(database)
    assert "secret" not in str(caught.value)
    database.close()


def test_a_lock_only_delays(tmp_path: Path) -> None:
    """Another connection writes for a moment: a read doesn't wait, a write does; for too long, and it is refused."""
    path = tmp_path / "headstart.db"
    patient, impatient = Database(path), Database(path, patience=0.05)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with patient.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM responses").scalar() == 0
    with pytest.raises(OperationalError, match="locked"), impatient.write():
        pass
    release = threading.Timer(0.3, other.execute, ("COMMIT",))
    release.start()
    begun = time.monotonic()
    with patient.write():
        assert time.monotonic() - begun > 0.1
    release.join()
    for closable in (patient, impatient, other):
        closable.close()


def test_used_bytes_fall_with_what_is_deleted(tmp_path: Path) -> None:
    """Within the transaction, whatever the file's size."""
    database = Database(tmp_path / "headstart.db")
    with database.write() as connection:
        empty = used_bytes(connection)
        connection.exec_driver_sql(
            "INSERT INTO responses (id, organisation, created_at, body) VALUES ('a', 'o', 0, zeroblob(1000000))"
        )
        assert 990_000 < used_bytes(connection) - empty < 1_100_000
        connection.exec_driver_sql("DELETE FROM responses")
        assert used_bytes(connection) - empty < 10_000
    database.close()


def test_what_is_deleted_is_overwritten(tmp_path: Path) -> None:
    """Neither the file nor its log holds a deleted text after a checkpoint."""
    path = tmp_path / "headstart.db"
    database = Database(path)
    with database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO responses (id, organisation, created_at, body) VALUES ('a', 'o', 0, ?)", (b"forget me " * 999,)
        )
    database.checkpoint()
    assert b"forget me" in path.read_bytes()
    with database.write() as connection:
        connection.exec_driver_sql("DELETE FROM responses")
    database.checkpoint()
    assert not any(b"forget me" in file.read_bytes() for file in tmp_path.iterdir())
    database.close()


def test_a_checkpoint_waits_for_a_reader_but_not_for_long(tmp_path: Path) -> None:
    """It says that the log is still there, and a later one empties it; other work waits as patiently as ever."""
    path = tmp_path / "headstart.db"
    database = Database(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM responses").fetchall()
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO responses (id, organisation, created_at) VALUES ('a', 'o', 0)")
    begun = time.monotonic()
    assert not database.checkpoint()
    assert 0.2 < time.monotonic() - begun < 3
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000
    other.execute("COMMIT")
    other.close()
    assert database.checkpoint()
    assert (tmp_path / "headstart.db-wal").stat().st_size == 0
    database.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_gone_is_noticed(replaced: bool, tmp_path: Path) -> None:
    """At each use, until it is back; another file in its place is left as it is."""
    path = tmp_path / "headstart.db"
    database = Database(path)
    away = path.rename(tmp_path / "away.db")
    if replaced:
        path.write_bytes(b"")
    for use in (database.read, database.write):
        with pytest.raises(FileMoved, match="restart the server"), use():
            pass
    with pytest.raises(FileMoved, match=r"another file" if replaced else r"headstart\.db was moved or removed"):
        database.checkpoint()
    assert not replaced or path.read_bytes() == b""
    away.rename(path)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM responses").scalar() == 0
    database.close()


def _write_rows(path: Path, name: str, count: int, die: bool) -> None:
    database = Database(path, patience=30)
    for number in range(count):
        with database.write() as connection:
            connection.exec_driver_sql(
                "INSERT INTO responses (id, organisation, created_at) VALUES (?, 'o', 0)", (f"{name}-{number}",)
            )
            if die and number == count - 1:
                os._exit(1)
    database.close()


def test_several_processes_share_one_new_file(tmp_path: Path) -> None:
    """They open it at once, all write, and one dies in the middle of a transaction."""
    path = tmp_path / "headstart.db"
    spawn = multiprocessing.get_context("spawn")
    writers = [
        spawn.Process(target=_write_rows, args=(path, f"writer{number}", 30, number == 0)) for number in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [1, 0, 0, 0]
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM responses").fetchone() == (4 * 30 - 1,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
