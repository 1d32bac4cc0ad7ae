"""The ledger's own thread: every row once, in batches, whatever the rows hold; on both databases."""

from __future__ import annotations

import logging.handlers
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import OperationalError
from tests.ledger.conftest import Place
from tests.ledger.rows import NOW, agrees, begin, row, stored, wait_for
from tests.postgres import Postgres

from headstart.ledger.database import Database, open_database
from headstart.ledger.ledger import BATCH_ROWS, Ledger
from headstart.ledger.reports import span
from headstart.ledger.rollup import DAY


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    """A ledger at the time of the tests' rows."""
    running = begin(open_database(place))
    yield running
    running.close()


def ids(database: Database) -> list[str]:
    """Of all rows that are there, after the sums were found to agree."""
    return sorted(one.id for one in agrees(database))


def names(count: int) -> list[str]:
    """The ids of so many rows of `row`."""
    return sorted(f"resp_{number}" for number in range(count))


def test_rows_are_written_soon(ledger: Ledger, database: Database) -> None:
    """Within a moment, without being asked to."""
    ledger.record(row(0, ttft=0.1))
    assert ledger.state().waiting == 1
    wait_for(lambda: stored(database) == [row(0, ttft=0.1)], 2)
    wait_for(lambda: ledger.state() == (0, 1, 0, None), 2)
    assert ledger.reports.total(span(60, NOW + 1)).sums.requests == 1


