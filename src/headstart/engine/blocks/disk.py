"""The disk tier of a model: blocks as files, written behind the answer and loaded ahead of a prompt.

    write, update, remove ──queue──> writer: files first, then one transaction with their rows
    fetch ─────────────────────────> two loaders: read, decrypt, check

A row is committed when its file is there, and deleted before it goes. So a process that is killed leaves at worst files
that no row names, which the next start removes.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from headstart.engine.blocks.catalogue import Catalogue, Selection, rooted, unexpired
from headstart.engine.blocks.files import OVERHEAD, Damaged, address, remove_files
from headstart.engine.blocks.writer import Job, Place, Removal, State, Task, Writer
from headstart.types import StoredBlock

log = logging.getLogger(__name__)

LOADERS = 2
LAST_SECONDS = 1.0
"""What a thread is given to end what it does just now."""
BATCH_SECONDS = 0.05
"""What is written within this time has its rows in one transaction."""
LOOK_SECONDS = 1.0
"""Seconds between two looks for commands."""
QUIET_SECONDS = 60.0
"""At least so long between two log lines on blocks that can't be read."""


class Fetch:
    """A block that is being loaded. `data` is None once it is `done`: it can't be read and counts as lost."""

    __slots__ = ("data", "digest", "done")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.data: State | None = None
        self.done = False


