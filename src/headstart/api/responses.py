"""`POST /v1/responses` and `POST /v1/responses/input_tokens`."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from headstart.api import conversations, responses_input
from headstart.api.desk import THREADED_BYTES, Desk, collect, json
from headstart.api.items import input_items, size_of
from headstart.api.receipt import Receipt, receipt_for
from headstart.api.responses_output import ResponseObject, ResponseScript
from headstart.api.sse import EventStream
from headstart.api.wire.responses import InputTokensBody, ResponsesBody
from headstart.pipeline import aside


@dataclass(frozen=True, slots=True)
class Responses:
    """The Responses API."""

    desk: Desk

    async def create(self, request: Request) -> Response:
        """Answer, whole or as a stream. Who sees the end of an answer can go on from it: it is stored by then."""
        async with receipt_for(self.desk, request, "responses") as receipt:
            return await self._create(request, receipt)

    async def _create(self, request: Request, receipt: Receipt) -> Response:
        desk, organisation = self.desk, receipt.caller.organisation
        body, size = await desk.body(request, ResponsesBody)
        turn = await conversations.turn(desk, organisation, body.previous_response_id, body.store)
        receipt.earlier = turn.earlier
        body.store = turn.store is not None
        asked = await aside(
            size + size_of(turn.earlier) > THREADED_BYTES, responses_input.request_of, body, turn.earlier
        )
        items = (
            await aside(size > THREADED_BYTES, input_items, body.input, turn.earlier, desk.token) if body.store else ()
        )
        completion = await receipt.start(asked)
        answer = ResponseObject(body, asked, completion, desk.clock, desk.token)
        placement = await receipt.place(answer.id)
        answer.compared(placement.comparison)
        headers = receipt.headers()
        if body.stream:
            script = ResponseScript(answer)

            async def ending() -> bytes:
                await turn.keep(answer, items)
                return script.closing()

            return EventStream(completion.events, script, headers, ending)
        await collect(request, completion.events, answer.add)
        await turn.keep(answer, items)
        return json(answer.finished(), headers=headers)

    async def count(self, request: Request) -> Response:
        """How many input tokens a request would have."""
        desk = self.desk
        organisation = desk.organisation(request)
        body, size = await desk.body(request, InputTokensBody)
        turn = await conversations.turn(desk, organisation, body.previous_response_id, False)
        served = desk.pipeline.models
        asked = await aside(
            size + size_of(turn.earlier) > THREADED_BYTES, responses_input.countable, body, served, turn.earlier
        )
        prompt = await desk.pipeline.render(asked, organisation)
        return json({"object": "response.input_tokens", "input_tokens": len(prompt.tokens)})
