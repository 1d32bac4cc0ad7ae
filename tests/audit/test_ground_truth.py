"""What the audit predicts is what the real server reports, request by request: llama.cpp under the embedded engine,
both generations, expiries by a clock that the test moves, evictions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp

from headstart.api.app import create_app
from headstart.api.auth import KeyRing
from headstart.audit.call import Call
from headstart.audit.formats.fields import usage_of
from headstart.audit.replay import Prompts, Replay
from headstart.cache.index import PrefixIndex
from headstart.cache.policy import Terms, rules_for
from headstart.config import EngineConfig
from headstart.engine.demo_model import DemoShape, write_demo_model
from headstart.engine.embedded import EmbeddedEngine
from headstart.engine.fake import FakeEngine
from headstart.engine.llama import LlamaModel
from headstart.models import prompt_builder
from headstart.pipeline import Pipeline, ServedModel
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.template import DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import OpenAITokenizer

SHAPE = DemoShape("small", 64, 1, 2, 1, 64, 16_384, vocabulary=None, quantised=True, stops=-1)
"""As the demo model, with all of o200k's tokens, and next to no weights."""
MODELS = {"gpt-4.1-mini": "interval", "gpt-5.6": "breakpoint"}
START = 1_790_000_000.0
RULES = "".join(
    f"Rule {number}: answer case {number * 37 % 101} in {number % 7 + 2} sentences.\n" for number in range(90)
)
TOOLS = [
    {"type": "function", "name": name, "description": f"Looks up {name}. " * 20, "parameters": {"type": "object"}}
    for name in ("orders", "parcels", "refunds")
]


@dataclass
class Clock:
    """Unix time that the test moves."""

    now: float = START

    def __call__(self) -> float:
        return self.now


Ask = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LlamaModel:
    """The small model."""
    path = tmp_path_factory.mktemp("model") / "small.gguf"
    write_demo_model(path, chat_template=DEMO_TEMPLATE, shape=SHAPE)
    return LlamaModel(path, gpu_layers=0)


@pytest.fixture
def clock() -> Clock:
    """At the beginning."""
    return Clock()


def application(engine: Any, prompts: PromptBuilder, clock: Clock, directory: Path) -> ASGIApp:
    """The server's, with both generations on one engine."""
    terms = Terms(b"s" * 32)
    served = [
        ServedModel(name, rules, engine, prompts, rules_for(rules, terms), 0)  # type: ignore[arg-type]
        for name, rules in MODELS.items()
    ]
    return create_app(
        Pipeline(served, b"s", clock=clock), KeyRing(directory / "keys.json"), max_body=2**21, clock=clock
    )


@pytest.fixture
def ask(
    model: LlamaModel, clock: Clock, tmp_path: Path, serve: Callable[[ASGIApp], AbstractContextManager[str]]
) -> Iterator[Ask]:
    """Posts a body to the real server and gives its usage."""
    config = EngineConfig(context_cells=16_384, threads=2)
    engine = EmbeddedEngine(model, config, PrefixIndex(2**30), clock=clock)
    with serve(application(engine, prompt_builder(model), clock, tmp_path)) as url:
        yield lambda body: posted(url, body)


def posted(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The usage of its answer."""
    path = "chat/completions" if "messages" in body else "responses"
    limit = "max_completion_tokens" if "messages" in body else "max_output_tokens"
    answer = httpx2.post(f"{url}/v1/{path}", json={**body, limit: 1}, timeout=60)
    assert answer.status_code == 200, answer.text
    usage: dict[str, Any] = answer.json()["usage"]
    return usage


def bodies(model: str, count: int, seed: int) -> Iterator[tuple[float, dict[str, Any]]]:
    """Requests of a small application, and the seconds before each: questions behind one prefix, a conversation that
    grows, tools, keys, marks, formats, retentions; some after gaps longer than entries live."""
    dice = random.Random(seed)
    history: list[dict[str, Any]] = [{"role": "system", "content": RULES}]
    for number in range(count):
        gap = dice.choice((1.0, 20.0, 400.0, 1000.0, 2500.0))
        kind = dice.randrange(6)
        body: dict[str, Any] = {"model": model}
        if kind == 0:
            body |= {"input": f"{RULES}Question {dice.randrange(3)}?"}
        elif kind == 1:
            history += [{"role": "user", "content": f"And case {number}? " * dice.randrange(1, 30)}]
            body |= {"messages": [*history]}
            history += [{"role": "assistant", "content": f"It is {number}."}]
        elif kind == 2:
            body |= {
                "instructions": RULES,
                "input": f"Case {number}",
                "tools": TOOLS,
                "parallel_tool_calls": number % 2 == 0,
            }
        elif kind == 3:
            part: dict[str, Any] = {"type": "input_text", "text": RULES}
            if model == "gpt-5.6":
                part["prompt_cache_breakpoint"] = {"mode": "explicit", "ttl": dice.choice(("30m", "12h"))}
                body["prompt_cache_options"] = {"mode": dice.choice(("implicit", "explicit"))}
            body |= {"input": [{"role": "user", "content": [part, {"type": "input_text", "text": f"Case {number}"}]}]}
        elif kind == 4:
            body |= {"input": "Short.", "prompt_cache_key": "a"}
        else:
            body |= {"input": f"{RULES}Case {number}", "prompt_cache_key": dice.choice("ab")}
            if model == "gpt-4.1-mini":
                body["prompt_cache_retention"] = dice.choice(("in_memory", "24h"))
        yield gap, body


def compared(ask: Ask, clock: Clock, traffic: Iterator[tuple[float, dict[str, Any]]], replay: Replay) -> list[int]:
    """Every request through both; returns what was read."""
    reads = []
    for number, (gap, body) in enumerate(traffic, 1):
        clock.now += gap
        usage = usage_of(ask(body))
        assert usage is not None
        call = Call(number, "chat" if "messages" in body else "responses", body, clock.now)
        served = replay.take(call)
        predicted = (served.input, served.read, served.written, served.long)
        assert predicted == usage[:4], f"request {number}: {str(body)[-200:]}"
        reads.append(served.read)
    return reads


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", [1, 2])
def test_predicted_is_reported(ask: Ask, clock: Clock, name: str, seed: int) -> None:
    """Input, cached and written tokens by life, over hits, misses and expiries."""
    reads = compared(ask, clock, bodies(name, 40, seed), Replay(Prompts()))
    assert 5 <= sum(read > 0 for read in reads) <= 35


@pytest.mark.parametrize("name", MODELS)
def test_evictions_too(
    name: str, clock: Clock, tmp_path: Path, serve: Callable[[ASGIApp], AbstractContextManager[str]]
) -> None:
    """A cache with room for few blocks, over an engine whose blocks weigh the same as the replay's."""
    blocks = 24
    prompts = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())
    index = PrefixIndex(blocks)
    index.promises.budget = index.promises.budget._replace(ram=blocks)
    with serve(application(FakeEngine(index, clock=clock), prompts, clock, tmp_path)) as url:
        replay = Replay(Prompts(), blocks=blocks)
        traffic = [
            (gap / 100, {**body, "prompt_cache_key": f"key {number % 3}"})
            for number, (gap, body) in enumerate(bodies(name, 60, 3))
        ]
        reads = compared(lambda body: posted(url, body), clock, iter(traffic), replay)
    assert replay.index.tally().evicted > 0
    assert any(reads)
