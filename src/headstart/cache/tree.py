"""Which blocks are known and where they are: held in the context, in RAM, on disk. Digests and sizes, never bytes.

    block     b0 ─── b1 ─── … ─── b7 ─── b8 ─── b9        a prompt of 1,280 tokens
                                   ├───── c8 ─── c9       another one shares b0 … b7 and parts there
                                   └── t                  and one ends within a block: its tail has fewer tokens

A block is known as long as a sequence holds it in the context, or it is in RAM or on disk; its parent is known as long
as it is. A block in RAM goes for others once nothing in RAM hangs from it, nobody is bringing it back, and no promise
relies on that copy; which of these goes first is for `retention` to say. On disk is only what is promised.

What the owner of the bytes has to drop after a call, `drops` tells.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Literal

from headstart.cache.block import Block, Gone
from headstart.cache.deadlines import Deadlines
from headstart.cache.density import LeastHitDensity
from headstart.cache.promises import PromiseBudget, Promises
from headstart.cache.retention import Retention
from headstart.types import BLOCK_TOKENS, Drops, Fate, Namespace, StoredBlock, Tally

REMEMBERED = 65_536
"""Entries that are gone and still known by what became of them."""

Cause = Literal["evicted", "expired", "lost", "cleared"]
"""Why an entry went; see `Tally`."""

PROMISED_RAM = 0.75
"""The share of RAM that promises may rely on; the rest is left for what is used most."""


class BlockTree:
    """Blocks by digest, with a budget in bytes for RAM, and one for what may be promised.

    Args:
        budget: bytes of RAM.
        promises: what may be promised; by default, three quarters of that, and no disk.
        retention: which of the blocks that may go from RAM goes first.
    """

    def __init__(self, budget: int, promises: PromiseBudget | None = None, retention: Retention | None = None) -> None:
        self.budget = budget
        self.weigh: Callable[[int], int] = lambda _tokens: 1
        self.promises = Promises(promises or PromiseBudget(0, int(budget * PROMISED_RAM)))
        self._retention = LeastHitDensity() if retention is None else retention
        self._blocks: dict[bytes, Block] = {}
        self._children: dict[bytes, set[bytes]] = {}
        self._gone: OrderedDict[bytes, Gone] = OrderedDict()
        self._due = Deadlines(self._over)
        self._pins: Counter[bytes] = Counter()
        self._changed: dict[bytes, None] = {}
        self._unsaved: dict[bytes, None] = {}
        self._drops = Drops([], [])
        self._stored = self._stored_bytes = self._on_disk = self._disk_bytes = 0
        self._ended: dict[Cause, int] = {"evicted": 0, "expired": 0, "lost": 0, "cleared": 0}
        self._now = -math.inf

    def release(self, digests: Iterable[bytes]) -> None:
        """A sequence lets go of these blocks of one chain, children first. What is nowhere else is forgotten."""
        for digest in digests:
            block = self._blocks[digest]
            block.holders -= 1
            assert block.holders >= 0
            if not block.holders:
                if block.size or block.disk:
                    self._due.watch(digest)
                else:
                    self._cut(digest)

    # ------------------------------------------------------------------------------------------- what is in RAM

    def is_stored(self, digest: bytes) -> bool:
        """Whether the block is in RAM."""
        block = self._blocks.get(digest)
        return block is not None and block.size > 0

    def store(self, digest: bytes, size: int) -> bool:
        """Account for a block's `size` bytes in RAM, others making room. False if it is to stay out: only others that
        deserve it more could make room, or its parent is nowhere but in the context."""
        block = self._blocks[digest]
        assert not block.size
        parent = self._blocks[block.parent] if block.parent is not None else None
        if parent is not None and not (parent.size or parent.disk):
            return False
        if parent is not None:
            parent.kids += 1
            self._offer(block.parent)
        fits = self._make_room(digest, size)
        if fits:
            block.size, block.kept = size, True
            self._stored += 1
            self._stored_bytes += size
            self._due.watch(digest)
        elif parent is not None:
            parent.kids -= 1
            self._offer(block.parent)
        self._offer(digest)
        return fits

    def _make_room(self, digest: bytes, size: int) -> bool:
        relied_on = self.promises.is_unsafe(digest)
        if size > self.budget:
            return False
        if not relied_on:
            self._retention.offer(digest)  # it is one of those that may go
        victim = None
        while self._stored_bytes + size > self.budget:
            victim = self._retention.take()
            if victim is None and relied_on:
                victim = self._dispensable()
            if victim is None or victim == digest:
                break
            self._unstore(victim)
        if not relied_on and victim != digest:
            self._retention.withhold(digest)
        return self._stored_bytes + size <= self.budget

    def _dispensable(self) -> bytes | None:
        """A copy in RAM that can go for a promise though something needs it: another is on disk, or nothing hangs from
        it and somebody who brings it back will have to compute it."""
        there = [(digest, block) for digest, block in self._blocks.items() if block.size]
        copies = (digest for digest, block in there if block.disk)
        leaves = (d for d, block in there if not block.kids and not self.promises.is_unsafe(d))
        return next(copies, None) or next(leaves, None)

    def pin(self, digests: Iterable[bytes]) -> None:
        """These are being brought back: they stay in RAM until they are `unpin`ned."""
        for digest in digests:
            self._pins[digest] += 1
            self._offer(digest)

    def unpin(self, digests: Iterable[bytes]) -> None:
        """They are back, or not needed."""
        for digest in digests:
            self._pins[digest] -= 1
            if self._pins[digest] <= 0:
                del self._pins[digest]
                self._due.watch(digest)
                self._offer(digest)

    def is_needed(self, digest: bytes, now: float) -> bool:
        """Whether an entry that lives needs this block."""
        return now < self._blocks[digest].until

    # --------------------------------------------------------------------------------------------- what is on disk

    def is_on_disk(self, digest: bytes) -> bool:
        """Whether the block can be read from there."""
        block = self._blocks.get(digest)
        return block is not None and block.disk

    def begin_writing(self, digest: bytes) -> StoredBlock | None:
        """Of a block in RAM: what is to be written to disk, from now on under way; None if it is not to be."""
        block = self._blocks[digest]
        if block.disk or block.writing or not block.size or not self.promises.is_durable(digest):
            return None
        block.writing = True
        self._unsaved.pop(digest, None)
        return self._row(digest, block)

    def saved(self, digest: bytes, *, done: bool) -> None:
        """Writing has ended: it is on disk now, or could not be written."""
        block = self._blocks.get(digest)
        if block is None or not block.writing:
            return
        block.writing = False
        if done:
            block.disk = True
            self._on_disk += 1
            self._disk_bytes += block.weight
            self.promises.secure(digest, safe=True)
            self._offer(digest)
        else:
            self._unsaved[digest] = None

    def unsaved(self) -> list[bytes]:
        """What could not be written, to be tried again; each is told once."""
        digests = list(self._unsaved)
        self._unsaved.clear()
        return digests

    def changes(self) -> list[StoredBlock]:
        """The blocks on disk whose entries have changed since the last call."""
        blocks = [(digest, self._blocks[digest]) for digest in self._changed]
        self._changed.clear()
        return [self._row(digest, block) for digest, block in blocks if block.disk or block.writing]

    def lose(self, digest: bytes) -> None:
        """The block can't be read from disk."""
        block = self._blocks.get(digest)
        if block is not None and block.disk:
            self._leave_disk(digest, block)
            if not block.holders and not block.size:
                self._cut(digest, "lost")

    # ------------------------------------------------------------------------------------------------- what goes

    def settle(self, now: float) -> None:
        """End the promises whose time is up."""
        self._now = now
        for digest in self.promises.settle(now):
            block = self._blocks.get(digest)
            if block is not None:
                self._leave_disk(digest, block)
                if block.holders or block.size:
                    self._offer(digest)
                else:
                    self._cut(digest)

    def expire(self, now: float, limit: int = 64) -> None:
        """Let go of the blocks that nothing needs any more, of `limit` at most.

        Those that a sequence holds stay until it lets go.
        """
        self.settle(now)
        for _ in range(limit):
            digest = self._due.due(now)
            if digest is None:
                break
            if not self._blocks[digest].holders and digest not in self._pins:
                self._cut(digest)

    def drops(self) -> Drops:
        """What is no longer in RAM, or to be removed from disk, since the last call."""
        drops, self._drops = self._drops, Drops([], [])
        return drops

    def tally(self) -> Tally:
        """How much is held now."""
        promised = self.promises.tally()
        return Tally(
            blocks=len(self._blocks),
            stored=self._stored,
            stored_bytes=self._stored_bytes,
            on_disk=self._on_disk,
            disk_bytes=self._disk_bytes,
            disk_budget=self.promises.budget.disk,
            promised_bytes=promised.size,
            promised_budget=self.promises.budget.all,
            unsafe_bytes=promised.unsafe,
            promised_blocks=promised.blocks,
            **self._ended,
        )

    def clear(self) -> None:
        """Forget all state; the caller drops the bytes in RAM. What is on disk can be `restore`d."""
        for digest, block in self._blocks.items():
            if not block.disk:
                self._end(block, "lost")
            self._bury(digest, block)
            self._retention.forget(digest)
        for kept in (self._blocks, self._children, self._pins, self._changed, self._unsaved, self._due, self.promises):
            kept.clear()
        self._drops = Drops([], [])
        self._stored = self._stored_bytes = self._on_disk = self._disk_bytes = 0

    # ------------------------------------------------------------------------------------------------- bookkeeping

    def _add(self, digest: bytes, parent: bytes | None, stop: int, owner: Namespace, now: float) -> Block:
        tokens = stop if parent is None else stop - (stop - 1) // BLOCK_TOKENS * BLOCK_TOKENS
        block = self._blocks[digest] = Block(parent, stop, owner, self.weigh(tokens), now)
        if parent is not None:
            self._children.setdefault(parent, set()).add(digest)
        return block

    def _need(self, digest: bytes, block: Block, until: float, promised: float, now: float) -> None:
        """It is needed until then at least, and promised until then."""
        block.until = max(block.until, until)
        if promised > max(self.promises.until(digest), now):
            durable = block.durable and self.promises.budget.disk > 0
            self.promises.promise(digest, promised, block.weight, block.owner.organisation, durable=durable)
            self._offer(digest)

    def _row(self, digest: bytes, block: Block) -> StoredBlock:
        return StoredBlock(digest, block.parent, block.stop, block.owner, block.written, block.used, block.life)

    def _note(self, digest: bytes, block: Block) -> None:
        if block.disk or block.writing:
            self._changed[digest] = None

    def _offer(self, digest: bytes | None) -> None:
        """Let `retention` know whether it may take the block, if there is one of that name."""
        block = self._blocks.get(digest) if digest is not None else None
        if digest is None or block is None:
            return
        may_go = block.size > 0 and not block.kids and digest not in self._pins
        may_go = may_go and not self.promises.is_unsafe(digest)
        if may_go != block.offered:
            block.offered = may_go
            (self._retention.offer if may_go else self._retention.withhold)(digest)

    def _unstore(self, digest: bytes) -> None:
        """The block leaves RAM; if it is nowhere else, it is forgotten."""
        block = self._blocks[digest]
        self._leave_ram(digest, block)
        if not block.holders and not block.disk:
            self._cut(digest)

    def _leave_ram(self, digest: bytes, block: Block) -> None:
        if block.size:
            self._stored -= 1
            self._stored_bytes -= block.size
            block.size = 0
            self._drops.ram.append(digest)
            self._offer(digest)
            if block.parent is not None:
                self._blocks[block.parent].kids -= 1
                self._offer(block.parent)

    def _leave_disk(self, digest: bytes, block: Block) -> None:
        if block.disk or block.writing:
            self._drops.disk.append(digest)
            self._on_disk -= block.disk
            self._disk_bytes -= block.weight * block.disk
            block.disk = block.writing = False
            self.promises.secure(digest, safe=False)
            self._offer(digest)

    def _cut(self, digest: bytes, cause: Cause = "evicted") -> None:
        """Forget the block and all that hangs from it. `cause`: why what lives goes."""
        family = [digest]
        for member in family:
            family += self._children.get(member, ())
        for member in reversed(family):
            block = self._blocks[member]
            assert not block.holders, "who holds a block holds its parents"
            self._leave_ram(member, block)
            self._leave_disk(member, block)
            self._end(block, cause)
            self._forget(member, block)

    def _forget(self, digest: bytes, block: Block) -> None:
        self._bury(digest, block)
        self.promises.end(digest)
        self._retention.forget(digest)
        self._due.forget(digest)
        self._changed.pop(digest, None)
        self._unsaved.pop(digest, None)
        if block.parent is not None:
            siblings = self._children[block.parent]
            siblings.remove(digest)
            if not siblings:
                del self._children[block.parent]
            self._blocks[block.parent].hits += block.hits
        del self._blocks[digest]

    def _end(self, block: Block, cause: Cause) -> None:
        """Count the entry that ends with the block, if any, as gone: of that cause, if its life was not over."""
        if block.written is not None:
            self._ended[cause if self._now < block.ends else "expired"] += 1

    def _bury(self, digest: bytes, block: Block) -> None:
        if block.written is not None:
            fate: Fate = "evicted" if block.kept and not block.refused else "refused"
            self._gone[digest] = Gone(block.ends, fate)
            self._gone.move_to_end(digest)
            if len(self._gone) > REMEMBERED:
                self._gone.popitem(last=False)

    def _over(self, digest: bytes) -> tuple[float, int] | None:
        block = self._blocks.get(digest)
        return (block.until, -block.depth) if block is not None and (block.size or block.disk) else None

    def check_integrity(self, now: float = math.inf) -> None:
        """Assert what must always hold; run by tests."""
        kids: Counter[bytes] = Counter()
        for digest, block in self._blocks.items():
            assert block.holders or block.size or block.disk, "a block that is nowhere is still known"
            assert block.holders or digest in self._pins or digest in self._due, "nobody will ever look at a block"
            assert block.ends <= block.until, "an entry outlives its block"
            promised = self.promises.until(digest)
            assert block.promised <= max(promised, now), "a promised entry's block isn't promised"
            assert not (block.disk or block.writing) or promised, "what is on disk is promised"
            if block.parent is None:
                continue
            parent = self._blocks.get(block.parent)
            assert parent is not None, "a block outlived its parent"
            assert digest in self._children[block.parent]
            kept = parent.size or parent.disk or parent.holders
            assert kept or not (block.size or block.disk), "a block is kept and its parent isn't"
            assert block.until <= parent.until, "a block is needed longer than its parent"
            assert promised <= self.promises.until(block.parent), "a block is promised longer than its parent"
            kids[block.parent] += block.size > 0
        blocks = self._blocks.values()
        for digest, block in self._blocks.items():
            assert block.kids == kids[digest]
            relied_on = self.promises.is_unsafe(digest)
            assert block.offered == (block.size > 0 and not block.kids and digest not in self._pins and not relied_on)
        assert self._stored == sum(block.size > 0 for block in blocks)
        assert self._stored_bytes == sum(block.size for block in blocks) <= self.budget
        assert self._on_disk == sum(block.disk for block in blocks)
        assert sum(map(len, self._children.values())) == sum(block.parent is not None for block in blocks)
        self.promises.check_integrity()
