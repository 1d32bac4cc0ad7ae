"""Claude's rules, for logs of Anthropic's Messages API (docs/contract.md, Claude). Pure.

A block with `cache_control` ends a prefix that is written; each is looked up, with the 20 blocks before it. A `Ttl` of
"30m" stands for Claude's "5m" here, and "12h" for "1h": of each API's two lives the shorter and the longer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from headstart.cache.hashing import block_digests, namespace_key, tail_digests
from headstart.cache.policy import HOUR, Terms
from headstart.types import BLOCK_TOKENS, CacheOptions, Lifetime, Namespace, Plan, Prompt, Request, Ttl

LIVES: Mapping[Ttl, Lifetime] = {"30m": Lifetime(300.0, promised=True), "12h": Lifetime(HOUR, promised=True)}
MARKS, LOOKBACK = 4, 20


@dataclass(frozen=True, slots=True)
class ClaudeRules:
    """A model's, whose prefixes have at least `minimum` tokens."""

    terms: Terms
    minimum: int = 1024

    def check(self, request: Request) -> None:
        """All is as the API takes it."""

    def applied(self, options: CacheOptions, organisation: str) -> CacheOptions:  # noqa: ARG002 - the same for all
        """As they are."""
        return options

    def plan(self, prompt: Prompt, namespace: Namespace, options: CacheOptions) -> Plan:  # noqa: ARG002 - has none
        """What its marks write, and look up."""
        marks = {mark.stop: mark.ttl for mark in prompt.marks}
        lives = {stop: LIVES[marks[stop] or "30m"] for stop in sorted(marks)[-MARKS:] if stop >= self.minimum}
        ends = sorted({*marks, *(segment.stop for segment in prompt.segments if segment.path)})
        reads: set[int] = set()
        for stop in lives:
            at = bisect_left(ends, stop)
            reads.update(end for end in ends[max(at - LOOKBACK, 0) : at + 1] if end >= self.minimum)
        longest = max(reads, default=0)
        key = namespace_key(self.terms.secret, namespace, prompt.settings)
        blocks = block_digests(prompt.tokens[:longest], key)
        tails = tail_digests(prompt.tokens, key, blocks, [stop for stop in sorted(reads) if stop % BLOCK_TOKENS])
        default = LIVES["30m"]
        own = {stop: life for stop, life in lives.items() if life != default}
        plan = Plan(len(prompt.tokens), blocks, sorted(reads), tuple(lives), default, tails, own, step=1)
        return self.terms.on(plan, namespace)
