"""A block's file: what is read is what was written, or nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from tests.engine.blocks.chains import state

from headstart.engine.blocks.files import (
    CHUNK,
    HEADER,
    OVERHEAD,
    BlockFiles,
    Damaged,
    Keys,
    address,
    path_of,
    remove_files,
    survey,
)

KEYS = Keys.derive(b"k" * 32)
WHERE = address(b"model", b"digest", 128)


@pytest.fixture
def files(tmp_path: Path) -> BlockFiles:
    """An empty folder of blocks."""
    return BlockFiles(tmp_path / "blocks", KEYS)


@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 17])
def test_what_was_written_is_read(files: BlockFiles, size: int) -> None:
    """Whatever the size is, in bytes."""
    data = state(1, size) if size else np.empty(0, np.uint8)
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, data)
    assert np.array_equal(files.read(name, WHERE, size), data)
    assert path_of(files.path, name).stat().st_size == size + OVERHEAD


def test_a_file_says_nothing_of_what_it_holds(files: BlockFiles) -> None:
    """Neither the bytes nor the digest are in it or in its name, and equal blocks look different; it is its owner's."""
    data = np.zeros(4096, np.uint8)
    first, second = (files.name(b"model", digest) for digest in (b"digest 1", b"digest 2"))
    files.write(first, WHERE, data)
    files.write(second, WHERE, data)
    one, other = (path_of(files.path, name).read_bytes() for name in (first, second))
    assert bytes(64) not in one
    assert one[HEADER.size :] != other[HEADER.size :]
    assert b"digest" not in one + first
    assert stat.S_IMODE(path_of(files.path, first).stat().st_mode) == 0o600
    assert stat.S_IMODE(path_of(files.path, first).parent.stat().st_mode) == 0o700


def test_a_flipped_bit_anywhere_is_noticed(files: BlockFiles) -> None:
    """In the magic, the format, the nonce, the padding, the length, the body and the tag."""
    data = state(1, 300)
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, data)
    path = path_of(files.path, name)
    whole = path.read_bytes()
    for offset in range(len(whole)):
        broken = bytearray(whole)
        broken[offset] ^= 1 << offset % 8
        path.write_bytes(broken)
        with pytest.raises(Damaged):
            files.read(name, WHERE, 300)
    path.write_bytes(whole)
    assert np.array_equal(files.read(name, WHERE, 300), data)


@pytest.mark.parametrize("length", [0, 5, HEADER.size, HEADER.size + 100, 300 + OVERHEAD - 1, 300 + OVERHEAD + 1])
def test_a_file_of_another_length_is_noticed(files: BlockFiles, length: int) -> None:
    """Cut off, or with something behind it."""
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, state(1, 300))
    path = path_of(files.path, name)
    path.write_bytes((path.read_bytes() + b"more")[:length])
    with pytest.raises(Damaged):
        files.read(name, WHERE, 300)


@pytest.mark.parametrize(
    "where", [address(b"other", b"digest", 128), address(b"model", b"digesu", 128), address(b"model", b"digest", 129)]
)
def test_a_block_is_bound_to_its_address(files: BlockFiles, where: bytes) -> None:
    """A file that was put in the place of another model's, prefix's or boundary's isn't taken for it."""
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, state(1, 300))
    with pytest.raises(Damaged):
        files.read(name, where, 300)


def test_addresses_differ_wherever_a_field_does() -> None:
    """However the bytes are divided between them."""
    assert address(b"ab", b"c", 1) != address(b"a", b"bc", 1)


def test_another_key_finds_and_reads_nothing(files: BlockFiles) -> None:
    """Names differ, and a file that is named all the same can't be read."""
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, state(1, 300))
    other = BlockFiles(files.path, Keys.derive(b"K" * 32))
    assert other.name(b"model", b"digest") != name
    with pytest.raises(Damaged):
        other.read(name, WHERE, 300)


def test_a_full_disk_leaves_nothing_behind(files: BlockFiles) -> None:
    """The kernel says that there is no space; what was there before is as it was."""
    data = state(1, CHUNK)
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, data)
    path = path_of(files.path, name)
    path.with_name(path.name + ".part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised:
        files.write(name, WHERE, state(2, CHUNK))
    assert raised.value.errno == errno.ENOSPC
    assert list(path.parent.iterdir()) == [path]
    assert np.array_equal(files.read(name, WHERE, CHUNK), data)


def test_a_survey_tells_blocks_from_strays(files: BlockFiles) -> None:
    """A half-written file, a foreign one, and one in the wrong folder are strays."""
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, state(1, 300))
    folder = path_of(files.path, name).parent
    strays = [folder / f"{name.hex()}.part", folder / "notes", files.path / "stray"]
    wrong = files.path / ("00" if folder.name != "00" else "01") / name.hex()
    wrong.parent.mkdir()
    for path in (*strays, wrong):
        path.write_bytes(b"")
    sizes, found = survey(files.path)
    assert sizes == {name: 300 + OVERHEAD}
    assert sorted(found) == sorted([*strays, wrong])
    assert survey(files.path / "nowhere") == ({}, [])


def test_a_system_may_give_less_than_was_asked_for(files: BlockFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is asked for again."""
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, state(1, 1000))
    read, calls = os.preadv, []

    def in_parts(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        calls.append(offset)
        return read(descriptor, [buffers[0] if len(buffers) == 3 else memoryview(buffers[0])[:400]], offset)

    monkeypatch.setattr(os, "preadv", in_parts)
    assert np.array_equal(files.read(name, WHERE, 1000), state(1, 1000))
    assert calls == [0, 32, 432, 832]


def test_removing_is_done_when_it_is_gone(files: BlockFiles) -> None:
    """What isn't there is no error."""
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, state(1, 300))
    remove_files(files.path, [name, files.name(b"model", b"another")])
    assert not path_of(files.path, name).exists()


def test_folders_come_back(files: BlockFiles) -> None:
    """Somebody who empties the directory by hand does not stop the writing."""
    name = files.name(b"model", b"digest")
    files.write(name, WHERE, state(1, 300))
    path_of(files.path, name).unlink()
    path_of(files.path, name).parent.rmdir()
    files.path.rmdir()
    files.write(name, WHERE, state(1, 300))
    assert np.array_equal(files.read(name, WHERE, 300), state(1, 300))
