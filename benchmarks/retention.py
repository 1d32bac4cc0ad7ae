"""Hit rates of the retention policies on a trace of hashed blocks, beside the best that is possible (Belady).

    python -m benchmarks.retention TRACE.jsonl [--blocks 1000 2000 5000 10000] [--tokens-per-block 512]

A trace is JSON lines of `input_length` and `hash_ids`, as Mooncake's are. A hit is the longest prefix of a request's
blocks that is there; afterwards all of them are, as far as there is room. It is the server's own index that runs, with
each of its policies.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from headstart.cache.index import PrefixIndex
from headstart.cache.retention import RETENTIONS, Retention
from headstart.types import BLOCK_TOKENS, Lifetime, Plan

NEVER = 1 << 60


class Request(NamedTuple):
    """`blocks`: their names, the root first; a name stands for all before it too."""

    tokens: int
    blocks: Sequence[Hashable]


FOREVER = Lifetime(math.inf)


class Cache:
    """The server's index with room for `capacity` blocks."""

    def __init__(self, capacity: int, policy: Retention) -> None:
        self.index = PrefixIndex(capacity, retention=policy)

    def serve(self, blocks: Iterable[Hashable]) -> int:
        """How many first blocks were there; then all of them are, as far as there is room."""
        digests = tuple(repr(block).encode() for block in blocks)
        boundaries = range(BLOCK_TOKENS, len(digests) * BLOCK_TOKENS + 1, BLOCK_TOKENS)
        plan = Plan(len(digests) * BLOCK_TOKENS, digests, boundaries, boundaries, FOREVER)
        read = self.index.match(plan, 0.0)
        self.index.read(plan, read, 0.0)
        self.index.write(plan, 0.0)
        return read // BLOCK_TOKENS


def hit_rate(policy: str, capacity: int, trace: Sequence[Request], block: int = 1) -> float:
    """Share of the input tokens that were there."""
    cache = Cache(capacity, RETENTIONS[policy]())
    hits = sum(min(cache.serve(request.blocks) * block, request.tokens) for request in trace)
    return hits / sum(request.tokens for request in trace)


def belady(capacity: int, trace: Sequence[Request], block: int = 1) -> float:
    """The same for who knows the future: what is needed last goes first."""
    following: list[list[int]] = []
    later: dict[Hashable, int] = {}
    for number in range(len(trace) - 1, -1, -1):
        following.append([later.get(name, NEVER) for name in trace[number].blocks])
        later.update(dict.fromkeys(trace[number].blocks, number))
    held: dict[Hashable, int] = {}
    queue: list[tuple[int, int, Hashable]] = []
    hits = 0
    for request, needed in zip(trace, reversed(following), strict=True):
        there = next((at for at, name in enumerate(request.blocks) if name not in held), len(request.blocks))
        hits += min(there * block, request.tokens)
        for depth, (name, when) in enumerate(zip(request.blocks, needed, strict=True)):
            held[name] = when
            heapq.heappush(queue, (-when, -depth, name))
        while len(held) > capacity:
            when, _, name = heapq.heappop(queue)
            if held.get(name) == -when:
                del held[name]
    return hits / sum(request.tokens for request in trace)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--blocks", type=int, nargs="+", default=[1_000, 2_000, 5_000, 10_000])
    parser.add_argument("--tokens-per-block", type=int, default=512)
    arguments = parser.parse_args()
    block = arguments.tokens_per_block
    with arguments.trace.open() as lines:
        trace = [Request(line["input_length"], line["hash_ids"]) for line in map(json.loads, lines)]
    print(f"{'tokens':>12} " + " ".join(f"{name:>8}" for name in (*RETENTIONS, "belady", "density/lru")))
    for capacity in arguments.blocks:
        rates = {name: hit_rate(name, capacity, trace, block) for name in RETENTIONS}
        best = belady(capacity, trace, block)
        shown = " ".join(f"{rate:8.2%}" for rate in (*rates.values(), best))
        print(f"{capacity * block:12,} {shown} {rates['density'] / rates['lru']:11.2f}", flush=True)


if __name__ == "__main__":
    main()
