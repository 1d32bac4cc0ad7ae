"""What `headstart cache stats` and `list` tell: what a catalogue's blocks add up to, as tables and as JSON."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headstart.cli.figures import count, duration, harmless, iso, plural, size, tokens

if TYPE_CHECKING:
    from headstart.engine.blocks.catalogue import Record
    from headstart.engine.blocks.listing import Entry, Listing

WIDTH = 76
"""Columns of the widest lines; a narrower terminal wraps them, and no figure is cut."""
NOBODY = "No server is running on this directory: main memory is empty."
SHOWN_GROUPS = 20
"""Models and organisations that a table has; the JSON document has all."""


@dataclass
class Held:
    """Sums over blocks and the entries that live. `tokens` are stored once each; `covered`: by all entries together;
    `expires`: when the first of the entries does, as a Unix time."""

    entries: int = 0
    blocks: int = 0
    tokens: int = 0
    bytes: int = 0
    covered: int = 0
    expires: float = math.inf


@dataclass
class Holdings:
    """What a catalogue's blocks add up to. `promised` are the entries that are kept whatever comes, and what they
    need."""

    total: Held = field(default_factory=Held)
    promised: Held = field(default_factory=Held)
    models: dict[str, Held] = field(default_factory=lambda: defaultdict(Held))
    organisations: dict[str, Held] = field(default_factory=lambda: defaultdict(Held))


class Server(NamedTuple):
    """What the server that runs has published: sums over its models, and the Unix time of the oldest of them."""

    pid: int | None
    published: float | None
    figures: dict[str, int]


def holdings(listing: Listing, now: float) -> Holdings:
    """The sums of all blocks, of each model's and each organisation's, in one pass."""
    from headstart.engine.blocks.catalogue import expiry, unexpired

    held = Holdings()
    for records in by_model(listing).values():
        stops = {record.block.digest: record.block.stop for record in records}
        for record in records:
            block, until = record.block, expiry(record.block)
            for sums in (held.total, held.models[block.owner.model], held.organisations[block.owner.organisation]):
                sums.blocks += 1
                sums.bytes += record.size
                sums.tokens += block.stop - stops.get(block.parent or b"", 0)
                if until is not None and until > now:
                    sums.entries += 1
                    sums.covered += block.stop
                    sums.expires = min(sums.expires, until)
        kept = [r if r.block.life.promised else r._replace(block=r.block._replace(written=None)) for r in records]
        for record in unexpired(kept, now):
            held.promised.blocks += 1
            held.promised.bytes += record.size
            held.promised.entries += record.block.written is not None
    return held


def by_model(listing: Listing) -> dict[str, list[Record]]:
    """All blocks, by the model file whose state they are."""
    found: dict[str, list[Record]] = defaultdict(list)
    for model, record in listing.records():
        found[model].append(record)
    return found


def running(listing: Listing) -> Server | None:
    """The server that uses the cache, if there is one. Of what it published, the numbers count."""
    from headstart.engine.blocks.listing import in_use

    if not in_use(listing.path):
        return None
    live, figures = listing.live(), dict[str, int]()
    for one in live:
        for name, value in one.stats.items() if isinstance(one.stats, dict) else ():
            if isinstance(value, int | float) and math.isfinite(value):
                figures[name] = figures.get(name, 0) + int(value)
    return Server(live[0].pid, min(one.time for one in live), figures) if live else Server(None, None, figures)


def stats_document(path: Path, held: Holdings, server: Server | None) -> dict[str, Any]:
    """What `stats` has to say. Bytes, tokens and counts are integers; null is what nobody has published."""
    figures, total = server.figures if server else {}, held.total
    return {
        "directory": str(path),
        "server_running": server is not None,
        "server_pid": server.pid if server else None,
        "published": iso(server.published) if server and server.published is not None else None,
        "context": {"tokens": figures.get("context_cells_used"), "budget_tokens": figures.get("context_cells")},
        "ram": {
            "blocks": figures.get("ram_blocks"),
            "bytes": figures.get("ram_bytes"),
            "budget_bytes": figures.get("ram_budget"),
        },
        "disk": {
            "entries": total.entries,
            "blocks": total.blocks,
            "tokens": total.tokens,
            "bytes": total.bytes,
            "budget_bytes": figures.get("disk_budget"),
        },
        "tokens_covered": total.covered,
        "sharing_factor": total.covered / total.tokens if total.tokens else None,
        "promises": {
            "disk_entries": held.promised.entries,
            "disk_bytes": held.promised.bytes,
            "bytes": figures.get("promised_bytes"),
            "budget_bytes": figures.get("promised_budget"),
            "tokens_refused": figures.get("tokens_refused"),
        },
        "models": [{"model": name, **group_document(group)} for name, group in largest(held.models)],
        "organisations": [
            {"organisation": name, **group_document(group)} for name, group in largest(held.organisations)
        ],
    }


def group_document(group: Held) -> dict[str, Any]:
    """A model's or an organisation's part of it."""
    return {
        "entries": group.entries,
        "blocks": group.blocks,
        "tokens": group.tokens,
        "bytes": group.bytes,
        "first_expires": iso(group.expires),
    }


def entry_document(entry: Entry) -> dict[str, Any]:
    """An entry as `list` has it for scripts."""
    owner = entry.owner
    return {
        "organisation": owner.organisation,
        "model": owner.model,
        "generation": owner.generation,
        "key": owner.key,
        "tokens": entry.stop,
        "bytes": entry.size,
        "written": iso(entry.written),
        "used": iso(entry.used),
        "expires": iso(entry.expires),
        "promise": promise(entry),
    }


def print_stats(path: Path, held: Holdings, server: Server | None, now: float) -> None:
    """Tiers, sharing, promises, and who holds how much."""
    console = wide_console()
    console.print(harmless(str(path), 200), style="bold", markup=False, soft_wrap=True)
    console.print(server_line(server, now), soft_wrap=True)
    console.print(tiers(held.total, server))
    for line in summary(held, server):
        console.print(line, soft_wrap=True)
    for name, groups in (("Model", held.models), ("Organisation", held.organisations)):
        if groups:
            console.print(group_table(name, groups, now))
            if (more := len(groups) - SHOWN_GROUPS) > 0:
                console.print(f"… and {more:,} more; --json has all.")


def summary(held: Holdings, server: Server | None) -> list[str]:
    """A line each on sharing, on what is promised, and on what could not be."""
    total, promised, figures = held.total, held.promised, server.figures if server else {}
    lines = []
    if total.tokens:
        factor = total.covered / total.tokens
        lines.append(f"Sharing   {factor:.1f}: entries cover {total.covered:,} tokens, {total.tokens:,} are stored")
    on_disk = f"{size(promised.bytes)} on disk, by {plural(promised.entries, 'entry', 'entries')}"
    if (all_of_it := figures.get("promised_bytes")) is not None:
        budget = figures.get("promised_budget")
        of = f" of {size(budget)}" if budget is not None else ""
        on_disk = f"{size(all_of_it)}{of}; {on_disk}"
    lines.append(f"Promised  {on_disk}")
    if (refused := figures.get("tokens_refused")) is not None:
        lines.append(f"Refused   {plural(refused, 'token', 'tokens')} to be promised, since the server started")
    return lines


def server_line(server: Server | None, now: float) -> str:
    """Who uses the cache."""
    if server is None:
        return NOBODY
    if server.published is None:
        return "A server is running. It has published no figures yet."
    return f"A server is running, process {server.pid}; its figures are {duration(now - server.published)} old."


def tiers(total: Held, server: Server | None) -> Table:
    """A row for each tier that holds something, or could."""
    table = numbers_table("Tier", "Entries", "Blocks", "Held", "Budget", "Full")
    figures = server.figures if server else {}

    def row(
        name: str, entries: int | None, blocks: int | None, held: int | None, budget: int | None, unit: Any
    ) -> None:
        full = f"{held / budget:.0%}" if held is not None and budget else "–"
        table.add_row(name, count(entries), count(blocks), unit(held), unit(budget), full)

    if {"context_cells", "context_cells_used"} & figures.keys():
        row("Context", None, None, figures.get("context_cells_used"), figures.get("context_cells"), tokens)
    if {"ram_blocks", "ram_bytes", "ram_budget"} & figures.keys():
        row("RAM", None, figures.get("ram_blocks"), figures.get("ram_bytes"), figures.get("ram_budget"), size)
    row("Disk", total.entries, total.blocks, total.bytes, figures.get("disk_budget"), size)
    return table


def group_table(name: str, groups: dict[str, Held], now: float) -> Table:
    """Models or organisations, those that hold most first."""
    table = numbers_table(name, "Entries", "Tokens", "Size", "First expires in")
    for group, held in largest(groups)[:SHOWN_GROUPS]:
        left = duration(held.expires - now)
        table.add_row(Text(harmless(group)), count(held.entries), count(held.tokens), size(held.bytes), left)
    return table


def largest(groups: dict[str, Held]) -> list[tuple[str, Held]]:
    """By bytes, then by name."""
    return sorted(groups.items(), key=lambda group: (-group[1].bytes, group[0]))


def numbers_table(name: str, *columns: str) -> Table:
    """A table of numbers behind a name, whose lines alone may be folded."""
    table = Table()
    table.add_column(name, overflow="fold", min_width=8)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def in_order(entries: list[Entry]) -> list[Entry]:
    """Last used first; of what was used together, whose prefix is longest."""
    return sorted(entries, key=lambda e: (-e.used, *e.owner[:3], e.owner.key or "", -e.stop))


def print_entries(entries: list[Entry], now: float, expired: bool) -> None:
    """A line for each entry, below a line for whom it is."""
    console = wide_console()

    def line(*cells: str) -> str:
        return "  " + "  ".join(cell.rjust(width) for cell, width in zip(cells, (9, 10, 12, 12, 12, 7), strict=True))

    console.print("Organisation · model · generation · key's hash", style="dim", highlight=False)
    ends = "Expired ago" if expired else "Expires in"
    console.print(line("Tokens", "Own size", "Written ago", "Used ago", ends, "Promise"), style="dim", soft_wrap=True)
    for owner, group in groupby(entries, key=lambda entry: entry.owner):
        whose = " · ".join(harmless(name or "-") for name in owner)
        console.print(Text(whose, style="bold"), soft_wrap=True)
        for entry in group:
            left = now - entry.expires if expired else entry.expires - now
            times = duration(now - entry.written), duration(now - entry.used), duration(left)
            console.print(
                line(f"{entry.stop:,}", size(entry.size), *times, promise(entry) or "-"),
                soft_wrap=True,
                highlight=False,
            )


def wide_console() -> Console:
    """The terminal, taken for wide enough for the figures."""
    console = Console(highlight=False)
    return console if console.width >= WIDTH else Console(highlight=False, width=WIDTH)


def promise(entry: Entry) -> str | None:
    """For how long it is kept from its last use on, whatever comes: `30m`, `12h`, `24h`."""
    if not entry.promised or not math.isfinite(entry.expires):
        return None
    minutes = round((entry.expires - entry.used) / 60)
    return f"{minutes}m" if minutes % 60 else f"{minutes // 60}h"
