"""A process that writes, updates and removes blocks until it is killed, and tells what it was told."""

from __future__ import annotations

import struct
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from tests.engine.blocks.chains import CHAIN, MODEL, NOW, block, digest_of, number_of, state

from headstart.engine.blocks.directory import CacheDirectory

EVENT = struct.Struct("<sQ")
SAVED, REMOVING = b"s", b"r"
BYTES_UNDER_WAY = 2**20


def work(path: Path, first: int, out: Connection) -> None:
    """Write chains from block `first` on. `out` gets an event for every block that is on disk, and before one is
    removed."""
    random = Random(first)
    tier = CacheDirectory(path, clock=lambda: NOW).tier(MODEL)
    known = [number_of(each.digest) for each in tier.load()]
    number = first
    while True:
        for _ in range(random.randint(1, CHAIN)):
            tier.write(block(number), state(number))
            known.append(number)
            number += 1
        tier.update([block(one, now=NOW - 1) for one in random.sample(known, min(3, len(known)))])
        if random.random() < 0.4:
            chain = random.choice(known) // CHAIN * CHAIN
            ends = [one for one in known if chain <= one < chain + CHAIN][random.randint(0, 3) :]
            for one in ends:
                out.send_bytes(EVENT.pack(REMOVING, one))
                known.remove(one)
            tier.remove(digest_of(one) for one in reversed(ends))
            number += -number % CHAIN  # whatever its blocks' parents are now
        tell(tier.completed(), out)
        while tier.pending_bytes > BYTES_UNDER_WAY:
            tier.flush(0.01)
            tell(tier.completed(), out)


def tell(completed: list[tuple[bytes, bool]], out: Connection) -> None:
    """Pass on what is on disk."""
    for digest, done in completed:
        if done:
            out.send_bytes(EVENT.pack(SAVED, number_of(digest)))
