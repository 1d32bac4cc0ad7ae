"""One pass for all capacities and lives, against caches that are replayed one by one."""

from __future__ import annotations

import math
import random
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulate.traces import line, random_chains, trace_of

from headstart.simulate.distances import Reuse
from headstart.simulate.replay import hit_rate
from headstart.simulate.trace import Trace, read


def plain_lru(trace: Trace, capacity: int, life: float = math.inf) -> float:
    """A cache of prefixes as one would write it down: the root of a prompt is always used last."""
    held: OrderedDict[int, float] = OrderedDict()
    hits = 0
    for number in range(trace.requests):
        chain, now = trace.chain(number).tolist(), float(trace.times[number])
        for depth, block in enumerate(chain):
            if block not in held or now - held[block] > life:
                break
            hits += min(trace.block, int(trace.lengths[number]) - depth * trace.block)
        for block in reversed(chain):
            held.pop(block, None)
            held[block] = now
        while len(held) > capacity:
            held.popitem(last=False)
    return hits / trace.input


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=40), st.integers(1, 60))
def test_every_capacity_at_once(chains: list[list[int]], capacity: int) -> None:
    """The share that a replayed cache of that size gives, whatever is asked for."""
    trace = trace_of(chains)
    assert Reuse(trace).by_capacity([capacity]) == pytest.approx([plain_lru(trace, capacity)])


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=30), st.integers(0, 30))
def test_every_life_at_once(chains: list[list[int]], life: int) -> None:
    """And without a bound, of a cache that forgets what was idle too long; and of both together."""
    trace = trace_of(chains)
    reuse = Reuse(trace)
    assert reuse.by_life([life]) == pytest.approx([plain_lru(trace, 1 << 30, life)])
    assert reuse.unbounded == pytest.approx(plain_lru(trace, 1 << 30))


def test_as_the_servers_index() -> None:
    """The server's own index with its LRU policy reads the same."""
    trace = trace_of(random_chains(random.Random(5), 600, most=8, width=4), block=128)
    reuse = Reuse(trace)
    for capacity in (16, 50, 200):
        assert reuse.by_capacity([capacity]) == pytest.approx([hit_rate("lru", capacity, trace)])


def test_the_most_room() -> None:
    """With so much room LRU reads all that can be, and with one block less it doesn't."""
    trace = trace_of(random_chains(random.Random(6), 300))
    reuse = Reuse(trace)
    enough, less = reuse.by_capacity([reuse.most, reuse.most - 1])
    assert enough == reuse.unbounded > less


def test_a_block_that_is_not_full() -> None:
    """Counts for the tokens that it has."""
    trace = read([line([1, 2], 130), line([1, 2], 130, 1.0)], block=128)
    assert Reuse(trace).unbounded == 0.5


def test_nothing_repeats() -> None:
    """No hit at any capacity, and no block too."""
    assert Reuse(trace_of([[1], [2], [3]])).by_capacity([1, 1000]) == [0, 0]
    assert Reuse(trace_of([[], []])).by_capacity([1, 1000]) == [0, 0]
    assert Reuse(trace_of([[], []])).most == 0
