"""`headstart check`: a build fails when a change breaks the prefix."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart import __version__
from headstart.cli.audit import FormatOption, Logs, RetentionOption, nothing_read, read_logs, retention_of
from headstart.cli.figures import harmless
from headstart.errors import StartError

if TYPE_CHECKING:
    from headstart.audit.verdict import Baseline


def check(
    logs: Logs,
    min_hit_rate: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Share of input tokens that has to be read, as 0.8.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="What was the case before; what is worse or new fails the build.")
    ] = None,
    write_baseline: Annotated[bool, typer.Option(help="Write --baseline anew instead of comparing with it.")] = False,
    output: Annotated[
        str, typer.Option(help="text, github (annotations) or sarif. Default: github in GitHub Actions, else text.")
    ] = "",
    format: FormatOption = None,
    retention: RetentionOption = "24h",
) -> None:
    """Fail a build whose requests don't reuse their prefix: exit code 1, and why.

    The log is what the application's tests have sent; the rules replay it,
    so it needs no answers. Prompts are never printed.

    Example: [bold]headstart check requests.jsonl --min-hit-rate 0.8[/]
    """
    from rich.console import Console

    from headstart.audit import verdict
    from headstart.audit.audit import Settings, audit

    if min_hit_rate is None and baseline is None:
        raise StartError("Say what is wanted: --min-hit-rate 0.8, or --baseline FILE.")
    output = output or ("github" if os.environ.get("GITHUB_ACTIONS") == "true" else "text")
    if output not in ("text", "github", "sarif"):
        raise StartError(f"--output '{harmless(output)}' is not known: use text, github or sarif.")
    if write_baseline and baseline is None:
        raise StartError("--write-baseline needs --baseline FILE to write to.")
    calls = read_logs(logs, format, Console(stderr=True))
    report, _, _ = audit(calls, Settings(retention_of(retention), now=time.time()))
    if not report.requests:
        raise StartError(nothing_read(logs, report.examples))
    before = None
    if baseline is not None and write_baseline:
        _write(baseline, verdict.baseline_of(report))
    elif baseline is not None:
        before = _read(baseline)
    found = verdict.failures(report, min_hit_rate, before)
    file = str(logs[0])
    if output == "sarif":
        print(json.dumps(verdict.sarif(found, file, __version__), indent=2))
    elif output == "github":
        print("\n".join(verdict.github(found, file)))
    else:
        told = [f"{harmless(file)}:{each.line}: {each.message}" for each in found]
        print("\n".join(told or [f"The hit rate is {report.total('predicted').rate:.1%}."]))
    if found:
        raise typer.Exit(1)


def _read(path: Path) -> Baseline:
    import msgspec

    from headstart.audit.verdict import Baseline as Kept

    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except OSError as error:
        raise StartError(
            f"{harmless(str(path))} can't be read: {error.strerror or error}. Make it with --write-baseline."
        ) from error
    except msgspec.DecodeError as error:
        raise StartError(f"{harmless(str(path))} is no baseline: {error}. Make it with --write-baseline.") from error


def _write(path: Path, baseline: object) -> None:
    import msgspec

    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(baseline)) + b"\n")
    except OSError as error:
        raise StartError(f"{harmless(str(path))} can't be written: {error.strerror or error}.") from error
