"""What the context computes next. One `step` is: admit, bring back, fill a batch, decode, advance.

    waiting ──admit──> running ──finish──> (`cells` keeps its prompt)
                 ^         └───preempt──┐
                 └──────────────────────┘

A request whose prefix another one is prefilling right now waits for it, and then shares it. Who waits holds nothing,
and looks again at every step: if the other one ends, by whatever cause, the first that waited takes over.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from headstart.engine.cells import Cells
from headstart.engine.context import Context
from headstart.engine.holding import common_blocks, common_boundary
from headstart.engine.pace import Pace
from headstart.engine.sequence import Sequence
from headstart.errors import EngineFailed, RequestError
from headstart.types import BLOCK_TOKENS, Placed


class Budget(NamedTuple):
    """Prompt tokens computed per step: when nothing else runs, and while others wait for their next token."""

    alone: int
    while_decoding: int


class Counters:
    """Totals since the start, in tokens."""

    def __init__(self) -> None:
        self.prefilled = self.read = self.refused = self.decoded = self.preemptions = 0


class _Chunk(NamedTuple):
    """`tokens` of a sequence in a batch, counted; `last` is where the last one stands there."""

    sequence: Sequence
    tokens: int
    last: int


class Scheduler:
    """Runs the sequences of one context. For one thread. `clock`, in seconds, measures how long it computes."""

    def __init__(
        self, context: Context, cells: Cells, budget: Budget, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.context, self.cells, self.budget = context, cells, budget
        self.pace = Pace(clock)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.counters = Counters()
        self._placing: Sequence | None = None

    def step(self, now: float) -> bool:
        """Compute one batch; False if there was nothing to do but to wait."""
        self.pace.begin()
        self._drop_cancelled()
        self._admit(now)
        promoted = self._promote(now)
        for sequence in list(self.running):
            self._grow(sequence)
        chunks = self._fill()
        if not chunks:
            self.pace.pause()
            return promoted
        count = chunks[-1].last + 1
        if self.context.decode(count) != 0:
            raise EngineFailed(f"llama.cpp could not compute a batch of {count} tokens.")
        seconds = self.pace.lap(count)
        for chunk in chunks:
            self._advance(chunk, seconds, now)
        return True

    def fail(self, error: RequestError, now: float) -> None:
        """Computing failed: end what runs (or was being placed) with `error`, forget all state, and let those who wait
        start afresh."""
        self.pace.pause()
        for sequence in (*self.running, *(s for s in self.waiting if s.slot >= 0 or s is self._placing)):
            sequence.end(error)
            sequence.leave()
        self.running.clear()
        self.waiting = deque(s for s in self.waiting if not s.finished)
        for sequence in self.waiting:
            sequence.reserved = []
            if sequence.report is not None:  # its client knows what is written
                self.cells.reserve(sequence, now)
        self.cells.clear(now)

    def stop(self, error: RequestError) -> None:
        """End what runs and waits with `error`; what was computed stays."""
        for sequence in list(self.running):
            self._leave(sequence, error)
        for sequence in self.waiting:
            sequence.end(error)
        self.waiting.clear()

    # -------------------------------------------------------------------------------------------------------- the step

    def _drop_cancelled(self) -> None:
        for sequence in [s for s in self.waiting if s.cancelled]:
            self.waiting.remove(sequence)
            self.cells.index.unreserve(sequence.reserved)
            sequence.end()
        for sequence in [s for s in self.running if s.cancelled]:
            self._leave(sequence)

    def _admit(self, now: float) -> None:
        for sequence in list(self.waiting):
            if len(self.running) == self.cells.bounds.max_sequences:
                return
            read = self.cells.index.match(sequence.plan, now)
            if self._must_wait(sequence, read):
                continue  # for another's prefill: those behind may pass
            self._placing = sequence
            if not self.cells.place(sequence, read, self.running, now):
                return  # for cells: no one passes, so that long prompts get their turn
            self.waiting.remove(sequence)
            self.running.append(sequence)

    def _promote(self, now: float) -> bool:
        """Bring back more of what is read; whether anything came."""
        came = False
        for sequence in [s for s in self.running if s.promotion is not None]:
            before = sequence.computed
            report = self.cells.promote(sequence, now)
            came |= report is not None or sequence.computed > before
            if report is not None and sequence.report is None:
                # else it was preempted: what it reads now it may have computed itself
                sequence.report = report
                sequence.emit(Placed(report))
                self.counters.read += report.read
                self.counters.refused += report.refused
        return came

    def _fill(self) -> list[_Chunk]:
        """One token of each sequence that decodes, then prompts in order of arrival, up to the budget."""
        ready = [s for s in self.running if s.promotion is None]
        decoding = [s for s in ready if not s.prefilling]
        prefilling = [s for s in ready if s.prefilling]
        budget = self.budget.while_decoding if decoding else self.budget.alone
        chunks, start, context = [], 0, self.context
        for sequence in (*decoding, *prefilling):
            size = 1
            if sequence.prefilling:
                size = min(sequence.next_state - sequence.computed, budget)
                budget -= size
            if not size:
                break
            stop, computed = start + size, sequence.computed
            context.tokens[start:stop] = sequence.tokens[computed : computed + size]
            context.positions[start:stop] = np.arange(computed, computed + size, dtype=np.int32)
            context.sequences[start:stop] = sequence.slot
            context.outputs[start:stop] = 0
            context.outputs[stop - 1] = size == sequence.pending
            chunks.append(_Chunk(sequence, size, stop - 1))
            start = stop
        return chunks

    def _advance(self, chunk: _Chunk, seconds: float, now: float) -> None:
        """Go on with what was computed, in `seconds` a token."""
        sequence, taken = chunk.sequence, chunk.tokens * seconds
        sequence.seconds += taken
        if sequence.prefilling:
            self.counters.prefilled += chunk.tokens
            self.pace.prefilled(chunk.tokens, taken)
        sequence.computed += chunk.tokens
        self.cells.hold_computed(sequence, now)
        if sequence.pending:
            return
        sequence.saved_seconds = sequence.spared * self.pace.of_prefill
        sequence.advance(self.context.logits(chunk.last))
        self.counters.decoded += 1
        if sequence.finished:
            self._leave(sequence)

    def _leave(self, sequence: Sequence, error: RequestError | None = None) -> None:
        self.running.remove(sequence)
        try:
            self.cells.retire(sequence, self.running)
            self.cells.index.unreserve(sequence.reserved)
        finally:
            sequence.end(error)

    # ---------------------------------------------------------------------------------------------- waiting and growing

    def _must_wait(self, sequence: Sequence, read: int) -> bool:
        """Whether someone is computing more of this prompt's prefix right now than the `read` cached tokens."""
        for owner in self.running:
            if owner.computed == owner.prompt_length:
                continue
            written = owner.computed if owner.plan.whole else owner.holding.stop
            if max(read, written) < common_boundary(owner.plan, sequence.plan) or _brings(owner, sequence, read):
                sequence.waited = True
                return True
        return False

    def _grow(self, sequence: Sequence) -> None:
        """Have a page for the next token, if need be from the sequence that was admitted last."""
        while sequence.slot >= 0 and sequence.lacks_page:
            if self.cells.make_room(1):
                sequence.pages += self.cells.pool.take(1)
            else:
                self._preempt(self.running[-1])

    def _preempt(self, sequence: Sequence) -> None:
        """Take its cells; it starts again, first in the queue, from what is cached of it."""
        self.counters.preemptions += 1
        self.running.remove(sequence)
        self.waiting.appendleft(sequence)  # first, so that it is not lost if what follows fails
        self.cells.retire(sequence, self.running)
        for resident in list(self.cells.residents):
            self.cells.evict(resident)


def _brings(owner: Sequence, sequence: Sequence, read: int) -> bool:
    """Whether more of what a sequence is to read is being brought back by another one."""
    if owner.promotion is None:
        return False
    theirs = owner.promotion.read
    if theirs and theirs == read and owner.plan.digest(read) == sequence.plan.digest(read):
        return owner.computed < owner.promotion.goal
    common = common_blocks(owner.plan.blocks, sequence.plan.blocks) * BLOCK_TOKENS
    return owner.computed < min(read, owner.promotion.goal, common)
