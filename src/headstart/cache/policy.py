"""The rules of docs/contract.md: what may be read and written for a prompt, and how long it lives. Pure.

A model is served under one *generation* of rules; `rules_for` is the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from headstart.cache.breakpoints import lookups, written
from headstart.cache.hashing import block_digests, key_label, namespace_key, tail_digests
from headstart.errors import InvalidRequest
from headstart.types import (
    BLOCK_TOKENS,
    MINIMUM_PREFIX,
    CacheOptions,
    Generation,
    Lifetime,
    Namespace,
    Plan,
    Prompt,
    Request,
    Retention,
    Ttl,
)

HOUR = 3600.0
IN_MEMORY = Lifetime(idle=600.0, total=HOUR)
"""Life of `in_memory` entries in seconds, unless configured (docs/contract.md, interval models)."""

EXTENDED = Lifetime(idle=24 * HOUR, promised=True)
"""Life of `24h` entries: 24 hours from the last use on."""

TTLS: Mapping[Ttl, Lifetime] = {
    "30m": Lifetime(HOUR / 2, promised=True),
    "12h": Lifetime(12 * HOUR, promised=True),
}
"""Lives of breakpoints: from the last write or reuse on (docs/contract.md, breakpoint models)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator decides. `secret`: the deployment's, at most 64 bytes. `retention`: the interval models'
    default, except for organisations of `zero_data_retention`: they get `in_memory`, and nothing of theirs is on disk
    whatever they ask for. What was to be promised and can't be lives as `in_memory` does."""

    secret: bytes
    in_memory: Lifetime = IN_MEMORY
    retention: Retention = "24h"
    zero_data_retention: Container[str] = field(default_factory=frozenset)

    def on(self, plan: Plan, namespace: Namespace) -> Plan:
        """The plan with what doesn't depend on the prompt."""
        owner = namespace._replace(key=key_label(self.secret, namespace.key))
        durable = namespace.organisation not in self.zero_data_retention
        return plan._replace(owner=owner, durable=durable, spare=self.in_memory)


class Rules(Protocol):
    """One generation of rules."""

    def check(self, request: Request) -> None:
        """Raises `InvalidRequest`, with `param`, for options that this generation doesn't have."""

    def applied(self, options: CacheOptions, organisation: str) -> CacheOptions:
        """The options with this generation's defaults in place of what the client left out; None: not of this
        generation."""

    def plan(self, prompt: Prompt, namespace: Namespace, options: CacheOptions) -> Plan:
        """What to look up and what to save for this prompt. The options have been checked."""


@dataclass(frozen=True, slots=True)
class IntervalRules:
    """gpt-4o … gpt-5.5: boundaries at 1,024, 1,152, 1,280 … A prompt saves all of them; the longest match is read."""

    terms: Terms

    def check(self, request: Request) -> None:
        """Neither `prompt_cache_options` nor breakpoints."""
        instead = (
            f"is not supported by the model '{request.model[:64]}', which caches every prefix of {MINIMUM_PREFIX} "
            "tokens and more by itself. Leave it out; 'prompt_cache_key' and 'prompt_cache_retention' are supported."
        )
        if request.cache.path is not None:
            raise _unsupported("prompt_cache_options", request.cache.path, instead)
        for message in request.messages:
            for text in message.content:
                if text.breakpoint is not None:
                    at = f"{text.path.removesuffix('.text')}.prompt_cache_breakpoint"
                    raise _unsupported("prompt_cache_breakpoint", at, instead)

    def applied(self, options: CacheOptions, organisation: str) -> CacheOptions:
        """The retention."""
        private = organisation in self.terms.zero_data_retention
        default: Retention = "in_memory" if private else self.terms.retention
        return CacheOptions(options.key, options.retention or default)

    def plan(self, prompt: Prompt, namespace: Namespace, options: CacheOptions) -> Plan:
        """Boundaries are the multiples of 128 from 1,024 on; a shorter prompt is neither read nor written."""
        length = len(prompt.tokens)
        retention = self.applied(options, namespace.organisation).retention
        lifetime = EXTENDED if retention == "24h" else self.terms.in_memory
        if length < MINIMUM_PREFIX:
            return Plan(length, (), (), (), lifetime)
        key = namespace_key(self.terms.secret, namespace, prompt.settings)
        boundaries = range(MINIMUM_PREFIX, length + 1, BLOCK_TOKENS)
        plan = Plan(length, block_digests(prompt.tokens, key), boundaries, boundaries, lifetime)
        return self.terms.on(plan, namespace)


@dataclass(frozen=True, slots=True)
class BreakpointRules:
    """gpt-5.6 and later: boundaries are the exact ends of messages and marked blocks (`cache.breakpoints`)."""

    terms: Terms

    def check(self, request: Request) -> None:
        """Every option but `in_memory`, which the newer `ttl` replaced."""
        if request.cache.retention == "in_memory":
            raise InvalidRequest(
                f"prompt_cache_retention 'in_memory' is not supported by the model '{request.model[:64]}'. Use "
                "'prompt_cache_options.ttl', or '24h'.",
                param="prompt_cache_retention",
                code="unsupported_value",
            )

    def applied(self, options: CacheOptions, organisation: str) -> CacheOptions:  # noqa: ARG002 - the same for all
        """Mode and ttl. The retention is independent of both, and echoed."""
        retention, mode, ttl = options.retention or "24h", options.mode or "implicit", options.ttl or "30m"
        return replace(options, retention=retention, mode=mode, ttl=ttl)

    def plan(self, prompt: Prompt, namespace: Namespace, options: CacheOptions) -> Plan:
        """Only what leads to a boundary is named: what lies behind the last one is not cached."""
        mode, ttl = options.mode or "implicit", options.ttl or "30m"
        lives = {stop: TTLS[own or ttl] for stop, own in written(prompt, mode)}
        reads = lookups(prompt, mode)
        longest = reads[-1] if reads else 0
        default = TTLS[ttl]
        key = namespace_key(self.terms.secret, namespace, prompt.settings)
        blocks = block_digests(prompt.tokens[:longest], key)
        plan = Plan(
            len(prompt.tokens),
            blocks,
            reads,
            tuple(lives),
            default,
            tail_digests(prompt.tokens, key, blocks, [stop for stop in reads if stop % BLOCK_TOKENS]),
            {stop: life for stop, life in lives.items() if life != default},
            step=1,
        )
        return self.terms.on(plan, namespace)


GENERATIONS: Mapping[Generation, Callable[[Terms], Rules]] = {
    "interval": IntervalRules,
    "breakpoint": BreakpointRules,
}


def rules_for(generation: Generation, terms: Terms) -> Rules:
    """The rules of a generation."""
    return GENERATIONS[generation](terms)


def _unsupported(what: str, param: str, instead: str) -> InvalidRequest:
    return InvalidRequest(f"'{what}' {instead}", param=param, code="unsupported_parameter")
