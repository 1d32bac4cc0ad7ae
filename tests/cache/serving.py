"""Prompts made of messages, and a cache that serves them: rules and index alone, without engine or clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headstart.cache.index import PrefixIndex
from headstart.cache.policy import Rules
from headstart.types import CacheOptions, Ending, Mark, Namespace, Prompt, Role, Ttl, Written

OPENING = np.array([7, 7, 7], np.int32)
"""What a template prints behind the last message, to open the answer."""


class Said(NamedTuple):
    """A message: its content is `length` times the token `value`. `marked`: after how many of them a block with a
    breakpoint ends, and its ttl."""

    role: Role
    value: int
    length: int
    marked: tuple[tuple[int, Ttl | None], ...] = ()


def prompt_of(messages: Sequence[Said], *, opening: bool = True) -> Prompt:
    """The rendered prompt."""
    endings, marks, at = [], [], 0
    for message in messages:
        marks += [Mark(at + within, ttl) for within, ttl in message.marked]
        at += message.length
        endings.append(Ending(message.role, at if message.length else 0))
    parts = [np.full(message.length, message.value, np.int32) for message in messages]
    tokens = np.concatenate([*parts, OPENING] if opening else [*parts, OPENING[:0]])
    return Prompt(tokens, (), "", tuple(endings), tuple(marks))


class Served(NamedTuple):
    """`cached_tokens` and `cache_write_tokens`."""

    read: int
    written: Written


class Cache:
    """One model's rules over one index with room for everything."""

    def __init__(self, rules: Rules, generation: str = "breakpoint") -> None:
        self.rules, self.index, self.now = rules, PrefixIndex(1 << 30), 0.0
        self.namespace = Namespace("org", "model", generation, None)  # type: ignore[arg-type]

    def serve(self, prompt: Prompt, options: CacheOptions = CacheOptions(), key: str | None = None) -> Served:  # noqa: B008
        """Answer a request, as an engine does."""
        plan = self.rules.plan(prompt, self.namespace._replace(key=key), options)
        self.index.expire(self.now)
        read = self.index.match(plan, self.now)
        self.index.read(plan, read, self.now)
        self.index.write(plan, self.now)
        self.index.check_integrity()
        return Served(read, plan.written(read))
