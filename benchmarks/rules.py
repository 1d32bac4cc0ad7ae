"""Rules alone: plan and match of a 10,000-token prompt of an interval model, and of a conversation of 100 messages and
100,000 tokens of a breakpoint model. No engine, no I/O.

python -m benchmarks.rules [--tokens 10000] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from statistics import median, quantiles

import numpy as np

from benchmarks.figure import Figure, run
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import BreakpointRules, IntervalRules, Rules, Terms
from headstart.types import CacheOptions, Ending, Mark, Namespace, Plan, Prompt, Role

MESSAGES, LONG = 100, 100_000


def planned(rules: Rules, prompt: Prompt, namespace: Namespace, rounds: int) -> tuple[list[float], Plan]:
    """Seconds of each plan and match of a prompt that is cached whole."""
    index = PrefixIndex(1 << 40)
    plan = rules.plan(prompt, namespace, CacheOptions())
    index.write(plan, 0.0)
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        plan = rules.plan(prompt, namespace, CacheOptions())
        matched = index.match(plan, 1.0)
        seconds.append(time.perf_counter() - started)
    assert matched == plan.reads[-1]
    return seconds, plan


def figures(arguments: argparse.Namespace) -> list[Figure]:
    terms, rng = Terms(b"secret"), np.random.default_rng(0)
    prompt = Prompt(rng.integers(0, 200_000, arguments.tokens, np.int32), ())
    namespace = Namespace("default", "gpt-4.1-mini", "interval", None)
    seconds, _ = planned(IntervalRules(terms), prompt, namespace, 500)
    roles: list[Role] = ["user", "assistant"]
    step = LONG // MESSAGES
    endings = tuple(Ending(roles[number % 2], (number + 1) * step - 3) for number in range(MESSAGES))
    marks = tuple(Mark(number * step + 500) for number in range(MESSAGES))
    conversation = Prompt(rng.integers(0, 200_000, LONG, np.int32), (), "", endings, marks)
    namespace = Namespace("default", "gpt-5.6", "breakpoint", None)
    seconds_long, plan = planned(BreakpointRules(terms), conversation, namespace, 200)
    return [
        Figure(
            f"plan and match of {arguments.tokens:,} tokens",
            median(seconds) * 1e6,
            200,
            unit="µs",
            parts={"p95_us": round(quantiles(seconds, n=20)[-1] * 1e6)},
        ),
        Figure(
            f"plan and match of {MESSAGES} messages, {LONG:,} tokens, a breakpoint in each",
            median(seconds_long) * 1e3,
            2,
            unit="ms",
            parts={"p95_ms": round(quantiles(seconds_long, n=20)[-1] * 1e3, 2), "lookups": len(plan.reads)},
        ),
    ]


TOKENS = {"type": int, "default": 10_000}

if __name__ == "__main__":
    run(__doc__, figures, tokens=TOKENS)
