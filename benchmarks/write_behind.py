"""What writing blocks behind costs a stream: its inter-token time while others' new blocks go to RAM and disk.

    python -m benchmarks.write_behind [--rounds 3] [--json FILE]

A stream of 64 greedy tokens, while other requests come one after another, each with 1,300 tokens that were never seen.
Three servers get the same load in turn: as `headstart serve` starts, without the disk, and without RAM and disk. A
server that nobody asks doesn't compute.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import mean, median

import openai

from benchmarks.figure import Figure, run
from benchmarks.serving import MODEL, Server, server
from headstart.cli.load import connect, measure
from headstart.cli.scenarios import WORDS, user

TOKENS, WORDS_EACH = 64, 1_300
BIAS = {"200265": -100}
"""The end of the turn is forbidden."""
SETTINGS = {
    "both": ("--disk-cache", "2GiB"),
    "ram": ("--disk-cache", "0"),
    "neither": ("--disk-cache", "0", "--ram-cache", "0"),
}


async def stream(base_url: str) -> list[float]:
    """Seconds between one stream's tokens."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:
        chunks = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "A story, please."}],
            max_completion_tokens=TOKENS,
            temperature=0,
            logit_bias=BIAS,
            stream=True,
        )
        times = [time.perf_counter() async for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    return [later - earlier for earlier, later in pairwise(times)]


async def others(base_url: str, rng: Random) -> None:
    """New prompts, one after another, until cancelled."""
    async with connect(None) as client:
        while True:
            prompt = [user(" ".join(rng.choices(WORDS, k=WORDS_EACH)))]
            await measure(client, base_url, MODEL, prompt, 1, options={"temperature": 0})


async def under_load(base_url: str, seed: int) -> list[float]:
    """The same with the same others for the same seed."""
    load = asyncio.ensure_future(others(base_url, Random(seed)))
    try:
        return await stream(base_url)
    finally:
        load.cancel()


def figures(arguments: argparse.Namespace) -> list[Figure]:
    gaps: dict[str, list[list[float]]] = {name: [] for name in SETTINGS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headstart-write-behind-")))
        servers: dict[str, Server] = {}
        for name, options in SETTINGS.items():
            (folder / name).mkdir()
            servers[name] = stack.enter_context(server(*options, data_dir=folder / name))
        for number in range(1 + arguments.rounds):
            for name in (*SETTINGS, *reversed(SETTINGS)) if number else SETTINGS:
                seen = asyncio.run(under_load(servers[name].base_url, seed=number))
                if number:
                    gaps[name].append(seen)
        written = {name: running.engine() for name, running in servers.items()}
    typical = {name: median(median(one) for one in seen) for name, seen in gaps.items()}
    average = {name: mean(map(mean, seen)) for name, seen in gaps.items()}
    return [
        Figure(
            f"inter-token time with {what} written behind / without, median",
            typical["both"] / typical[against],
            1.05,
            parts={
                "with_ms": round(typical["both"] * 1e3, 2),
                "without_ms": round(typical[against] * 1e3, 2),
                "of_the_means": round(average["both"] / average[against], 3),
                "ram_mb": round(written["both"]["ram_bytes"] / 1e6),
                "disk_mb": round(written["both"].get("disk_bytes", 0) / 1e6),
            },
        )
        for what, against in (("disk", "ram"), ("RAM and disk", "neither"))
    ]


ROUNDS = {"type": int, "default": 3}

if __name__ == "__main__":
    run(__doc__, figures, rounds=ROUNDS)
