"""Eight requests at once on one cold prefix of 4.6 k tokens, against one cold request alone.

python -m benchmarks.burst [--size 8] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import time
from random import Random
from statistics import median

from benchmarks.figure import Figure, run
from benchmarks.serving import MODEL, Server, server
from headstart.cli.load import connect, measure
from headstart.cli.scenarios import nonce, user
from headstart.cli.tutorial import LONG_PREFIX, QUESTIONS

TOKENS = 8
"""Output tokens of every answer: little, since the prefill is what is measured."""


async def rounds(running: Server, size: int, count: int) -> tuple[list[float], list[float], list[int], int, int]:
    """Walls of one alone and of a burst in seconds, tokens prefilled in each burst, lengths of prefix and suffix."""
    rng, alone, together, prefilled = Random(0), [], [], []
    async with connect(None) as client:

        async def ask(text: str) -> int:
            options = {"temperature": 0}
            return (
                await measure(client, running.base_url, MODEL, [user(text)], TOKENS, options=options)
            ).input_tokens or 0

        length = 0
        for _ in range(count):
            began = time.perf_counter()
            length = await ask(nonce(rng) + LONG_PREFIX + QUESTIONS[0])
            alone.append(time.perf_counter() - began)
            prefix, before = nonce(rng) + LONG_PREFIX, running.engine()["tokens_prefilled"]
            began = time.perf_counter()
            await asyncio.gather(*(ask(f"{prefix}Reader {i}: {QUESTIONS[0]}") for i in range(size)))
            together.append(time.perf_counter() - began)
            prefilled.append(running.engine()["tokens_prefilled"] - before)
    return alone, together, prefilled, length - 20, 20


def figures(arguments: argparse.Namespace) -> list[Figure]:
    with server() as running:
        alone, together, prefilled, prefix, suffix = asyncio.run(rounds(running, arguments.size, arguments.rounds))
    allowed = prefix + arguments.size * (suffix + 128)
    return [
        Figure(
            f"burst of {arguments.size} / one cold request, wall",
            median(b / a for a, b in zip(alone, together, strict=True)),
            1.3,
            parts={"one_ms": round(median(alone) * 1e3), "burst_ms": round(median(together) * 1e3)},
        ),
        Figure(
            "tokens prefilled in the burst / (prefix + n × (suffix + 128))",
            max(prefilled) / allowed,
            1.0,
            parts={"prefilled": max(prefilled), "allowed": allowed, "all": arguments.size * (prefix + suffix)},
        ),
    ]


SIZE, ROUNDS = {"type": int, "default": 8}, {"type": int, "default": 3}

if __name__ == "__main__":
    run(__doc__, figures, size=SIZE, rounds=ROUNDS)
