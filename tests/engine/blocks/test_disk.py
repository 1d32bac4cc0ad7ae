"""The disk tier: written behind, loaded ahead, in order, and honest about what is there."""

from __future__ import annotations

import errno
import logging
import math
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tests.engine.blocks.chains import NOW, block, digest_of, fetched, inner, keep, number_of, state, until
from tests.engine.blocks.conftest import Cache

from headstart.engine.blocks.catalogue import Selection
from headstart.engine.blocks.disk import DiskTier
from headstart.engine.blocks.files import BlockFiles
from headstart.engine.blocks.listing import Listing, ask
from headstart.types import Lifetime

Start = Callable[..., DiskTier]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes: the kernel refuses, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def numbers(tier: DiskTier) -> list[int]:
    """What a start finds."""
    return [number_of(each.digest) for each in tier.load()]


def test_blocks_outlive_the_process(cache: Cache) -> None:
    """With every field and every byte, parents first."""
    blocks = [*(inner(number) for number in range(7)), block(7, life=Lifetime(1800.0, math.inf, True)), block(8)]
    with cache.tier() as tier:
        assert tier.load() == []
        keep(tier, blocks)
        assert tier.completed() == [(each.digest, True) for each in blocks]
        assert tier.pending_bytes == 0
    with cache.tier() as tier:
        assert sorted(tier.load()) == sorted(blocks)
        assert [each.stop for each in tier.load()] == sorted(each.stop for each in blocks)
        for each in blocks:
            assert np.array_equal(fetched(tier, each.digest), state(number_of(each.digest)))


def test_what_is_not_there_is_none(running: Start) -> None:
    """Without a look at the disk."""
    assert running().fetch(digest_of(1)).done


def test_those_who_fetch_the_same_block_wait_together(running: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read once."""
    tier = running()
    keep(tier, [block(0)])
    reads, go, read = [], threading.Event(), BlockFiles.read

    def slowly(files: BlockFiles, name: bytes, where: bytes, size: int) -> np.ndarray:
        reads.append(name)
        go.wait(10)
        return read(files, name, where, size)

    monkeypatch.setattr(BlockFiles, "read", slowly)
    first, second = tier.fetch(digest_of(0)), tier.fetch(digest_of(0))
    go.set()
    until(lambda: first.done and second.done)
    assert np.array_equal(first.data, second.data)
    assert len(reads) == 1


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The writer's thread waits before each block's file until it is set; `gate.reached` says that it waits."""
    gate, write = threading.Event(), BlockFiles.write
    gate.reached = threading.Event()

    def waiting(files: BlockFiles, name: bytes, where: bytes, data: np.ndarray) -> None:
        gate.reached.set()
        assert gate.wait(10)
        write(files, name, where, data)

    monkeypatch.setattr(BlockFiles, "write", waiting)
    return gate


def test_nothing_waits_for_the_disk(running: Start, gate: threading.Event) -> None:
    """Handing in returns at once while the disk stands still, and what is under way can be read."""
    tier = running()
    began = time.monotonic()
    for number in range(3):
        tier.write(block(number), state(number))
    tier.update([block(0)])
    tier.remove([digest_of(2)])
    assert fetched(tier, digest_of(1)) is not None
    assert time.monotonic() - began < 5
    assert tier.pending_bytes == sum(state(number).nbytes for number in range(3))
    assert not tier.flush(0.05)
    assert tier.completed() == []
    gate.set()
    assert tier.flush(10)
    assert sorted(tier.completed()) == [(digest_of(0), True), (digest_of(1), True), (digest_of(2), False)]


def test_what_is_removed_before_it_is_written_is_not_written(
    cache: Cache, running: Start, gate: threading.Event
) -> None:
    """Whether its turn has come by then or not; what is written again behind that is."""
    tier = running()
    tier.write(block(0), state(0))
    assert gate.reached.wait(10)
    tier.write(block(8), state(8))
    tier.write(block(16), state(16))
    tier.remove([digest_of(0), digest_of(8), digest_of(16)])
    tier.write(block(16), state(16))
    gate.set()
    assert tier.flush(10)
    ends = tier.completed()
    assert dict(ends) == {digest_of(0): False, digest_of(8): False, digest_of(16): True}
    assert [done for digest, done in ends if digest == digest_of(16)] == [False, True]
    assert len(cache.files()) == 1
    assert numbers(tier) == [16]


def test_a_block_that_is_under_way_is_written_once(running: Start, gate: threading.Event) -> None:
    """With what was last said of its entry."""
    tier = running()
    tier.write(block(0), state(0))
    tier.write(block(0, now=NOW - 60), state(0))
    gate.set()
    assert tier.flush(10)
    assert tier.completed() == [(digest_of(0), True)]
    assert tier.load() == [block(0, now=NOW - 60)]


def test_what_changed_of_an_entry_is_kept(cache: Cache) -> None:
    """Its use, its life, and that it is none any more; of a block that isn't there nothing is."""
    with cache.tier() as tier:
        tier.load()
        keep(tier, [block(0), block(1), block(2)])
        used = block(2)._replace(used=NOW + 600, life=Lifetime(43200.0, math.inf, True))
        tier.update([used, inner(0), block(99)])
    cache.now += 700
    with cache.tier() as tier:
        assert tier.load() == [inner(0), block(1), used]


def test_what_is_removed_is_gone(cache: Cache) -> None:
    """The row, the file, and after a restart, too."""
    with cache.tier() as tier:
        tier.load()
        keep(tier, [block(0), block(1)])
        tier.remove([digest_of(1), digest_of(55)])
        assert fetched(tier, digest_of(1)) is None
        assert tier.flush(10)
        assert len(cache.files()) == 1
    with cache.tier() as tier:
        assert tier.load() == [block(0)]


def test_nothing_is_written_once_it_is_closed(cache: Cache) -> None:
    """It says so."""
    with cache.tier() as tier:
        tier.load()
        keep(tier, [block(0)])
    tier.completed()
    tier.write(block(1), state(1))
    assert tier.completed() == [(digest_of(1), False)]
    assert fetched(tier, digest_of(0)) is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("headstart-disk")]


