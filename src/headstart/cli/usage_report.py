"""What `headstart usage` tells: figures of the ledger as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headstart.cli.cache_report import wide_console
from headstart.cli.figures import harmless, iso, plural
from headstart.types import dollars

if TYPE_CHECKING:
    from headstart.ledger.reports import Latency, Line, Span, Sums

By = Literal["model", "organisation", "key", "hour", "cause"]
"""What there can be a line for each of."""

SHOWN_LINES = 50
"""Lines of the table, beside the total; JSON and CSV have all."""
SHOWN_CAUSES = 3
"""Causes of misses that are told without being asked for."""
NAMES: dict[By, str] = {
    "model": "Model",
    "organisation": "Organisation",
    "key": "Key",
    "hour": "Hour (UTC)",
    "cause": "Cause",
}
NAMELESS: dict[By, str] = {"model": "(no model)", "organisation": "(none)", "key": "(no key)", "cause": "(no miss)"}
"""What stands for an empty name."""
SCALES = ((10**12, "T"), (10**9, "B"), (10**6, "M"))
MICRO = 10**6
"""Picodollars of a millionth of a dollar, the least that the table tells."""
FORMULA = ("=", "+", "-", "@")
"""What begins a formula in a spreadsheet."""


class Report(NamedTuple):
    """What is to be told. `lines`: of each group, none without `by`; `causes`: of misses, where they are told."""

    by: By | None
    over: Span
    total: Line
    lines: Sequence[Line] = ()
    causes: Sequence[Line] = ()
    kinds: Mapping[str, str | None] | None = None
    """Of each cause, what kind of value stood where the latest prompt parted from another."""


# -------------------------------------------------------------------------------------------------------- for scripts


def document(report: Report) -> dict[str, Any]:
    """All of it. Times are in seconds, costs in dollars as decimal strings; null is what is unknown."""
    return {
        "since": iso(report.over.since),
        "until": iso(report.over.until),
        "by": report.by,
        "total": figures(report.total),
        "lines": [{report.by: name_of(report.by, line), **figures(line)} for line in report.lines if report.by],
    }


def print_csv(report: Report, file: IO[str]) -> None:
    """A header, and a line for each group, or for all requests. Nothing is a formula to a spreadsheet."""
    name = [report.by] if report.by else []
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*name, *figures(report.total)])
    for line in report.lines if report.by else [report.total]:
        names = [spreadsheet_text(name_of(report.by, line))] if report.by else []
        writer.writerow([*names, *figures(line).values()])


def figures(line: Line) -> dict[str, Any]:
    """A group's figures by their names."""
    sums = line.sums
    known = sums.is_cost_known
    return {
        "requests": sums.requests,
        "warm_requests": sums.warm,
        "failed_requests": sums.failed,
        "input_tokens": sums.input,
        "cached_tokens": sums.cached,
        "written_tokens": sums.written,
        "output_tokens": sums.output,
        "missed_tokens": sums.missed,
        "hit_rate": sums.hit_rate,
        "priced_requests": sums.priced,
        "cost": dollars(sums.cost) if known else None,
        "uncached_cost": dollars(sums.uncached_cost) if known else None,
        "saved": dollars(sums.saved) if known else None,
        **latency_figures("ttft_warm", line.warm),
        **latency_figures("ttft_cold", line.cold),
    }


def latency_figures(name: str, latency: Latency) -> dict[str, Any]:
    """Times to the first token, and of how many requests."""
    return {f"{name}_requests": latency.requests, f"{name}_p50": latency.p50, f"{name}_p95": latency.p95}


def name_of(by: By, line: Line) -> str:
    """A group's name as scripts see it: an hour as `2026-11-23T18:00:00Z`."""
    return (iso(float(line.value)) or line.value) if by == "hour" else line.value


def spreadsheet_text(name: str) -> str:
    """A name that a spreadsheet takes for text, and a terminal for nothing else."""
    spelt = harmless(name, len(name) * len(r"\U0001f600"))
    return f"'{spelt}" if spelt.lstrip().startswith(FORMULA) else spelt


# --------------------------------------------------------------------------------------------------------- for people


def print_report(report: Report) -> None:
    """A table with its notes, and what to do about misses."""
    console = wide_console()
    since = utc(report.over.since)
    if not report.total.sums.requests:
        console.print(f"No requests since {since}. A longer time: --since 30d")
        return
    console.print(f"Usage since {since}", style="bold")
    console.print(table(report))
    if (more := len(report.lines) - SHOWN_LINES) > 0:
        console.print(f"… and {more:,} more; --json and --csv have all.")
    for note in notes(report.total.sums):
        console.print(note, markup=False)
    print_causes(console, report)


