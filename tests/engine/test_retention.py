"""What is promised is kept: real state on a real disk, through restarts, faults and want of room, on an injected clock.

Every answer is compared with that of an engine that has no cache.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from tests.engine.plain_model import write_plain_model
from tests.engine.test_breakpoints import conversation
from tests.engine.test_embedded import RULES, TOLERANCE, Recording, config, differences, random_tokens, uncached

from headstart.cache.index import PrefixIndex
from headstart.cache.promises import PromiseBudget
from headstart.cache.tree import PROMISED_RAM
from headstart.config import EngineConfig, bytes_of
from headstart.engine import cells, embedded
from headstart.engine.blocks import files
from headstart.engine.blocks.directory import CacheDirectory
from headstart.engine.blocks.files import BlockFiles, path_of
from headstart.engine.embedded import EmbeddedEngine
from headstart.engine.llama import LlamaModel
from headstart.models import fingerprint, prompt_builder
from headstart.types import CacheOptions, CacheReport, Lost, Namespace, Placed, Plan, Prompt, Retention, Sampling

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
MIDNIGHT = 20_000 * DAY
NINE = MIDNIGHT + 9 * HOUR
BLOCK = 2 * 3 * 128 * 2 * 16 * 4
"""Bytes of a block of the plain model, and some hundred less than those of its state."""
STEPS = Sampling(temperature=0, max_tokens=6)
DISK = 64 * 2**20
COLD = config(hot_prefixes=0, hot_cells=0)
"""Nothing stays in the context: what is read comes from RAM or from disk."""


class Answer(NamedTuple):
    """The logits that each token was chosen from, and what the cache gave."""

    rows: list[np.ndarray]
    report: CacheReport


Asked = tuple[Prompt, Plan]
Check = Callable[[EmbeddedEngine, Asked], Awaitable[CacheReport]]


async def answer(engine: EmbeddedEngine, asked: Asked) -> Answer:
    """Serve one request to its end."""
    stream = engine.generate(*asked, STEPS)
    sampler = Recording.made[-1]
    events = [event async for event in stream]
    assert isinstance(events[0], Placed)
    return Answer(sampler.rows, events[0].report)


def interval(tokens: np.ndarray, retention: Retention = "24h", organisation: str = "org") -> Asked:
    """A request to an interval model."""
    prompt = Prompt(tokens.astype(np.int32), ())
    return prompt, RULES.plan(prompt, Namespace(organisation, "m", "interval", None), CacheOptions(retention=retention))


def tokens_of(seed: int, length: int = 2000) -> np.ndarray:
    """Some prompt's tokens."""
    return random_tokens(np.random.default_rng(seed), length)


class Reference:
    """An engine without any cache, and what it answered."""

    def __init__(self, model: LlamaModel, tolerance: float = TOLERANCE) -> None:
        self._engine = EmbeddedEngine(model, config(max_sequences=1, ram_cache=0), PrefixIndex(0))
        self._right: dict[bytes, list[np.ndarray]] = {}
        self._tolerance = tolerance
        self.largest = 0.0

    async def ask(self, engine: EmbeddedEngine, asked: Asked) -> CacheReport:
        """Ask another engine, and compare its answer with the right one: the tokens, and the logits of each."""
        tokens = asked[0].tokens
        rows, report = await answer(engine, asked)
        if tokens.tobytes() not in self._right:
            self._right[tokens.tobytes()], _ = await answer(self._engine, uncached(tokens))
        largest = max(differences(rows, self._right[tokens.tobytes()]))
        self.largest = max(self.largest, largest)
        assert largest < self._tolerance
        return report

    async def close(self) -> None:
        """Close its engine."""
        await self._engine.close()


