"""What `--capture` writes, and what it never does to a request."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.api.house import MODEL, House, Open

from headstart.api.capture import Capture
from headstart.audit.call import Call
from headstart.audit.logs import read
from headstart.audit.replay import Prompts, Replay
from headstart.errors import StartError

PREFIX = "A rule that everybody keeps, whatever the case may be.\n" * 150
Captured = Callable[..., Any]


@pytest.fixture
def captured(open_house: Open, tmp_path: Path) -> Captured:
    """A server that captures; afterwards all is written."""

    @contextmanager
    def start(most: int = 2**30) -> Iterator[tuple[House, Path]]:
        path = tmp_path / "capture.jsonl"
        capture = Capture(path, most)
        with open_house(capture=capture) as house:
            yield house, path
        capture.close()

    return start


def lines(path: Path) -> list[dict[str, Any]]:
    """What was written."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_answered_request_is_a_line(captured: Captured) -> None:
    """Both endpoints, streamed or not: the body as it came, and what was read. Only its owner can read the file."""
    with captured() as (house, path):
        client = house.client()
        first = client.responses.create(model=MODEL, input=PREFIX + "One?", metadata={"a": "b"})
        with client.responses.stream(model=MODEL, input=PREFIX + "Two?") as stream:
            stream.until_done()
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": PREFIX + "Three?"}])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    one, two, three = lines(path)
    assert one["request"] == {"model": MODEL, "input": PREFIX + "One?", "metadata": {"a": "b"}}
    assert (one["id"], one["organisation"], one["generation"]) == (first.id, "acme", "interval")
    assert [each["endpoint"] for each in (one, two, three)] == ["responses", "responses", "chat.completions"]
    assert one["usage"]["cached"] == 0
    assert two["usage"]["cached"] == three["usage"]["cached"] >= 1024


def test_a_conversation_is_captured_as_a_whole(captured: Captured) -> None:
    """What `previous_response_id` stands for is in the input, so that the audit counts the same tokens."""
    with captured() as (house, path):
        client = house.client()
        first = client.responses.create(model=MODEL, input=PREFIX + "One?", store=True)
        client.responses.create(model=MODEL, input="Two?", previous_response_id=first.id)
    second = lines(path)[1]["request"]
    assert "previous_response_id" not in second
    assert [item["role"] for item in second["input"]] == ["user", "assistant", "user"]
    replay = Replay(Prompts())
    for call in read(path):
        assert isinstance(call, Call)
        served = replay.take(call)
        assert call.usage is not None
        assert (served.input, served.read) == call.usage[:2]


def test_nothing_of_zero_data_retention_nor_of_what_is_refused(captured: Captured) -> None:
    """The file stays empty."""
    with captured() as (house, path):
        house.client("private").responses.create(model=MODEL, input="Hello")
        with pytest.raises(Exception, match="does not exist"):
            house.client().responses.create(model="none", input="Hello")
    assert lines(path) == []


def test_a_full_file_takes_no_more(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """Whole lines only, one warning, and every request is answered."""
    with captured(1500) as (house, path):
        for _ in range(8):
            assert house.client().responses.create(model=MODEL, input="Hello").status == "completed"
    assert 1 <= len(lines(path)) < 8
    assert path.stat().st_size <= 1500
    assert [record.message.count("is full") for record in caplog.records if "capture" in record.message] == [1]


def test_a_disk_that_fails_fails_no_request(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged, once."""

    def fail(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with captured() as (house, path), monkeypatch.context() as patched:
        patched.setattr("headstart.api.capture.os.write", fail)
        assert house.client().responses.create(model=MODEL, input="Hello").status == "completed"
        while not house.engine.stats().tokens_decoded:
            pass
    assert len(lines(path)) <= 1


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It says what to do; so does a directory that isn't there."""
    path = tmp_path / "open.jsonl"
    path.touch(0o644)
    os.chmod(path, 0o644)
    with pytest.raises(StartError, match="chmod 600"):
        Capture(path, 100)
    with pytest.raises(StartError, match="can't be written"):
        Capture(tmp_path / "none" / "file", 100)
