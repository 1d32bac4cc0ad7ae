"""The prefixes that are cached, as a tree small enough for people to look at.

    blocks     b0 ─ … ─ b34 ─┬─ b35 ─ … ─ b50      read 312 times, 12 of them beyond b34 on this way,
                             └─ c35 ─ c36          and 300 on that
    stretches  [0, 4480) 312 hits
               ├── [4480, 6528) 12 hits
               └── [4480, 4736) 300 hits

A stretch is a run of blocks without a branch that much the same requests read. It ends where prompts part, or where
half of the requests that read its beginning have stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest
from typing import Literal, TypeVar

from headstart.cache.block import Block
from headstart.types import Prefix

Tier = Literal["context", "ram", "disk"]
TIERS: tuple[Tier, ...] = ("context", "ram", "disk")

NONE = -1
"""No position."""

AT_ONCE = 500
"""Blocks between two pauses: under half a millisecond, in which other threads of this process may have to wait."""

CANDIDATES = 8
"""Stretches looked at for each that is shown: some are left out because too many others would have to come along."""

NAME_BYTES = 8
"""Of a digest: as good as unique among the prefixes of one cache."""

T = TypeVar("T")


def top(blocks: dict[bytes, Block], limit: int, now: float, pause: Callable[[], None]) -> list[Prefix]:
    """The stretches that saved most tokens, and those they go on from: `limit` of them at most, parents before
    children, and of those with the same parent the one that saved most first.

    Args:
        blocks: by digest, every block behind its parent. The dictionary is a copy; the blocks may change meanwhile,
            which makes a number at worst a moment old or young.
        now: in the seconds of the blocks; what has expired by then doesn't count.
        pause: called now and then, to let other threads go on.
    """
    forest = _Forest(blocks, now, pause)
    chosen: set[int] = set()
    for stretch in nsmallest(CANDIDATES * limit, forest.stretches(), key=forest.rank):
        room = limit - len(chosen)
        path: list[int] = []
        at = stretch
        while at != NONE and at not in chosen and len(path) <= room:
            path.append(at)
            at = forest.above(at)
        if len(path) <= room:
            chosen.update(path)
    below: dict[int, list[int]] = {}
    for stretch in sorted(chosen, key=forest.rank, reverse=True):
        below.setdefault(forest.above(stretch), []).append(stretch)
    prefixes, stack = [], below.get(NONE, [])
    while stack:
        stretch = stack.pop()
        prefixes.append(forest.prefix(stretch))
        stack += below.get(stretch, ())
    return prefixes


class _Forest:
    """Blocks by their position in the copy, parents first; a stretch goes by the position of its first block.

    Columns of numbers, not an object for each block: a hundred thousand new objects would have the garbage collector
    look through all of the process, and everyone would wait for it.
    """

    def __init__(self, blocks: dict[bytes, Block], now: float, pause: Callable[[], None]) -> None:
        self.now, self.pause = now, pause
        self.digests, self.blocks = list(blocks), list(blocks.values())
        size = len(self.blocks)
        # Of each block and all that hangs from it: hits, when the last entry is over, and the last that is promised.
        self.hits, self.until, self.promised = [0] * size, [0.0] * size, [0.0] * size
        self.parents, self.live = [NONE] * size, [0] * size  # how many children have an entry that lives
        self.first = [NONE] * size  # the stretch a block is in
        self.stop, self.size, self.tier = [0] * size, [0] * size, [0] * size  # of the stretch that begins with it
        self._gather()
        self._divide()

    def _gather(self) -> None:
        positions: dict[bytes, int] = {}
        for at in self._paced(range(len(self.blocks))):
            parent = self.blocks[at].parent
            positions[self.digests[at]] = at
            if parent is not None:
                self.parents[at] = positions[parent]
        hits, until, promised = self.hits, self.until, self.promised
        for at in self._paced(reversed(range(len(self.blocks)))):
            block, parent_at = self.blocks[at], self.parents[at]
            ends = block.ends
            hits[at] += block.hits
            until[at] = max(until[at], ends)
            if block.life.promised:
                promised[at] = max(promised[at], ends)
            if parent_at != NONE:
                hits[parent_at] += hits[at]
                until[parent_at] = max(until[parent_at], until[at])
                promised[parent_at] = max(promised[parent_at], promised[at])
                self.live[parent_at] += until[at] > self.now

    def _divide(self) -> None:
        for at in self._paced(range(len(self.blocks))):
            if self.until[at] <= self.now:
                continue
            parent, block = self.parents[at], self.blocks[at]
            first = self.first[at] = self.first[parent] if parent != NONE and self._goes_on(parent, at) else at
            held, size = block.holders, block.size
            self.stop[first] = block.stop
            self.size[first] += size or block.weight
            self.tier[first] = max(self.tier[first], 0 if held else 1 if size else 2)

    def _goes_on(self, parent: int, at: int) -> bool:
        """Whether the parent's stretch goes on with this block."""
        before, hits = self.hits[self.first[parent]], self.hits[at]
        return self.live[parent] == 1 and (hits == before or 2 * hits > before)

    def stretches(self) -> Iterator[int]:
        """All that live, parents before children."""
        return (at for at, first in self._paced(enumerate(self.first)) if first == at)

    def above(self, stretch: int) -> int:
        """The stretch it goes on from, or `NONE`."""
        parent = self.parents[stretch]
        return NONE if parent == NONE else self.first[parent]

    def start(self, stretch: int) -> int:
        """Tokens before it."""
        parent = self.parents[stretch]
        return 0 if parent == NONE else self.blocks[parent].stop

    def rank(self, stretch: int) -> tuple[int, int, bytes]:
        """What saved most sorts first, then what is longest."""
        tokens = self.stop[stretch] - self.start(stretch)
        return -self.hits[stretch] * tokens, -tokens, self.digests[stretch]

    def prefix(self, stretch: int) -> Prefix:
        """As people see it."""
        block, above, until = self.blocks[stretch], self.above(stretch), self.until[stretch]
        return Prefix(
            name=self._name(stretch),
            parent=None if above == NONE else self._name(above),
            organisation=block.owner.organisation,
            model=block.owner.model,
            key=block.owner.key,
            start=self.start(stretch),
            stop=self.stop[stretch],
            hits=self.hits[stretch],
            bytes=self.size[stretch],
            tier=TIERS[self.tier[stretch]],
            age=max(self.now - block.born, 0.0),
            left=until - self.now,
            promised=self.promised[stretch] >= until,
        )

    def _name(self, stretch: int) -> str:
        return self.digests[stretch][:NAME_BYTES].hex()

    def _paced(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a pause now and then."""
        for number, item in enumerate(items, 1):
            yield item
            if number % AT_ONCE == 0:
                self.pause()
