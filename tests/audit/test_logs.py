"""Logs as they are: packed, damaged, mixed, endless lines; nothing stops the audit of the rest."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
import zstandard

from headstart.audit.call import Call, Skipped
from headstart.audit.logs import MOST_LINE, read

BODY = {"model": "gpt-5.1", "input": "Hello"}
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
CLAUDE = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}


def found(path: Path, format: str | None = None) -> tuple[list[Call], list[Skipped]]:
    """Calls, and what was skipped."""
    both = list(read(path, format))
    return [each for each in both if isinstance(each, Call)], [each for each in both if isinstance(each, Skipped)]


def written(path: Path, *lines: object) -> Path:
    """A log of these lines: bytes as they are, else as JSON."""
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gz", "zst"])
def test_packed_or_not(tmp_path: Path, pack: object) -> None:
    """By its first bytes, whatever it is called."""
    path = tmp_path / "log"
    path.write_bytes(pack(json.dumps(BODY).encode() + b"\n" + json.dumps(CHAT).encode()))  # type: ignore[operator]
    calls, skipped = found(path)
    assert [call.api for call in calls] == ["responses", "chat"]
    assert skipped == []


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named -."""
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(BODY).encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert [call.model for call in found(Path("-"))[0]] == ["gpt-5.1"]


def test_lines_that_cannot_be_read_are_told_with_their_numbers(tmp_path: Path) -> None:
    """Junk, other JSON, deep JSON, a batch's output; the rest is read, in whatever format."""
    deep = b"[" * 5_000 + b"]" * 5_000
    output = {"id": "b", "custom_id": "1", "response": {"status_code": 200}}
    path = written(tmp_path / "log", BODY, b"\xff\xfe\x00", b"{", 7, {"a": 1}, deep, output, b"", CLAUDE)
    calls, skipped = found(path)
    assert [(call.line, call.api) for call in calls] == [(1, "responses"), (9, "messages")]
    assert [each.line for each in skipped] == [2, 3, 4, 5, 6, 7]
    assert "batch's output" in skipped[-1].reason
    assert "'a'" in skipped[3].reason


def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    """It is skipped without being held; the next one is read."""
    long = b'{"model": "gpt-5.1", "input": "' + b"x" * (MOST_LINE + 50) + b'"}'
    calls, skipped = found(written(tmp_path / "log", long, BODY))
    assert [call.line for call in calls] == [2]
    assert "33,554,432" in skipped[0].reason


def test_a_document_over_several_lines(tmp_path: Path) -> None:
    """An array, as exports have it."""
    path = tmp_path / "log.json"
    path.write_text(json.dumps([BODY, CHAT], indent=2))
    assert [call.api for call in found(path)[0]] == ["responses", "chat"]


def test_damaged_packing_is_said(tmp_path: Path) -> None:
    """In words that the command can show."""
    packed = gzip.compress(json.dumps(BODY).encode() * 1000)
    path = tmp_path / "log.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(EOFError):
        found(path)


def test_a_format_that_is_named_is_the_only_one(tmp_path: Path) -> None:
    """Other lines are skipped."""
    calls, skipped = found(written(tmp_path / "log", BODY, CLAUDE), "anthropic")
    assert ([call.line for call in calls], [each.line for each in skipped]) == ([2], [1])
    assert "'anthropic'" in skipped[0].reason
