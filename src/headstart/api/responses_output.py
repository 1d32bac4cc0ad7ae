"""The Response object, whole or told as a stream of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headstart.api import sse
from headstart.api.usage import logprob, responses_usage
from headstart.api.wire.responses import ResponsesBody
from headstart.errors import EngineFailed, RequestError
from headstart.pipeline import Completion
from headstart.types import CacheReport, Delta, Event, Finished, OutputFormat, Request, Started, Tool

encode = msgspec.json.encode


class ResponseObject:
    """An answer under way: takes the engine's events, gives the object at any moment of its life.

    `clock` gives Unix time in seconds; `token(n)` n random bytes in hexadecimal.
    """

    def __init__(
        self,
        body: ResponsesBody,
        request: Request,
        completion: Completion,
        clock: Callable[[], float],
        token: Callable[[int], str],
    ) -> None:
        self.id = f"resp_{token(24)}"
        self.item_id = f"msg_{token(24)}"
        self.logprobs: list[dict[str, Any]] = []
        self._text: list[str] = []
        self._report = CacheReport()
        self._finished: Finished | None = None
        self._clock = clock
        self._generation = completion.model.generation
        self._input_tokens = len(completion.prompt.tokens)
        self._fields = _echo(body, request, completion) | {"id": self.id, "created_at": int(clock())}

    def add(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Delta():
                self._text.append(event.text)
                self.logprobs.extend(logprob(token) for token in event.logprobs)
            case Started():
                self._report = event.report
            case Finished():
                self._finished = event

    @property
    def text(self) -> str:
        """The output so far."""
        return "".join(self._text)

    def in_progress(self) -> dict[str, Any]:
        """The object before its output."""
        return self._fields | {"status": "in_progress"}

    def finished(self) -> dict[str, Any]:
        """The object at its end: `completed`, or `incomplete` at its token limit."""
        if self._finished is None:
            raise EngineFailed("The engine ended without finishing its answer.")
        ending: dict[str, Any] = {
            "status": self.status,
            "completed_at": int(self._clock()),
            "output": [self.item()],
            "usage": responses_usage(self._input_tokens, self._finished.output_tokens, self._report, self._generation),
        }
        if self.status == "incomplete":
            ending |= {"completed_at": None, "incomplete_details": {"reason": "max_output_tokens"}}
        return self._fields | ending

    def failed(self, error: RequestError) -> dict[str, Any]:
        """The object of an answer that broke off."""
        code = "server_error" if error.status >= 500 else "invalid_prompt"  # of the few that the SDK's type has
        failure = {"code": code, "message": error.message}
        return self._fields | {"status": "failed", "error": failure}

    @property
    def status(self) -> str:
        """`in_progress`, `completed` or `incomplete`."""
        if self._finished is None:
            return "in_progress"
        return "incomplete" if self._finished.reason == "length" else "completed"

    def item(self) -> dict[str, Any]:
        """The one item of `output`. Without content while it is in progress."""
        content = [self.part()] if self._finished is not None else []
        return {"id": self.item_id, "type": "message", "status": self.status, "role": "assistant", "content": content}

    def part(self) -> dict[str, Any]:
        """The one part of the item's content, with the text so far."""
        return {"type": "output_text", "annotations": [], "logprobs": self.logprobs, "text": self.text}


class ResponseScript:
    """The documented sequence of events: `response.created` … `response.completed`. Implements `sse.Script`."""

    def __init__(self, response: ResponseObject) -> None:
        self._response = response
        self._number = 0
        # A delta is sent for every token: all of it but the text and the number is the same.
        self._delta = (
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"%b",'
            b'"output_index":0,"content_index":0,"delta":' % response.item_id.encode()
        )

    def opening(self) -> bytes:
        """The response, twice: created and in progress."""
        snapshot = self._response.in_progress()
        return self._event("response.created", {"response": snapshot}) + self._event(
            "response.in_progress", {"response": snapshot}
        )

    def event(self, event: Event) -> bytes:
        """Deltas as they come; what frames them before the first and after the last."""
        self._response.add(event)
        match event:
            case Delta():
                return self._text_delta(event)
            case Started():
                return self._item_added()
            case Finished():
                return self._finished()

    def failure(self, error: RequestError) -> bytes:
        """`response.failed`."""
        return self._event("response.failed", {"response": self._response.failed(error)})

    def _text_delta(self, delta: Delta) -> bytes:
        if not delta.text and not delta.logprobs:
            return b""
        logprobs = b"[]"
        if delta.logprobs:
            logprobs = encode(self._response.logprobs[-len(delta.logprobs) :])
        self._number += 1
        return b'%b%b,"logprobs":%b,"sequence_number":%d}\n\n' % (
            self._delta,
            encode(delta.text),
            logprobs,
            self._number - 1,
        )

    def _item_added(self) -> bytes:
        return self._event(
            "response.output_item.added", {"output_index": 0, "item": self._response.item()}
        ) + self._event("response.content_part.added", self._place() | {"part": self._response.part()})

    def _finished(self) -> bytes:
        response, place = self._response, self._place()
        text = {"text": response.text, "logprobs": response.logprobs}
        return b"".join(
            (
                self._event("response.output_text.done", place | text),
                self._event("response.content_part.done", place | {"part": response.part()}),
                self._event("response.output_item.done", {"output_index": 0, "item": response.item()}),
                self._event(f"response.{response.status}", {"response": response.finished()}),
            )
        )

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._response.item_id, "output_index": 0, "content_index": 0}

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        data = encode({"type": name, **fields, "sequence_number": self._number})
        self._number += 1
        return sse.named(name, data)


def _echo(body: ResponsesBody, request: Request, completion: Completion) -> dict[str, Any]:
    """Every field of a Response, with the options as they were applied."""
    sampling, settings = request.sampling, request.settings
    return {
        "id": "",
        "object": "response",
        "created_at": 0,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": sampling.max_tokens,
        "max_tool_calls": body.max_tool_calls,
        "model": completion.model.name,
        "output": [],
        "parallel_tool_calls": settings.parallel_tool_calls,
        "previous_response_id": None,
        "prompt_cache_key": request.cache.key,
        "prompt_cache_retention": request.cache.retention or completion.model.rules.default_retention,
        "prompt_cache_options": None,
        "prompt_cache_diagnostics": None,
        "reasoning": {"effort": settings.reasoning_effort, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": False,  # nothing is kept, whatever was asked
        "temperature": sampling.temperature,
        "text": {"format": _format(settings.format), "verbosity": settings.verbosity or "medium"},
        "tool_choice": body.tool_choice or "auto",
        "tools": [_tool(tool) for tool in request.tools],
        "top_logprobs": sampling.logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata or {},
        "access_programs": None,
        "conversation": None,
        "image": None,
        "input_transformations": None,
        "moderation": None,
        "prompt": None,
        "tool_usage": None,
    }


def _format(wanted: OutputFormat) -> dict[str, Any]:
    if wanted.kind == "json_schema":
        return {"type": wanted.kind, "name": wanted.name, "schema": wanted.schema, "strict": True, "description": None}
    return {"type": wanted.kind}


def _tool(tool: Tool) -> dict[str, Any]:
    missing = {"description": None, "parameters": None, "strict": False}
    return {"type": "function", **missing, **tool.definition["function"]}
