"""Values of a JSON body by their paths, as `messages[3].content[0].text`."""

from __future__ import annotations

import re
from typing import Any

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def steps(path: str) -> list[str | int]:
    """`messages[3].content` -> `["messages", 3, "content"]`."""
    return [match[1] if match[1] is not None else int(match[2]) for match in _STEP.finditer(path)]


def value_at(body: Any, path: str) -> Any:
    """The value, or None if there is none."""
    for step in steps(path):
        try:
            body = body[step]
        except (KeyError, IndexError, TypeError):
            return None
    return body


def with_value(body: Any, path: str, value: Any) -> Any:
    """The body with another value there; what isn't on the way is shared, not copied. The path has to be there."""
    return _with(body, steps(path), value)


def _with(body: Any, way: list[str | int], value: Any) -> Any:
    if not way:
        return value
    step, *rest = way
    copied: Any = list(body) if isinstance(body, list) else dict(body)
    copied[step] = _with(body[step], rest, value)
    return copied


def general(path: str) -> str:
    """The same for all messages of a history: `messages[7].content` -> `messages[*].content`; the first three keep
    their numbers, since prompts are built from there."""
    return re.sub(r"\[(\d+)\]", lambda match: match[0] if int(match[1]) < 3 else "[*]", path)