def test_rows_of_many_threads_and_batches(ledger: Ledger, database: Database) -> None:
    """Every one once, and the sums are theirs."""
    count = BATCH_ROWS + 500

    def some(first: int) -> None:
        for number in range(first, count, 4):
            ledger.record(row(number, time=NOW - number % 7 * 1000.0, key=f"key {number % 3}", ttft=0.1))

    threads = [threading.Thread(target=some, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.flush(30)
    assert ledger.state() == (0, count, 0, None)
    assert ids(database) == names(count)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM batches").scalar_one() <= 4


def test_flush_doesnt_wait_for_more_rows(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for nothing."""
    monkeypatch.setattr("headstart.ledger.ledger.GATHERING", 30)
    begun = time.monotonic()
    assert ledger.flush(10)
    ledger.record(row())
    assert ledger.flush(10)
    assert time.monotonic() - begun < 5


def test_close_writes_what_waits_and_ends(place: Place, database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Twice is as good as once; rows that come later are lost, and nobody is disturbed."""
    ledger = begin(open_database(place))
    for number in range(10):
        ledger.record(row(number))
    ledger.close()
    assert ids(database) == names(10)
    ledger.record(row(10))
    ledger.close()
    assert ledger.state() == (0, 10, 1, None)
    assert ledger.flush(1)
    assert ids(database) == names(10)
    assert not caplog.records


BAD = {
    "an integer over 64 bits": {"input": 2**63},
    "a sum over 64 bits": {"written_30m": 2**62, "written_12h": 2**62},
    "no number": {"total": None},
    "no time": {"time": float("nan")},
    "never": {"time": float("inf")},
    "half a character": {"path": "\ud800"},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_row_that_cant_be_held_loses_only_itself(
    bad: dict[str, object], place: Place, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever it is in its batch. It is counted, and said once."""
    ledger = begin(open_database(place))
    for number in range(7):
        ledger.record(row(number))
    for number in (7, 8):
        ledger.record(row(number, **bad))
    ledger.record(row(9))
    assert ledger.flush(10)
    assert ledger.state() == (0, 8, 2, None)
    assert ids(database) == [name for name in names(10) if name not in ("resp_7", "resp_8")]
    ledger.close()
    said = [record.message for record in caplog.records if record.name == "headstart.ledger"]
    assert [message.startswith("A row of the usage ledger is lost") for message in said] == [True, True]


def test_nul_characters_are_spelt_out(ledger: Ledger, database: Database) -> None:
    """PostgreSQL can't hold them, and a client that sends one is to be billed all the same."""
    ledger.record(row(0))
    ledger.record(row(1, path="a\0b", cache_key="\0"))
    assert ledger.flush(10)
    assert ids(database) == names(2)
    assert ledger.state() == (0, 2, 0, None)
    assert ("a\\0b", "\\0") in [(one.path, one.cache_key) for one in stored(database)]


class Deaf:
    """A database whose first answers to a commit don't come."""

    def __init__(self, database: Database, unheard: int) -> None:
        self._database, self._unheard = database, unheard
        self.read, self.close = database.read, database.close

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """As the database does it."""
        with self._database.write() as connection:
            yield connection
        if self._unheard:
            self._unheard -= 1
            raise OperationalError("COMMIT", {}, Exception("the connection is lost"))


def test_a_commit_that_isnt_heard_of_isnt_done_twice(
    place: Place, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is there, and only once; also the parts of one that was cut for a bad row."""
    monkeypatch.setattr("headstart.ledger.ledger.SOONEST", 0.05)
    ledger = begin(Deaf(open_database(place), 3))
    for number in range(8):
        ledger.record(row(number))
    ledger.record(row(8, input=2**63))
    assert ledger.flush(10)
    assert ledger.state() == (0, 8, 1, None)
    assert ids(database) == names(8)
    ledger.close()


@contextmanager
def cutting(port: int, cuts: int) -> Iterator[tuple[int, list[bytes]]]:
    """A way to PostgreSQL that is cut between a commit and its answer, the first so many times. Its port, and the
    commits that were cut."""
    cut: list[bytes] = []
    door = socket.create_server(("127.0.0.1", 0))

    def carry(source: socket.socket, target: socket.socket, asks: bool) -> None:
        try:
            while data := source.recv(65_536):
                if asks and b"COMMIT" in data and len(cut) < cuts:
                    cut.append(data)
                    source.shutdown(socket.SHUT_RDWR)
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()

    def open_the_door() -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=carry, args=(client, server, True), daemon=True).start()
            threading.Thread(target=carry, args=(server, client, False), daemon=True).start()

    threading.Thread(target=open_the_door, daemon=True).start()
    try:
        yield door.getsockname()[1], cut
    finally:
        door.shutdown(socket.SHUT_RDWR)
        door.close()


def test_a_connection_that_is_cut_at_the_commit(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has committed and nobody heard: nothing is written twice, and nothing missing."""
    monkeypatch.setattr("headstart.ledger.ledger.SOONEST", 0.05)
    url = postgres.database()
    direct = open_database(url)
    with direct.read():  # makes the tables
        pass
    with cutting(postgres.port, 3) as (port, cut):
        through = make_url(url).set(port=port).render_as_string()
        ledger = begin(open_database(through))
        for number in range(10):
            ledger.record(row(number))
        assert ledger.flush(15)
        ledger.close()
    assert len(cut) == 3
    assert ids(direct) == names(10)
    direct.close()


def _serve(place: Place, numbers: range) -> None:
    said = logging.handlers.BufferingHandler(1000)
    logging.getLogger("headstart.ledger").addHandler(said)
    ledger = begin(open_database(place, patience=30))
    for number in numbers:
        ledger.record(row(number, time=NOW + number % 5 * 60, key=f"key {number % 40}", ttft=0.1, cost=2**52 + 1))
        if number % 50 == 0:
            ledger.flush(30)
    assert ledger.flush(30)
    ledger.close()
    assert not said.buffer, "as after a deadlock, which the other one won"


def test_two_servers_write_into_one_database(place: Place, database: Database) -> None:
    """At once, into the same sums: none is in the other's way, and the sums are those of all rows."""
    count = 600
    spawn = multiprocessing.get_context("spawn")
    numbers = (range(count), range(2 * count - 1, count - 1, -1))  # the same cells, met in another order
    servers = [spawn.Process(target=_serve, args=(place, own)) for own in numbers]
    for server in servers:
        server.start()
    for server in servers:
        server.join(60)
    assert [server.exitcode for server in servers] == [0, 0]
    assert ids(database) == names(2 * count)


def test_old_rows_go_by_themselves(place: Place, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part at a time, without more rows coming; what they came to stays."""
    monkeypatch.setattr("headstart.ledger.batch.PURGED_AT_ONCE", 3)
    ledger = begin(open_database(place), days=2)
    for number in range(10):
        ledger.record(row(number, time=NOW - 2.5 * DAY))
    ledger.record(row(10))
    assert ledger.flush(10)
    wait_for(lambda: [one.id for one in stored(database)] == ["resp_10"], 5)
    assert ledger.reports.total(span(30 * DAY, NOW + 1)).sums.requests == 11
    ledger.close()


def test_the_thread_survives_newer_tables(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows wait for whoever mends it, though a purge comes first. A file's tables are looked at when it is opened."""
    monkeypatch.setattr("headstart.ledger.ledger.SOONEST", 0.05)
    monkeypatch.setattr("headstart.ledger.ledger.PURGE_SECONDS", 0.01)
    url = postgres.database()
    database = open_database(url)

    def add(versions: int) -> None:
        with database.write() as connection:
            connection.exec_driver_sql(f"UPDATE schema_version SET version = version + {versions}")

    add(1)
    ledger = begin(open_database(url))
    time.sleep(0.3)
    ledger.record(row(0))
    wait_for(lambda: "newer version" in (ledger.state().failing or ""), 5)
    add(-1)
    assert ledger.flush(10)
    assert ids(database) == names(1)
    ledger.close()
    database.close()


def test_reports_while_rows_come(ledger: Ledger) -> None:
    """Nobody waits for the other for long, and no answer is half of a batch."""
    for number in range(4_000):
        ledger.record(row(number, ttft=0.1))
    answers = 0
    while ledger.state().waiting:
        line = ledger.reports.total(span(60, NOW + 1))
        assert line.cold.requests == line.sums.requests
        answers += 1
    assert answers > 1
    assert ledger.reports.total(span(60, NOW + 1)).sums.requests == 4_000