class Site:
    """A data directory on which engines come and go, and the time there."""

    def __init__(self, path: Path, model: LlamaModel, now: float = NINE) -> None:
        self.path, self.model, self.now = path, model, now
        self.place = b"plain"

    def copy(self, name: str) -> Site:
        """Another one that has come as far."""
        shutil.copytree(self.path, self.path.with_name(name))
        other = Site(self.path.with_name(name), self.model, self.now)
        other.place = self.place
        return other

    @asynccontextmanager
    async def engine(self, settings: EngineConfig = COLD, *, disk: int = DISK) -> AsyncIterator[EmbeddedEngine]:
        """One run of a server: a context, an index and a cache directory of its own."""
        ram = bytes_of(settings.ram_cache)
        index = PrefixIndex(ram, PromiseBudget(disk, int(ram * PROMISED_RAM)))
        tier = CacheDirectory(self.path, clock=lambda: self.now).tier(self.place) if disk else None
        engine = EmbeddedEngine(self.model, settings, index, disk=tier, clock=lambda: self.now)
        try:
            yield engine
        finally:
            await engine.close()
        engine._cells.check_integrity([])

    def file(self, digest: bytes) -> Path:
        """Of a block."""
        directory = CacheDirectory(self.path, clock=lambda: self.now)
        keys = directory._keys
        directory.close()
        return path_of(self.path / "blocks", BlockFiles(self.path / "blocks", keys).name(self.place, digest))

    def blocks(self) -> list[Path]:
        """All blocks' files."""
        return [path for path in (self.path / "blocks").rglob("*") if path.is_file()]


@pytest.fixture
def site(tmp_path: Path, plain: LlamaModel) -> Site:
    """An empty data directory at nine in the morning."""
    return Site(tmp_path / "cache", plain)


@pytest.fixture(autouse=True)
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines make recording samplers."""
    Recording.made.clear()
    monkeypatch.setattr(embedded, "LlamaSampler", Recording)


@pytest.fixture(autouse=True)
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No fault of the disk is an error of the engine."""
    yield
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.fixture(scope="module")
def ask(plain: LlamaModel) -> Iterator[Check]:
    """Ask, and compare the answer with the right one."""
    reference = Reference(plain)
    yield reference.ask
    asyncio.run(reference.close())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What an operator was told since the last call."""
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return told


# ------------------------------------------------------------------------------------------------------- what is kept


@pytest.mark.contract("I10", "I11", "P16", "P17", note="through restarts, on a real disk")
@pytest.mark.parametrize(
    ("life", "restart", "read", "there", "gone"),
    [
        ("24h", 12 * HOUR, 20 * HOUR, DAY + 20 * HOUR - MINUTE, DAY + 20 * HOUR + MINUTE),
        ("12h", 12 * HOUR, 20 * HOUR, DAY + 8 * HOUR - MINUTE, DAY + 8 * HOUR + MINUTE),
        ("30m", 9.1 * HOUR, 9.4 * HOUR, 9.9 * HOUR - MINUTE, 9.9 * HOUR + MINUTE),
    ],
)
async def test_a_promise_is_kept_through_restarts(
    site: Site, ask: Check, life: str, restart: float, read: float, there: float, gone: float
) -> None:
    """Written at 09:00 for 24 hours, restarted at 12:00, read at 20:00: there at the next day's 19:59, gone at 20:01,
    since its life begins anew with every use. So too a breakpoint's 12 hours and 30 minutes."""
    tokens = tokens_of(1)
    asked = interval(tokens) if life == "24h" else conversation(tokens, ttl="12h" if life == "12h" else "30m")
    longest = 1920 if life == "24h" else 2000
    async with site.engine() as engine:
        report = await ask(engine, asked)
        assert (report.read, report.written.tokens, report.refused) == (0, longest, 0)
    site.now = MIDNIGHT + restart
    async with site.engine() as engine:
        site.now = MIDNIGHT + read
        report = await ask(engine, asked)
        assert (report.read, report.from_disk, report.written.tokens) == (longest, longest, 0)
    later = site.copy("later")
    later.now = MIDNIGHT + there
    async with later.engine() as engine:
        assert (await ask(engine, asked)).from_disk == longest
    running = site.copy("running")
    async with running.engine() as engine:
        running.now = MIDNIGHT + gone
        report = await ask(engine, asked)
        assert (report.read, report.lost) == (0, Lost(longest, "expired"))
    site.now = MIDNIGHT + gone
    async with site.engine() as engine:
        assert not site.blocks()
        assert (await ask(engine, asked)).read == 0


