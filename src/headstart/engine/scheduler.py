"""What the context computes next, and what it keeps. One `step` is: admit, fill a batch, decode, advance.

    waiting ──admit──> running ──finish──> resident ──evict──> RAM
                 ^         └───preempt──┐
                 └──────────────────────┘

A *running* sequence holds a slot (llama.cpp's sequence number) and pages. When it ends, its prompt's whole blocks stay
in the context as a *resident*, hot for the next request, within bounds; their state is written to RAM behind the
answers. A hit takes what it can from the sequence that holds most of it, by sharing cells, and the rest from RAM.

A request whose prefix another one is prefilling right now waits for it, and then shares it. Who waits holds nothing,
and looks again at every step: if the other one ends, by whatever cause, the first that waited takes over.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from headstart.cache.index import PrefixIndex
from headstart.engine.blocks import RamTier
from headstart.engine.context import Context
from headstart.engine.pages import Page, PagePool, pages_for
from headstart.engine.sequence import Sequence
from headstart.errors import EngineFailed, RequestError
from headstart.types import BLOCK_TOKENS, CacheReport, Plan


class Limits(NamedTuple):
    """Bounds of a context; see `config.EngineConfig`."""

    cells: int
    max_sequences: int
    hot_prefixes: int
    hot_cells: int
    prefill_tokens: int
    prefill_tokens_while_decoding: int

    @property
    def batch(self) -> int:
        """The most tokens of one step."""
        return max(self.prefill_tokens, self.prefill_tokens_while_decoding) + self.max_sequences


class Counters:
    """Totals since the start, in tokens."""

    def __init__(self) -> None:
        self.prefilled = self.read = self.decoded = self.preemptions = 0


class Resident:
    """An idle prefix in the context: whole blocks, of which the first `saved` are in RAM or can't be."""

    __slots__ = ("blocks", "idle", "pages", "saved", "slot", "used")

    def __init__(self, slot: int, plan: Plan, pages: list[Page], used: float) -> None:
        self.slot = slot
        self.blocks = plan.blocks[: len(pages)]
        self.idle = plan.lifetime.idle
        self.pages = pages
        self.used = used
        self.saved = 0


class _Chunk(NamedTuple):
    """`count` tokens of a sequence in a batch; `last` is where its last one stands there."""

    sequence: Sequence
    count: int
    last: int


