"""The engine as a whole, on real llama.cpp: what is reused is what would have been computed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import numpy as np
import pytest

from headstart.cache.index import PrefixIndex
from headstart.cache.policy import IntervalRules, Terms
from headstart.config import EngineConfig, bytes_of
from headstart.engine import embedded
from headstart.engine.embedded import EmbeddedEngine
from headstart.engine.llama import LlamaModel, LlamaSampler
from headstart.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, Overloaded
from headstart.types import CacheOptions, Delta, Event, Finished, Namespace, Placed, Plan, Prompt, Sampling

RULES = IntervalRules(Terms(b"secret", retention="in_memory"))
GREEDY = Sampling(temperature=0, max_tokens=4)
TOLERANCE, TYPICAL = 0.5, 0.03
"""Largest and median difference of logits, whose standard deviation is 3. llama.cpp's flash attention rounds keys and
values to f16, and sums chunks of under 64 tokens in f16 too: without any cache, cutting a prompt elsewhere changes the
logits as much. Another block in its prefix moves one by more than 1 (`test_the_model_notices_any_block_of_a_prefix`).
"""


@pytest.fixture
def model(plain: LlamaModel) -> LlamaModel:
    """Shared by the engines of all tests, one after another."""
    return plain


def config(**options: Any) -> EngineConfig:
    """Small, in F32."""
    defaults: dict[str, Any] = {"context_cells": 8192, "kv_type": "f32", "ram_cache": "64MiB", "threads": 2}
    return EngineConfig(**{**defaults, **options})


@pytest.fixture
async def engine(model: LlamaModel) -> AsyncIterator[EmbeddedEngine]:
    """An engine with the defaults of `config`."""
    engine = make_engine(model, config())
    yield engine
    await engine.close()


def make_engine(model: LlamaModel, config: EngineConfig, **options: Any) -> EmbeddedEngine:
    """With an index of its own."""
    return EmbeddedEngine(model, config, PrefixIndex(bytes_of(config.ram_cache)), **options)


def planned(tokens: np.ndarray, organisation: str = "org") -> tuple[Prompt, Plan]:
    """A prompt and its plan."""
    prompt = Prompt(tokens.astype(np.int32), ())
    return prompt, RULES.plan(prompt, Namespace(organisation, "m", "interval", None), CacheOptions())


def uncached(tokens: np.ndarray) -> tuple[Prompt, Plan]:
    """The same prompt with nothing to look up and nothing to write."""
    prompt, plan = planned(tokens)
    return prompt, plan._replace(blocks=(), reads=(), writes=())


async def run(engine: EmbeddedEngine, prompt: Prompt, plan: Plan, sampling: Sampling = GREEDY) -> list[Event]:
    """All events of one request."""
    return [event async for event in engine.generate(prompt, plan, sampling)]


def read(events: list[Event]) -> int:
    """The tokens read from the cache."""
    assert isinstance(events[0], Placed)
    return events[0].report.read


def random_tokens(rng: np.random.Generator, length: int) -> np.ndarray:
    """Ordinary tokens."""
    return rng.integers(0, 400, length, np.int32)


class Recording(LlamaSampler):
    """Remembers every row of logits it chose from; `rows` is of the sampler made last."""

    made: ClassVar[list[Recording]] = []

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.rows: list[np.ndarray] = []
        Recording.made.append(self)

    def choose(self, logits: np.ndarray) -> int:
        self.rows.append(logits.copy())
        return super().choose(logits)


async def recorded(engine: EmbeddedEngine, prompt: Prompt, plan: Plan) -> tuple[list[np.ndarray], int]:
    """Logits of every step, and the tokens read."""
    stream = engine.generate(prompt, plan, GREEDY)
    sampler = Recording.made[-1]
    events = [event async for event in stream]
    return sampler.rows, read(events)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines make recording samplers."""
    Recording.made.clear()
    monkeypatch.setattr(embedded, "LlamaSampler", Recording)


async def test_the_model_notices_any_block_of_a_prefix(engine: EmbeddedEngine, recording: None) -> None:
    """Else the comparisons below would prove nothing."""
    rng = np.random.default_rng(5)
    tokens = random_tokens(rng, 1300)
    (right, *_), _ = await recorded(engine, *uncached(tokens))
    for block in range(10):
        other = tokens.copy()
        other[block * 128 : block * 128 + 128] = random_tokens(rng, 128)
        (wrong, *_), _ = await recorded(engine, *uncached(other))
        assert np.abs(wrong - right).max() > 2 * TOLERANCE


def differences(ours: list[np.ndarray], reference: list[np.ndarray]) -> list[float]:
    """The largest difference of logits at every step. The tokens agree, unless the two largest logits are as good as
    equal: from there on the answers part, and are compared no further."""
    largest = []
    for mine, right in zip(ours, reference, strict=False):
        largest.append(float(np.abs(mine - right).max()))
        if mine.argmax() != right.argmax():
            second, first = np.sort(right)[-2:]
            assert first - second < 2 * largest[-1]
            return largest
    assert len(ours) == len(reference)
    return largest


