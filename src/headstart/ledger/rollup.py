"""What rows come to: their sums by time and dimension, and histograms of their times to the first token: warm, and
cold, which leaves out prompts that are too short to be cached. Pure.

    rows ──> groups of one minute and the same names ──> minutes, hours, days; each by all, model, organisation, …

A dashboard asks for months of requests at once; sums of them are a few thousand numbers, whatever the traffic was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from headstart.types import Usage

Dimension = Literal["all", "model", "organisation", "key", "cause"]
"""What sums are kept by. `cause` is empty for what missed nothing, `key` where there are no keys."""

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
MINUTE, HOUR, DAY = 60, 3600, 86_400
GRAINS = (MINUTE, HOUR, DAY)
WIDTH = math.log(1.05)
"""Of a bucket of the histograms, whose middle is so within 2.5 % of everything in it."""
SHORTEST, LONGEST = 1e-6, 1e6
"""Seconds beyond which times to the first token aren't told apart."""


class Sums(NamedTuple):
    """Of a group of requests. Tokens; costs in picodollars, of those whose model has a price."""

    requests: int = 0
    warm: int = 0
    """Requests of which some was read from the cache."""
    failed: int = 0
    """Those that failed, were cancelled or refused."""
    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    missed: int = 0
    priced: int = 0
    """Requests whose cost is known."""
    cost: int = 0
    uncached_cost: int = 0

    @property
    def hit_rate(self) -> float | None:
        """Cached tokens of all input tokens; None without any."""
        return self.cached / self.input if self.input else None

    @property
    def is_cost_known(self) -> bool:
        """Whether the cost says anything: beside requests that have no price, no cost is not known to be $0."""
        return bool(self.priced and (self.priced == self.requests or self.cost or self.uncached_cost))

    @property
    def saved(self) -> int:
        """What the cache saved, in picodollars; less than nothing where writes were never read."""
        return self.uncached_cost - self.cost


class Cell(NamedTuple):
    """What is summed up together: requests of a minute, hour or day with one value in a dimension."""

    grain: int
    dimension: Dimension
    start: int
    value: str


class Rollup(NamedTuple):
    """Sums by cell, and requests by cell, warmth and bucket."""

    sums: dict[Cell, Sums]
    latencies: dict[tuple[Cell, bool, int], int]


def rollup(rows: Iterable[Usage]) -> Rollup:
    """What some rows come to."""
    groups: dict[tuple[int, str, str, str, str], list[int]] = {}
    times: dict[tuple[int, str, str, str, str], Counter[tuple[bool, int]]] = {}
    for row in rows:
        names = (int(row.time // MINUTE) * MINUTE, row.model, row.organisation, row.key, row.cause or "")
        group = groups.get(names)
        if group is None:
            group, times[names] = groups.setdefault(names, [0] * len(Sums._fields)), Counter()
        priced = row.cost is not None
        figures = (
            *(1, row.warm, row.status not in ("completed", "incomplete"), row.input, row.cached, row.written),
            *(row.output, row.missed, priced, row.cost or 0, (row.uncached_cost or 0) if priced else 0),
        )
        for place, figure in enumerate(figures):
            group[place] += figure
        if row.ttft is not None and row.cause != "below_minimum":
            times[names][row.warm, bucket_of(row.ttft)] += 1
    sums: dict[Cell, Sums] = {}
    latencies: Counter[tuple[Cell, bool, int]] = Counter()
    for (minute, *values), group in groups.items():
        for grain in GRAINS:
            for dimension, value in zip(DIMENSIONS, ("", *values), strict=True):
                cell = Cell(grain, dimension, minute - minute % grain, value)
                before = sums.get(cell)
                sums[cell] = Sums(*group) if before is None else Sums(*map(sum, zip(before, group, strict=True)))
                for (warm, bucket), requests in times[(minute, *values)].items():  # type: ignore[index]
                    latencies[cell, warm, bucket] += requests
    return Rollup(sums, dict(latencies))


def bucket_of(seconds: float) -> int:
    """The bucket of a time."""
    return math.floor(math.log(min(max(seconds, SHORTEST), LONGEST)) / WIDTH)


def middle_of(bucket: int) -> float:
    """The time that stands for a bucket, in seconds."""
    return math.exp((bucket + 0.5) * WIDTH)


def percentile(histogram: Counter[int], share: float) -> float | None:
    """The time that a share of the requests took at most; None without any."""
    rank = max(math.ceil(share * histogram.total()), 1)
    for bucket in sorted(histogram):
        rank -= histogram[bucket]
        if rank <= 0:
            return middle_of(bucket)
    return None
