"""The directory of the cache on disk: one process at a time, one key, one catalogue, a tier per model.

<data>/cache/    lock    key    catalogue.db    blocks/00 … ff
"""

from __future__ import annotations

import base64
import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from headstart.config import SECRET_BYTES, own_secret
from headstart.engine.blocks.catalogue import Catalogue, Newer, Selection
from headstart.engine.blocks.disk import DiskTier
from headstart.engine.blocks.files import BlockFiles, Keys, remove_files, survey
from headstart.engine.blocks.listing import BLOCKS, CATALOGUE, InUse, lock
from headstart.engine.blocks.writer import Place
from headstart.errors import StartError

log = logging.getLogger(__name__)

KEY_VARIABLE = "HEADSTART_CACHE_KEY"
KEY_FILE = "key"
WITHOUT = "choose another --data-dir, or go on without one: --disk-cache 0."
NOT_DAMAGE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
}
"""What SQLite says when the catalogue may be as good as it was."""


class CacheDirectory:
    """`<data>/cache` for all engines of a process. Raises `StartError` where it can't be used; a damaged catalogue is
    replaced by an empty one. `clock` gives Unix time."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._tiers: list[DiskTier] = []
        self._places: set[bytes] = set()
        self._sizes: dict[bytes, int] = {}
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (path / BLOCKS).mkdir(mode=0o700, exist_ok=True)
            with suppress(PermissionError):
                path.chmod(0o700)
            with tempfile.TemporaryFile(dir=path):
                pass  # a file can be made there
            self._lock = lock(path)
        except InUse as error:
            raise StartError(f"The disk cache {path} is in use by {error}. Stop that one, {WITHOUT}") from None
        except OSError as error:
            raise self._unusable(error) from error
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
            self._keys = Keys.derive(load_key(path / KEY_FILE))
            self._catalogue = self._open()  # for as long as it is, others needn't write the log back
        except OSError as error:
            os.close(self._lock)
            raise self._unusable(error) from error
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def size(self) -> int:
        """Bytes of files that were there at the start."""
        return sum(self._sizes.values())

    def tier(self, fingerprint: bytes, wake: Callable[[], None] = lambda: None, *, description: str = "") -> DiskTier:
        """The tier of a model, known by its fingerprint; `description` is for people. Two models with one fingerprint
        have a tier each, in the order in which they ask."""
        asked = fingerprint
        while fingerprint in self._places:
            fingerprint = asked + b" %d" % len(self._places)
        self._places.add(fingerprint)
        try:
            number = self._catalogue.model(self._keys.identity, fingerprint, description)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        files = BlockFiles(self.path / BLOCKS, self._keys)
        place = Place(
            self.path / CATALOGUE, files, self._keys.seals, number, fingerprint, self._sizes, self._hear, self._left
        )
        tier = DiskTier(place, clock=self._clock, wake=wake)
        self._tiers.append(tier)
        return tier

    def close(self) -> None:
        """Close every tier, and let others have the directory: as the end of the last tier does."""
        for tier in list(self._tiers):
            tier.close()
        if self._tiers:
            return  # one of them is still at it
        if self._lock >= 0:
            self._catalogue.close()
            os.close(self._lock)
            self._lock = -1

    def _left(self, tier: DiskTier) -> None:
        """A tier is closed."""
        if tier in self._tiers:
            self._tiers.remove(tier)
            if not self._tiers:
                self.close()

    def _hear(self, commands: list[Selection]) -> None:
        for tier in self._tiers:
            tier.hear(commands)

    def _open(self) -> Catalogue:
        """Open the catalogue, or replace it, and remove what has expired and what it doesn't name."""
        try:
            return self._sweep()
        except Newer as error:
            raise StartError(
                f"The disk cache {self.path} can't be used: {error}. Use that version, {WITHOUT}"
            ) from None
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in NOT_DAMAGE and not _unread(error):
                raise self._unusable(error) from error
            log.warning(
                "The index of the disk cache %s is damaged (%s). The cache on disk starts empty.", self.path, error
            )
            for companion in ("", "-wal", "-shm", "-journal"):
                _delete(self.path / (CATALOGUE + companion))
            try:
                return self._sweep()
            except sqlite3.Error as again:
                raise self._unusable(again) from again

    def _sweep(self) -> Catalogue:
        catalogue = Catalogue(self.path / CATALOGUE)
        try:
            catalogue.check()
            with catalogue.write():
                for number in catalogue.models():
                    catalogue.delete(catalogue.expired(number, self._clock()))
            catalogue.drop_unused()
            names = catalogue.names()
        except BaseException:
            catalogue.close()
            raise
        self._sizes, strays = survey(self.path / BLOCKS)
        orphans = self._sizes.keys() - names
        remove_files(self.path / BLOCKS, orphans)
        for stray in strays:
            with suppress(OSError):
                stray.unlink()
        for name in orphans:
            del self._sizes[name]
        return catalogue

    def _unusable(self, error: Exception) -> StartError:
        reason = error.strerror or error if isinstance(error, OSError) else error
        return StartError(f"The disk cache {self.path} can't be written: {reason}. Mend that, {WITHOUT}")


def load_key(path: Path) -> bytes:
    """The key of the cache's files: from the environment, or from its file, which is made on first use for its owner
    alone."""
    if (given := os.environ.get(KEY_VARIABLE)) is not None:
        return parse_key(given.strip())
    return own_secret(path, "key")


def parse_key(text: str) -> bytes:
    """32 bytes as 64 hex digits or in base64."""
    key = b""
    with suppress(ValueError):
        if len(text) == 2 * SECRET_BYTES:
            key = bytes.fromhex(text)
        else:
            key = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    if len(key) != SECRET_BYTES:
        raise StartError(f"{KEY_VARIABLE} must be {SECRET_BYTES} bytes: {2 * SECRET_BYTES} hex digits, or base64.")
    return key


def _unread(error: Exception) -> bool:
    """Whether it is the file's own bytes that couldn't be read."""
    return getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
