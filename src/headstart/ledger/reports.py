"""What the ledger says when it is asked: sums, their course over time, and how long first tokens took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Column, Connection, func, select

from headstart.ledger.rollup import DAY, HOUR, MINUTE, Dimension, Sums, percentile
from headstart.ledger.tables import latencies, sums, usage
from headstart.types import Usage

__all__ = ["Dimension", "Latency", "Line", "Reports", "Span", "Sums", "span", "worst_first"]

MINUTES_UP_TO = 6 * HOUR
HOURS_UP_TO = 8 * DAY


class Span(NamedTuple):
    """The time that is asked about: Unix seconds [since, until), in steps of `grain` seconds."""

    since: int
    until: float
    grain: int


def span(seconds: float, now: float, grain: int | None = None) -> Span:
    """The last so many seconds, from the beginning of the step that they begin in: a minute's, hour's or day's."""
    if grain is None:
        grain = MINUTE if seconds <= MINUTES_UP_TO else HOUR if seconds <= HOURS_UP_TO else DAY
    since = int(max(now - max(seconds, 0), 0))
    return Span(since - since % grain, now, grain)


class Latency(NamedTuple):
    """Times to the first token, in seconds, of requests that had one and a prompt long enough to be cached; within
    2.5 %."""

    requests: int = 0
    p50: float | None = None
    p95: float | None = None


class Line(NamedTuple):
    """A group of requests: its sums, and its times to the first token, warm and cold."""

    value: str
    """The group's name in its dimension, or the time it begins at, in Unix seconds."""
    sums: Sums
    warm: Latency = Latency()
    cold: Latency = Latency()


def worst_first(causes: Iterable[Line]) -> list[Line]:
    """Causes of misses: by the tokens that could have been read, then by requests."""
    return sorted(causes, key=lambda line: (-line.sums.missed, -line.sums.requests, line.value))


class Readable(Protocol):
    """A database, as far as reports need one."""

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of the database."""


class Reports:
    """Questions to a ledger. Blocking; raises SQLAlchemy's errors."""

    def __init__(self, database: Readable) -> None:
        self._database = database

    @contextmanager
    def at_once(self) -> Iterator[Reports]:
        """Answers of one moment to all that is asked within, however busy the ledger is."""
        with self._database.read() as connection:
            yield Reports(_Moment(connection))

    def total(self, over: Span) -> Line:
        """All requests."""
        return next(iter(self.lines("all", over)), Line("", Sums()))

    def lines(self, by: Dimension, over: Span) -> list[Line]:
        """A line for each value of a dimension; the one with most input tokens first."""
        with self._database.read() as connection:
            lines = _lines(connection, by, over, sums.c.value, latencies.c.value)
        return sorted(lines, key=lambda line: (-line.sums.input, -line.sums.requests, line.value))

    def course(self, over: Span) -> list[Line]:
        """A line for each step in which there were requests, by time."""
        with self._database.read() as connection:
            lines = _lines(connection, "all", over, sums.c.start, latencies.c.start)
        return sorted(lines, key=lambda line: int(line.value))

    def examples(self, over: Span, each: int = 3) -> dict[str, list[Usage]]:
        """Of each cause the latest requests that missed by it."""
        found = {}
        with self._database.read() as connection:
            for cause in _causes(connection, over):
                in_time = (usage.c.time >= over.since, usage.c.time < over.until)
                asked = select(usage).where(usage.c.cause == cause, *in_time)
                rows = connection.execute(asked.order_by(usage.c.time.desc()).limit(each))
                found[cause] = [Usage(*row) for row in rows]
        return found

    def spent(self, key: str, since: float) -> int:
        """What an API key's requests cost since the beginning of an hour, in picodollars."""
        asked = select(func.sum(sums.c.cost)).where(
            sums.c.grain == HOUR, sums.c.dimension == "key", sums.c.value == key, sums.c.start >= int(since)
        )
        with self._database.read() as connection:
            return int(connection.execute(asked).scalar() or 0)


class _Moment:
    """A transaction that is open already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See `Readable.read`."""
        yield self._connection


def _lines(connection: Connection, by: Dimension, over: Span, group: Column[Any], same: Column[Any]) -> list[Line]:
    """Lines of what `group` (and `same` in the histograms) holds."""
    counters = [func.sum(sums.c[name]) for name in Sums._fields]
    histograms: defaultdict[str, tuple[Counter[int], Counter[int]]] = defaultdict(lambda: (Counter(), Counter()))
    asked = select(same, latencies.c.warm, latencies.c.bucket, func.sum(latencies.c.requests))
    asked = asked.where(*_within(latencies.c, by, over)).group_by(same, latencies.c.warm, latencies.c.bucket)
    for value, warm, bucket, requests in connection.execute(asked):
        histograms[str(value)][warm][bucket] += int(requests)
    lines = []
    for value, *figures in connection.execute(
        select(group, *counters).where(*_within(sums.c, by, over)).group_by(group)
    ):
        cold, warm = histograms[str(value)]
        lines.append(Line(str(value), Sums(*map(int, figures)), _latency(warm), _latency(cold)))
    return lines


def _within(columns: Any, by: Dimension, over: Span) -> tuple[Any, ...]:
    in_time = (columns.start >= over.since, columns.start < over.until)
    return columns.grain == over.grain, columns.dimension == by, *in_time


def _causes(connection: Connection, over: Span) -> list[str]:
    asked = select(sums.c.value).where(*_within(sums.c, "cause", over), sums.c.value != "").distinct()
    return list(connection.execute(asked).scalars())


def _latency(histogram: Counter[int]) -> Latency:
    return Latency(histogram.total(), percentile(histogram, 0.5), percentile(histogram, 0.95))
