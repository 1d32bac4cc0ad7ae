"""Hit rates under LRU for every capacity at once, and for every life, in one pass over a trace.

A prompt touches its blocks from its last to its first, so a parent is always more recent than its children, and what
LRU keeps are whole prefixes. A block is then there if, since its last touch, fewer distinct blocks were touched than
there is room for (Mattson et al., 1970): its *distance* answers for all capacities.

    touches    c b a │ d b a │ c …        distance of c: d, b and a were touched since, so 3: there from room for 4 on
    before     - - - │ - 1 2 │ 0          the touch before of the same block

Distinct blocks since a touch p are those touches j > p whose block wasn't touched between: `before[j] <= p`. As that
holds for all j <= p, too, a count over all touches so far answers; a wavelet matrix gives it for all touches at once,
in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headstart.simulate.trace import Numbers, Trace

Reals = npt.NDArray[np.float64]


class Reuse:
    """How far back the blocks of a trace were touched before, in blocks and in seconds.

    `room`: of each access the least capacity, in blocks, with which LRU has the block and all before it; `gaps`: the
    longest time, in seconds, for which one of them was idle. Both are endless for what comes for the first time.
    """

    def __init__(self, trace: Trace) -> None:
        request = trace.request_of
        order = _touches(trace.starts)
        before = _before(trace.blocks[order])  # by touch: its own number, or -1
        opens = trace.starts[request[order]]  # by touch: how many there were when its request came
        again = before >= 0
        room = np.full(len(order), math.inf)
        room[order[again]] = _count(before, opens[again], before[again]) - before[again]
        gaps = np.full(len(order), math.inf)
        when = trace.times[request]
        gaps[order[again]] = when[order[again]] - when[order[before[again]]]
        self.room, self.gaps = (_down(values, trace.starts) for values in (room, gaps))
        self._weights, self._input = trace.weights, trace.input

    @property
    def unbounded(self) -> float:
        """Share of the input tokens that a cache reads that never has to let go."""
        return self.by_life([math.inf])[0]

    @property
    def most(self) -> int:
        """Blocks of room beyond which LRU reads no more."""
        return int(np.max(self.room[np.isfinite(self.room)], initial=0))

    def by_capacity(self, blocks: Sequence[int], life: float = math.inf) -> list[float]:
        """Share of the input tokens that LRU has, with room for so many blocks that live so many idle seconds."""
        return self._shares(np.where(self.gaps <= life, self.room, math.inf), blocks)

    def by_life(self, seconds: Sequence[float]) -> list[float]:
        """The same without a limit of room, by how many seconds an entry lives after its last use."""
        return self._shares(self.gaps, seconds)

    def _shares(self, needed: Reals, limits: Sequence[float]) -> list[float]:
        order = np.argsort(needed, kind="stable")
        total = np.concatenate(([0], np.cumsum(self._weights[order])))
        there = total[np.searchsorted(needed[order], limits, side="right")]
        endless = int(np.sum(self._weights[np.isfinite(needed)]))
        return [min(int(tokens), endless) / self._input for tokens in there]


def _touches(starts: Numbers) -> Numbers:
    """The accesses in the order in which they are touched: each request's from its last to its first."""
    counts = np.diff(starts)
    return np.repeat(starts[:-1] + starts[1:] - 1, counts) - np.arange(starts[-1])


def _before(blocks: Numbers) -> Numbers:
    """Of each touch the one before it of the same block; -1 for the first."""
    order = np.argsort(blocks, kind="stable")
    same = blocks[order[1:]] == blocks[order[:-1]]
    before = np.full(len(blocks), -1)
    before[order[1:][same]] = order[:-1][same]
    return before


def _count(values: Numbers, stops: Numbers, most: Numbers) -> Numbers:
    """How many of `values[:stop]` are at most `most`, for each pair of the two. Values are -1 or more."""
    column, bounds = values + 1, most + 2
    left, right, found = np.zeros_like(stops), stops.copy(), np.zeros_like(stops)
    for bit in range(int(max(len(values) + 1, 1)).bit_length() - 1, -1, -1):
        ones = (column >> bit) & 1
        zeros = np.concatenate(([0], np.cumsum(1 - ones)))
        first, last = zeros[left], zeros[right]
        upper = ((bounds >> bit) & 1).astype(bool)
        found += np.where(upper, last - first, 0)
        left = np.where(upper, left - first + zeros[-1], first)
        right = np.where(upper, right - last + zeros[-1], last)
        column = np.concatenate((column[ones == 0], column[ones == 1]))
    return found


def _down(values: Reals, starts: Numbers) -> Reals:
    """Of each access the largest value of its prompt's blocks up to it: without a parent a block is of no use."""
    rank = np.unique(values, return_inverse=True)
    request = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    shifted = rank[1].reshape(-1) + request * len(rank[0])
    return np.asarray(rank[0][np.maximum.accumulate(shifted) - request * len(rank[0])], np.float64)
