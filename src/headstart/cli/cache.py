"""`headstart cache`: what the cache on disk holds and for whom, and how to be rid of it."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from headstart.cli.cache_report import (
    by_model,
    entry_document,
    holdings,
    in_order,
    print_entries,
    print_stats,
    running,
    stats_document,
)
from headstart.cli.figures import amount, harmless
from headstart.errors import StartError

if TYPE_CHECKING:
    from headstart.engine.blocks.catalogue import Record, Selection
    from headstart.engine.blocks.listing import Listing

app = typer.Typer(
    help="Look into the cache on disk and clear it, beside a running server or without one.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

PATIENCE = 5.0
"""Seconds that a running server is given to clear what it is asked to."""
ConfigFile = Annotated[Path | None, typer.Option("--config", help="The server's headstart.toml.")]
DataDir = Annotated[Path | None, typer.Option(help="The server's data directory.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Organisation = Annotated[str | None, typer.Option(help="Only this organisation's.")]
Model = Annotated[str | None, typer.Option(help="Only this model's, by the name that clients use.")]
Key = Annotated[str | None, typer.Option(help="Only what clients sent with this prompt_cache_key.")]


class Cleared(NamedTuple):
    """What is gone from the disk. `server`: it was a server's to do; `done`: all that matched is gone."""

    blocks: int
    bytes: int
    entries: int
    server: bool
    done: bool


