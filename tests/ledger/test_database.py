"""Where the ledger is: the same of a SQLite file and of PostgreSQL."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect, select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from tests.ledger.conftest import Place
from tests.ledger.rows import NOW, agrees, row, stored
from tests.postgres import Postgres

from headstart.errors import StartError
from headstart.ledger import tables
from headstart.ledger.batch import Batch, write
from headstart.ledger.database import Database, open_database
from headstart.ledger.migrations import MIGRATIONS
from headstart.sql.migrations import Migration, migrate
from headstart.sql.postgres import PostgresDatabase, reason
from headstart.types import Usage

TABLES = {"usage", "sums", "latencies", "batches", "schema_version"}


def engine_of(place: Place) -> Engine:
    """The same database, without our code."""
    if isinstance(place, Path):
        place.touch(0o600)
        return create_engine(f"sqlite:///{place}")
    return create_engine(place.replace("postgresql:", "postgresql+psycopg:"))


def by_hand(place: Place, change: Callable[[Connection], object]) -> object:
    """Do something to a database without our code."""
    engine = engine_of(place)
    with engine.begin() as connection:
        result = change(connection)
    engine.dispose()
    return result


def rows_in(database: Database, table: str) -> int:
    """How many rows a table has."""
    with database.read() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())


def use(place: Place) -> None:
    """Open a database, read it, and close it."""
    database = open_database(place)
    try:
        rows_in(database, "usage")
    finally:
        database.close()


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_every_earlier_version_is_brought_up_to_date(version: int, place: Place) -> None:
    """From an empty database, from each version there was, and from today's; a second start finds nothing to do."""
    if version:
        by_hand(place, lambda connection: migrate(connection, MIGRATIONS[:version]))
    for _ in range(2):
        use(place)
    assert by_hand(place, lambda connection: set(inspect(connection).get_table_names())) == TABLES
    versions = by_hand(place, lambda c: c.exec_driver_sql("SELECT version FROM schema_version").scalars().all())
    assert versions == [len(MIGRATIONS)]


def test_the_tables_are_as_the_code_says(database: Database) -> None:
    """The same columns in the same order, and in the order of a row's fields."""
    for table in (tables.usage, tables.sums, tables.latencies, tables.batches):
        with database.read() as connection:
            found = [column["name"] for column in inspect(connection).get_columns(table.name)]
        assert found == [column.name for column in table.columns]
    assert tuple(column.name for column in tables.usage.columns) == Usage._fields


def test_a_newer_version_is_refused_and_left_as_it_is(place: Place) -> None:
    """One sentence, and no table touched."""
    by_hand(place, lambda connection: migrate(connection, MIGRATIONS))
    newer = len(MIGRATIONS) + 1
    by_hand(place, lambda c: c.exec_driver_sql(f"UPDATE schema_version SET version = {newer}"))
    with pytest.raises(StartError, match="newer version of Headstart"):
        use(place)
    assert by_hand(place, lambda c: c.exec_driver_sql("SELECT version FROM schema_version").scalar()) == newer


