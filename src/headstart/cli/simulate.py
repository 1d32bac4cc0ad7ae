"""`headstart simulate`: how large a cache, how it evicts and how long it keeps, tried on a recorded trace."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from headstart.cli.figures import duration, harmless, plural
from headstart.errors import StartError

if TYPE_CHECKING:
    from rich.console import Console

    from headstart.simulate.trace import Trace

POLICIES = {"lru": "LRU", "lfu-da": "LFU-DA", "density": "Headstart", "belady": "Best possible"}
"""By the name that `--policy` takes, what a table calls them."""
LIVES = {"1 min": 60.0, "5 min": 300.0, "10 min": 600.0, "30 min": 1800.0, "1 h": 3600.0, "24 h": 86400.0}
SHOWN = 8
"""Capacities, if none is named."""
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


class Row(NamedTuple):
    """A capacity in tokens, and the share of input tokens that each policy would have read; None: not asked for."""

    capacity: int
    rates: dict[str, float | None]


def simulate(
    trace: Annotated[
        Path,
        typer.Argument(metavar="TRACE", help="JSON lines, plain or .gz; - is standard input; or a log."),
    ],
    capacity: Annotated[
        list[str] | None, typer.Option(help="Tokens that the cache holds, as 500k or 2.6M; repeat it for several.")
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(help="lru, lfu-da, density (Headstart's) or belady; repeat it. Default: all.")
    ] = None,
    block_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of a block. Default: found out.")] = None,
    prefill_rate: Annotated[
        float | None,
        typer.Option(min=1e-9, help="Prompt tokens that a machine computes in a second: tells hours saved."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show what caches of other sizes, policies and lives would have read of a trace's prompts.

    A trace has a line for each request, with its prompt's hashed blocks
    (timestamp, input_length, hash_ids), as those of Mooncake, Bailian and
    AIPerf do. A log that headstart audit reads will do, too. Nothing is sent
    anywhere.

    Example: [bold]headstart simulate trace.jsonl --capacity 1M --capacity 2.6M[/]
    """
    from rich.console import Console

    policies = list(dict.fromkeys(policy or POLICIES))
    if unknown := [name for name in policies if name not in POLICIES]:
        raise StartError(f"--policy '{harmless(unknown[0])}' is not known: use {', '.join(POLICIES)}.")
    asked = sorted({tokens_of(text) for text in capacity or ()})
    progress = Console(stderr=True)
    recorded = load(trace, block_tokens, progress)
    document = figures(recorded, asked, policies, progress)
    if prefill_rate is not None:
        document["prefill_hours"] = recorded.input / prefill_rate / 3600
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        print_report(Console(highlight=False), document, policies)


