"""An engine without a model, for tests: ours, and those of people who build on Headstart.

Its output is English words that follow from the prompt's tokens alone, the same in every run; where a call has to be
made, one with the simplest arguments of its schema. Everything else is as with a real engine: the cache's rules,
limits, stop strings, log-probabilities, cancellation, overload, failure.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from headstart.engine.base import EngineStats
from headstart.engine.census import Census
from headstart.engine.index import Index
from headstart.engine.text import TextStream
from headstart.errors import ContextLengthExceeded, EngineFailed, Overloaded
from headstart.types import (
    CacheReport,
    Delta,
    Event,
    Finished,
    ModelInfo,
    Placed,
    Plan,
    Prefix,
    Prompt,
    Sampling,
    Started,
    TokenLogprob,
)

_LEXICON = (
    "amber bridge cedar delta ember field grove harbour island juniper kettle lantern meadow north orchard pebble "
    "quarry river silver timber upland valley willow yonder zenith acorn beacon copper dune echo fern glade"
)
WORDS = _LEXICON.split()


class FakeEngine:
    """Implements `Engine`.

    `delay`: seconds before each output token; a prompt takes none. `capacity`: requests at once, one more gets
    `Overloaded`; all of them run. `output_tokens`: words after which an answer ends by itself. `fail_after`: tokens
    after which each fails. `answer`: what every answer says instead, four characters a token, as a call that a client's
    loop is tested with. All of them may be changed while it runs.
    """

    def __init__(
        self,
        index: Index,
        *,
        clock: Callable[[], float] = time.monotonic,
        delay: float = 0.0,
        capacity: int = 64,
        context_length: int = 32_768,
        output_tokens: int = 16,
        fail_after: int | None = None,
        answer: str | None = None,
    ) -> None:
        self.delay = delay
        self.capacity = capacity
        self.output_tokens = output_tokens
        self.fail_after = fail_after
        self.answer = answer
        self._index = index
        self._clock = clock
        self._census = Census(index, clock)
        self._info = ModelInfo(context_length, 200_000, "fake engine, no model")
        self._runs: set[_Run] = set()
        self._closed = False
        self._prefilled = self._read = self._decoded = 0

    @property
    def info(self) -> ModelInfo:
        """A model in name only."""
        return self._info

    def generate(self, prompt: Prompt, plan: Plan, sampling: Sampling) -> AsyncIterator[Event]:
        """As `Engine.generate`."""
        if self._closed:
            raise EngineFailed("The engine is closed.")
        if plan.length >= self._info.context_length:
            raise ContextLengthExceeded(
                f"This model's maximum context length is {self._info.context_length} tokens. However, your messages "
                f"resulted in {plan.length} tokens. Please reduce the length of the messages."
            )
        if len(self._runs) >= self.capacity:
            raise Overloaded("Too many requests are running and waiting. Please try again later.", retry_after=1)
        run = _Run(self._compute(prompt, plan, sampling), self._runs)
        self._runs.add(run)
        return run

    def stats(self) -> EngineStats:
        """As `Engine.stats`."""
        tally = self._index.tally()
        return EngineStats(
            running=len(self._runs),
            tokens_prefilled=self._prefilled,
            tokens_read=self._read,
            tokens_decoded=self._decoded,
            promised_blocks=tally.promised_blocks,
            entries_evicted=tally.evicted,
            entries_expired=tally.expired,
            entries_lost=tally.lost,
            entries_cleared=tally.cleared,
        )

    async def prefixes(self, limit: int) -> list[Prefix]:
        """As `Engine.prefixes`."""
        return await self._census.prefixes(limit)

    async def close(self) -> None:
        """As `Engine.close`: every open iterator ends with `EngineFailed` at its next event."""
        self._closed = True

    async def _compute(self, prompt: Prompt, plan: Plan, sampling: Sampling) -> AsyncIterator[Event]:
        report = self._prefill(plan)
        yield Placed(report)
        yield Started(report)
        limit = self._info.context_length - plan.length
        if sampling.max_tokens is not None:
            limit = min(limit, sampling.max_tokens)
        output = TextStream(sampling.stop)
        count, seconds = 0, 0.0
        for token in _tokens(prompt, sampling, self.output_tokens, self.answer):
            if count == limit:
                break
            seconds += self.delay
            await asyncio.sleep(self.delay)
            if self._closed or count == self.fail_after:
                raise EngineFailed("The engine failed while it computed this request.")
            count += 1
            self._decoded += 1
            yield Delta(output.push(token.encode()), _logprobs(token, sampling.logprobs))
            if output.stopped:
                yield Finished("stop", count, seconds)
                return
        if held := output.finish():
            yield Delta(held)
        # A natural end takes one more token, the end of the turn.
        if 0 < count == limit:
            yield Finished("length", count, seconds)
        else:
            yield Finished("stop", count + bool(limit), seconds)

    def _prefill(self, plan: Plan) -> CacheReport:
        report = self._index.serve(plan, self._clock())
        self._prefilled += report.prefilled
        self._read += report.read
        return report


class _Run:
    """An iterator that gives its place back when it ends or is closed, even if it was never begun: the body of an
    async generator that was never begun doesn't run, and neither would its `finally`."""

    def __init__(self, events: AsyncIterator[Event], places: set[_Run]) -> None:
        self._events = events
        self._places = places

    def __aiter__(self) -> _Run:
        return self

    async def __anext__(self) -> Event:
        try:
            return await anext(self._events)
        except BaseException:
            self._places.discard(self)
            raise

    async def aclose(self) -> None:
        """Cancel the request."""
        self._places.discard(self)
        await self._events.aclose()  # type: ignore[attr-defined]  # a generator, typed as the iterator it is used as


