"""Databases that are locked, full, slow, moved away, stopped or frozen, and servers that are killed: rows wait, arrive
once, and nobody waits for them."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event
from tests.ledger.conftest import Place
from tests.ledger.rows import agrees, begin, row, wait_for
from tests.postgres import Postgres

from headstart.ledger.database import Database, open_database
from headstart.ledger.ledger import Ledger

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.ledger.rows", "sqlalchemy.dialects.sqlite", "psycopg"])
RECORD_SECONDS = 0.001
"""What `record` may take."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again sooner than a server does."""
    monkeypatch.setattr("headstart.ledger.ledger.SOONEST", 0.05)
    monkeypatch.setattr("headstart.ledger.ledger.LATEST", 0.2)


def record(ledger: Ledger, first: int, stop: int) -> None:
    """Record rows, which takes no time. One in a hundred may have met with another program on its core; that none waits
    for the database is what `test_nobody_waits_for_the_database` shows."""
    taken = []
    for number in range(first, stop):
        begun = time.perf_counter()
        ledger.record(row(number, ttft=0.1))
        taken.append(time.perf_counter() - begun)
    assert sorted(taken)[math.ceil(len(taken) * 0.99) - 1] < RECORD_SECONDS


def assert_all(database: Database, count: int) -> None:
    """So many rows of `row` are there, each once, and the sums agree."""
    assert sorted(int(one.id.removeprefix("resp_")) for one in agrees(database)) == list(range(count))


def failing(ledger: Ledger) -> str:
    """What the database is said to have said."""
    return ledger.state().failing or ""


def _hold(path: Path, held: Event, release: Event) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    held.set()
    release.wait(30)
    connection.execute("COMMIT")
    connection.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the file's lock."""
    held, release = PROCESSES.Event(), PROCESSES.Event()
    holder = PROCESSES.Process(target=_hold, args=(path, held, release))
    holder.start()
    assert held.wait(30)
    try:
        yield
    finally:
        release.set()
        holder.join(30)


@contextmanager
def moved(path: Path) -> Iterator[None]:
    """The file is elsewhere."""
    away = path.rename(path.with_name("away.db"))
    try:
        yield
    finally:
        away.rename(path)


@contextmanager
def full(path: Path) -> Iterator[None]:
    """There is no room for another page."""
    room = [1]  # never less than there are

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={room[0]}")

    event.listen(Engine, "begin", limit)
    try:
        yield
        room[0] = 1_000_000
        time.sleep(0.5)  # the ledger's connection learns of it
    finally:
        event.remove(Engine, "begin", limit)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """No statement may write."""
    on = [True]

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA query_only={int(on[0])}")

    event.listen(Engine, "begin", limit)
    try:
        yield
        on[0] = False
        time.sleep(0.5)
    finally:
        event.remove(Engine, "begin", limit)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "locked": (locked, "locked"),
    "moved": (moved, "was moved or removed"),
    "full": (full, "full"),
    "read-only": (read_only, "readonly"),
}


