"""Hit rates of one capacity at a time: the server's own index with each of its policies, and the best possible."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

from headstart.cache.index import PrefixIndex
from headstart.cache.retention import RETENTIONS
from headstart.simulate.trace import Trace
from headstart.types import BLOCK_TOKENS, Lifetime, Plan

FOREVER = Lifetime(math.inf)
NEVER = 1 << 60

Tell = Callable[[int], None]
"""Told now and then how many more requests are done."""
STEP = 256
"""Requests between two calls of it."""


def hit_rate(policy: str, capacity: int, trace: Trace, tell: Tell = lambda _: None) -> float:
    """Share of the input tokens that were there, in the server's index with room for `capacity` blocks and one of
    `RETENTIONS`."""
    index = PrefixIndex(capacity, retention=RETENTIONS[policy]())
    names = [number.to_bytes(8) for number in range(trace.distinct)]
    hits = 0
    for number, length in enumerate(trace.lengths.tolist()):
        digests = tuple(names[block] for block in trace.chain(number).tolist())
        boundaries = range(BLOCK_TOKENS, len(digests) * BLOCK_TOKENS + 1, BLOCK_TOKENS)
        plan = Plan(len(digests) * BLOCK_TOKENS, digests, boundaries, boundaries, FOREVER)
        read = index.match(plan, 0.0)
        index.read(plan, read, 0.0)
        index.write(plan, 0.0)
        hits += min(read // BLOCK_TOKENS * trace.block, length)
        if number % STEP == STEP - 1:
            tell(STEP)
    return hits / trace.input


def belady(capacity: int, trace: Trace, tell: Tell = lambda _: None) -> float:
    """The same for who knows the future: what is needed last goes first (Belady, 1966), and of a prompt that is
    needed as a whole, its end."""
    chains = [trace.chain(number).tolist() for number in range(trace.requests)]
    following: list[list[int]] = []
    later = [NEVER] * trace.distinct
    for number in range(trace.requests - 1, -1, -1):
        following.append([later[block] for block in chains[number]])
        for block in chains[number]:
            later[block] = number
    following.reverse()
    held: dict[int, int] = {}
    queue: list[tuple[int, int, int]] = []
    hits = 0
    for number, (chain, needed, length) in enumerate(zip(chains, following, trace.lengths.tolist(), strict=True)):
        there = next((at for at, block in enumerate(chain) if block not in held), len(chain))
        hits += min(there * trace.block, length)
        for depth, (block, when) in enumerate(zip(chain, needed, strict=True)):
            held[block] = when
            heapq.heappush(queue, (-when, -depth, block))
        while len(held) > capacity:
            when, _, block = heapq.heappop(queue)
            if held.get(block) == -when:
                del held[block]
        if number % STEP == STEP - 1:
            tell(STEP)
    return hits / trace.input
