"""Which prefixes can be read, and until when.

Two things are told apart. A *block* is the state of up to 128 tokens; it is physical, and there is one of it however
many prompts share it (`cache.tree`). An *entry* is the right to read a prefix: it has a life, and ends where a block
ends.

    block     b0 ─── b1 ─── … ─── b7 ─── b8 ─── b9        a prompt of 1,280 tokens of an interval model
    entry                          ●      ●      ●        at 1,024, 1,152 and 1,280
                                   ├───── c8 ● ── c9 ●    another prompt shares b0 … b7 and parts there
                                   └── t ●                a breakpoint at 1,100: its tail is a block of 76 tokens
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable

from headstart.cache.prefixes import top
from headstart.cache.tree import BlockTree
from headstart.types import BLOCK_TOKENS, CacheReport, Lost, Namespace, Plan, Prefix, StoredBlock


class PrefixIndex(BlockTree):
    """Entries, on the blocks that they need. Lengths are in tokens, `now` in seconds of any clock."""

    def match(self, plan: Plan, now: float) -> int:
        """The longest boundary of `plan.reads` whose entry lives, in tokens; 0 if none. Changes nothing."""
        reach = len(plan.reads)
        if not plan.whole:
            known = bisect_left(plan.blocks, True, key=lambda digest: digest not in self._blocks)
            reach = bisect_right(plan.reads, known * BLOCK_TOKENS + BLOCK_TOKENS - 1)
        for at in range(reach - 1, -1, -1):
            if self.is_readable(plan.digest(plan.reads[at]), now):
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
                return Lost(boundary, "refused" if block.refused else "expired")
            if gone is not None:
                expired = gone.ends <= now and gone.fate != "refused"
                return Lost(boundary, "expired" if expired else gone.fate)
        return None

    def is_entry(self, digest: bytes) -> bool:
        """Whether an entry ends with this block."""
        block = self._blocks.get(digest)
        return block is not None and block.written is not None

    def is_readable(self, digest: bytes, now: float) -> bool:
        """Whether the entry that ends with this block lives."""
        block = self._blocks.get(digest)
        return block is not None and block.readable(now)

    def reserve(self, plan: Plan, now: float) -> tuple[Plan, list[bytes]]:
        """Promise what the plan writes, as far as there is room for promises: the plan as it can be kept, and the
        blocks that are reserved for it, to be given back to `unreserve`."""
        if not plan.asks_promise:
            return plan, []
        self.settle(now)
        durable = plan.durable and self.promises.budget.disk > 0
        room = self.promises.room(plan.owner.organisation, durable=durable)
        reserved: list[tuple[bytes, int]] = []
        granted = done = 0
        for boundary in plan.writes:
            new: list[tuple[bytes, int]] = []
            if plan.life(boundary).promised:
                whole = boundary // BLOCK_TOKENS
                new = [(digest, self.weigh(BLOCK_TOKENS)) for digest in plan.blocks[done:whole]]
                if boundary in plan.tails:
                    new.append((plan.tails[boundary], self.weigh(boundary if plan.whole else boundary % BLOCK_TOKENS)))
                room -= sum(size for digest, size in new if digest not in self.promises)
                if room < 0:
                    break
                done = whole
            reserved += new
            granted = boundary
        self.promises.reserve(reserved, plan.owner.organisation, durable=durable)
        if granted < plan.writes[-1]:
            plan = plan._replace(granted=granted)
        return plan, [digest for digest, _ in reserved]

    def unreserve(self, digests: Iterable[bytes]) -> None:
        """The prompt that reserved them has them by now, or never will."""
        self.promises.unreserve(digests)

    def read(self, plan: Plan, length: int, now: float) -> None:
        """The prefix of `length` tokens is used: its entry's life begins anew. With an interval model, whose every
        boundary is an entry, so do those of the shorter ones."""
        if not length:
            return
        entry = plan.digest(length)
        chain = list(reversed(plan.blocks[: length // BLOCK_TOKENS]))
        until = promised = 0.0
        for digest in chain if entry in chain[:1] else (entry, *chain):
            block = self._blocks[digest]
            if digest == entry or plan.step > 1:
                if block.readable(now):
                    block.used = now
                else:
                    self._end(block, "expired")
                    block.written = None  # it had expired: using a longer entry doesn't bring it back
                self._note(digest, block)
            until, promised = max(until, block.ends), max(promised, block.promised)
            self._need(digest, block, until, promised, now)

    def hit(self, plan: Plan, length: int) -> None:
        """Count a request that read the prefix of `length` tokens: once, however often its place was looked for."""
        block = self._blocks.get(plan.digest(length)) if length else None
        if block is not None:
            block.hits += 1

    def prefixes(self, limit: int, now: float, pause: Callable[[], None]) -> list[Prefix]:
        """What is cached, for people to look at; see `cache.prefixes.top`. For any thread: only the copy keeps others
        waiting."""
        return top(self._blocks.copy(), limit, now, pause)

    def hold(self, plan: Plan, start: int, stop: int, now: float) -> list[int]:
        """A sequence that held tokens [0, start) now holds [0, stop): write the entries of the boundaries in between.
        Returns those of them whose tails it holds now: of all that it writes, and of others that are known.

        An entry that lives is not written but used, and keeps the longer of both lives.
        """
        self._now = now
        first, last = start // BLOCK_TOKENS, min(stop // BLOCK_TOKENS, len(plan.blocks))
        for position in range(first, last):
            self._held(plan, (position + 1) * BLOCK_TOKENS, plan.blocks[position], now)
        tails = []
        for boundary, digest in plan.tails.items():
            if start < boundary <= stop and (boundary in plan.writes or digest in self._blocks):
                self._held(plan, boundary, digest, now)
                tails.append(boundary)
        until = promised = 0.0
        new = last - first
        for digest, is_tail in reversed(self._chain(plan, stop)):
            block, own = self._blocks[digest], self.promises.until(digest)
            if not is_tail:
                if new <= 0 and until <= block.until and promised <= own:
                    break  # those before it are needed as long
                new -= 1
                until, promised = max(until, block.until), max(promised, own)
            until, promised = max(until, _up(block.ends)), max(promised, _up(block.promised))
            if is_tail:  # which has no children
                self._need(digest, block, block.ends, block.promised, now)
            else:
                self._need(digest, block, until, promised, now)
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
        self._retention.use(digest)
        block = self._blocks.get(digest)
        if block is None:
            depth = (boundary - 1) // BLOCK_TOKENS
            parent = plan.blocks[depth - 1] if depth and not plan.whole else None
            block = self._add(digest, parent, boundary, plan.owner, now)
            block.durable = plan.durable
        block.holders += 1
        if boundary in plan.writes:
            life = plan.life(boundary)
            if not block.readable(now):
                self._end(block, "expired")
                block.written, block.life = now, life
                block.refused = plan.granted is not None and boundary > plan.granted
                self._gone.pop(digest, None)
            elif (life.promised, life.idle) > (block.life.promised, block.life.idle):
                block.life, block.refused = life, False
            block.used = now
            self._note(digest, block)

    def write(self, plan: Plan, now: float) -> None:
        """Hold all, store it (as 1 byte a block) and release it at once: for a fake engine or a simulation, where
        blocks are only counted."""
        self.hold(plan, 0, plan.length, now)
        chain = [digest for digest, _ in self._chain(plan, plan.length)]
        for digest in chain:
            if not self.is_stored(digest):
                self.store(digest, 1)
        self.release(reversed(chain))
        self.drops()

    def serve(self, plan: Plan, now: float) -> CacheReport:
        """All that becomes of a prompt that is answered at once: for a fake engine or a replay, as `write`."""
        self.expire(now)
        read = self.match(plan, now)
        lost = self.lost(plan, read, now)
        self.read(plan, read, now)
        self.hit(plan, read)
        plan, reserved = self.reserve(plan, now)
        self.write(plan, now)
        self.unreserve(reserved)
        refused = plan.refused(read)
        return CacheReport(read, plan.written(read), plan.length - read, from_ram=read, refused=refused, lost=lost)

    def restore(self, stored: Iterable[StoredBlock], now: float) -> None:
        """What is on disk from before: into an empty index. A life is never longer than a full one from now."""
        self._now = now
        until: dict[bytes, float] = {}
        promised: dict[bytes, float] = {}
        rows = sorted(stored, key=lambda row: row.stop)
        for row in rows:
            if row.parent is not None and row.parent not in self._blocks:
                self._drops.disk.append(row.digest)
                self._ended["lost"] += row.written is not None
                continue
            block = self._add(row.digest, row.parent, row.stop, row.owner, now)
            block.written, block.used, block.life = row.written, min(row.used, now), row.life
            if block.written is not None:
                block.written = min(block.written, now)
            block.born = block.used if block.written is None else block.written
            block.disk = block.kept = True
            self._on_disk += 1
            self._disk_bytes += block.weight
        for digest in [row.digest for row in reversed(rows) if row.digest in self._blocks]:
            block = self._blocks[digest]
            block.until = max(until.get(digest, 0.0), block.ends)
            keep = max(promised.get(digest, 0.0), block.promised)
            if keep <= now:
                self._cut(digest)
                continue
            self._need(digest, block, block.until, keep, now)
            self.promises.secure(digest, safe=True)
            self._due.watch(digest)
            if block.parent is not None:
                until[block.parent] = max(until.get(block.parent, 0.0), block.until)
                promised[block.parent] = max(promised.get(block.parent, 0.0), keep)

    def purge(self, wanted: Callable[[Namespace], bool]) -> int:
        """Let go of the entries of these owners, and of all that only they need; returns how many entries those were.
        What a sequence holds stays in the context, and isn't read any more."""
        theirs = [(digest, block) for digest, block in self._blocks.items() if wanted(block.owner)]
        entries = sum(block.written is not None for _, block in theirs)
        for digest, block in theirs:
            self._end(block, "cleared")
            self._bury(digest, block)
            block.written, block.hits = None, 0
        for digest, block in theirs:
            if self._blocks.get(digest) is not block:
                continue
            if not block.holders:
                self._cut(digest)
                continue
            self._leave_disk(digest, block)
            self.promises.end(digest)
            if block.size:
                self._unstore(digest)
            block.until = 0.0
        return entries


def _up(seconds: float) -> float:
    """To the whole second: a prompt that is computed in many steps needs its first blocks longer with each."""
    return seconds if math.isinf(seconds) else math.ceil(seconds)
