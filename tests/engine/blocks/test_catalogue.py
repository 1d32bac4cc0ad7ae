"""The catalogue: private, versioned, and never what stops a start, whatever became of its file."""

from __future__ import annotations

import logging
import math
import shutil
import sqlite3
from pathlib import Path
from random import Random

import numpy as np
import pytest
from tests.engine.blocks.chains import MODEL, NOW, OWNER, block, digest_of, inner, keep, number_of, state, until
from tests.engine.blocks.conftest import Cache

from headstart.engine.blocks.catalogue import (
    MIGRATIONS,
    Catalogue,
    Newer,
    Record,
    Selection,
    expiry,
    rooted,
    unexpired,
    version_checksum,
)
from headstart.engine.blocks.directory import CacheDirectory
from headstart.engine.blocks.disk import DiskTier
from headstart.errors import StartError
from headstart.types import Lifetime, Namespace, StoredBlock

BLOCKS = [*(block(number) for number in range(16)), *(inner(number) for number in (16, 17)), block(18)]
DATABASE, LOG = "catalogue.db", "catalogue.db-wal"


def records(*numbers: int) -> list[Record]:
    """Blocks of chains as rows of the catalogue."""
    return [Record(digest_of(number)[16:], 100, block(number)) for number in numbers]


def numbers(found: list[Record]) -> list[int]:
    """Which blocks rows are of."""
    return [number_of(record.block.digest) for record in found]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """An empty one."""
    return Catalogue(tmp_path / DATABASE, key=b"seal")


def test_rows_come_back(catalogue: Catalogue) -> None:
    """With all fields; a client without a key isn't one with an empty key, and infinity is infinity."""
    owners = [OWNER, OWNER._replace(key=None), OWNER._replace(key=""), Namespace("ö 'x'", "m\0", "breakpoint", None)]
    rows = [Record(bytes([n]) * 16, n, block(n, owner=owner)) for n, owner in enumerate(owners)]
    rows.append(Record(b"n" * 16, 2**40, inner(9)._replace(life=Lifetime(5.0, math.inf, True))))
    with catalogue.write():
        catalogue.put(1, MODEL, rows)
        catalogue.put(1, MODEL, rows[:1])
        catalogue.put(2, MODEL, [Record(b"other model" + b"." * 5, 1, block(0))])
    found, bad = catalogue.records(1, MODEL)
    assert sorted(found) == sorted(rows)
    assert bad == []


def test_a_transaction_is_whole_or_nothing(catalogue: Catalogue) -> None:
    """An owner that was first seen in one that failed is seen again."""
    nameless = records(1)[0]._replace(name=None)
    with pytest.raises(TypeError), catalogue.write():
        catalogue.put(1, MODEL, [*records(0), nameless])
    assert catalogue.records(1, MODEL) == ([], [])
    with catalogue.write():
        catalogue.put(1, MODEL, records(0))
    assert catalogue.records(1, MODEL) == (records(0), [])


@pytest.mark.parametrize(
    "change",
    [
        "name = x'00'", "digest = x'00'", "parent = NULL", "parent = x'00'", "stop = stop + 1", "size = size + 1",
        "written = NULL", "written = written + 1", "used = used + 1", "idle = idle * 2", "total = 9e999",
        "promised = 1 - promised", "promised = 2", "owner = 77", "seal = x'00'", "seal = zeroblob(16)", "used = 'text'",
        "stop = 'text'", "digest = 'text'",
    ],
)  # fmt: skip
def test_a_seal_covers_every_field(catalogue: Catalogue, change: str) -> None:
    """And what isn't a block's field at all is no error."""
    with catalogue.write() as connection:
        catalogue.put(1, MODEL, records(1, 2))
        connection.execute(f"UPDATE blocks SET {change} WHERE name = ?", (digest_of(1)[16:],))
    found, bad = catalogue.records(1, MODEL)
    assert numbers(found) == [2]
    assert len(bad) == 1


