"""Answered requests, each a line of a file, for `headstart audit`: prompts and all, so only where the operator asks.

    {"headstart_capture": 1, "time": …, "endpoint": "responses", "organisation": "acme", "generation": "interval",
     "request": {…}, "id": "resp_…", "usage": {"input": …, "cached": …, "written_30m": …, …, "output": …}}

A thread writes; no request waits for it, or fails because of it.
"""

from __future__ import annotations

import logging
import os
import queue
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headstart.errors import StartError
from headstart.store.responses import Item
from headstart.types import Generation, Usage

VERSION = 1
MOST_WAITING = 1_000
"""Requests that wait to be written; more are dropped, which is logged."""

log = logging.getLogger("headstart.api")


class _Line(NamedTuple):
    row: Usage
    body: bytes
    earlier: Sequence[Item]
    generation: Generation


class Capture:
    """Appends to the file at `path`, until that has `most` bytes. Raises `StartError` if the file can't be used."""

    def __init__(self, path: Path, most: int) -> None:
        self.path, self._most = path, most
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            found = os.fstat(self._file)
        except OSError as error:
            raise StartError(f"The capture {path} can't be written: {error.strerror or error}.") from error
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.close(self._file)
            raise StartError(f"The capture {path} has prompts and can be read by others; run: chmod 600 {path}")
        self._size = found.st_size
        self._waiting: queue.Queue[_Line | None] = queue.Queue(MOST_WAITING)
        self._told: set[str] = set()
        self._thread = threading.Thread(target=self._write, name="capture", daemon=True)
        self._thread.start()

    def take(self, row: Usage, body: bytes, earlier: Sequence[Item], generation: Generation) -> None:
        """An answered request: its row, its body as it came, and the items that it goes on from. Never waits."""
        try:
            self._waiting.put_nowait(_Line(row, body, earlier, generation))
        except queue.Full:
            self._tell("More requests are answered than can be captured: some are left out.")

    def close(self) -> None:
        """Write what waits. Takes as long as that does."""
        self._waiting.put(None)
        self._thread.join()
        os.close(self._file)

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                data = msgspec.json.encode(_captured(line)) + b"\n"
                if self._size + len(data) > self._most:
                    self._tell(f"The capture {self.path} is full ({self._most:,} bytes): no more is captured.")
                    continue
                start = self._size
                self._size += os.write(self._file, data)
                if self._size - start < len(data):
                    os.ftruncate(self._file, start)  # no half a line
                    self._size = start
                    self._tell(f"The capture {self.path} can't be written: no space left.")
            except Exception as error:  # nobody else's business: the answer is given
                self._tell(f"The capture {self.path} can't be written: {error}")

    def _tell(self, what: str) -> None:
        """Once."""
        if what not in self._told:
            self._told.add(what)
            log.warning("%s", what)


def _captured(line: _Line) -> dict[str, Any]:
    row = line.row
    body: Any = msgspec.Raw(line.body)
    if line.earlier:
        body = msgspec.json.decode(line.body)
        given = body.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
        body["input"] = [*(msgspec.Raw(item.body) for item in line.earlier), *items]
        body.pop("previous_response_id", None)
    return {
        "headstart_capture": VERSION,
        "time": row.time,
        "endpoint": row.endpoint,
        "organisation": row.organisation,
        "generation": line.generation,
        "request": body,
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
