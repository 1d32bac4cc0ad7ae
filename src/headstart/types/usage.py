"""What one request used, and what of the cache's content is asked about: the nouns of the ledger and the dashboard."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

from headstart.types.explanation import Cause

PICO = 10**12
"""Costs are whole numbers of picodollars: a price of $0.0375 for a million tokens is 37,500 of them for one, and sums
stay exact."""


def dollars(cost: int) -> str:
    """Picodollars as dollars, exactly: `0.001846`."""
    return f"{(Decimal(cost) / PICO).normalize():f}"


GAP_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds from one output token to the next, as upper bounds of a histogram's buckets."""

Endpoint = Literal["responses", "chat.completions"]
Status = Literal["completed", "incomplete", "failed", "cancelled", "refused"]
"""`incomplete`: ended at its token limit. `failed`: broke off by a fault of ours. `cancelled`: its client went away.
`refused`: nothing was computed, as for a bad request or one over its budget."""


class Usage(NamedTuple):
    """One request, as the ledger keeps it. Times in seconds, costs in picodollars."""

    time: float
    """When it came, Unix time."""
    organisation: str
    key: str
    """The API key's name; empty where there are no keys."""
    model: str
    """Empty for a request that was refused before it said."""
    endpoint: Endpoint
    status: Status
    total: float
    """From its coming to the end of its answer."""
    id: str = ""
    """The response's; empty for what was refused."""
    cache_key: str | None = None
    """Of the client's `prompt_cache_key` a keyed hash, in hex."""
    input: int = 0
    cached: int = 0
    written_30m: int = 0
    written_12h: int = 0
    """Written tokens that are billed, by the life that was asked for; none where writing is free."""
    unkept: int = 0
    """Tokens that were to be written and could not be promised."""
    output: int = 0
    ttft: float | None = None
    """To the first output token; None without one."""
    error: str | None = None
    """The error's code, of what failed or was refused."""
    cause: Cause | None = None
    """Why it was not more that was read."""
    missed: int = 0
    """Tokens that another request had left, or shares, and that were not read."""
    path: str | None = None
    kind: str | None = None
    """Where the prompt parts from the nearest one before, as a JSON path, and what kind of value stands there."""
    cost: int | None = 0
    uncached_cost: int | None = 0
    """What it costs, and would cost without a cache; None where the model has no price."""

    @property
    def warm(self) -> bool:
        """Whether any of it was read from the cache."""
        return self.cached > 0

    @property
    def written(self) -> int:
        """Tokens written and billed."""
        return self.written_30m + self.written_12h


class Prefix(NamedTuple):
    """A stretch of prompts that is cached, for people to look at: the tokens [start, stop) of a prefix.

    Args:
        name: hex; stays the same while the prefix is cached.
        parent: the name of the stretch it goes on from; None for one that begins at the first token.
        organisation, model, key: whose it is; the key is a keyed hash of the client's `prompt_cache_key`, in hex.
        hits: requests that read an entry that ends in it or further on, since the prefix is cached.
        bytes: of its blocks, wherever they are, each counted once.
        tier: the slowest place that a block of it has to be brought back from.
        age: seconds since its first write.
        left: seconds until the last of its entries is over if nobody uses it again.
        promised: whether that is promised.
    """

    name: str
    parent: str | None
    organisation: str
    model: str
    key: str | None
    start: int
    stop: int
    hits: int
    bytes: int
    tier: Literal["context", "ram", "disk"]
    age: float
    left: float
    promised: bool
