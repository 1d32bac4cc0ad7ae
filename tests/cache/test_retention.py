"""Every policy against what any policy must keep to, and each against what it says of itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
from tests.simulate.traces import trace_of

from headstart.cache.density import LeastHitDensity
from headstart.cache.retention import RETENTIONS
from headstart.simulate.replay import hit_rate

Prompt = Sequence[str]


def rate(policy: str, capacity: int, prompts: Sequence[Prompt]) -> float:
    """Share of all blocks that were there."""
    return hit_rate(policy, capacity, trace_of(prompts))


@pytest.mark.parametrize("name", RETENTIONS)
def test_random_operations(name: str) -> None:
    """What is taken was on offer; nothing withheld or forgotten comes; in the end all that is on offer does."""
    rng, policy = random.Random(3), RETENTIONS[name]()
    known: set[bytes] = set()
    offered: set[bytes] = set()
    for number in range(40_000):
        digest = b"%d" % int(rng.paretovariate(0.5)) if rng.random() < 0.9 else b"x%d" % number
        choice = rng.random()
        if choice < 0.5:
            policy.use(digest)
            known.add(digest)
        elif choice < 0.7 and digest in known:
            policy.offer(digest)
            offered.add(digest)
        elif choice < 0.75 and digest in known:
            policy.withhold(digest)
            offered.discard(digest)
        elif choice < 0.9:
            victim = policy.take()
            assert (victim in offered) if offered else victim is None
            if victim is not None:
                offered.discard(victim)
                policy.forget(victim)
                known.discard(victim)
        elif digest in known:
            policy.forget(digest)
            offered.discard(digest)
            known.discard(digest)
    rest = set(iter(policy.take, None))
    assert rest == offered


def test_least_recently_used() -> None:
    """In the order of the last use, whenever it was offered."""
    policy = RETENTIONS["lru"]()
    for digest in (b"a", b"b", b"c", b"a"):
        policy.use(digest)
    for digest in (b"a", b"c", b"b"):
        policy.offer(digest)
    assert [policy.take(), policy.take(), policy.take(), policy.take()] == [b"b", b"c", b"a", None]


def test_least_frequently_used_ages() -> None:
    """Twice beats once; what went raises the rank from which newcomers start; counts outlive a block."""
    policy = RETENTIONS["lfu-da"]()
    for digest in (b"a", b"a", b"b"):
        policy.use(digest)
    policy.offer(b"a")
    policy.offer(b"b")
    assert policy.take() == b"b"
    policy.forget(b"b")
    policy.use(b"c")
    policy.offer(b"c")
    policy.use(b"b")
    policy.offer(b"b")
    assert [policy.take(), policy.take(), policy.take()] == [b"a", b"c", b"b"]


def test_what_is_learned_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of blocks that are gone a fixed number are remembered."""
    monkeypatch.setattr("headstart.cache.density.REMEMBERED", 100)
    policy = LeastHitDensity()
    for number in range(5_000):
        digest = b"%d" % number
        policy.use(digest)
        policy.offer(digest)
        taken = policy.take()
        assert taken is not None
        policy.forget(taken)
    assert len(policy._gone) == len(policy._seen) == sum(map(len, policy._ages)) == 100


def chats(rng: random.Random, count: int) -> Iterator[Prompt]:
    """Conversations that go on after a while, among many that don't."""
    waiting: list[tuple[int, list[str]]] = []
    for number in range(count):
        waiting.sort(key=lambda item: item[0])
        if waiting and waiting[0][0] <= number:
            _, said = waiting.pop(0)
        else:
            said = [f"{number}.{at}" for at in range(rng.randint(2, 30))]
        yield said
        if rng.random() < (0.7 if len(said) < 12 else 0.1):
            waiting.append((number + rng.randint(60, 160), [*said, f"{number}+"]))


def recent(rng: random.Random, count: int) -> Iterator[Prompt]:
    """What was used last is likeliest to be used again, and nothing else can be known: LRU is right."""
    stack: list[Prompt] = []
    for number in range(count):
        depth = int(rng.paretovariate(0.7)) - 1
        if depth >= len(stack) or rng.random() < 0.1:
            prompt: Prompt = [f"{number}.{at}" for at in range(rng.randint(4, 30))]
        else:
            prompt = stack.pop(depth)
        stack.insert(0, prompt)
        yield prompt


def loop(rng: random.Random, count: int) -> Iterator[Prompt]:
    """A little more than fits, over and over: LRU never hits."""
    prompts = [[f"{number}.{at}" for at in range(20)] for number in range(60)]
    for number in range(count):
        yield prompts[number % 60]


def test_density_learns_what_comes_back() -> None:
    """Far more hits than LRU where there is something to learn, none lost where there isn't."""
    for make, at_least in ((chats, 1.3), (recent, 0.97)):
        prompts = list(make(random.Random(1), 4_000))
        assert rate("density", 1_000, prompts) >= at_least * rate("lru", 1_000, prompts), make.__name__
    prompts = list(loop(random.Random(1), 2_000))
    assert rate("lru", 1_000, prompts) == 0
    assert rate("density", 1_000, prompts) > 0.3
