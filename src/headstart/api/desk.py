"""What every endpoint has at hand, and the way a request comes in: who asks, then what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headstart.api import decoding
from headstart.api.auth import KeyRing
from headstart.api.connection import closing, read_body, unless_gone
from headstart.pipeline import Pipeline
from headstart.types import Event

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """`clock` gives Unix time in seconds; `token(n)` n random bytes in hexadecimal; `max_body` is in bytes."""

    pipeline: Pipeline
    keys: KeyRing
    max_body: int
    clock: Callable[[], float]
    token: Callable[[int], str]

    def organisation(self, request: Request) -> str:
        """Who asks. Raises `Unauthenticated`."""
        return self.keys.authenticate(request.headers.get("authorization"))

    async def body(self, request: Request, kind: type[T]) -> T:
        """What is asked. Raises `InvalidRequest`, `BodyTooLarge`."""
        return decoding.decode(await read_body(request, self.max_body), kind)


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
