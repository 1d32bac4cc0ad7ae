"""RAM for a hundred users on one prefix of 4 k tokens with 300 tokens each of their own.

    python -m benchmarks.users [--users 100] [--json FILE]

Against the bytes of the distinct blocks: keys and values of 128 tokens, each block once. The server's own memory is
given beside it, before the first request and after the last.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from random import Random

from benchmarks.figure import Figure, run
from benchmarks.serving import MODEL, Server, demo_model, server
from headstart.cli.load import connect, measure
from headstart.cli.scenarios import WORDS, nonce, user
from headstart.cli.tutorial import INSTRUCTIONS
from headstart.engine.llama import LlamaModel
from headstart.types import BLOCK_TOKENS


async def visit(running: Server, users: int) -> list[int]:
    """Everyone asks once; returns the input tokens."""
    rng = Random(0)
    shared = {"role": "system", "content": nonce(rng) + INSTRUCTIONS * 174}
    lengths = []
    async with connect(None) as client:
        for _ in range(users):
            messages = [shared, user(" ".join(rng.choices(WORDS, k=300)))]
            answer = await measure(client, running.base_url, MODEL, messages, 1, options={"temperature": 0})
            lengths.append(answer.input_tokens or 0)
        shared_tokens = (await measure(client, running.base_url, MODEL, [shared, user("")], 1)).input_tokens or 0
    return [shared_tokens, *lengths]


def block_bytes() -> int:
    """Keys and values of one block in f16, from the model's own figures."""
    model = LlamaModel(demo_model())
    layers, heads, kv_heads, width = (
        int(model.metadata(f"llama.{name}") or 0)
        for name in ("block_count", "attention.head_count", "attention.head_count_kv", "embedding_length")
    )
    model.close()
    return 2 * 2 * layers * kv_heads * (width // heads) * BLOCK_TOKENS


def figures(arguments: argparse.Namespace) -> list[Figure]:
    with server("--ram-cache", "4GiB") as running:
        before = running.resident_bytes()
        shared, *lengths = asyncio.run(visit(running, arguments.users))
        for _ in range(50):  # write-behind: until nothing more comes
            held = running.engine()["ram_bytes"]
            time.sleep(0.2)
            if running.engine()["ram_bytes"] == held:
                break
        after = running.resident_bytes()
    common = (shared - 10) // BLOCK_TOKENS
    distinct = common + sum(length // BLOCK_TOKENS - common for length in lengths)
    copies = sum(length // BLOCK_TOKENS for length in lengths)
    ideal = distinct * block_bytes()
    return [
        Figure(
            f"RAM for {arguments.users} users / bytes of the distinct blocks",
            held / ideal,
            1.15,
            parts={
                "ram_mb": round(held / 1e6, 1),
                "distinct_blocks": distinct,
                "if_copied_mb": round(copies * block_bytes() / 1e6, 1),
                "process_grew_mb": round((after - before) / 1e6, 1),
            },
        )
    ]


USERS = {"type": int, "default": 100}

if __name__ == "__main__":
    run(__doc__, figures, users=USERS)
