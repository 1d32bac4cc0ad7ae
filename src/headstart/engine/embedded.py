"""The embedded engine: llama.cpp in this process, driven by one thread that owns the context.

    event loop                      engine's thread
    generate ──Sequence──> inbox ──> scheduler.step() ... llama_decode (without Python's lock)
    EventStream <── one call per step ── events

Nothing of the event loop waits for the thread, and the thread waits for nothing but its inbox.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue

from headstart.config import EngineConfig
from headstart.engine.base import EngineStats
from headstart.engine.blocks.disk import DiskTier
from headstart.engine.cells import Bounds, Cells
from headstart.engine.census import Census
from headstart.engine.clock import SteadyClock
from headstart.engine.index import Index
from headstart.engine.llama import LlamaContext, LlamaModel, LlamaSampler
from headstart.engine.pages import pages_for
from headstart.engine.scheduler import Budget, Scheduler
from headstart.engine.sequence import Sequence
from headstart.engine.text import shown
from headstart.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, Overloaded, RequestError
from headstart.types import BLOCK_TOKENS, Event, Finished, ModelInfo, Placed, Plan, Prefix, Prompt, Sampling

log = logging.getLogger("headstart.engine")

CLOSING_SECONDS = 30.0  # a step is over long before
IDLE_SECONDS = 1.0  # how often an idle engine looks for what has expired
TOLD_SECONDS = 2.0
BLOCKS_BETWEEN_STEPS = 2  # written to RAM per step while requests run: under a millisecond


class EventStream:
    """One request's events, for `async for`. Closing it, or dropping it, cancels the request."""

    def __init__(self, loop: asyncio.AbstractEventLoop, closed: Callable[[EventStream], None]) -> None:
        self.loop = loop
        self.sequence: Sequence | None = None
        self._events: asyncio.Queue[Event | RequestError | None] = asyncio.Queue()
        self._closed = closed
        self._open = True

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        if not self._open:
            raise StopAsyncIteration
        event = await self._events.get()
        if event is None:
            raise StopAsyncIteration
        if isinstance(event, RequestError):
            self.close()
            raise event
        if isinstance(event, Finished):
            self.close()
        return event

    def deliver(self, event: Event | RequestError) -> None:
        """Called on the event loop."""
        self._events.put_nowait(event)

    def close(self) -> None:
        """No more events are wanted. Idempotent."""
        if self._open:
            self._open = False
            self._closed(self)

    async def aclose(self) -> None:
        """As an async generator's; who waits for the next event learns that there is none."""
        self.close()
        self._events.put_nowait(None)

    def __del__(self) -> None:
        self.close()


_Envelope = tuple["weakref.ref[EventStream]", Event | RequestError]


