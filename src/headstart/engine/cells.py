"""What the context's cells hold: the sequences that run, idle prompts that stay hot, and the way to RAM and back.

    running ──retire──> resident ──evict──> RAM blocks
       ^  └─share cells────┘                    │
       └────────────restore─────────────────────┘

A sequence in the context has a slot (llama.cpp's sequence number) and pages. When it ends, its prompt stays as a
*resident*, hot for the next request, within bounds. A hit takes what it can from whoever in the context holds most of
it, by sharing cells, and the rest from RAM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence as Ordered
from typing import NamedTuple

import numpy as np

from headstart.engine.blocks import RamTier
from headstart.engine.context import Context
from headstart.engine.index import Index
from headstart.engine.pages import PagePool, pages_for
from headstart.engine.sequence import Sequence
from headstart.types import BLOCK_TOKENS, CacheReport, TokenIds


class Resident:
    """An idle prompt in the context: its tokens, and its whole blocks, the first `saved` of which are in RAM already
    (or RAM has no room for them)."""

    __slots__ = ("blocks", "idle", "pages", "saved", "slot", "tokens", "used")

    def __init__(self, sequence: Sequence, used: float) -> None:
        kept = min(sequence.computed, sequence.prompt_length)
        self.slot = sequence.slot
        self.tokens = sequence.tokens[:kept].copy()
        self.blocks = sequence.blocks
        self.pages = sequence.pages[: pages_for(kept)]
        self.idle = sequence.plan.lifetime.idle
        self.used = used
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
        self.index.read(sequence.plan, read, now)  # before room is made, which takes what was used longest ago
        if not self._slots:
            self.evict(self.residents[0])
        sequence.slot = self._slots.pop()
        shared = self._share(sequence, read, running, now)
        needed = pages_for(sequence.length) + 1 - len(sequence.pages)
        if not self.make_room(needed):
            self.let_go(sequence)
            return None
        sequence.pages += self.pool.take(needed)
        read = self._restore(sequence, read)
        self.hold_computed(sequence, now)
        return CacheReport(
            read=read,
            written=max((*sequence.plan.writes[-1:], read)) - read,
            prefilled=sequence.pending,
            from_context=min(shared, read),
            from_ram=max(min(sequence.computed, read) - shared, 0),
            waited=sequence.waited,
        )

    def hold_computed(self, sequence: Sequence, now: float) -> None:
        """Enter the prompt's blocks that are computed by now in the index."""
        whole = min(sequence.computed // BLOCK_TOKENS, len(sequence.plan.blocks)) * BLOCK_TOKENS
        if whole > sequence.held:
            self.index.hold(sequence.plan, sequence.held, whole, now)
            sequence.held = whole

    def retire(self, sequence: Sequence, running: Ordered[Sequence], now: float) -> None:
        """A sequence leaves: what is computed of its prompt becomes a resident, unless others hold all of it."""
        if not any(boundary <= sequence.held for boundary in sequence.plan.writes[:1]):
            self.let_go(sequence)  # too short to be read
            return
        blocks = sequence.blocks
        covered = any(common_blocks(other.blocks, blocks) == len(blocks) for other in running if other is not sequence)
        for resident in list(self.residents):
            common = common_blocks(resident.blocks, blocks)
            if common == len(blocks) and len(resident.tokens) >= min(sequence.computed, sequence.prompt_length):
                covered, resident.used, resident.saved = True, now, 0
                self.residents.remove(resident)
                self.residents.append(resident)
            elif common == len(resident.blocks):
                self.evict(resident, save=False)  # all of it is ours too
        if covered:
            self.let_go(sequence)
            return
        resident = Resident(sequence, now)
        self.context.keep(sequence.slot, len(resident.tokens))
        self.pool.release(sequence.pages[len(resident.pages) :])
        self.residents.append(resident)
        sequence.leave()

    def let_go(self, sequence: Sequence) -> None:
        """Free all that a sequence holds."""
        self.index.release(sequence.blocks)
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

        One who holds them all may share more than is reported: boundaries round down, cells don't.

            ours    | block | block | block to `read` | a b c x …
            theirs  | block | block | block to `read` | a b c d …     read + 3 are shared
        """
        wanted = sequence.plan.blocks[: read // BLOCK_TOKENS]
        holders: list[tuple[Sequence | Resident, TokenIds]] = [(r, r.tokens) for r in self.residents]
        holders += [(s, s.tokens[: min(s.computed, s.prompt_length)]) for s in running]
        donor: Sequence | Resident | None = None
        most = 0
        for holder, tokens in holders if wanted else ():
            shared = common_blocks(holder.blocks, wanted) * BLOCK_TOKENS
            ends_here = len(holder.blocks) == len(wanted)
            if shared == read and (ends_here or self.index.is_readable(holder.blocks[len(wanted)], now)):
                shared += _agreement(tokens[read : read + BLOCK_TOKENS], sequence.tokens[read : sequence.length])
            if shared > most:
                donor, most = holder, shared
        most = min(most, sequence.length - 1)  # the last token is always computed: its logits are what is wanted
        if donor is not None and most:
            self.context.share(donor.slot, sequence.slot, 0, most)
            sequence.pages = self.pool.share(donor.pages[: most // BLOCK_TOKENS])
            sequence.computed = most
            self.hold_computed(sequence, now)
        return most

    def _restore(self, sequence: Sequence, read: int) -> int:
        """Bring what is missing of the first `read` tokens back from RAM; returns how many of them are there then."""
        while sequence.computed < min(read, sequence.length - 1):
            start, stop = sequence.computed, sequence.computed + BLOCK_TOKENS
            digest = sequence.plan.blocks[start // BLOCK_TOKENS]
            if not self.index.is_stored(digest):
                break
            if not self.context.restore(sequence.slot, self.ram.get(digest), start, stop):
                break
            sequence.computed = stop
        else:
            if sequence.computed == sequence.length:
                sequence.computed -= 1
                self.context.keep(sequence.slot, sequence.computed)
            return read
        return sequence.computed if sequence.computed in sequence.plan.reads else 0

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
            self._save(resident, len(resident.blocks))
        self.residents.remove(resident)
        self.index.release(resident.blocks)
        self.context.keep(resident.slot, 0)
        self.pool.release(resident.pages)
        self._slots.append(resident.slot)

    # --------------------------------------------------------------------------------------- behind the answers

    def tidy(self, now: float, blocks: int) -> bool:
        """Write up to `blocks` blocks of residents to RAM, keep the hot ones within bounds, and drop what has expired;
        False if nothing is left to do."""
        self.ram.drop(self.index.expire(now))
        if self.residents and now - self.residents[0].used >= self.residents[0].idle:
            self.evict(self.residents[0], save=False)
        surplus = self._surplus()
        for resident in self.residents if surplus is None else (surplus,):
            if resident.saved < len(resident.blocks):
                self._save(resident, blocks)
                return True
        if surplus is not None:
            self.evict(surplus)
        return surplus is not None

    def _save(self, resident: Resident, limit: int) -> None:
        while resident.saved < len(resident.blocks) and limit:
            digest = resident.blocks[resident.saved]
            if not self.index.is_stored(digest):
                start = resident.saved * BLOCK_TOKENS
                data = self.context.save(resident.slot, start, start + BLOCK_TOKENS)
                dropped = self.index.store(digest, data.nbytes)
                if dropped is None:  # no room for it, so none for those that follow it
                    resident.saved = len(resident.blocks)
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


def common_blocks(left: tuple[bytes, ...], right: tuple[bytes, ...]) -> int:
    """How many first blocks two chains share. A digest covers all before it, so agreement can be bisected."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[middle - 1] == right[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


def _agreement(left: TokenIds, right: TokenIds) -> int:
    """How many first tokens are equal."""
    size = min(len(left), len(right))
    differ = np.flatnonzero(left[:size] != right[:size])
    return int(differ[0]) if len(differ) else size
