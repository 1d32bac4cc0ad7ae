"""Answered requests, each a line of a file, for `headstart audit`: prompts and all, so only where the operator asks.

    {"headstart_capture": 1, "time": …, "endpoint": "responses", "organisation": "acme", "generation": "interval",
     "request": {…}, "id": "resp_…", "usage": {"input": …, "cached": …, "written_30m": …, …, "output": …}, "cause": …}

A thread writes; no request waits for it, or fails because of it.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headstart.errors import StartError
from headstart.store.responses import Item
from headstart.types import Generation, Usage

VERSION = 1
MOST_WAITING = 64 * 2**20
"""Bytes of requests that wait to be written; more are dropped."""
ROW_BYTES = 1_024
"""What a request counts for there beside its body."""
LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")
"""JSON has them between its tokens only: in a string they are escaped."""

log = logging.getLogger("headstart.api")


class _Line(NamedTuple):
    row: Usage
    body: bytes
    earlier: Sequence[Item]
    generation: Generation

    @property
    def size(self) -> int:
        return ROW_BYTES + len(self.body) + sum(len(item.body) for item in self.earlier)


class Capture:
    """Appends to the file at `path`, which is made for its owner alone, until it would have more than `most` bytes.

    `dropped` counts the requests that could not be captured. Raises `StartError` if the file can't be used.
    """

    def __init__(self, path: Path, most: int, most_waiting: int = MOST_WAITING) -> None:
        self.path, self.dropped = path, 0
        self._most, self._most_waiting = most, most_waiting
        self._file, self._size, self._torn = _opened(path)
        self._lines: deque[_Line] = deque()
        self._changed = threading.Condition()
        self._waiting, self._closing, self._full = 0, False, False
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="headstart-capture", daemon=True)
        self._thread.start()

    def take(self, row: Usage, body: bytes, earlier: Sequence[Item], generation: Generation) -> None:
        """An answered request: its row, its body as it came, and the items that it goes on from. Never waits."""
        if self._full:
            return
        line = _Line(row, body, earlier, generation)
        with self._changed:
            fits = not self._closing and (not self._lines or self._waiting + line.size <= self._most_waiting)
            if fits:
                self._lines.append(line)
                self._waiting += line.size
                self._changed.notify()
        if not fits:
            self._drop("slow", "Requests are answered faster than they can be captured: some are left out.")

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, for so many seconds at most, and close the file. Idempotent."""
        with self._changed:
            again, self._closing = self._closing, True
            self._changed.notify()
        self._thread.join(timeout)
        if again:
            return
        if self._thread.is_alive():
            log.error(
                "The capture %s doesn't answer: %d requests that waited for it are lost.", self.path, self._left()
            )
        if self.dropped:
            log.warning("%d requests could not be captured.", self.dropped)

    def _left(self) -> int:
        with self._changed:
            return len(self._lines) + 1  # and the one that is being written

    # ----------------------------------------------------------------------------------------------- the thread's

    def _run(self) -> None:
        try:
            while (line := self._next()) is not None:
                try:
                    self._write(line)
                except Exception as error:  # nobody else's business: the answer is given
                    reason = getattr(error, "strerror", None) or type(error).__name__
                    self._drop("failed", f"The capture {self.path} can't be written: {reason}.")
        finally:
            os.close(self._file)

    def _next(self) -> _Line | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closing)
            if not self._lines:
                return None
            line = self._lines.popleft()
            self._waiting -= line.size
            return line

    def _write(self, line: _Line) -> None:
        if self._full:
            return
        data = (b"\n" if self._torn else b"") + msgspec.json.encode(_captured(line)) + b"\n"
        if self._size + len(data) > self._most:
            self._full = True
            log.warning("The capture %s is full (%s bytes): no more is captured.", self.path, f"{self._most:,}")
            return
        rest = memoryview(data)
        while rest:
            written = os.write(self._file, rest)
            rest = rest[written:]
            self._size += written
            self._torn = bool(rest)  # what can't be written now leaves half a line, and the next begins one of its own

    def _drop(self, kind: str, message: str) -> None:
        """Count a request that is left out; the first for each kind of reason is logged."""
        with self._changed:
            self.dropped += 1
            first = kind not in self._told
            self._told.add(kind)
        if first:
            log.warning("%s", message)


def _opened(path: Path) -> tuple[int, int, bool]:
    """The file, its size, and whether it ends within a line, as a process that was killed may leave it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise StartError(f"The capture {path} is not a plain file.")
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise StartError(f"The capture {path} has prompts and can be read by others; run: chmod 600 {path}")
            torn = found.st_size > 0 and os.pread(file, 1, found.st_size - 1) != b"\n"
        except BaseException:
            os.close(file)
            raise
    except OSError as error:
        raise StartError(f"The capture {path} can't be written: {error.strerror or error}.") from error
    return file, found.st_size, torn


def _captured(line: _Line) -> dict[str, Any]:
    row = line.row
    return {
        "headstart_capture": VERSION,
        "time": row.time,
        "endpoint": row.endpoint,
        "organisation": row.organisation,
        "generation": line.generation,
        "request": _whole(line.body, line.earlier),
        "id": row.id,
        "usage": {
            "input": row.input,
            "cached": row.cached,
            "written_30m": row.written_30m,
            "written_12h": row.written_12h,
            "output": row.output,
        },
        "cause": row.cause,
    }


def _whole(body: bytes, earlier: Sequence[Item]) -> msgspec.Raw | dict[str, Any]:
    """The body on one line; with what `previous_response_id` stands for in its place, before the rest of `input`."""
    text = body.decode(errors="replace").encode().translate(LINE_BREAKS)  # in what nobody reads, anything may stand
    if not earlier:
        return msgspec.Raw(text)
    fields: dict[str, Any] = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    del fields["previous_response_id"]
    given = msgspec.json.decode(fields.get("input", b"null"), type=list[msgspec.Raw] | str | None)
    own = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    return fields | {"input": [*(msgspec.Raw(item.body) for item in earlier), *own]}
