"""Numbers, times and names as people read them, and as scripts do."""

from __future__ import annotations

from datetime import UTC, datetime

FOREVER = 100 * 365 * 86400.0
"""Seconds from which on a life has no end that anybody waits for."""


def harmless(name: str, limit: int = 60) -> str:
    """A name with what isn't printable spelt out, so that no terminal acts on it; a long one is cut."""
    spelt = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name[: limit + 1])
    return spelt if len(spelt) <= limit else f"{spelt[: limit - 1]}…"


def amount(entries: int, blocks: int, bytes: int) -> str:
    """`3 entries in 12 blocks, 1.2 GiB`."""
    return f"{plural(entries, 'entry', 'entries')} in {plural(blocks, 'block', 'blocks')}, {size(bytes)}"


def plural(number: int, one: str, many: str) -> str:
    """`1 entry`, `1,234 entries`."""
    return f"{number:,} {one if number == 1 else many}"


def count(number: int | None) -> str:
    """`1,234`, or a dash."""
    return "–" if number is None else f"{number:,}"


def tokens(number: int | None) -> str:
    """`1,234 tokens`, or a dash."""
    return "–" if number is None else plural(number, "token", "tokens")


def size(bytes: int | None) -> str:
    """`512 B`, `1.2 GiB`, or a dash."""
    if bytes is None:
        return "–"
    amount, units = float(bytes), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while amount >= 1023.95 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.0f} B" if units[0] == "B" else f"{amount:,.1f} {units[0]}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 12 min`, `2 d 3 h`; a dash for what has no end. What is past is `0 s`."""
    if not seconds < FOREVER:
        return "–"
    minutes, rest = divmod(max(int(seconds), 0), 60)
    if minutes < 60:
        return f"{minutes} min" if minutes else f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def iso(when: float) -> str | None:
    """`2026-11-23T18:49:00Z`; None for what is no date, as a life without end."""
    try:
        return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return None
