"""Which block goes when room is needed: three answers behind one Protocol.

The index owns the tree and offers only what may go: a block in RAM that nobody holds, that nothing in RAM hangs from
and that no promise protects. So children go before parents whatever a policy thinks of them. No policy is told the
time. Ages are counted in blocks used since, the unit in which a cache fills up, and a clock that jumps changes nothing.

Sizes aren't asked for: a block saves as much work as it has tokens and takes as much room as it has tokens.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from headstart.cache.density import REMEMBERED, LeastHitDensity


class Retention(Protocol):
    """A policy. Every method takes O(log n) steps or fewer, amortised."""

    def use(self, digest: bytes) -> None:
        """A prompt reads or writes the block; of a prompt's blocks, the root first."""

    def offer(self, digest: bytes) -> None:
        """The block may go from now on. It has been used; to offer it twice is to offer it once."""

    def withhold(self, digest: bytes) -> None:
        """The block may not go for now."""

    def take(self) -> bytes | None:
        """The block that should go next of those on offer; it is on offer no longer. None if there is none."""

    def forget(self, digest: bytes) -> None:
        """The block is gone, for whatever reason."""


class _Ranked(ABC):
    """Ranks that change with a use only: a heap, in which what is out of date stays until it comes up."""

    def __init__(self) -> None:
        self._ranks: dict[bytes, tuple[int, int]] = {}
        self._offered: set[bytes] = set()
        self._heap: list[tuple[tuple[int, int], bytes]] = []
        self._uses = 0

    @abstractmethod
    def _rank(self, digest: bytes, /) -> int:
        """What the block is worth, now that it is used."""

    def use(self, digest: bytes) -> None:
        self._uses += 1
        self._ranks[digest] = self._rank(digest), self._uses
        if digest in self._offered:
            self._push(digest)

    def offer(self, digest: bytes) -> None:
        if digest not in self._offered:
            self._offered.add(digest)
            self._push(digest)

    def withhold(self, digest: bytes) -> None:
        self._offered.discard(digest)

    def take(self) -> bytes | None:
        while self._heap:
            rank, digest = heapq.heappop(self._heap)
            if digest in self._offered and self._ranks[digest] == rank:
                self._offered.remove(digest)
                return digest
        return None

    def forget(self, digest: bytes) -> None:
        self._offered.discard(digest)
        self._ranks.pop(digest, None)

    def _push(self, digest: bytes) -> None:
        heapq.heappush(self._heap, (self._ranks[digest], digest))
        if len(self._heap) > 2 * len(self._offered) + 64:
            self._heap = [(self._ranks[offered], offered) for offered in self._offered]
            heapq.heapify(self._heap)


class LeastRecentlyUsed(_Ranked):
    """What was used longest ago goes first."""

    def _rank(self, _: bytes, /) -> int:
        return self._uses


class LeastFrequentlyUsed(_Ranked):
    """What was used least goes first, and what comes or is used again starts from the rank of what went last: LFU with
    dynamic ageing (Arlitt et al., 1999). How often a block was used is remembered for a while when it is gone."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: OrderedDict[bytes, int] = OrderedDict()  # used longest ago first
        self._age = 0

    def _rank(self, digest: bytes, /) -> int:
        self._counts[digest] = self._counts.pop(digest, 0) + 1
        if len(self._counts) > len(self._ranks) + REMEMBERED:
            self._counts.popitem(last=False)
        return self._age + self._counts[digest]

    def take(self) -> bytes | None:
        """The block of the lowest rank; what comes from now on starts from there."""
        digest = super().take()
        if digest is not None:
            self._age = self._ranks[digest][0]
        return digest


RETENTIONS: dict[str, Callable[[], Retention]] = {
    "lru": LeastRecentlyUsed,
    "lfu-da": LeastFrequentlyUsed,
    "density": LeastHitDensity,
}
"""By name, for the settings and for `simulate`."""
