"""`POST /v1/chat/completions`."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from headstart.api import chat_input
from headstart.api.chat_output import ChatObject, ChatScript
from headstart.api.desk import THREADED_BYTES, Desk, collect, json
from headstart.api.receipt import Receipt, receipt_for
from headstart.api.sse import EventStream
from headstart.api.wire.chat import ChatBody
from headstart.pipeline import aside


@dataclass(frozen=True, slots=True)
class Chat:
    """The Chat Completions API."""

    desk: Desk

    async def create(self, request: Request) -> Response:
        """Answer, whole or as a stream."""
        async with receipt_for(self.desk, request, "chat.completions") as receipt:
            return await self._create(request, receipt)

    async def _create(self, request: Request, receipt: Receipt) -> Response:
        desk = self.desk
        body, size = await desk.body(request, ChatBody)
        asked = await aside(size > THREADED_BYTES, chat_input.request_of, body)
        vocabulary = desk.pipeline.model(asked.model).engine.info.vocabulary_size
        chat_input.check_vocabulary(asked.sampling.logit_bias, vocabulary)
        completion = await receipt.start(asked)
        answer = ChatObject(asked, completion, desk.clock, desk.token)
        await receipt.place(answer.id)
        headers = receipt.headers()
        if body.stream:
            include_usage = bool(body.stream_options and body.stream_options.include_usage)
            return EventStream(completion.events, ChatScript(answer, include_usage=include_usage), headers)
        await collect(request, completion.events, answer.add)
        return json(answer.finished(), headers=headers)
