"""`headstart audit`: what caching could do for requests that went elsewhere, what breaks it, and what to change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from headstart.cli.figures import harmless
from headstart.errors import StartError

if TYPE_CHECKING:
    from rich.console import Console

    from headstart.audit.call import Call, Skipped
    from headstart.audit.replay import Replay
    from headstart.audit.report import Report

FORMATS = ("headstart", "otel", "litellm", "langfuse", "openai-batch", "openai", "anthropic")
"""The keys of `audit.formats.known.FORMATS`, which takes a second to import: a test keeps them the same."""

CURVE = 60
"""Points of a curve on the page."""
SHOWN_PREFIXES = 30
"""On the page."""
Logs = Annotated[
    list[Path], typer.Argument(metavar="LOG…", help="JSON lines, plain, .gz or .zst; - is standard input.")
]
FormatOption = Annotated[str | None, typer.Option("--format", help=f"{', '.join(FORMATS)}. Default: found out.")]
RetentionOption = Annotated[
    str, typer.Option("--retention", help="Of requests to interval models that don't say: 24h or in_memory.")
]
ShowText = Annotated[
    bool, typer.Option("--show-text", help="Show prompts' words where they vary, not only their shape.")
]


def audit(
    logs: Logs,
    format: FormatOption = None,
    retention: RetentionOption = "24h",
    fix: Annotated[bool, typer.Option("--fix", help="Print requests as they should be, beside the old ones.")] = False,
    show_text: ShowText = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page: the curve, the findings, the prefixes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Audit a log of requests to OpenAI or Claude: what was cached, what could be, and what breaks it.

    Reads OpenAI's request bodies (Responses, Chat Completions), alone or
    with responses and timestamps, batch files, captures of this server,
    exports of LiteLLM and Langfuse, Anthropic Messages, and OpenTelemetry
    GenAI spans. The server's own rules replay every request. Nothing leaves
    this machine, and prompts are shown by their shape only.

    Example: [bold]headstart audit requests.jsonl --fix[/]
    """
    from rich.console import Console

    from headstart.audit.audit import Settings
    from headstart.audit.audit import audit as audited
    from headstart.audit.fixes import difference, fixes
    from headstart.audit.redaction import masked, plain
    from headstart.audit.summary import document
    from headstart.cli.audit_report import print_fix, print_report

    show = plain if show_text else masked
    calls = read_logs(logs, format, Console(stderr=True))
    report, replay, head = audited(calls, Settings(retention_of(retention), now=time.time()))
    if not report.requests:
        raise StartError(nothing_read(logs, report.examples))
    told = document(report, show)
    changes = [(each, difference(each, show)) for each in fixes(report.findings, head)] if fix else []
    if html is not None:
        write_page(html, told, ", ".join(str(path) for path in logs), report, head, replay)
    if as_json:
        if fix:
            told["fixes"] = [
                {"finding": each.finding, "line": each.line, "difference": lines} for each, lines in changes
            ]
        print(json.dumps(told, indent=2))
        return
    console = Console(highlight=False)
    print_report(console, told, [str(path) for path in logs])
    for each, lines in changes:
        print_fix(console, each.finding, each.line, lines)


def write_page(
    path: Path, told: dict[str, Any], name: str, report: Report, calls: Sequence[Call], replay: Replay
) -> None:
    """The report as a page; its curves are of the calls that were studied. Raises `StartError`."""
    from headstart.audit.edits import applied
    from headstart.audit.page import page

    mended = [applied(report.edits.get(call.model, ()), call) for call in calls]
    curves = curves_of({"as sent": calls, "mended": mended})
    prefixes = replay.index.prefixes(SHOWN_PREFIXES, replay.now, lambda: None)
    try:
        path.write_text(page(told, name, curves, prefixes), encoding="utf-8")
    except OSError as error:
        raise StartError(f"{harmless(str(path))} can't be written: {error.strerror or error}.") from error


def curves_of(logs: Mapping[str, Sequence[Call]]) -> dict[str, list[tuple[float, float]]]:
    """What LRU caches of other sizes would have read of each: tokens, and the share of the input."""
    from headstart.audit.tracing import trace_of
    from headstart.simulate.distances import Reuse

    traces = {name: trace_of(calls) for name, calls in logs.items()}
    most = max(trace.distinct for trace in traces.values())
    capacities = sorted({max(most * part // CURVE, 1) for part in range(1, CURVE + 1)}) if most else []
    curves = {}
    for name, trace in traces.items():
        rates = Reuse(trace).by_capacity(capacities) if trace.distinct else [0.0] * len(capacities)
        tokens = [float(blocks * trace.block) for blocks in capacities]
        curves[name] = list(zip(tokens, rates, strict=True))
    return curves


def retention_of(text: str) -> Literal["24h", "in_memory"]:
    """The option's value. Raises `StartError`."""
    if text == "24h":
        return "24h"
    if text == "in_memory":
        return "in_memory"
    raise StartError(f"--retention '{harmless(text)}' is not known: use 24h or in_memory.")


def nothing_read(logs: Sequence[Path], examples: Sequence[Skipped]) -> str:
    """Why there is nothing to say."""
    names = ", ".join(harmless(str(path)) for path in logs)
    if not examples:
        return f"{names} has no line. A log has one request in each: see headstart audit --help."
    reasons = "\n".join(f"  line {skipped.line}: {harmless(skipped.reason, 200)}" for skipped in examples)
    return f"No request can be read of {names}:\n{reasons}"


def read_logs(logs: Sequence[Path], format: str | None, console: Console) -> Iterator[Call | Skipped]:
    """All requests of these files, with a progress bar. Raises `StartError`."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from headstart.audit.logs import read

    if format is not None and format not in FORMATS:
        raise StartError(f"--format '{harmless(format)}' is not known: use {', '.join(FORMATS)}.")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for path in logs:
            name = harmless(str(path))
            try:
                total = None if str(path) == "-" else path.stat().st_size
                task = progress.add_task(f"Auditing {name}", total=total)
                yield from read(path, format, lambda done, task=task: progress.advance(task, done))  # type: ignore[misc]
            except (OSError, EOFError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise StartError(f"{name} can't be read: {reason}.") from error
