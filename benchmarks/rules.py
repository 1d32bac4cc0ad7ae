"""Rules alone: plan and match of a 10,000-token prompt. No engine, no I/O.

python -m benchmarks.rules [--tokens 10000] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from statistics import median, quantiles

import numpy as np

from benchmarks.figure import Figure, run
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import IntervalRules, Terms
from headstart.types import CacheOptions, Namespace, Prompt


def figures(arguments: argparse.Namespace) -> list[Figure]:
    rules, index = IntervalRules(Terms(b"secret")), PrefixIndex(1 << 40)
    prompt = Prompt(np.random.default_rng(0).integers(0, 200_000, arguments.tokens, np.int32), ())
    namespace = Namespace("default", "gpt-4.1-mini", "interval", None)
    plan = rules.plan(prompt, namespace, CacheOptions())
    index.write(plan, plan.length, 0.0)
    seconds = []
    for _ in range(500):
        started = time.perf_counter()
        plan = rules.plan(prompt, namespace, CacheOptions())
        matched = index.match(plan, 1.0)
        seconds.append(time.perf_counter() - started)
    assert matched == plan.reads[-1]
    return [
        Figure(
            f"plan and match of {arguments.tokens:,} tokens",
            median(seconds) * 1e6,
            200,
            unit="µs",
            parts={"p95_us": round(quantiles(seconds, n=20)[-1] * 1e6)},
        )
    ]


TOKENS = {"type": int, "default": 10_000}

if __name__ == "__main__":
    run(__doc__, figures, tokens=TOKENS)