class DiskTier:
    """`base.Disk`. All but `load`, `flush` and `close` return at once; any thread may call, one at a time.

    `wake` is called from the tier's threads when a write or a fetch has ended. `clock` gives Unix time.
    """

    def __init__(self, place: Place, *, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        self.wake = wake
        self._place, self._clock, self._files = place, clock, place.files
        self._lock = threading.Lock()
        self._work, self._loads, self._idle = (threading.Condition(self._lock) for _ in range(3))
        self._tasks: deque[Task] = deque()
        self._handed = self._finished = 0  # tasks
        self._pending: dict[bytes, Job] = {}
        self._pending_bytes = 0
        self._held: dict[bytes, tuple[int, int]] = {}  # stop and size of what has a row and a file
        self._wanted: deque[Fetch] = deque()
        self._loading: dict[bytes, Fetch] = {}
        self._completed: list[tuple[bytes, bool]] = []
        self._commands: list[Selection] = []
        self._stats = ""
        self._loaded = self._closing = False
        self._told = -math.inf
        self._writer = Writer(place, clock=clock, held=self._held.get, end=self._end)
        threads = [("writer", self._write_behind), *((f"loader-{n + 1}", self._load_ahead) for n in range(LOADERS))]
        self._threads = [
            threading.Thread(target=run, name=f"headstart-disk-{name}", daemon=True) for name, run in threads
        ]
        for thread in self._threads:
            thread.start()

    # ----------------------------------------------------------------------------------------------- the caller's side

    @property
    def pending_bytes(self) -> int:
        """Bytes of blocks that were handed in and whose writing hasn't ended."""
        return self._pending_bytes

    @property
    def failing(self) -> str | None:
        """Why the last write failed; None where it didn't. The next that succeeds says so: go on handing them in."""
        return self._writer.failing

    def load(self) -> list[StoredBlock]:
        """Blocks on disk that can be read and that an unexpired entry needs, parents first, and nothing else stays
        there. Blocks themselves aren't read. Times in the future are now. Blocking."""
        try:
            catalogue = Catalogue(self._place.catalogue, key=self._place.seals)
            try:
                return self._load(catalogue)
            finally:
                catalogue.close()
        except (sqlite3.Error, OSError) as error:
            log.warning("The index of the disk cache can't be read: %s. The cache on disk starts empty.", error)
            return []

    def _load(self, catalogue: Catalogue) -> list[StoredBlock]:
        place = self._place
        records, names = catalogue.records(place.model, place.fingerprint)
        rows = {record.name: record for record in records}
        if self._loaded:
            found = [record for record in records if record.block.digest in self._held]
        else:
            found = [record for record in records if place.sizes.get(record.name) == record.size + OVERHEAD]
        whole = rooted(found)
        if lost := len(names) + (0 if self._loaded else len(records) - len(whole)):
            log.warning("Blocks of the disk cache are damaged or missing: %d can't be used.", lost)
        kept = unexpired(whole, self._clock())
        left = {record.name for record in kept}
        gone = [name for name in (*names, *rows) if name not in left]
        changed = [record for record in kept if record != rows[record.name]]
        if gone or changed:
            with catalogue.write():
                catalogue.delete(gone)
                catalogue.put(place.model, place.fingerprint, changed)
            remove_files(self._files.path, (name for name in gone if isinstance(name, bytes)))
        for name in rows:
            place.sizes.pop(name, None)
        with self._lock:
            self._held.clear()
            self._held.update((record.block.digest, (record.block.stop, record.size)) for record in kept)
            self._loaded = True
        return [record.block for record in kept]

    def write(self, block: StoredBlock, data: State) -> None:
        """Write a block; parents are handed in before children. `data` must not change until `completed` names it. A
        block that is under way already is written once."""
        with self._lock:
            if self._closing:
                self._completed.append((block.digest, False))
            elif block.digest in self._pending:
                self._hand([block])
            else:
                job = self._pending[block.digest] = Job(block, data)
                self._pending_bytes += data.nbytes
                self._hand(job)

    def update(self, blocks: Sequence[StoredBlock]) -> None:
        """The entries that end with these blocks have changed. Those that aren't on disk are left out."""
        if blocks:
            with self._lock:
                self._hand(list(blocks))

    def remove(self, digests: Iterable[bytes]) -> None:
        """Remove blocks. Those that aren't written yet won't be: they end as not done."""
        with self._lock:
            self._remove(list(digests))

    def _remove(self, digests: list[bytes]) -> None:
        for digest in digests:
            self._held.pop(digest, None)
            if (job := self._pending.pop(digest, None)) is not None:
                job.cancelled = True
        if digests:
            self._hand(Removal(digests))

    def fetch(self, digest: bytes) -> Fetch:
        """Load a block, or join whoever is loading it."""
        with self._lock:
            if (fetch := self._loading.get(digest)) is not None:
                return fetch
            fetch = Fetch(digest)
            if (job := self._pending.get(digest)) is not None:
                fetch.data = job.data
            elif digest in self._held and not self._closing:
                self._loading[digest] = fetch
                self._wanted.append(fetch)
                self._loads.notify()
                return fetch
            fetch.done = True
            return fetch

    def completed(self) -> list[tuple[bytes, bool]]:
        """Blocks whose writing has ended since the last call, and whether they are on disk."""
        with self._lock:
            found, self._completed = self._completed, []
        return found

    def publish(self, stats: dict[str, int | float | str]) -> None:
        """Figures for `headstart cache stats`, written when there is nothing else to do. The latest count."""
        text = json.dumps(stats)
        with self._lock:
            self._stats = text
            self._work.notify()

    def commands(self) -> list[Selection]:
        """What `headstart cache clear` asked for since the last call."""
        with self._lock:
            found, self._commands = self._commands, []
        return found

    def hear(self, commands: list[Selection]) -> None:
        """Have `commands` return these, too."""
        with self._lock:
            self._commands += commands
        self.wake()

    def flush(self, timeout: float) -> bool:
        """Wait, in seconds, until all that was handed in is on disk; whether it is."""
        with self._lock:
            handed = self._handed
            ended = self._idle.wait_for(lambda: self._finished >= handed, timeout)
            return ended and self.failing is None

    def close(self, timeout: float = 20.0) -> None:
        """Flush, and end the threads. What is handed in later isn't written."""
        deadline = time.monotonic() + timeout
        self.flush(timeout)
        with self._lock:
            self._closing = True
            if self._pending:
                blocks, size = len(self._pending), self._pending_bytes / 1e6
                log.warning("The disk is too slow: %d blocks (%.0f MB) are given up unwritten.", blocks, size)
            self._tasks.clear()
            self._work.notify_all()
            self._loads.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()) + LAST_SECONDS)
        if not any(thread.is_alive() for thread in self._threads):  # else nobody else may have the directory yet
            self._place.left(self)

    def _hand(self, task: Task) -> None:
        if not self._closing:
            self._tasks.append(task)
            self._handed += 1
            self._work.notify()

    # ---------------------------------------------------------------------------------------------- the writer's thread

    def _write_behind(self) -> None:
        writer, looked = self._writer, 0.0
        while self._await_work():
            began, taken = time.monotonic(), 0
            while not writer.full and time.monotonic() - began < BATCH_SECONDS:
                with self._lock:
                    task = self._tasks.popleft() if self._tasks else None
                if task is None:
                    break
                writer.carry_out(task)
                taken += 1
            writer.commit()
            with self._lock:
                self._finished += taken
                self._idle.notify_all()
            if began - looked > LOOK_SECONDS:
                looked = began
                if commands := writer.commands():
                    self._place.hear(commands)
            if self._stats and not self._tasks:
                with self._lock:
                    stats, self._stats = self._stats, ""
                writer.publish(stats)
        writer.close()

    def _await_work(self) -> bool:
        """Wait until there is something to do, or to look for; False when the tier closes."""
        with self._lock:
            self._work.wait_for(lambda: bool(self._tasks or self._stats or self._closing), LOOK_SECONDS)
            return not self._closing

    def _end(self, job: Job, done: bool) -> None:
        digest = job.block.digest
        with self._lock:
            done = done and not job.cancelled
            if self._pending.get(digest) is job:
                del self._pending[digest]
            if done:
                self._held[digest] = (job.block.stop, job.data.nbytes)
            self._pending_bytes -= job.data.nbytes
            self._completed.append((digest, done))
        self.wake()

    # -------------------------------------------------------------------------------------------- the loaders' threads

    def _load_ahead(self) -> None:
        while True:
            with self._lock:
                self._loads.wait_for(lambda: bool(self._wanted or self._closing))
                if not self._wanted:
                    return
                fetch = self._wanted.popleft()
                held = None if self._closing else self._held.get(fetch.digest)
            data = None if held is None else self._read(fetch.digest, *held)
            with self._lock:
                fetch.data, fetch.done = data, True
                self._loading.pop(fetch.digest, None)
            self.wake()

    def _read(self, digest: bytes, stop: int, size: int) -> State | None:
        fingerprint = self._place.fingerprint
        name = self._files.name(fingerprint, digest)
        try:
            return self._files.read(name, address(fingerprint, digest, stop), size)
        except Exception as error:  # the thread's edge: whatever it was, somebody waits for the end
            reason = error.strerror or error if isinstance(error, OSError) else error
            damaged = isinstance(error, Damaged | FileNotFoundError)
            with self._lock:
                held = digest in self._held
                if damaged and held:
                    self._remove([digest])
                tell = held and time.monotonic() - self._told > QUIET_SECONDS
                if tell:
                    self._told = time.monotonic()
        if tell:
            log.warning("A block of the disk cache can't be read: %s. It is computed again.", reason or "no memory")
        return None
