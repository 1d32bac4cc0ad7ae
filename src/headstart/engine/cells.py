"""What the context's cells hold: the sequences that run, idle prompts that stay hot, and the way to RAM, disk and back.

    running ──retire──> resident ──save──> RAM blocks ──write behind──> disk
       ^  └─share cells────┘                    │                        │
       └────────────────────promote─────────────┴────────────────────────┘

A sequence in the context has a slot (llama.cpp's sequence number) and pages. When it ends, its prompt stays as a
*resident*, hot for the next request, within bounds. A hit takes what it can from whoever in the context holds most of
it, by sharing cells, and the rest from RAM.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence as Ordered
from itertools import islice
from typing import NamedTuple

import numpy as np

from headstart.engine.blocks.base import Disk, State
from headstart.engine.context import Context
from headstart.engine.holding import Piece, common_blocks
from headstart.engine.index import Index
from headstart.engine.pages import PagePool, pages_for
from headstart.engine.promotion import Promotion
from headstart.engine.sequence import Sequence
from headstart.engine.tiers import Tiers
from headstart.types import BLOCK_TOKENS, CacheReport, TokenIds

TILE, FEWEST = 64, 20
"""llama.cpp's attention on a CPU takes 64 tokens at once, and fewer one by one: 20 to 63 of them take longer than 64,
up to three times as long. So where as few are left of a prompt, some before them are computed again."""

AT_ONCE = 32 * 2**20
"""Bytes brought back per step: what others who decode may have to wait for."""


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

    def __init__(self, context: Context, index: Index, bounds: Bounds, disk: Disk | None = None) -> None:
        self.context, self.index, self.bounds = context, index, bounds
        index.weigh = context.weigh
        self.tiers = Tiers(index, disk)
        self.pool = PagePool(pages_for(bounds.cells))
        self.residents: list[Resident] = []  # least recently used first
        self._slots = list(range(bounds.slots))

    # ------------------------------------------------------------------------------------------------- coming and going

    def place(self, sequence: Sequence, read: int, running: Ordered[Sequence], now: float) -> bool:
        """Give the sequence a slot, pages for all of it, and the first `read` tokens as far as the context has them:
        the rest is for `promote` to bring. False if there is no room now."""
        plan = sequence.plan
        promotion = Promotion(plan, read, self.index.lost(plan, read, now))
        self.index.read(plan, read, now)
        promotion.pin(self.index)  # before room is made for it
        if sequence.report is None:
            self.reserve(sequence, now)
        if not self._slots:
            self.evict(self.residents[0])
        sequence.slot, sequence.promotion = self._slots.pop(), promotion
        promotion.shared = self._share(sequence, read, running, now)
        promotion.goal = read if plan.whole else _taken(read, sequence.length, running)
        needed = pages_for(sequence.length) + 1 - len(sequence.pages)
        if not self.make_room(needed):
            self.let_go(sequence)
            return False
        sequence.pages += self.pool.take(needed)
        return True

    def reserve(self, sequence: Sequence, now: float) -> None:
        """Have promised what it asks to write, as far as there is room: in place of what was before."""
        self.index.unreserve(sequence.reserved)
        sequence.plan, sequence.reserved = self.index.reserve(sequence.asked, now)
        self.tiers.drop()

    def promote(self, sequence: Sequence, now: float) -> CacheReport | None:
        """Bring more of what is read back from RAM and disk; the report once nothing is left to come. What is read may
        come out less than was asked for, if a block can't be brought back."""
        promotion = sequence.promotion
        assert promotion is not None
        promotion.fetch_ahead(sequence.computed, self.tiers)
        there: list[tuple[Piece, State]] = []
        missing: Piece | None = None
        for piece in islice(promotion.pieces(sequence.computed), max(AT_ONCE // self.index.weigh(BLOCK_TOKENS), 1)):
            data = promotion.state(piece, self.tiers)
            if data is None:
                missing = piece
                break
            there.append((piece, data))
        if there and not self._restore(sequence, there):
            missing = next((piece for piece, data in there if not self._restore(sequence, [(piece, data)])), missing)
        self.tiers.drop()
        if sequence.computed >= promotion.goal:
            return self._promoted(sequence, promotion.read, now)
        self.hold_computed(sequence, now)
        self._keep_loaded(sequence, promotion)
        if missing is not None and not promotion.waiting(missing):
            reads = promotion.plan.reads
            shorter = reads[: bisect_right(reads, sequence.computed)]
            readable = (stop for stop in reversed(shorter) if self.index.is_readable(promotion.plan.digest(stop), now))
            return self._promoted(sequence, next(readable, 0), now)
        return None

    def _restore(self, sequence: Sequence, pieces: Ordered[tuple[Piece, State]]) -> bool:
        """Bring these back behind what is computed; False, and nothing is changed, if there are no cells for them."""
        start, stop = pieces[0][0].start, pieces[-1][0].stop
        if sequence.plan.whole:
            came = self.context.load(sequence.slot, pieces[0][1], stop)
        else:
            came = self.context.restore(sequence.slot, [data for _, data in pieces], start, stop)
        if came:
            sequence.computed = stop
        return came

    def _promoted(self, sequence: Sequence, read: int, now: float) -> CacheReport:
        """All that will come has come: the first `read` tokens are read."""
        promotion = sequence.promotion
        assert promotion is not None
        if sequence.computed > max(promotion.goal, promotion.shared):
            sequence.computed = max(promotion.goal, promotion.shared)
            self.context.keep(sequence.slot, sequence.computed)
        there = max(min(sequence.computed, read) - promotion.shared, 0)
        from_disk = min(promotion.from_disk, there)
        self._end_promotion(sequence)
        self.hold_computed(sequence, now)
        self._keep_loaded(sequence, promotion)
        plan = sequence.plan
        return CacheReport(
            read=read,
            written=plan.written(read),
            prefilled=sequence.pending,
            from_context=min(promotion.shared, read),
            from_ram=there - from_disk,
            from_disk=from_disk,
            refused=plan.refused(read),
            waited=sequence.waited,
            lost=promotion.lost,
        )

    def _keep_loaded(self, sequence: Sequence, promotion: Promotion) -> None:
        """Have in RAM, too, what came from disk and is held now."""
        for piece, data in promotion.loaded:
            if piece.stop <= sequence.holding.stop and not self.index.is_stored(piece.digest):
                self.tiers.keep(piece.digest, data)
        promotion.loaded.clear()

    def _end_promotion(self, sequence: Sequence) -> None:
        if sequence.promotion is not None:
            sequence.promotion.end(self.index)
            sequence.promotion = None

    def hold_computed(self, sequence: Sequence, now: float) -> None:
        """Enter what is computed of the prompt by now in the index."""
        if sequence.plan.whole:
            self._snapshot(sequence, now)
            return
        holding, stop = sequence.holding, min(sequence.computed, sequence.plan.end)
        if sequence.promotion is not None:
            stop = min(stop, max(sequence.promotion.goal, sequence.promotion.shared))
        if stop > holding.stop:
            holding.tails += self.index.hold(sequence.plan, holding.stop, stop, now)
            holding.stop = stop

    def _snapshot(self, sequence: Sequence, now: float) -> None:
        """Where state can't be cut: save all of it at a boundary, in RAM, since the context goes on beyond it."""
        plan, stop = sequence.plan, sequence.computed
        if stop not in plan.tails or sequence.promotion is not None:
            return
        tails = self.index.hold(plan, stop - 1, stop, now)
        for digest in [plan.tails[boundary] for boundary in tails]:
            if self.index.is_stored(digest) or self.tiers.keep(digest, self.context.dump(sequence.slot, stop)):
                self.tiers.write_behind(digest)
            self.index.release([digest])
        self.tiers.drop()

    def retire(self, sequence: Sequence, running: Ordered[Sequence]) -> None:
        """A sequence leaves: what is computed of its prompt becomes a resident, unless others hold all of it."""
        self._end_promotion(sequence)
        holding = sequence.holding
        if not any(self.index.is_entry(digest) for digest in holding.digests):
            self.let_go(sequence)  # nothing of it can be read
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
        self._end_promotion(sequence)
        self.index.release(sequence.holding.digests)
        self.tiers.drop()
        self.context.keep(sequence.slot, 0)
        self.pool.release(sequence.pages)
        self._slots.append(sequence.slot)
        sequence.leave()

    def clear(self, now: float) -> None:
        """Forget all state in the context and in RAM; what is on disk is as good as before."""
        self.residents.clear()
        self.context.clear()
        self.pool = PagePool(self.pool.total)
        self._slots = list(range(self.bounds.slots))
        self.tiers.clear(now)

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
        if most >= read:  # else the rest is to come, behind whole blocks
            most = _taken(most, sequence.length, running)
        if donor is not None and most:
            self.context.share(donor.slot, sequence.slot, 0, most)
            sequence.pages = self.pool.share(donor.pages[: most // BLOCK_TOKENS])
            sequence.computed = most
            self.hold_computed(sequence, now)
        return most

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
            resident.saved = 0  # RAM may have room by now for what it had none for
            self._save(resident, len(resident.pieces))
        self.residents.remove(resident)
        self.index.release(resident.holding.digests)
        self.tiers.drop()
        self.context.keep(resident.slot, 0)
        self.pool.release(resident.pages)
        self._slots.append(resident.slot)

    # --------------------------------------------------------------------------------------- behind the answers

    def tidy(self, now: float, blocks: int, running: Ordered[Sequence] = ()) -> bool:
        """Write up to `blocks` blocks to RAM, of residents and of promised prompts being answered; keep the hot
        ones within bounds, and drop what has expired. False if nothing is left to do."""
        self.tiers.tidy(now)
        for resident in list(self.residents):
            if not any(self.index.is_needed(digest, now) for digest in resident.holding.leaves):
                self.evict(resident, save=self.index.is_needed(resident.pieces[0].digest, now))
        surplus = self._surplus()
        answered = [s for s in running if s.started and s.plan.asks_promise]
        for sequence in answered:
            sequence.pieces = sequence.pieces or tuple(sequence.holding.pieces())
        holders: list[Resident | Sequence] = [*self.residents, *answered] if surplus is None else [surplus]
        for holder in holders:
            if holder.saved < len(holder.pieces):
                self._save(holder, blocks)
                return True
        if surplus is not None:
            self.evict(surplus)
        return surplus is not None

    def save_all(self) -> None:
        """Write all that idle prompts hold to RAM, and from there to disk."""
        for resident in self.residents:
            self._save(resident, len(resident.pieces))

    def _save(self, holder: Resident | Sequence, limit: int) -> None:
        while holder.saved < len(holder.pieces) and limit:
            digest, start, stop = holder.pieces[holder.saved]
            if not self.index.is_stored(digest):
                limit -= 1
                kept = self.tiers.keep(digest, self.context.save(holder.slot, start, stop))
                if not (kept or self.index.is_on_disk(digest) or stop % BLOCK_TOKENS):
                    holder.saved = len(holder.pieces)  # no room for it, so none for those that hang from it
                    return
            self.tiers.write_behind(digest)
            holder.saved += 1

    def check_integrity(self, running: Ordered[Sequence]) -> None:
        """Assert what must hold between steps; run by tests."""
        self.index.check_integrity()
        holders = [(s.slot, s.pages) for s in running] + [(r.slot, r.pages) for r in self.residents]
        slots = [slot for slot, _ in holders]
        assert sorted(slots + self._slots) == list(range(self.bounds.slots))
        taken = {id(page) for _, pages in holders for page in pages}
        assert self.pool.free + len(taken) == self.pool.total
        assert len(self.tiers.ram) == self.index.tally().stored


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
