"""The HTTP application: its routes, and the one place where errors become answers."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Container, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headstart.api import openapi
from headstart.api.auth import KeyRing
from headstart.api.capture import Capture
from headstart.api.chat import Chat
from headstart.api.connection import ClientGone
from headstart.api.desk import Desk, json
from headstart.api.explain import Explain
from headstart.api.meter import Meter
from headstart.api.models import Models
from headstart.api.responses import Responses
from headstart.api.sse import UNEXPECTED
from headstart.api.stored import StoredResponses
from headstart.errors import EngineFailed, Overloaded, RateLimited, RequestError
from headstart.pipeline import Pipeline
from headstart.store.responses import ResponseStore

log = logging.getLogger("headstart.api")

CLIENT_CLOSED_REQUEST = 499
"""nginx's status for a client that went away: for the access log, nobody receives it."""


def create_app(
    pipeline: Pipeline,
    keys: KeyRing,
    *,
    max_body: int,
    store: ResponseStore | None = None,
    store_default: bool = False,
    zero_data_retention: Container[str] = frozenset(),
    meter: Meter | None = None,
    capture: Capture | None = None,
    more: Callable[[Desk], Sequence[BaseRoute]] = lambda _: (),
    clock: Callable[[], float] = time.time,
    token: Callable[[int], str] = secrets.token_hex,
) -> Starlette:
    """OpenAI's API over a pipeline. `max_body` is the most bytes of one request's body.

    `store` keeps responses, if there is one: those whose request says so, or, by `store_default`, doesn't say; never
    those of the organisations under `zero_data_retention`.
    `meter` is what requests are measured by; `capture` takes those that are answered; `more` routes beside OpenAI's,
    that use the same desk.
    `clock` gives Unix time in seconds; `token(n)` n random bytes in hexadecimal, for ids.
    """
    meter = meter or Meter()
    desk = Desk(pipeline, keys, max_body, clock, token, store, store_default, zero_data_retention, meter, capture)
    responses, stored, chat, models = Responses(desk), StoredResponses(desk), Chat(desk), Models(desk)
    explain = Explain(desk)
    app = Starlette(
        routes=[
            Route("/v1/responses", responses.create, methods=["POST"]),
            Route("/v1/responses/input_tokens", responses.count, methods=["POST"]),
            Route("/v1/responses/{id}", stored.one, methods=["GET", "DELETE"]),
            Route("/v1/responses/{id}/input_items", stored.input_items, methods=["GET"]),
            Route("/v1/responses/{id}/cache", explain.retrieve, methods=["GET"]),
            Route("/v1/chat/completions/{id}/cache", explain.retrieve, methods=["GET"]),
            Route("/v1/responses/{id}/cancel", stored.cancel, methods=["POST"]),
            Route("/v1/chat/completions", chat.create, methods=["POST"]),
            Route("/v1/models", models.list, methods=["GET"]),
            Route("/v1/models/{model:path}", models.retrieve, methods=["GET"]),
            Route("/health", models.health, methods=["GET"]),
            Route("/openapi.json", openapi.serve, methods=["GET"]),
            *more(desk),
        ],
        middleware=[Middleware(Frame, token=token)],
        exception_handlers={RequestError: _refused, HTTPException: _not_routed, ClientGone: _gone},
    )
    app.router.redirect_slashes = False  # OpenAI answers 404, and a redirected POST loses its body with some clients
    return app


class Frame:
    """What every answer has: an id, the time it took, and a 500 in OpenAI's shape for what nobody foresaw."""

    def __init__(self, app: ASGIApp, token: Callable[[int], str]) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{self._token(16)}"
        begun = time.perf_counter()
        started = False

        async def framed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                milliseconds = int((time.perf_counter() - begun) * 1000)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"openai-processing-ms", str(milliseconds).encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, framed)
        except Exception:
            # The edge of the process. A traceback holds code, never the prompt: messages of ours don't quote it.
            log.exception("%s failed: %s %r", request_id, scope["method"], scope["path"])
            if not started:
                error = EngineFailed(f"{UNEXPECTED} Please include the request ID {request_id} when you report it.")
                await error_answer(error)(scope, receive, framed)


def error_answer(error: RequestError) -> Response:
    """A request error in OpenAI's shape."""
    body = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    headers = {}
    if isinstance(error, Overloaded):
        headers = {"retry-after": str(error.retry_after)}
    elif isinstance(error, RateLimited):
        headers = error.headers
    return json({"error": body}, error.status, headers)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_answer(error)


def _not_routed(request: Request, error: Exception) -> Response:
    """404 and 405, which only the router raises."""
    assert isinstance(error, HTTPException)
    place = f"{request.method} {request.url.path[:256]}"
    message, code = f"Invalid URL ({place})", "unknown_url"
    if error.status_code == 405:
        message, code = (
            f"Not allowed to {place.replace(' ', ' on ', 1)}. Use another HTTP method.",
            "method_not_allowed",
        )
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return json({"error": body}, error.status_code, dict(error.headers or {}))


def _gone(_: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    return Response(status_code=CLIENT_CLOSED_REQUEST)
