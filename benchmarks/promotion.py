"""A prompt's blocks brought back into a context that others hold a quarter of, from RAM and from disk.

    python -m benchmarks.promotion [--rounds 9] [--json FILE]

Of the demo model, 36 blocks of 0.53 MB into 32 k cells; of a shape with 128 KB of keys and values per token, as an
8 B model has, 8 blocks of 17 MB into 16 k cells.
From RAM against a memcpy of the same blocks, one by one, into memory that is there already, as cells are. From disk
(loaded, decrypted, checked and restored) against reading the same bytes from plain files: once from the page cache,
once from the device. Both sides of that get their memory from the system, which may cost more than all the rest.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from benchmarks.figure import Figure, run
from benchmarks.serving import DATA, demo_model
from headstart.engine.blocks.directory import CacheDirectory
from headstart.engine.demo_model import DEMO, DemoShape
from headstart.engine.llama import LlamaContext, LlamaModel
from headstart.types import BLOCK_TOKENS, Lifetime, Namespace, StoredBlock

WIDE = DemoShape("wide", 1024, 32, 8, 8, 128, 16_384, vocabulary=512, quantised=True, stops=0)
"""128 KB per token: 32 layers of 8 heads of 128, in f16."""
CACHE = 96 << 20
"""Bytes of blocks that come between two uses of one: more than processors keep."""
BATCH = 512

Bytes = npt.NDArray[np.uint8]


@contextmanager
def context_of(shape: DemoShape, cells: int) -> Iterator[LlamaContext]:
    """A context on a model of this shape."""
    model = LlamaModel(demo_model(shape))
    context = LlamaContext(model, cells=cells, batch=BATCH, sequences=8, threads=2)
    try:
        yield context
    finally:
        context.close()
        model.close()


def blocks_of(context: LlamaContext, cells: int, count: int) -> list[Bytes]:
    """A prompt's blocks; others hold a quarter of the cells."""
    tokens = np.random.default_rng(0).integers(0, 256, count * BLOCK_TOKENS, np.int32)
    for start in range(0, len(tokens), BATCH):
        context.tokens[:BATCH] = tokens[start : start + BATCH]
        context.positions[:BATCH] = np.arange(start, start + BATCH)
        context.sequences[:BATCH], context.outputs[:BATCH] = 0, 0
        assert context.decode(BATCH) == 0
    blocks = [context.save(0, at * BLOCK_TOKENS, (at + 1) * BLOCK_TOKENS) for at in range(count)]
    context.keep(0, 0)
    for other in range(1, 1 + cells // 4 // len(tokens)):
        assert context.restore(other, blocks, 0, len(tokens))
    return blocks


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def copy(blocks: Sequence[Bytes], targets: Sequence[Bytes]) -> None:
    """The plain memcpy."""
    for block, target in zip(blocks, targets, strict=True):
        np.copyto(target, block)


def read(paths: Sequence[Path]) -> list[bytes]:
    """The plain file read."""
    return [path.read_bytes() for path in paths]


def drop(folder: Path) -> None:
    """Have the files below a folder read from the device next time."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def from_ram(shape: DemoShape, cells: int, blocks: int, rounds: int) -> Figure:
    """Restoring a prompt against copying its blocks."""
    stop = blocks * BLOCK_TOKENS
    with context_of(shape, cells) as context:
        prompt = blocks_of(context, cells, blocks)
        copies = [[block.copy() for block in prompt] for _ in range(1 + CACHE // sum(map(len, prompt)))]
        targets = [np.ones_like(block) for block in prompt]
        pairs = []
        for number in range(rounds * len(copies)):
            these = copies[number % len(copies)]
            plain = seconds(partial(copy, these, targets))
            pairs.append((plain, seconds(partial(context.restore, 0, these, 0, stop))))
            check(context, prompt)
    return compared("promotion from RAM / memcpy", prompt, pairs, 0.5)


def from_disk(shape: DemoShape, cells: int, blocks: int, rounds: int) -> list[Figure]:
    """Fetching and restoring a prompt against reading its blocks."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headstart-promotion-", dir=DATA)))
        context = stack.enter_context(context_of(shape, cells))
        prompt = blocks_of(context, cells, blocks)
        plain = [folder / f"plain-{number}" for number in range(blocks)]
        for path, block in zip(plain, prompt, strict=True):
            path.write_bytes(block.data)
        directory = CacheDirectory(folder / "cache")
        stack.callback(directory.close)
        loaded = threading.Event()
        tier = directory.tier(b"a model", loaded.set)
        life, owner = Lifetime(86_400.0), Namespace("default", "demo", "interval", None)
        for number, block in enumerate(prompt):
            digest, parent = (number + 1).to_bytes(16), number.to_bytes(16) if number else None
            stored = StoredBlock(digest, parent, (number + 1) * BLOCK_TOKENS, owner, time.time(), time.time(), life)
            tier.write(stored, block)
        assert tier.flush(60)

        def promote() -> None:
            fetches = [tier.fetch((number + 1).to_bytes(16)) for number in range(blocks)]
            there = 0
            while there < blocks:
                loaded.clear()
                run = [fetch.data for fetch in takewhile(lambda fetch: fetch.done, fetches[there:])]
                if not run:
                    loaded.wait(10)
                    continue
                states = [state for state in run if state is not None]
                assert len(states) == len(run)
                stop = there + len(run)
                assert context.restore(0, states, there * BLOCK_TOKENS, stop * BLOCK_TOKENS)
                there = stop

        found = []
        for where in ("page cache", "device"):
            pairs = []
            for _ in range(rounds):
                if where == "device":
                    drop(folder)
                taken = seconds(partial(read, plain))
                if where == "device":
                    drop(folder)
                pairs.append((taken, seconds(promote)))
                check(context, prompt)
            found.append(compared(f"promotion from disk / plain file read, {where}", prompt, pairs, 0.3))
    return found


def check(context: LlamaContext, prompt: Sequence[Bytes]) -> None:
    """Assert that the last block came back as it was saved, and let go of all."""
    stop = len(prompt) * BLOCK_TOKENS
    assert np.array_equal(context.save(0, stop - BLOCK_TOKENS, stop), prompt[-1])
    context.keep(0, 0)


def compared(name: str, prompt: Sequence[Bytes], pairs: Sequence[tuple[float, float]], goal: float) -> Figure:
    """Seconds of the plain way and of ours, pair by pair."""
    size = sum(map(len, prompt))
    plain, ours = (size / median(times) / 1e9 for times in zip(*pairs, strict=True))
    return Figure(
        f"{name}, blocks of {len(prompt[0]) / 1e6:.2g} MB",
        median(plain / ours for plain, ours in pairs),
        goal,
        at_least=True,
        parts={"gb_per_s": round(ours, 2), "plain_gb_per_s": round(plain, 2), "ms": round(size / ours / 1e6, 1)},
    )


def figures(arguments: argparse.Namespace) -> list[Figure]:
    found = []
    for shape in ((DEMO, 32_768, 36), (WIDE, 16_384, 8)):
        found += [from_ram(*shape, arguments.rounds), *from_disk(*shape, arguments.rounds)]
    return found


ROUNDS = {"type": int, "default": 9}

if __name__ == "__main__":
    run(__doc__, figures, rounds=ROUNDS)
