"""How fast a chat log is audited, and in how much memory: `python -m benchmarks.audit [--megabytes 128] [--profile]`.

The log is made here: conversations of several turns behind system prompts that many share, some with a timestamp in
front. `headstart audit` is a process of its own. `--profile` runs it in this one and shows where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headstart.audit.audit import Settings, audit
from headstart.audit.logs import read

START = 1_790_000_000.0


def write(path: Path, megabytes: int) -> None:
    """Conversations that take turns."""
    dice = random.Random(7)
    words = [f"{dice.choice('bcdfglmnprst')}{dice.choice('aeiou')}{dice.choice('lmnrst')}{end}" for end in range(3000)]
    systems = [" ".join(dice.choices(words, k=1_500)) for _ in range(20)]
    talks: list[list[dict[str, str]]] = []
    size = number = 0
    with path.open("w") as file:
        while size < megabytes * 10**6:
            if not talks or dice.random() < 0.15:
                stamp = f"Now: {int(START + number)}\n" if dice.random() < 0.1 else ""
                talks.append([{"role": "system", "content": stamp + dice.choice(systems)}])
                talks = talks[-200:]
            talk = dice.choice(talks)
            talk.append({"role": "user", "content": " ".join(dice.choices(words, k=60))})
            line = json.dumps({"timestamp": START + number, "request": {"model": "gpt-5.1", "messages": talk}})
            talk.append({"role": "assistant", "content": " ".join(dice.choices(words, k=120))})
            size += file.write(line + "\n")
            number += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=128)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "chat.jsonl"
        write(path, options.megabytes)
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(audit, read(path), Settings())
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
            return
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "headstart", "audit", path, "--json"], stdout=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        assert not status, "the audit failed"
        print(
            f"{options.megabytes} MB in {seconds:.1f} s: {options.megabytes / seconds:.2f} MB/s wall, "
            f"{options.megabytes / (used.ru_utime + used.ru_stime):.2f} MB/s of a core, {used.ru_maxrss / 1024:.0f} MiB"
        )


if __name__ == "__main__":
    main()
