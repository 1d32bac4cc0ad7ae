"""The tree of prefixes against a naive restatement: a dictionary of token tuples; no digests, no chains, no order."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.cache.serving import Cache, Said, prompt_of

from headstart.cache import prefixes
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import BreakpointRules, IntervalRules, Terms
from headstart.cache.promises import PromiseBudget
from headstart.types import BLOCK_TOKENS, CacheOptions, Lifetime, Namespace, Plan, Prefix, Prompt

LIFE = Lifetime(idle=600.0, total=3600.0)
RULES = IntervalRules(Terms(b"secret", LIFE, "in_memory"))
STEP = BLOCK_TOKENS
ALL = 10_000
COMMON = (9,) * 7
"""What all prompts begin with: under the minimum, so no entry ends in it."""
Name = tuple[str, tuple[int, ...]]
Row = tuple[str, int, int, int, int, float, float]


def plan_of(blocks: tuple[int, ...], organisation: str = "org", key: str | None = None) -> Plan:
    """A prompt of so many blocks behind the common ones, and a few tokens more."""
    values = np.repeat(np.array((*COMMON, *blocks, 7), np.int32), STEP)[: (7 + len(blocks)) * STEP + 5]
    return RULES.plan(Prompt(values, ()), Namespace(organisation, "m", "interval", key), CacheOptions())


def serve(index: PrefixIndex, plan: Plan, now: float) -> int:
    """As an engine without a context does; returns what was read."""
    read = index.match(plan, now)
    index.read(plan, read, now)
    index.hit(plan, read)
    index.write(plan, now)
    return read


def shown(index: PrefixIndex, now: float, limit: int = ALL) -> list[Prefix]:
    """Without pauses."""
    return index.prefixes(limit, now, lambda: None)


def spans(found: list[Prefix]) -> list[tuple[int, int, int]]:
    """Start, stop and hits of each."""
    return [(prefix.start, prefix.stop, prefix.hits) for prefix in found]


def needed_blocks(index: PrefixIndex, now: float) -> set[bytes]:
    """Those that an entry that lives ends in or goes on from; when room is short, others may be in RAM yet."""
    found: set[bytes] = set()
    for digest in [digest for digest in index._blocks if index.is_readable(digest, now)]:
        at: bytes | None = digest
        while at is not None:
            found.add(at)
            at = index._blocks[at].parent
    return found


def check_tree(found: list[Prefix], limit: int) -> dict[str, Prefix]:
    """What must hold of any answer; by name."""
    named: dict[str, Prefix] = {}
    assert len(found) <= limit
    for prefix in found:
        assert prefix.name not in named
        assert prefix.start < prefix.stop
        assert prefix.left > 0
        if prefix.parent is None:
            assert prefix.start == 0
        else:
            parent = named[prefix.parent]  # which comes before it
            assert prefix.start == parent.stop
            assert prefix.hits <= parent.hits
            assert prefix.age <= parent.age
            assert prefix.left <= parent.left
        named[prefix.name] = prefix
    return named


def path_of(prefix: Prefix, named: dict[str, Prefix]) -> list[Prefix]:
    """It and all that it goes on from, the first first."""
    path = [prefix]
    while (parent := path[0].parent) is not None:
        path.insert(0, named[parent])
    return path


@dataclass
class Known:
    """A block; `written` and `used` are its entry's."""

    born: float
    hits: int = 0
    written: float | None = None
    used: float = 0.0

    @property
    def ends(self) -> float:
        """When its entry is over."""
        return 0.0 if self.written is None else min(self.used + 600, self.written + 3600)


