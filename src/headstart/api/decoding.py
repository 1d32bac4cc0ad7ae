"""JSON in, structs out, and everything that can be wrong with it as one `InvalidRequest`."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from headstart.api import problems
from headstart.errors import InvalidRequest

T = TypeVar("T")

MAX_DEPTH = 64
"""Levels of a tool's parameters or an output's schema. Templates and grammars walk them recursively; OpenAI itself
allows 10 levels of a strict schema."""


def decode(body: bytes | msgspec.Raw, kind: type[T], at: str = "") -> T:
    """Decode `body` as `kind`; `at` is the JSON path where it stood in the request, "" for the whole of it.

    Raises `InvalidRequest` with OpenAI's message, code and `param`.
    """
    try:
        try:
            value: T = _decoder(kind).decode(body)  # type: ignore[arg-type]  # mypy takes no `type[T]` for hashable
        except msgspec.ValidationError as error:
            # Reads the body again, to its end, which may be broken in one of the ways below.
            raise problems.invalid(str(error), body, kind, at) from None
    except msgspec.DecodeError as error:
        raise problems.malformed(str(error), bytes(body)) from None
    except UnicodeDecodeError:
        raise problems.not_utf8(bytes(body)) from None
    except RecursionError:
        raise problems.too_deep(at) from None
    return value


def query(items: Iterable[tuple[str, str]], kind: type[T]) -> T:
    """The parameters of a query string as `kind`; `name[]`, which may come several times, is a list.

    Raises `InvalidRequest` as `decode` does.
    """
    given: dict[str, Any] = {}
    for name, value in items:
        if name.endswith("[]"):
            earlier = given.get(name[:-2])
            given[name[:-2]] = [*earlier, value] if isinstance(earlier, list) else [value]
        else:
            given[name] = value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise problems.invalid(str(error), msgspec.json.encode(given), kind, "") from None


def tree(body: bytes | msgspec.Raw, at: str) -> Any:
    """Decode untyped JSON, at most `MAX_DEPTH` levels deep."""
    value: Any = decode(body, object, at)  # to msgspec, `object` is any JSON
    check_depth(value, at)
    return value


def check_depth(value: Any, at: str) -> None:
    """Raise `InvalidRequest` if lists and objects nest deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        if not below:
            return
        level = below
    raise InvalidRequest(
        f"Invalid '{at}': nested too deeply. Expected at most {MAX_DEPTH} levels.", param=at, code="invalid_value"
    )


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
