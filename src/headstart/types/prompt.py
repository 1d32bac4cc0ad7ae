"""What is rendered of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from headstart.types.base import Role, TokenIds, Ttl


class Segment(NamedTuple):
    """Tokens [start, stop) of a prompt came from the value at `path` (empty: the template's own text), beginning with
    its character `offset`."""

    start: int
    stop: int
    path: str
    offset: int


class Ending(NamedTuple):
    """A message's content ends after `stop` tokens of the prompt; 0 if the template printed nothing of it."""

    role: Role
    stop: int


class Mark(NamedTuple):
    """A block with an explicit breakpoint ends after `stop` tokens of the prompt."""

    stop: int
    ttl: Ttl | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A rendered request. `segments` cover `tokens` in order without gaps. `settings` is a canonical string of the
    settings that are part of the prefix whether or not the model's template renders them ("" for the defaults).
    `endings` has one of every message, in their order; `marks` those blocks that the template printed."""

    tokens: TokenIds
    segments: tuple[Segment, ...]
    settings: str = ""
    endings: tuple[Ending, ...] = ()
    marks: tuple[Mark, ...] = ()
