"""`headstart demo`: the tutorial's experiment on a server of its own, through OpenAI's SDK."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from headstart.cli.tutorial import INSTRUCTIONS, LONG_PREFIX, QUESTIONS

if TYPE_CHECKING:
    from openai import OpenAI
    from rich.console import Console

MODEL = "gpt-4.1-mini"
OTLP = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
TIMESTAMP = "2026-03-02 09:41:07"
"""What pitfall 2 of the tutorial puts in front; any other time would do."""


class Bill(NamedTuple):
    """What requests cost, and would have cost without a cache, in dollars, as the server says."""

    cost: Decimal
    uncached_cost: Decimal


class Row(NamedTuple):
    """One request of the demo. Times in seconds, its input's cost in dollars."""

    title: str
    input_tokens: int
    cached_tokens: int
    ttft: float
    total: float
    cost: Decimal | None
    text: str
    why: str = ""
    """What the server says of a miss."""
    bill: Bill | None = None


def demo(
    data_dir: Annotated[Path | None, typer.Option(help="Keep the demo model there. Default: a temporary one.")] = None,
) -> None:
    """Watch the prompt cache work: the tutorial's long prompt twice, and once with a timestamp in front.

    Example: [bold]headstart demo[/]
    """
    from rich.console import Console

    console = Console()
    for end in (signal.SIGTERM, signal.SIGHUP):  # these, too, end in stopping the server
        signal.signal(end, lambda number, _: sys.exit(128 + number))
    console.print(
        "[bold]Headstart demo[/]: OpenAI's prompt caching, on this machine.\n"
        "The demo model is a real transformer with random weights:\n"
        "[bold]its words mean nothing, its timings are real.[/]\n"
    )
    with directory(data_dir) as path, server(console, path) as base_url:
        rows = experiment(console, base_url)
        console.print(table(rows))
        console.print()
        console.print(bars(rows))
        console.print(explanation(rows), soft_wrap=True)  # a command stays on its line
        watched = sys.stdin.isatty() and sys.stdout.isatty()
        console.print(receipt(billed(rows[:2]), base_url.removesuffix("/v1"), watched), soft_wrap=True)
        if watched:
            wait(console)


@contextmanager
def directory(given: Path | None) -> Iterator[Path]:
    """The data directory: the given one, or one that is gone afterwards. Raises `StartError` if it can't be made."""
    from headstart.config import make_data_dir

    if given is not None:
        make_data_dir(given)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="headstart-demo-") as temporary:
        yield Path(temporary)


@contextmanager
def server(console: Console, data_dir: Path) -> Iterator[str]:
    """A server on a free port of this machine; its base URL. Raises `StartError` if it doesn't start."""
    from headstart.cli.process import ServerProcess
    from headstart.engine.demo_model import demo_model_path

    # The first request is to be cold in every run, and what the experiment uses is nobody's bill.
    process = ServerProcess(data_dir, "--disk-cache", "0", without=("HEADSTART_LEDGER_URL", *OTLP))
    try:
        with console.status("") as status:
            for waited in process.starting():
                writing = not demo_model_path(data_dir).exists()
                doing = "Writing the demo model, 143 MB" if writing else "Loading the model"
                status.update(f"{doing} … {waited:.0f} s")
        yield process.base_url
    finally:
        process.stop()


def wait(console: Console) -> None:
    """Serve on until somebody has seen enough."""
    with suppress(KeyboardInterrupt, EOFError):
        console.input("[bold]It serves until you press Enter.[/] ")


def experiment(console: Console, base_url: str) -> list[Row]:
    """The tutorial's two requests, and the mistake it warns of."""
    from headstart.errors import StartError

    try:
        from openai import OpenAI, OpenAIError
    except ImportError as error:
        raise StartError("The demo needs OpenAI's SDK: pip install 'headstart[demo]'") from error
    prompts = (
        ("1  a long prefix, cold", LONG_PREFIX + QUESTIONS[0]),
        ("2  the same prefix again", LONG_PREFIX + QUESTIONS[1]),
        ("3  a timestamp in front", TIMESTAMP + LONG_PREFIX + QUESTIONS[1]),
    )
    rows: list[Row] = []
    client = OpenAI(base_url=base_url, api_key="none", max_retries=0)
    for title, prompt in prompts:
        with console.status(f"Request {title} …"):
            try:
                rows.append(ask(client, title, prompt))
            except OpenAIError as error:
                raise StartError(f"Request {title[0]} failed: {error}") from error
        question = prompt.rpartition(INSTRUCTIONS)[2]
        console.print(f"[dim]{title[0]}  … {question}\n   {snippet(rows[-1].text)}[/]")
    console.print()
    return rows


def billed(rows: list[Row]) -> Bill | None:
    """What requests cost together; None where one has no price."""
    bills = [row.bill for row in rows if row.bill is not None]
    if len(bills) < len(rows):
        return None
    return Bill(sum((bill.cost for bill in bills), Decimal()), sum((bill.uncached_cost for bill in bills), Decimal()))


