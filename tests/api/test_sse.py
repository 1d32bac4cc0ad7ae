"""Streams: at once, at the reader's pace, and not for a client that went away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest

from headstart.api.sse import EventStream
from headstart.errors import RequestError
from headstart.types import CacheReport, Delta, Event, Finished, Started


def test_first_delta_comes_at_once(client: openai.OpenAI, server: Any) -> None:
    """The first token is sent when it exists, long before the last."""
    server.engine.delay = 0.1
    begun = time.monotonic()
    with client.responses.create(model=server.model, input="Hello", stream=True) as stream:
        first = next(time.monotonic() for event in stream if event.type == "response.output_text.delta")
        for _ in stream:
            pass
    assert first - begun < 1
    assert time.monotonic() - begun > 1.5


@pytest.mark.parametrize("endpoint", ["responses", "chat"])
def test_client_that_leaves(client: openai.OpenAI, server: Any, served: Any, until: Any, endpoint: str) -> None:
    """Closing the stream frees the engine at once."""
    server.engine.delay = 0.02
    server.engine.output_tokens = 10_000
    before = server.engine.stats().tokens_decoded
    hello: Any = [{"role": "user", "content": "Hello"}]
    stream: Any = (
        client.responses.create(model=server.model, input="Hello", stream=True)
        if endpoint == "responses"
        else client.chat.completions.create(model=server.model, messages=hello, stream=True)
    )
    for _, _ in zip(range(8), stream, strict=False):
        assert server.engine.stats().running == 1
    stream.close()
    until(lambda: server.engine.stats().running == 0)
    assert server.engine.stats().tokens_decoded - before < 100


async def test_async_client_that_leaves(async_client: openai.AsyncOpenAI, server: Any, until: Any) -> None:
    """The same with the asynchronous SDK, while nothing comes from the engine."""
    server.engine.delay = 30
    stream = await async_client.responses.create(model=server.model, input="Hello", stream=True)
    await anext(stream)
    assert server.engine.stats().running == 1
    await stream.close()
    until(lambda: server.engine.stats().running == 0)


def test_slow_reader_holds_the_engine_back(http: httpx2.Client, server: Any, until: Any) -> None:
    """While nobody reads, only what fits the sockets' buffers is taken from the engine."""
    server.engine.output_tokens = 2_000_000
    asked = {"model": server.model, "input": "Hello", "stream": True, "top_logprobs": 20}
    before = server.engine.stats().tokens_decoded
    with http.stream("POST", "/v1/responses", json=asked) as answer:
        next(answer.iter_raw())
        counts = [-1]
        while len(counts) < 100 and (len(counts) < 4 or counts[-1] != counts[-4]):
            time.sleep(0.1)
            counts.append(server.engine.stats().tokens_decoded - before)
    assert counts[-1] < 20_000
    until(lambda: server.engine.stats().running == 0)


class Letters:
    """A script that tells of deltas only."""

    def opening(self) -> bytes:
        """`open`."""
        return b"open"

    def event(self, event: Event) -> bytes:
        """The text."""
        return event.text.encode() if isinstance(event, Delta) else b""

    def failure(self, error: RequestError) -> bytes:
        """The code."""
        return str(error.code).encode()


async def _never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_messages() -> None:
    """One message per event that says something, a last empty one; the events are closed."""
    sent: list[Any] = []

    async def events() -> AsyncIterator[Event]:
        yield Started(CacheReport())
        yield Delta("a")
        yield Delta("")
        yield Delta("b")
        yield Finished("stop", 3)

    async def send(message: Any) -> None:
        sent.append(message)

    await EventStream(events(), Letters(), {"x-headstart-cache": "read=0; write=0"})({"type": "http"}, _never, send)
    assert sent[0]["type"] == "http.response.start"
    assert [message["body"] for message in sent[1:]] == [b"open", b"a", b"b", b""]
    assert [message["more_body"] for message in sent[1:]] == [True, True, True, False]


async def test_client_gone_before_the_first_byte() -> None:
    """Events that were never begun are closed all the same."""
    closed = []

    class Events:
        def __aiter__(self) -> AsyncIterator[Event]:
            return self

        async def __anext__(self) -> Event:
            raise AssertionError

        async def aclose(self) -> None:
            closed.append(True)

    async def disconnected() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await asyncio.Event().wait()

    await EventStream(Events(), Letters(), {})({"type": "http"}, disconnected, send)
    assert closed == [True]


async def test_a_long_prefill_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, which clients skip, until there is something to tell; none after."""
    monkeypatch.setattr("headstart.api.sse.PULSE_SECONDS", 0.05)
    sent: list[bytes] = []

    async def events() -> AsyncIterator[Event]:
        await asyncio.sleep(0.18)
        yield Delta("a")
        await asyncio.sleep(0.12)
        yield Finished("stop", 1)

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    await EventStream(events(), Letters(), {})({"type": "http"}, _never, send)
    pulses = [b": still at work\n\n"] * (len(sent) - 4)
    assert sent == [b"", b"open", *pulses, b"a", b""]
    assert 2 <= len(pulses) <= 3
