"""Two engines on one machine: both decode at once, ours against libgomp's default way of waiting.

    python -m benchmarks.neighbour [--rounds 2] [--json FILE]

Two servers with two threads each on the same cores, a stream of 32 greedy tokens from both at the same time. By default
libgomp's threads spin 300,000 times at every barrier before they sleep, ours 2,000 times.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from statistics import median

from benchmarks.figure import Figure, run
from benchmarks.serving import MODEL, server
from headstart.cli.load import connect, measure
from headstart.cli.scenarios import user

TOKENS = 32
OPTIONS = {"temperature": 0, "logit_bias": {"200265": -100}}


async def rate(*base_urls: str) -> float:
    """Tokens per second of one stream from each, all at the same time."""
    async with connect(None) as client:
        ask = [measure(client, url, MODEL, [user("A story, please.")], TOKENS, options=OPTIONS) for url in base_urls]
        answers = await asyncio.gather(*ask)
    return sum(answer.decode_rate or 0.0 for answer in answers)


def two_at_once(spins: int | None) -> float:
    """The rate of two servers whose threads spin so often (None: as we set it)."""
    if spins is not None:
        os.environ["GOMP_SPINCOUNT"] = str(spins)
    try:
        with server() as one, server() as other:
            return asyncio.run(rate(one.base_url, other.base_url))
    finally:
        os.environ.pop("GOMP_SPINCOUNT", None)


def figures(arguments: argparse.Namespace) -> list[Figure]:
    pairs = [(two_at_once(None), two_at_once(300_000)) for _ in range(arguments.rounds)]
    parts = {"ours_per_s": [round(p[0], 1) for p in pairs], "spinning_per_s": [round(p[1], 1) for p in pairs]}
    ratio = median(ours / spinning for ours, spinning in pairs)
    return [Figure("decode of two engines at once / the same with threads that spin", ratio, 1.0, True, parts=parts)]


ROUNDS = {"type": int, "default": 2}

if __name__ == "__main__":
    run(__doc__, figures, rounds=ROUNDS)