def ask(client: OpenAI, title: str, prompt: str) -> Row:
    """One request of the tutorial's, streamed, so that the first token can be timed."""
    import time

    import httpx2

    from headstart.ledger.prices import input_cost

    begun = time.perf_counter()
    first: float | None = None
    text, usage, id = "", None, ""
    for event in client.responses.create(model=MODEL, input=prompt, stream=True):
        if event.type == "response.output_text.delta":
            first = first or time.perf_counter()
            text += event.delta
        elif event.type in ("response.completed", "response.incomplete"):
            usage, id = event.response.usage, event.response.id
    end = time.perf_counter()
    assert usage is not None, "the last event carries the usage"
    cached = usage.input_tokens_details.cached_tokens
    cost = input_cost(MODEL, input_tokens=usage.input_tokens, cached_tokens=cached)
    explained = client.get(f"/responses/{id}/cache", cast_to=httpx2.Response).json()
    paid = explained["cost"]
    bill = paid and Bill(Decimal(paid["dollars"]), Decimal(paid["without_cache"]))
    ttft, total, why = (first or end) - begun, end - begun, reason(explained)
    return Row(title, usage.input_tokens, cached, ttft, total, cost, text, why, bill)


def reason(explained: dict[str, Any]) -> str:
    """An explanation of the server's in two sentences; empty for a hit."""
    miss, parting = explained["miss"], explained["parting"]
    if miss is None:
        return ""
    what = miss["cause"].replace("_", " ")
    if parting and parting["value"]:
        value, kind = parting["value"], (parting["kind"] or "value").replace("_", " ")
        what += f", by the {kind} in '{parting['path']}', characters {value['start']} to {value['stop']}"
    return f"{what}. {miss['remedy']}"


def snippet(text: str) -> str:
    """The answer's beginning, on one line of an 80-column terminal."""
    line = " ".join(text.split())
    return line if len(line) <= 72 else f"{line[:70]} …"


def table(rows: list[Row]) -> Any:
    """What each request read, took and would have cost."""
    from rich.table import Table

    from headstart.cli.bench import count, seconds

    result = Table("Request")
    for column in ("Input\ntokens", "Cached\ntokens", "First\ntoken", "Total\ntime", "Input\ncost"):
        result.add_column(column, justify="right")
    for row in rows:
        cost = "–" if row.cost is None else f"${row.cost:.6f}"
        figures = (count(row.input_tokens), count(row.cached_tokens), seconds(row.ttft), seconds(row.total), cost)
        result.add_row(row.title, *figures)
    result.caption = f"Cost: at OpenAI's price of {MODEL}. Output tokens are never cached."
    result.caption_justify = "left"
    return result


def bars(rows: list[Row]) -> Any:
    """The times to the first token, side by side."""
    from rich.table import Table
    from rich.text import Text

    from headstart.cli.bench import seconds

    longest = max(row.ttft for row in rows)
    grid = Table.grid(padding=(0, 1))
    grid.add_row("", "[bold]Time to the first token[/]")
    for row in rows:
        eighths = max(1, round(row.ttft / longest * 40 * 8))
        whole, part = divmod(eighths, 8)
        bar = "█" * whole + ("", *"▏▎▍▌▋▊▉")[part]
        grid.add_row(row.title, Text.assemble((bar, "green" if row.cached_tokens else "red"), f" {seconds(row.ttft)}"))
    return grid


def explanation(rows: list[Row]) -> str:
    """What the figures say, and where to go from here."""
    from rich.markup import escape

    cold, warm, miss = rows
    headstart = escape(command())
    lines = [
        "",
        f"Request 2 read {warm.cached_tokens:,} of its {warm.input_tokens:,} tokens from the cache: its first token",
        f"came [bold]{cold.ttft / warm.ttft:.0f} times sooner[/]{saved(cold, warm)}.",
        f"Request 3 is request 2 with {len(TIMESTAMP)} characters in front, and read {miss.cached_tokens:,}: only a",
        "prefix can be reused. The server says of it:",
        *textwrap.wrap(miss.why, 76, initial_indent="  ", subsequent_indent="  "),
        "",
        "Next, with any OpenAI client:",
        "  [dim]# in a terminal of its own, where it keeps running; or with --model YOUR.gguf[/]",
        f"  {headstart} serve",
        "  [dim]# in another one[/]",
        "  export OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none",
        "  [dim]# eight at once on one cold prefix[/]",
        f"  {headstart} bench --scenario burst",
    ]
    return "\n".join(lines)


def receipt(bill: Bill | None, address: str, watched: bool) -> str:
    """What the first two requests cost, and where more of that is to be seen, if anybody is there to look."""
    lines = [""]
    if bill is not None:
        cost, uncached = bill
        lines += [
            f"Requests 1 and 2 cost [bold]${cost:f}[/], answers included, and without the cache",
            f"would have cost [bold]${uncached:f}[/]: {1 - cost / uncached:.0%} saved.",
        ]
    lines.append(f"The dashboard shows it: [bold]{address}/dashboard[/]")
    if not watched:
        lines.append("(gone with this demo; that of 'headstart serve' is at http://127.0.0.1:8000/dashboard)")
    return "\n".join([*lines, ""])


def command() -> str:
    """What to type for this command: with its path where it lies in a `.venv` that isn't on PATH."""
    path = Path(sys.argv[0]).absolute()
    if path.parts[-3:-1] != (".venv", "bin") or str(path.parent) in os.environ.get("PATH", "").split(os.pathsep):
        return "headstart"
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def saved(cold: Row, warm: Row) -> str:
    """`, and its input costs 75 % less`, where there is a price."""
    if not cold.cost or warm.cost is None:
        return ""
    return f", and its input costs {1 - warm.cost / cold.cost:.0%} less"
