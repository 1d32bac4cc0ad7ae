"""What `--capture` writes, and what it never does to a request."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.books import wait_for
from tests.api.house import MODEL, House, Open

from headstart import server
from headstart.accounts import Accounts
from headstart.api.capture import Capture
from headstart.audit.call import Call
from headstart.audit.logs import read
from headstart.audit.replay import Prompts, Replay
from headstart.cache.index import PrefixIndex
from headstart.config import Config, load
from headstart.engine.fake import FakeEngine
from headstart.errors import StartError
from headstart.types import Usage

PREFIX = "A rule that everybody keeps, whatever the case may be.\n" * 150
ROW = Usage(1.0, "acme", "", MODEL, "responses", "completed", 0.1, "resp_1")
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


def wait_for_line(path: Path, id: str) -> Any:
    """The line of a response; it is written behind the answer."""
    wait_for(lambda: f'"id":"{id}"' in path.read_text() and path.read_text().endswith("\n"))
    return next(line for line in lines(path) if line["id"] == id)


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
        house.client().responses.create(model=MODEL, input="")
    assert {line["request"]["input"] for line in lines(path)} == {"Hello"}, "nor a shorter one"
    assert 1 <= len(lines(path)) < 8
    assert path.stat().st_size <= 1500
    assert [record.message.count("is full") for record in caplog.records if "capture" in record.message] == [1]


def test_a_disk_that_fails_fails_no_request(open_house: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every request is answered; what is lost is counted, and logged once."""
    capture = Capture(tmp_path / "capture.jsonl", 2**30)
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), capture._file)
    with open_house(capture=capture) as house:
        for _ in range(3):
            assert house.client().responses.create(model=MODEL, input="Hello").status == "completed"
    capture.close()
    assert capture.dropped == 3
    assert [record.message.count("No space left") for record in caplog.records] == [1, 0]
    assert "3 requests could not be captured" in caplog.text


def test_a_disk_that_stalls_delays_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What waits is bounded in bytes, however few the requests are, and a shutdown doesn't wait for ever."""
    read, write = os.pipe()
    capture = Capture(tmp_path / "capture.jsonl", 2**30, most_waiting=500_000)
    os.dup2(write, capture._file)
    os.close(write)
    for _ in range(4):
        capture.take(ROW, json.dumps({"input": "x" * 200_000}).encode(), (), "interval")
    capture.close(0.05)
    assert 1 <= capture.dropped <= 2, "one may be on its way to the disk, two wait"
    assert caplog.text.count("some are left out") == caplog.text.count("doesn't answer") == 1
    os.close(read)  # ends the thread
    capture.close()


def test_half_a_line_costs_no_other(captured: Captured, tmp_path: Path) -> None:
    """A process that was killed may have left one; the next line begins on its own."""
    path = tmp_path / "capture.jsonl"
    path.touch(0o600)
    path.write_text('{"headstart_capture": 1, "ti')
    with captured() as (house, _):
        house.client().responses.create(model=MODEL, input="Hello")
    half, line = path.read_text().splitlines()
    assert half == '{"headstart_capture": 1, "ti'
    assert json.loads(line)["request"]["input"] == "Hello"


def test_a_body_stays_as_it_was_sent(captured: Captured) -> None:
    """The order of its keys and how its numbers are written; only line breaks between them go."""
    body = b'{\r\n "temperature": 1.50,\n "input": "a\\nb",\n\n "model": "%b"\n}' % MODEL.encode()
    with captured() as (house, path):
        headers = {"authorization": f"Bearer {house.keys['acme']}", "content-type": "application/json"}
        assert httpx2.post(f"{house.url}/v1/responses", content=body, headers=headers).status_code == 200
    (line,) = path.read_bytes().splitlines()
    assert b'{   "temperature": 1.50,  "input": "a\\nb",   "model": ' in line
    assert json.loads(line)["request"]["input"] == "a\nb"


def test_what_is_billed_is_captured(captured: Captured) -> None:
    """Writes of breakpoint models by their life, as `usage` has them; the cause as the explanation has it."""
    with captured() as (house, path):
        client = house.client()
        for ttl in ("30m", "12h"):
            told = client.responses.create(
                model="gpt-5.6", input=f"{ttl} {PREFIX}", extra_body={"prompt_cache_options": {"ttl": ttl}}
            )
            details = told.to_dict()["usage"]["input_tokens_details"]  # type: ignore[index]
            split = details["cache_write_tokens_details"]  # type: ignore[index]
            line = wait_for_line(path, told.id)
            assert line["generation"] == "breakpoint"
            assert line["usage"]["written_30m"] == split["ttl_30m_tokens"]
            assert line["usage"]["written_12h"] == split["ttl_12h_tokens"]
            assert line["usage"][f"written_{ttl}"] >= 1024
            explained = house.get(f"/v1/responses/{told.id}/cache").json()
            assert line["cause"] == explained["miss"]["cause"]


def test_a_servers_end_writes_all(make_pipeline: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The application's end closes the capture."""
    config = Config(data_dir=str(tmp_path / "data"), capture=str(tmp_path / "capture.jsonl"))
    keys = server.prepare(config)
    capture = server.open_capture(config)
    assert capture is not None
    app = server.build_app(
        config,
        make_pipeline(FakeEngine(PrefixIndex(2**20))),
        keys,
        server.open_store(config, keys),
        Accounts(config, b"\1" * 32),
        capture,
    )

    async def live() -> None:
        async with app.router.lifespan_context(app):
            for _ in range(100):
                capture.take(ROW, b'{"input": "Hello"}', (), "interval")

    asyncio.run(live())
    assert len(lines(capture.path)) == 100
    capture.take(ROW, b"{}", (), "interval")
    assert capture.dropped == 1, "it is closed"


def test_off_by_default() -> None:
    """Prompts are kept only where somebody says so."""
    assert Config().capture == ""
    assert server.open_capture(Config()) is None


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """It says what to do; so does a directory that isn't there."""
    path = tmp_path / "open.jsonl"
    path.touch(0o644)
    os.chmod(path, 0o644)
    with pytest.raises(StartError, match="chmod 600"):
        Capture(path, 100)
    with pytest.raises(StartError, match="can't be written"):
        Capture(tmp_path / "none" / "file", 100)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(StartError, match="not a plain file"):
        Capture(tmp_path / "pipe", 100)


def test_it_is_refused_before_a_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the size that it may have, when the configuration is read."""
    monkeypatch.setattr(server, "build_pipeline", None)
    config = Config(data_dir=str(tmp_path / "data"), port=0, capture=str(tmp_path / "none" / "file"))
    with pytest.raises(StartError, match="The capture"):
        server.serve(config)
    with pytest.raises(StartError, match="'much' is not a size"):
        load(None, {"capture_max": "much"})
