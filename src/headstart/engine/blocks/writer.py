"""What the writer's thread of a disk tier does: files first, then one transaction with their rows."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.engine.blocks.catalogue import Catalogue, Record, Selection
from headstart.engine.blocks.files import BlockFiles, address, remove_files
from headstart.types import StoredBlock

log = logging.getLogger(__name__)

State = npt.NDArray[np.uint8]
BATCH_BYTES = 64 * 2**20
"""A transaction takes in no more than this of new blocks, but for the last."""
PAUSE = 1.0
"""Seconds between two attempts of what failed."""


class Place(NamedTuple):
    """Where tier and cache directory meet: `model` is the model's number in the catalogue; `sizes` are those of all
    files there, by name, as of the start; what `commands` a writer finds goes to every tier; `left` is told of a tier
    that is closed."""

    catalogue: Path
    files: BlockFiles
    seals: bytes
    model: int
    fingerprint: bytes
    sizes: dict[bytes, int]
    hear: Callable[[list[Selection]], None]
    left: Callable[[Any], None]


class Job:
    """A block to be written."""

    __slots__ = ("block", "cancelled", "data")

    def __init__(self, block: StoredBlock, data: State) -> None:
        self.block, self.data = block, data
        self.cancelled = False


class Removal(NamedTuple):
    """Blocks to be removed."""

    digests: list[bytes]


Task = Job | Removal | Sequence[StoredBlock]


class Changes:
    """Rows to be written and deleted in one transaction, by name; the last word counts."""

    def __init__(self) -> None:
        self.puts: dict[bytes, Record] = {}
        self.deletes: dict[bytes, None] = {}
        self.jobs: dict[bytes, Job] = {}
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self.puts or self.deletes)

    def put(self, record: Record) -> None:
        """A row is written."""
        self.deletes.pop(record.name, None)
        self.puts[record.name] = record

    def delete(self, name: bytes) -> None:
        """A row is deleted."""
        self.puts.pop(name, None)
        self.deletes[name] = None


class Writer:
    """Carries out tasks in order and commits their rows, a batch at a time. One thread's own, but for `failing`.

    `held` says of what has a row and a file where it stops and its bytes; `end` is told of every job, and whether its
    block is on disk.
    """

    def __init__(
        self,
        place: Place,
        *,
        clock: Callable[[], float],
        held: Callable[[bytes], tuple[int, int] | None],
        end: Callable[[Job, bool], None],
    ) -> None:
        self._place, self._files, self._clock, self._held, self._end = place, place.files, clock, held, end
        self._catalogue: Catalogue | None = None
        self._changes = Changes()
        self._no_rows: str | None = None
        self._no_blocks: str | None = None
        self._retry = 0.0

    @property
    def failing(self) -> str | None:
        """Why the last write of a block or of its row failed; None where it didn't."""
        return self._no_blocks or self._no_rows

    @property
    def full(self) -> bool:
        """Whether it is time to commit."""
        return self._changes.bytes >= BATCH_BYTES

    def carry_out(self, task: Task) -> None:
        """Do what can be done before the commit."""
        changes, fingerprint = self._changes, self._place.fingerprint
        if isinstance(task, Job):
            self._write_file(task)
        elif isinstance(task, Removal):
            for digest in task.digests:
                changes.delete(self._files.name(fingerprint, digest))
        else:
            for block in task:
                name = self._files.name(fingerprint, block.digest)
                if (put := changes.puts.get(name)) is not None:
                    changes.put(put._replace(block=block))
                elif (held := self._held(block.digest)) is not None:
                    changes.put(Record(name, held[1], block))

    def _write_file(self, job: Job) -> None:
        changes, block, fingerprint = self._changes, job.block, self._place.fingerprint
        name = self._files.name(fingerprint, block.digest)
        if job.cancelled or (self._no_rows and time.monotonic() < self._retry):
            self._end(job, False)
            return
        try:
            self._files.write(name, address(fingerprint, block.digest, block.stop), job.data)
        except Exception as error:  # the thread's edge: whatever it was, the next block may do
            self._note_blocks(getattr(error, "strerror", None) or str(error) or type(error).__name__)
            self._end(job, False)
            return
        if (older := changes.jobs.pop(name, None)) is not None:
            self._end(older, False)
        changes.put(Record(name, job.data.nbytes, block))
        changes.jobs[name] = job
        changes.bytes += job.data.nbytes

    def commit(self) -> None:
        """Write the rows of what was carried out; what failed before is tried again."""
        changes, place = self._changes, self._place
        if not changes or (not changes.jobs and time.monotonic() < self._retry):
            return
        try:
            catalogue = self._open()
            with catalogue.write():
                catalogue.delete(changes.deletes)
                catalogue.put(place.model, place.fingerprint, changes.puts.values())
        except Exception as error:  # the thread's edge
            self._fail(error)
            return
        self._changes = Changes()
        remove_files(self._files.path, changes.deletes)
        if changes.jobs:
            self._note_blocks(None)
        self._note_rows(None)
        for name, job in changes.jobs.items():
            self._end(job, name in changes.puts)

    def _fail(self, error: Exception) -> None:
        """Nothing was committed: new blocks are given up, and what changed of others is kept for the next time."""
        self._rows_failed(error)
        changes, self._changes = self._changes, Changes()
        remove_files(self._files.path, (*changes.jobs, *changes.deletes))
        self._changes.deletes = changes.deletes
        self._changes.puts = {name: put for name, put in changes.puts.items() if name not in changes.jobs}
        for job in changes.jobs.values():
            self._end(job, False)

    def commands(self) -> list[Selection]:
        """What `headstart cache clear` asked for since the last time."""
        try:
            return [] if self._no_rows else self._open().take_commands()
        except (sqlite3.Error, OSError) as error:
            self._rows_failed(error)
            return []

    def publish(self, stats: str) -> None:
        """Write the model's figures, as JSON."""
        try:
            if not self._no_rows:
                self._open().publish(self._place.model, os.getpid(), self._clock(), stats)
        except (sqlite3.Error, OSError) as error:
            self._rows_failed(error)

    def close(self) -> None:
        """Close the catalogue."""
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None

    def _open(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = Catalogue(self._place.catalogue, key=self._place.seals)
        return self._catalogue

    def _rows_failed(self, error: Exception) -> None:
        self.close()
        self._retry = time.monotonic() + PAUSE
        self._note_rows(str(error))

    def _note_rows(self, reason: str | None) -> None:
        before, self._no_rows = self.failing, reason
        self._tell(before)

    def _note_blocks(self, reason: str | None) -> None:
        before, self._no_blocks = self.failing, reason
        self._tell(before)

    def _tell(self, before: str | None) -> None:
        """Log that it begins to fail, or ends to."""
        if self.failing and not before:
            log.warning("The disk cache can't be written: %s. Entries stay in memory.", self.failing)
        if before and not self.failing:
            log.warning("The disk cache can be written again.")
