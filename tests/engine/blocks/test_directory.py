"""The cache's directory: one process, one key, private, and clear about why it can't be used."""

from __future__ import annotations

import base64
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.engine.blocks.chains import MODEL, block, digest_of, fetched, keep, state
from tests.engine.blocks.conftest import Cache

from headstart.engine.blocks.directory import KEY_VARIABLE, CacheDirectory
from headstart.engine.blocks.listing import in_use
from headstart.errors import StartError


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """This process can't write there: by the mode, and as another user where it is root, who ignores modes."""
    user, mode = os.geteuid(), stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(mode)


@pytest.fixture
def anywhere() -> Iterator[Path]:
    """A folder whose parents anyone can pass."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_all_of_it_is_its_owners_alone(cache: Cache) -> None:
    """Files 0600, folders 0700, while it runs and after."""
    with cache.tier() as tier:
        keep(tier, [block(0)])
        running = [cache.path, *cache.path.rglob("*")]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in running}
        assert {"catalogue.db", "catalogue.db-wal", "catalogue.db-shm", "key", "lock", "blocks"} <= modes.keys()
        assert {modes[path.name] for path in running if path.is_dir()} == {0o700}
        assert {modes[path.name] for path in running if path.is_file()} == {0o600}


def test_a_directory_that_others_can_enter_is_closed_to_them(cache: Cache) -> None:
    """Somebody made it by hand."""
    cache.path.mkdir(parents=True, mode=0o755)
    with cache.directory():
        assert stat.S_IMODE(cache.path.stat().st_mode) == 0o700


def test_a_second_process_is_refused(cache: Cache) -> None:
    """With what to do; when the first has ended, it isn't."""
    with cache.directory():
        assert in_use(cache.path)
        with pytest.raises(StartError, match=f"in use by process {os.getpid()}. Stop .*--data-dir, .*--disk-cache 0"):
            CacheDirectory(cache.path)
    assert not in_use(cache.path)
    with cache.directory():
        pass


