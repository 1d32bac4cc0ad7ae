"""The ledger's two homes: a SQLite file and a PostgreSQL server of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import Postgres, binaries, server

from headstart.ledger.database import Database, open_database

Place = Path | str


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    programs = binaries()
    if programs is None:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    with server(programs) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a ledger is that nobody has opened yet."""
    if request.param == "sqlite":
        return tmp_path / "ledger.db"
    url: str = request.getfixturevalue("postgres").database()
    return url


@pytest.fixture
def database(place: Place) -> Iterator[Database]:
    """The database there, open."""
    opened = open_database(place)
    yield opened
    opened.close()
