"""What is over when."""

from __future__ import annotations

import heapq
from collections.abc import Callable

SPARE = 64
"""Entries of the heap beyond two for each that counts, before it is put in order."""


class Deadlines:
    """A heap in which what was put off stays until it comes up.

    `when` tells the time in seconds at which something is over now, and what orders it among those of the same time;
    None if it needs no watching any more.
    """

    def __init__(self, when: Callable[[bytes], tuple[float, int] | None]) -> None:
        self._when = when
        self._heap: list[tuple[float, int, bytes]] = []
        self._watched: dict[bytes, float] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._watched

    def watch(self, digest: bytes) -> None:
        """Its time may come. What is put off later needs no second call; what ends sooner does."""
        when = self._when(digest)
        if when is None or self._watched.get(digest, when[0] + 1) <= when[0]:
            return
        self._watched[digest] = when[0]
        heapq.heappush(self._heap, (*when, digest))
        if len(self._heap) > 2 * len(self._watched) + SPARE:
            self._heap = [entry for entry in self._heap if self._watched.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def forget(self, digest: bytes) -> None:
        """It is gone."""
        self._watched.pop(digest, None)

    def due(self, now: float) -> bytes | None:
        """Something whose time is up, watched no longer; None if there is nothing."""
        while self._heap and self._heap[0][0] <= now:
            time, _, digest = heapq.heappop(self._heap)
            if self._watched.get(digest) != time:
                continue
            del self._watched[digest]
            when = self._when(digest)
            if when is not None and when[0] <= now:
                return digest
            self.watch(digest)
        return None

    def clear(self) -> None:
        """Nothing is watched."""
        self._heap.clear()
        self._watched.clear()
