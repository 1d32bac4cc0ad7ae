"""Which prefixes are held, where, and until when. Knows digests and sizes, never the bytes of a block.

Two things are told apart. A *block* is the state of up to 128 tokens; it is physical, and there is one of it however
many prompts share it. An *entry* is the right to read a prefix: it has a life, and ends where a block ends.

    block     b0 ─── b1 ─── … ─── b7 ─── b8 ─── b9        a prompt of 1,280 tokens of an interval model
    entry                          ●      ●      ●        at 1,024, 1,152 and 1,280
                                   ├───── c8 ● ── c9 ●    another prompt shares b0 … b7 and parts there
                                   └── t ●                a breakpoint at 1,100: its tail is a block of 76 tokens

Order is the whole of the retention policy: `_blocks` runs from the least to the most recently used, and a use moves a
chain's deepest block first and its root last. So a block always stands before its parent, and taking from the front
takes children before parents without counting them. A parent is needed at least as long as its children, so the same
holds for blocks whose time is up.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from headstart.types import BLOCK_TOKENS, Fate, Lifetime, Lost, Plan, Tally

REMEMBERED = 65_536
"""Entries that are gone and still known by what became of them."""

_NEVER = Lifetime(0.0, 0.0)


SPARE = 64
"""Entries of the queue of what will be due beyond two a block, before it is put in order."""


class _Block:
    """`holders` counts sequences, `size` is bytes in RAM or 0, `until` when nothing needs it any more. `written`,
    `used` and `life` are the entry's that ends here; `written` is None where none does. `due`: it is in the queue of
    those whose time will be up. `kept`: it has been in RAM."""

    __slots__ = ("depth", "due", "holders", "kept", "life", "parent", "size", "until", "used", "written")

    def __init__(self, parent: bytes | None, depth: int, now: float) -> None:
        self.parent, self.depth, self.until = parent, depth, now
        self.holders = self.size = 0
        self.written: float | None = None
        self.used, self.life = now, _NEVER
        self.due = self.kept = False

    @property
    def ends(self) -> float:
        """When the entry's life is over."""
        return 0.0 if self.written is None else min(self.used + self.life.idle, self.written + self.life.total)

    def readable(self, now: float) -> bool:
        return self.written is not None and now < self.ends


class _Gone(NamedTuple):
    """An entry whose block went at some time before its life was over at `ends`."""

    ends: float
    fate: Fate


