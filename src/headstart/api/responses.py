"""`POST /v1/responses` and `POST /v1/responses/input_tokens`."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from headstart.api import responses_input
from headstart.api.desk import Desk, collect, json
from headstart.api.responses_output import ResponseObject, ResponseScript
from headstart.api.sse import EventStream
from headstart.api.wire.responses import InputTokensBody, ResponsesBody


@dataclass(frozen=True, slots=True)
class Responses:
    """The Responses API."""

    desk: Desk

    async def create(self, request: Request) -> Response:
        """Answer, whole or as a stream."""
        desk = self.desk
        organisation = desk.organisation(request)
        body, asked = await desk.body(request, ResponsesBody, responses_input.request_of)
        completion = await desk.pipeline.start(asked, organisation)
        answer = ResponseObject(body, asked, completion, desk.clock, desk.token)
        if body.stream:
            return EventStream(completion.events, ResponseScript(answer))
        await collect(request, completion.events, answer.add)
        return json(answer.finished())

    async def count(self, request: Request) -> Response:
        """How many input tokens a request would have."""
        desk = self.desk
        organisation = desk.organisation(request)
        served = desk.pipeline.models
        _, asked = await desk.body(request, InputTokensBody, lambda body: responses_input.countable(body, served))
        prompt = await desk.pipeline.render(asked, organisation)
        return json({"object": "response.input_tokens", "input_tokens": len(prompt.tokens)})
