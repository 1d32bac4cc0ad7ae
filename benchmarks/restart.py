"""The first request after a restart on a prefix of 4.6 k tokens, against the same prefix cold.

    python -m benchmarks.restart [--rounds 3] [--json FILE]

In every round a server answers a prompt that it never saw, is stopped as soon as it has, and started again on the same
data directory; then it is asked another question behind the same prefix. Time to first token, over HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median

from benchmarks.figure import Figure, run
from benchmarks.serving import MODEL, server
from headstart.cli.load import Measurement, connect, measure
from headstart.cli.scenarios import nonce, user
from headstart.cli.tutorial import LONG_PREFIX, QUESTIONS

OPTIONS = {"temperature": 0, "prompt_cache_retention": "24h"}
TOKENS = 8
DISK = "2GiB"


async def ask(base_url: str, text: str) -> Measurement:
    """One answer."""
    async with connect(None) as client:
        return await measure(client, base_url, MODEL, [user(text)], TOKENS, options=OPTIONS)


def before_and_after(data_dir: Path, prefix: str) -> tuple[Measurement, Measurement, float]:
    """The cold request, the first one after the restart, and how long the start took in seconds."""
    with server("--disk-cache", DISK, data_dir=data_dir) as running:
        cold = asyncio.run(ask(running.base_url, prefix + QUESTIONS[0]))
    began = time.perf_counter()
    with server("--disk-cache", DISK, data_dir=data_dir) as running:
        started = time.perf_counter() - began
        return cold, asyncio.run(ask(running.base_url, prefix + QUESTIONS[1])), started


def figures(arguments: argparse.Namespace) -> list[Figure]:
    rng = Random(0)
    with tempfile.TemporaryDirectory(prefix="headstart-restart-") as folder:
        rounds = [before_and_after(Path(folder), nonce(rng) + LONG_PREFIX) for _ in range(arguments.rounds)]
    return [
        Figure(
            "TTFT of the first request after a restart / cold",
            median(warm.ttft / cold.ttft for cold, warm, _ in rounds),
            0.10,
            parts={
                "restarted_ms": round(median(warm.ttft for _, warm, _ in rounds) * 1e3, 1),
                "cold_ms": round(median(cold.ttft for cold, _, _ in rounds) * 1e3, 1),
                "input_tokens": rounds[0][1].input_tokens,
                "cached_tokens": min(warm.cached_tokens or 0 for _, warm, _ in rounds),
                "start_s": round(median(started for _, _, started in rounds), 2),
            },
        )
    ]


ROUNDS = {"type": int, "default": 3}

if __name__ == "__main__":
    run(__doc__, figures, rounds=ROUNDS)
