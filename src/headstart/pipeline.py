"""The way through the house, in one function: `Pipeline.start`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

import msgspec

from headstart.cache.diagnosis import Subject, compare, explain
from headstart.cache.fingerprint import common_tokens
from headstart.cache.policy import Rules
from headstart.cache.records import MOST_TOKENS, Record, RecordBook, Recorder
from headstart.engine.base import Engine
from headstart.errors import NotFound
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.call_stream import CallStream
from headstart.prompt.calls import calls_of
from headstart.types import (
    Comparison,
    Event,
    Explanation,
    Generation,
    Namespace,
    Placed,
    Plan,
    Prompt,
    Request,
)

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["Completion", "Pipeline", "Placement", "Record", "ServedModel", "aside"]

THREADED_WORK = 200_000
"""Requests that are more work than this are rendered, tokenised and hashed off the event loop, which others are waiting
for: characters, and a hundred of them for every piece."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A name that clients may ask for, and what answers under it. `created`: Unix time in seconds."""

    name: str
    generation: Generation
    engine: Engine
    prompts: PromptBuilder
    rules: Rules
    created: int


Admit = Callable[[ServedModel, Prompt, Request], Awaitable[None]]
"""Asked before a request is computed; raises a `RequestError` if it may not be."""


class Completion(NamedTuple):
    """A request under way, and its record for the requests to come. Closing `events` cancels it."""

    model: ServedModel
    request: Request
    prompt: Prompt
    plan: Plan
    record: Record
    events: AsyncIterator[Event]
    calls: CallStream | None = None
    """Finds the calls in the output's text, where there may be any."""


class Placement(NamedTuple):
    """What the cache gave to a request, why not more, and what the comparison says that it asked for."""

    explanation: Explanation
    comparison: Comparison | None


class Pipeline:
    """Request -> Prompt -> Plan -> engine, for every model that is served.

    Args:
        secret: the deployment's, at most 64 bytes: it keys what is remembered of requests.
        remembered: prompt tokens of all the requests that are remembered.
        keep_text: explanations may quote a prompt where it parts from another; except those of organisations under
            `zero_data_retention`.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        models: Iterable[ServedModel],
        secret: bytes = b"",
        *,
        remembered: int = MOST_TOKENS,
        keep_text: bool = False,
        zero_data_retention: Container[str] = frozenset(),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.models = {model.name: model for model in models}
        self._recorder, self._book = Recorder(secret), RecordBook(most_tokens=remembered)
        self._keep_text, self._private, self._clock = keep_text, zero_data_retention, clock

    def model(self, name: str) -> ServedModel:
        """Raises `NotFound`, in OpenAI's words, naming what is served."""
        try:
            return self.models[name]
        except KeyError:
            served = ", ".join(f"'{known}'" for known in self.models)
            raise NotFound(
                f"The model '{name}' does not exist or you do not have access to it. This server has {served}.",
                param="model",
                code="model_not_found",
            ) from None

    async def render(self, request: Request, organisation: str) -> Prompt:
        """The prompt as the model would read it. Raises `InvalidRequest` if the template refuses the messages."""
        return await aside(_is_large(request), self.model(request.model).prompts.build, request, organisation)

    async def start(self, request: Request, organisation: str, admit: Admit | None = None) -> Completion:
        """Send a request on its way. Everything that is wrong with it is raised here, before a byte is answered."""
        model = self.model(request.model)
        namespace = Namespace(organisation, model.name, model.generation, request.cache.key)
        model.rules.check(request)
        large = _is_large(request)
        prompt = await aside(large, model.prompts.build, request, organisation)
        plan = model.engine.info.kept(model.rules.plan(prompt, namespace, request.cache))
        calls = calls_of(request, model.prompts.call_syntax)
        if admit is not None:
            await admit(model, prompt, request)
        record = await aside(large, self._recorder.record, namespace, request, prompt, plan, self._clock())
        events = model.engine.generate(prompt, plan, replace(request.sampling, calls=calls))
        return Completion(model, request, prompt, plan, record, events, None if calls is None else CallStream(calls))

    async def place(self, completion: Completion, id: str) -> Placement:
        """Wait until the engine has a place for the request; from then on it is known by `id`. To be awaited once,
        before any other event is taken."""
        placed = await anext(completion.events)
        assert isinstance(placed, Placed), "an engine says so first"
        model, request, prompt, plan, record, *_ = completion
        organisation, cacheable = record.namespace.organisation, model.engine.info.cacheable
        keep_text = self._keep_text and organisation not in self._private
        subject = Subject(
            record, request, prompt, plan, partial(model.prompts.locate, request, prompt), keep_text, cacheable
        )
        explanation = explain(subject, placed.report, self._book)
        comparison, now = None, self._clock()
        if request.cache.comparison is not None:
            earlier = self._book.get(organisation, request.cache.comparison, now)
            common = common_tokens(earlier.prompt, record.prompt) if earlier else 0
            comparison = compare(record, placed.report, earlier, common)
        self._book.add(replace(record, id=id, outcome=explanation), now)
        return Placement(explanation, comparison)

    def record(self, organisation: str, id: str) -> Record | None:
        """What is remembered of a recent request."""
        return self._book.get(organisation, id, self._clock())

    def forget(self, organisation: str, id: str) -> None:
        """Remember nothing of a request."""
        self._book.forget(organisation, id)


def _is_large(request: Request) -> bool:
    """Whether working on the request would keep others waiting for the event loop."""
    amount = sum(len(msgspec.json.encode(tool.definition)) for tool in request.tools)
    for message in request.messages:
        texts = (*message.content, *(call.arguments for call in message.tool_calls))
        amount += 100 * (1 + len(texts)) + sum(len(text.text) for text in texts)
    return amount > THREADED_WORK


async def aside(large: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do some work: in a thread if it is large, since others wait for the event loop."""
    return await asyncio.to_thread(work, *args, **kwargs) if large else work(*args, **kwargs)
