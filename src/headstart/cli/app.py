"""The command's parts, and the one place where an error becomes a line on the terminal.

A command's own imports are in its function: `headstart --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from headstart import __version__
from headstart.cli import cache, keys
from headstart.cli.audit import audit
from headstart.cli.bench import bench
from headstart.cli.check import check
from headstart.cli.demo import demo
from headstart.cli.serve import serve
from headstart.cli.simulate import simulate
from headstart.cli.usage import usage
from headstart.errors import StartError

app = typer.Typer(
    name="headstart",
    help="OpenAI's prompt caching, as software you can run.\n\nFirst steps: headstart demo, then headstart serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(serve)
app.command()(demo)
app.command()(bench)
app.command()(usage)
app.command()(simulate)
app.command()(audit)
app.command()(check)
app.add_typer(keys.app, name="keys")
app.add_typer(cache.app, name="cache")


def print_version(wanted: bool) -> None:
    """What `--version` does, before any command is looked for."""
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options that stand before a command."""


@app.command()
def version() -> None:
    """Print the version.

    Example: [bold]headstart version[/]
    """
    print(__version__)


def main() -> None:
    """Run the command. What the operator got wrong ends in one red line and exit code 2, never in a traceback."""
    try:
        app(prog_name="headstart")
    except StartError as error:
        Console(stderr=True).print(Text(str(error), style="red"), soft_wrap=True)
        sys.exit(2)
