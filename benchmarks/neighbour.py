"""What a busy neighbour costs: decoding beside a process that keeps one core busy, ours against libgomp's default.

    python -m benchmarks.neighbour [--rounds 4] [--json FILE]

One stream of 32 greedy tokens on a fresh server each, with a busy loop beside it, in turn. By default libgomp's threads
spin 300,000 times at every barrier before they sleep, ours 2,000 times. The worst runs are compared: how bad it gets
depends on which thread the neighbour happens to push aside.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys

from benchmarks.figure import Figure, run
from benchmarks.serving import MODEL, server
from headstart.cli.load import connect, measure
from headstart.cli.scenarios import user

TOKENS = 32
OPTIONS = {"temperature": 0, "logit_bias": {"200265": -100}}


async def rate(base_url: str) -> float:
    """Tokens per second of one stream, after a first one that warms up."""
    async with connect(None) as client:
        for _ in range(2):
            answer = await measure(client, base_url, MODEL, [user("A story, please.")], TOKENS, options=OPTIONS)
    return answer.decode_rate or 0.0


def with_neighbour(spins: int | None) -> float:
    """The rate of a server whose threads spin so often (None: as we set it), beside a busy loop."""
    if spins is not None:
        os.environ["GOMP_SPINCOUNT"] = str(spins)
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with server() as running:
            return asyncio.run(rate(running.base_url))
    finally:
        neighbour.kill()
        neighbour.wait()
        os.environ.pop("GOMP_SPINCOUNT", None)


def figures(arguments: argparse.Namespace) -> list[Figure]:
    pairs = [(with_neighbour(None), with_neighbour(300_000)) for _ in range(arguments.rounds)]
    ours, spinning = sorted(pair[0] for pair in pairs), sorted(pair[1] for pair in pairs)
    parts = {"ours_per_s": [round(rate, 1) for rate in ours], "spinning_per_s": [round(rate, 1) for rate in spinning]}
    name = "decode beside a busy core, worst run / the same with threads that spin"
    return [Figure(name, ours[0] / spinning[0], 1.0, at_least=True, parts=parts)]


ROUNDS = {"type": int, "default": 4}

if __name__ == "__main__":
    run(__doc__, figures, rounds=ROUNDS)
