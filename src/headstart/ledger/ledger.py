"""The ledger: a row for each request, written behind the answers by a thread of its own.

    event loop ──record──> waiting ──batch──> database        a batch is a transaction: rows, and what they come to

Nothing of a request waits for the database. While it is away rows wait in memory, up to a bound; who is killed loses
what was recorded since the last batch.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from headstart.errors import StartError
from headstart.ledger.batch import Batch, purge, write
from headstart.ledger.database import Database
from headstart.ledger.reports import Reports
from headstart.sql.postgres import reason
from headstart.types import Usage

log = logging.getLogger("headstart.ledger")

GATHERING = 0.9
"""Seconds from a row's coming to its batch's."""
BATCH_ROWS = 2_000
MOST_WAITING = 50_000
"""Rows that wait for a database that is away; more are lost, and counted."""
SOONEST, LATEST = 0.5, 5.0
"""Seconds between attempts on a database that is away."""
STALLED = 15.0
"""Seconds after which a database that says nothing at all counts as failing."""
PURGE_SECONDS = 600.0


class State(NamedTuple):
    """How the ledger fares. Rows `waiting` to be written, `written` and `lost` since the start; `failing`: what the
    database says, None while it does as it is told."""

    waiting: int
    written: int
    lost: int
    failing: str | None


class Ledger:
    """Writes rows into a database, which is its to close.

    Args:
        days: how long rows are kept. Sums by the hour are kept for longer (`ledger.batch`).
        clock: Unix time in seconds.
    """

    def __init__(self, database: Database, *, days: float = 30.0, clock: Callable[[], float] = time.time) -> None:
        self.reports = Reports(database)
        self._database, self._days, self._clock = database, days, clock
        self._rows: deque[Usage] = deque()
        self._batches: list[Batch] = []
        self._changed = threading.Condition()
        self._hurry = self._closing = False
        self._recorded = self._settled = self._written = self._lost = 0
        self._failing: str | None = None
        self._asked_at: float | None = None
        self._purge_at = 0.0
        self._more_to_purge = False
        self._thread = threading.Thread(target=self._run, name="headstart-ledger", daemon=True)
        self._thread.start()

    def record(self, row: Usage) -> None:
        """Have a row written. Never waits for the database."""
        with self._changed:
            if len(self._rows) >= MOST_WAITING or self._closing:
                self._lost += 1
                return
            self._recorded += 1
            self._rows.append(row)
            if len(self._rows) in (1, BATCH_ROWS):
                self._changed.notify_all()

    def state(self) -> State:
        """How it fares; never waits for the database."""
        asked_at, failing = self._asked_at, self._failing
        if failing is None and asked_at is not None and (silent := time.monotonic() - asked_at) > STALLED:
            failing = f"no answer for {silent:.0f} seconds"
        return State(self._recorded - self._settled, self._written, self._lost, failing)

    def flush(self, timeout: float) -> bool:
        """Wait until all that was recorded is written (or can't be), for so many seconds at most. Whether it is."""
        with self._changed:
            goal, self._hurry = self._recorded, True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._settled >= goal, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, for so many seconds at most, and close the database. Idempotent."""
        with self._changed:
            again, self._closing = self._closing, True
            self._changed.notify_all()
        self._thread.join(timeout)
        if (left := self._recorded - self._settled) and not again:
            log.error("%d rows of the usage ledger could not be written and are lost.", left)

    # ----------------------------------------------------------------------------------------------------- the thread's

    def _run(self) -> None:
        try:
            self._write_all()
        finally:
            self._database.close()  # only now: a connection that is in use would stay open

    def _write_all(self) -> None:
        pause = SOONEST
        while self._gather():
            failed = not self._write()
            if self._closing and (failed or not self._rows):
                return
            if failed:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, pause)
                pause = min(pause * 2, LATEST)
            else:
                pause = SOONEST
                if time.monotonic() >= self._purge_at:
                    self._purge()

    def _gather(self) -> bool:
        """Wait for rows and make a batch of them, unless one is still to be written. False at the end."""
        with self._changed:
            if not self._batches:
                idle = 0 if self._more_to_purge else PURGE_SECONDS
                self._changed.wait_for(lambda: self._rows or self._closing, idle)
                self._changed.wait_for(
                    lambda: self._closing or self._hurry or len(self._rows) >= BATCH_ROWS,
                    GATHERING if self._rows else 0,
                )
                if self._rows:
                    taken = min(len(self._rows), BATCH_ROWS)
                    self._batches.append(Batch(uuid.uuid4().hex, [self._rows.popleft() for _ in range(taken)]))
            return bool(self._batches) or not self._closing

    def _write(self) -> bool:
        """Write what was gathered. False: the database is at fault, and what is left is to be tried again."""
        while self._batches:
            batch, *others = self._batches
            lost = 0
            try:
                with self._transaction() as connection:
                    write(connection, batch, self._clock())
            except Exception as error:
                if not _by_its_rows(error):
                    self._failed(error)
                    return False
                if len(batch.rows) > 1:
                    self._batches = [*_halves(batch), *others]
                    continue
                lost = 1
                log.error("A row of the usage ledger is lost, since it can't be written: %s", type(error).__name__)
            if self._failing is not None:
                log.warning("The usage ledger is written again.")
            self._batches, self._failing = others, None
            with self._changed:
                self._lost += lost
                self._written += len(batch.rows) - lost
                self._settled += len(batch.rows)
                self._hurry = self._hurry and bool(self._rows or others)
                self._changed.notify_all()
        return True

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One that is known to be under way."""
        self._asked_at = time.monotonic()
        try:
            with self._database.write() as connection:
                yield connection
        finally:
            self._asked_at = None

    def _failed(self, error: Exception) -> None:
        said = reason(error) if isinstance(error, SQLAlchemyError) else str(error)
        if self._failing is None:
            log.error("The usage ledger can't be written, and rows wait in memory: %s", said)
        self._failing = said

    def _purge(self) -> None:
        """Delete some of what is too old; the rest when there is nothing else to write."""
        self._more_to_purge = False
        with suppress(SQLAlchemyError, StartError):  # if it is the database's fault the next batch says so
            with self._transaction() as connection:
                self._more_to_purge = purge(connection, self._clock(), self._days)
            self._purge_at = time.monotonic() + (0 if self._more_to_purge else PURGE_SECONDS)


def _halves(batch: Batch) -> tuple[Batch, Batch]:
    """A batch's halves, whose ids are the same at every attempt."""
    middle = len(batch.rows) // 2
    return Batch(f"{batch.id}a", batch.rows[:middle]), Batch(f"{batch.id}b", batch.rows[middle:])


def _by_its_rows(error: Exception) -> bool:
    """Whether other rows could have been written: a value of these is too large, or no text."""
    if isinstance(error, DBAPIError):
        return isinstance(error, (DataError, IntegrityError)) and not error.connection_invalidated
    return isinstance(error, (ValueError, OverflowError, TypeError))