def test_a_callback_is_woken(running: Start) -> None:
    """For a write that ended and for a fetch."""
    tier = running()
    woken = threading.Event()
    tier.wake = woken.set
    keep(tier, [block(0)])
    assert woken.wait(10)
    woken.clear()
    tier.fetch(digest_of(0))
    assert woken.wait(10)


# ------------------------------------------------------------------------------------------------------- what expires


def test_what_has_expired_is_dropped_at_a_start(cache: Cache) -> None:
    """With what only it needed; a block that a living entry needs stays, and its own entry doesn't."""
    with cache.tier() as tier:
        tier.load()
        keep(tier, [inner(0), block(1), block(2, life=Lifetime(7200.0))])  # 1 ends within 30 minutes, 2 in two hours
        keep(tier, [inner(8), block(9)])
    cache.now += 1801
    with cache.tier() as tier:
        assert tier.load() == [inner(0), inner(1), block(2, life=Lifetime(7200.0))]
        assert len(cache.files()) == 3
    cache.now += 7200
    with cache.tier() as tier:
        assert tier.load() == []
        assert cache.files() == []


def test_a_life_of_24_hours_ends_on_time(cache: Cache) -> None:
    """Written at 09:00, restarted at 12:00, used at 20:00: there at the next day's 19:59, gone at 20:01."""
    day = Lifetime(86400.0)
    with cache.tier() as tier:
        tier.load()
        keep(tier, [block(0, life=day)])
    cache.now += 3 * 3600
    with cache.tier() as tier:
        assert tier.load() == [block(0, life=day)]
        cache.now += 8 * 3600
        tier.update([block(0, life=day)._replace(used=cache.now)])
    cache.now += 86400 - 60
    with cache.tier() as tier:
        assert len(tier.load()) == 1
    cache.now += 120
    with cache.tier() as tier:
        assert tier.load() == []


