"""`headstart keys`: who may ask, and whose cache it is."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from headstart.api.auth import KeyRing

app = typer.Typer(
    help="Make, list and revoke API keys. A running server follows at once.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

ConfigFile = Annotated[Path | None, typer.Option("--config", help="The server's headstart.toml.")]
DataDir = Annotated[Path | None, typer.Option(help="The server's data directory.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What you will revoke it by.")],
    organisation: Annotated[str, typer.Option(help="Keys of one organisation share one cache.")] = "default",
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key, and print it this once. Only its hash is kept.

    Example: [bold]export OPENAI_API_KEY=$(headstart keys create laptop)[/]
    """
    plaintext = key_ring(config, data_dir).create(name, organisation)
    print(plaintext)
    if sys.stdout.isatty():
        print("Keep it now: it can't be shown again.", file=sys.stderr)


@app.command("list")
def list_keys(config: ConfigFile = None, data_dir: DataDir = None) -> None:
    """List the keys' names and organisations.

    Example: [bold]headstart keys list[/]
    """
    keys = key_ring(config, data_dir).list()
    if not keys:
        print("No keys. Make one: headstart keys create NAME")
        return
    table = Table("Name", "Organisation", "Made")
    for key in keys:
        made = f"{datetime.fromtimestamp(key.created, UTC):%Y-%m-%d %H:%M} UTC"
        table.add_row(Text(key.name), Text(key.organisation), made)
    Console().print(table)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.")], config: ConfigFile = None, data_dir: DataDir = None
) -> None:
    """Let a key's holder in no more.

    Example: [bold]headstart keys revoke laptop[/]
    """
    key_ring(config, data_dir).revoke(name)
    print(f"Revoked '{name}'.")


def key_ring(config: Path | None, data_dir: Path | None) -> KeyRing:
    """The keys of the server that has this configuration."""
    from headstart.api.auth import KeyRing
    from headstart.cli.serve import overrides
    from headstart.config import load

    data_path = load(config, overrides(data_dir=str(data_dir) if data_dir else None)).data_path
    return KeyRing(data_path / "keys.json")