def tokens_of(text: str) -> int:
    """`500k`, `2.6M`, `1000000`. Raises `StartError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)", text.strip().replace(",", "").replace("_", "").upper())
    tokens = int(float(match[1]) * UNITS[match[2]]) if match else 0
    if tokens < 1:
        raise StartError(f"--capacity '{harmless(text)}' is not a number of tokens: write it as 500k, 2.6M or 1000000.")
    return tokens


def load(path: Path, block: int | None, console: Console) -> Trace:
    """The trace of a file. Raises `StartError`."""
    from headstart.simulate.trace import read

    try:
        if str(path) != "-" and _is_log(path):
            from headstart.audit.logs import read as read_log
            from headstart.audit.tracing import trace_of

            with console.status(f"Reading {harmless(str(path))} …"):
                return trace_of(read_log(path))
        with console.status(f"Reading {harmless(str(path))} …"), opened(path) as lines:
            return read(lines, block=block)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartError(f"{harmless(str(path))} can't be read: {reason}.") from error
    except ValueError as error:
        raise StartError(f"{harmless(str(path))}: {error}") from error


def _is_log(path: Path) -> bool:
    """Whether the file has requests rather than hashes: by its beginning, since a trace names its hashes there."""
    from headstart.audit.logs import opened as opened_log

    with opened_log(path) as (_, lines):
        start = lines.read(4096)
    return any(name in start for name in _OF_LOGS) and b'"hash_ids"' not in start


_OF_LOGS = (b'"messages"', b'"input"', b'"body"', b'"request"', b'"resourceSpans"', b'"attributes"')


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's lines as bytes, unpacked by its first bytes."""
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    with path.open("rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        if not packed:
            yield file
            return
        with gzip.open(file) as lines:
            yield lines  # type: ignore[misc]  # a GzipFile reads as any


def figures(trace: Trace, asked: Sequence[int], policies: Sequence[str], console: Console) -> dict[str, Any]:
    """All that is said of a trace, as JSON has it. Shares of the input tokens."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from headstart.simulate.distances import Reuse
    from headstart.simulate.replay import belady, hit_rate

    reuse = Reuse(trace)
    capacities = list(asked) or usual(reuse.most, trace.block)
    rows = [Row(tokens, {}) for tokens in capacities]
    slow = [name for name in policies if name != "lru"]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Replaying", total=len(rows) * len(slow) * trace.requests)
        for row, lru in zip(rows, reuse.by_capacity([tokens // trace.block for tokens in capacities]), strict=True):
            if "lru" in policies:
                row.rates["lru"] = lru
            for name in slow:
                blocks = row.capacity // trace.block
                tell = lambda done: progress.advance(task, done)  # noqa: E731 - of this task alone
                row.rates[name] = (
                    belady(blocks, trace, tell) if name == "belady" else hit_rate(name, blocks, trace, tell)
                )
    return {
        "requests": trace.requests,
        "seconds": float(trace.times[-1]),
        "input_tokens": trace.input,
        "output_tokens": int(trace.outputs.sum()),
        "block_tokens": trace.block,
        "distinct_blocks": trace.distinct,
        "skipped_lines": trace.skipped,
        "skipped": [example._asdict() for example in trace.examples],
        "out_of_order": trace.shuffled,
        "unbounded": reuse.unbounded,
        "by_capacity": [{"capacity_tokens": row.capacity, **row.rates} for row in rows],
        "by_life": dict(zip(LIVES, reuse.by_life(list(LIVES.values())), strict=True)),
    }


def usual(most: int, block: int) -> list[int]:
    """Round capacities in tokens, up to the one that is enough for all that `most` blocks of LRU can give."""
    enough = max(most * block, block)
    series = [digit * 10**power for power in range(len(str(enough)) + 1) for digit in (1, 2, 5)]
    upto = next(at for at, tokens in enumerate(series) if tokens >= enough)
    return [tokens for tokens in series[: upto + 1] if tokens >= block][-SHOWN:]


def print_report(console: Console, document: dict[str, Any], policies: Sequence[str]) -> None:
    """The same for people, on one screen."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    requests, tokens = document["requests"], document["input_tokens"]
    console.print(
        f"{plural(requests, 'request', 'requests')}, {short(tokens)} input tokens in blocks of "
        f"{document['block_tokens']}, over {duration(document['seconds'])}.\n"
        f"A cache without bounds would read {document['unbounded']:.1%} of them."
    )
    for skipped in document["skipped"]:
        console.print(f"  line {skipped['line']} skipped: {harmless(skipped['reason'], 200)}", markup=False)
    if more := document["skipped_lines"] - len(document["skipped"]):
        console.print(f"  and {plural(more, 'more line', 'more lines')} skipped")
    if document["out_of_order"]:
        late = plural(document["out_of_order"], "request", "requests")
        console.print(f"  {late} stood behind later ones: sorted by time")
    console.print("\nShare of input tokens read, by capacity:")
    table = Table(box=SIMPLE_HEAD)
    table.add_column("Capacity, tokens", justify="right")
    for name in policies:
        table.add_column(POLICIES[name], justify="right")
    for row in document["by_capacity"]:
        table.add_row(short(row["capacity_tokens"]), *(f"{row[name]:.1%}" for name in policies))
    console.print(table)
    lives = "  ".join(f"{name} {share:.1%}" for name, share in document["by_life"].items())
    console.print(f"Without a bound, kept after the last use for:\n  {lives}")
    if (hours := document.get("prefill_hours")) is not None:
        saved = hours * document["unbounded"]
        console.print(
            f"Prefill without a cache: {hours:,.1f} machine hours; an unbounded one saves {saved:,.1f} of them."
        )


def short(tokens: int) -> str:
    """`512`, `500 k`, `2.6 M`."""
    for unit, name in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if tokens >= unit:
            return f"{tokens / unit:.1f}".removesuffix(".0") + name
    return str(tokens)
