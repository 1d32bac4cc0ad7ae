"""Stored responses: what `store: true` keeps, until it is deleted, expires or makes room for others.

    resp_1 ◄─ resp_2 ◄─ resp_3        every response keeps its own input and output items, and names its parent:
    u1 a1     u2 a2     u3 a3         the conversation up to resp_3 is u1 a1 u2 a2 u3 a3

A response that is deleted loses its body; its items stay while a later response needs them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection, delete, exists, insert, literal, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from headstart.errors import StoreFailed
from headstart.sql.sqlite import FileMoved, used_bytes
from headstart.store.database import Database
from headstart.store.tables import items, responses

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("headstart.store")

DAY = 86_400.0
SWEPT_AT_ONCE = 50
"""Expired responses removed in one transaction: another write waits for no more."""


class Item(NamedTuple):
    """An input or output item, as JSON in the API's shape."""

    id: str
    body: bytes


class History(NamedTuple):
    """A conversation up to a stored response: all that it was given, then what it answered."""

    number: int
    input: tuple[Item, ...]
    output: tuple[Item, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All of it, in order."""
        return self.input + self.output


class Answered(NamedTuple):
    """A response to store: `body` is the object as JSON without its output, `input` its own input alone, `history` what
    it goes on from."""

    id: str
    organisation: str
    body: bytes
    input: tuple[Item, ...]
    output: tuple[Item, ...]
    history: History | None = None


class Stored(NamedTuple):
    """A stored response: its object as JSON without its output, and that."""

    body: bytes
    output: tuple[Item, ...]


class ResponseStore:
    """Keeps responses for `days`, in at most `max_bytes` of the database; beyond that the oldest go.

    An organisation finds its own alone; one of `private`, those under zero data retention, finds nothing, and what was
    stored of it before goes with the next sweep. `clock` gives Unix time in seconds. Every method raises `StoreFailed`;
    what fails for one reason again and again is logged once.
    """

    def __init__(
        self,
        database: Database,
        *,
        days: float,
        max_bytes: int,
        clock: Callable[[], float],
        private: Collection[str] = (),
    ) -> None:
        self._database = database
        self._private = private
        self._life = days * DAY
        self._max_bytes = max_bytes
        self._clock = clock
        self._writing = asyncio.Lock()
        self._trouble: str | None = None

    async def add(self, response: Answered) -> None:
        """Store a response, whole or not at all."""
        await self._write(self._add, response)

    async def get(self, organisation: str, id: str) -> Stored | None:
        """A response."""
        return await self._aside(self._get, organisation, id)

    async def history(self, organisation: str, id: str) -> History | None:
        """The conversation up to a response."""
        return await self._aside(self._history, organisation, id)

    async def delete(self, organisation: str, id: str) -> bool:
        """Forget a response, and the items that nothing else refers to. False: there is none.

        Its text is on the disk no more afterwards, unless somebody reads the database for longer than a moment: then it
        stays in SQLite's log until a later deletion or a sweep.
        """
        return await self._write(self._delete, organisation, id)

    async def sweep(self) -> None:
        """Remove what has expired, and what is of organisations that came under zero data retention."""
        while await self._write(self._sweep):
            pass
        await self._aside(self._database.checkpoint)

    async def close(self) -> None:
        """Close the database."""
        await asyncio.to_thread(self._database.close)

    async def _write(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One at a time, so that waiting writes don't take up the threads."""
        try:
            async with asyncio.timeout(self._database.patience):
                await self._writing.acquire()
        except TimeoutError:
            raise self._failed("too many writes are waiting") from None
        try:
            result = await self._aside(work, *args, **kwargs)
        finally:
            self._writing.release()
        self._trouble = None
        return result

    async def _aside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Work in a thread: a database blocks."""
        try:
            return await asyncio.to_thread(work, *args, **kwargs)
        except SQLAlchemyError as error:
            # Values are hidden in these errors, so that no prompt gets into a log.
            reason = error if isinstance(error, FileMoved) else getattr(error, "orig", None) or type(error).__name__
            raise self._failed(str(reason)) from error

    def _failed(self, reason: str) -> StoreFailed:
        """What to raise; logged, unless nothing was written since it was logged last."""
        failure = StoreFailed(reason)
        if reason != self._trouble:
            log.error(failure.message)
        self._trouble = reason
        return failure

    def _add(self, response: Answered) -> None:
        with self._database.write() as connection:
            own, parent = response.input, None
            if response.history is not None:
                parent = connection.scalar(select(responses.c.number).filter_by(number=response.history.number))
                if parent is None:  # removed since it was read
                    own = response.history.items + own
            values = {
                "id": response.id,
                "organisation": response.organisation,
                "parent": parent,
                "created_at": self._clock(),
                "body": response.body,
            }
            number = connection.scalar(insert(responses).values(values).returning(responses.c.number))
            assert number is not None
            rows = [(False, item) for item in own] + [(True, item) for item in response.output]
            if rows:
                connection.execute(
                    insert(items),
                    [
                        {"response": number, "position": position, "output": output, "id": item.id, "body": item.body}
                        for position, (output, item) in enumerate(rows)
                    ],
                )
            self._make_room(connection, number)

    def _make_room(self, connection: Connection, newest: int) -> None:
        oldest = select(responses.c.number).where(responses.c.body.is_not(None)).order_by(responses.c.number)
        while used_bytes(connection) > self._max_bytes:
            number = connection.scalar(oldest.limit(1))
            if number is None or number == newest:
                raise self._failed(f"a response doesn't fit in {self._max_bytes} bytes")
            _remove(connection, number)

    def _get(self, organisation: str, id: str) -> Stored | None:
        with self._database.read() as connection:
            number = self._find(connection, organisation, id)
            if number is None:
                return None
            body = connection.scalar(select(responses.c.body).filter_by(number=number))
            assert body is not None
            rows = connection.execute(
                select(items.c.id, items.c.body).filter_by(response=number, output=True).order_by(items.c.position)
            )
            return Stored(body, tuple(Item(*row) for row in rows))

    def _history(self, organisation: str, id: str) -> History | None:
        with self._database.read() as connection:
            number = self._find(connection, organisation, id)
            if number is None:
                return None
            chain = (
                select(responses.c.number, responses.c.parent, literal(0).label("back"))
                .filter_by(number=number)
                .cte(recursive=True)
            )
            earlier = select(responses.c.number, responses.c.parent, chain.c.back + 1)
            chain = chain.union_all(earlier.join(chain, responses.c.number == chain.c.parent))
            rows = connection.execute(
                select(chain.c.back, items.c.output, items.c.id, items.c.body)
                .join(chain, items.c.response == chain.c.number)
                .order_by(chain.c.back.desc(), items.c.position)
            ).all()
        given = tuple(Item(item, body) for back, output, item, body in rows if back or not output)
        said = tuple(Item(item, body) for back, output, item, body in rows if not back and output)
        return History(number, given, said)

    def _delete(self, organisation: str, id: str) -> bool:
        with self._database.write() as connection:
            number = self._find(connection, organisation, id)
            if number is None:
                return False
            _remove(connection, number)
        with suppress(SQLAlchemyError):  # it is deleted all the same
            self._database.checkpoint()
        return True

    def _sweep(self) -> bool:
        """Remove some of what is to go; whether there may be more."""
        old = responses.c.created_at <= self._clock() - self._life
        expired = select(responses.c.number).where(
            responses.c.body.is_not(None), or_(old, responses.c.organisation.in_(tuple(self._private)))
        )
        with self._database.write() as connection:
            numbers = connection.scalars(expired.limit(SWEPT_AT_ONCE)).all()
            for number in numbers:
                _remove(connection, number)
        return len(numbers) == SWEPT_AT_ONCE

    def _find(self, connection: Connection, organisation: str, id: str) -> int | None:
        if organisation in self._private:
            return None
        return connection.scalar(
            select(responses.c.number)
            .filter_by(id=id, organisation=organisation)
            .where(responses.c.body.is_not(None), responses.c.created_at > self._clock() - self._life)
        )


def _remove(connection: Connection, number: int) -> None:
    """Forget a response: its body now, its row and its items once no later response needs them, and so on upwards."""
    connection.execute(update(responses).filter_by(number=number).values(body=None))
    later = responses.alias()
    needed = exists().where(later.c.parent == responses.c.number)
    place: int | None = number
    while place is not None:
        place = connection.scalar(
            delete(responses).filter_by(number=place, body=None).where(~needed).returning(responses.c.parent)
        )
