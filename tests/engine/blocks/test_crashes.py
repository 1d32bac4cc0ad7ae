"""`kill -9` at any instant: what was said to be on disk is there and right, nothing else is, and writing goes on."""

from __future__ import annotations

import math
import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import numpy as np
from tests.engine.blocks.busy import EVENT, REMOVING, SAVED, work
from tests.engine.blocks.chains import CHAIN, NOW, block, digest_of, keep, number_of, state, until
from tests.engine.blocks.conftest import Cache

from headstart.engine.blocks.disk import DiskTier

KILLS = 50
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.engine.blocks.busy"])


def events_of(connection: Connection, enough: float = math.inf) -> list[tuple[bytes, int]]:
    """What a process tells, up to so many events or its end."""
    events: list[tuple[bytes, int]] = []
    try:
        while len(events) < enough:
            assert connection.poll(20), "it tells nothing"
            events.append(EVENT.unpack(connection.recv_bytes()))
    except EOFError:
        pass
    return events


def run_and_kill(path: Path, first: int, events: int, seconds: float) -> tuple[list[int], set[int]]:
    """Let a process work until it has told of so many events, and a moment longer. What it said was on disk, in order,
    and what it may have removed."""
    here, there = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=work, args=(path, first, there))
    process.start()
    there.close()
    told = events_of(here, events)
    time.sleep(seconds)
    process.kill()
    process.join()
    told += events_of(here)
    here.close()
    return [one for kind, one in told if kind == SAVED], {one for kind, one in told if kind == REMOVING}


def check(tier: DiskTier, cache: Cache) -> set[int]:
    """Every block that a start finds can be read and is right, its entry as it was written or changed, its parent
    there, and there is one file for each."""
    blocks = tier.load()
    fetches = [tier.fetch(each.digest) for each in blocks]
    until(lambda: all(fetch.done for fetch in fetches))
    found = {number_of(each.digest) for each in blocks}
    for each, fetch in zip(blocks, fetches, strict=True):
        number = number_of(each.digest)
        assert each in (block(number), block(number, now=NOW - 1))
        assert fetch.data is not None
        assert np.array_equal(fetch.data, state(number))
        assert number % CHAIN == 0 or number - 1 in found
    assert len(cache.files()) == len(blocks)
    return found


def test_kill_at_any_instant(cache: Cache) -> None:
    """Fifty times in the middle of writing, changing and removing, on one directory."""
    random = Random(20)
    saved_ever, killed_while_writing, next_number = 0, 0, 0
    for _ in range(KILLS):
        saved, removed = run_and_kill(cache.path, next_number, random.randint(0, 60), random.uniform(0.0, 0.02))
        saved_ever += len(saved)
        with cache.tier() as tier:
            found = check(tier, cache)
            assert set(saved) - removed <= found
            killed_while_writing += bool(found - set(saved))
            last = max(found, default=next_number)
            next_number = last - last % CHAIN + CHAIN
            keep(tier, [block(next_number)])
            next_number += CHAIN
            old = sorted(found)[:-40]
            tier.remove(digest_of(number) for number in reversed(old))
    assert saved_ever > 20 * KILLS
    assert killed_while_writing > KILLS / 5
