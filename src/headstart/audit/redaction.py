"""Text that may be shown: its shape without its words, or only its ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

ENDS = 60
"""Characters of each end of a long text that a rewritten request shows."""
_STRUCTURE = {"role", "type", "mode", "ttl", "model", "name", "tool_choice", "prompt_cache_retention"}
"""Fields whose values are words of the API or names of tools."""


def masked(text: str) -> str:
    """Letters as x, digits as 0: `2026-11-24` is `0000-00-00`."""
    return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "0", text))


def plain(text: str) -> str:
    """As it is, for who may see prompts."""
    return text


def elided(value: Any, show: Callable[[str], str], field: str = "") -> Any:
    """A JSON value with its texts as `show` has them, and never a long one as a whole."""
    if isinstance(value, dict):
        return {name: elided(inner, show, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [elided(inner, show, field) for inner in value]
    if not isinstance(value, str) or field in _STRUCTURE:
        return value
    if len(value) <= 2 * ENDS + 20:
        return show(value)
    return f"{show(value[:ENDS])} …{len(value) - 2 * ENDS:,} characters… {show(value[-ENDS:])}"
