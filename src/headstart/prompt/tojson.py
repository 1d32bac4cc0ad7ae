"""The `tojson` filter of chat templates, as Hugging Face's `apply_chat_template` has it, with provenance kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from headstart.prompt.tracing import Piece, Traced, joined, pieces_of, strings


class _Style(NamedTuple):
    """What `json.dumps` is told."""

    ensure_ascii: bool
    indent: int | str | None
    separators: tuple[str, str] | None
    sort_keys: bool

    def dumps(self, value: Any) -> str:
        return json.dumps(
            value,
            ensure_ascii=self.ensure_ascii,
            indent=self.indent,
            separators=self.separators,
            sort_keys=self.sort_keys,
        )


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Exactly `json.dumps(value, ...)`: no HTML escaping, non-ASCII characters as they are unless asked otherwise.

    What is wholly of one client's value, such as a tool's definition, becomes one piece of it; in a list of tools the
    brackets and commas between are the template's.
    """
    return _dump(value, _Style(ensure_ascii, indent, separators, sort_keys), 0)


def _dump(value: Any, style: _Style, level: int) -> str:
    paths = {piece.path for string in strings(value) for piece in pieces_of(string)}
    if len(paths) > 1:
        if isinstance(value, Traced):
            return _mixed_string(value, style)
        if isinstance(value, dict):
            return _mapping(value, style, level)
        return joined(("[", _items([_dump(item, style, level + 1) for item in value], style, level), "]"))
    text = style.dumps(value)
    if level:  # a newline in JSON text is always layout: strings escape theirs
        text = text.replace("\n", _newline(style, level))
    path = paths.pop() if paths else ""
    return Traced.whole(text, path) if path else text


def _mixed_string(value: Traced, style: _Style) -> str:
    inner = [Traced(text, (Piece(text, path, offset),)) for text, path, offset in _escaped(value, style)]
    return joined(('"', *inner, '"'))


def _escaped(value: Traced, style: _Style) -> Iterator[Piece]:
    for text, path, offset in pieces_of(value):
        yield Piece(style.dumps(text)[1:-1], path, offset)


def _mapping(value: dict[Any, Any], style: _Style, level: int) -> str:
    colon = style.separators[1] if style.separators else ": "
    items = sorted(value.items()) if style.sort_keys else value.items()
    members = [joined((_key(key, style), colon, _dump(item, style, level + 1))) for key, item in items]
    return joined(("{", _items(members, style, level), "}"))


def _key(key: Any, style: _Style) -> str:
    return _dump(key if isinstance(key, str) else json.dumps(key), style, 0)


def _items(texts: list[str], style: _Style, level: int) -> str:
    comma = style.separators[0] if style.separators else (", " if style.indent is None else ",")
    if style.indent is None:
        return joined(texts, comma)
    inner = _newline(style, level + 1)
    return joined((inner, joined(texts, comma + inner), _newline(style, level)))


def _newline(style: _Style, level: int) -> str:
    if style.indent is None:
        return "\n"
    return "\n" + (style.indent if isinstance(style.indent, str) else " " * style.indent) * level
