"""The engine without a model: what tests that stand on it rely on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from headstart.cache.index import PrefixIndex
from headstart.cache.policy import IntervalRules, Terms
from headstart.engine.fake import FakeEngine
from headstart.errors import ContextLengthExceeded, EngineFailed, Overloaded
from headstart.types import (
    CacheOptions,
    Calls,
    CallSyntax,
    Delta,
    Event,
    Finished,
    Function,
    Namespace,
    OutputFormat,
    Placed,
    Plan,
    Prompt,
    Sampling,
    Started,
)

RULES = IntervalRules(Terms(b"\0" * 32, retention="in_memory"))
NAMESPACE = Namespace("default", "m", "interval", None)


def prompt(length: int, seed: int = 0) -> tuple[Prompt, Plan]:
    """A prompt of `length` tokens, and its plan."""
    tokens = np.random.default_rng(seed).integers(0, 1000, length, dtype=np.int32)
    made = Prompt(tokens, ())
    return made, RULES.plan(made, NAMESPACE, CacheOptions())


def engine(**options: Any) -> FakeEngine:
    """An engine of its own."""
    return FakeEngine(PrefixIndex(2**20), **options)


async def run(fake: FakeEngine, length: int = 10, seed: int = 0, **options: Any) -> list[Event]:
    """All events of one request."""
    return [event async for event in fake.generate(*prompt(length, seed), Sampling(**options))]


def text(events: list[Event]) -> str:
    """The whole output."""
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_order_and_determinism() -> None:
    """`Placed`, `Started`, deltas, `Finished`; the same prompt says the same, another one something else."""
    events = await run(engine())
    assert isinstance(events[0], Placed)
    assert isinstance(events[1], Started)
    assert isinstance(events[-1], Finished)
    assert all(isinstance(event, Delta) for event in events[2:-1])
    assert events == await run(engine())
    assert text(events) != text(await run(engine(), seed=1))


async def test_limits() -> None:
    """`length` at the request's limit, `stop` at a natural end, which takes one token more."""
    assert (await run(engine(output_tokens=5)))[-1] == Finished("stop", 6)
    assert (await run(engine(output_tokens=5), max_tokens=6))[-1] == Finished("stop", 6)
    assert (await run(engine(output_tokens=5), max_tokens=5))[-1] == Finished("length", 5)
    assert (await run(engine(output_tokens=5), max_tokens=2))[-1] == Finished("length", 2)
    assert (await run(engine(output_tokens=50, context_length=20)))[-1] == Finished("length", 10)


async def test_stop_strings() -> None:
    """The first stop string ends the output, also one that spans tokens; what only began as one is said."""
    whole = text(await run(engine()))
    words = whole.split()
    spanning = whole[len(words[0]) - 2 : len(words[0]) + 3]
    assert text(await run(engine(), stop=(spanning, "never"))) == words[0][:-2]
    assert text(await run(engine(), stop=(words[-1] + "never",))) == whole
    events = await run(engine(), stop=(words[1],))
    assert text(events) == f"{words[0]} "
    assert events[-1] == Finished("stop", 2)


@pytest.mark.contract("I6")
async def test_cache() -> None:
    """The rules of the index it was given: read what was written, until it expires."""
    now = 0.0
    fake = engine(clock=lambda: now)
    reports = []
    for time in (0, 1, 601.5, 602):
        now = time
        started = (await run(fake, length=2000))[1]
        assert isinstance(started, Started)
        reports.append((started.report.read, started.report.prefilled))
    assert reports == [(0, 2000), (1920, 80), (0, 2000), (1920, 80)]
    assert fake.stats().tokens_read == 3840
    assert fake.stats().tokens_prefilled == 4160


async def test_too_long() -> None:
    """A prompt that leaves no room for one output token."""
    with pytest.raises(ContextLengthExceeded, match="maximum context length is 10 tokens"):
        engine(context_length=10).generate(*prompt(10), Sampling())


async def test_capacity() -> None:
    """One more than the capacity is refused at once; ending, cancelling and dropping unbegun give places back."""
    fake = engine(capacity=2)
    first, second = (fake.generate(*prompt(10), Sampling()) for _ in range(2))
    with pytest.raises(Overloaded):
        fake.generate(*prompt(10), Sampling())
    await first.aclose()
    assert fake.stats().running == 1
    async for _ in second:
        pass
    assert fake.stats().running == 0


async def test_cancel() -> None:
    """Cancelling the task that waits for the next event frees the engine."""
    fake = engine(delay=60)
    task = asyncio.create_task(run(fake))
    while not fake.stats().running:
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fake.stats().running == 0


async def test_failures() -> None:
    """A request that fails, an engine that is closed."""
    fake = engine(fail_after=3)
    with pytest.raises(EngineFailed):
        await run(fake)
    assert fake.stats().running == 0
    fake.fail_after = None
    events = fake.generate(*prompt(10), Sampling())
    await anext(events)
    await anext(events)
    await fake.close()
    await fake.close()
    with pytest.raises(EngineFailed):
        await anext(events)
    with pytest.raises(EngineFailed, match="closed"):
        fake.generate(*prompt(10), Sampling())


async def test_logprobs() -> None:
    """One entry per token, with as many rivals as were asked for."""
    events = [event for event in await run(engine(), logprobs=2) if isinstance(event, Delta)]
    assert "".join(event.logprobs[0].token for event in events) == text(list(events))
    assert all(len(event.logprobs[0].top) == 2 for event in events)
    assert all(event.logprobs == () for event in await run(engine()) if isinstance(event, Delta))


async def test_json() -> None:
    """Formats are kept: any object, or one of the schema."""
    assert isinstance(json.loads(text(await run(engine(), format=OutputFormat("json_object")))), dict)
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "kind": {"enum": ["a", "b"]},
            "place": {"$ref": "#/$defs/place"},
            "tags": {"type": "array"},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "fixed": {"const": 3},
        },
        "$defs": {"place": {"type": "object", "properties": {"x": {"type": "number"}, "in": {"$ref": "#"}}}},
    }
    value = json.loads(text(await run(engine(), format=OutputFormat("json_schema", schema))))
    assert isinstance(value["name"], str)
    assert (value["kind"], value["tags"], value["maybe"], value["fixed"]) == ("a", [], None, 3)
    assert value["place"]["x"] == 0.5


async def test_a_call_that_has_to_be_made() -> None:
    """Of the first function that is allowed, in the syntax that is asked for; where it needn't be, words."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "kind": {"enum": ["a", "b"]}}}
    functions = (Function("f", schema, False, ""), Function("g", None, False, ""))
    syntax = CallSyntax("<", "{", "|", "}", None, closer=">")
    assert text(await run(engine(), calls=Calls(syntax, functions, required=True))) == '<{f|{"n": 1, "kind": "a"}}>'
    assert text(await run(engine(), calls=Calls(syntax, functions[1:], required=True))) == "<{g|{}}>"
    assert text(await run(engine(), calls=Calls(syntax, functions))) == text(await run(engine()))


async def test_a_given_answer() -> None:
    """What a test wants to be said, in pieces of a token each."""
    events = await run(engine(answer="Exactly this."))
    assert text(events) == "Exactly this."
    assert events[-1] == Finished("stop", 5)
    assert text(await run(engine(answer=""))) == ""