@pytest.mark.parametrize("change", ["organisation", "model", "generation", "key"])
def test_a_seal_covers_the_owner(catalogue: Catalogue, change: str) -> None:
    """Nobody is given another's blocks."""
    with catalogue.write() as connection:
        catalogue.put(1, MODEL, records(1))
        connection.execute(f"UPDATE owners SET {change} = 'mallory'")
    assert numbers(catalogue.records(1, MODEL)[0]) == []


def test_a_seal_is_the_keys_and_the_models(catalogue: Catalogue, tmp_path: Path) -> None:
    """Another model's row, or one that another key sealed, is none."""
    with catalogue.write():
        catalogue.put(1, MODEL, records(1))
    assert numbers(catalogue.records(1, b"another")[0]) == []
    assert numbers(Catalogue(tmp_path / DATABASE, key=b"other").records(1, MODEL)[0]) == []


def test_expiry_is_the_earlier_of_two() -> None:
    """Idle for too long, or too old; a block without an entry has none."""
    assert expiry(block(0, life=Lifetime(10.0, 100.0))) == NOW + 10
    assert expiry(block(0, life=Lifetime(10.0, 100.0))._replace(used=NOW + 95)) == NOW + 100
    assert expiry(block(0, life=Lifetime(math.inf))) == math.inf
    assert expiry(inner(0)) is None


def test_a_block_needs_its_parents_and_they_come_first() -> None:
    """A gap takes what is behind it, and a parent that would end behind its child is none."""
    assert numbers(rooted(records(3, 1, 0, 2, 9, 8, 10, 17))) == [0, 8, 1, 9, 2, 10, 3]
    odd = records(1)[0]
    looped = odd._replace(block=odd.block._replace(parent=odd.block.digest))
    assert rooted([looped]) == []


def test_the_catalogue_and_a_start_agree_on_what_has_expired(catalogue: Catalogue) -> None:
    """On random trees, in which entries end here and there at random times."""
    random = Random(3)
    for _ in range(50):
        rows = []
        for number in range(32):
            written = None if random.random() < 0.4 else NOW + random.randint(-50, 50)
            life = Lifetime(random.choice([10.0, 40.0, math.inf]), random.choice([30.0, math.inf]))
            one = block(number)._replace(written=written, used=NOW + random.randint(-50, 50), life=life)
            rows.append(Record(digest_of(number)[16:], 100, one))
        with catalogue.write():
            catalogue.put(1, MODEL, rows)
        kept = {record.name for record in unexpired(rows, NOW)}
        assert set(catalogue.expired(1, NOW)) == {record.name for record in rows} - kept


def test_a_newer_schema_is_refused(cache: Cache) -> None:
    """And left as it is."""
    with cache.tier() as tier:
        keep(tier, [block(0)])
    newer = len(MIGRATIONS) + 1
    with sqlite3.connect(cache.path / DATABASE) as connection:
        connection.execute("UPDATE schema_version SET version = ?, checksum = ?", (newer, version_checksum(newer)))
    connection.close()
    with pytest.raises(Newer):
        Catalogue(cache.path / DATABASE)
    with pytest.raises(StartError, match=r"newer Headstart .*--disk-cache 0"):
        CacheDirectory(cache.path)
    assert len(cache.files()) == 1


def test_a_damaged_version_is_not_taken_for_a_newer_one(cache: Cache) -> None:
    """It starts empty."""
    with cache.tier() as tier:
        keep(tier, [block(0)])
    with sqlite3.connect(cache.path / DATABASE) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    connection.close()
    with cache.tier() as tier:
        assert tier.load() == []


def test_commands_are_taken_once(catalogue: Catalogue) -> None:
    """In the order in which they were given."""
    asked = [Selection("acme"), Selection(None, "gpt", "c0ffee", True)]
    for selection in asked:
        catalogue.command(selection)
    assert catalogue.take_commands() == asked
    assert catalogue.take_commands() == []


# --------------------------------------------------------------------------------------------------- a file in ruins


@pytest.fixture
def closed(cache: Cache) -> Path:
    """A cache of a server that was shut down: all is in the database."""
    with cache.tier() as tier:
        keep(tier, BLOCKS, size=300)
    return cache.path