@pytest.mark.contract("B4", "I4")
@pytest.mark.timeout(600)
async def test_200_pairs_answer_as_without_a_cache(model: LlamaModel, recording: None) -> None:
    """Random shared prefixes and suffixes, random interleaving, few hot prefixes and little RAM, so that entries are
    shared, evicted and brought back all the time: logits and greedy tokens equal a run with the cache off."""
    rng = np.random.default_rng(0)
    block = 2 * 3 * 128 * 2 * 16 * 4
    small = config(max_sequences=4, hot_prefixes=2, hot_cells=3072, ram_cache=block * 30)
    cached, plain = make_engine(model, small), make_engine(model, config(max_sequences=1, ram_cache=0))
    stems = [random_tokens(rng, 1600) for _ in range(6)]
    prompts = []
    for _ in range(200):
        prefix = stems[rng.integers(len(stems))][: rng.integers(1024, 1600)]
        prompts += [np.concatenate([prefix, random_tokens(rng, rng.integers(1, 200))]) for _ in range(2)]

    limit = asyncio.Semaphore(6)

    async def at_some_time(tokens: np.ndarray) -> tuple[list[np.ndarray], int]:
        async with limit:
            return await recorded(cached, *planned(tokens))

    results = await asyncio.gather(*map(at_some_time, prompts))
    found, parted, reads = [], 0, 0
    for tokens, (rows, tokens_read) in zip(prompts, results, strict=True):
        reference, _ = await recorded(plain, *uncached(tokens))
        found.append(differences(rows, reference))
        parted += len(found[-1]) < len(reference)
        reads += tokens_read > 0
        assert tokens_read % 128 == 0
        assert tokens_read == 0 or 1024 <= tokens_read <= len(tokens)
    stats = cached.stats()
    await cached.close()
    await plain.close()
    steps = [difference for answer in found for difference in answer]
    print(f"largest {max(steps):.3f}, median {np.median(steps):.4f}, parted at a tie: {parted} of {len(prompts)}")
    assert max(steps) < TOLERANCE
    assert np.median(steps) < TYPICAL
    assert parted < 0.05 * len(prompts), "ties are rare"
    assert reads > len(prompts) // 2, "the cache was in use"
    assert stats.ram_bytes <= stats.ram_budget


@pytest.mark.contract("W3")
async def test_a_warm_prompt_computes_its_suffix_only(engine: EmbeddedEngine) -> None:
    """Counted in the engine, not only reported."""
    rng = np.random.default_rng(1)
    prefix = random_tokens(rng, 2000)
    assert read(await run(engine, *planned(np.concatenate([prefix, random_tokens(rng, 10)])))) == 0
    before = engine.stats().tokens_prefilled
    assert read(await run(engine, *planned(np.concatenate([prefix, random_tokens(rng, 10)])))) == 1920
    assert engine.stats().tokens_prefilled - before == 10


async def test_a_burst_prefills_its_prefix_once(engine: EmbeddedEngine) -> None:
    """Eight at once on a cold prefix of 4,608 tokens."""
    rng = np.random.default_rng(2)
    prefix = random_tokens(rng, 4608)
    prompts = [planned(np.concatenate([prefix, random_tokens(rng, 20)])) for _ in range(8)]
    results = await asyncio.gather(*(run(engine, *prompt) for prompt in prompts))
    assert sorted(map(read, results)) == [0] + [4608] * 7
    assert engine.stats().tokens_prefilled <= 4608 + 8 * (20 + 128)


@pytest.mark.contract("W2")
async def test_another_organisation_shares_nothing(engine: EmbeddedEngine) -> None:
    """docs/contract.md: nothing is ever shared across namespaces."""
    tokens = random_tokens(np.random.default_rng(3), 1500)
    await run(engine, *planned(tokens))
    assert read(await run(engine, *planned(tokens, "other"))) == 0
    assert read(await run(engine, *planned(tokens))) == 1408


@pytest.mark.contract("I6")
async def test_entries_expire_on_the_injected_clock(model: LlamaModel) -> None:
    """Ten idle minutes, and the prefix is computed again."""
    now = [0.0]
    engine = make_engine(model, config(), clock=lambda: now[0])
    tokens = random_tokens(np.random.default_rng(4), 1500)
    await run(engine, *planned(tokens))
    now[0] = 599.0
    assert read(await run(engine, *planned(tokens))) == 1408
    now[0] = 599.0 + 600.0
    assert read(await run(engine, *planned(tokens))) == 0
    await engine.close()


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_goes_away_frees_its_place(model: LlamaModel, begun: bool) -> None:
    """By closing the stream, before or after its first event."""
    engine = make_engine(model, config(max_sequences=1, max_waiting=0))
    tokens = random_tokens(np.random.default_rng(6), 3000)
    stream = engine.generate(*planned(tokens), Sampling(max_tokens=1000, logit_bias=((506, -100.0),)))
    if begun:
        assert isinstance(await anext(stream), Placed)
    await stream.aclose()
    assert isinstance((await run(engine, *planned(tokens)))[-1], Finished)
    await engine.close()