def _tokens(prompt: Prompt, sampling: Sampling, count: int, answer: str | None) -> Iterator[str]:
    digest = hashlib.blake2b(prompt.tokens.tobytes(), digest_size=32).digest()
    words = (WORDS[hashlib.blake2b(digest, salt=n.to_bytes(16)).digest()[0] % len(WORDS)] for n in itertools.count())
    text = _made(sampling, words) if answer is None else answer
    if text is None:
        for n, word in enumerate(itertools.islice(words, count)):
            yield f" {word}" if n else word
        return
    yield from (text[at : at + 4] for at in range(0, len(text), 4))


def _made(sampling: Sampling, words: Iterator[str]) -> str | None:
    """A call where one has to be made, JSON where it is asked for; None: any text will do."""
    format, calls = sampling.format, sampling.calls
    if calls is not None and calls.required:
        function = calls.functions[0]
        schema = function.parameters or {}
        return calls.syntax.written([(function.name, json.dumps(_instance(schema, schema, words)))])
    if format.kind == "text":
        return None
    return json.dumps(
        {"answer": next(words)} if format.schema is None else _instance(format.schema, format.schema, words)
    )


def _instance(schema: Mapping[str, Any], root: Mapping[str, Any], words: Iterator[str], depth: int = 0) -> Any:
    """The simplest value of a JSON schema's commonest forms."""
    if depth > 32 or not isinstance(schema, Mapping):
        return None
    if "$ref" in schema:
        target: Any = root
        for step in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target.get(step, {})
        return _instance(target, root, words, depth + 1)
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return _instance(schema[choice][0], root, words, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    simple: dict[str, Any] = {"integer": 1, "number": 0.5, "boolean": True, "null": None, "array": []}
    kind = schema.get("type", "object")
    if kind == "string":
        return next(words)
    if kind in simple:
        return simple[kind]
    properties = schema.get("properties", {})
    return {name: _instance(inner, root, words, depth + 1) for name, inner in properties.items()}


def _logprobs(token: str, wanted: int | None) -> tuple[TokenLogprob, ...]:
    if wanted is None:
        return ()
    rivals = [token, *(word for word in WORDS if word != token.strip())][:wanted]
    top = tuple(TokenLogprob(rival, rival.encode(), -0.1 - rank) for rank, rival in enumerate(rivals))
    return (TokenLogprob(token, token.encode(), -0.1, top),)
