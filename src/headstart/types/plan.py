"""What the rules of the cache plan for a prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from headstart.types.base import BLOCK_TOKENS, LONG, Generation


class Namespace(NamedTuple):
    """Nothing is shared across namespaces (docs/contract.md, Words)."""

    organisation: str
    model: str
    generation: Generation
    key: str | None


class Lifetime(NamedTuple):
    """How long an entry is kept, in seconds: `idle` after its last write or reuse, never `total` after its write."""

    idle: float
    total: float = math.inf


class Written(NamedTuple):
    """Tokens newly saved beyond those that were read; `long` of them for 12 hours. A token that several new entries
    hold counts for the longest of their lives."""

    tokens: int = 0
    long: int = 0


class Plan(NamedTuple):
    """What the rules say of one prompt.

    `blocks[i]` is the chained digest of tokens [0, (i + 1) * BLOCK_TOKENS): equal digests mean equal prefixes in one
    namespace. `reads` and `writes` are boundaries in tokens, ascending; `tails` has the digests of those that don't end
    with a block. `lives` are those of writes that differ from `lifetime`. Boundaries are multiples of `step`.

        tokens    0 ........ 1024 ........ 1152 .... 1200 ....... 1280
        blocks    [ 8 blocks ][     [8]     ][       [9]          ]
        tails                                [ tail ]               a boundary at 1,200, whose parent is block 8
    """

    length: int
    blocks: tuple[bytes, ...]
    reads: Sequence[int]
    writes: Sequence[int]
    lifetime: Lifetime
    tails: Mapping[int, bytes] = MappingProxyType({})
    lives: Mapping[int, Lifetime] = MappingProxyType({})
    step: int = BLOCK_TOKENS

    def digest(self, boundary: int) -> bytes:
        """The name of the prefix that ends at a boundary of `reads` or `writes`."""
        return self.blocks[boundary // BLOCK_TOKENS - 1] if boundary % BLOCK_TOKENS == 0 else self.tails[boundary]

    def life(self, boundary: int) -> Lifetime:
        """How long the entry that is written there is kept."""
        return self.lives.get(boundary, self.lifetime)

    def uncached(self) -> Plan:
        """The same prompt with nothing to look up and nothing to write."""
        return Plan(self.length, (), (), (), self.lifetime, step=self.step)

    @property
    def end(self) -> int:
        """Tokens behind which nothing can be reused. A boundary that was rounded down hides less than a step."""
        return min(self.reads[-1] + self.step - 1, self.length) if self.reads else 0

    def written(self, read: int) -> Written:
        """What is newly saved when `read` is the longest boundary whose entry lives."""
        longest = max(*self.writes[-1:], read, 0)
        if self.lives:
            new = (boundary for boundary in self.writes if boundary > read and self.life(boundary).idle >= LONG)
            return Written(longest - read, max(new, default=read) - read)
        return Written(longest - read, longest - read if self.lifetime.idle >= LONG else 0)
