"""What the usage ledger takes: the dashboard's questions to a million rows.

python -m benchmarks.ledger [--rows 1000000] [--json FILE]

Rows of 30 days, of 20 API keys, 8 organisations, 5 models and every cause of a miss, written in batches as a server
writes them into a SQLite file.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import get_args

from benchmarks.figure import Figure, run
from headstart.ledger.batch import Batch, write
from headstart.ledger.database import Database, open_database
from headstart.ledger.ledger import BATCH_ROWS
from headstart.ledger.reports import Reports, span
from headstart.ledger.rollup import DAY, DIMENSIONS, HOUR
from headstart.types import Cause, Usage

DAYS = 30
KEYS = [(f"key-{number}", f"organisation-{number % 8}") for number in range(20)]
MODELS = ["gpt-4.1-mini", "gpt-5", "gpt-5.6", "gpt-4o", "demo"]
CAUSES: tuple[Cause, ...] = get_args(Cause)
RANGES = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
ASKED = 5
"""Times that each question is asked; its time is their median."""


def rows(count: int, now: float, rng: Random) -> Iterator[Usage]:
    """Requests at random times until now, the oldest first; three of four read something."""
    for number in range(count):
        key, organisation = rng.choice(KEYS)
        warm = rng.random() < 0.75
        tokens = rng.randrange(1024, 20_000)
        cached = tokens // 128 * 128 if warm else 0
        yield Usage(
            now - DAYS * DAY * (1 - (number + rng.random()) / count),
            organisation,
            key,
            rng.choice(MODELS),
            "responses",
            "completed" if rng.random() < 0.98 else "failed",
            rng.lognormvariate(1.0, 0.5),
            f"resp_{number:032x}",
            f"{rng.randrange(1000):016x}",
            input=tokens,
            cached=cached,
            written_30m=0 if warm else tokens,
            output=rng.randrange(1, 800),
            ttft=rng.lognormvariate(-2.5 if warm else 0.0, 0.5),
            cause=None if warm else rng.choice(CAUSES),
            missed=0 if warm else tokens,
            path=None if warm else "input[0].content",
            kind=None if warm else "timestamp",
            cost=(tokens - cached) * 400_000 + cached * 100_000,
            uncached_cost=tokens * 400_000,
        )


def fill(database: Database, count: int, now: float) -> None:
    """Write the rows."""
    made = rows(count, now, Random(0))
    while batch := list(itertools.islice(made, BATCH_ROWS)):
        with database.write() as connection:
            write(connection, Batch(uuid.uuid4().hex, batch), now)


def questions(reports: Reports, now: float) -> dict[str, Callable[[], object]]:
    """What the dashboard asks, over each of its ranges."""
    asked: dict[str, Callable[[], object]] = {}
    for name, seconds in RANGES.items():
        over = span(seconds, now)
        asked[f"total {name}"] = lambda over=over: reports.total(over)
        asked[f"course {name}"] = lambda over=over: reports.course(over)
        asked[f"examples {name}"] = lambda over=over: reports.examples(over)
        for by in DIMENSIONS:
            asked[f"{by} {name}"] = lambda by=by, over=over: reports.lines(by, over)
    return asked


def seconds_of(question: Callable[[], object]) -> float:
    """How long one answer takes."""
    taken = []
    for _ in range(ASKED):
        begun = time.perf_counter()
        question()
        taken.append(time.perf_counter() - begun)
    return median(taken)


def figures(arguments: argparse.Namespace) -> list[Figure]:
    """The slowest of the dashboard's questions."""
    now = float(1_800_000_000)
    with tempfile.TemporaryDirectory(prefix="headstart-ledger-") as folder:
        path = Path(folder) / "ledger.db"
        database = open_database(path)
        begun = time.perf_counter()
        fill(database, arguments.rows, now)
        written = time.perf_counter() - begun
        taken = {name: seconds_of(asked) for name, asked in questions(Reports(database), now).items()}
        database.close()
        size = path.stat().st_size
    slowest = sorted(taken, key=lambda name: -taken[name])
    return [
        Figure(
            f"slowest question of the dashboard to {arguments.rows:,} rows",
            taken[slowest[0]] * 1e3,
            200,
            unit="ms",
            parts={
                **{name.replace(" ", "_") + "_ms": round(taken[name] * 1e3, 1) for name in slowest[:4]},
                "rows_written_per_second": round(arguments.rows / written),
                "file_mb": round(size / 1e6),
            },
        )
    ]


ROWS = {"type": int, "default": 1_000_000}

if __name__ == "__main__":
    run(__doc__, figures, rows=ROWS)
