"""Time and peak memory of LRU's hit rates at eight capacities on a trace, beside other tools, given as commands.

    python -m benchmarks.simulate TRACE.jsonl [--rounds 5] \
        [--peer 'llmtrafficlens profile --format mooncake -o /tmp/out {trace}']

Each tool is a process of its own, start and reading included; the rounds take turns, and the quickest of each counts.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

CAPACITIES = ("250k", "500k", "1M", "2.6M", "5.1M", "10M", "20M", "50M")
OURS = [sys.executable, "-m", "headstart", "simulate", "{trace}", "--policy", "lru"]


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds, and MB at most."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{shlex.join(command)} failed: {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--peer", action="append", default=[], help="A command; {trace} stands for the trace.")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ours = [*OURS, *(part for capacity in CAPACITIES for part in ("--capacity", capacity))]
    tools = [("headstart", ours), *((shlex.split(peer)[0], shlex.split(peer)) for peer in arguments.peer)]
    seconds = {name: float("inf") for name, _ in tools}
    memory = dict.fromkeys(seconds, 0.0)
    for _ in range(arguments.rounds):
        for name, command in tools:
            took, peak = measured([part.replace("{trace}", str(arguments.trace)) for part in command])
            seconds[name], memory[name] = min(seconds[name], took), max(memory[name], peak)
    for name in seconds:
        print(
            f"{Path(name).name:20} {seconds[name]:6.2f} s {memory[name]:6.0f} MB   / headstart: "
            f"{seconds[name] / seconds['headstart']:.2f} {memory[name] / memory['headstart']:.2f}"
        )


if __name__ == "__main__":
    main()