class EmbeddedEngine:
    """`Engine` on one llama.cpp context; `index` is its own. Raises `StartError` if the context can't be made."""

    def __init__(
        self,
        model: LlamaModel,
        config: EngineConfig,
        index: Index,
        *,
        disk: DiskTier | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        length = min(config.context_cells, model.context_length)
        cells = (pages_for(config.context_cells) + 2) * BLOCK_TOKENS  # so that the longest request has its spare page
        bounds = Bounds(cells, config.max_sequences, config.hot_prefixes, config.hot_cells)
        budget = Budget(config.prefill_tokens, config.prefill_tokens_while_decoding)
        self._model, self._config, self._disk = model, config, disk
        self._clock = clock or SteadyClock()
        self._context = LlamaContext(
            model,
            cells=cells,
            batch=max(budget) + config.max_sequences,
            sequences=bounds.slots,
            threads=config.threads or _cores(),
            kv_type=config.kv_type,
        )
        self._index, self._census = index, Census(index, self._clock)
        self._cells = Cells(self._context, self._index, bounds, disk)
        self._cells.tiers.load(self._clock())
        self._scheduler = Scheduler(self._context, self._cells, budget, self._clock)
        if model.memory is None:
            log.warning("This model's memory can't be reused in a way that is known to be right: nothing is cached.")
        description = f"{model.description}, {model.size / 1e6:.0f} MB"
        self._info = ModelInfo(
            length,
            model.vocabulary_size,
            description,
            model.memory is not None,
            model.cuttable,
            config.max_output_tokens,
        )
        self._inbox: SimpleQueue[Sequence | None] = SimpleQueue()
        if disk is not None:
            disk.wake = lambda: self._inbox.put(None)
        self._outbox: list[_Envelope] = []
        self._open: set[int] = set()
        self._seconds_per_request, self._busy, self._told = 1.0, 0.0, 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="headstart-engine", daemon=True)
        self._thread.start()

    @property
    def info(self) -> ModelInfo:
        """The model that runs here."""
        return self._info

    # ------------------------------------------------------------------------------------------------ the event loop's

    def generate(self, prompt: Prompt, plan: Plan, sampling: Sampling) -> EventStream:
        """See `Engine.generate`."""
        if self._closing:
            raise EngineFailed("The server is shutting down.")
        length = len(prompt.tokens)
        self._check(prompt, sampling)
        plan = self._info.kept(plan)
        capacity = self._config.max_sequences + self._config.max_waiting
        if len(self._open) >= capacity:
            waits = math.ceil(self._seconds_per_request * len(self._open) / self._config.max_sequences)
            raise Overloaded(
                f"The server is busy: {capacity} requests are running or waiting. Please try again later.",
                retry_after=min(max(waits, 1), 60),
            )
        max_tokens = self._info.most_output(length, sampling.max_tokens)
        stream = EventStream(asyncio.get_running_loop(), self._forget)
        sampler = LlamaSampler(self._model, sampling, max_tokens)
        vocabulary = shown(self._model, self._model.control_token, sampling.calls)
        stream.sequence = Sequence(
            prompt.tokens, plan, sampling, sampler, vocabulary, max_tokens, self._sender(stream, plan)
        )
        self._open.add(id(stream))
        self._inbox.put(stream.sequence)
        return stream

    def _check(self, prompt: Prompt, sampling: Sampling) -> None:
        length, limit = len(prompt.tokens), self._info.context_length
        if not length:
            raise InvalidRequest("The prompt is empty: there is nothing to answer.")
        if length >= limit:
            path = next((segment.path for segment in prompt.segments if segment.path), "")
            raise ContextLengthExceeded(
                f"This model's maximum context length is {limit} tokens. However, your input resulted in {length} "
                "tokens. Please reduce the length of the input.",
                param=path.partition("[")[0].partition(".")[0] or None,
            )
        for token, _ in sampling.logit_bias:
            if not 0 <= token < self._info.vocabulary_size:
                raise InvalidRequest(
                    f"Invalid key in 'logit_bias': {token}. Token ids of this model are 0 to "
                    f"{self._info.vocabulary_size - 1}.",
                    param="logit_bias",
                )

    def _sender(self, stream: EventStream, plan: Plan) -> Callable[[Event | RequestError], None]:
        """What the engine's thread calls with each event."""
        weak = weakref.ref(stream)  # the sequence must not keep alive what nobody listens to

        def send(event: Event | RequestError) -> None:
            if isinstance(event, Placed):
                self._index.hit(plan, event.report.read)
            self._outbox.append((weak, event))

        return send

    def _forget(self, stream: EventStream) -> None:
        self._open.discard(id(stream))
        sequence = stream.sequence
        if sequence is not None and not sequence.finished:
            sequence.cancelled = True
            self._inbox.put(None)

    def stats(self) -> EngineStats:
        """See `Engine.stats`."""
        scheduler, tally = self._scheduler, self._index.tally()
        counters = scheduler.counters
        return EngineStats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + self._inbox.qsize(),
            context_cells=self._cells.bounds.cells,
            context_cells_used=(self._cells.pool.total - self._cells.pool.free) * BLOCK_TOKENS,
            ram_blocks=tally.stored,
            ram_bytes=tally.stored_bytes,
            ram_budget=self._index.budget,
            disk_blocks=tally.on_disk,
            disk_bytes=tally.disk_bytes,
            disk_budget=tally.disk_budget,
            promised_budget=tally.promised_budget,
            promised_bytes=tally.promised_bytes,
            tokens_refused=counters.refused,
            tokens_prefilled=counters.prefilled,
            tokens_read=counters.read,
            tokens_decoded=counters.decoded,
            preemptions=counters.preemptions,
            promised_blocks=tally.promised_blocks,
            entries_evicted=tally.evicted,
            entries_expired=tally.expired,
            entries_lost=tally.lost,
            entries_cleared=tally.cleared,
        )

    async def prefixes(self, limit: int) -> list[Prefix]:
        """See `Engine.prefixes`."""
        return await self._census.prefixes(limit)

    async def close(self) -> None:
        """See `Engine.close`. The model stays: others may use it."""
        self._closing = True
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join, CLOSING_SECONDS)

    # ----------------------------------------------------------------------------------------------------- the thread's

    def _run(self) -> None:
        idle = False
        while True:
            self._receive(wait=idle)
            if self._closing:
                break
            began = self._clock()
            running = len(self._scheduler.running)
            more = False
            try:
                worked = self._scheduler.step(began)
                self._publish()
                self._note_pace(running, self._clock() - began)
                more = self._cells.tidy(self._clock(), BLOCKS_BETWEEN_STEPS, self._scheduler.running)
                self._tell(began)
            except Exception as error:  # the process's edge: whatever it was, the next request is served
                log.exception("The engine failed; running requests end with an error and the cache starts empty.")
                failed = EngineFailed(f"The engine failed while computing this request: {error}")
                self._scheduler.fail(failed, self._clock())
                self._publish()
                worked = True
            idle = not worked and not more
        self._receive(wait=False)
        self._scheduler.stop(EngineFailed("The server is shutting down."))
        self._publish()
        try:
            if self._disk is not None:
                self._cells.save_all()
                self._cells.tiers.finish()
        finally:
            if self._disk is not None:
                self._disk.close()
            self._context.close()

    def _tell(self, now: float) -> None:
        """Leave figures for `headstart cache stats`, now and then."""
        if self._disk is not None and abs(now - self._told) >= TOLD_SECONDS:
            self._told = now
            self._disk.publish(self.stats()._asdict())

    def _receive(self, *, wait: bool) -> None:
        try:
            item = self._inbox.get(block=wait, timeout=IDLE_SECONDS)
            while True:
                if item is not None:
                    self._scheduler.waiting.append(item)
                item = self._inbox.get_nowait()
        except Empty:
            return

    def _publish(self) -> None:
        if not self._outbox:
            return
        batch, self._outbox = self._outbox, []
        listening = [(stream, event) for weak, event in batch if (stream := weak()) is not None]
        for loop in {stream.loop for stream, _ in listening}:
            try:
                loop.call_soon_threadsafe(_deliver, [(s, event) for s, event in listening if s.loop is loop])
            except RuntimeError:
                log.debug("An event loop was closed before its requests ended.")

    def _note_pace(self, running: int, seconds: float) -> None:
        """A moving estimate of a request's time in the context, for Retry-After."""
        finished = running - len(self._scheduler.running)
        self._busy += seconds * running
        if finished > 0:
            self._seconds_per_request += 0.2 * (self._busy / finished - self._seconds_per_request)
            self._busy = 0.0


def _cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _deliver(batch: list[tuple[EventStream, Event | RequestError]]) -> None:
    for stream, event in batch:
        stream.deliver(event)
