"""The tutorial's prompt, cold and warm, through HTTP; and what bare llama.cpp takes for the same suffix.

    python -m benchmarks.tutorial [--rounds 5] [--json FILE]

A round is a prefix that no one has seen, asked cold once and warm five times with other questions. Bare is the same
suffix (all tokens behind the common prefix) computed in process, with the prefix in the context, and one greedy token.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from random import Random
from statistics import median

import numpy as np

from benchmarks.figure import Figure, run
from benchmarks.serving import MODEL, demo_model, server
from headstart.cli.load import connect, measure
from headstart.cli.scenarios import nonce, user
from headstart.cli.tutorial import LONG_PREFIX, QUESTIONS
from headstart.engine.llama import LlamaContext, LlamaModel
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.template import DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import OpenAITokenizer
from headstart.types import Message, Request, Text


async def through_http(base_url: str, rounds: int) -> tuple[list[float], list[float], list[int]]:
    """Cold and warm times to first token, in seconds, and the warm requests' cached tokens."""
    cold, warm, cached = [], [], []
    rng = Random(0)
    async with connect(None) as client:
        for _ in range(rounds):
            prefix = nonce(rng) + LONG_PREFIX
            first = await measure(client, base_url, MODEL, [user(prefix + QUESTIONS[0])], 4, options={"temperature": 0})
            assert first.cached_tokens == 0
            cold.append(first.ttft)
            for question in QUESTIONS[1:]:
                again = await measure(client, base_url, MODEL, [user(prefix + question)], 4, options={"temperature": 0})
                warm.append(again.ttft)
                cached.append(again.cached_tokens or 0)
    return cold, warm, cached


def bare(rounds: int) -> tuple[list[float], list[int]]:
    """Seconds for the same suffixes on bare llama.cpp, and their lengths in tokens."""
    model = LlamaModel(demo_model())
    prompts = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer(model.tokenizer.control))

    def tokens(text: str) -> np.ndarray:
        return prompts.build(Request(MODEL, (Message("user", (Text(text, "input"),), "input"),))).tokens

    context = LlamaContext(
        model, cells=33_024, batch=520, sequences=2, threads=len(os.sched_getaffinity(0)), kv_type="f16"
    )

    def compute(ids: np.ndarray, start: int) -> int:
        count = len(ids)
        context.tokens[:count] = ids
        context.positions[:count] = np.arange(start, start + count)
        context.sequences[:count] = 0
        context.outputs[:count] = 0
        context.outputs[count - 1] = 1
        assert context.decode(count) == 0
        return int(context.logits(count - 1).argmax())

    seconds, lengths = [], []
    first = tokens(LONG_PREFIX + QUESTIONS[0])
    for start in range(0, len(first), 512):
        compute(first[start : start + 512], start)
    before = first
    for _ in range(rounds):
        for question in QUESTIONS[1:]:
            ids = tokens(LONG_PREFIX + question)
            common = int(np.argmax(before[: len(ids)] != ids[: len(before)]))
            began = time.perf_counter()
            context.keep(0, common)
            compute(ids[common:], common)
            seconds.append(time.perf_counter() - began)
            lengths.append(len(ids) - common)
            before = ids
    context.close()
    return seconds, lengths


def figures(arguments: argparse.Namespace) -> list[Figure]:
    with server() as running:
        cold, warm, cached = asyncio.run(through_http(running.base_url, arguments.rounds))
    plain, lengths = bare(arguments.rounds)
    parts = {
        "cold_ms": round(median(cold) * 1e3, 1),
        "warm_ms": round(median(warm) * 1e3, 1),
        "cached_tokens": sorted(set(cached)),
    }
    allowed = 1.5 * median(plain) + 0.005
    return [
        Figure("warm / cold TTFT, tutorial prompt", median(warm) / median(cold), 0.03, parts=parts),
        Figure(
            "warm TTFT / (1.5 × bare llama.cpp + 5 ms)",
            median(warm) / allowed,
            1.0,
            parts={
                "warm_ms": parts["warm_ms"],
                "bare_ms": round(median(plain) * 1e3, 1),
                "suffix_tokens": round(median(lengths)),
            },
        ),
    ]


ROUNDS = {"type": int, "default": 5}

if __name__ == "__main__":
    run(__doc__, figures, rounds=ROUNDS)
