"""Items of a conversation in the shape that OpenAI gives them back in: with an id, a status and content in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from headstart.api import decoding
from headstart.store.responses import Item

PREFIXES: Mapping[str, str] = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}
"""How the ids of each type of item begin."""

MAX_ID_CHARACTERS = 128
"""Of a client's own id; a longer one is replaced."""


def input_items(
    input: str | Sequence[msgspec.Raw] | None, earlier: Iterable[Item], token: Callable[[int], str]
) -> tuple[Item, ...]:
    """The items of a request's `input`, which was found valid.

    An id that the client gave is kept if it is the only one of its conversation. Everything else stays as it was sent.
    """
    if isinstance(input, str):
        given: list[dict[str, Any]] = [{"role": "user", "content": input}]
    else:
        given = [decoding.decode(raw, dict[str, Any], f"input[{n}]") for n, raw in enumerate(input or ())]
    taken = {item.id for item in earlier}
    items = []
    for fields in given:
        kind = fields.get("type") or "message"
        id = fields.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= MAX_ID_CHARACTERS or id in taken:
            id = f"{PREFIXES[kind]}_{token(24)}"
        taken.add(id)
        shaped = {"id": id, "type": kind, **{name: value for name, value in fields.items() if value is not None}}
        shaped |= {"id": id, "status": shaped.get("status", "completed")}
        if kind == "message":
            shaped["content"] = _parts(fields["content"], fields["role"])
        items.append(Item(id, msgspec.json.encode(shaped)))
    return tuple(items)


def output_items(output: Iterable[dict[str, Any]]) -> tuple[Item, ...]:
    """The items of a response's `output`."""
    return tuple(Item(item["id"], msgspec.json.encode(item)) for item in output)


def _parts(content: str | list[dict[str, Any]], role: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    return [_written(part) if part["type"] == "output_text" else part for part in content]


def _written(part: dict[str, Any]) -> dict[str, Any]:
    """Text of a model, with the lists that it always has."""
    return part | {name: part.get(name) or [] for name in ("annotations", "logprobs")}


def size_of(items: Iterable[Item]) -> int:
    """Bytes of some items."""
    return sum(len(item.body) for item in items)