@app.command()
def stats(config: ConfigFile = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """How full each tier is, what is promised, and who holds how much.

    Example: [bold]headstart cache stats[/]
    """
    from headstart.engine.blocks.listing import Listing

    path = data_path(config, data_dir) / "cache"
    if not is_there(path):
        print("{}" if as_json else nothing_yet(path))
        return
    now = time.time()
    with Listing(path) as listing:
        held, server = holdings(listing, now), running(listing)
    if as_json:
        print(json.dumps(stats_document(path, held, server), indent=2))
    else:
        print_stats(path, held, server, now)


@app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option(min=0, help="Entries to list; 0: all.")] = 50,
    organisation: Organisation = None,
    model: Model = None,
    key: Key = None,
    expired: Annotated[bool, typer.Option("--expired", help="Those that have expired and are still there.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the entries on disk, last used first. No prompt's text is there, and of a key only a hash.

    Example: [bold]headstart cache list --organisation acme --limit 10[/]
    """
    from headstart.engine.blocks.listing import Listing

    data = data_path(config, data_dir)
    path, now = data / "cache", time.time()
    if not is_there(path):
        print("[]" if as_json else nothing_yet(path))
        return
    with Listing(path) as listing:
        chosen = selection(data, organisation, model, key, expired)
        entries = [] if chosen is None else in_order(listing.entries(chosen, now))
    shown = entries[:limit] if limit else entries
    if as_json:
        print(json.dumps([entry_document(entry) for entry in shown], indent=2))
    elif entries:
        print_entries(shown, now, expired)
    else:
        print(no_match(key))
    if len(shown) < len(entries):
        print(f"{len(shown):,} of {len(entries):,} entries; --limit 0 lists all.", file=sys.stderr)


@app.command()
def clear(
    organisation: Organisation = None,
    model: Model = None,
    key: Key = None,
    expired: Annotated[bool, typer.Option("--expired", help="Only what has expired.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Clear everything without asking.")] = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Clear what fits all of the options, or everything. A running server clears its memory of it, too.

    Exit code 1: the server has not done it yet.

    Example: [bold]headstart cache clear --organisation acme --model gpt-4.1-mini[/]
    """
    from headstart.engine.blocks.listing import EVERYTHING, Listing

    data = data_path(config, data_dir)
    path = data / "cache"
    if not is_there(path):
        print(json.dumps(cleared_document(Cleared(0, 0, 0, False, True))) if as_json else nothing_yet(path))
        return
    with Listing(path) as listing:
        chosen = selection(data, organisation, model, key, expired)
        if chosen == EVERYTHING and not yes:
            confirm(listing)
    done = Cleared(0, 0, 0, False, True) if chosen is None else clear_selection(path, chosen)
    print(json.dumps(cleared_document(done)) if as_json else clear_message(done, key))
    if not done.done:
        raise typer.Exit(1)


def data_path(config: Path | None, data_dir: Path | None) -> Path:
    """The data directory of the server that has this configuration."""
    from headstart.cli.serve import overrides
    from headstart.config import load

    return load(config, overrides(data_dir=str(data_dir) if data_dir else None)).data_path


def is_there(path: Path) -> bool:
    """Whether a server has ever kept a cache there. What may not be looked at counts as there, and says so later."""
    from headstart.engine.blocks.listing import CATALOGUE

    try:
        (path / CATALOGUE).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def selection(
    data: Path, organisation: str | None, model: str | None, key: str | None, expired: bool
) -> Selection | None:
    """What the options choose; None where nothing can match: a key, and no secret under which it could be known."""
    from headstart.engine.blocks.catalogue import Selection

    label = None
    if key is not None:
        from headstart.cache.hashing import key_label
        from headstart.server import SECRET_FILE, load_secret

        if not (data / SECRET_FILE).exists():
            return None
        label = key_label(load_secret(data / SECRET_FILE), key)
    return Selection(organisation, model, label, expired)


def confirm(listing: Listing) -> None:
    """Ask before everything goes. Raises `StartError` where nobody can be asked, `typer.Abort` on a no."""
    if not sys.stdin.isatty():
        raise StartError(
            "This would clear the whole cache, and there is no terminal to ask at. Add --yes, or say what to clear: "
            "--organisation, --model, --key or --expired."
        )
    totals = listing.totals(now=time.time())
    place = harmless(str(listing.path), 200)
    typer.confirm(
        f"Clear all of {place} ({amount(totals.entries, totals.blocks, totals.bytes)})?", abort=True, err=True
    )


def clear_selection(path: Path, chosen: Selection) -> Cleared:
    """Clear it, or have the server clear it that uses the cache."""
    from headstart.engine.blocks.listing import InUse, in_use
    from headstart.engine.blocks.listing import clear as remove

    if not in_use(path):
        try:
            gone = remove(path, chosen, time.time())
            return Cleared(gone.blocks, gone.bytes, gone.entries, False, True)
        except InUse:
            pass  # a server has started meanwhile
    return have_cleared(path, chosen)


def have_cleared(path: Path, chosen: Selection) -> Cleared:
    """Ask the server, and wait for what matches to go from the disk."""
    from headstart.engine.blocks.listing import Listing, ask

    with Listing(path) as listing:
        asked = matching(listing, chosen, time.time())
    heard, answered, left = ask(path, chosen), False, set(asked)
    deadline = time.monotonic() + PATIENCE
    while (left or not answered) and time.monotonic() < deadline:
        time.sleep(0.1)
        answered = answered or heard()
        if answered:
            with Listing(path) as listing:
                left &= {record.name for _, record in listing.records()}
    gone = [record for name, record in asked.items() if name not in left]
    entries = sum(record.block.written is not None for record in gone)
    return Cleared(len(gone), sum(record.size for record in gone), entries, True, answered and not left)


def matching(listing: Listing, chosen: Selection, now: float) -> dict[bytes, Record]:
    """The blocks that a selection clears, by their files' names."""
    from headstart.engine.blocks.catalogue import unexpired

    found: dict[bytes, Record] = {}
    for records in by_model(listing).values():
        kept = {record.name for record in unexpired(records, now)} if chosen.expired_only else set()
        found |= {r.name: r for r in records if chosen.owns(r.block.owner) and r.name not in kept}
    return found


def clear_message(done: Cleared, key: str | None) -> str:
    """What has happened, for people."""
    what = amount(done.entries, done.blocks, done.bytes)
    if not done.done:
        late = (
            f"The server was asked, and is not done after {PATIENCE:.0f} s. It goes on, or the next that starts does."
        )
        return f"{late} So far: {what}." if done.blocks else late
    if done.server and not done.blocks:
        return f"{no_match(key)} The server cleared its memory of what does."
    if done.server:
        return f"The server cleared {what}, and the same in main memory."
    return f"Cleared {what}." if done.blocks else no_match(key)


def nothing_yet(path: Path) -> str:
    """What is said where no server ever kept anything."""
    return f"There is no cache in {harmless(str(path), 200)}: no server has kept one there yet."


def no_match(key: str | None) -> str:
    """What is said where nothing fits the options."""
    hash_given = key is not None and re.fullmatch("[0-9a-f]{16}", key)
    hint = " --key takes a client's own prompt_cache_key, not the hash that list shows." if hash_given else ""
    return f"Nothing on disk matches.{hint}"


def cleared_document(done: Cleared) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "blocks": done.blocks,
        "bytes": done.bytes,
        "entries": done.entries,
        "server_running": done.server,
        "done": done.done,
    }
