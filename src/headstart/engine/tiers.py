"""What is kept outside the context: in RAM, and behind it on disk, as the index says."""

from __future__ import annotations

from collections import Counter

from headstart.engine.blocks.base import Disk, State
from headstart.engine.blocks.ram import RamTier
from headstart.engine.index import Index

NOTED_SECONDS = 1.0
"""How often it is noted on disk which entries were used: what a crash may lose of that."""
RETRY_SECONDS = 10.0
"""How often what could not be written is tried again."""
FLUSH_SECONDS = 20.0


class Tiers:
    """The bytes to an index: what it counts is here, and what it drops isn't. For one thread, which waits for the disk
    in `load` alone."""

    def __init__(self, index: Index, disk: Disk | None = None) -> None:
        self.index, self.disk = index, disk
        self.ram = RamTier()
        self._under_way: Counter[bytes] = Counter()
        self._noted = self._retried = 0.0

    def load(self, now: float) -> None:
        """Know again what is on disk."""
        if self.disk is not None:
            self.disk.flush(FLUSH_SECONDS)
            self.disk.completed()
            self._under_way.clear()
            self.index.restore(self.disk.load(), now)
            self.drop()

    def keep(self, digest: bytes, data: State) -> bool:
        """Have a block in RAM; False if there is no room for it."""
        stored = self.index.store(digest, data.nbytes)
        self.drop()
        if stored:
            self.ram.put(digest, data)
        return stored

    def write_behind(self, digest: bytes) -> None:
        """Have a block of RAM written to disk, if it is to be there."""
        block = self.index.begin_writing(digest) if self.disk is not None else None
        if self.disk is not None and block is not None:
            self._under_way[digest] += 1
            self.disk.write(block, self.ram.get(digest))

    def tidy(self, now: float) -> None:
        """Let go of what has expired; take note of what was written, and have noted on disk what was used."""
        if self.disk is not None:
            self._attend(self.disk, now)
        self.index.expire(now)
        self.drop()

    def finish(self) -> None:
        """Before the end: what could not be written is tried once more, and all that was used is noted."""
        if self.disk is not None:
            self.disk.flush(FLUSH_SECONDS)
            self._settle(self.disk)
            self._retry()
            self.note()

    def _settle(self, disk: Disk) -> None:
        for digest, done in disk.completed():
            self._under_way[digest] -= 1
            if not self._under_way[digest]:  # else it was dropped meanwhile, and is written anew
                del self._under_way[digest]
                self.index.saved(digest, done=done)

    def _retry(self) -> None:
        for digest in self.index.unsaved():
            if self.index.is_stored(digest):
                self.write_behind(digest)

    def _attend(self, disk: Disk, now: float) -> None:
        self._settle(disk)
        for selection in disk.commands():
            if not selection.expired_only:
                self.index.purge(selection.owns)
        self.drop()
        if abs(now - self._noted) >= NOTED_SECONDS:
            self._noted = now
            self.note()
        if abs(now - self._retried) >= RETRY_SECONDS:
            self._retried = now
            self._retry()

    def note(self) -> None:
        """Have noted on disk what was used."""
        if self.disk is not None:
            self.disk.update(self.index.changes())

    def drop(self) -> None:
        """Free what the index no longer counts."""
        drops = self.index.drops()
        self.ram.drop(drops.ram)
        if self.disk is not None and drops.disk:
            self.disk.remove(drops.disk)

    def clear(self, now: float) -> None:
        """Forget all state; what is on disk is as good as before."""
        self.index.clear()
        self.ram.clear()
        self.load(now)
