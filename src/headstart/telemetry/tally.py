"""Counters of one model's requests, kept as plain numbers: counting is on the way of every request, reading is not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from headstart.types import GAP_BOUNDS, Usage

TTFT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.0, 3.5, 5.0, 10.0, 20.0, 35.0, 60.0, 120.0)
"""Upper bounds of times to the first token, in seconds."""

REQUEST_BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of whole requests, in seconds."""

CODES = 64
"""So many different error codes are told apart; the server has fewer."""


class Histogram:
    """How often a time fell between two bounds. `counts[i]` has those in (bounds[i-1], bounds[i]], its last what is
    above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one time."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def add(self, counts: Sequence[int], seconds: float) -> None:
        """Count what others counted by the same bounds; all of it took so many `seconds`."""
        for at, count in enumerate(counts):
            if count:
                self.counts[at] += count
        self.sum += seconds

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Prometheus' buckets: every upper bound, and how many are not above it."""
        below = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            yield ("+Inf" if bound == float("inf") else repr(bound)), below


class Times(NamedTuple):
    """Times of requests that read something from the cache, or of those that didn't."""

    first: Histogram
    """To the first token."""
    gaps: Histogram
    """Between two tokens."""


class Tally:
    """Everything that is counted of one model, from the server's start. Costs in picodollars."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], int] = {}
        """By endpoint and status."""
        self.errors: dict[str, int] = {}
        self.misses: dict[str, int] = {}
        self.missed: dict[str, int] = {}
        """Tokens, by cause."""
        self.input = self.cached = self.output = self.unkept = 0
        self.written = {"30m": 0, "12h": 0}
        self.priced = False
        """Whether the model has a price, as far as is known."""
        self.cost = self.uncached_cost = 0
        self.total = Histogram(REQUEST_BOUNDS)
        self.times = {hit: Times(Histogram(TTFT_BOUNDS), Histogram(GAP_BOUNDS)) for hit in (True, False)}

    def add(self, row: Usage, gaps: Sequence[int]) -> None:
        """Count a request. The time of all its gaps is what passed from its first token to its end."""
        kind = (row.endpoint, row.status)
        self.requests[kind] = self.requests.get(kind, 0) + 1
        self.total.observe(row.total)
        self.input += row.input
        self.cached += row.cached
        self.output += row.output
        self.unkept += row.unkept
        self.written["30m"] += row.written_30m
        self.written["12h"] += row.written_12h
        if row.error is not None:
            code = row.error if row.error in self.errors or len(self.errors) < CODES else "other"
            self.errors[code] = self.errors.get(code, 0) + 1
        if row.cause is not None:
            self.misses[row.cause] = self.misses.get(row.cause, 0) + 1
            self.missed[row.cause] = self.missed.get(row.cause, 0) + row.missed
        if row.cost is not None and row.uncached_cost is not None:
            # What failed or computed nothing costs nothing, whether its model has a price or not.
            self.priced |= row.input > 0 and row.status not in ("failed", "refused")
            self.cost += row.cost
            self.uncached_cost += row.uncached_cost
        if row.ttft is not None:
            times = self.times[row.warm]
            times.first.observe(row.ttft)
            if any(gaps):
                times.gaps.add(gaps, max(row.total - row.ttft, 0.0))
