"""A PostgreSQL database: reached by URL, brought up to date, and shared by servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import URL, Connection, create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from headstart.errors import StartError
from headstart.sql.migrations import Migration, is_up_to_date, migrate

MIGRATING = 0x6865616473746172
"""The advisory lock that who changes the tables holds: servers start at once."""
CONNECTIONS = 4


class PostgresDatabase:
    """A database on a server that may be away: every use connects anew where it has to.

    `patience`: seconds that connecting, and a statement, may take. Blocking: call it from a worker thread. Raises
    `StartError` for a URL that can't be used and for newer tables, and SQLAlchemy's errors; they never hold a value.
    """

    def __init__(self, url: str, migrations: Sequence[Migration], *, patience: float = 5.0) -> None:
        self.patience = patience
        self._migrations = migrations
        self._up_to_date = False
        milliseconds = int(patience * 1000)
        try:
            self._engine = create_engine(
                _with_driver(url),
                hide_parameters=True,
                pool_size=CONNECTIONS,
                max_overflow=0,
                pool_timeout=patience,
                pool_pre_ping=True,
                connect_args={
                    "connect_timeout": max(int(patience), 2),  # less isn't possible
                    # A server whose machine or network is gone says nothing, and would be waited for for hours.
                    "tcp_user_timeout": milliseconds,
                    "keepalives_idle": max(int(patience), 1),
                    "keepalives_interval": 1,
                    "keepalives_count": 3,
                    "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
                },
            )
        except ModuleNotFoundError as error:
            raise StartError("PostgreSQL needs its driver: pip install 'headstart[postgres]'") from error

    def open(self) -> None:
        """Make the tables, or bring them up to date, unless that is done."""
        if self._up_to_date:
            return
        with self._engine.begin() as connection:
            if not is_up_to_date(connection, self._migrations):
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATING})")
                try:
                    migrate(connection, self._migrations)
                except StartError as error:
                    raise StartError(f"The database {self._engine.url.render_as_string()} {error}") from None
        self._up_to_date = True

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        self.open()
        with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: whole, or not at all."""
        self.open()
        with self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _with_driver(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.get_backend_name() not in ("postgresql", "postgres") or not parsed.database:
        raise StartError("The ledger's URL is to be like postgresql://USER:PASSWORD@HOST/DATABASE.")
    if "@" in (parsed.host or ""):  # the rest of a password, which would be told as a host that isn't found
        raise StartError("The ledger's URL has more than one @: write one in a password as %40.")
    return parsed.set(drivername="postgresql+psycopg")


def reason(error: SQLAlchemyError) -> str:
    """What a database said, in one line."""
    said = str(getattr(error, "orig", None) or error).strip()
    return said.splitlines()[0] if said else type(error).__name__
