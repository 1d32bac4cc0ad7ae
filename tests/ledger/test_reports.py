"""What the ledger says when it is asked, on both databases."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event
from tests.ledger.rows import NOW, agrees, is_timed, row, stored, stored_sums, stored_times, summed, usages, value_of

from headstart.ledger.batch import Batch, purge, write
from headstart.ledger.database import Database
from headstart.ledger.reports import Latency, Line, Reports, Span, span
from headstart.ledger.rollup import DAY, DIMENSIONS, GRAINS, HOUR, MINUTE, Sums
from headstart.types import Usage

MONTH = Span(int(NOW) - 30 * DAY - int(NOW) % DAY, NOW + 1, DAY)
TABLES = ("usage", "sums", "latencies", "batches")


def file(database: Database, rows: Iterable[Usage], name: str | None = None) -> None:
    """Write rows as one batch."""
    with database.write() as connection:
        write(connection, Batch(name or uuid.uuid4().hex, list(rows)), NOW)


def clear(database: Database) -> None:
    """Forget all."""
    with database.write() as connection:
        for table in TABLES:
            connection.exec_driver_sql(f"DELETE FROM {table}")


def exact(times: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, of times that are told apart."""
    return max(sorted(times)[max(math.ceil(share * len(times)), 1) - 1], 1e-6)


def assert_times(latency: Latency, rows: Iterable[Usage]) -> None:
    """They are those of the rows, as near as is promised."""
    times = [one.ttft for one in rows if one.ttft is not None and is_timed(one)]
    assert latency.requests == len(times)
    if not times:
        assert latency == Latency()
    else:
        assert latency.p50 == pytest.approx(exact(times, 0.5), rel=0.025)
        assert latency.p95 == pytest.approx(exact(times, 0.95), rel=0.025)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(batches=st.lists(st.lists(usages, min_size=1, max_size=8), max_size=4), seconds=st.floats(0, 4 * DAY))
