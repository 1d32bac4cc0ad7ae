"""Rules alone: plan and match of a 10,000-token prompt, against the goal of 200 µs. No engine, no I/O.

python benchmarks/rules.py [--tokens 10000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from headstart.cache.index import PrefixIndex
from headstart.cache.policy import IntervalRules
from headstart.types import CacheOptions, Namespace, Prompt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rules, index = IntervalRules(b"secret"), PrefixIndex(1 << 40)
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
    seconds.sort()
    result = {
        "figure": "plan and match",
        "tokens": arguments.tokens,
        "median_us": round(seconds[len(seconds) // 2] * 1e6, 1),
        "p95_us": round(seconds[int(len(seconds) * 0.95)] * 1e6, 1),
        "goal_us": 200,
    }
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
