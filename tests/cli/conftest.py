"""An OpenAI-compatible endpoint to point the command at: it streams, and counts a repeated prefix as cached."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

COLD_SECONDS = 0.15


@dataclass
class Endpoint:
    """What it serves and expects, and what it was asked."""

    base_url: str = ""
    models: list[str] = field(default_factory=lambda: ["stub"])
    api_key: str | None = None
    broken: str = ""
    """`stream`: an error after the first chunk; `500`: an error instead of an answer; `html`: no API at all."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def refusal(self, request: Request) -> Response | None:
        """What OpenAI answers to a wrong key."""
        if self.api_key is None or request.headers.get("authorization") == f"Bearer {self.api_key}":
            return None
        return JSONResponse({"error": {"message": "Incorrect API key provided."}}, 401)

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models."""
        if self.broken == "html":
            return Response("<html>It works!</html>")
        return self.refusal(request) or JSONResponse({"data": [{"id": name} for name in self.models]})

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions, streamed."""
        body = await request.json()
        self.bodies.append(body)
        if refusal := self.refusal(request):
            return refusal
        if self.broken == "500":
            return Response("upstream fell over", 500)
        if body["model"] not in self.models:
            return JSONResponse({"error": {"message": f"The model '{body['model']}' does not exist."}}, 404)
        return StreamingResponse(self.stream(body), media_type="text/event-stream")

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """Chunks: a role, three words, the usage."""
        prefix = body["messages"][0]["content"][:1000]
        cached = 1024 if prefix in self.seen else 0
        self.seen.add(prefix)
        await asyncio.sleep(0 if cached else COLD_SECONDS)
        yield chunk({"role": "assistant", "content": ""})
        if self.broken == "stream":
            yield f"data: {json.dumps({'error': {'message': 'out of memory'}})}\n\n"
            return
        for word in ("one", " two", " three"):
            yield chunk({"content": word})
            await asyncio.sleep(0.01)
        usage = {"prompt_tokens": 1100, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": cached}}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"


def chunk(delta: dict[str, str]) -> str:
    """One event of a chat stream."""
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}], 'usage': None})}\n\n"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A running endpoint."""
    stub = Endpoint()
    app = Starlette(
        routes=[
            Route("/v1/models", stub.list_models),
            Route("/v1/chat/completions", stub.chat, methods=["POST"]),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        stub.base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield stub
        server.should_exit = True
        thread.join()
