"""The index against a naive restatement of the rules: a dictionary of token tuples; no blocks, digests or order."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headstart.cache.index import PrefixIndex
from headstart.cache.policy import IntervalRules, Terms
from headstart.cache.promises import PromiseBudget
from headstart.types import BLOCK_TOKENS, CacheOptions, Lifetime, Namespace, Plan, Prompt

LIFE = Lifetime(idle=600.0, total=3600.0)
RULES = IntervalRules(Terms(b"secret", LIFE, "in_memory"))
STEP = BLOCK_TOKENS


def plan_of(blocks: tuple[int, ...], tail: int = 0, organisation: str = "org") -> Plan:
    """A prompt that starts with seven common blocks (under the minimum), then `blocks`, then a tail."""
    values = np.repeat(np.array((9,) * 7 + blocks + (7,), np.int32), STEP)[: (7 + len(blocks)) * STEP + tail]
    return RULES.plan(Prompt(values, ()), Namespace(organisation, "m", "interval", None), CacheOptions())


@dataclass
class Naive:
    """Entries by their tokens; nothing is ever evicted. Values: time written, time used."""

    entries: dict[tuple[object, ...], list[float]] = field(default_factory=dict)

    def lives(self, name: tuple[object, ...], now: float) -> bool:
        entry = self.entries.get(name)
        return entry is not None and now - entry[1] < 600 and now - entry[0] < 3600

    def serve(self, organisation: str, blocks: tuple[int, ...], now: float) -> int:
        """The tokens read; then the whole prompt is saved."""
        names = [(organisation, *blocks[:n]) for n in range(1, len(blocks) + 1)]
        read = max((n for n, name in enumerate(names, 1) if self.lives(name, now)), default=0)
        for name in names:
            if self.lives(name, now):
                self.entries[name][1] = now
            else:
                self.entries[name] = [now, now]
        return (7 + read) * STEP if read else 0


prompts = st.lists(st.integers(0, 2), max_size=6).map(tuple)
organisations = st.sampled_from(["org", "other"])


@pytest.mark.contract("B1", "W2", "I2", "I3", "I4", "I6", "I7")
class AgainstNaive(RuleBasedStateMachine):
    """Random traffic, sequences that finish in any order, stores, expiry, and a budget that may be tight."""

    @initialize(budget=st.sampled_from([0, 9, 20, 10_000]))
    def start(self, budget: int) -> None:
        self.budget = budget
        self.index, self.naive, self.now = PrefixIndex(budget), Naive(), 0.0
        self.held: list[Plan] = []
        self.ram: set[bytes] = set()
        self.complete = True  # until something could be lost, both must agree exactly
        self.written = 0

    @rule(blocks=prompts, organisation=organisations)
    def request(self, blocks: tuple[int, ...], organisation: str) -> None:
        plan = plan_of(blocks, tail=5, organisation=organisation)
        read, expected = self.index.match(plan, self.now), self.naive.serve(organisation, blocks, self.now)
        assert read <= expected
        if self.complete:
            assert read == expected
        self.index.read(plan, read, self.now)
        self.written += sum(not self.index.is_readable(plan.digest(stop), self.now) for stop in plan.writes)
        self.index.hold(plan, 0, read, self.now)
        middle = read + (len(plan.blocks) * STEP - read) // STEP // 2 * STEP
        self.index.hold(plan, read, middle, self.now)
        self.index.hold(plan, middle, len(plan.blocks) * STEP, self.now)
        self.held.append(plan)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), store=st.booleans())
    def finish(self, data: st.DataObject, store: bool) -> None:
        plan = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        for digest in [d for d in plan.blocks if store and not self.index.is_stored(d)]:
            if self.index.store(digest, 1):
                self.free()
                self.ram.add(digest)
        self.complete &= store and self.index.tally().stored < self.budget
        self.index.release(reversed(plan.blocks))

    @rule(seconds=st.sampled_from([1.0, 200.0, 599.0, 600.0, 3000.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def expire(self) -> None:
        self.index.expire(self.now)

    @rule(organisation=organisations)
    def purge(self, organisation: str) -> None:
        self.index.purge(lambda owner: owner.organisation == organisation)
        self.naive.entries = {name: entry for name, entry in self.naive.entries.items() if name[0] != organisation}

    def free(self) -> None:
        """As the owner of the bytes does."""
        for digest in self.index.drops().ram:
            self.ram.remove(digest)

    @invariant()
    def is_sound(self) -> None:
        self.free()
        assert len(self.ram) == self.index.tally().stored
        self.index.check_integrity(self.now)
        tally = self.index.tally()
        there = sum(map(self.index.is_entry, list(self.index._blocks)))
        assert there + tally.evicted + tally.expired + tally.lost + tally.cleared == self.written


AgainstNaive.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAgainstNaive = AgainstNaive.TestCase


@pytest.mark.contract("I6", "I7")
def test_an_entry_lives_ten_minutes_from_its_last_use_and_an_hour_from_its_write() -> None:
    """docs/contract.md: kept until idle, never longer than an hour; the very second it ends it is gone."""
    index, plan = PrefixIndex(1000), plan_of((1, 2))
    index.write(plan, 0.0)
    assert index.match(plan, 599.9) == 9 * STEP
    assert index.match(plan, 600.0) == 0
    for now in range(500, 3600, 500):
        assert index.match(plan, float(now)) == 9 * STEP
        index.read(plan, 9 * STEP, float(now))
    assert index.match(plan, 3599.9) == 9 * STEP
    assert index.match(plan, 3600.0) == 0


def test_a_longer_entry_outlives_the_shorter_ones_it_began_with() -> None:
    """Entries have lives of their own: the block of an expired entry stays as long as a longer one needs it."""
    index, short, long = PrefixIndex(1000), plan_of((1,)), plan_of((1, 2))
    index.write(short, 0.0)
    for now in (500.0, 1000.0, 1500.0, 2000.0, 2500.0, 3000.0):
        index.read(short, 8 * STEP, now)
    index.write(long, 3100.0)
    assert index.match(short, 3650.0) == 0
    assert index.match(long, 3650.0) == 9 * STEP
    index.read(long, 9 * STEP, 3650.0)
    assert index.match(short, 3651.0) == 0, "reading the longer entry doesn't revive the shorter"
    assert index.tally().expired == 1


@pytest.mark.contract("I8")
def test_the_least_recently_used_goes_first_and_children_before_parents() -> None:
    """Two prompts share nine blocks; storing a third takes the leaf of the one that was used longest ago."""
    index = PrefixIndex(11)
    first, second = plan_of((1, 1, 1)), plan_of((1, 1, 2))
    index.write(first, 0.0)
    index.write(second, 1.0)
    assert index.tally().stored == 11
    third = plan_of((1, 1, 0))
    index.hold(third, 0, third.length, 2.0)
    assert index.store(third.blocks[-1], 1)
    assert index.drops().ram == [first.blocks[-1]]
    assert index.match(first, 3.0) == index.match(second, 3.0) - STEP == 9 * STEP
    index.check_integrity()


def test_a_block_that_only_newer_ones_could_make_room_for_is_not_stored() -> None:
    """The budget holds eight blocks of a chain of ten: the first eight stay, and nothing is thrashed."""
    index, plan = PrefixIndex(8), plan_of((1, 2, 3))
    index.hold(plan, 0, plan.length, 0.0)
    assert [index.store(digest, 1) for digest in plan.blocks] == [True] * 8 + [False] * 2
    index.release(reversed(plan.blocks))
    assert index.match(plan, 1.0) == 8 * STEP


def test_shared_blocks_are_stored_once() -> None:
    """A hundred users of one prefix: its blocks, and their own, each once."""
    index = PrefixIndex(10_000)
    for user in range(100):
        plan = plan_of((1, 1, user))
        index.write(plan, 0.0)
    assert index.tally().stored == 9 + 100


@pytest.mark.contract("W2")
@given(prompts, prompts)
def test_another_organisation_never_matches(ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    """docs/contract.md: nothing is ever shared across namespaces."""
    index = PrefixIndex(1000)
    plan = plan_of(ours)
    index.write(plan, 0.0)
    assert index.match(plan_of(theirs, organisation="other"), 0.0) == 0


def test_expiry_frees_the_ram_of_what_no_one_can_read() -> None:
    """After ten idle minutes nothing is left, in steps of bounded work."""
    index, plan = PrefixIndex(1000), plan_of((1, 2, 3))
    index.write(plan, 0.0)
    for now, limit, gone in ((599.0, 64, 0), (600.0, 4, 4), (600.0, 64, 6)):
        index.expire(now, limit)
        assert len(index.drops().ram) == gone
    assert index.tally().blocks == 0


def test_what_a_sequence_holds_is_not_expired_under_it() -> None:
    """A request that runs longer than its entry lives keeps its own blocks."""
    index, plan = PrefixIndex(1000), plan_of((1,))
    index.hold(plan, 0, plan.length, 0.0)
    assert index.store(plan.blocks[0], 1)
    index.expire(10_000.0)
    assert index.is_stored(plan.blocks[0])
    index.release(reversed(plan.blocks))
    assert index.match(plan, 10_000.0) == 0
    index.expire(10_000.0)
    assert index.drops().ram == [plan.blocks[0]]


@pytest.mark.contract("I8")
@pytest.mark.parametrize("budget", [0, 3])
def test_a_budget_smaller_than_one_prompt_never_corrupts(budget: int) -> None:
    """At worst a miss."""
    index, plan = PrefixIndex(budget), plan_of((1, 2))
    index.write(plan, 0.0)
    index.check_integrity()
    assert index.match(plan, 1.0) == 0


def test_churn_leaves_nothing_behind() -> None:
    """Thousands of prompts through a small cache, none of which is due for an hour: what is kept of them is bounded."""
    index = PrefixIndex(50)
    for number in range(3000):
        index.write(plan_of((number, number)), 0.0)
    assert len(index._due._heap) <= 2 * index.tally().blocks + 65
    index.expire(600.0, limit=1000)
    assert index.tally().blocks == 0
    index.check_integrity()


def gone(index: PrefixIndex) -> dict[str, int]:
    """The entries that went, by cause; those of which none did are left out."""
    counts = {cause: getattr(index.tally(), cause) for cause in ("evicted", "expired", "lost", "cleared")}
    return {cause: count for cause, count in counts.items() if count}


def written(budget: int, *prompts: tuple[int, ...]) -> PrefixIndex:
    """An index of so many blocks in RAM, in which these prompts were written."""
    index = PrefixIndex(budget)
    for blocks in prompts:
        index.write(plan_of(blocks), 0.0)
    return index


@pytest.mark.parametrize(
    ("index", "event", "expected"),
    [
        (written(10, (1, 1, 1), (1, 1, 2)), lambda index: None, {"evicted": 1}),
        (written(0, (1, 2)), lambda index: None, {"evicted": 2}),
        (written(99, (1, 2)), lambda index: index.expire(600.0), {"expired": 2}),
        (written(99, (1, 2)), lambda index: index.write(plan_of((1,)), 600.0), {"expired": 1}),
        (written(99, (1, 2)), lambda index: index.purge(lambda owner: owner.organisation == "org"), {"cleared": 2}),
        (written(99, (1, 2)), lambda index: index.clear(), {"lost": 2}),
    ],
    ids=["for another", "no room", "its end", "written anew", "the operator", "a fault"],
)
def test_every_entry_that_goes_is_counted_with_its_cause(
    index: PrefixIndex, event: Callable[[PrefixIndex], object], expected: dict[str, int]
) -> None:
    """Once each, whether its block goes with it or not."""
    event(index)
    assert gone(index) == expected


def test_entries_whose_file_is_lost_are_counted() -> None:
    """A block on disk alone that can't be read takes with it what goes on from it; one in RAM too, nothing."""
    index = PrefixIndex(100, PromiseBudget(100, 100))
    rules = IntervalRules(Terms(b"secret"))
    plan = rules.plan(Prompt(np.zeros(10 * STEP, np.int32), ()), Namespace("o", "m", "interval", None), CacheOptions())
    index.write(plan, 0.0)
    assert index.tally().promised_blocks == 10
    for digest in plan.blocks:
        index.begin_writing(digest)
        index.saved(digest, done=True)
    index.lose(plan.blocks[8])
    assert not gone(index)
    index.saved(plan.blocks[8], done=index.begin_writing(plan.blocks[8]) is not None)
    for digest in reversed(plan.blocks):
        index._unstore(digest)
    index.lose(plan.blocks[8])
    assert gone(index) == {"lost": 2}
    assert index.match(plan, 1.0) == 8 * STEP
    assert index.tally().promised_blocks == 8
