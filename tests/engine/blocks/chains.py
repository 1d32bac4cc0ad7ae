"""Blocks whose every field and byte follow from their number: whoever reads one can tell whether it is right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from headstart.engine.blocks.disk import DiskTier
from headstart.types import Lifetime, Namespace, StoredBlock

CHAIN = 8
"""Blocks of one prompt, one after the other."""
NOW = 1_800_000_000.0
"""Unix time at which the tests' days begin."""
OWNER = Namespace("acme", "gpt-4.1-mini", "interval", "c0ffee")
MODEL = b"a model's fingerprint"


LIFE = Lifetime(1800.0, 3600.0)
"""Half an hour from the last use, and an hour at most."""


def digest_of(number: int) -> bytes:
    """The name of a block."""
    return number.to_bytes(32, "big")


def number_of(digest: bytes) -> int:
    """Which block has the name."""
    return int.from_bytes(digest, "big")


def block(number: int, *, now: float = NOW, life: Lifetime = LIFE, owner: Namespace = OWNER) -> StoredBlock:
    """A block that an entry ends with, written now; every eighth begins a chain."""
    place = number % CHAIN
    parent = digest_of(number - 1) if place else None
    return StoredBlock(digest_of(number), parent, (place + 1) * 128, owner, now, now, life)


def inner(number: int, *, now: float = NOW) -> StoredBlock:
    """A block within a prefix: no entry ends there."""
    return block(number, now=now)._replace(written=None)


def state(number: int, size: int | None = None) -> npt.NDArray[np.uint8]:
    """The bytes of a block, 4 to 64 kB unless told."""
    random = np.random.default_rng(number)
    return random.integers(0, 256, size or 4_000 + number * 7919 % 60_000, dtype=np.uint8)


def keep(tier: DiskTier, blocks: Iterable[StoredBlock], size: int | None = None) -> None:
    """Write blocks and wait until they are on disk."""
    for each in blocks:
        tier.write(each, state(number_of(each.digest), size))
    assert tier.flush(20)


def fetched(tier: DiskTier, digest: bytes) -> npt.NDArray[np.uint8] | None:
    """A block's bytes, waited for."""
    fetch = tier.fetch(digest)
    until(lambda: fetch.done)
    return fetch.data


def until(met: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what a thread brings about."""
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it didn't come"
        time.sleep(0.001)
