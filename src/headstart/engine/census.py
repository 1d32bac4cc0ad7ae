"""The prefixes that an engine has cached, for people to look at: asked for by many, counted now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from headstart.engine.index import Index
from headstart.types import Prefix

FRESH_SECONDS = 2.0
"""How long a count is good enough for all who ask."""

PAUSE_SECONDS = 0.0005
"""What a count leaves to the engine's thread between two bits of its work: of Python's lock, that thread would
otherwise have to wait five milliseconds for each time."""


class _Count(NamedTuple):
    """A count that is under way, or done."""

    limit: int
    began: float
    task: asyncio.Task[list[Prefix]]

    def serves(self, limit: int, now: float) -> bool:
        """Whether it does for who asks for so many now, on this event loop."""
        task = self.task
        if task.done():
            good = not task.cancelled() and task.exception() is None
            return good and limit == self.limit and 0 <= now - self.began < FRESH_SECONDS
        return limit == self.limit and task.get_loop() is asyncio.get_running_loop()


class Census:
    """Counts in a worker thread; the engine's own goes on meanwhile. `clock`: the engine's."""

    def __init__(self, index: Index, clock: Callable[[], float]) -> None:
        self._index, self._clock = index, clock
        self._last: _Count | None = None

    async def prefixes(self, limit: int) -> list[Prefix]:
        """See `Engine.prefixes`."""
        now = self._clock()
        if self._last is None or not self._last.serves(limit, now):
            walk = asyncio.to_thread(self._index.prefixes, limit, now, _pause)
            self._last = _Count(limit, now, asyncio.get_running_loop().create_task(walk))
        return list(await asyncio.shield(self._last.task))  # who stops asking stops no other


def _pause() -> None:
    time.sleep(PAUSE_SECONDS)
