"""What the rules of the cache plan for a prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import count, takewhile
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
    """How long an entry is kept, in seconds: `idle` after its last write or reuse, never `total` after its write.
    `promised`: it is kept for as long whatever comes; else it may have to go for others."""

    idle: float
    total: float = math.inf
    promised: bool = False


class StoredBlock(NamedTuple):
    """A block of state outside the context, and the entry that ends with it, if any: what survives a restart.

    Args:
        digest: its name; equal digests mean equal prefixes in one namespace.
        parent: the name of the block before it, which it is of no use without; None for the first.
        stop: tokens of the prefix that it ends.
        owner: whose it is. `key` is a keyed hash of the client's `prompt_cache_key`, in hex.
        written: Unix time at which the entry was written; None if no entry ends here.
        used: Unix time at which the entry was used last.
        life: the entry's.
    """

    digest: bytes
    parent: bytes | None
    stop: int
    owner: Namespace
    written: float | None
    used: float
    life: Lifetime


class Written(NamedTuple):
    """Tokens newly saved beyond those that were read; `long` of them for 12 hours. A token that several new entries
    hold counts for the longest of their lives."""

    tokens: int = 0
    long: int = 0


NOBODY = Namespace("", "", "interval", None)


class Plan(NamedTuple):
    """What the rules say of one prompt.

    `blocks[i]` is the chained digest of tokens [0, (i + 1) * BLOCK_TOKENS): equal digests mean equal prefixes in one
    namespace. `reads` and `writes` are boundaries in tokens, ascending; `tails` has the digests of those that don't end
    with a block. `lives` are those of writes that differ from `lifetime`. Boundaries are multiples of `step`.

        tokens    0 ........ 1024 ........ 1152 .... 1200 ....... 1280
        blocks    [ 8 blocks ][     [8]     ][       [9]          ]
        tails                                [ tail ]               a boundary at 1,200, whose parent is block 8

    `owner`: whose the entries are; its `key` is a keyed hash. `durable`: they may be on disk. `spare`: the life of what
    was to be promised and can't be; `granted`: the longest boundary of `writes` that is kept as it was asked for (None:
    all are). `whole`: state can't be cut into blocks; every boundary is a tail, and has all of its prefix.
    """

    length: int
    blocks: tuple[bytes, ...]
    reads: Sequence[int]
    writes: Sequence[int]
    lifetime: Lifetime
    tails: Mapping[int, bytes] = MappingProxyType({})
    lives: Mapping[int, Lifetime] = MappingProxyType({})
    step: int = BLOCK_TOKENS
    owner: Namespace = NOBODY
    durable: bool = False
    spare: Lifetime = Lifetime(600.0, 3600.0)
    granted: int | None = None
    whole: bool = False

    def digest(self, boundary: int) -> bytes:
        """The name of the prefix that ends at a boundary of `reads` or `writes`."""
        if self.whole or boundary % BLOCK_TOKENS:
            return self.tails[boundary]
        return self.blocks[boundary // BLOCK_TOKENS - 1]

    def life(self, boundary: int) -> Lifetime:
        """How long the entry that is written there is kept."""
        if self.granted is not None and boundary > self.granted:
            return self.spare
        return self.lives.get(boundary, self.lifetime)

    def uncached(self) -> Plan:
        """The same prompt with nothing to look up and nothing to write."""
        return Plan(self.length, (), (), (), self.lifetime, step=self.step)

    def in_whole(self) -> Plan:
        """The same for a model whose state can't be cut: each boundary has a state of its own, so only some are
        written. Of an interval model's those at 0, 1, 3, 7 … steps before the last: where two prompts part, one that is
        at least half as far from the end isn't far. The last token is always computed, so none is at the very end."""
        reads, writes = ([stop for stop in stops if stop < self.length] for stops in (self.reads, self.writes))
        tails = {boundary: self.digest(boundary) for boundary in {*reads, *writes}}
        if self.step > 1 and writes:
            back = takewhile(lambda steps: steps < len(writes), ((1 << n) - 1 for n in count()))
            writes = sorted(writes[-1 - steps] for steps in back)
        return self._replace(blocks=(), reads=reads, writes=writes, tails=tails, whole=True)

    @property
    def end(self) -> int:
        """Tokens behind which nothing can be reused. A boundary that was rounded down hides less than a step."""
        return min(self.reads[-1] + self.step - 1, self.length) if self.reads else 0

    @property
    def asks_promise(self) -> bool:
        """Whether anything of it is to be kept whatever comes."""
        return bool(self.writes) and (self.lifetime.promised or any(life.promised for life in self.lives.values()))

    def written(self, read: int) -> Written:
        """What is newly saved, and as asked for, when `read` is the longest boundary whose entry lives."""
        writes = self.writes if self.granted is None else [stop for stop in self.writes if stop <= self.granted]
        longest = max(*writes[-1:], read, 0)
        if self.lives:
            new = (boundary for boundary in writes if boundary > read and self.life(boundary).idle >= LONG)
            return Written(longest - read, max(new, default=read) - read)
        return Written(longest - read, longest - read if self.lifetime.idle >= LONG else 0)

    def refused(self, read: int) -> int:
        """Tokens of the longest write that are not promised."""
        return 0 if self.granted is None else max(self.writes[-1] - max(self.granted, read), 0)
