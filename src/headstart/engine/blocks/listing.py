"""What a command line asks of a cache on disk, beside the server that uses it or without one. Needs no key."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, NamedTuple

from headstart.engine.blocks.catalogue import (
    MIGRATIONS,
    RECORDS,
    Catalogue,
    Record,
    Selection,
    connect,
    expiry,
    read_owners,
    record_of,
    version,
)
from headstart.engine.blocks.files import remove_files
from headstart.errors import StartError
from headstart.types import Namespace

CATALOGUE, BLOCKS, LOCK = "catalogue.db", "blocks", "lock"
"""What is in a cache's directory."""
EVERYTHING = Selection()
GRACE = 1.0
"""Seconds for which the lock is tried: somebody may only be looking whether it is held."""


class InUse(Exception):
    """Another process holds the lock; says which."""


class Entry(NamedTuple):
    """An entry on disk: `stop` tokens, of which `size` bytes of state are in its own last block. `model` is what the
    file said of itself, or its fingerprint. Times are Unix times; `expires` may be inf."""

    owner: Namespace
    stop: int
    size: int
    written: float
    used: float
    expires: float
    promised: bool
    model: str


class Totals(NamedTuple):
    """What is held. `tokens` are those of all blocks, each once; `shared` those of the prefixes that no other goes on
    from: divided by `tokens`, how many of them a token serves on average."""

    blocks: int = 0
    bytes: int = 0
    tokens: int = 0
    entries: int = 0
    promised: int = 0
    shared: int = 0


class Live(NamedTuple):
    """Figures that a running server published of one model."""

    model: str
    pid: int
    time: float
    stats: dict[str, Any]


class Listing:
    """A cache's catalogue as it is now, opened without a lock; `with Listing(path) as listing`. Raises `StartError`
    where there is none that can be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _readable(path):
            if not (path / CATALOGUE).exists():
                raise StartError(f"There is no disk cache in {path}.")
            self._connection = connect(path / CATALOGUE, read_only=True)
            if version(self._connection) > len(MIGRATIONS):
                raise StartError(f"The disk cache in {path} was written by a newer Headstart. Use that one.")

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def records(self) -> Iterator[tuple[str, Record]]:
        """Every block, with what its model's file said of itself, or its fingerprint."""
        with _readable(self.path):
            names = {
                number: description or bytes(fingerprint).hex()[:16]
                for number, description, fingerprint in self._connection.execute(
                    "SELECT id, description, fingerprint FROM models"
                )
            }
            owners = read_owners(self._connection)
            for number in sorted(names):
                for row in self._connection.execute(RECORDS, (number,)):
                    if record := record_of(row, owners):
                        yield names[number], record

    def entries(self, selection: Selection = EVERYTHING, now: float = 0.0) -> list[Entry]:
        """The entries of a selection that live at `now`, or that have expired by then, the one used last first."""
        found = []
        for model, (_, size, block) in self.records():
            until = expiry(block)
            if block.written is None or until is None or not selection.owns(block.owner):
                continue
            if (until <= now) is selection.expired_only:
                times = (block.written, block.used, until)
                found.append(Entry(block.owner, block.stop, size, *times, block.life.promised, model))
        return sorted(found, key=lambda entry: entry.used, reverse=True)

    def totals(self, selection: Selection = EVERYTHING, now: float = 0.0) -> Totals:
        """What a selection holds; entries that have expired by `now` don't count."""
        records = [(model, record) for model, record in self.records() if selection.owns(record.block.owner)]
        stops = {(model, record.block.digest): record.block.stop for model, record in records}
        parents = {(model, record.block.parent) for model, record in records}
        blocks = size = tokens = entries = promised = shared = 0
        for model, record in records:
            block, until = record.block, expiry(record.block)
            blocks, size = blocks + 1, size + record.size
            tokens += block.stop - stops.get((model, block.parent or b""), 0)
            if until is not None and until > now:
                entries, promised = entries + 1, promised + block.life.promised
                shared += block.stop if (model, block.digest) not in parents else 0
        return Totals(blocks, size, tokens, entries, promised, shared)

    def live(self) -> list[Live]:
        """What a server published last; old figures where none runs (`in_use`)."""
        query = (
            "SELECT models.description, models.fingerprint, live.pid, live.time, live.stats "
            "FROM live JOIN models ON models.id = live.model ORDER BY live.model"
        )
        with _readable(self.path):
            return [
                Live(description or bytes(fingerprint).hex()[:16], pid, at, json.loads(stats))
                for description, fingerprint, pid, at, stats in self._connection.execute(query)
            ]


def in_use(path: Path) -> bool:
    """Whether a server uses the cache now."""
    if not (path / LOCK).exists():
        return False
    try:
        os.close(lock(path, patience=0.0))
    except InUse:
        return True
    return False


def lock(path: Path, *, patience: float = GRACE) -> int:
    """Take the cache's lock, which is held until the descriptor is closed. Raises `InUse`, OSError."""
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    while True:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                pid = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
                os.close(descriptor)
                raise InUse(f"process {pid}" if pid.isdecimal() else "another process") from None
            time.sleep(0.05)
        else:
            return descriptor


def ask(path: Path, selection: Selection) -> Callable[[], bool]:
    """Ask the server that uses the cache to clear a selection. What is returned says whether it has heard."""
    with _readable(path):
        catalogue = Catalogue(path / CATALOGUE)
        number = catalogue.command(selection)
        catalogue.close()

    def heard() -> bool:
        with _readable(path):
            connection = connect(path / CATALOGUE, read_only=True)
            waiting = connection.execute("SELECT 1 FROM commands WHERE id = ?", (number,)).fetchone()
            connection.close()
            return waiting is None

    return heard


def clear(path: Path, selection: Selection, now: float) -> Totals:
    """Remove a selection's blocks where no server uses the cache (`InUse` is raised where one does). What was
    removed."""
    with _readable(path):
        descriptor = lock(path)
        try:
            catalogue = Catalogue(path / CATALOGUE)
            try:
                gone: list[Record] = []
                for number in catalogue.models():
                    records, _ = catalogue.records(number)
                    expired = set(catalogue.expired(number, now)) if selection.expired_only else None
                    gone += [
                        record
                        for record in records
                        if selection.owns(record.block.owner) and (expired is None or record.name in expired)
                    ]
                with catalogue.write():
                    catalogue.delete(record.name for record in gone)
                remove_files(path / BLOCKS, (record.name for record in gone))
                catalogue.drop_unused()
            finally:
                catalogue.close()
        finally:
            os.close(descriptor)
    entries = sum(record.block.written is not None for record in gone)
    return Totals(len(gone), sum(record.size for record in gone), entries=entries)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as error:
        raise StartError(
            f"The disk cache in {path} can't be read: {error}. If its index is damaged, the next start of a server "
            "replaces it."
        ) from error
