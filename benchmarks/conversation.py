"""A conversation of 20 turns, each as long as the others: the time to the first token stays flat.

    python -m benchmarks.conversation [--turns 20] [--sentences 1] [--rounds 3] [--json FILE]

Turns go through the Responses API with `previous_response_id`, so every one is also read from the store and written to
it. All but its newest message is read from the cache, to the token.
"""

from __future__ import annotations

import argparse
import time
from random import Random
from statistics import median
from typing import Any

import openai

from benchmarks.figure import Figure, run
from benchmarks.serving import server
from headstart.cli.scenarios import nonce

MODEL = "gpt-5.6"
INSTRUCTIONS = "You answer questions of customers about their orders, briefly and kindly. " * 110
"""Some 1,500 tokens, so that the first turn is cached too."""
QUESTION = "My parcel has not arrived, and the page says that it was delivered. What shall I do? "
"""Some 20 tokens, as people write. `--sentences` makes it longer: then each turn computes more over more cells, and
llama.cpp itself slows down with every turn (docs/performance.md)."""


def converse(client: openai.OpenAI, turns: int, sentences: int, rng: Random) -> list[tuple[float, int, int]]:
    """Of every turn: seconds to the first token, input tokens, tokens read."""
    previous: str | None = None
    seen = []
    for turn in range(turns):
        messages: list[Any] = [{"role": "user", "content": f"{turn}. {QUESTION * sentences}"}]
        if previous is None:
            messages.insert(0, {"role": "developer", "content": nonce(rng) + INSTRUCTIONS})
        options: Any = {} if previous is None else {"previous_response_id": previous}
        began = time.perf_counter()
        first = 0.0
        with client.responses.create(
            model=MODEL, input=messages, store=True, stream=True, max_output_tokens=8, temperature=0, **options
        ) as events:
            for event in events:
                if event.type == "response.output_text.delta" and not first:
                    first = time.perf_counter() - began
                if event.type in ("response.completed", "response.incomplete"):
                    response: Any = event.response
        previous = response.id
        usage = response.usage
        seen.append((first, usage.input_tokens, usage.input_tokens_details.cached_tokens))
    return seen


def figures(arguments: argparse.Namespace) -> list[Figure]:
    rng = Random(0)
    with server() as running, openai.OpenAI(base_url=running.base_url, api_key="none") as client:
        rounds = [converse(client, arguments.turns, arguments.sentences, rng) for _ in range(arguments.rounds)]
    typical = [median(seen[turn][0] for seen in rounds) for turn in range(arguments.turns)]
    unread = [tokens - read for _, tokens, read in rounds[0]]
    return [
        Figure(
            f"TTFT of turn {arguments.turns} / turn 2",
            typical[-1] / typical[1],
            1.3,
            parts={
                "turn_ms": [round(seconds * 1e3) for seconds in typical],
                "input_tokens": [tokens for _, tokens, _ in rounds[0]][-1],
                "computed_tokens": sorted(set(unread[1:])),
            },
        )
    ]


TURNS = {"type": int, "default": 20}
SENTENCES = {"type": int, "default": 1}
ROUNDS = {"type": int, "default": 3}

if __name__ == "__main__":
    run(__doc__, figures, turns=TURNS, sentences=SENTENCES, rounds=ROUNDS)