@dataclass
class Naive:
    """Blocks by all the tokens they end; nothing is ever evicted."""

    blocks: dict[Name, Known] = field(default_factory=dict)

    def reach(self, name: Name) -> list[Known]:
        """The block and all that go on from it."""
        owner, values = name
        return [b for (own, tokens), b in self.blocks.items() if own == owner and tokens[: len(values)] == values]

    def ends(self, name: Name) -> float:
        """When the last entry is over."""
        return max((block.ends for block in self.reach(name)), default=0.0)

    def serve(self, owner: str, blocks: tuple[int, ...], read: int, now: float) -> None:
        """`read` tokens are read, then all is written; what nobody needs is forgotten before."""
        self.blocks = {name: block for name, block in self.blocks.items() if self.ends(name) > now}
        values = (*COMMON, *blocks)
        for size in range(1, len(values) + 1):
            block = self.blocks.setdefault((owner, values[:size]), Known(now))
            block.hits += size * STEP <= read  # this block was read
            if size >= 8:
                block.written, block.used = (block.written if block.ends > now else now), now

    def rows(self, now: float) -> Counter[tuple[Row, ...]]:
        """All stretches, each with those it goes on from."""
        found: Counter[tuple[Row, ...]] = Counter()

        def walk(name: Name, before: tuple[Row, ...]) -> None:
            run, below = [name], self.children(name, now)
            hits = self.blocks[name].hits
            while len(below) == 1:
                fewer = self.blocks[below[0]].hits
                if fewer != hits and fewer * 2 <= hits:
                    break
                run.append(below[0])
                below = self.children(below[0], now)
            start, stop = (len(name[1]) - 1) * STEP, len(run[-1][1]) * STEP
            age, left = now - self.blocks[name].born, self.ends(name) - now
            path = (*before, (name[0], start, stop, hits, len(run), age, left))
            found[path] += 1
            for child in below:
                walk(child, path)

        for owner in ("org", "other"):
            if self.ends((owner, COMMON[:1])) > now:
                walk((owner, COMMON[:1]), ())
        return found

    def children(self, name: Name, now: float) -> list[Name]:
        """The blocks right behind it that are needed."""
        owner, values = name
        after = [n for n in self.blocks if n[0] == owner and n[1][:-1] == values]
        return [child for child in after if self.ends(child) > now]


