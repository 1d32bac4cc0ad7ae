"""Answers as server-sent events: written as the engine makes them, at the pace the client reads them.

`send` waits while the client's socket is full, and then no further event is taken from the engine: a slow reader costs
what the engine itself bounds. A client that goes away ends the engine's work at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headstart.api.connection import ClientGone, closing, unless_gone
from headstart.errors import EngineFailed, RequestError
from headstart.types import Event

UNEXPECTED = "The server had an error while processing your request. Sorry about that!"
"""OpenAI's words for a failure that says nothing about the request."""

PULSE_SECONDS = 15.0
"""Between comments in a stream that has nothing to tell yet."""

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would otherwise hold events back
}


class Script(Protocol):
    """How an endpoint tells of an engine's events, as complete server-sent events in bytes."""

    def opening(self) -> bytes:
        """What is sent before the engine says anything."""

    def event(self, event: Event) -> bytes:
        """What one event means to the client; empty for nothing."""

    def failure(self, error: RequestError) -> bytes:
        """The end of a stream that broke."""


class EventStream(Response):
    """A 200 whose body is an engine's events told by a script. `ending`, if given, is awaited for the last bytes, when
    the engine has said everything: what has to be done before the client knows."""

    def __init__(
        self,
        events: AsyncIterator[Event],
        script: Script,
        headers: Mapping[str, str],
        ending: Callable[[], Awaitable[bytes]] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**HEADERS, **headers})
        self._events = events
        self._script = script
        self._ending = ending
        self._told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """ASGI."""
        async with closing(self._events):
            try:
                await unless_gone(receive, self._write(send))
            except ClientGone:
                return

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._script.opening(), "more_body": True})
        pulse = asyncio.create_task(self._pulse(send))
        try:
            await self._tell(send)
        finally:
            pulse.cancel()

    async def _pulse(self, send: Send) -> None:
        """Say something now and then while a long prompt is prefilled: proxies close connections that are silent."""
        while not self._told:
            await asyncio.sleep(PULSE_SECONDS)
            if not self._told:
                await send({"type": "http.response.body", "body": b": still at work\n\n", "more_body": True})

    async def _tell(self, send: Send) -> None:
        last = b""
        unforeseen: Exception | None = None
        try:
            async for event in self._events:
                if chunk := self._script.event(event):
                    self._told = True
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if self._ending is not None:
                last = await self._ending()
        except RequestError as error:
            last = self._script.failure(error)
        except Exception as error:
            # The status is sent: the client hears of it in the stream, and the app's frame logs it.
            last = self._script.failure(EngineFailed(UNEXPECTED))
            unforeseen = error
        await send({"type": "http.response.body", "body": last, "more_body": False})
        if unforeseen is not None:
            raise unforeseen


def named(name: str, data: bytes) -> bytes:
    """A server-sent event with a name, as the Responses API has them."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def unnamed(data: bytes) -> bytes:
    """A server-sent event of data alone, as Chat Completions has them."""
    return b"data: %b\n\n" % data
