"""Traces of requests whose prompts are hashed block by block: Mooncake's, AIPerf's and Bailian's.

    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48, …]}

Equal ids mean equal prefixes up to the end of the block. Mooncake's and AIPerf's times are milliseconds, and their
blocks have 512 tokens; Bailian's, which have a `chat_id`, are seconds, and 16 tokens. How many tokens a block has is
read off the trace.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

MOST_LINE = 16 * 1024 * 1024
"""Bytes of a line; a longer one is skipped."""
MOST_SHOWN = 5
"""Lines that can't be read of which the reason is kept."""
BLOCK_SIZES = tuple(1 << power for power in range(12, 2, -1))
"""Tokens that a block may have: 4,096 … 8."""

Numbers = npt.NDArray[np.int64]


class Skipped(NamedTuple):
    """A line that can't be read, from 1 on, and why."""

    line: int
    reason: str


class Trace(NamedTuple):
    """Requests in the order of their times.

    Args:
        times: seconds from the first request on, shape (requests,); rising.
        lengths: tokens of each prompt, shape (requests,).
        outputs: tokens of each answer, shape (requests,).
        starts: where each request's blocks begin in `blocks`, and their end, shape (requests + 1,).
        blocks: names of blocks, counted from 0 by first appearance, shape (accesses,).
        block: tokens of a block.
        skipped: how many lines could not be read, and the first of them.
        shuffled: requests that stood behind a later one.
    """

    times: npt.NDArray[np.float64]
    lengths: Numbers
    outputs: Numbers
    starts: Numbers
    blocks: Numbers
    block: int
    skipped: int = 0
    examples: tuple[Skipped, ...] = ()
    shuffled: int = 0

    @property
    def requests(self) -> int:
        """How many."""
        return len(self.lengths)

    @property
    def distinct(self) -> int:
        """Different blocks."""
        return int(self.blocks.max()) + 1 if len(self.blocks) else 0

    @property
    def input(self) -> int:
        """Tokens of all prompts."""
        return int(self.lengths.sum())

    @property
    def request_of(self) -> Numbers:
        """Of each access to a block the request, shape (accesses,)."""
        return np.repeat(np.arange(self.requests), np.diff(self.starts))

    @property
    def weights(self) -> Numbers:
        """Of each access the prompt's tokens in the block, shape (accesses,). The last block may not be full."""
        request = self.request_of
        depth = np.arange(len(self.blocks)) - self.starts[request]
        return np.clip(self.lengths[request] - depth * self.block, 0, self.block)

    def chain(self, request: int) -> Numbers:
        """The blocks of a request, the root first."""
        return self.blocks[self.starts[request] : self.starts[request + 1]]


class _Line(msgspec.Struct):
    """What is read of a line."""

    timestamp: float
    input_length: int
    hash_ids: list[int | str]
    output_length: int = 0
    chat_id: int | str | None = None


def read(lines: Iterable[bytes], *, block: int | None = None) -> Trace:
    """The trace of these lines. `block`: tokens of a block, if it isn't to be found out. Raises `ValueError`, in a
    sentence, if no line can be read, or if it can't be told how many tokens a block has."""
    names: dict[int | str, int] = {}
    times, blocks = array("d"), array("q")  # eight bytes each, where a list takes four times as many
    lengths, outputs, starts = array("q"), array("q"), array("q", [0])
    seconds = False
    skipped = 0
    examples: list[Skipped] = []
    for number, line in _numbered(lines):
        try:
            request = _decoded(line)
        except ValueError as error:  # msgspec's own are of these
            skipped += 1
            if len(examples) < MOST_SHOWN:
                examples.append(Skipped(number, str(error)))
            continue
        seconds = seconds or request.chat_id is not None
        times.append(request.timestamp)
        lengths.append(request.input_length)
        outputs.append(request.output_length)
        blocks.extend([names.setdefault(name, len(names)) for name in request.hash_ids])
        starts.append(len(blocks))
    if not lengths:
        reason = f"line {examples[0].line}: {examples[0].reason}" if examples else "there is none."
        raise ValueError(f"No request can be read: {reason}")
    trace = Trace(
        np.array(times) * (1.0 if seconds else 0.001),
        np.array(lengths, np.int64),
        np.array(outputs, np.int64),
        np.array(starts, np.int64),
        np.array(blocks, np.int64),
        block or 0,
        skipped,
        tuple(examples),
    )
    return in_order(trace if block else trace._replace(block=_block_of(trace)))


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _decoded(line: bytes) -> _Line:
    if len(line) > MOST_LINE:
        raise ValueError(f"The line has {len(line):,} bytes; at most {MOST_LINE:,} are read.")
    request = msgspec.json.decode(line, type=_Line)
    if request.input_length < 1 or request.output_length < 0:
        raise ValueError("Lengths count tokens: input_length is 1 or more, output_length 0 or more.")
    if not math.isfinite(request.timestamp):
        raise ValueError("timestamp is no time.")
    if len(set(request.hash_ids)) < len(request.hash_ids):
        raise ValueError("hash_ids has one id twice; an id stands for all of the prefix, so that can't be.")
    return request


def _block_of(trace: Trace) -> int:
    """Tokens of a block: the largest size with which most prompts have the blocks that they should."""
    counts = np.diff(trace.starts)
    fits = {
        size: int(np.sum((counts == -(-trace.lengths // size)) | (counts == trace.lengths // size)))
        for size in BLOCK_SIZES
    }
    best = max(fits, key=lambda size: (fits[size], size))
    if fits[best] * 2 <= trace.requests or not counts.any():
        ratios = Counter(int(length // max(count, 1)) for length, count in zip(trace.lengths, counts, strict=True))
        raise ValueError(
            f"It can't be told how many tokens a block has (most often some {ratios.most_common(1)[0][0]} for each "
            "id): say it with --block-tokens."
        )
    return best


def in_order(trace: Trace) -> Trace:
    """By time, from 0 on; requests of one time stay in the order of their lines."""
    late = int(np.sum(trace.times < np.maximum.accumulate(trace.times)))
    if late:
        order = np.argsort(trace.times, kind="stable")
        counts = np.diff(trace.starts)[order]
        starts = np.concatenate(([0], np.cumsum(counts)))
        places = np.arange(starts[-1]) - np.repeat(starts[:-1], counts) + np.repeat(trace.starts[:-1][order], counts)
        trace = trace._replace(
            times=trace.times[order],
            lengths=trace.lengths[order],
            outputs=trace.outputs[order],
            starts=starts,
            blocks=trace.blocks[places],
            shuffled=late,
        )
    return trace._replace(times=trace.times - trace.times[0])
