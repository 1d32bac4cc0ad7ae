"""The client's side of a request: its body, within bounds, and its going away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from headstart.errors import BodyTooLarge, InvalidRequest

T = TypeVar("T")


class ClientGone(Exception):
    """The client closed the connection: nobody reads the answer."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, of at most `limit` bytes.

    A declared length above the limit is refused before a byte is read; a chunked body as soon as it passes the limit.
    Raises `BodyTooLarge`, `InvalidRequest` for a content type that isn't JSON, `ClientGone`.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit, f"{int(declared)} bytes")
    content_type = request.headers.get("content-type", "application/json")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise InvalidRequest(
            f"Unsupported content type: '{media_type[:64]}'. This API method only accepts 'application/json' requests.",
            code="unsupported_content_type",
        )
    body = bytearray()
    try:
        async for chunk in request.stream():
            if len(body) + len(chunk) > limit:
                raise _too_large(limit, "more")
            body += chunk
    except ClientDisconnect:
        raise ClientGone from None
    return bytes(body)


def _too_large(limit: int, got: str) -> BodyTooLarge:
    return BodyTooLarge(f"The request's body is too large: at most {limit} bytes are accepted, but got {got}.")


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, and cancel it as soon as the client goes away. Raises `ClientGone`.

    To be called when the body has been read: then the next message from the client is its going away.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def closing(events: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Close an engine's iterator at the end, however the block is left: that is what cancels a request."""
    try:
        yield
    finally:
        close = getattr(events, "aclose", None)  # an AsyncIterator need not have one; every engine's has
        if close is not None:
            await close()
