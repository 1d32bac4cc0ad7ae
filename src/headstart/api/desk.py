"""What every endpoint has at hand, and the way a request comes in: who asks, then what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headstart.api import decoding
from headstart.api.auth import Key, KeyRing
from headstart.api.capture import Capture
from headstart.api.connection import closing, read_body, unless_gone
from headstart.api.meter import Meter
from headstart.errors import Unauthenticated
from headstart.pipeline import Completion, Pipeline, Placement, aside
from headstart.store.responses import ResponseStore
from headstart.types import Event

T = TypeVar("T")

OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
THREADED_BYTES = 256 * 1024
"""Bodies beyond this are worked on off the event loop."""


@dataclass(frozen=True, slots=True)
class Desk:
    """`clock` gives Unix time in seconds; `token(n)` n random bytes in hexadecimal; `max_body` is in bytes.

    `store`: None where nothing can be stored. `store_default` is for requests that don't say; nothing of the
    organisations under `zero_data_retention` is ever stored, or captured.
    """

    pipeline: Pipeline
    keys: KeyRing
    max_body: int
    clock: Callable[[], float]
    token: Callable[[int], str]
    store: ResponseStore | None = None
    store_default: bool = False
    zero_data_retention: Container[str] = frozenset()
    meter: Meter = field(default_factory=Meter)
    capture: Capture | None = None

    def organisation(self, request: Request) -> str:
        """Whose request it is. Raises `Unauthenticated`."""
        return self.caller(request).organisation

    def admin(self, request: Request) -> Key:
        """The key of an administrator, who may see what all organisations do. Raises `Unauthenticated`, `Forbidden`."""
        self.caller(request)
        return self.keys.authenticate_admin(request.headers.get("authorization"))

    def caller(self, request: Request) -> Key:
        """Who asks. Raises `Unauthenticated`.

        Without keys everybody on this machine is served, but no web page of another host that a browser here has open,
        nor one whose name was made to lead here.
        """
        if not self.keys.required:
            origin, host = request.headers.get("origin"), request.headers.get("host")
            for address in (origin, host and f"//{host}"):
                if address and _hostname(address) not in OWN_HOSTS:
                    raise Unauthenticated(
                        "Without API keys only this machine is served, as localhost, 127.0.0.1 or [::1], and no page "
                        "of another host. Whoever runs this server can make a key."
                    )
        return self.keys.authenticate(request.headers.get("authorization"))

    async def body(self, request: Request, kind: type[T]) -> tuple[T, int]:
        """What is asked, and its size in bytes. Raises `InvalidRequest`, `BodyTooLarge`."""
        raw = await read_body(request, self.max_body)
        if self.capture is not None:
            request.state.body = raw
        return await aside(len(raw) > THREADED_BYTES, decoding.decode, raw, kind), len(raw)

    async def place(self, request: Request, completion: Completion, id: str) -> Placement:
        """Wait for the request's place in the engine. Raises what the engine raises, and `ClientGone`."""
        try:
            return await unless_gone(request.receive, self.pipeline.place(completion, id))
        except BaseException:
            async with closing(completion.events):
                raise


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


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
