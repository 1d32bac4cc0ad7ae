"""Exact boundaries, lives and namespaces on real llama.cpp."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time

import numpy as np
import pytest
from tests.engine.test_embedded import (
    TOLERANCE,
    TYPICAL,
    Recording,
    config,
    differences,
    make_engine,
    random_tokens,
    read,
    recorded,
    run,
    uncached,
)

from headstart.cache.policy import BreakpointRules, Terms
from headstart.engine import embedded
from headstart.engine.llama import LlamaModel
from headstart.types import (
    CacheOptions,
    CacheReport,
    Ending,
    Event,
    Finished,
    Mark,
    Namespace,
    Placed,
    Plan,
    Prompt,
    Sampling,
    Ttl,
    Written,
)

RULES = BreakpointRules(Terms(b"secret"))
OPENING = np.array([3, 4, 5], np.int32)
HOME = Namespace("org", "m", "breakpoint", None)


def conversation(
    *messages: np.ndarray, marks: tuple[int, ...] = (), namespace: Namespace = HOME, ttl: Ttl = "30m"
) -> tuple[Prompt, Plan]:
    """A prompt of user messages, and its plan."""
    ends = itertools.accumulate(len(message) for message in messages)
    prompt = Prompt(
        np.concatenate([*messages, OPENING]).astype(np.int32),
        (),
        "",
        tuple(Ending("user", end) for end in ends),
        tuple(Mark(mark) for mark in marks),
    )
    return prompt, RULES.plan(prompt, namespace, CacheOptions(ttl=ttl))


def report_of(events: list[Event]) -> CacheReport:
    """What the cache gave."""
    assert isinstance(events[0], Placed)
    return events[0].report


@pytest.mark.contract("B4", "P1")
@pytest.mark.timeout(600)
async def test_conversations_answer_as_without_a_cache(plain: LlamaModel, recording: None) -> None:
    """Sixty conversations on five stems, their turns of any length, several at once, with little room in the context
    and in RAM: every turn's logits and greedy tokens equal a run with the cache off, whatever was read."""
    rng = np.random.default_rng(0)
    block = 2 * 3 * 128 * 2 * 16 * 4
    small = config(max_sequences=4, hot_prefixes=2, hot_cells=3072, ram_cache=block * 120)
    cached, uncaching = make_engine(plain, small), make_engine(plain, config(max_sequences=1, ram_cache=0))
    stems = [random_tokens(rng, 1500) for _ in range(5)]
    limit = asyncio.Semaphore(6)
    answered: list[tuple[Prompt, list[np.ndarray], int]] = []

    async def converse(number: int) -> None:
        cut = 1100 + 77 * (number % 5)
        turns = [np.concatenate((stems[number % 5][:cut], random_tokens(rng, int(rng.integers(1, 200)))))]
        for _ in range(3):
            async with limit:
                prompt, plan = conversation(*turns, marks=(cut,))
                answered.append((prompt, *await recorded(cached, prompt, plan)))
            turns.append(random_tokens(rng, int(rng.integers(1, 150))))

    await asyncio.gather(*map(converse, range(60)))
    found, reads = [], []
    for prompt, rows, tokens_read in answered:
        reference, _ = await recorded(uncaching, *uncached(prompt.tokens))
        found += differences(rows, reference)
        reads.append(tokens_read)
    await cached.close()
    await uncaching.close()
    print(f"largest {max(found):.3f}, median {np.median(found):.4f}; {sum(map(bool, reads))} of {len(reads)} hit")
    assert max(found) < TOLERANCE
    assert np.median(found) < TYPICAL
    assert sum(map(bool, reads)) > len(reads) / 3, "the cache was in use"
    assert any(tokens % 128 for tokens in reads), "at places that end no block"


@pytest.mark.contract("P21")
async def test_what_a_prewarm_wrote_is_read(plain: LlamaModel) -> None:
    """The request behind it computes its own end only."""
    engine = make_engine(plain, config())
    rng = np.random.default_rng(1)
    text = random_tokens(rng, 2001)
    prewarmed = await run(engine, *conversation(text), Sampling(temperature=0, max_tokens=0))
    assert [type(event).__name__ for event in prewarmed] == ["Placed", "Started", "Finished"]
    assert prewarmed[-1] == Finished("stop", 0)
    assert report_of(prewarmed).written == Written(2001)
    report = report_of(await run(engine, *conversation(text, random_tokens(rng, 10))))
    assert (report.read, report.prefilled) == (2001, 13)
    await engine.close()


@pytest.mark.contract("P16", "P17")
@pytest.mark.parametrize(("ttl", "seconds"), [("30m", 1800.0), ("12h", 43_200.0)])
async def test_lives_on_the_injected_clock(plain: LlamaModel, ttl: Ttl, seconds: float) -> None:
    """Reuse refreshes; at its end an entry is gone, and its memory too."""
    now = [0.0]
    engine = make_engine(plain, config(), clock=lambda: now[0])
    asked = conversation(random_tokens(np.random.default_rng(2), 1500), ttl=ttl)
    await run(engine, *asked)
    for moment, expected in ((seconds - 1, 1500), (2 * seconds - 2, 1500), (3 * seconds - 2, 0)):
        now[0] = moment
        assert read(await run(engine, *asked)) == expected
    now[0] += seconds
    await run(engine, *conversation(random_tokens(np.random.default_rng(3), 1100), ttl=ttl))
    while engine.stats().ram_blocks > 9:
        await asyncio.sleep(0.01)
    await engine.close()


@pytest.mark.contract("W2", note="by counts, by the work done and by the time it takes")
async def test_no_namespace_can_probe_another(plain: LlamaModel) -> None:
    """A guess at another's prefix is served as a prompt that nobody ever sent: same counts, same work, same time; also
    while the other is being prefilled, when one of the same namespace would wait for it."""
    engine = make_engine(plain, config(ram_cache="1GiB"))
    rng = np.random.default_rng(4)

    async def seconds(tokens: np.ndarray, namespace: Namespace) -> tuple[CacheReport, float]:
        began = time.perf_counter()
        events = await run(engine, *conversation(tokens, namespace=namespace), Sampling(temperature=0, max_tokens=1))
        return report_of(events), time.perf_counter() - began

    strangers = [HOME._replace(organisation="other"), HOME._replace(model="n"), HOME._replace(key="k")]
    guessed, unheard, warm = [], [], []
    for stranger in strangers * 3:
        secret = random_tokens(rng, 3000)
        await seconds(secret, HOME)
        guess, took = await seconds(secret, stranger)
        fresh, took_fresh = await seconds(random_tokens(rng, 3000), stranger)
        assert guess == fresh == CacheReport(written=Written(3000), prefilled=3003)
        guessed.append(took)
        unheard.append(took_fresh)
        warm.append((await seconds(secret, HOME))[1])
    assert 0.5 < statistics.median(guessed) / statistics.median(unheard) < 2
    assert statistics.median(warm) < 0.5 * statistics.median(guessed)

    text = random_tokens(rng, 1400)
    both = await asyncio.gather(*(run(engine, *conversation(text, namespace=n)) for n in (HOME, *strangers, HOME)))
    assert [report_of(events).waited for events in both] == [False, False, False, False, True]
    await engine.close()


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines make recording samplers."""
    Recording.made.clear()
    monkeypatch.setattr(embedded, "LlamaSampler", Recording)