class PrefixIndex:
    """The tree, and a budget in bytes for what is stored in RAM."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._blocks: OrderedDict[bytes, _Block] = OrderedDict()
        self._gone: OrderedDict[bytes, _Gone] = OrderedDict()
        self._due: list[tuple[float, int, int, bytes, _Block]] = []
        self._order = itertools.count()
        self._stored = self._stored_bytes = self._evicted = 0

    # ---------------------------------------------------------------------------------------------- reading and writing

    def match(self, plan: Plan, now: float) -> int:
        """The longest boundary of `plan.reads` whose entry lives, in tokens; 0 if none. Changes nothing."""
        known = bisect_left(plan.blocks, True, key=lambda digest: digest not in self._blocks)
        reach = bisect_right(plan.reads, known * BLOCK_TOKENS + BLOCK_TOKENS - 1)
        for at in range(reach - 1, -1, -1):
            block = self._blocks.get(plan.digest(plan.reads[at]))
            if block is not None and block.readable(now):
                return plan.reads[at]
        return 0

    def lost(self, plan: Plan, read: int, now: float) -> Lost | None:
        """The longest boundary beyond `read` that was looked up in vain, had an entry once, and what became of it."""
        for boundary in reversed(plan.reads):
            if boundary <= read:
                break
            digest = plan.digest(boundary)
            block, gone = self._blocks.get(digest), self._gone.get(digest)
            if block is not None and block.written is not None:
                return Lost(boundary, "expired")
            if gone is not None:
                return Lost(boundary, "expired" if gone.ends <= now else gone.fate)
        return None

    def is_readable(self, digest: bytes, now: float) -> bool:
        """Whether the entry that ends with this block lives."""
        block = self._blocks.get(digest)
        return block is not None and block.readable(now)

    def read(self, plan: Plan, length: int, now: float) -> None:
        """The prefix of `length` tokens is used: its entry's life begins anew. With an interval model, whose every
        boundary is an entry, so do those of the shorter ones."""
        if not length:
            return
        entry = plan.digest(length)
        chain = list(reversed(plan.blocks[: length // BLOCK_TOKENS]))
        until = 0.0
        for digest in chain if length % BLOCK_TOKENS == 0 else (entry, *chain):
            block = self._blocks[digest]
            if digest == entry or plan.step > 1:
                if block.readable(now):
                    block.used = now
                else:
                    block.written = None  # it had expired: using a longer entry doesn't bring it back
            until = max(until, block.ends)
            block.until = max(block.until, until)
            self._blocks.move_to_end(digest)

    def hold(self, plan: Plan, start: int, stop: int, now: float) -> list[int]:
        """A sequence that held tokens [0, start) now holds [0, stop): write the entries of the boundaries in between.
        Returns those of them whose tails it holds now: of all that it writes, and of others that are known.

        An entry that lives is not written but used, and keeps the longer of both lives.
        """
        first, last = start // BLOCK_TOKENS, min(stop // BLOCK_TOKENS, len(plan.blocks))
        for position in range(first, last):
            self._held(plan, (position + 1) * BLOCK_TOKENS, plan.blocks[position], now)
        tails = []
        for boundary, digest in plan.tails.items():
            if start < boundary <= stop and (boundary in plan.writes or digest in self._blocks):
                self._held(plan, boundary, digest, now)
                tails.append(boundary)
        until = 0.0
        for digest, is_tail in reversed(self._chain(plan, stop)):
            block = self._blocks[digest]
            if not is_tail:  # which has no children
                block.until = max(until, block.until)
            until = max(until, block.until)
            self._blocks.move_to_end(digest)
        return tails

    def _chain(self, plan: Plan, stop: int) -> list[tuple[bytes, bool]]:
        """The blocks of the first `stop` tokens, which are held, and the tails that are known, each before the block
        that goes on beyond it. With whether it is a tail."""
        chain = [(digest, False) for digest in plan.blocks[: stop // BLOCK_TOKENS]]
        for boundary, digest in sorted(plan.tails.items(), reverse=True):
            if boundary <= stop and digest in self._blocks:
                chain.insert(boundary // BLOCK_TOKENS, (digest, True))
        return chain

    def _held(self, plan: Plan, boundary: int, digest: bytes, now: float) -> None:
        block = self._blocks.get(digest)
        if block is None:
            depth = (boundary - 1) // BLOCK_TOKENS
            block = self._blocks[digest] = _Block(plan.blocks[depth - 1] if depth else None, depth, now)
        block.holders += 1
        if boundary in plan.writes:
            life = plan.life(boundary)
            if not block.readable(now):
                block.written, block.life = now, life
                self._gone.pop(digest, None)
            elif life.idle > block.life.idle:
                block.life = life
            block.used = now
            block.until = max(block.until, block.ends)

    def release(self, digests: Iterable[bytes]) -> None:
        """A sequence lets go of these blocks of one chain, children first. What nobody holds or stores is forgotten."""
        for digest in digests:
            block = self._blocks[digest]
            block.holders -= 1
            assert block.holders >= 0
            if not block.holders:
                if block.size:
                    self._queue(digest, block)
                else:
                    self._evicted += 1
                    self._forget(digest, block)

    def write(self, plan: Plan, now: float) -> None:
        """Hold all, store it (as 1 byte a block) and release it at once: for a fake engine or a simulation, where
        blocks are only counted."""
        self.hold(plan, 0, plan.length, now)
        chain = [digest for digest, _ in self._chain(plan, plan.length)]
        for digest in chain:
            if not self.is_stored(digest):
                self.store(digest, 1)
        self.release(reversed(chain))

    # ---------------------------------------------------------------------------------------------- what is in RAM

    def is_stored(self, digest: bytes) -> bool:
        """Whether the block is in RAM."""
        block = self._blocks.get(digest)
        return block is not None and block.size > 0

    def store(self, digest: bytes, size: int) -> list[bytes] | None:
        """Account for a block's `size` bytes in RAM. Returns the blocks to drop from RAM for it, least recently used
        first, or None if only blocks more recently used than itself could make room: then it is not stored.

        A block's parent is stored before it; a parent that did not fit keeps its children out.
        """
        block = self._blocks[digest]
        assert not block.size
        victims = self._victims(digest, block, size)
        if victims is None:
            return None
        for victim in victims:
            self._unstore(victim)
            self._evicted += victim not in self._blocks
        block.size, block.kept = size, True
        self._stored += 1
        self._stored_bytes += size
        self._queue(digest, block)
        return victims

    def _victims(self, digest: bytes, block: _Block, size: int) -> list[bytes] | None:
        if block.parent is not None and not self._blocks[block.parent].size:
            return None
        victims: list[bytes] = []
        excess = self._stored_bytes + size - self.budget
        for candidate, held in self._blocks.items():
            if excess <= 0:
                break
            if candidate == digest:
                return None
            if held.size:
                victims.append(candidate)
                excess -= held.size
        return None if excess > 0 else victims

    def is_needed(self, digest: bytes, now: float) -> bool:
        """Whether an entry that lives needs this block."""
        return now < self._blocks[digest].until

    def expire(self, now: float, limit: int = 64) -> list[bytes]:
        """The blocks to drop from RAM because their time is up, of the `limit` whose time is up first.

        Blocks that a sequence holds stay until it lets go.
        """
        dead = []
        for _ in range(limit):
            if not self._due or now < self._due[0][0]:
                break
            until, _, _, digest, block = heapq.heappop(self._due)
            block.due = False
            if self._blocks.get(digest) is not block or not block.size or block.holders:
                continue
            if until < block.until:  # used since: children come before parents only by their true times
                self._queue(digest, block)
            else:
                dead.append(digest)
                self._unstore(digest)
        return dead

    def tally(self) -> Tally:
        """How much is held now."""
        return Tally(len(self._blocks), self._stored, self._stored_bytes, self._evicted)

    def clear(self) -> None:
        """Forget all state; the caller drops the bytes."""
        for digest, block in self._blocks.items():
            self._bury(digest, block)
        self._blocks.clear()
        self._due.clear()
        self._stored = self._stored_bytes = 0

    def _queue(self, digest: bytes, block: _Block) -> None:
        if not block.due:
            block.due = True
            heapq.heappush(self._due, (block.until, -block.depth, next(self._order), digest, block))
            if len(self._due) > 2 * len(self._blocks) + SPARE:  # most are of blocks that went before their time
                self._due = [due for due in self._due if self._blocks.get(due[3]) is due[4]]
                heapq.heapify(self._due)

    def _unstore(self, digest: bytes) -> None:
        block = self._blocks[digest]
        self._stored -= 1
        self._stored_bytes -= block.size
        block.size = 0
        if not block.holders:
            self._forget(digest, block)

    def _forget(self, digest: bytes, block: _Block) -> None:
        self._bury(digest, block)
        del self._blocks[digest]

    def _bury(self, digest: bytes, block: _Block) -> None:
        if block.written is not None:
            self._gone[digest] = _Gone(block.ends, "evicted" if block.kept else "refused")
            self._gone.move_to_end(digest)
            if len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)

    def check_integrity(self) -> None:
        """Assert what must always hold; run by tests and when the engine is idle."""
        position = {digest: at for at, digest in enumerate(self._blocks)}
        for digest, block in self._blocks.items():
            assert block.holders or block.size, "a block that is nowhere is still known"
            assert block.holders or block.due, "a block in RAM will never be looked at"
            assert block.ends <= block.until, "an entry outlives its block"
            if block.parent is not None:
                parent = self._blocks.get(block.parent)
                assert parent is not None, "a block outlived its parent"
                assert position[digest] < position[block.parent], "a block stands after its parent"
                assert not block.size or parent.size, "a block is in RAM and its parent isn't"
                assert block.until <= parent.until, "a block is needed longer than its parent"
        assert self._stored == sum(block.size > 0 for block in self._blocks.values())
        assert self._stored_bytes == sum(block.size for block in self._blocks.values()) <= self.budget