@pytest.fixture
def killed(cache: Cache, tmp_path: Path) -> Path:
    """A cache of a server that was killed: all is in the write-ahead log."""
    copy = tmp_path / "killed"
    with cache.tier() as tier:
        keep(tier, BLOCKS[:8], size=300)
        keep(tier, BLOCKS[8:], size=300)
        shutil.copytree(cache.path, copy)
    return copy


def check(tier: DiskTier, blocks: list[StoredBlock]) -> None:
    """That blocks can be read, and are what they were."""
    fetches = [tier.fetch(each.digest) for each in blocks]
    until(lambda: all(fetch.done for fetch in fetches))
    for each, fetch in zip(blocks, fetches, strict=True):
        assert fetch.data is not None
        assert np.array_equal(fetch.data, state(number_of(each.digest), 300))


def start(origin: Path, name: str, content: bytes | None) -> list[int]:
    """What a start finds where a file has become this. It is checked that all of it is right, that no other file is
    left, and that a block can be written."""
    path = origin.with_name(f"damaged-{len(list(origin.parent.iterdir()))}")
    shutil.copytree(origin, path)
    (path / name).unlink(missing_ok=True)
    if content is not None:
        (path / name).write_bytes(content)
        (path / name).chmod(0o600)
    damaged = Cache(path)
    with damaged.tier() as tier:
        found = tier.load()
        assert set(found) <= set(BLOCKS)
        assert len(damaged.files()) == len(found)
        check(tier, found)
        keep(tier, [block(800)], size=300)
        assert block(800) in tier.load()
    return sorted(number_of(each.digest) for each in found)


def flipped(content: bytes, offset: int) -> bytes:
    """One bit of it."""
    broken = bytearray(content)
    broken[offset] ^= 1 << offset % 8
    return bytes(broken)


def test_a_flipped_bit_anywhere_in_the_database_stops_no_start(closed: Path) -> None:
    """What is found is right: a row is dropped, or all of them, or the bit meant nothing."""
    content = (closed / DATABASE).read_bytes()
    random = Random(5)
    offsets = [*range(0, 100, 3), *random.sample(range(100, len(content)), 100)]
    found = [start(closed, DATABASE, flipped(content, offset)) for offset in offsets]
    whole = len(BLOCKS)
    assert any(len(each) == whole for each in found)
    assert any(0 < len(each) < whole for each in found)
    assert any(each == [] for each in found)


def test_a_flipped_bit_anywhere_in_the_log_stops_no_start(killed: Path) -> None:
    """What was committed before it is found."""
    content = (killed / LOG).read_bytes()
    offsets = [*range(0, 60, 5), *Random(6).sample(range(60, len(content)), 60)]
    found = [start(killed, LOG, flipped(content, offset)) for offset in offsets]
    assert any(each == list(range(8)) for each in found)
    assert any(each == [] for each in found)


def test_an_unharmed_copy_of_either_is_found_whole(closed: Path, killed: Path) -> None:
    """So that the tests around this one show what they say."""
    assert len(start(closed, "none", None)) == len(start(killed, "none", None)) == len(BLOCKS)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_database_stops_no_start(closed: Path, share: float) -> None:
    """Nor does an empty one."""
    content = (closed / DATABASE).read_bytes()
    start(closed, DATABASE, content[: int(len(content) * share)])


@pytest.mark.parametrize("name", [DATABASE, LOG, "catalogue.db-shm"])
@pytest.mark.parametrize("content", [None, b"", b"garbage" * 10_000])
def test_a_file_of_garbage_or_none_stops_no_start(killed: Path, name: str, content: bytes | None) -> None:
    """Whichever of SQLite's three it is."""
    found = start(killed, name, content)
    if name.endswith("-shm"):
        assert len(found) == len(BLOCKS)


def test_a_damaged_catalogue_is_told_of_in_one_line(closed: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Which says what was done."""
    assert start(closed, DATABASE, b"garbage" * 1000) == []
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == (
        f"The index of the disk cache {closed.parent / 'damaged-1'} is damaged (file is not a database). "
        "The cache on disk starts empty."
    )
