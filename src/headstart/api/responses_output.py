"""The Response object, whole or told as a stream of events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from headstart.api import sse
from headstart.api.output_items import Grown, Opened, OutputItems, Step
from headstart.api.usage import cache_options, diagnostics, responses_usage
from headstart.api.wire.responses import ResponsesBody
from headstart.errors import EngineFailed, RequestError
from headstart.pipeline import Completion
from headstart.types import (
    CacheReport,
    Comparison,
    Delta,
    Event,
    Finished,
    OutputFormat,
    Placed,
    Request,
    Started,
    Tool,
)

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
        self._output = OutputItems(completion, token)
        self._prewarm = request.cache.prewarm
        self._report = CacheReport()
        self._finished: Finished | None = None
        self._completed_at: int | None = None
        self._clock = clock
        self._generation = completion.model.generation
        self._input_tokens = len(completion.prompt.tokens)
        self._fields = _echo(body, request, completion) | {"id": self.id, "created_at": int(clock())}

    def add(self, event: Event) -> None:
        """Take one event."""
        self.take(event)

    def take(self, event: Event) -> list[Step]:
        """Take one event; what becomes of the output."""
        match event:
            case Delta():
                return self._output.take(event)
            case Started():
                self._report = event.report
                return [] if self._prewarm else self._output.start()
            case Finished():
                self._finished = event
                self._completed_at = int(self._clock())
                return self._output.finish(event, empty=self._prewarm)
            case Placed():
                return []

    def in_progress(self) -> dict[str, Any]:
        """The object before its output."""
        return self._fields | {"status": "in_progress"}

    def finished(self) -> dict[str, Any]:
        """The object at its end: `completed`, or `incomplete` at its token limit."""
        if self._finished is None:
            raise EngineFailed("The engine ended without finishing its answer.")
        ending: dict[str, Any] = {
            "status": self.status,
            "completed_at": self._completed_at,
            "output": [item.json() for item in self._output.items],
            "usage": responses_usage(self._input_tokens, self._finished.output_tokens, self._report, self._generation),
        }
        if self.status == "incomplete":
            ending |= {"completed_at": None, "incomplete_details": {"reason": "max_output_tokens"}}
        return self._fields | ending

    def compared(self, comparison: Comparison | None) -> None:
        """What the comparison says that the request asked for."""
        self._fields["prompt_cache_diagnostics"] = diagnostics(comparison)

    def not_stored(self) -> None:
        """The store failed: the answer says so, and is answered all the same."""
        self._fields["store"] = False

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


class ResponseScript:
    """The documented sequence of events: `response.created` … `response.completed`. Implements `sse.Script`."""

    def __init__(self, response: ResponseObject) -> None:
        self._response = response
        self._number = 0

    def opening(self) -> bytes:
        """The response, twice: created and in progress."""
        snapshot = self._response.in_progress()
        return self._event("response.created", {"response": snapshot}) + self._event(
            "response.in_progress", {"response": snapshot}
        )

    def event(self, event: Event) -> bytes:
        """Deltas as they come; what frames them before the first and after the last."""
        return b"".join([self._told(step) for step in self._response.take(event)])

    def closing(self) -> bytes:
        """`response.completed` or `response.incomplete`: the whole object, once it is stored."""
        return self._event(f"response.{self._response.status}", {"response": self._response.finished()})

    def failure(self, error: RequestError) -> bytes:
        """`response.failed`."""
        return self._event("response.failed", {"response": self._response.failed(error)})

    def _told(self, step: Step) -> bytes:
        item = step.item
        if isinstance(step, Grown):
            self._number += 1
            return b'%b,"sequence_number":%d}\n\n' % (item.delta(step.text, step.logprobs), self._number - 1)
        events = item.opening() if isinstance(step, Opened) else item.closing()
        return b"".join(self._event(name, fields) for name, fields in events)

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        data = encode({"type": name, **fields, "sequence_number": self._number})
        self._number += 1
        return sse.named(name, data)


def _echo(body: ResponsesBody, request: Request, completion: Completion) -> dict[str, Any]:
    """Every field of a Response, with the options as they were applied."""
    sampling, settings = request.sampling, request.settings
    applied = completion.model.rules.applied(request.cache, completion.record.namespace.organisation)
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
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "model": completion.model.name,
        "output": [],
        "parallel_tool_calls": settings.parallel_tool_calls,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": request.cache.key,
        "prompt_cache_retention": applied.retention,
        "prompt_cache_options": cache_options(applied),
        "prompt_cache_diagnostics": None,
        "reasoning": {"effort": settings.reasoning_effort, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": bool(body.store),
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