async def test_a_use_that_nobody_computed_for_lasts_too(site: Site, ask: Check) -> None:
    """A hit in the context alone, behind which nothing is written, is noted on disk all the same."""
    asked = interval(tokens_of(2))
    async with site.engine(config()) as engine:
        await ask(engine, asked)
        site.now += 20 * HOUR
        assert (await ask(engine, asked)).from_context == 1920
    site.now += 20 * HOUR
    async with site.engine() as engine:
        assert (await ask(engine, asked)).from_disk == 1920


async def test_many_prompts_outlive_many_restarts(site: Site, ask: Check) -> None:
    """Eight on three stems, in a random order, with RAM for two: all that was promised before a restart is read behind
    it."""
    rng = np.random.default_rng(3)
    stems = [tokens_of(30 + number) for number in range(3)]
    prompts = [
        np.concatenate((stems[number % 3][: 1100 + 90 * number], tokens_of(number, 300))) for number in range(12)
    ]
    asked = [interval(tokens) if number % 2 else conversation(tokens) for number, tokens in enumerate(prompts)]
    settings = config(hot_prefixes=1, hot_cells=2048, ram_cache=30 * BLOCK, max_sequences=3)
    refused: set[int] = set()
    for restarts in range(3):
        order = rng.permutation(len(asked))
        async with site.engine(settings) as engine:
            reports = await asyncio.gather(*(ask(engine, asked[number]) for number in order))
        for number, report in zip(order, reports, strict=True):
            longest = asked[number][1].reads[-1]
            if restarts and number not in refused:
                assert report.read == longest, "it was promised"
            refused.discard(number)
            if report.refused:
                refused.add(number)
        site.now += 5 * MINUTE
    assert len(refused) < len(asked) / 2


# ------------------------------------------------------------------------------------------------- faults of the disk


def flip(path: Path, at: float = 0.5) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x10
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """Lose a file's second half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize(("block", "left"), [(3, 0), (10, 1280)])
@pytest.mark.parametrize("damage", [flip, truncate, Path.unlink])
async def test_a_damaged_block_is_computed_again(
    site: Site,
    ask: Check,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    block: int,
    left: int,
    running: bool,
) -> None:
    """A flipped bit, half a file or none, before a start or behind it: what stands before it is read, the rest is
    computed, and written again."""
    asked = interval(tokens_of(4))
    async with site.engine() as engine:
        await ask(engine, asked)
    file = site.file(asked[1].blocks[block])
    if not running:
        damage(file)
    async with site.engine() as engine:
        if running:
            damage(file)
        assert (await ask(engine, asked)).read == left
        assert (await ask(engine, asked)).read == 1920
    assert warnings(caplog)
    async with site.engine() as engine:
        assert (await ask(engine, asked)).from_disk == 1920
    assert not warnings(caplog)


async def test_a_flipped_bit_in_the_catalogue(site: Site, ask: Check, caplog: pytest.LogCaptureFixture) -> None:
    """Wherever it is, the start works and the answer is right; if anything was lost, a line says so."""
    asked = interval(tokens_of(5))
    async with site.engine() as engine:
        await ask(engine, asked)
    random, lost = Random(5), 0
    for number, at in enumerate([0.0, 0.0002, *(random.random() for _ in range(14))]):
        other = site.copy(f"flipped-{number}")
        flip(other.path / "catalogue.db", at)
        warnings(caplog)
        async with other.engine() as engine:
            report = await ask(engine, asked)
        told = warnings(caplog)
        lost += report.read < 1920
        assert report.read == 1920 or told, at
        async with other.engine() as engine:
            assert (await ask(engine, asked)).from_disk == 1920
        assert not warnings(caplog)
    assert lost


async def test_a_directory_that_is_removed_under_a_running_engine(
    site: Site, ask: Check, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on in memory, and the next start has an empty cache."""
    old, new = interval(tokens_of(6)), interval(tokens_of(7))
    async with site.engine() as engine:
        await ask(engine, old)
    async with site.engine() as engine:
        while site.path.exists():  # which may be made anew meanwhile
            shutil.rmtree(site.path, ignore_errors=True)
        assert (await ask(engine, old)).read == 0
        assert (await ask(engine, old)).read == 1920
        assert (await ask(engine, new)).read == 0
        assert (await ask(engine, new)).read == 1920
        site.now += MINUTE
        assert (await ask(engine, new)).read == 1920
    assert any("can't be" in line for line in warnings(caplog))
    async with site.engine() as engine:
        assert (await ask(engine, old)).read in (0, 1920)
        assert (await ask(engine, old)).read == 1920
    async with site.engine() as engine:
        assert (await ask(engine, old)).from_disk == 1920


