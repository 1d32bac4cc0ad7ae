"""Output tokens per second of eight streams at once, ours against a peer's.

    python -m benchmarks.decode --peer-url http://127.0.0.1:8011/v1 [--rounds 5] [--json FILE]

The peer serves the same file (`--print-model` says which) with as many threads and sequences: llama.cpp's server with
--parallel 8. Both get the same requests in turn: short prompts, 128 greedy tokens, the end of the turn forbidden.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median

from benchmarks.figure import Figure, run
from benchmarks.serving import MODEL, demo_model, server
from headstart.cli.load import connect, measure
from headstart.cli.scenarios import user

STREAMS, TOKENS = 8, 128
OPTIONS = {"temperature": 0, "logit_bias": {"200265": -100}, "max_tokens": TOKENS}


async def rate(base_url: str, model: str) -> float:
    """Tokens per second from the first request to the last token, all streams together."""
    async with connect(None) as client:
        options = {**OPTIONS, "max_completion_tokens": None}
        began = time.perf_counter()
        answers = await asyncio.gather(
            *(
                measure(client, base_url, model, [user(f"Story number {i}, please.")], TOKENS, options=options)
                for i in range(STREAMS)
            )
        )
        seconds = time.perf_counter() - began
    tokens = sum(answer.output_tokens or 0 for answer in answers)
    assert tokens == STREAMS * TOKENS, f"{tokens} tokens came, not {STREAMS} × {TOKENS}"
    return tokens / seconds


def figures(arguments: argparse.Namespace) -> list[Figure]:
    if arguments.print_model:
        print(demo_model())
        return []
    ours, peers = [], []
    with server("--max-sequences", str(STREAMS)) as running:
        for counted in [False] + [True] * arguments.rounds:
            mine = asyncio.run(rate(running.base_url, MODEL))
            theirs = asyncio.run(rate(arguments.peer_url, arguments.peer_model)) if arguments.peer_url else float("nan")
            if counted:
                ours.append(mine)
                peers.append(theirs)
    ratios = [mine / theirs for mine, theirs in zip(ours, peers, strict=True)]
    parts = {
        "ours_per_s": round(median(ours), 1),
        "peer_per_s": round(median(peers), 1) if arguments.peer_url else None,
    }
    return [Figure("decode throughput at 8 sequences / peer", median(ratios), 1.0, at_least=True, parts=parts)]


OPTIONS_HERE = {
    "peer_url": {"help": "the peer's base URL, ending with /v1"},
    "peer_model": {"default": "model"},
    "rounds": {"type": int, "default": 5},
    "print_model": {"action": "store_true"},
}

if __name__ == "__main__":
    run(__doc__, figures, **OPTIONS_HERE)
