"""Why no more of a prompt was read from the cache."""

from __future__ import annotations

from typing import Literal, NamedTuple

from headstart.types.events import CacheReport

Cause = Literal[
    "below_minimum",
    "first_request",
    "not_cacheable",
    "not_written",
    "prefix_changed",
    "expired",
    "evicted",
    "refused",
    "different_key",
    "boundary_not_marked",
]
"""Why a prompt's prefix was not read, or not as much of it as another request had left."""


class Parting(NamedTuple):
    """Where a prompt parts from an earlier one: after `token` tokens, at character `offset` of the value at `path`,
    where a value of some `kind` stands in characters [start, stop). `path` is None behind the last of a client's text.
    `text` is what stands around there, if the operator lets it be kept."""

    token: int
    path: str | None = None
    offset: int = 0
    kind: str | None = None
    start: int = 0
    stop: int = 0
    text: str | None = None


class Explanation(NamedTuple):
    """What became of a prompt in the cache, and why it was not more.

    `cause` None: what could be read was read. `missed`: tokens that another request had left, or shares, and that were
    not read. `nearest`: the earlier response whose prompt is nearest; both begin with the same `shared` tokens.
    """

    cause: Cause | None
    remedy: str | None
    report: CacheReport
    missed: int = 0
    nearest: str | None = None
    shared: int = 0
    parting: Parting | None = None


Reason = Literal[
    "model_changed",
    "service_tier_changed",
    "prompt_cache_key_changed",
    "reasoning_effort_changed",
    "verbosity_changed",
    "text_format_changed",
    "tools_changed",
    "context_compacted",
    "input_changed",
]


class Comparison(NamedTuple):
    """OpenAI's `prompt_cache_diagnostics`. A miss has the reason and both counts, in tokens."""

    type: Literal["cache_hit", "cache_miss", "comparison_response_not_found", "unavailable"]
    reason: Reason | None = None
    cache_missed_tokens: int = 0
    comparison_reusable_tokens: int = 0