class Scheduler:
    """Owns the sequences of one context. For one thread."""

    def __init__(self, context: Context, index: PrefixIndex, limits: Limits, *, reuse: bool = True) -> None:
        self.context, self.index, self.limits, self.reuse = context, index, limits, reuse
        self.ram = RamTier()
        self.pool = PagePool(pages_for(limits.cells))
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.residents: list[Resident] = []  # least recently used first
        self.counters = Counters()
        self._slots = list(range(limits.max_sequences + limits.hot_prefixes))

    # -------------------------------------------------------------------------------------------------------- the step

    def step(self, now: float) -> bool:
        """Compute one batch; False if there was nothing to compute."""
        self._drop_cancelled(now)
        self._admit(now)
        chunks = self._fill(now)
        if not chunks:
            return False
        self._decode(chunks)
        for chunk in chunks:
            self._advance(chunk, now)
        return True

    def _drop_cancelled(self, now: float) -> None:
        for sequence in [s for s in (*self.waiting, *self.running) if s.cancelled]:
            sequence.sampler.close()
            if sequence.slot < 0:
                self.waiting.remove(sequence)
            else:
                self._retire(sequence, now)

    def _admit(self, now: float) -> None:
        for sequence in list(self.waiting):
            if len(self.running) == self.limits.max_sequences:
                return
            if self._must_wait(sequence):
                continue  # for another's prefill: those behind may pass
            if not self._place(sequence, now):
                if sequence.awaits:
                    continue
                return  # for cells: no one passes, so that long prompts get their turn
            self.waiting.remove(sequence)
            self.running.append(sequence)

    def _fill(self, now: float) -> list[_Chunk]:
        """One token of each sequence that decodes, then prompts in order of arrival, up to the budget."""
        for sequence in list(self.running):
            if sequence in self.running and not sequence.prefilling:
                self._grow(sequence, now)
        decoding = [s for s in self.running if not s.prefilling]
        limits = self.limits
        budget = limits.prefill_tokens_while_decoding if decoding else limits.prefill_tokens
        chunks, at, context = [], 0, self.context
        for sequence in (*decoding, *(s for s in self.running if s.prefilling)):
            count = 1
            if sequence.prefilling:
                count = min(sequence.pending, budget)
                budget -= count
            if count:
                start, stop, end = sequence.computed, sequence.computed + count, at + count
                context.tokens[at:end] = sequence.tokens[start:stop]
                context.positions[at:end] = np.arange(start, stop, dtype=np.int32)
                context.sequences[at:end] = sequence.slot
                context.outputs[at:end] = 0
                context.outputs[end - 1] = stop == sequence.length
                chunks.append(_Chunk(sequence, count, end - 1))
                at = end
        return chunks

    def _decode(self, chunks: list[_Chunk]) -> None:
        count = chunks[-1].last + 1
        if self.context.decode(count) != 0:
            raise EngineFailed(f"llama.cpp could not compute a batch of {count} tokens.")

    def _advance(self, chunk: _Chunk, now: float) -> None:
        sequence = chunk.sequence
        if sequence.prefilling:
            self.counters.prefilled += chunk.count
        sequence.computed += chunk.count
        self._hold_computed(sequence, now)
        if sequence.pending:
            return
        sequence.advance(self.context.logits(chunk.last))
        self.counters.decoded += 1
        if sequence.finished:
            sequence.sampler.close()
            self._retire(sequence, now)

    def _hold_computed(self, sequence: Sequence, now: float) -> None:
        whole = min(sequence.computed // BLOCK_TOKENS, len(sequence.plan.blocks)) * BLOCK_TOKENS
        if whole > sequence.held and self.reuse:
            self.index.hold(sequence.plan, sequence.held, whole, now)
            sequence.held = whole

    # ------------------------------------------------------------------------------------------------------- admission

    def _must_wait(self, sequence: Sequence) -> bool:
        """Whether the one it awaits is still on its way to the shared boundary."""
        if sequence.awaits is None:
            return False
        owner, boundary = sequence.awaits
        if owner in self.running and owner.held < boundary:
            return True
        sequence.awaits = None
        return False

    def _place(self, sequence: Sequence, now: float) -> bool:
        """Give the sequence a slot, what is cached of its prompt, and pages for the rest. False if it has to wait, for
        another's prefill (`awaits` is set) or for room."""
        plan = sequence.plan
        read = self.index.match(plan, now) if self.reuse else 0
        sequence.awaits = self._prefilling_now(plan, read) if self.reuse else None
        if sequence.awaits is not None:
            sequence.waited = True
            return False
        self.index.read(plan, read, now)  # before room is made, which takes what was used longest ago
        usable = min(read, sequence.length - 1)  # the last token is always computed: its logits are what is wanted
        donor, common = self._holder_of_most(plan, read)
        shared = min(common * BLOCK_TOKENS, usable)
        sequence.slot = self._slots.pop()
        if donor is not None and shared:
            self.context.share(donor.slot, sequence.slot, 0, shared)
            sequence.pages = self.pool.share(donor.pages[: shared // BLOCK_TOKENS])
        sequence.computed = shared
        self._hold_computed(sequence, now)
        needed = pages_for(sequence.length) + 1 - len(sequence.pages)
        if not self._make_room(needed):
            self._let_go(sequence)
            return False
        sequence.pages += self.pool.take(needed)
        restored = self._restore(sequence, read, usable, now)
        if sequence.computed < usable:  # a block could not be brought back: what is left may be under the minimum
            read = restored if restored in plan.reads else 0
            if not read:
                self.context.keep(sequence.slot, 0)
                self.index.release(plan.blocks[: sequence.held // BLOCK_TOKENS])
                sequence.computed = sequence.held = 0
        if not sequence.started:
            sequence.report = CacheReport(
                read=read,
                prefilled=sequence.length - sequence.computed,
                from_context=min(shared, read),
                from_ram=max(min(sequence.computed, read) - shared, 0),
                waited=sequence.waited,
            )
            self.counters.read += read
        return True

    def _restore(self, sequence: Sequence, read: int, usable: int, now: float) -> int:
        """Bring blocks of [computed, read) back from RAM. Returns the tokens then in the context, in whole blocks."""
        start = sequence.held
        while start < read and self.index.is_stored(digest := sequence.plan.blocks[start // BLOCK_TOKENS]):
            stop = start + BLOCK_TOKENS
            if start < sequence.computed:
                break  # the last block was shared but for its last token
            if not self.context.restore(sequence.slot, self.ram.get(digest), start, stop):
                break
            start = stop
        if start > usable:
            self.context.keep(sequence.slot, usable)
        sequence.computed = max(sequence.computed, min(start, usable))
        self._hold_computed(sequence, now)
        return start

    def _prefilling_now(self, plan: Plan, read: int) -> tuple[Sequence, int] | None:
        """Who is computing more of this prompt's prefix than is cached, and up to which boundary we share it."""
        best = None
        for sequence in self.running:
            if sequence.computed < sequence.prompt_length:
                boundary = _common(sequence.plan.blocks, plan.blocks) * BLOCK_TOKENS
                if max(read, sequence.held) < boundary and boundary in plan.reads:
                    read, best = boundary, (sequence, boundary)
        return best

    def _holder_of_most(self, plan: Plan, read: int) -> tuple[Sequence | Resident | None, int]:
        """Which sequence in the context holds most of the first `read` tokens, and how many blocks of them."""
        best: Sequence | Resident | None = None
        most, wanted = 0, plan.blocks[: read // BLOCK_TOKENS]
        for resident in self.residents:
            if (common := _common(resident.blocks, wanted)) > most:
                best, most = resident, common
        for sequence in self.running:
            common = min(_common(sequence.plan.blocks, wanted), sequence.held // BLOCK_TOKENS)
            if common > most:
                best, most = sequence, common
        return best, most

    # --------------------------------------------------------------------------------------------- room in the context

    def _make_room(self, pages: int) -> bool:
        """Evict residents until `pages` are free."""
        while self.pool.free < pages:
            if not self.residents:
                return False
            self._evict(self.residents[0])
        return True

    def _grow(self, sequence: Sequence, now: float) -> None:
        """Have a page for the next token, if need be from the sequence that was admitted last."""
        while len(sequence.pages) < pages_for(sequence.length) + 1 and sequence.slot >= 0:
            if self._make_room(1):
                sequence.pages += self.pool.take(1)
            else:
                self._preempt(self.running[-1], now)

    def _preempt(self, sequence: Sequence, now: float) -> None:
        """Take its cells; it starts again, first in the queue, from what is cached of it."""
        self.counters.preemptions += 1
        self._retire(sequence, now)
        for resident in list(self.residents):
            self._evict(resident)
        sequence.computed, sequence.slot = 0, -1
        self.waiting.appendleft(sequence)

    def _retire(self, sequence: Sequence, now: float) -> None:
        """A sequence leaves: what it held of its prompt becomes a resident, unless another one covers it."""
        self.running.remove(sequence)
        blocks = sequence.plan.blocks[: sequence.held // BLOCK_TOKENS]
        covered = any(min(_common(s.plan.blocks, blocks), s.held // BLOCK_TOKENS) == len(blocks) for s in self.running)
        for resident in list(self.residents):
            common = _common(resident.blocks, blocks)
            if common == len(blocks):
                covered, resident.used = True, now
                self.residents.remove(resident)
                self.residents.append(resident)
            elif common == len(resident.blocks):
                self._evict(resident, save=False)  # all of it is ours too
        if covered or not any(boundary <= sequence.held for boundary in sequence.plan.writes[:1]):
            self._let_go(sequence)  # others hold it all, or it is too short to be read
            return
        self.context.keep(sequence.slot, sequence.held)
        self.pool.release(sequence.pages[len(blocks) :])
        self.residents.append(Resident(sequence.slot, sequence.plan, sequence.pages[: len(blocks)], now))
        sequence.pages, sequence.held = [], 0
        self._keep_within_bounds()

    def _keep_within_bounds(self) -> None:
        while self.residents:
            pages = {id(page) for resident in self.residents for page in resident.pages}
            cells = len(pages) * BLOCK_TOKENS
            if len(self.residents) <= self.limits.hot_prefixes and cells <= self.limits.hot_cells:
                return
            self._evict(self.residents[0])

    def _let_go(self, sequence: Sequence) -> None:
        """Free all that a sequence holds."""
        self.index.release(sequence.plan.blocks[: sequence.held // BLOCK_TOKENS])
        self.context.keep(sequence.slot, 0)
        self.pool.release(sequence.pages)
        self._slots.append(sequence.slot)
        sequence.pages, sequence.held, sequence.computed, sequence.slot = [], 0, 0, -1

    def _evict(self, resident: Resident, *, save: bool = True) -> None:
        """An idle prefix leaves the context, for RAM unless told otherwise."""
        if save:
            self._save(resident, len(resident.blocks))
        self.residents.remove(resident)
        self.index.release(resident.blocks)
        self.context.keep(resident.slot, 0)
        self.pool.release(resident.pages)
        self._slots.append(resident.slot)

    # ------------------------------------------------------------------------------------------- behind the answers

    def tidy(self, now: float, blocks: int) -> bool:
        """Write up to `blocks` blocks of residents to RAM and drop what has expired; False if nothing is left to do."""
        self.ram.drop(self.index.expire(now))
        if self.residents and now - self.residents[0].used >= self.residents[0].idle:
            self._evict(self.residents[0], save=False)
        for resident in self.residents:
            if resident.saved < len(resident.blocks):
                self._save(resident, blocks)
                return True
        return False

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

    def fail(self, error: RequestError) -> None:
        """Computing failed: end what runs with `error`, forget all state, and let those who wait start afresh."""
        for sequence in self.running:
            sequence.sampler.close()
            sequence.emit(error)
        for sequence in self.waiting:
            sequence.awaits = None
        self.running.clear()
        self.residents.clear()
        self.context.clear()
        self.index.clear()
        self.ram.clear()
        self.pool = PagePool(self.pool.total)
        self._slots = list(range(self.limits.max_sequences + self.limits.hot_prefixes))

    def check_integrity(self) -> None:
        """Assert what must hold between steps; run by tests."""
        self.index.check_integrity()
        holders = [(s.slot, s.pages) for s in self.running] + [(r.slot, r.pages) for r in self.residents]
        slots = [slot for slot, _ in holders]
        assert sorted(slots + self._slots) == list(range(self.limits.max_sequences + self.limits.hot_prefixes))
        taken = {id(page) for _, pages in holders for page in pages}
        assert self.pool.free + len(taken) == self.pool.total
        assert len(self.ram) == self.index.tally().stored


def _common(left: tuple[bytes, ...], right: tuple[bytes, ...]) -> int:
    """How many first blocks two chains share. A digest covers all before it, so agreement can be bisected."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[middle - 1] == right[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low
