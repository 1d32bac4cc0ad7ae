"""`headstart bench`: what an endpoint's prompt cache does, measured from outside."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from headstart.cli.load import Measurement
    from headstart.cli.scenarios import Phase

DEFAULT_URL = "http://127.0.0.1:8000/v1"


class ScenarioName(StrEnum):
    """The scenarios, by name; `headstart.cli.scenarios` says what they send."""

    TUTORIAL = "tutorial"
    BURST = "burst"
    USERS = "users"
    CONVERSATION = "conversation"


def bench(
    base_url: Annotated[
        str,
        typer.Option(envvar="OPENAI_BASE_URL", show_envvar=False, help="The endpoint; $OPENAI_BASE_URL without it."),
    ] = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(help="The model. Default: the only one served.")] = None,
    scenario: Annotated[
        ScenarioName, typer.Option(metavar="NAME", help="tutorial, burst, users or conversation.")
    ] = ScenarioName.TUTORIAL,
    requests: Annotated[
        int | None, typer.Option(min=1, help="The scenario's n: warm requests, requests at once, users or turns.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Output tokens per answer, at most.")] = 64,
    seed: Annotated[int | None, typer.Option(help="Repeat a run's prompts. Default: new ones every run.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every measurement there.")] = None,
) -> None:
    """Measure any OpenAI-compatible endpoint: how soon it answers, cold and warm.

    tutorial: one prefix, one question after another. burst: n requests at once on a cold prefix, then on a warm one.
    users: n users share a prefix, twice. conversation: n turns, each with the whole history.
    The key is $OPENAI_API_KEY.

    Example: [bold]headstart bench --scenario burst --requests 8[/]
    """
    from rich.console import Console

    if json_file is not None:
        check_writable(json_file)  # before the minutes that a measurement may take
    console = Console()
    report = asyncio.run(run(console, base_url, model, scenario, requests, max_tokens, seed))
    if json_file is not None:
        write_json(json_file, report)


async def run(
    console: Any,
    base_url: str,
    model: str | None,
    scenario: ScenarioName,
    requests: int | None,
    max_tokens: int,
    seed: int | None,
) -> dict[str, Any]:
    """Run a scenario with a progress bar, print its table, and return what `--json` writes."""
    from random import Random, SystemRandom

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from headstart.cli.load import connect, served_models
    from headstart.cli.scenarios import SCENARIOS, Load

    chosen = SCENARIOS[scenario]
    n = requests or chosen.default
    seed = SystemRandom().getrandbits(32) if seed is None else seed
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with connect(os.environ.get("OPENAI_API_KEY")) as client:
        model = model or only_model(await served_models(client, base_url))
        console.print(f"[bold]{scenario}[/], n = {n}: {chosen.about}\n{model} at {base_url}")
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("measuring", total=chosen.total(n))
            load = Load(client, base_url, model, max_tokens, answered=lambda: progress.advance(task))
            await chosen.run(load, n, Random(seed))  # noqa: S311 - a nonce has to be new, not secret
    phases = list(load.phases.values())
    console.print(table(phases))
    for line in conclusions(phases):
        console.print(line)
    return {
        "base_url": base_url,
        "model": model,
        "scenario": str(scenario),
        "requests": n,
        "seed": seed,
        "max_tokens": max_tokens,
        "phases": [
            {"name": phase.name, "wall": phase.wall, "measurements": [m._asdict() for m in phase.measurements]}
            for phase in phases
        ],
    }


def only_model(names: list[str]) -> str:
    """The model to measure where nobody named one. Raises `StartError` if there are several to choose from."""
    from headstart.errors import StartError

    if len(names) != 1:
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise StartError(f"The endpoint serves {len(names)} models: choose one with --model ({some}).")
    return names[0]


def middle(values: Iterable[float | None]) -> float | None:
    """The median of the values there are."""
    present = [value for value in values if value is not None]
    return median(present) if present else None


def table(phases: list[Phase]) -> Any:
    """One row per phase; medians."""
    from rich.table import Table

    result = Table(caption="Medians of each phase; wall is the whole of it.", caption_justify="left")
    result.add_column("Phase", no_wrap=True)
    for column in ("Sent", "Input", "Cached", "First token", "Total", "Tokens/s", "Wall"):
        result.add_column(column, justify="right")
    for phase in phases:
        measured = phase.measurements
        result.add_row(
            phase.name,
            str(len(measured)),
            count(middle(m.input_tokens for m in measured)),
            count(middle(m.cached_tokens for m in measured)),
            seconds(middle(m.ttft for m in measured)),
            seconds(middle(m.total for m in measured)),
            count(middle(m.decode_rate for m in measured)),
            seconds(phase.wall),
        )
    return result


def conclusions(phases: list[Phase]) -> list[str]:
    """What the phases say about each other, as ratios inside this run."""
    lines = []
    first, last = phases[0], phases[-1]
    if first is not last:
        ratio = ttft(last.measurements) / ttft(first.measurements)
        lines.append(f"First token, {last.name} / {first.name}: [bold]{ratio:.3f}[/]")
    by_name = {phase.name: phase for phase in phases}
    if "cold burst" in by_name:
        ratio = by_name["cold burst"].wall / by_name["one cold"].wall
        lines.append(f"Wall, cold burst / one cold request: [bold]{ratio:.2f}[/]")
    if all(m.cached_tokens is None for phase in phases for m in phase.measurements):
        lines.append("The endpoint reports no cached_tokens.")
    return lines


def ttft(measurements: Iterable[Measurement]) -> float:
    """Their median time to the first token, in seconds."""
    return median(m.ttft for m in measurements)


def count(value: float | None) -> str:
    """`4,616`, or a dash."""
    return "–" if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """`1.23 s` or `45 ms`."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.2f} s"


def check_writable(path: Path) -> None:
    """Raise `StartError` if a file can't be written there, as far as that can be told without writing it."""
    from headstart.errors import StartError

    directory = path.absolute().parent
    if not os.access(directory, os.F_OK):
        raise StartError(f"{path} can't be written: there is no directory {directory}.")
    if not os.access(path if os.access(path, os.F_OK) else directory, os.W_OK):
        raise StartError(f"{path} can't be written: permission denied.")


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write the report. Raises `StartError` if it can't be written."""
    import msgspec

    from headstart.errors import StartError

    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    except OSError as error:
        raise StartError(f"{path} can't be written: {error.strerror}.") from error
