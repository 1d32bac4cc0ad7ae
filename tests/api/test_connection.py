"""Bodies within bounds, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from headstart.api.connection import ClientGone, closing, unless_gone

PATHS = ("/v1/responses", "/v1/chat/completions", "/v1/responses/input_tokens")


@pytest.mark.parametrize("path", PATHS)
def test_declared_length_above_the_limit(server: Any, served: Any, path: str) -> None:
    """1 GB is refused by its declared length, before any of it is sent."""
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as sock:
        sock.sendall(
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            "content-length: 1000000000\r\n\r\n".encode()
        )
        head, _, body = sock.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert b"x-request-id" in head
    error = json.loads(body)["error"]
    assert error["code"] == "request_too_large"
    assert "1000000000 bytes" in error["message"]


@pytest.mark.parametrize("excess", [1, 40_000_000])
def test_sent_length_above_the_limit(http: httpx2.Client, server: Any, served: Any, excess: int) -> None:
    """A client that sends all of it before it listens hears the same."""
    answer = http.post("/v1/responses", content=b" " * (server.max_body + excess))
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_chunked_body_above_the_limit(http: httpx2.Client, server: Any, served: Any) -> None:
    """Without a declared length the bytes are counted; no more than the limit is held."""

    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 100_000

    answer = http.post("/v1/responses", content=chunks())
    assert answer.status_code == 413
    assert f"at most {server.max_body} bytes" in answer.json()["error"]["message"]


def test_chunked_body_within_the_limit(http: httpx2.Client, server: Any) -> None:
    """A chunked body is as good as another."""
    body = json.dumps({"model": server.model, "input": "Hello"}).encode()
    answer = http.post("/v1/responses", content=iter([body[:10], body[10:]]))
    assert answer.status_code == 200


def test_client_that_stops_sending(server: Any, served: Any) -> None:
    """A body that never ends well is given up when the connection is."""
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as sock:
        sock.sendall(b'POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"model"')
    assert server.engine.stats().running == 0


@pytest.mark.parametrize("path", PATHS[:2])
def test_whole_answer_nobody_waits_for(server: Any, served: Any, until: Any, path: str) -> None:
    """A client that goes away before its whole answer frees the engine at once, not at the answer's end."""
    server.engine.delay = 0.05
    server.engine.output_tokens = 10_000
    before = server.engine.stats().tokens_decoded
    asked = {"model": server.model, "input": "Hello", "messages": [{"role": "user", "content": "Hello"}]}
    del asked["messages" if "responses" in path else "input"]
    with httpx2.Client(base_url=server.url) as client, pytest.raises(httpx2.ReadTimeout):
        client.post(path, json=asked, timeout=0.3)
    until(lambda: server.engine.stats().running == 0)
    assert server.engine.stats().tokens_decoded - before < 100


def test_many_that_go_away(server: Any, served: Any, until: Any) -> None:
    """Places are given back by each of many: the capacity is whole again."""
    server.engine.delay = 0.05
    server.engine.output_tokens = 10_000

    def give_up() -> None:
        with httpx2.Client(base_url=server.url) as client, pytest.raises(httpx2.ReadTimeout):
            client.post("/v1/responses", json={"model": server.model, "input": "Hello"}, timeout=0.3)

    threads = [threading.Thread(target=give_up) for _ in range(20)]
    for thread in threads:
        thread.start()
    until(lambda: server.engine.stats().running > 10)
    for thread in threads:
        thread.join()
    until(lambda: server.engine.stats().running == 0)


async def _never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def _disconnected() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def test_unless_gone_gives_the_result() -> None:
    """Work that ends first is what comes back, errors included."""

    async def work() -> int:
        return 7

    async def broken() -> int:
        raise ValueError

    assert await unless_gone(_never, work()) == 7
    with pytest.raises(ValueError):  # noqa: PT011 - raised by the test itself
        await unless_gone(_never, broken())


async def test_unless_gone_cancels() -> None:
    """A client that goes away cancels the work before `ClientGone` is raised."""
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async def leave() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return await _disconnected()

    with pytest.raises(ClientGone):
        await unless_gone(leave, work())
    assert cancelled.is_set()


async def test_closing() -> None:
    """The iterator is closed however the block is left; one that can't be closed is left alone."""
    closed = []

    async def events() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def leave() -> None:
        iterator = events()
        async with closing(iterator):
            assert await anext(iterator) == 1
            raise ValueError("left")

    with pytest.raises(ValueError, match="left"):
        await leave()
    assert closed == [True]

    class Endless:
        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            return 1

    async with closing(Endless()):
        pass
