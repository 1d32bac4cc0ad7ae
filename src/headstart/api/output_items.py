"""The items of an answer, as they grow: messages and calls of functions, each with its events of the Responses API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from headstart.api.usage import logprob
from headstart.pipeline import Completion
from headstart.types import CallArguments, CallBegun, CallEnded, Delta, Finished

encode = msgspec.json.encode

Status = Literal["in_progress", "completed", "incomplete"]
Told = tuple[str, dict[str, Any]]
"""An event's name and its fields."""


class MessageItem:
    """Text that the model wrote. `index` is its place in `output`."""

    def __init__(self, index: int, token: Callable[[int], str]) -> None:
        self.id = f"msg_{token(24)}"
        self.status: Status = "in_progress"
        self._index = index
        self._text: list[str] = []
        self.logprobs: list[dict[str, Any]] = []
        # A delta is sent for every token: all of it but the text and the number is the same.
        self._delta = (
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"%b",'
            b'"output_index":%d,"content_index":0,"delta":' % (self.id.encode(), index)
        )

    @property
    def text(self) -> str:
        """All of it so far."""
        return "".join(self._text)

    def add(self, text: str, logprobs: list[dict[str, Any]]) -> None:
        """More of it."""
        self._text.append(text)
        if logprobs:
            self.logprobs += logprobs

    def delta(self, text: str, logprobs: list[dict[str, Any]]) -> bytes:
        """The event of more text, up to its number."""
        return b'%b%b,"logprobs":%b' % (self._delta, encode(text), encode(logprobs) if logprobs else b"[]")

    def opening(self) -> Iterator[Told]:
        """What is told when it begins, whatever it has become since."""
        item = self.json() | {"status": "in_progress", "content": []}
        yield "response.output_item.added", {"output_index": self._index, "item": item}
        yield "response.content_part.added", self._place() | {"part": self._part() | {"logprobs": [], "text": ""}}

    def closing(self) -> Iterator[Told]:
        """What is told when it is over."""
        part = self._part()
        yield "response.output_text.done", self._place() | {"text": part["text"], "logprobs": self.logprobs}
        yield "response.content_part.done", self._place() | {"part": part}
        yield "response.output_item.done", {"output_index": self._index, "item": self.json()}

    def json(self) -> dict[str, Any]:
        """The item."""
        return {"id": self.id, "type": "message", "status": self.status, "role": "assistant", "content": [self._part()]}

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "annotations": [], "logprobs": self.logprobs, "text": self.text}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self._index, "content_index": 0}


class CallItem:
    """A call of a function that the client has to run."""

    def __init__(self, index: int, token: Callable[[int], str], name: str) -> None:
        self.id = f"fc_{token(24)}"
        self.status: Status = "in_progress"
        self._index = index
        self.call_id = f"call_{token(12)}"
        self.name = name
        self._arguments: list[str] = []

    @property
    def arguments(self) -> str:
        """Their JSON text so far."""
        return "".join(self._arguments)

    def add(self, text: str, _: list[dict[str, Any]]) -> None:
        """More of its arguments."""
        self._arguments.append(text)

    def delta(self, text: str, _: list[dict[str, Any]]) -> bytes:
        """The event of more arguments, up to its number."""
        name = b"response.function_call_arguments.delta"
        fields = {"type": name.decode(), **self._place(), "delta": text}
        return b"event: %b\ndata: %b" % (name, encode(fields)[:-1])

    def opening(self) -> Iterator[Told]:
        """What is told when it begins, whatever it has become since."""
        item = self.json() | {"status": "in_progress", "arguments": ""}
        yield "response.output_item.added", {"output_index": self._index, "item": item}

    def closing(self) -> Iterator[Told]:
        """What is told when it is over."""
        arguments = {"name": self.name, "arguments": self.arguments}
        yield "response.function_call_arguments.done", self._place() | arguments
        yield "response.output_item.done", {"output_index": self._index, "item": self.json()}

    def json(self) -> dict[str, Any]:
        """The item."""
        call = {"call_id": self.call_id, "name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function_call", "status": self.status, **call}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self._index}


Item = MessageItem | CallItem


class Opened(NamedTuple):
    """An item begins."""

    item: Item


class Grown(NamedTuple):
    """There is more of it."""

    item: Item
    text: str
    logprobs: list[dict[str, Any]]


class Closed(NamedTuple):
    """It is over."""

    item: Item


Step = Opened | Grown | Closed


class OutputItems:
    """All items of one answer, in their order. `token(n)` gives n random bytes in hexadecimal."""

    def __init__(self, completion: Completion, token: Callable[[int], str]) -> None:
        self.may_call = completion.calls is not None
        self._calls = completion.calls
        self._token = token
        self.items: list[Item] = []
        self._open: Item | None = None
        self._steps: list[Step] = []
        self._logprobs: list[dict[str, Any]] = []  # of text that isn't certain yet

    def start(self) -> list[Step]:
        """The answer begins: where no calls are possible it is a message."""
        if self._calls is None:
            self._message()
        return self._taken()

    def take(self, delta: Delta) -> list[Step]:
        """More output."""
        if self._calls is None and self._open is not None and not delta.logprobs:  # nearly every token there is
            if not delta.text:
                return []
            self._open.add(delta.text, [])
            return [Grown(self._open, delta.text, [])]
        if delta.logprobs:
            self._logprobs += map(logprob, delta.logprobs)
        if self._calls is not None:
            for part in self._calls.push(delta.text):
                self._part(part)
        elif delta.text or delta.logprobs:
            self._text(delta.text)
        return self._taken()

    def finish(self, finished: Finished, *, empty: bool) -> list[Step]:
        """Nothing more comes. An answer that says nothing is an empty message, unless it was to be `empty`."""
        if self._calls is not None:
            for part in self._calls.finish():
                self._part(part)
        if not self.items and not empty:
            self._message()
        self._close("incomplete" if finished.reason == "length" else "completed")
        return self._taken()

    def _part(self, part: str | CallBegun | CallArguments | CallEnded) -> None:
        match part:
            case str():
                self._text(part)
            case CallBegun():
                self._begin(CallItem(len(self.items), self._token, part.name))
            case CallArguments():
                self._grow(part.text)
            case CallEnded():
                self._close("completed" if part.complete else "incomplete")
                self._logprobs = []

    def _text(self, text: str) -> None:
        self._message()
        self._grow(text)

    def _message(self) -> None:
        if self._open is None:
            self._begin(MessageItem(len(self.items), self._token))

    def _begin(self, item: Item) -> None:
        self._close("completed")
        self.items.append(item)
        self._open = item
        self._steps.append(Opened(item))

    def _grow(self, text: str) -> None:
        assert self._open is not None
        logprobs, self._logprobs = self._logprobs, []
        self._open.add(text, logprobs)
        self._steps.append(Grown(self._open, text, logprobs))

    def _close(self, status: Status) -> None:
        if self._open is not None:
            self._open.status = status
            self._steps.append(Closed(self._open))
            self._open = None

    def _taken(self) -> list[Step]:
        steps, self._steps = self._steps, []
        return steps