def test_nobody_waits_for_the_database(tmp_path: Path) -> None:
    """While a statement of the ledger's is held up, rows are recorded and its state is told: no clock decides it."""
    ledger = begin(open_database(tmp_path / "ledger.db"))
    held, release, recorded = threading.Event(), threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        held.set()
        release.wait(60)

    def others() -> None:
        record(ledger, 1, 3_000)
        assert ledger.state() == (3_000, 0, 0, None)
        recorded.set()

    event.listen(Engine, "before_cursor_execute", hold)
    try:
        record(ledger, 0, 1)
        assert held.wait(30)
        threading.Thread(target=others, daemon=True).start()
        assert recorded.wait(30)
    finally:
        release.set()
        event.remove(Engine, "before_cursor_execute", hold)
    assert ledger.flush(15)
    assert ledger.state() == (0, 3_000, 0, None)
    ledger.close()


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_cant_be_written(
    fault: Callable[[Path], object], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Recording goes on, it is said what is wrong, once; and when it is over all rows arrive."""
    path = tmp_path / "ledger.db"
    ledger = begin(open_database(path, patience=0.1))
    record(ledger, 0, 100)
    assert ledger.flush(10)
    with fault(path):  # type: ignore[attr-defined]
        record(ledger, 100, 3_000)
        wait_for(lambda: said in failing(ledger))
        assert ledger.state()[:3] == (2_900, 100, 0)
        record(ledger, 3_000, 3_100)
        assert not ledger.flush(0.3)
    assert ledger.flush(15)
    assert ledger.state() == (0, 3_100, 0, None)
    ledger.close()
    first, second = (record.message for record in caplog.records)
    assert said in first
    assert second == "The usage ledger is written again."
    database = open_database(path)
    assert_all(database, 3_100)
    database.close()


def _fill_the_disk(path: Path) -> None:
    """A process whose files may not grow, and then may."""
    ledger = begin(open_database(path))
    record(ledger, 0, 10)
    assert ledger.flush(10)
    forever = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("ledger.db-wal").stat().st_size + 16_384, forever))
    for number in range(10, 2_000):
        ledger.record(row(number, ttft=0.1))
    wait_for(lambda: ledger.state().failing)
    assert ledger.state()[:3] == (1_990, 10, 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (forever, forever))
    assert ledger.flush(20)
    ledger.close()


def test_a_disk_without_room(tmp_path: Path) -> None:
    """The operating system refuses to write; when there is room again, all rows arrive."""
    path = tmp_path / "ledger.db"
    child = PROCESSES.Process(target=_fill_the_disk, args=(path,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    database = open_database(path)
    assert_all(database, 2_000)
    database.close()


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows over the bound are lost and counted; those that wait aren't, and arrive."""
    monkeypatch.setattr("headstart.ledger.ledger.MOST_WAITING", 100)
    path = tmp_path / "ledger.db"
    ledger = begin(open_database(path, patience=0.1))
    with locked(path):
        record(ledger, 0, 50)
        wait_for(lambda: failing(ledger))
        record(ledger, 50, 1_000)
        assert ledger.state()[:3] == (150, 0, 850)
        assert not ledger.flush(0.3)
    assert ledger.flush(15)
    assert ledger.state() == (0, 150, 850, None)
    ledger.close()
    database = open_database(path)
    assert_all(database, 150)
    database.close()


def test_a_server_that_stops_and_starts_again(postgres: Postgres) -> None:
    """In the middle of writing: everything arrives once."""
    url = postgres.database()
    ledger = begin(open_database(url))
    record(ledger, 0, 100)
    assert ledger.flush(10)
    for round_ in range(1, 4):
        record(ledger, round_ * 3_000 - 2_900, round_ * 3_000)
        time.sleep(0.07 * round_)
        postgres.stop()
        try:
            record(ledger, round_ * 3_000, round_ * 3_000 + 100)
            wait_for(lambda: failing(ledger))
            assert ledger.state().waiting > 0
        finally:
            postgres.start()
        assert ledger.flush(15)
        assert ledger.state() == (0, round_ * 3_000 + 100, 0, None)
    ledger.close()
    database = open_database(url)
    assert_all(database, 9_100)
    database.close()


def test_a_server_that_is_away_at_the_start(postgres: Postgres) -> None:
    """The ledger starts, waits for it, and makes the tables when it comes."""
    url = postgres.database()
    postgres.stop()
    try:
        ledger = begin(open_database(url))
        record(ledger, 0, 100)
        wait_for(lambda: "refused" in failing(ledger))
        assert ledger.state()[:3] == (100, 0, 0)
    finally:
        postgres.start()
    assert ledger.flush(15)
    ledger.close()
    database = open_database(url)
    assert_all(database, 100)
    database.close()


@pytest.mark.parametrize("patience", [5.0, 0.2])
def test_a_slow_server(patience: float, postgres: Postgres) -> None:
    """Another session holds the table for a second: for a patient ledger that is no fault."""
    url = postgres.database()
    ledger = begin(open_database(url, patience=patience))
    record(ledger, 0, 100)
    assert ledger.flush(10)
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")
        record(ledger, 100, 3_000)
        time.sleep(1)
        assert ledger.state().written == 100
        assert ("timeout" in failing(ledger)) == (patience < 1)
    assert ledger.flush(15)
    ledger.close()
    database = open_database(url)
    assert_all(database, 3_000)
    database.close()


def test_a_server_that_says_nothing(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said after a while, closing doesn't wait for it, and when it wakes all rows arrive once."""
    monkeypatch.setattr("headstart.ledger.ledger.STALLED", 0.3)
    url = postgres.database()
    ledger, closing = begin(open_database(url)), begin(open_database(url))
    record(ledger, 0, 100)
    assert ledger.flush(10)
    with postgres.frozen():
        record(ledger, 100, 3_000)
        wait_for(lambda: "no answer for" in failing(ledger), 3)
        closing.record(row())
        begun = time.monotonic()
        closing.close(0.3)
        assert time.monotonic() - begun < 3
    assert ledger.flush(15)
    assert ledger.state() == (0, 3_000, 0, None)
    ledger.close()
    wait_for(lambda: not closing._thread.is_alive())
    database = open_database(url)
    assert len(agrees(database)) in (3_000, 3_001)
    database.close()


def test_close_gives_up_on_a_dead_database(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    """Within its time, and says how many rows are lost with it, once."""
    ledger = begin(open_database(postgres.database()))
    postgres.stop()
    try:
        record(ledger, 0, 100)
        begun = time.monotonic()
        ledger.close(2)
        assert time.monotonic() - begun < 4
        ledger.close(2)
    finally:
        postgres.start()
    said = [record.message for record in caplog.records if "are lost" in record.message]
    assert said == ["100 rows of the usage ledger could not be written and are lost."]


def _record_until_killed(place: Place, run: int, begun: Event) -> None:
    ledger = Ledger(open_database(place))
    number = 0
    while True:
        ledger.record(row(number, id=f"{run}-{number}", time=time.time(), ttft=0.1, key=f"key {number % 5}", cost=3))
        begun.set()
        number += 1
        time.sleep(0.0005)


def test_a_kill_costs_the_last_second_at_most(place: Place, database: Database) -> None:
    """Ten servers record constantly and are killed: the sums are those of the rows, which end a moment before."""
    for run in range(10 if isinstance(place, Path) else 5):
        begun = PROCESSES.Event()
        child = PROCESSES.Process(target=_record_until_killed, args=(place, run, begun))
        child.start()
        assert begun.wait(30)
        started = time.time()
        time.sleep(0.2 + 0.2 * (run % 5))
        os.kill(child.pid or 0, signal.SIGKILL)
        killed = time.time()
        child.join(30)
        time.sleep(0.1)  # a server finds out that the client is gone
        own = [one for one in agrees(database) if one.id.startswith(f"{run}-")]
        assert [one.id for one in own] == [f"{run}-{number}" for number in range(len(own))]
        if run % 5 == 4:
            assert killed - (own[-1].time if own else started) < 2  # on a busy machine none may be written yet
        if isinstance(place, Path):
            with database.read() as connection:
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