def test_nothing_is_read_with_another_key_and_nothing_lost(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks under the first key are found again under it; under the second, the same prefix has its own."""
    with cache.tier() as tier:
        keep(tier, [block(0), block(1)])
    monkeypatch.setenv(KEY_VARIABLE, "ab" * 32)
    with cache.tier() as tier:
        assert tier.load() == []
        keep(tier, [block(0)], size=500)
        assert len(cache.files()) == 3
    monkeypatch.delenv(KEY_VARIABLE)
    with cache.tier() as tier:
        assert tier.load() == [block(0), block(1)]
        assert np.array_equal(fetched(tier, digest_of(0)), state(0))


def test_blocks_under_a_lost_key_go_when_they_expire(cache: Cache) -> None:
    """Nobody can read them, and nobody would ever remove them."""
    with cache.tier() as tier:
        keep(tier, [block(0), block(1)])
    (cache.path / "key").unlink()
    with cache.tier() as tier:
        assert tier.load() == []
        assert len(cache.files()) == 2
    cache.now += 1801
    with cache.tier() as tier:
        assert cache.files() == []


def test_another_models_blocks_are_left_alone_until_they_expire(cache: Cache) -> None:
    """Its state can't be read by this one, and the same prefix has a block of each."""
    with cache.tier(b"one model") as tier:
        keep(tier, [block(0), block(1)])
    with cache.tier(b"another model") as tier:
        assert tier.load() == []
        assert fetched(tier, digest_of(0)) is None
        keep(tier, [block(0)], size=500)
        assert len(cache.files()) == 3
    cache.now += 60
    with cache.tier(b"one model") as tier:
        assert tier.load() == [block(0), block(1)]
        tier.update([block(0, now=cache.now), block(1, now=cache.now)])
        tier.remove([digest_of(1)])
    cache.now += 1790
    with cache.tier(b"a third model") as tier:
        assert tier.load() == []
        assert len(cache.files()) == 1


def test_models_share_the_directory(cache: Cache) -> None:
    """Each has its own blocks, even where two have the same fingerprint."""
    with cache.directory() as directory:
        first, second = directory.tier(MODEL), directory.tier(MODEL)
        for tier in (first, second):
            assert tier.load() == []
        keep(first, [block(0)])
        assert fetched(second, digest_of(0)) is None
        keep(second, [block(8)])
    with cache.directory() as directory:
        assert directory.tier(MODEL).load() == [block(0)]
        assert directory.tier(MODEL).load() == [block(8)]


@pytest.mark.parametrize(
    "text", [bytes(range(100, 132)).hex(), base64.b64encode(bytes(range(100, 132))).decode(), " " + "ff" * 32 + "\n"]
)
def test_a_key_is_given_in_hex_or_base64(cache: Cache, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """No file is made then."""
    monkeypatch.setenv(KEY_VARIABLE, text)
    with cache.tier() as tier:
        keep(tier, [block(0)])
    monkeypatch.setenv(KEY_VARIABLE, text.strip())
    with cache.tier() as tier:
        assert tier.load() == [block(0)]
    assert not (cache.path / "key").exists()


def test_base64_may_be_of_either_alphabet(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """With + and /, or - and _: the same key."""
    key = b"\xfb\xff" * 16
    monkeypatch.setenv(KEY_VARIABLE, base64.b64encode(key).decode())
    with cache.tier() as tier:
        keep(tier, [block(0)])
    monkeypatch.setenv(KEY_VARIABLE, base64.urlsafe_b64encode(key).decode())
    with cache.tier() as tier:
        assert tier.load() == [block(0)]


@pytest.mark.parametrize("text", ["", "secret", "g" * 64, "ab" * 31, "ab" * 33, base64.b64encode(b"k" * 31).decode()])
def test_a_key_that_is_none_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What it has to be is said, and not what was given."""
    monkeypatch.setenv(KEY_VARIABLE, text)
    with pytest.raises(StartError, match="must be 32 bytes: 64 hex digits, or base64") as raised:
        CacheDirectory(cache.path)
    assert not text or text not in str(raised.value)
    assert not in_use(cache.path)


def test_a_key_file_that_is_damaged_or_open_to_others_is_refused(cache: Cache) -> None:
    """With what to do; the lock is free then."""
    with cache.directory():
        pass
    key = cache.path / "key"
    assert len(key.read_bytes()) == 32
    key.chmod(0o644)
    with pytest.raises(StartError, match=f"can be read by others; run: chmod 600 {key}"):
        CacheDirectory(cache.path)
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(StartError, match=r"is damaged: it has 5 bytes, not 32\. Delete it"):
        CacheDirectory(cache.path)
    assert not in_use(cache.path)


@pytest.mark.parametrize("made", [False, True])
def test_a_directory_that_cannot_be_written_is_refused(anywhere: Path, made: bool) -> None:
    """Whether there is a cache in it or there isn't, with the reason and the way to go on."""
    path = anywhere / "cache"
    if made:
        CacheDirectory(path).close()
    with (
        read_only(path if made else anywhere),
        pytest.raises(StartError, match=r"Permission denied\. .*--disk-cache 0"),
    ):
        CacheDirectory(path)


def test_a_path_that_leads_through_a_file_is_refused(tmp_path: Path) -> None:
    """With the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"can't be written: Not a directory\. .*--disk-cache 0"):
        CacheDirectory(tmp_path / "file" / "cache")


def test_what_no_row_names_is_removed_at_a_start(cache: Cache) -> None:
    """Whole files and half-written ones."""
    with cache.tier() as tier:
        keep(tier, [block(0)])
    (file,) = cache.files()
    orphan = file.parent / (file.name[:2] + "0" * 30)
    for path in (orphan, file.with_name(file.name + ".part"), cache.path / "blocks" / "stray"):
        path.write_bytes(b"left over")
    with cache.directory():
        assert cache.files() == [file]