async def settled(engine: EmbeddedEngine, blocks: int) -> None:
    """Wait until so many blocks are on disk."""
    deadline = time.monotonic() + 10
    while engine.stats().disk_blocks < blocks:
        assert time.monotonic() < deadline
        engine._inbox.put(None)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_full_disk(
    site: Site, ask: Check, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    """What was promised stays in memory, as far as memory is for promises; what is beyond is refused visibly. Once
    there is room, all that was promised is written: soon, or at the latest when the server stops."""
    put = files._put

    def full(descriptor: int, data: memoryview) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    settings = config(hot_prefixes=0, hot_cells=0, ram_cache=50 * BLOCK)
    asked = [interval(tokens_of(80 + number)) for number in range(4)]
    async with site.engine(settings) as engine:
        await ask(engine, asked[0])
        await settled(engine, 15)
        monkeypatch.setattr(files, "_put", full)
        reports = [await ask(engine, each) for each in asked]
        assert [report.refused > 0 for report in reports] == [False, False, False, True]
        assert [(await ask(engine, each)).read for each in asked[:3]] == [1920] * 3
        assert warnings(caplog) == ["The disk cache can't be written: No space left on device. Entries stay in memory."]
        monkeypatch.setattr(files, "_put", put)
        if not stopped:
            site.now += MINUTE
            await settled(engine, 45)
    assert warnings(caplog) == ["The disk cache can be written again."]
    async with site.engine(settings) as engine:
        assert [(await ask(engine, each)).from_disk for each in asked[:3]] == [1920] * 3


@pytest.mark.parametrize("jumps", [[-2 * DAY], [2 * DAY], [-HOUR, HOUR], [3 * DAY, -3 * DAY], [-NINE + 1.0]])
async def test_a_clock_that_was_set_between_runs(site: Site, ask: Check, jumps: list[float]) -> None:
    """Back: no life is longer than a full one from then on. Forward: what is over is a miss."""
    asked = interval(tokens_of(9))
    async with site.engine() as engine:
        await ask(engine, asked)
    over = False
    for jump in jumps:
        site.now += jump
        over |= jump > DAY
        async with site.engine():
            pass
    async with site.engine() as engine:
        assert (await ask(engine, asked)).read == (0 if over else 1920)
    site.now += DAY + 1.0
    async with site.engine() as engine:
        assert (await ask(engine, asked)).read == 0


@pytest.mark.parametrize("jump", [-2 * DAY, 2 * DAY])
async def test_a_clock_that_jumps_under_a_running_engine(site: Site, ask: Check, jump: float) -> None:
    """Nothing breaks, whatever is read."""
    asked = [interval(tokens_of(10)), conversation(tokens_of(11))]
    async with site.engine() as engine:
        for by in (0.0, jump, -jump, jump):
            site.now += by
            for each in asked:
                await ask(engine, each)
                assert (await ask(engine, each)).read == each[1].reads[-1]
    async with site.engine() as engine:
        for each in asked:
            await ask(engine, each)


# ------------------------------------------------------------------------------------------------------- want of room


@pytest.mark.parametrize("disk", [0, DISK])
@pytest.mark.parametrize("blocks", [0, 5, 12])
async def test_memory_for_less_than_a_prompt(site: Site, ask: Check, disk: int, blocks: int) -> None:
    """What memory can't promise is refused and served; what is promised is kept."""
    asked = [interval(tokens_of(12)), conversation(tokens_of(13)), interval(tokens_of(14), "in_memory")]
    settings = config(hot_prefixes=0, hot_cells=0, ram_cache=blocks * (BLOCK + 1024))
    async with site.engine(settings, disk=disk) as engine:
        for each in asked:
            assert bool((await ask(engine, each)).refused) is each[1].asks_promise, "15 blocks are too many"
        reports = [await ask(engine, each) for each in asked]
        assert engine.stats().ram_bytes <= engine.stats().ram_budget
    if disk:
        async with site.engine(settings, disk=disk) as engine:
            for each, before in zip(asked[:2], reports, strict=False):
                assert (await ask(engine, each)).from_disk == before.read + before.written.tokens


async def test_eviction_while_hits_are_brought_back(site: Site, ask: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is slow, a block comes back per step, memory holds one prompt and a half, and others come, come again
    and go meanwhile."""
    kept = [interval(tokens_of(200 + number)) for number in range(4)]
    async with site.engine() as engine:
        for each in kept:
            await ask(engine, each)
    read = BlockFiles.read

    def slow(self: BlockFiles, name: bytes, where: bytes, size: int) -> np.ndarray:
        time.sleep(0.004)
        return read(self, name, where, size)

    monkeypatch.setattr(BlockFiles, "read", slow)
    monkeypatch.setattr(cells, "AT_ONCE", 1)
    settings = config(hot_prefixes=1, hot_cells=1024, ram_cache=24 * BLOCK, max_sequences=3)
    others = [interval(tokens_of(300 + number % 4, 1100), "in_memory") for number in range(8)]
    async with site.engine(settings) as engine:
        both = [each for pair in zip(kept + kept, others, strict=True) for each in pair]
        reports = await asyncio.gather(*(ask(engine, each) for each in both))
        assert [report.read for report in reports[::2]] == [1920] * 8
        assert sum(report.from_disk for report in reports[::2]) >= 4 * 1920
        assert engine.stats().ram_bytes <= engine.stats().ram_budget


# ---------------------------------------------------------------------------------------------------- whose state it is


async def test_another_models_state_is_never_read(tmp_path: Path, ask: Check) -> None:
    """One directory: the model, one of other weights, and the first with other keys and values. Each finds its own."""
    asked = interval(tokens_of(15))
    runs = []
    for seed, kv_type in ((0, "f32"), (1, "f32"), (0, "f16")):
        path = tmp_path / f"{seed}.gguf"
        if not path.exists():
            write_plain_model(path, seed)
        model = LlamaModel(path)
        runs.append((model, kv_type, fingerprint(path, prompt_builder(model), kv_type, tmp_path / "hashes.json")))
    assert len({place for *_, place in runs}) == 3
    for expected in (0, 1920):
        for model, kv_type, place in runs:
            site = Site(tmp_path / "cache", model)
            site.place = place
            settings = config(hot_prefixes=0, hot_cells=0, kv_type=kv_type)
            uncaching = EmbeddedEngine(model, config(kv_type=kv_type, ram_cache=0), PrefixIndex(0))
            async with site.engine(settings) as engine:
                rows, report = await answer(engine, asked)
            reference, _ = await answer(uncaching, uncached(asked[0].tokens))
            await uncaching.close()
            assert max(differences(rows, reference)) < TOLERANCE
            assert (report.read, report.from_disk) == (expected, expected)
    for model, *_ in runs:
        model.close()