def test_a_clock_that_jumps_back_gives_a_full_life_once(cache: Cache) -> None:
    """Times in the future are now, and stay that over restarts: the life isn't a full one at each."""
    with cache.tier() as tier:
        tier.load()
        keep(tier, [block(0)])
    cache.now -= 86400
    back = cache.now
    for _ in range(2):
        with cache.tier() as tier:
            assert tier.load() == [block(0, now=back)]
        cache.now += 1000
    with cache.tier() as tier:
        assert tier.load() == []


def test_times_that_are_none_are_dropped(cache: Cache) -> None:
    """Not a number, infinite, negative, or beyond all calendars; and a life that is none."""
    odd = [
        block(0)._replace(used=math.nan),
        block(8)._replace(written=math.nan),
        block(16)._replace(used=math.inf),
        block(24)._replace(written=-1.0),
        block(32)._replace(written=1e300, used=1e300),
        block(40, life=Lifetime(math.nan)),
        block(48, life=Lifetime(-1.0)),
    ]
    with cache.tier() as tier:
        tier.load()
        keep(tier, [*odd, block(56)])
    with cache.tier() as tier:
        assert tier.load() == [block(56)]
        assert len(cache.files()) == 1


# ---------------------------------------------------------------------------------------------------- what is damaged


def test_a_block_without_its_parent_is_dropped(cache: Cache) -> None:
    """And what builds on it."""
    with cache.tier() as tier:
        tier.load()
        keep(tier, [block(0), block(1), block(2), block(3)])
        tier.remove([digest_of(1)])
    with cache.tier() as tier:
        assert tier.load() == [block(0)]
        assert len(cache.files()) == 1


@pytest.mark.parametrize("harm", ["missing", "cut", "longer"])
def test_a_block_whose_file_is_gone_or_cut_is_dropped_at_a_start(cache: Cache, harm: str) -> None:
    """And what builds on it."""
    with cache.tier() as tier:
        tier.load()
        keep(tier, [block(0)])
        (first,) = cache.files()
        keep(tier, [block(1), block(8)])
    if harm == "missing":
        first.unlink()
    else:
        first.write_bytes(first.read_bytes()[:-1] if harm == "cut" else first.read_bytes() + b"x")
    with cache.tier() as tier:
        assert tier.load() == [block(8)]
        assert len(cache.files()) == 1


@pytest.mark.parametrize("harm", ["missing", "flipped"])
def test_a_block_that_cannot_be_read_is_lost_for_good(
    cache: Cache, running: Start, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    """It is None, one line says so however many there are, and a restart doesn't know them any more."""
    tier = running()
    keep(tier, [block(0), block(8), block(16)])
    tier.completed()
    for path in cache.files()[:2]:
        if harm == "missing":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:1000] + b"?" + path.read_bytes()[1001:])
    left = [number for number in (0, 8, 16) if fetched(tier, digest_of(number)) is not None]
    assert len(left) == 1
    assert len(warnings(caplog)) == 1
    assert "can't be read" in warnings(caplog)[0]
    assert tier.flush(10)
    assert numbers(tier) == left
    assert len(cache.files()) == 1


def test_a_lost_block_can_be_written_again(cache: Cache, running: Start) -> None:
    """As soon as it is known to be lost."""
    tier = running()
    keep(tier, [block(0)])
    cache.files()[0].unlink()
    assert fetched(tier, digest_of(0)) is None
    keep(tier, [block(0)])
    assert np.array_equal(fetched(tier, digest_of(0)), state(0))


# ------------------------------------------------------------------------------------------------ what can't be written


def test_a_disk_that_is_full_loses_nothing_else(cache: Cache, running: Start, caplog: pytest.LogCaptureFixture) -> None:
    """The block isn't there, and says so; others are. One line when it begins, one when it ends, and no debris."""
    tier = running()
    keep(tier, [block(0)])
    with files_up_to(300_000):
        for number in (8, 16):
            tier.write(block(number), state(number, 400_000))
        assert not tier.flush(10)
        assert tier.failing == "File too large"
    assert tier.completed() == [(digest_of(0), True), (digest_of(8), False), (digest_of(16), False)]
    assert len(cache.files()) == 1
    assert np.array_equal(fetched(tier, digest_of(0)), state(0))
    assert fetched(tier, digest_of(8)) is None
    keep(tier, [block(8)])
    assert tier.failing is None
    assert warnings(caplog) == [
        "The disk cache can't be written: File too large. Entries stay in memory.",
        "The disk cache can be written again.",
    ]


