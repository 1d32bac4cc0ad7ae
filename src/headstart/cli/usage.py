"""`headstart usage`: what requests used, cost and saved, from the ledger's database, beside a running server or not."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart.cli.figures import harmless
from headstart.cli.usage_report import By, Report, document, print_csv, print_report, utc
from headstart.errors import StartError

if TYPE_CHECKING:
    from headstart.ledger.reports import Reports, Span

UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
LONGEST = 3653 * 86_400
"""Seconds of ten years."""


def usage(
    since: Annotated[str, typer.Option(help="How far back, as 90m, 24h, 7d, 2w; or a date, as 2026-11-01.")] = "24h",
    by: Annotated[By | None, typer.Option(help="A line for each of these.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for spreadsheets.")] = False,
    config: Annotated[Path | None, typer.Option(help="The server's headstart.toml.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="The server's data directory.")] = None,
) -> None:
    """Show the hit rate, costs, savings and times to the first token, and why the cache didn't give more.

    Times and dates are UTC.

    Example: [bold]headstart usage --since 7d --by model[/]
    """
    from headstart.cli.serve import overrides
    from headstart.config import load

    if as_json and as_csv:
        raise StartError("--json and --csv are two ways to print the same: choose one.")
    over = span_of(since, time.time(), by)
    settings = load(config, overrides(data_dir=str(data_dir) if data_dir else None))
    place = settings.ledger_place
    there = is_there(place)
    report = ask(place, by, over) if there else nothing(by, over)
    if as_json:
        print(json.dumps(document(report), indent=2))
    elif as_csv:
        print_csv(report, sys.stdout)
    elif there:
        print_report(report)
    else:
        makes = (
            "A server makes it: headstart serve" if settings.ledger.enabled else "It is off: [ledger] enabled = false"
        )
        print(f"No usage yet: there is no ledger {harmless(str(place), 200)}. {makes}")


def is_there(place: Path | str) -> bool:
    """Whether there is something to ask. What may not be looked at counts as there, and says so later."""
    try:
        if isinstance(place, Path):
            place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def ask(place: Path | str, by: By | None, over: Span) -> Report:
    """What the ledger says. Raises `StartError` where it can't be asked."""
    from sqlalchemy.exc import SQLAlchemyError

    from headstart.ledger.database import open_database
    from headstart.ledger.reports import Reports
    from headstart.sql.postgres import reason

    database = open_database(place)
    try:
        with Reports(database).at_once() as reports:
            return answer(reports, by, over)
    except SQLAlchemyError as error:
        which = f"ledger {place}" if isinstance(place, Path) else "ledger's PostgreSQL database"  # a URL has a password
        raise StartError(f"The {which} can't be read: {reason(error)}.") from error
    finally:
        database.close()


def answer(reports: Reports, by: By | None, over: Span) -> Report:
    """The total, its parts, and the causes of misses."""
    total = reports.total(over)
    causes, kinds = [], {}
    if by in (None, "cause"):
        causes = [line for line in reports.lines("cause", over) if line.value]
        kinds = {cause: rows[0].kind for cause, rows in reports.examples(over, 1).items() if rows}
    if by is None:
        return Report(by, over, total, (), causes, kinds)
    lines = reports.course(over) if by == "hour" else reports.lines(by, over)
    return Report(by, over, total, lines, causes, kinds)


def nothing(by: By | None, over: Span) -> Report:
    """What there is to tell of no requests."""
    from headstart.ledger.reports import Line, Sums

    return Report(by, over, Line("", Sums()))


def span_of(since: str, now: float, by: By | None) -> Span:
    """The time that is asked about. Raises `StartError`."""
    from headstart.ledger.batch import HOURS_KEPT
    from headstart.ledger.reports import span
    from headstart.ledger.rollup import HOUR

    seconds = seconds_back(since, now)
    if by != "hour":
        return span(seconds, now)
    if seconds > HOURS_KEPT - HOUR:
        days = HOURS_KEPT // UNITS["d"]
        raise StartError(f"--since {harmless(since)} is too long ago for --by hour: hours are kept for {days} days.")
    return span(seconds, now, HOUR)


def seconds_back(since: str, now: float) -> float:
    """How long before `now` a range begins: one as `7d`, or from a date or time on. Raises `StartError`."""
    asked = f"--since {harmless(since)}"
    length = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([mhdw])", since.strip())
    if length is not None:
        seconds = float(length[1]) * UNITS[length[2]]
        if seconds < UNITS["m"]:
            raise StartError(f"{asked} is too short: a minute, 1m, is the least.")
    else:
        seconds = now - beginning(since, asked)
        if seconds < 0:
            raise StartError(f"{asked} lies in the future: it is {utc(now)} now. Name a date or time before that.")
    if seconds > LONGEST:
        raise StartError(f"{asked} is too long ago: ten years, 3653d, are the most.")
    return seconds


def beginning(since: str, asked: str) -> float:
    """The Unix time of a date, or a date and time; in UTC, unless it says otherwise."""
    try:
        when = datetime.fromisoformat(since.strip())
    except ValueError:
        raise StartError(
            f"{asked} is no time: write it like 90m, 24h, 7d or 2w, or as a date, like 2026-11-01 or 2026-11-01T20:00."
        ) from None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