def table(report: Report) -> Table:
    """A row of two lines for each group, so that what is compared stands one above the other."""
    found = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    found.add_column(NAMES[report.by] if report.by else "", min_width=8)
    for header in ("Requests\nwarm", "Input\ncached", "Hit rate\nmissed", "Cost\nsaved", "TTFT", "p50", "p95"):
        found.add_column(header, justify="right", no_wrap=True)
    for line in report.lines[:SHOWN_LINES]:
        found.add_row(label(report.by, line), *cells(line))
    if len(report.lines) != 1:
        found.add_section()
        found.add_row(Text("All requests", style="bold"), *cells(report.total))
    return found


def label(by: By | None, line: Line) -> Text:
    """A group's name, which is cut where it is too long."""
    if by is None or not line.value:
        return Text(NAMELESS[by] if by else "", style="dim")
    text = utc(float(line.value)).removesuffix(" UTC") if by == "hour" else harmless(line.value)
    return Text(text, style="bold", no_wrap=True, overflow="ellipsis")


def cells(line: Line) -> list[Text]:
    """A group's figures, two in a cell."""
    sums, warm, cold = line.sums, line.warm, line.cold
    known = sums.is_cost_known
    saved = Text(money(sums.saved) if known else "–", style="red" if sums.saved < 0 else "")
    return [
        pair(short(sums.requests), short(sums.warm)),
        pair(short(sums.input), short(sums.cached)),
        pair("–" if sums.hit_rate is None else f"{sums.hit_rate:.1%}", short(sums.missed)),
        pair(money(sums.cost) if known else "–", saved),
        pair("warm", "cold"),
        pair(time_text(warm.p50), time_text(cold.p50)),
        pair(time_text(warm.p95), time_text(cold.p95)),
    ]


def pair(above: str, below: str | Text) -> Text:
    """Two figures, one above the other."""
    return Text.assemble(above, "\n", below)


def notes(sums: Sums) -> list[str]:
    """What the table's figures leave out."""
    told = []
    if sums.failed:
        told.append(f"{plural(sums.failed, 'request', 'requests')} failed, broke off or got no answer.")
    if unpriced := sums.requests - sums.priced:
        have = "has" if unpriced == 1 else "have"
        of = plural(sums.requests, "request", "requests")
        told.append(f"{unpriced:,} of {of} {have} no price: set one with [[models]] price.")
    return told


def print_causes(console: Console, report: Report) -> None:
    """Why no more was read, what cost most first, and what to do about it."""
    from headstart.cache.diagnosis import remedy_of
    from headstart.ledger.reports import worst_first

    causes = worst_first(report.causes)
    shown = causes if report.by == "cause" else causes[:SHOWN_CAUSES]
    if shown:
        console.print("\nWhy no more was read from the cache, and what to do", style="bold")
    for line in shown:
        missed = f"{short(line.sums.missed)} tokens missed in " if line.sums.missed else ""
        requests = plural(line.sums.requests, "request", "requests")
        console.print(Text.assemble("  ", (harmless(line.value), "bold"), f": {missed}{requests}"))
        console.print(Padding(Text(remedy_of(line.value, (report.kinds or {}).get(line.value))), (0, 0, 0, 4)))
    if more := len(causes) - len(shown):
        console.print(f"  … and {plural(more, 'cause', 'causes')} more: headstart usage --by cause")


# -------------------------------------------------------------------------------------------------------------- figures


def money(cost: int) -> str:
    """Picodollars as `$0.001846`, from a dollar on as `$12.30` and `$12,300`. Only nothing is `$0`."""
    sign, size = "-" if cost < 0 else "", abs(cost)
    if not size:
        return "$0"
    micros = max((size + MICRO // 2) // MICRO, 1)
    if micros < 10**6:
        return f"{sign}$0.{micros:06}"
    cents = (micros + 5_000) // 10_000
    return f"{sign}${cents // 100:,}.{cents % 100:02}" if cents < 10**6 else f"{sign}${(cents + 50) // 100:,}"


def short(number: int) -> str:
    """`999,999`, then `1.23M`."""
    for scale, unit in SCALES:
        if number >= scale:
            scaled = number / scale
            return f"{scaled:.3g}{unit}" if scaled < 999.5 else f"{scaled:,.0f}{unit}"
    return f"{number:,}"


def time_text(seconds: float | None) -> str:
    """`4.2 ms`, `45 ms`, `1.23 s`, `123 s`, or a dash."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s" if seconds < 99.95 else f"{seconds:,.0f} s"


def utc(when: float) -> str:
    """`2026-11-23 18:00 UTC`."""
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC"
