"""What an engine is: one method that turns a prompt and a plan into events. Implementations: `embedded`, `fake`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from headstart.types import Event, ModelInfo, Plan, Prefix, Prompt, Sampling


class EngineStats(NamedTuple):
    """A moment's picture of an engine. Tokens and bytes; counters run from its start.

    `promised_blocks`: whose promises are outstanding. Entries that went, each counted once: `entries_evicted` for want
    of room, `entries_expired`, `entries_lost` by a fault, `entries_cleared` by the operator.
    """

    running: int = 0
    waiting: int = 0
    context_cells: int = 0
    context_cells_used: int = 0
    ram_blocks: int = 0
    ram_bytes: int = 0
    ram_budget: int = 0
    disk_blocks: int = 0
    disk_bytes: int = 0
    disk_budget: int = 0
    promised_bytes: int = 0
    promised_budget: int = 0
    tokens_refused: int = 0
    tokens_prefilled: int = 0
    tokens_read: int = 0
    tokens_decoded: int = 0
    preemptions: int = 0
    promised_blocks: int = 0
    entries_evicted: int = 0
    entries_expired: int = 0
    entries_lost: int = 0
    entries_cleared: int = 0


class Engine(Protocol):
    """Computes prompts, and keeps what it computed of them for as long as their plans say."""

    @property
    def info(self) -> ModelInfo:
        """The model that runs here."""

    def generate(self, prompt: Prompt, plan: Plan, sampling: Sampling) -> AsyncIterator[Event]:
        """Yield `Started` once, `Delta`s, and `Finished` once.

        Closing the iterator early cancels the request and frees what it held; what was computed of its prompt may stay
        cached. Raises `Overloaded` if the waiting queue is full, `ContextLengthExceeded` if the prompt leaves no room
        for one output token, `InvalidRequest` for a grammar that can't be built, `EngineFailed` if computing failed.
        """

    def stats(self) -> EngineStats:
        """Counts and sizes now; callable from any thread, never blocks."""

    async def prefixes(self, limit: int) -> list[Prefix]:
        """What is cached, as a tree of `limit` stretches at most: those that saved most tokens and those that they go
        on from, parents before children. Some seconds old at most; requests don't wait for it."""

    async def close(self) -> None:
        """Stop, cancelling what runs; every open iterator ends with `EngineFailed`. Idempotent."""
