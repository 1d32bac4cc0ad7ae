"""Which prefixes are held, where, and until when. Pure: time is an argument, and no byte of a block is here.

The index is a tree of blocks, named by chained digests (`hashing`). A *block* is 128 tokens of computed state; an
*entry* says that the prefix ending with a block may be read, and how long. A block is held by sequences of the engine's
context (a count), stored in RAM (a size), or both; when it is neither, it is forgotten, and its entry with it.

    root ── b0 ── … ── b7 ● ── b8 ● ── b9 ●      ● an entry: 1,024, 1,152, 1,280 tokens
                        └───── c8 ● ── c9 ●      another prompt shares b0 … b7 and parts there

Order is the whole of the retention policy: `_blocks` runs from the least to the most recently used, and a use moves a
chain's deepest block first and its root last. So a block always stands before its parent, and taking from the front
takes children before parents without counting them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

from headstart.types import BLOCK_TOKENS, Lifetime, Plan, Tally


class _Block:
    """`written` is None where the block ends no entry. `holders` counts sequences, `size` is bytes in RAM or 0."""

    __slots__ = ("holders", "life", "parent", "size", "used", "written")

    def __init__(self, parent: bytes | None, used: float, life: Lifetime) -> None:
        self.parent = parent
        self.holders = 0
        self.size = 0
        self.written: float | None = None
        self.used = used
        self.life = life

    def readable(self, now: float) -> bool:
        return self.written is not None and now - self.used < self.life.idle and now - self.written < self.life.total


class PrefixIndex:
    """The tree, and a budget in bytes for what is stored in RAM."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._blocks: OrderedDict[bytes, _Block] = OrderedDict()
        self._stored = 0
        self._stored_bytes = 0
        self._evicted = 0

    def match(self, plan: Plan, now: float) -> int:
        """The longest boundary of `plan.reads` whose entry lives, in tokens; 0 if none. Changes nothing."""
        longest, length = 0, 0
        for digest in plan.blocks:
            block = self._blocks.get(digest)
            if block is None:
                break
            length += BLOCK_TOKENS
            if block.readable(now) and length in plan.reads:
                longest = length
        return longest

    def is_readable(self, digest: bytes, now: float) -> bool:
        """Whether the entry that ends with this block lives."""
        block = self._blocks.get(digest)
        return block is not None and block.readable(now)

    def read(self, plan: Plan, length: int, now: float) -> None:
        """The prefix of `length` tokens is used: the lives of all its entries begin anew."""
        for digest in reversed(plan.blocks[: length // BLOCK_TOKENS]):
            block = self._blocks[digest]
            if not block.readable(now):
                block.written = None  # it had expired: using a longer entry doesn't bring it back
            block.used = now
            self._blocks.move_to_end(digest)

    def hold(self, plan: Plan, start: int, stop: int, now: float) -> None:
        """A sequence now holds the blocks of tokens [start, stop), both at block boundaries: write their entries.

        An entry that lives stays as it is (it is used, not written); the caller holds [0, start) already.
        """
        first = start // BLOCK_TOKENS
        for position, digest in enumerate(plan.blocks[first : stop // BLOCK_TOKENS], first):
            block = self._blocks.get(digest)
            if block is None:
                block = self._blocks[digest] = _Block(
                    plan.blocks[position - 1] if position else None, now, plan.lifetime
                )
            block.holders += 1
            if (position + 1) * BLOCK_TOKENS in plan.writes and not block.readable(now):
                block.written, block.life = now, plan.lifetime
            block.used = now
        for digest in reversed(plan.blocks[: stop // BLOCK_TOKENS]):
            self._blocks.move_to_end(digest)

    def release(self, blocks: Sequence[bytes]) -> None:
        """A sequence lets go of these blocks of one chain. What nobody holds or stores is forgotten."""
        for digest in reversed(blocks):
            block = self._blocks[digest]
            block.holders -= 1
            assert block.holders >= 0
            if not block.holders and not block.size:
                self._evicted += 1
                del self._blocks[digest]

    def write(self, plan: Plan, length: int, now: float) -> None:
        """Hold, store (as 1 byte a block) and release at once: for a fake engine or a simulation, where blocks are only
        counted."""
        stop = length // BLOCK_TOKENS * BLOCK_TOKENS
        self.hold(plan, 0, stop, now)
        for digest in plan.blocks[: stop // BLOCK_TOKENS]:
            if not self.is_stored(digest) and self.store(digest, 1) is None:
                break
        self.release(plan.blocks[: stop // BLOCK_TOKENS])

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
        if excess > 0:
            return None
        for victim in victims:
            self._unstore(victim)
            self._evicted += victim not in self._blocks
        block.size = size
        self._stored += 1
        self._stored_bytes += size
        return victims

    def expire(self, now: float, limit: int = 64) -> list[bytes]:
        """Look at the `limit` least recently used blocks and return those to drop from RAM because their time is up.

        Blocks that a sequence holds stay until it lets go.
        """
        dead = []
        for digest, block in islice(self._blocks.items(), limit):
            if now - block.used < block.life.idle and (block.written is None or now - block.written < block.life.total):
                break
            if block.size and not block.holders:
                dead.append(digest)
        for digest in dead:
            self._unstore(digest)
        return dead

    def tally(self) -> Tally:
        """How much is held now."""
        return Tally(len(self._blocks), self._stored, self._stored_bytes, self._evicted)

    def clear(self) -> None:
        """Forget everything; the caller drops the bytes."""
        self._blocks.clear()
        self._stored = self._stored_bytes = 0

    def _unstore(self, digest: bytes) -> None:
        block = self._blocks[digest]
        self._stored -= 1
        self._stored_bytes -= block.size
        block.size = 0
        if not block.holders:
            del self._blocks[digest]

    def check_integrity(self) -> None:
        """Assert what must always hold; run by tests and when the engine is idle."""
        position = {digest: at for at, digest in enumerate(self._blocks)}
        for digest, block in self._blocks.items():
            assert block.holders or block.size, "a block that is nowhere is still known"
            if block.parent is not None:
                parent = self._blocks.get(block.parent)
                assert parent is not None, "a block outlived its parent"
                assert position[digest] < position[block.parent], "a block stands after its parent"
                assert not block.size or parent.size, "a block is in RAM and its parent isn't"
        assert self._stored == sum(block.size > 0 for block in self._blocks.values())
        assert self._stored_bytes == sum(block.size for block in self._blocks.values()) <= self.budget
