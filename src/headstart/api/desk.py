"""What every endpoint has at hand, and the way a request comes in: who asks, then what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headstart.api import decoding
from headstart.api.auth import KeyRing
from headstart.api.connection import closing, read_body, unless_gone
from headstart.errors import Unauthenticated
from headstart.pipeline import Pipeline
from headstart.types import Event

T = TypeVar("T")
U = TypeVar("U")

OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
THREADED_BYTES = 256 * 1024
"""Bodies beyond this are decoded off the event loop."""


@dataclass(frozen=True, slots=True)
class Desk:
    """`clock` gives Unix time in seconds; `token(n)` n random bytes in hexadecimal; `max_body` is in bytes."""

    pipeline: Pipeline
    keys: KeyRing
    max_body: int
    clock: Callable[[], float]
    token: Callable[[int], str]

    def organisation(self, request: Request) -> str:
        """Who asks. Raises `Unauthenticated`.

        Without keys everybody on this machine is served, but no web page of another host that a browser here has open.
        """
        origin = request.headers.get("origin")
        if origin and not self.keys.required and urlsplit(origin).hostname not in OWN_HOSTS:
            raise Unauthenticated("Web pages of other hosts are served with an API key only; this server has none.")
        return self.keys.authenticate(request.headers.get("authorization"))

    async def body(self, request: Request, kind: type[T], convert: Callable[[T], U]) -> tuple[T, U]:
        """What is asked, as it came and as `convert` makes it. Raises `InvalidRequest`, `BodyTooLarge`.

        A large body is worked on in a thread: others wait for the event loop.
        """
        raw = await read_body(request, self.max_body)

        def work() -> tuple[T, U]:
            body = decoding.decode(raw, kind)
            return body, convert(body)

        return await asyncio.to_thread(work) if len(raw) > THREADED_BYTES else work()


async def collect(request: Request, events: AsyncIterator[Event], add: Callable[[Event], None]) -> None:
    """Take all events of an answer that isn't streamed. Raises `ClientGone` if nobody waits for it any more."""

    async def take() -> None:
        async for event in events:
            add(event)

    async with closing(events):
        await unless_gone(request.receive, take())


def json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")