async def test_a_stream_that_is_dropped_is_cancelled(model: LlamaModel) -> None:
    """Nobody holds it any more: it must not run to its end."""
    engine = make_engine(model, config(max_sequences=1, max_waiting=0))
    banned = tuple((token, -100.0) for token in range(500, 512))  # so that it would not end by itself
    sampling = Sampling(max_tokens=5000, logit_bias=banned)
    stream = engine.generate(*planned(random_tokens(np.random.default_rng(6), 300)), sampling)
    assert isinstance(await anext(stream), Placed)
    del stream
    decoded = engine.stats().tokens_decoded
    for _ in range(200):
        if engine.stats().running == engine.stats().waiting == 0:
            break
        await asyncio.sleep(0.01)
    assert engine.stats().running == engine.stats().waiting == 0
    assert engine.stats().tokens_decoded - decoded < 4000
    await run(engine, *planned(np.arange(10)))
    await engine.close()


async def test_an_empty_prompt_is_refused_and_harms_no_one(engine: EmbeddedEngine) -> None:
    """A template may render nothing."""
    with pytest.raises(InvalidRequest, match="empty"):
        engine.generate(*planned(np.zeros(0)), GREEDY)


async def test_if_writing_to_ram_fails_the_next_request_is_served(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's thread survives whatever happens behind an answer."""
    tokens = random_tokens(np.random.default_rng(9), 1500)
    save = engine._context.save
    monkeypatch.setattr(engine._context, "save", lambda *_: 1 / 0)
    await run(engine, *planned(tokens))
    await asyncio.sleep(0.1)
    monkeypatch.setattr(engine._context, "save", save)
    assert isinstance((await run(engine, *planned(tokens)))[-1], Finished)
    assert read(await run(engine, *planned(tokens))) == 1408


async def test_one_more_than_may_wait_is_refused_with_a_time(model: LlamaModel) -> None:
    """429 with Retry-After; those who wait are served."""
    engine = make_engine(model, config(max_sequences=1, max_waiting=2))
    prompts = [planned(random_tokens(np.random.default_rng(seed), 300)) for seed in range(4)]
    streams = [engine.generate(*prompt, GREEDY) for prompt in prompts[:3]]
    with pytest.raises(Overloaded) as caught:
        engine.generate(*prompts[3], GREEDY)
    assert 1 <= caught.value.retry_after <= 60
    for stream in streams:
        assert isinstance([event async for event in stream][-1], Finished)
    await run(engine, *prompts[3])
    await engine.close()


async def test_a_prompt_longer_than_the_context_is_refused(engine: EmbeddedEngine) -> None:
    """400 that gives both numbers; one token less is served and leaves room for one."""
    with pytest.raises(ContextLengthExceeded, match=r"8192 tokens.*resulted in 8192"):
        engine.generate(*planned(np.zeros(8192)), GREEDY)
    events = await run(engine, *planned(random_tokens(np.random.default_rng(0), 8191)))
    assert isinstance(events[-1], Finished)
    assert events[-1].output_tokens == 1


async def test_a_bias_on_no_token_is_refused(engine: EmbeddedEngine) -> None:
    """The vocabulary has 512 tokens."""
    with pytest.raises(InvalidRequest, match="logit_bias"):
        engine.generate(*planned(np.zeros(5)), Sampling(logit_bias=((100_000, 1.0),)))


async def test_when_computing_fails_the_next_request_is_served(
    engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that ran ends with an error, and nothing of it is believed."""
    tokens = random_tokens(np.random.default_rng(8), 1500)
    await run(engine, *planned(tokens))
    decode = engine._context.decode
    monkeypatch.setattr(engine._context, "decode", lambda _count: -3)
    with pytest.raises(EngineFailed):
        await run(engine, *planned(tokens))
    monkeypatch.setattr(engine._context, "decode", decode)
    assert read(await run(engine, *planned(tokens))) == 0
    assert read(await run(engine, *planned(tokens))) == 1408


async def test_closing_ends_what_runs_with_an_error(model: LlamaModel) -> None:
    """None hangs."""
    engine = make_engine(model, config(max_sequences=1))
    streams = [
        engine.generate(*planned(random_tokens(np.random.default_rng(seed), 3000)), Sampling(max_tokens=4000))
        for seed in range(3)
    ]
    await engine.close()
    for stream in streams:
        with pytest.raises(EngineFailed):
            _ = [event async for event in stream]
    await engine.close()


async def test_log_probabilities_are_a_distribution(engine: EmbeddedEngine) -> None:
    """Every token with its rivals, likeliest first; the greedy token is the first of them."""
    events = await run(engine, *planned(np.arange(20)), Sampling(temperature=0, max_tokens=5, logprobs=20))
    entries = [entry for event in events if isinstance(event, Delta) for entry in event.logprobs]
    assert entries
    for entry in entries:
        values = [rival.logprob for rival in entry.top]
        assert values == sorted(values, reverse=True)
        assert entry.logprob == values[0] <= 0
        assert sum(np.exp(values)) <= 1.0001