def test_a_migration_that_fails_leaves_the_earlier_version(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps of a start are one transaction; and the next attempt does them."""
    use(place)

    def broken(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE half (a INTEGER)")
        connection.exec_driver_sql("NOT SQL")

    steps: Sequence[Migration] = (*MIGRATIONS, broken)
    monkeypatch.setattr("headstart.ledger.database.MIGRATIONS", steps)
    with pytest.raises((StartError, SQLAlchemyError)):
        use(place)
    assert by_hand(place, lambda connection: set(inspect(connection).get_table_names())) == TABLES
    monkeypatch.undo()
    use(place)


def test_servers_may_start_at_once(place: Place) -> None:
    """Each finds the tables, and one of them made them."""
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(use, place) for _ in range(8)]:
            done.result()
    assert by_hand(place, lambda c: c.exec_driver_sql("SELECT count(*) FROM schema_version").scalar()) == 1


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    """It says who asked for what, and when."""
    use(tmp_path / "ledger.db")
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


ROWS = {
    "plain": row(),
    "everything": row(
        organisation="ACME & Söhne",
        cache_key="00ff",
        cached=1,
        written_30m=2,
        written_12h=3,
        unkept=4,
        output=5,
        ttft=0.1 + 0.2,
        error="rate_limit_exceeded",
        cause="prefix_changed",
        missed=6,
        path="input[0].content[1].text",
        kind="timestamp",
        cost=7,
        uncached_cost=8,
    ),
    "without a price": row(cost=None, uncached_cost=None),
    "the largest numbers": row(input=2**63 - 1, time=1e9 + 1e-6, total=1.7e308, ttft=5e-324),
    "negative": row(cost=-5, uncached_cost=-(2**62)),
    "emoji": row(key="🔑👩‍👩‍👧", model="<script>alert('mödel')</script>", path='"; DROP TABLE usage; --'),
    "long": row(key="k" * 2_000, model="ü" * 2_000, path="p" * 100_000),
    "right to left": row(organisation="شركة", key="\u202eyek", kind="\x01\x7f"),
}


@pytest.mark.parametrize("written", ROWS.values(), ids=ROWS)
def test_rows_come_back_as_they_were(written: Usage, database: Database) -> None:
    """Every field, to the last bit."""
    with database.write() as connection:
        write(connection, Batch("a", [written]), NOW)
    assert stored(database) == [written]


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    """Whole, or not at all; and its error holds no values."""

    def break_off() -> None:
        with database.write() as connection:
            write(connection, Batch("a", [row()]), NOW)
            connection.execute(tables.batches.insert().values(id="a", time=1.5e300))

    with pytest.raises(IntegrityError) as caught:
        break_off()
    assert rows_in(database, "usage") == rows_in(database, "sums") == rows_in(database, "batches") == 0
    assert "1.5e" not in str(caught.value)


def test_a_reader_sees_one_state(database: Database) -> None:
    """Whatever is written meanwhile: a page's numbers agree with one another."""
    count = select(tables.usage.c.id)
    with database.read() as reader:
        assert reader.execute(count).all() == []
        with database.write() as connection:
            write(connection, Batch("a", [row()]), NOW)
        assert reader.execute(count).all() == []
    assert len(agrees(database)) == 1


def test_who_writes_waits_for_another_who_does(place: Place) -> None:
    """For as long as its patience lasts."""
    patient, impatient = open_database(place), open_database(place, patience=0.1)
    rows_in(impatient, "usage")
    busy, over = threading.Event(), threading.Event()

    def hold() -> None:
        with patient.write() as connection:
            write(connection, Batch("a", [row()]), NOW)
            busy.set()
            over.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    busy.wait(10)
    begun = time.monotonic()
    with pytest.raises(DBAPIError), impatient.write() as connection:
        write(connection, Batch("b", [row()]), NOW)
    assert time.monotonic() - begun < 4
    over.set()
    holder.join()
    with impatient.write() as connection:
        write(connection, Batch("b", [row()]), NOW)
    assert len(agrees(patient)) == 2
    patient.close()
    impatient.close()


@pytest.mark.parametrize(
    "url",
    ["", "ledger.db", "sqlite:///ledger.db", "mysql://host/db", "postgresql://host", "postgresql://u:secret@h:port/d"],
)
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """With one that would be right, and without the password that may be in it."""
    with pytest.raises(StartError, match="is to be like postgresql://") as caught:
        open_database(url)
    assert "secret" not in str(caught.value)


def test_a_password_with_an_at_sign_is_not_told() -> None:
    """It would be taken for a part of the host, which is named where it isn't found."""
    with pytest.raises(StartError, match="%40") as caught:
        open_database("postgresql://user:very@secret@127.0.0.1/db")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_a_url_may_name_postgresql_in_its_ways(scheme: str, postgres: Postgres) -> None:
    """As hosters write it, and as SQLAlchemy does."""
    use(postgres.database().replace("postgresql", scheme, 1))


def test_a_server_that_is_away_is_no_reason_not_to_start() -> None:
    """It is reached when it is needed, and then said to be away in one line without the password."""
    database = PostgresDatabase("postgresql://user:secret@127.0.0.1:1/db", MIGRATIONS)
    with pytest.raises(DBAPIError) as caught, database.read():
        pass
    said = reason(caught.value)
    assert "refused" in str(caught.value)
    assert "\n" not in said
    assert "secret" not in str(caught.value)
    database.close()