def test_reports_are_what_a_recount_of_the_rows_says(
    database: Database, batches: list[list[Usage]], seconds: float
) -> None:
    """However the rows were cut into batches: every sum that is kept, and every answer over some time, in any steps."""
    clear(database)
    for batch in batches:
        file(database, batch)
    rows = agrees(database)
    assert sorted(rows) == sorted(one for batch in batches for one in batch)
    reports = Reports(database)
    for grain in GRAINS:
        over = span(seconds, NOW + 1, grain)
        inside = [one for one in rows if one.time >= over.since]
        for by in DIMENSIONS:
            lines = reports.lines(by, over)
            assert [line.sums.input for line in lines] == sorted((line.sums.input for line in lines), reverse=True)
            assert {line.value for line in lines} == {value_of(one, by) for one in inside}
            for line in lines:
                own = [one for one in inside if value_of(one, by) == line.value]
                assert line.sums == summed(own)
                assert_times(line.warm, (one for one in own if one.cached))
                assert_times(line.cold, (one for one in own if not one.cached))
        assert reports.total(over).sums == summed(inside)
        course = reports.course(over)
        assert [int(line.value) for line in course] == sorted({int(one.time // grain * grain) for one in inside})
        for line in course:
            own = [one for one in inside if one.time // grain * grain == int(line.value)]
            assert line.sums == summed(own)
            assert_times(line.cold, (one for one in own if not one.cached))
    for name in {one.key for one in rows}:
        since = int((NOW - seconds) // HOUR * HOUR)
        assert reports.spent(name, since) == summed([one for one in rows if one.key == name and one.time >= since]).cost


def test_nothing_comes_to_nothing(database: Database) -> None:
    """An empty ledger answers, too."""
    reports = Reports(database)
    assert reports.total(MONTH) == Line("", Sums())
    assert reports.lines("model", MONTH) == reports.course(MONTH) == []
    assert reports.examples(MONTH) == {}
    assert reports.spent("alice", NOW) == 0


def test_sums_of_many_batches_are_exact(database: Database) -> None:
    """Beyond what floats can tell apart, in the tables and in the answers."""
    for number in range(3):
        file(database, [row(number, cost=2**55 + 1, uncached_cost=2**58 + 1, time=NOW - number * DAY)])
    reports = Reports(database)
    for line in (reports.total(MONTH), *reports.lines("key", MONTH)):
        assert (line.sums.cost, line.sums.uncached_cost) == (3 * 2**55 + 3, 3 * 2**58 + 3)
        assert line.sums.saved == 3 * (2**58 - 2**55)
    assert reports.spent("alice", 0) == 3 * 2**55 + 3
    assert agrees(database)


def test_examples_are_the_latest_of_each_cause(database: Database) -> None:
    """Whole rows, latest first, of the time that is asked about only, and none of what missed nothing."""
    expired = [
        row(number, cause="expired", missed=9, time=NOW - number, path=f"input[{number}]") for number in range(9)
    ]
    other = row(20, cause="evicted", missed=1, time=NOW - 60)
    old = row(21, cause="refused", time=NOW - 40 * DAY)
    file(database, [*reversed(expired), other, row(22), old])
    reports = Reports(database)
    assert reports.examples(MONTH) == {"expired": expired[:3], "evicted": [other]}
    assert reports.examples(MONTH, each=1) == {"expired": expired[:1], "evicted": [other]}
    earlier = Span(int(NOW) // MINUTE * MINUTE - MINUTE, NOW - 4.5, MINUTE)
    assert reports.examples(earlier)["expired"] == expired[5:8]


def test_what_a_key_spent_is_its_own(database: Database) -> None:
    """From the beginning of an hour on; unknown costs count nothing."""
    hour = int(NOW // HOUR) * HOUR
    file(
        database, [row(1, cost=5, time=hour + 1.0), row(2, cost=7, time=hour - 1.0), row(3, cost=None, time=hour + 1.0)]
    )
    file(database, [row(4, cost=100, key="bob", time=hour + 1.0)])
    reports = Reports(database)
    assert [reports.spent("alice", since) for since in (hour - HOUR, hour, hour + HOUR)] == [12, 5, 0]
    assert reports.spent("nobody", 0) == 0


@pytest.mark.parametrize(
    ("seconds", "now", "grain", "expected"),
    [
        (3600, 86_400 * 9 + 90, None, (86_400 * 9 - 3540, MINUTE)),
        (6 * HOUR, 86_400 * 9, None, (86_400 * 9 - 6 * HOUR, MINUTE)),
        (6 * HOUR + 1, 86_400 * 9, None, (86_400 * 9 - 7 * HOUR, HOUR)),
        (8 * DAY, 86_400 * 9 + 1, None, (DAY, HOUR)),
        (8 * DAY + 1, 86_400 * 9, None, (0, DAY)),
        (0, 86_400.5, None, (86_400, MINUTE)),
        (90, 86_400 * 9, DAY, (86_400 * 8, DAY)),
        (1e300, 86_400.0, None, (0, DAY)),
        (math.inf, 86_400.0, None, (0, DAY)),
        (-5, 86_400.0, None, (86_400, MINUTE)),
        (-math.inf, 86_400.0, None, (86_400, MINUTE)),
    ],
)
def test_a_span_begins_with_a_step(
    seconds: float, now: float, grain: int | None, expected: tuple[int, int], database: Database
) -> None:
    """A minute's, an hour's or a day's; never before 1970, and never after now."""
    over = span(seconds, now, grain)
    assert (over.since, over.grain) == expected
    assert over.until == now
    assert Reports(database).total(over).sums.requests == 0


def test_a_span_has_its_edges(database: Database) -> None:
    """What came at its first moment is in it, what came before isn't."""
    over = span(HOUR, NOW)
    file(database, [row(1, time=float(over.since)), row(2, time=math.nextafter(over.since, 0))])
    assert Reports(database).total(over).sums.requests == 1


def test_a_batch_is_written_once(database: Database) -> None:
    """However often it is tried; another one adds to it."""
    rows = [row(number, ttft=0.1) for number in range(5)]
    for _ in range(3):
        file(database, rows, "a name")
    assert agrees(database) == rows
    file(database, [row(9)], "another name")
    assert len(agrees(database)) == 6


def test_sums_are_added_to_in_one_order(database: Database) -> None:
    """Whatever the rows' is: of two servers none holds what the other waits for while it waits for the other's."""
    orders = []

    def see(_: object, __: object, statement: str, parameters: Sequence[Any], *___: object) -> None:
        if statement.startswith(("INSERT INTO sums", "INSERT INTO latencies")):
            found = [tuple(one.values() if isinstance(one, dict) else one) for one in parameters]
            orders.append([one[: 4 if "sums" in statement else 6] for one in found])

    event.listen(Engine, "before_cursor_execute", see)
    try:
        file(database, [row(number, key=f"key {-number % 7}", model=f"{number % 3}", ttft=0.1) for number in range(20)])
    finally:
        event.remove(Engine, "before_cursor_execute", see)
    assert [order == sorted(order) for order in orders] == [True, True]
    assert min(map(len, orders)) > 20


def test_what_is_old_is_purged(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows after their days, sums by the minute and by the hour after theirs, days never; a part at a time."""
    monkeypatch.setattr("headstart.ledger.batch.PURGED_AT_ONCE", 3)
    ages = (0.5, 1.5, 2.5, 6.5, 7.5, 8.5, 9.5, 10.5, 399.5, 401.5)
    for age in ages:
        file(database, [row(time=NOW - age * DAY, ttft=0.1)])
    rounds = 0
    more = True
    while more:
        with database.write() as connection:
            more = purge(connection, NOW, days=7)
        rounds += 1
    assert rounds == 3
    assert [(NOW - one.time) / DAY for one in stored(database)] == [6.5, 2.5, 1.5, 0.5]
    kept = {
        grain: sum(cell.grain == grain and cell.dimension == "all" for cell in stored_sums(database))
        for grain in GRAINS
    }
    assert kept == {MINUTE: 2, HOUR: 9, DAY: 10}
    assert stored_times(database) == sum(kept.values()) * len(DIMENSIONS)
    with database.write() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM batches").scalar() == len(ages)
        purge(connection, NOW + DAY + 1, days=7)
        assert connection.exec_driver_sql("SELECT count(*) FROM batches").scalar() == 0
