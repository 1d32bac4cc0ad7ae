"""Models whose memory is more than keys and values of every token, through the whole engine: context, RAM and disk.

A recurrent model's state and a hybrid's are kept whole at boundaries, a sliding window's is cut into blocks. Whatever
is read, every answer is that of an engine without a cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.engine.test_breakpoints import conversation
from tests.engine.test_embedded import Recording, config, random_tokens, uncached
from tests.engine.test_retention import HOUR, Asked, Reference, Site, answer, interval, tokens_of
from tests.engine.tiny_models import WRITERS

from headstart.cache.index import PrefixIndex
from headstart.engine import embedded
from headstart.engine.embedded import EmbeddedEngine
from headstart.engine.llama import LlamaModel
from headstart.types import CacheReport

TOLERANCES = {"recurrent": 0.01, "hybrid": 0.05, "sliding": 0.5}
"""Largest difference of logits, of which another block in the prefix moves one by more than ten times, or twice. What
there is comes from flash attention (`test_embedded.TOLERANCE`): without any, a recurrent model has next to none."""
SMALL = config(context_cells=6144)
COLD = config(context_cells=6144, hot_prefixes=0, hot_cells=0)


class Kind:
    """A model, an engine of it without a cache, and a data directory."""

    def __init__(self, path: Path, name: str) -> None:
        WRITERS[name](path / "model.gguf")
        self.name, self.model = name, LlamaModel(path / "model.gguf")
        self.reference = Reference(self.model, TOLERANCES[name])

    def close(self) -> None:
        """Free all of it."""
        asyncio.run(self.reference.close())
        self.model.close()


@pytest.fixture(scope="module", params=sorted(WRITERS))
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    """One after another."""
    kind = Kind(tmp_path_factory.mktemp("kind"), request.param)
    yield kind
    kind.close()


@pytest.fixture
def site(kind: Kind, tmp_path: Path) -> Site:
    """An empty data directory."""
    return Site(tmp_path / "cache", kind.model)


@pytest.fixture(autouse=True)
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines make recording samplers."""
    Recording.made.clear()
    monkeypatch.setattr(embedded, "LlamaSampler", Recording)


async def test_a_block_anywhere_in_a_prefix_is_noticed(kind: Kind) -> None:
    """Else the comparisons below would show nothing."""
    tokens = tokens_of(1, 1300)
    engine = EmbeddedEngine(kind.model, SMALL, PrefixIndex(0))
    (right, *_), _ = await answer(engine, uncached(tokens))
    moved = []
    for block in range(10):
        other = tokens.copy()
        other[block * 128 : block * 128 + 128] = tokens_of(2 + block, 128)
        (wrong, *_), _ = await answer(engine, uncached(other))
        moved.append(float(np.abs(wrong - right).max()))
    await engine.close()
    assert min(moved) > 2 * TOLERANCES[kind.name]


@pytest.mark.contract("B4", "P1", note="on models whose state can't be cut, and with a sliding window")
@pytest.mark.parametrize("generation", ["interval", "breakpoint"])
async def test_conversations_answer_as_without_a_cache(kind: Kind, site: Site, generation: str) -> None:
    """Six conversations of three turns on three stems, four at once, with little room in the context and RAM for some;
    then all of their last turns again behind a restart."""
    rng = np.random.default_rng(3)
    stems = [random_tokens(rng, 1500) for _ in range(3)]
    limit = asyncio.Semaphore(4)
    reports: list[CacheReport] = []

    def asked(turns: list[np.ndarray], cut: int) -> Asked:
        return conversation(*turns, marks=(cut,)) if generation == "breakpoint" else interval(np.concatenate(turns))

    async def converse(engine: EmbeddedEngine, number: int) -> Asked:
        cut = 1100 + 77 * (number % 3)
        turns = [np.concatenate((stems[number % 3][:cut], random_tokens(rng, int(rng.integers(1, 200)))))]
        for _ in range(3):
            async with limit:
                reports.append(await kind.reference.ask(engine, asked(turns, cut)))
            turns.append(random_tokens(rng, int(rng.integers(1, 150))))
        return asked(turns[:-1], cut)

    settings = config(context_cells=6144, max_sequences=3, hot_prefixes=2, hot_cells=3072, ram_cache="6MiB")
    async with site.engine(settings) as engine:
        last = await asyncio.gather(*(converse(engine, number) for number in range(6)))
        assert engine.stats().ram_bytes <= engine.stats().ram_budget
    hits = sum(report.read > 0 for report in reports)
    site.now += HOUR / 4
    async with site.engine(settings) as engine:
        again = await asyncio.gather(*(kind.reference.ask(engine, each) for each in last))
    print(f"{kind.name} {generation}: {hits} of 18 hit, then {[report.from_disk for report in again]}", end="; ")
    print(f"largest {kind.reference.largest:.5f}, refused {sum(report.refused > 0 for report in reports)}")
    assert hits > 9
    assert sum(report.from_disk > 0 for report in again) > 3
    assert generation == "interval" or any(report.read % 128 for report in reports)


@pytest.mark.parametrize("generation", ["interval", "breakpoint"])
async def test_a_promise_outlives_restarts(kind: Kind, site: Site, generation: str) -> None:
    """Written, read from disk behind a restart, gone when its time is up."""
    asked = interval(tokens_of(20)) if generation == "interval" else conversation(tokens_of(20), ttl="12h")
    longest, life = (1920, 24 * HOUR) if generation == "interval" else (2000, 12 * HOUR)
    async with site.engine(COLD) as engine:
        report = await kind.reference.ask(engine, asked)
        assert (report.read, report.written.tokens, report.refused) == (0, longest, 0)
    for later, read in ((3 * HOUR, longest), (life - 1.0, longest), (life, 0)):
        site.now += later
        async with site.engine(COLD) as engine:
            report = await kind.reference.ask(engine, asked)
            assert (report.read, report.from_disk) == (read, read)


async def test_of_two_equal_requests_the_second_reads_what_the_first_wrote(kind: Kind, site: Site) -> None:
    """It waits; so does one that is only as long as a boundary of the first."""
    tokens = tokens_of(21)
    async with site.engine(COLD) as engine:
        for asked, longest in ((interval(tokens), 1920), (conversation(tokens), 2000)):
            before = engine.stats().tokens_prefilled
            reports = await asyncio.gather(*(kind.reference.ask(engine, asked) for _ in range(2)))
            assert sorted((report.waited, report.read) for report in reports) == [(False, 0), (True, longest)]
            assert engine.stats().tokens_prefilled - before < 2000 + 256


async def test_memory_for_less_than_a_prompt(kind: Kind, site: Site) -> None:
    """What can't be kept is refused, and served all the same."""
    settings = config(context_cells=6144, hot_prefixes=0, hot_cells=0, ram_cache="100KiB")
    async with site.engine(settings) as engine:
        for asked in (interval(tokens_of(22)), conversation(tokens_of(23))) * 2:
            report = await kind.reference.ask(engine, asked)
            assert report.read + report.refused + report.written.tokens >= 1920
        assert engine.stats().ram_bytes <= 100 * 1024