class AgainstNaive(RuleBasedStateMachine):
    """Prompts that share, part, come back and expire, in room for all of them or for few."""

    @initialize(budget=st.sampled_from([12, 10_000, 10_000]))
    def start(self, budget: int) -> None:
        """`exact`: nothing is evicted."""
        self.index, self.naive, self.now = PrefixIndex(budget), Naive(), 0.0
        self.exact = budget > 1000

    @rule(
        blocks=st.lists(st.integers(0, 1), max_size=5).map(tuple),
        organisation=st.sampled_from(["org", "org", "other"]),
        times=st.integers(1, 3),
    )
    def request(self, blocks: tuple[int, ...], organisation: str, times: int) -> None:
        """The same prompt, some times."""
        for _ in range(times):
            self.index.expire(self.now, ALL)
            plan = plan_of(blocks, organisation)
            read = serve(self.index, plan, self.now)
            if plan.blocks:
                self.naive.serve(organisation, blocks, read, self.now)

    @rule(seconds=st.sampled_from([1.0, 200.0, 599.0, 600.0, 3000.0]))
    def wait(self, seconds: float) -> None:
        """Whole seconds, to which the index rounds how long a block is needed."""
        self.now += seconds

    @invariant()
    def is_the_same(self) -> None:
        """All that is cached is told, and nothing else."""
        self.index.expire(self.now, ALL)
        found = shown(self.index, self.now)
        named = check_tree(found, ALL)
        assert sum(prefix.bytes for prefix in found) == len(needed_blocks(self.index, self.now))
        assert sum((prefix.stop - prefix.start) // STEP for prefix in found) == len(needed_blocks(self.index, self.now))
        if self.exact:
            assert sum(prefix.bytes for prefix in found) == self.index.tally().stored_bytes
            got = Counter(
                tuple((p.organisation, p.start, p.stop, p.hits, p.bytes, p.age, p.left) for p in path_of(prefix, named))
                for prefix in found
            )
            assert got == self.naive.rows(self.now)

    @invariant()
    def the_top_comes_first(self) -> None:
        """Of few, those that saved most, with all they go on from; nothing is left out for which there is room."""
        every = check_tree(shown(self.index, self.now), ALL)

        def rank(prefix: Prefix) -> tuple[int, int, str]:
            tokens = prefix.stop - prefix.start
            return -prefix.hits * tokens, -tokens, prefix.name

        for limit in (0, 1, 2, 3, 5):
            chosen = check_tree(shown(self.index, self.now, limit), limit)
            assert chosen.items() <= every.items()
            for left_out in [prefix for name, prefix in every.items() if name not in chosen]:
                better = [prefix for prefix in chosen.values() if rank(prefix) < rank(left_out)]
                needed = {p.name for prefix in (*better, left_out) for p in path_of(prefix, every)}
                assert len(needed) > limit, "there was room for it"


AgainstNaive.TestCase.settings = settings(max_examples=100, stateful_step_count=12, deadline=None)
TestAgainstNaive = AgainstNaive.TestCase


def test_a_person_sees_a_system_prompt_and_its_conversations() -> None:
    """A conversation of many turns is one stretch until half of its readers have stopped, and nothing is told twice."""
    index = PrefixIndex(ALL)
    for conversation in range(3):
        for turn in range(12):
            serve(index, plan_of((1, 1, *(10 + conversation,) * (turn + 1))), 0.0)
    found = shown(index, 0.0)
    system, *rest = spans(found)
    assert system == (0, 9 * STEP, 35)
    assert [span[2] for span in rest if span[0] == 9 * STEP] == [11, 11, 11]
    assert not any(prefix.promised for prefix in found)
    assert len(found) == 1 + 3 * 5, "11 … 6, 5 … 3, 2, 1, 0"
    assert spans(shown(index, 0.0, limit=4)) == [system, *sorted(span for span in rest if span[0] == 9 * STEP)]


def test_hits_stay_when_what_was_read_goes() -> None:
    """Who read a conversation that has expired read its beginning too."""
    index = PrefixIndex(ALL)
    serve(index, plan_of((1, 2)), 0.0)
    serve(index, plan_of((1, 2)), 0.0)
    serve(index, plan_of((1,)), 500.0)
    before = shown(index, 700.0)
    index.expire(700.0)
    assert before == shown(index, 700.0)
    assert spans(before) == [(0, 8 * STEP, 2)]


def test_what_was_cleared_begins_anew() -> None:
    """Though a sequence held its blocks meanwhile, who read it before doesn't count."""
    index, plan = PrefixIndex(ALL), plan_of((1,))
    serve(index, plan, 0.0)
    serve(index, plan, 0.0)
    index.hold(plan, 0, plan.length, 0.0)
    index.purge(lambda _: True)
    assert shown(index, 0.0) == []
    index.write(plan, 0.0)
    assert spans(shown(index, 0.0)) == [(0, 8 * STEP, 0)]


def test_a_name_stays_while_the_prefix_is_cached() -> None:
    """It goes on, and is branched off: what was there is called as before."""
    index = PrefixIndex(ALL)
    serve(index, plan_of((1, 2)), 0.0)
    (first,) = shown(index, 0.0)
    serve(index, plan_of((1, 2, 3)), 0.0)
    assert first.name in {prefix.name for prefix in shown(index, 0.0)}
    serve(index, plan_of((1, 4)), 0.0)
    assert next(p.stop for p in shown(index, 0.0) if p.name == first.name) == 8 * STEP


def test_a_clients_key_is_not_told() -> None:
    """What is told is the hash that `headstart cache list` shows."""
    index = PrefixIndex(ALL)
    plan = plan_of((1,), key="user-4711")
    serve(index, plan, 0.0)
    (prefix,) = shown(index, 0.0)
    assert prefix.key == plan.owner.key
    assert prefix.key
    assert "4711" not in repr(prefix)
    assert (prefix.organisation, prefix.model) == ("org", "m")


def test_breakpoints_end_stretches_within_blocks() -> None:
    """A marked rubric of 1,100 tokens, read by others: its tail hangs from the eight blocks before it."""
    cache = Cache(BreakpointRules(Terms(b"secret")))
    for essay in (3, 4):
        cache.serve(prompt_of([Said("user", 1, 1100, ((1100, "12h"),)), Said("user", essay, 500)]))
    found = shown(cache.index, 0.0)
    check_tree(found, ALL)
    assert sorted((prefix.start, prefix.stop) for prefix in found if prefix.stop <= 1100) == [(0, 1024), (1024, 1100)]
    assert {prefix.promised for prefix in found} == {True}
    assert max(prefix.left for prefix in found if prefix.start) == 12 * 3600


def test_states_that_cannot_be_cut_begin_at_the_first_token() -> None:
    """Each is whole."""
    index, plan = PrefixIndex(ALL), plan_of((1, 2)).in_whole()
    index.write(plan, 0.0)
    index.hit(plan, plan.reads[-1])
    assert sorted(spans(shown(index, 0.0))) == [(0, 8 * STEP, 0), (0, 9 * STEP, 1)]
    assert {prefix.parent for prefix in shown(index, 0.0)} == {None}


def test_the_tier_is_the_slowest_that_is_needed() -> None:
    """Held by a sequence, then in RAM, then on disk alone, and after a restart; promised until its time is up."""
    index = PrefixIndex(100, PromiseBudget(100, 100))
    rules = IntervalRules(Terms(b"secret"))
    plan = rules.plan(Prompt(np.zeros(9 * STEP, np.int32), ()), Namespace("o", "m", "interval", None), CacheOptions())
    told = []

    def note() -> None:
        (prefix,) = shown(index, 10.0)
        told.append((prefix.tier, prefix.bytes, prefix.promised))

    index.hold(plan, 0, plan.length, 0.0)
    note()
    for digest in plan.blocks:
        assert index.store(digest, 5)
    index.release(reversed(plan.blocks))
    note()
    rows = [row for digest in plan.blocks if (row := index.begin_writing(digest))]
    for row in rows:
        index.saved(row.digest, done=True)
    note()
    index._unstore(plan.blocks[-1])
    note()
    assert told == [("context", 9, True), ("ram", 45, True), ("ram", 45, True), ("disk", 41, True)]
    again = PrefixIndex(100, PromiseBudget(100, 100))
    again.restore(rows, 1000.0)
    (prefix,) = shown(again, 1000.0)
    assert (prefix.tier, prefix.age) == ("disk", 1000.0), "a restart makes nothing younger"


@pytest.mark.parametrize("change", ["purge", "clear", "expire", "write"])
def test_what_changes_meanwhile_harms_nothing(monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """In each pause the index changes under the walk."""
    monkeypatch.setattr(prefixes, "AT_ONCE", 3)
    index = PrefixIndex(ALL)
    for conversation in range(5):
        serve(index, plan_of((1, conversation)), 0.0)
    pauses = 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1
        if change == "purge":
            index.purge(lambda _: True)
        elif change == "clear":
            index.clear()
        elif change == "expire":
            index.expire(10_000.0, limit=1)
        else:
            serve(index, plan_of((1, pauses)), 1.0)

    check_tree(index.prefixes(ALL, 0.0, pause), ALL)
    assert pauses > 10


def test_another_thread_may_look_while_the_index_works() -> None:
    """Prompts come and go by the thousand; every look is a tree."""
    index, done, looks = PrefixIndex(300), threading.Event(), 0

    def work() -> None:
        for number in range(1500):
            serve(index, plan_of((number % 3, number % 7, number)), number / 10)
            index.expire(number / 10)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        check_tree(shown(index, 0.0), ALL)
        looks += 1
    thread.join()
    assert looks
    index.check_integrity()
