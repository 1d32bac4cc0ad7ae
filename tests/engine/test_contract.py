"""What every engine promises (`engine.base`), on the embedded one with a real model and on the fake one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from headstart.cache.index import PrefixIndex
from headstart.cache.policy import IntervalRules, Terms
from headstart.config import EngineConfig
from headstart.engine.base import Engine
from headstart.engine.embedded import EmbeddedEngine
from headstart.engine.fake import FakeEngine
from headstart.engine.llama import LlamaModel
from headstart.errors import ContextLengthExceeded, EngineFailed, Overloaded
from headstart.types import CacheOptions, Delta, Event, Finished, Namespace, Placed, Plan, Prompt, Sampling, Started

RULES = IntervalRules(Terms(b"secret"))
CONTEXT, CAPACITY = 4096, 3


def embedded(tiny: LlamaModel) -> Engine:
    """llama.cpp."""
    config = EngineConfig(context_cells=CONTEXT, max_sequences=2, max_waiting=CAPACITY - 2)
    return EmbeddedEngine(tiny, config, PrefixIndex(2**26))


def fake(_tiny: LlamaModel) -> Engine:
    """No model; a little slow, so that requests overlap."""
    return FakeEngine(PrefixIndex(2**26), capacity=CAPACITY, context_length=CONTEXT, delay=0.001)


@pytest.fixture(params=[embedded, fake])
async def engine(request: pytest.FixtureRequest, tiny: LlamaModel) -> AsyncIterator[Engine]:
    """One of them."""
    make: Callable[[LlamaModel], Engine] = request.param
    engine = make(tiny)
    yield engine
    await engine.close()


def planned(length: int, seed: int = 0) -> tuple[Prompt, Plan]:
    """A prompt of random tokens."""
    prompt = Prompt(np.random.default_rng(seed).integers(0, 300, length, np.int32), ())
    return prompt, RULES.plan(prompt, Namespace("org", "m", "interval", None), CacheOptions())


async def run(engine: Engine, length: int, sampling: Sampling, seed: int = 0) -> list[Event]:
    """All events."""
    return [event async for event in engine.generate(*planned(length, seed), sampling)]


async def test_events_come_in_order(engine: Engine) -> None:
    """Placed and Started once, deltas, Finished once."""
    events = await run(engine, 20, Sampling(max_tokens=5))
    assert [type(event) for event in (*events[:2], events[-1])] == [Placed, Started, Finished]
    assert {type(event) for event in events[2:-1]} <= {Delta}


@pytest.mark.parametrize("limit", [1, 2, 7])
async def test_a_limit_is_kept_and_counted(engine: Engine, limit: int) -> None:
    """`length` at the limit; an answer that ends before says `stop`."""
    *_, finished = await run(engine, 20, Sampling(max_tokens=limit, temperature=0))
    assert isinstance(finished, Finished)
    assert finished.output_tokens <= limit
    assert finished.reason == "stop" or finished.output_tokens == limit


@pytest.mark.contract("I3", "I4")
async def test_the_second_time_it_reads_the_longest_boundary(engine: Engine) -> None:
    """docs/contract.md, interval models: a multiple of 128 that is at least 1,024; the rest is computed."""
    reports = []
    for _ in range(2):
        started = (await run(engine, 1500, Sampling(max_tokens=2)))[1]
        assert isinstance(started, Started)
        reports.append(started.report)
    assert [report.read for report in reports] == [0, 1408]
    assert reports[0].prefilled == 1500
    assert reports[1].prefilled <= 1500 - 1408


async def test_the_end_says_how_long_it_computed(engine: Engine) -> None:
    """This request's share of the engine's time, in seconds; nothing read has saved nothing."""
    *_, finished = await run(engine, 1500, Sampling(max_tokens=5, temperature=0))
    assert isinstance(finished, Finished)
    assert 0.0 < finished.seconds < 60.0
    assert finished.saved_seconds == 0.0


@pytest.mark.contract("B2")
async def test_short_prompts_are_never_cached(engine: Engine) -> None:
    """docs/contract.md, both generations: nothing under 1,024 tokens is read or written."""
    for _ in range(2):
        started = (await run(engine, 1023, Sampling(max_tokens=2)))[1]
        assert isinstance(started, Started)
        assert started.report.read == 0


async def test_a_stop_string_ends_the_answer_before_it(engine: Engine) -> None:
    """Nothing from it on is said."""

    async def text(stop: tuple[str, ...]) -> str:
        events = await run(engine, 20, Sampling(max_tokens=12, temperature=0, stop=stop))
        return "".join(event.text for event in events if isinstance(event, Delta))

    whole = await text(())
    middle = whole[len(whole) // 2 : len(whole) // 2 + 2]
    assert await text((middle,)) == whole[: whole.index(middle)]


async def test_one_too_many_is_refused_at_the_call(engine: Engine) -> None:
    """Before anything is answered; closing one makes room."""
    streams = [engine.generate(*planned(50, seed), Sampling(max_tokens=2000)) for seed in range(CAPACITY)]
    with pytest.raises(Overloaded):
        engine.generate(*planned(50), Sampling())
    await streams[0].aclose()  # type: ignore[attr-defined]
    assert (await run(engine, 50, Sampling(max_tokens=2)))[-1]
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]


async def test_a_prompt_that_leaves_no_room_is_refused_at_the_call(engine: Engine) -> None:
    """One output token must fit."""
    with pytest.raises(ContextLengthExceeded):
        engine.generate(*planned(CONTEXT), Sampling())


async def test_closing_the_engine_ends_open_streams_with_an_error(engine: Engine) -> None:
    """None hangs."""
    stream = engine.generate(*planned(50), Sampling(max_tokens=3000, logit_bias=((506, -100.0),)))
    await anext(stream)
    await engine.close()
    with pytest.raises(EngineFailed):
        await asyncio.wait_for(_drain(stream), 10)


async def test_what_is_cached_can_be_looked_at(engine: Engine) -> None:
    """A prefix that two prompts share is read by the second, and by one that comes again; each reads once."""
    assert await engine.prefixes(10) == []
    shared = np.random.default_rng(0).integers(0, 300, 1280, np.int32)
    for seed in (1, 2, 2):
        own = np.random.default_rng(seed).integers(0, 300, 300, np.int32)
        prompt = Prompt(np.concatenate([shared, own]), ())
        plan = RULES.plan(prompt, Namespace("org", "m", "interval", "secret-key"), CacheOptions())
        assert [event async for event in engine.generate(prompt, plan, Sampling(max_tokens=2))]
    for limit, count in ((20, 3), (2, 2), (0, 0)):
        found = await engine.prefixes(limit)
        assert len(found) == count
        assert all(prefix.key == plan.owner.key != "secret-key" for prefix in found)
        if limit == 20:
            assert sorted((p.start, p.stop, p.hits) for p in found) == [(0, 1280, 2), (1280, 1536, 0), (1280, 1536, 1)]
            assert {prefix.parent for prefix in found} == {None, found[0].name}
            assert sum(prefix.bytes for prefix in found) > 0


async def test_entries_that_went_are_counted(tiny: LlamaModel) -> None:
    """Here for want of room in RAM."""
    engine = FakeEngine(PrefixIndex(12))
    for seed in range(2):
        await run(engine, 1408, Sampling(max_tokens=1), seed)
    stats = engine.stats()
    assert stats.entries_evicted > 0
    assert stats.entries_expired == stats.entries_lost == stats.entries_cleared == 0
    await engine.close()


async def _drain(stream: AsyncIterator[Event]) -> None:
    async for _ in stream:
        pass
