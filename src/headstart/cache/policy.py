"""The rules of docs/contract.md: what may be read and written for a prompt, and how long it lives. Pure.

A model is served under one *generation* of rules; `rules_for` is the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from headstart.cache.hashing import block_digests, namespace_key
from headstart.errors import InvalidRequest, StartError
from headstart.types import (
    BLOCK_TOKENS,
    MINIMUM_PREFIX,
    CacheOptions,
    Generation,
    Lifetime,
    Namespace,
    Plan,
    Prompt,
    Retention,
)

IN_MEMORY = Lifetime(idle=600.0, total=3600.0)
"""Lives of `in_memory` entries in seconds, unless configured (docs/contract.md, interval models)."""


class Rules(Protocol):
    """One generation of rules."""

    @property
    def default_retention(self) -> Retention:
        """What a request that names no retention gets."""

    def check(self, options: CacheOptions) -> None:
        """Raises `InvalidRequest`, with `param`, for options that this generation doesn't have."""

    def plan(self, prompt: Prompt, namespace: Namespace, options: CacheOptions) -> Plan:
        """What to look up and what to save for this prompt. The options have been checked."""


@dataclass(frozen=True, slots=True)
class IntervalRules:
    """gpt-4o … gpt-5.5: boundaries at 1,024, 1,152, 1,280 … A prompt saves all of them; the longest match is read."""

    secret: bytes
    in_memory: Lifetime = IN_MEMORY
    default_retention: Retention = "in_memory"

    def check(self, options: CacheOptions) -> None:
        """`24h` needs the disk tier, which this version doesn't have."""
        if options.retention == "24h":
            raise InvalidRequest(
                "prompt_cache_retention '24h' is not supported by this model: this server keeps entries in memory "
                "only. Use 'in_memory', or leave it out.",
                param="prompt_cache_retention",
                code="unsupported_value",
            )

    def plan(self, prompt: Prompt, namespace: Namespace, options: CacheOptions) -> Plan:  # noqa: ARG002 - one retention
        """Boundaries are the multiples of 128 from 1,024 on; a shorter prompt is neither read nor written."""
        length = len(prompt.tokens)
        if length < MINIMUM_PREFIX:
            return Plan(length, (), (), (), self.in_memory)
        key = namespace_key(self.secret, namespace, prompt.settings)
        boundaries = range(MINIMUM_PREFIX, length + 1, BLOCK_TOKENS)
        return Plan(length, block_digests(prompt.tokens, key), boundaries, boundaries, self.in_memory)


GENERATIONS: Mapping[Generation, Callable[[bytes, Lifetime], Rules]] = {"interval": IntervalRules}


def rules_for(generation: Generation, secret: bytes, in_memory: Lifetime) -> Rules:
    """The rules of a generation. Raises `StartError` for one that this version doesn't serve."""
    try:
        return GENERATIONS[generation](secret, in_memory)
    except KeyError:
        served = ", ".join(GENERATIONS)
        raise StartError(f"generation '{generation}' is not served by this version yet; use {served}.") from None
