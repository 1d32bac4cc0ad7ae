"""Traces made for tests."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

import msgspec

from headstart.simulate.trace import Trace, read

Chain = Sequence[Hashable]


def line(ids: Sequence[int | str], tokens: int, time: float = 0.0, **more: object) -> bytes:
    """A line of a trace."""
    said = {"timestamp": time, "input_length": tokens, "output_length": 1, "hash_ids": ids, **more}
    return msgspec.json.encode(said) + b"\n"


def trace_of(chains: Sequence[Chain], block: int = 1) -> Trace:
    """Prompts by the names of their blocks, all of them full, a second apart. A name stands for all before it."""
    names: dict[Hashable, int] = {}
    lines = []
    for number, chain in enumerate(chains):
        prefixes = [tuple(chain[: at + 1]) for at in range(len(chain))]
        ids = [names.setdefault(prefix, len(names)) for prefix in prefixes]
        lines.append(line(ids, max(len(ids) * block, 1), 1000.0 * number))
    return read(lines, block=block)


def random_chains(rng: random.Random, requests: int, most: int = 6, width: int = 3) -> list[list[int]]:
    """Walks down one tree: they share what begins alike."""
    return [[rng.randrange(width) for _ in range(rng.randint(0, most))] for _ in range(requests)]
