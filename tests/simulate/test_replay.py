"""The best possible and the server's policies, against what any cache can do."""

from __future__ import annotations

import itertools
import random

import pytest
from tests.simulate.traces import random_chains, trace_of

from headstart.cache.retention import RETENTIONS
from headstart.simulate.distances import Reuse
from headstart.simulate.replay import STEP, belady, hit_rate
from headstart.simulate.trace import Trace


def best(trace: Trace, capacity: int) -> float:
    """By trying everything: after each request any blocks may be kept that were there or came, if they fit."""
    reached: dict[frozenset[int], int] = {frozenset(): 0}
    for number in range(trace.requests):
        chain = trace.chain(number).tolist()
        after: dict[frozenset[int], int] = {}
        for held, hits in reached.items():
            there = next((at for at, block in enumerate(chain) if block not in held), len(chain))
            known = sorted(held | set(chain))
            for kept in itertools.combinations(known, min(capacity, len(known))):
                state = frozenset(kept)
                after[state] = max(after.get(state, 0), hits + there)
        reached = after
    return max(reached.values()) / trace.input


@pytest.mark.parametrize("seed", range(12))
def test_belady_is_the_best(seed: int) -> None:
    """No choice of what to keep reads more."""
    trace = trace_of(random_chains(random.Random(seed), 9, most=3, width=2))
    for capacity in (1, 2, 4):
        assert belady(capacity, trace) == pytest.approx(best(trace, capacity))


@pytest.mark.parametrize("policy", RETENTIONS)
def test_no_policy_beats_it(policy: str) -> None:
    """Nor does any policy of the server's, and with room for all each reads all that can be read."""
    trace = trace_of(random_chains(random.Random(3), 500, most=7))
    for capacity in (10, 40, 100):
        assert hit_rate(policy, capacity, trace) <= belady(capacity, trace)
    everything = Reuse(trace).unbounded
    assert hit_rate(policy, trace.distinct, trace) == belady(trace.distinct, trace) == pytest.approx(everything)


def test_progress() -> None:
    """Is told in steps, and never more than all."""
    trace = trace_of([[1]] * (2 * STEP + 10))
    for run in (belady, lambda *how: hit_rate("lru", *how)):
        told: list[int] = []
        run(5, trace, told.append)
        assert told == [STEP, STEP]
