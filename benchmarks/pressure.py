"""Users on one prefix of 4 k tokens with 300 tokens each of their own, within a budget of RAM: who comes back warm?

    python -m benchmarks.pressure [--users 100] [--peer-url http://127.0.0.1:8012/v1] [--json FILE]

Everyone asks once, then everyone again in random order. A second visit is warm if at most a block of 128 tokens of it
is computed. 500 users have 1 GB; fewer have as much each, so 100 have 200 MB. The peer is llama.cpp's server on the
same file (`benchmarks.decode --print-model`) with as many bytes: `--print-cache-ram` prints what to give to its
`--cache-ram`. Entries are `in_memory`: a promise needs room on disk too.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from random import Random
from statistics import median
from typing import Any, NamedTuple

from benchmarks.decode import OPTIONS_HERE
from benchmarks.figure import Figure, run
from benchmarks.serving import MODEL, server
from headstart.cli.load import Measurement, connect, measure
from headstart.cli.scenarios import WORDS, nonce, user
from headstart.cli.tutorial import INSTRUCTIONS
from headstart.types import BLOCK_TOKENS

BYTES_PER_USER = 1_000_000_000 // 500
OPTIONS = {"temperature": 0, "max_tokens": 1, "max_completion_tokens": None}


class Visits(NamedTuple):
    """First and second visits of all users, and how long they took in seconds."""

    first: list[Measurement]
    second: list[Measurement]
    wall: float

    @property
    def warm(self) -> float:
        """Share of the second visits of which at most a block was computed."""
        left = [(visit.input_tokens or 0) - (visit.cached_tokens or 0) for visit in self.second]
        return sum(tokens <= BLOCK_TOKENS for tokens in left) / len(left)

    @property
    def parts(self) -> dict[str, Any]:
        """What stands beside the share."""
        return {
            "ttft_ms": round(median(visit.ttft for visit in self.second) * 1e3),
            "first_ms": round(median(visit.ttft for visit in self.first) * 1e3),
            "wall_s": round(self.wall),
        }


async def visits(base_url: str, model: str, users: int, **options: str) -> Visits:
    """Everyone twice, one at a time."""
    rng, began = Random(0), time.perf_counter()
    shared = {"role": "system", "content": nonce(rng) + INSTRUCTIONS * 174}
    prompts = [[shared, user(" ".join(rng.choices(WORDS, k=300)))] for _ in range(users)]
    all_options = OPTIONS | options
    async with connect(None) as client:
        first = [await measure(client, base_url, model, prompt, 1, options=all_options) for prompt in prompts]
        rng.shuffle(prompts)
        second = [await measure(client, base_url, model, prompt, 1, options=all_options) for prompt in prompts]
    return Visits(first, second, time.perf_counter() - began)


def figures(arguments: argparse.Namespace) -> list[Figure]:
    users = arguments.users
    budget = users * BYTES_PER_USER
    if arguments.print_cache_ram:
        print(budget >> 20)
        return []
    with server("--ram-cache", str(budget), "--disk-cache", "0") as running:
        ours = asyncio.run(visits(running.base_url, MODEL, users, prompt_cache_retention="in_memory"))
        held = running.engine()["ram_bytes"]
    parts = {**ours.parts, "ram_mb": round(held / 1e6), "budget_mb": budget // 1_000_000, "users": users}
    found = [Figure("warm second visits within the budget", ours.warm, 0.95, at_least=True, unit="of all", parts=parts)]
    if arguments.peer_url:
        peer = asyncio.run(visits(arguments.peer_url, arguments.peer_model, users))
        ratio = peer.warm / ours.warm if ours.warm else float("inf")
        parts = {"peer_warm": peer.warm, **{f"peer_{name}": part for name, part in peer.parts.items()}}
        found.append(Figure("the peer's warm second visits / ours", ratio, 1.0, parts=parts))
    return found


USERS = {"type": int, "default": 100}
PRINT_CACHE_RAM = {"action": "store_true", "help": "print the budget in MiB, and stop"}

if __name__ == "__main__":
    run(
        __doc__,
        figures,
        users=USERS,
        print_cache_ram=PRINT_CACHE_RAM,
        peer_url=OPTIONS_HERE["peer_url"],
        peer_model=OPTIONS_HERE["peer_model"],
    )
