"""The ChatCompletion object, whole or told as chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from headstart import __version__
from headstart.api import sse
from headstart.api.usage import chat_usage, logprob
from headstart.errors import EngineFailed, RequestError
from headstart.pipeline import Completion, ServedModel
from headstart.types import CacheReport, Delta, Event, Finished, Request, Started

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
        self.constant = {
            "id": f"chatcmpl-{token(15)}",
            "created": int(clock()),
            "model": completion.model.name,
            "service_tier": "default",
            "system_fingerprint": fingerprint(completion.model),
        }
        self._text: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._report = CacheReport()
        self._finished: Finished | None = None
        self._generation = completion.model.generation
        self._prompt_tokens = len(completion.prompt.tokens)

    def add(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Delta():
                self._text.append(event.text)
                self._logprobs.extend(logprob(token) for token in event.logprobs)
            case Started():
                self._report = event.report
            case Finished():
                self._finished = event

    def finished(self) -> dict[str, Any]:
        """The object at its end."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(self._text),
            "refusal": None,
            "annotations": [],
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": {"content": self._logprobs, "refusal": None} if self.wants_logprobs else None,
            "finish_reason": self.finish.reason,
        }
        return {**self.constant, "object": "chat.completion", "choices": [choice], "usage": self.usage()}

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
    """Chunks: the role, the text, the reason it ended, the usage if asked for, `[DONE]`. Implements `sse.Script`."""

    def __init__(self, completion: ChatObject, *, include_usage: bool) -> None:
        self._completion = completion
        self._include_usage = include_usage
        # Every chunk is the same but for its choices: `head`, choices, `tail`.
        constant = encode({**completion.constant, "object": "chat.completion.chunk"})
        self._head = b"data: %b," % constant[:-1]
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"

    def opening(self) -> bytes:
        """The role alone."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def event(self, event: Event) -> bytes:
        """A chunk per delta; the ending."""
        self._completion.add(event)
        match event:
            case Delta():
                return self._text(event)
            case Finished():
                return self._ending(event)
            case _:
                return b""

    def failure(self, error: RequestError) -> bytes:
        """A chunk that holds the error; no `[DONE]` follows."""
        body = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
        return sse.unnamed(encode({"error": body}))

    def _text(self, delta: Delta) -> bytes:
        if not delta.text and not delta.logprobs:
            return b""
        logprobs = b"null"
        if delta.logprobs:
            logprobs = encode({"content": [logprob(token) for token in delta.logprobs], "refusal": None})
        return b'%b"choices":[{"index":0,"delta":{"content":%b},"logprobs":%b,"finish_reason":null}]%b' % (
            self._head,
            encode(delta.text),
            logprobs,
            self._tail,
        )

    def _ending(self, finished: Finished) -> bytes:
        ending = self._chunk({}, finished.reason)
        if self._include_usage:
            ending += b'%b"choices":[],"usage":%b}\n\n' % (self._head, encode(self._completion.usage()))
        return ending + sse.unnamed(b"[DONE]")

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
        return b'%b"choices":%b%b' % (self._head, encode(choices), self._tail)
