"""What rows come to: sums by cell, and percentiles from histograms."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ledger.rows import NOW, is_timed, recount, row, usages

from headstart.ledger.rollup import DAY, DIMENSIONS, GRAINS, HOUR, MINUTE, Cell, Sums, bucket_of, percentile, rollup
from headstart.types import Usage


def exact(times: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    return sorted(times)[max(math.ceil(share * len(times)), 1) - 1]


@given(st.lists(usages, max_size=20))
def test_a_rollup_is_what_a_recount_says(rows: list[Usage]) -> None:
    """In every grain and dimension, whatever the rows hold; and each first token is in a bucket of its cells."""
    sums, latencies = rollup(rows)
    assert sums == recount(rows)
    found: Counter[tuple[Cell, bool]] = Counter()
    for (cell, warm, _), requests in latencies.items():
        found[cell, warm] += requests
    for (cell, warm), requests in found.items():
        inside = [one for one in rows if cell.start <= one.time < cell.start + cell.grain and is_timed(one)]
        by = [one for one in inside if cell.dimension == "all" or (getattr(one, cell.dimension) or "") == cell.value]
        assert requests == sum(one.warm == warm for one in by)
    assert found.total() == sum(map(is_timed, rows)) * len(GRAINS) * len(DIMENSIONS)


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200),
    st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]),
)
def test_percentiles_are_near_the_exact_ones(times: list[float], share: float) -> None:
    """Within 2.5 % of the nearest-rank one."""
    assert percentile(Counter(map(bucket_of, times)), share) == pytest.approx(exact(times, share), rel=0.025)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-300, 1e-6, 1e6, 1e300, math.inf])
def test_times_beyond_the_bounds_have_a_bucket(seconds: float) -> None:
    """The first or the last one."""
    assert bucket_of(seconds) in (bucket_of(1e-6), bucket_of(1e6))


def test_no_times_have_no_percentile() -> None:
    """Rather than one of zero."""
    assert percentile(Counter(), 0.5) is None


@pytest.mark.parametrize(
    ("fields", "sums"),
    [
        ({"cost": None, "uncached_cost": None}, Sums(1, input=2000)),
        ({"cost": None, "uncached_cost": 7}, Sums(1, input=2000)),
        ({"cost": 0, "uncached_cost": 0}, Sums(1, input=2000, priced=1)),
        ({"cost": 5, "uncached_cost": 3}, Sums(1, input=2000, priced=1, cost=5, uncached_cost=3)),
        ({"cached": 1, "written_30m": 2, "written_12h": 3}, Sums(1, 1, input=2000, cached=1, written=5, priced=1)),
        ({"status": "refused", "input": 0}, Sums(1, failed=1, priced=1)),
        ({"status": "cancelled"}, Sums(1, failed=1, input=2000, priced=1)),
        ({"status": "incomplete"}, Sums(1, input=2000, priced=1)),
    ],
)
def test_what_a_row_comes_to(fields: dict[str, object], sums: Sums) -> None:
    """An unknown cost isn't a cost of nothing."""
    assert set(rollup([row(**fields)]).sums.values()) == {sums}


def test_savings_may_be_losses() -> None:
    """Writes that nobody read cost more than no cache."""
    assert Sums(cost=5, uncached_cost=3).saved == -2
    assert Sums().hit_rate is None
    assert Sums(input=4, cached=1).hit_rate == 0.25


def test_costs_are_summed_exactly() -> None:
    """Beyond what floats can tell apart."""
    sums = rollup([row(number, cost=2**55 + 1, uncached_cost=2**56 + 1) for number in range(3)]).sums
    assert {(found.cost, found.uncached_cost) for found in sums.values()} == {(3 * 2**55 + 3, 3 * 2**56 + 3)}


@pytest.mark.parametrize("grain", GRAINS)
def test_a_step_ends_where_the_next_begins(grain: int) -> None:
    """Rows on both sides of the edge."""
    edge = int(NOW // grain) * grain
    assert (MINUTE, HOUR, DAY) == GRAINS
    rows = [row(time=math.nextafter(edge, 0)), row(time=float(edge))]
    starts = {cell.start for cell in rollup(rows).sums if cell.grain == grain}
    assert starts == {edge - grain, edge}
