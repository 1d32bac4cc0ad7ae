"""What the context's cells hold: the sequences that run, idle prompts that stay hot, and the way to RAM and back.

    running ──retire──> resident ──evict──> RAM blocks
       ^  └─share cells────┘                    │
       └────────────restore─────────────────────┘

A sequence in the context has a slot (llama.cpp's sequence number) and pages. When it ends, its prompt stays as a
*resident*, hot for the next request, within bounds. A hit takes what it can from whoever in the context holds most of
it, by sharing cells, and the rest from RAM.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence as Ordered
from typing import NamedTuple

import numpy as np

from headstart.engine.blocks import RamTier
from headstart.engine.context import Context
from headstart.engine.holding import common_blocks
from headstart.engine.index import Index
from headstart.engine.pages import PagePool, pages_for
from headstart.engine.sequence import Sequence
from headstart.types import BLOCK_TOKENS, CacheReport, TokenIds

TILE, FEWEST = 64, 20
"""llama.cpp's attention on a CPU takes 64 tokens at once, and fewer one by one: 20 to 63 of them take longer than 64,
up to three times as long. So where as few are left of a prompt, some before them are computed again."""


class Resident:
    """An idle prompt in the context: its tokens, and the blocks it holds, the first `saved` of whose pieces are in RAM
    already (or RAM has no room for them)."""

    __slots__ = ("holding", "pages", "pieces", "saved", "slot", "tokens")

    def __init__(self, sequence: Sequence) -> None:
        kept = min(sequence.computed, sequence.plan.end)
        self.slot = sequence.slot
        self.tokens = sequence.tokens[:kept].copy()
        self.holding = sequence.holding
        self.pages = sequence.pages[: pages_for(kept)]
        self.pieces = tuple(self.holding.pieces())
        self.saved = 0


class Bounds(NamedTuple):
    """Sizes of a context; see `config.EngineConfig`."""

    cells: int
    max_sequences: int
    hot_prefixes: int
    hot_cells: int

    @property
    def slots(self) -> int:
        """Sequence numbers in use, of running sequences and residents together."""
        return self.max_sequences + self.hot_prefixes


class Cells:
    """Who holds which cells of one context. For one thread."""

    def __init__(self, context: Context, index: Index, bounds: Bounds) -> None:
        self.context, self.index, self.bounds = context, index, bounds
        self.ram = RamTier()
        self.pool = PagePool(pages_for(bounds.cells))
        self.residents: list[Resident] = []  # least recently used first
        self._slots = list(range(bounds.slots))

    # ------------------------------------------------------------------------------------------------- coming and going

    def place(self, sequence: Sequence, read: int, running: Ordered[Sequence], now: float) -> CacheReport | None:
        """Give the sequence a slot, the first `read` tokens from what is cached, and pages for the rest. None if there
        is no room now. What is read may come out less than asked, if a block can't be brought back."""
        plan = sequence.plan
        lost = self.index.lost(plan, read, now)
        self.index.read(plan, read, now)  # before room is made, which takes what was used longest ago
        if not self._slots:
            self.evict(self.residents[0])
        sequence.slot = self._slots.pop()
        shared = self._share(sequence, read, running, now)
        needed = pages_for(sequence.length) + 1 - len(sequence.pages)
        if not self.make_room(needed):
            self.let_go(sequence)
            return None
        sequence.pages += self.pool.take(needed)
        read = self._restore(sequence, read, running, now)
        self.hold_computed(sequence, now)
        return CacheReport(
            read=read,
            written=plan.written(read),
            prefilled=sequence.pending,
            from_context=min(shared, read),
            from_ram=max(min(sequence.computed, read) - shared, 0),
            waited=sequence.waited,
            lost=lost,
        )

    def hold_computed(self, sequence: Sequence, now: float) -> None:
        """Enter what is computed of the prompt by now in the index."""
        holding, stop = sequence.holding, min(sequence.computed, sequence.plan.end)
        if stop > holding.stop:
            holding.tails += self.index.hold(sequence.plan, holding.stop, stop, now)
            holding.stop = stop

    def retire(self, sequence: Sequence, running: Ordered[Sequence]) -> None:
        """A sequence leaves: what is computed of its prompt becomes a resident, unless others hold all of it."""
        holding = sequence.holding
        if not any(boundary <= holding.stop for boundary in sequence.plan.writes[:1]):
            self.let_go(sequence)  # too short to be read
            return
        covered = any(other.holding.covers(holding) for other in running if other is not sequence)
        for resident in list(self.residents):
            if resident.holding.covers(holding) and len(resident.tokens) >= min(sequence.computed, sequence.plan.end):
                covered, resident.saved = True, 0
                self.residents.remove(resident)
                self.residents.append(resident)
            elif holding.covers(resident.holding):
                self.evict(resident, save=False)  # all of it is ours too
        if covered:
            self.let_go(sequence)
            return
        resident = Resident(sequence)
        self.context.keep(sequence.slot, len(resident.tokens))
        self.pool.release(sequence.pages[len(resident.pages) :])
        self.residents.append(resident)
        sequence.leave()

    def let_go(self, sequence: Sequence) -> None:
        """Free all that a sequence holds."""
        self.index.release(sequence.holding.digests)
        self.context.keep(sequence.slot, 0)
        self.pool.release(sequence.pages)
        self._slots.append(sequence.slot)
        sequence.leave()

    def clear(self) -> None:
        """Forget all state, in the context and in RAM."""
        self.residents.clear()
        self.context.clear()
        self.index.clear()
        self.ram.clear()
        self.pool = PagePool(self.pool.total)
        self._slots = list(range(self.bounds.slots))

    # ------------------------------------------------------------------------------------------------- what is reused

    def _share(self, sequence: Sequence, read: int, running: Ordered[Sequence], now: float) -> int:
        """Share cells with whoever holds most of the first `read` tokens; returns how many tokens.

        One who holds them all may share more than is reported: boundaries may round down, cells don't.

            ours    | block | block | block to `read` | a b c x …
            theirs  | block | block | block to `read` | a b c d …     read + 3 are shared
        """
        wanted = sequence.plan.blocks[: read // BLOCK_TOKENS]
        holders: list[tuple[Sequence | Resident, TokenIds]] = [(r, r.tokens) for r in self.residents]
        holders += [(s, s.tokens[: min(s.computed, s.plan.end)]) for s in running]
        donor: Sequence | Resident | None = None
        most = 0
        for holder, tokens in holders if wanted else ():
            blocks = holder.holding.blocks
            common = common_blocks(blocks, wanted)
            shared = common * BLOCK_TOKENS
            if common == len(wanted):
                ends_here = len(blocks) == common
                slack = sequence.plan.step - 1 if ends_here or self.index.is_readable(blocks[common], now) else 0
                agreed = shared + _agreement(tokens[shared : read + slack], sequence.tokens[shared : sequence.length])
                shared = agreed if agreed >= read else shared  # RAM has whole blocks and whole tails
            if shared > most:
                donor, most = holder, shared
        most = _taken(most, sequence.length, running)
        if donor is not None and most:
            self.context.share(donor.slot, sequence.slot, 0, most)
            sequence.pages = self.pool.share(donor.pages[: most // BLOCK_TOKENS])
            sequence.computed = most
            self.hold_computed(sequence, now)
        return most

    def _restore(self, sequence: Sequence, read: int, running: Ordered[Sequence], now: float) -> int:
        """Bring what is missing of the first `read` tokens back from RAM; returns how many of them are there then."""
        plan, shared = sequence.plan, sequence.computed
        goal = _taken(read, sequence.length, running)
        while sequence.computed < goal:
            start = sequence.computed
            stop = min(start + BLOCK_TOKENS, read)
            digest = plan.digest(read) if stop == read else plan.blocks[start // BLOCK_TOKENS]
            if not self.index.is_stored(digest):
                break
            if not self.context.restore(sequence.slot, self.ram.get(digest), start, stop):
                break
            sequence.computed = stop
        else:
            if sequence.computed > max(goal, shared):
                sequence.computed = max(goal, shared)
                self.context.keep(sequence.slot, sequence.computed)
            return read
        there = plan.reads[: bisect_right(plan.reads, sequence.computed)]
        return next((length for length in reversed(there) if self.index.is_readable(plan.digest(length), now)), 0)

    # --------------------------------------------------------------------------------------------- room in the context

    def make_room(self, pages: int) -> bool:
        """Evict residents until `pages` are free; none, if even all of them would not do."""
        if self.pool.free >= pages:
            return True
        held = Counter(page for resident in self.residents for page in resident.pages)
        if self.pool.free + sum(page.holders == count for page, count in held.items()) < pages:
            return False
        while self.pool.free < pages:
            self.evict(self.residents[0])
        return True

    def _surplus(self) -> Resident | None:
        """Who should leave for the hot prefixes to be within their bounds: one that alone exceeds them, or the least
        recently used."""
        pages = {page for resident in self.residents for page in resident.pages}
        most = self.bounds.hot_cells // BLOCK_TOKENS
        if len(self.residents) <= self.bounds.hot_prefixes and len(pages) <= most:
            return None
        return next((resident for resident in self.residents if len(resident.pages) > most), self.residents[0])

    def evict(self, resident: Resident, *, save: bool = True) -> None:
        """An idle prompt leaves the context, for RAM unless told otherwise."""
        if save:
            self._save(resident, len(resident.pieces))
        self.residents.remove(resident)
        self.index.release(resident.holding.digests)
        self.context.keep(resident.slot, 0)
        self.pool.release(resident.pages)
        self._slots.append(resident.slot)

    # --------------------------------------------------------------------------------------- behind the answers

    def tidy(self, now: float, blocks: int) -> bool:
        """Write up to `blocks` blocks of residents to RAM, keep the hot ones within bounds, and drop what has expired;
        False if nothing is left to do."""
        self.ram.drop(self.index.expire(now))
        for resident in list(self.residents):
            if not any(self.index.is_needed(digest, now) for digest in resident.holding.leaves):
                self.evict(resident, save=self.index.is_needed(resident.pieces[0].digest, now))
        surplus = self._surplus()
        for resident in self.residents if surplus is None else (surplus,):
            if resident.saved < len(resident.pieces):
                self._save(resident, blocks)
                return True
        if surplus is not None:
            self.evict(surplus)
        return surplus is not None

    def _save(self, resident: Resident, limit: int) -> None:
        while resident.saved < len(resident.pieces) and limit:
            digest, start, stop = resident.pieces[resident.saved]
            if not self.index.is_stored(digest):
                data = self.context.save(resident.slot, start, stop)
                dropped = self.index.store(digest, data.nbytes)
                if dropped is None:  # no room for it, so none for those that follow it
                    resident.saved = len(resident.pieces)
                    return
                self.ram.drop(dropped)
                self.ram.put(digest, data)
                limit -= 1
            resident.saved += 1

    def check_integrity(self, running: Ordered[Sequence]) -> None:
        """Assert what must hold between steps; run by tests."""
        self.index.check_integrity()
        holders = [(s.slot, s.pages) for s in running] + [(r.slot, r.pages) for r in self.residents]
        slots = [slot for slot, _ in holders]
        assert sorted(slots + self._slots) == list(range(self.bounds.slots))
        taken = {id(page) for _, pages in holders for page in pages}
        assert self.pool.free + len(taken) == self.pool.total
        assert len(self.ram) == self.index.tally().stored


def _taken(there: int, length: int, running: Ordered[Sequence]) -> int:
    """How many of the first tokens that are there a prompt takes over. The last one it always computes: its logits are
    what is wanted. Where others are prefilling, their tokens fill the tile."""
    left = max(length - there, 1)
    alone = not any(other.prefilling for other in running)
    return length - (TILE if alone and FEWEST <= left < TILE <= length else left)


def _agreement(left: TokenIds, right: TokenIds) -> int:
    """How many first tokens are equal."""
    size = min(len(left), len(right))
    differ = np.flatnonzero(left[:size] != right[:size])
    return int(differ[0]) if len(differ) else size
