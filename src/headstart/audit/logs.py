"""Files of logs, line by line: plain, .gz or .zst by their first bytes, or standard input; in bounded memory."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from headstart.audit.call import Call, Skipped
from headstart.audit.formats.known import FORMATS, calls_of

MOST_LINE = 32 * 1024 * 1024
"""Bytes of a line; a longer one is skipped."""
MOST_DOCUMENT = 256 * 1024 * 1024
"""Bytes of a file that is one JSON document rather than lines."""


def read(
    path: Path, format: str | None = None, tell: Callable[[int], None] = lambda _: None
) -> Iterator[Call | Skipped]:
    """The requests of a file, and the lines that can't be read. `tell` hears of bytes read. Raises `OSError`, and
    `EOFError` or `ValueError` for a packed file that is damaged."""
    with opened(path) as (raw, lines):
        before = 0
        for number, line in _numbered(lines):
            at = raw.tell() if raw is not None and raw.seekable() else before + len(line)
            tell(at - before)
            before = at
            yield from _read(number, line, format)


def _read(number: int, line: bytes, format: str | None) -> Iterator[Call | Skipped]:
    if len(line) > MOST_LINE:
        yield Skipped(number, f"The line has more than {MOST_LINE:,} bytes, the most that is read.")
        return
    try:
        value: Any = msgspec.json.decode(line)
    except UnicodeDecodeError:
        yield Skipped(number, "It is not UTF-8.")
        return
    except RecursionError:
        yield Skipped(number, "It is nested too deeply.")
        return
    except msgspec.DecodeError as error:
        yield Skipped(number, f"It is no JSON: {error}")
        return
    items = value if isinstance(value, list) else [value]
    for item in items:
        yield from calls_of(item, number, format)


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes] | None, IO[bytes]]]:
    """The file, if its place can be told, and its unpacked bytes."""
    if str(path) == "-":
        with _unpacked(io.BufferedReader(sys.stdin.buffer)) as lines:  # type: ignore[arg-type]  # reads as any
            yield None, lines
        return
    with path.open("rb") as file, _unpacked(file) as lines:
        yield file, lines


@contextmanager
def _unpacked(file: io.BufferedReader) -> Iterator[IO[bytes]]:
    start = file.peek(4)[:4]
    if start[:2] == b"\x1f\x8b":
        with gzip.open(file) as lines:
            yield lines  # type: ignore[misc]  # a GzipFile reads as any
    elif start == b"\x28\xb5\x2f\xfd":
        import zstandard

        try:
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False) as reader:
                yield io.BufferedReader(reader)
        except zstandard.ZstdError as error:
            raise ValueError(f"The packed data is damaged: {error}") from error
    else:
        yield file


def _numbered(lines: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Every line that isn't empty; of one that is too long, its beginning. A document over several lines is one."""
    number = 0
    while line := lines.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE and not line.endswith(b"\n"):
            while (rest := lines.readline(1 << 20)) and not rest.endswith(b"\n"):
                pass
        if number == 1 and line.strip() in (b"[", b"{"):
            line += lines.read(MOST_DOCUMENT)
        if line.strip():
            yield number, line


__all__ = ["FORMATS", "opened", "read"]
