"""The ChatCompletion object, whole or told as chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from headstart import __version__
from headstart.api import sse
from headstart.api.output_items import CallItem, Grown, MessageItem, Opened, OutputItems, Step
from headstart.api.usage import chat_usage
from headstart.errors import EngineFailed, RequestError
from headstart.pipeline import Completion, ServedModel
from headstart.types import CacheReport, Delta, Event, Finished, Placed, Request, Started

encode = msgspec.json.encode


def fingerprint(model: ServedModel) -> str:
    """`system_fingerprint`: changes with the model or this program, either of which may change an answer."""
    known = f"{__version__}\0{model.name}\0{model.engine.info.description}"
    return f"fp_{hashlib.blake2b(known.encode(), digest_size=5).hexdigest()}"


class ChatObject:
    """An answer under way: takes the engine's events, gives the object at its end.

    `clock` gives Unix time in seconds; `token(n)` n random bytes in hexadecimal.
    """

    def __init__(
        self, request: Request, completion: Completion, clock: Callable[[], float], token: Callable[[int], str]
    ) -> None:
        self.wants_logprobs = request.sampling.logprobs is not None
        self.id = f"chatcmpl-{token(15)}"
        self.constant = {
            "id": self.id,
            "created": int(clock()),
            "model": completion.model.name,
            "service_tier": "default",
            "system_fingerprint": fingerprint(completion.model),
        }
        self._output = OutputItems(completion, token)
        self._report = CacheReport()
        self._finished: Finished | None = None
        self._generation = completion.model.generation
        self._prompt_tokens = len(completion.prompt.tokens)

    @property
    def may_call(self) -> bool:
        """Whether the answer may be calls, without any text."""
        return self._output.may_call

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
                return self._output.start()
            case Finished():
                self._finished = event
                return self._output.finish(event, empty=False)
            case Placed():
                return []

    def finished(self) -> dict[str, Any]:
        """The object at its end."""
        messages = [item for item in self._output.items if isinstance(item, MessageItem)]
        calls = [
            {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
            for item in self._output.items
            if isinstance(item, CallItem)
        ]
        logprobs = [logprob for message in messages for logprob in message.logprobs]
        text = "".join(message.text for message in messages)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": text if text or not calls else None,
            "refusal": None,
            "annotations": [],
        }
        if calls:
            message["tool_calls"] = calls
        choice = {
            "index": 0,
            "message": message,
            "logprobs": {"content": logprobs, "refusal": None} if self.wants_logprobs else None,
            "finish_reason": self.finish_reason,
        }
        return {**self.constant, "object": "chat.completion", "choices": [choice], "usage": self.usage()}

    @property
    def finish_reason(self) -> str:
        """`length` at the token limit; `tool_calls` if the client has functions to run; else `stop`."""
        called = any(isinstance(item, CallItem) for item in self._output.items)
        return "tool_calls" if called and self.finish.reason == "stop" else self.finish.reason

    @property
    def finish(self) -> Finished:
        """The engine's last event. Raises `EngineFailed` if it ended without one."""
        if self._finished is None:
            raise EngineFailed("The engine ended without finishing its answer.")
        return self._finished

    def usage(self) -> dict[str, Any]:
        """Usage at the end."""
        return chat_usage(self._prompt_tokens, self.finish.output_tokens, self._report, self._generation)


class ChatScript:
    """Chunks: the role, text and calls, why it ended, the usage if asked for, `[DONE]`. Implements `sse.Script`."""

    def __init__(self, completion: ChatObject, *, include_usage: bool) -> None:
        self._completion = completion
        self._include_usage = include_usage
        self._calls = 0
        # Every chunk is the same but for its choices: `head`, choices, `tail`.
        constant = encode({**completion.constant, "object": "chat.completion.chunk"})
        self._head = b"data: %b," % constant[:-1]
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"

    def opening(self) -> bytes:
        """The role alone."""
        content = None if self._completion.may_call else ""
        return self._chunk({"role": "assistant", "content": content, "refusal": None})

    def event(self, event: Event) -> bytes:
        """Chunks of text and calls; the ending."""
        chunks = b"".join(map(self._told, self._completion.take(event)))
        return chunks + self._ending() if isinstance(event, Finished) else chunks

    def failure(self, error: RequestError) -> bytes:
        """A chunk that holds the error; no `[DONE]` follows."""
        body = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
        return sse.unnamed(encode({"error": body}))

    def _told(self, step: Step) -> bytes:
        match step:
            case Grown(MessageItem(), text, logprobs):
                return self._text(text, logprobs)
            case Grown(CallItem(), text, _):
                return self._call({"function": {"arguments": text}})
            case Opened(CallItem() as item):
                self._calls += 1
                function = {"name": item.name, "arguments": ""}
                return self._call({"id": item.call_id, "type": "function", "function": function})
            case _:
                return b""

    def _call(self, call: dict[str, Any]) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls - 1, **call}]})

    def _text(self, text: str, logprobs: list[dict[str, Any]]) -> bytes:
        told = encode({"content": logprobs, "refusal": None}) if logprobs else b"null"
        return b'%b"choices":[{"index":0,"delta":{"content":%b},"logprobs":%b,"finish_reason":null}]%b' % (
            self._head,
            encode(text),
            told,
            self._tail,
        )

    def _ending(self) -> bytes:
        ending = self._chunk({}, self._completion.finish_reason)
        if self._include_usage:
            ending += b'%b"choices":[],"usage":%b}\n\n' % (self._head, encode(self._completion.usage()))
        return ending + sse.unnamed(b"[DONE]")

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
        return b'%b"choices":%b%b' % (self._head, encode(choices), self._tail)