def test_no_space_left_is_said_so(
    running: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the system's words, once."""
    tier = running()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(BlockFiles, "write", full)
        for number in range(5):
            tier.write(block(number), state(number))
        assert not tier.flush(10)
    assert [done for _, done in tier.completed()] == [False] * 5
    assert warnings(caplog) == ["The disk cache can't be written: No space left on device. Entries stay in memory."]


def test_a_catalogue_that_cannot_grow_is_caught_up_with(
    cache: Cache, running: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """New blocks are given up and leave no file; what changed of old ones is written once it can be."""
    tier = running()
    keep(tier, [block(0), block(8)], size=1000)
    tier.completed()
    used = block(0)._replace(used=NOW - 60)
    with files_up_to(1500):
        tier.write(block(16), state(16, 1000))
        tier.update([used])
        tier.remove([digest_of(8)])
        assert not tier.flush(10)
        assert tier.completed() == [(digest_of(16), False)]
    until(lambda: tier.failing is None)
    assert tier.load() == [used]
    assert len(cache.files()) == 1
    assert len(warnings(caplog)) == 2


def test_a_catalogue_that_breaks_while_it_runs_stops_no_one(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    """Writes end as not done, with one line; blocks can still be read; and the next start works."""
    with cache.tier() as tier:
        tier.load()
        keep(tier, [block(0)])
    with cache.tier() as tier:
        tier.load()
        for name in ("catalogue.db", "catalogue.db-wal"):
            (cache.path / name).write_bytes(b"garbage, " * 20_000)
        for number in (8, 16, 24):
            tier.write(block(number), state(number))
            assert not tier.flush(10)
        assert [done for _, done in tier.completed()] == [False] * 3
        assert np.array_equal(fetched(tier, digest_of(0)), state(0))
        assert tier.load() == []
    assert len([line for line in warnings(caplog) if "can't be written" in line]) == 1
    with cache.tier() as tier:
        assert tier.load() == []
        keep(tier, [block(0)])
        assert len(cache.files()) == 1


# ------------------------------------------------------------------------------------------------ beside a command line


def test_figures_are_published(cache: Cache, running: Start) -> None:
    """The latest, with the process and the time."""
    tier = running()
    tier.publish({"hits": 1})
    tier.publish({"hits": 2, "tier": "disk"})

    def published() -> bool:
        with Listing(cache.path) as listing:
            return [(live.time, live.stats) for live in listing.live()] == [(NOW, {"hits": 2, "tier": "disk"})]

    until(published)


def test_what_is_asked_for_is_heard_once_by_every_tier(cache: Cache) -> None:
    """Within seconds."""
    with cache.directory() as directory:
        tiers = [directory.tier(b"one"), directory.tier(b"another")]
        for tier in tiers:
            tier.load()
        heard = ask(cache.path, Selection(organisation="acme", expired_only=True))
        until(heard)
        found: list[Selection] = []

        def all_have_heard() -> bool:
            found.extend(command for tier in tiers for command in tier.commands())
            return len(found) >= len(tiers)

        until(all_have_heard)
        assert found == [Selection(organisation="acme", expired_only=True)] * 2
        assert [tier.commands() for tier in tiers] == [[], []]


def test_a_row_of_another_hand_is_dropped(cache: Cache) -> None:
    """Whoever changes a field without the key: the seal doesn't fit."""
    with cache.tier() as tier:
        tier.load()
        keep(tier, [block(0), block(8)])
    with sqlite3.connect(cache.path / "catalogue.db") as connection:
        connection.execute("UPDATE blocks SET total = 9e9 WHERE digest = ?", (digest_of(0),))
    connection.close()
    with cache.tier() as tier:
        assert tier.load() == [block(8)]
        assert len(cache.files()) == 1
