"""`headstart keys`: who may ask, whose cache it is, and how much it may use."""

from __future__ import annotations

import json
import shlex
import sys
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headstart.cli.cache import data_path, is_there
from headstart.cli.figures import count, harmless, iso, plural
from headstart.errors import StartError

if TYPE_CHECKING:
    from headstart.api.auth import Key, KeyRing

app = typer.Typer(
    help="Make, list and revoke API keys. A running server follows at once.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def dollars(text: str) -> Decimal:
    """An amount as it is typed. Raises `typer.BadParameter`."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise typer.BadParameter(f"{harmless(text)!r} is no amount of dollars, as 2.50 is.") from None


ConfigFile = Annotated[Path | None, typer.Option("--config", help="The server's headstart.toml.")]
DataDir = Annotated[Path | None, typer.Option(help="The server's data directory.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Tokens = Annotated[
    int | None, typer.Option(metavar="N", help="Input and output, cached tokens among them. Default: no limit")
]
Dollars = Annotated[
    Decimal | None,
    typer.Option(
        parser=dollars, metavar="X", help="Of a UTC day, for models that have a price only. Default: no limit"
    ),
]
Private = Annotated[
    bool,
    typer.Option(
        "--zero-data-retention",
        help="Store nothing of its organisation, nor cache it on disk: of all its keys, since they share one cache, "
        "for as long as one key has this.",
    ),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What you will revoke it by.")],
    organisation: Annotated[str, typer.Option(help="Keys of one organisation share one cache.")] = "default",
    tokens_per_minute: Tokens = None,
    dollars_per_day: Dollars = None,
    zero_data_retention: Private = False,
    admin: Annotated[
        bool, typer.Option("--admin", help="It may also see the dashboard, which is of all organisations.")
    ] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a key, and print it this once. Only its hash is kept.

    Example: [bold]export OPENAI_API_KEY=$(headstart keys create laptop --dollars-per-day 2.50)[/]
    """
    ring = key_ring(config, data_dir)
    first = not ring.required
    plaintext = ring.create(
        name,
        organisation,
        admin=admin,
        tokens_per_minute=tokens_per_minute,
        dollars_per_day=dollars_per_day,
        zero_data_retention=zero_data_retention,
    )
    if as_json:
        made = next(key for key in ring.list() if key.name == name)
        print(json.dumps({"key": plaintext, **document(made)}, indent=2))
    else:
        print(plaintext)
    if sys.stdout.isatty():
        print("Keep it now: it can't be shown again.", file=sys.stderr)
    if first:
        dashboard = "" if admin else " The dashboard and /metrics need one made with --admin."
        print(f"From now on every request to this server needs a key.{dashboard}", file=sys.stderr)
    if zero_data_retention:
        tell_what_is_left(organisation, config, data_dir)


@app.command("list")
def list_keys(config: ConfigFile = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the keys: their names, organisations and budgets. The keys themselves are not kept.

    Example: [bold]headstart keys list[/]
    """
    keys = key_ring(config, data_dir).list()
    if as_json:
        print(json.dumps([document(key) for key in keys], indent=2))
        return
    if not keys:
        print("No keys. Make one: headstart keys create NAME")
        return
    table = Table()
    table.add_column("Name", overflow="fold")
    table.add_column("Organisation", overflow="fold")
    table.add_column("Made", no_wrap=True)
    table.add_column("Tokens\na minute", no_wrap=True, justify="right")
    table.add_column("Dollars\na day", no_wrap=True, justify="right")
    table.add_column("Flags", no_wrap=True)
    for key in keys:
        flags = [*(["admin"] if key.admin else []), *(["private"] if key.zero_data_retention else [])]
        table.add_row(
            Text(harmless(key.name, 64)),
            Text(harmless(key.organisation, 64)),
            (iso(key.created) or "–")[:10],
            count(key.tokens_per_minute),
            "–" if key.dollars_per_day is None else f"{key.dollars_per_day:,f}",
            "\n".join(flags) or "–",
        )
    Console().print(table)
    if any(key.zero_data_retention for key in keys):
        print("private: its whole organisation is under zero data retention.")


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.")], config: ConfigFile = None, data_dir: DataDir = None
) -> None:
    """Let a key's holder in no more. An organisation leaves zero data retention with its last key that has it.

    Example: [bold]headstart keys revoke laptop[/]
    """
    key_ring(config, data_dir).revoke(name)
    print(f"Revoked '{harmless(name, 64)}'.")


def document(key: Key) -> dict[str, Any]:
    """A key for scripts. Null: no limit."""
    return {
        "name": key.name,
        "organisation": key.organisation,
        "created": iso(key.created),
        "admin": key.admin,
        "tokens_per_minute": key.tokens_per_minute,
        "dollars_per_day": None if key.dollars_per_day is None else float(key.dollars_per_day),
        "zero_data_retention": key.zero_data_retention,
    }


def tell_what_is_left(organisation: str, config: Path | None, data_dir: Path | None) -> None:
    """Say how to clear what an organisation had on disk before it went under zero data retention, if there is any."""
    from headstart.engine.blocks.catalogue import Selection
    from headstart.engine.blocks.listing import Listing

    path = data_path(config, data_dir) / "cache"
    if not is_there(path):
        return
    try:
        with Listing(path) as listing:
            blocks = listing.totals(Selection(organisation), time.time()).blocks
    except StartError as error:
        print(f"Whether the disk cache holds anything of '{organisation}' can't be told. {error}", file=sys.stderr)
        return
    if blocks:
        options = [("--organisation", organisation), ("--config", config), ("--data-dir", data_dir)]
        given = [word for option, value in options if value is not None for word in (option, str(value))]
        print(
            f"The disk cache holds {plural(blocks, 'block', 'blocks')} of '{organisation}' from before. Clear them "
            f"now: headstart cache clear {shlex.join(given)}",
            file=sys.stderr,
        )


def key_ring(config: Path | None, data_dir: Path | None) -> KeyRing:
    """The keys of the server that has this configuration."""
    from headstart.api.auth import KeyRing

    return KeyRing(data_path(config, data_dir) / "keys.json")
