"""What stands between a client's JSON schema and llama.cpp's grammar parser, which recurses and trusts its input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headstart.errors import InvalidRequest

MOST_REPEATS = 1_000
"""Largest `maxLength`, `minItems`, `{m,n}` …: each repeat is a nested group of the grammar, so a level of recursion."""
MOST_BYTES = 256 * 1024
MOST_GROUPS = 2_000
REPEATS = ("minLength", "maxLength", "minItems", "maxItems")
_REPETITION = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_SURROGATES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})", re.IGNORECASE)


def check_schema(schema: object, param: str) -> None:
    """Raises `InvalidRequest` for bounds and patterns that repeat more often than a grammar can."""
    for node in _objects(schema):
        counts = [node[name] for name in REPEATS if isinstance(node.get(name), (int, float))]
        pattern = node.get("pattern")
        if isinstance(pattern, str):
            counts += [int(number) for pair in _REPETITION.findall(pattern) for number in pair if number]
        if counts and max(counts) > MOST_REPEATS:
            raise InvalidRequest(
                f"This JSON schema repeats something up to {max(counts)} times; this server allows {MOST_REPEATS}. "
                "Leave the bound out, or lower it.",
                param=param,
                code="invalid_json_schema",
            )


def _objects(schema: object) -> Iterator[Mapping[str, Any]]:
    """Every object in the schema, itself included."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            yield node
            waiting += node.values()
        elif isinstance(node, Sequence) and not isinstance(node, str):
            waiting += node


def repaired(grammar: str, param: str) -> str:
    """The converter's grammar as llama.cpp needs it. Raises `InvalidRequest` for one that is too large or deep.

    The converter lets raw control characters into strings, which JSON doesn't allow, and writes characters beyond
    U+FFFF as two escapes, which llama.cpp reads as two characters.
    """
    depth = deepest = 0
    for bracket in re.findall(r"[()]", grammar):
        depth += 1 if bracket == "(" else -1
        deepest = max(deepest, depth)
    if len(grammar) > MOST_BYTES or deepest > MOST_GROUPS or "\\u0000" in grammar:
        raise InvalidRequest(
            "This JSON schema is too large or too deep for a grammar, or holds a NUL character.",
            param=param,
            code="invalid_json_schema",
        )
    grammar = grammar.replace('[^"\\\\]', '[^"\\\\\\x7F\\x00-\\x1F]')
    return _SURROGATES.sub(lambda pair: f"\\U{_character(pair[1], pair[2]):08X}", grammar.lstrip())


def _character(high: str, low: str) -> int:
    return 0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00
