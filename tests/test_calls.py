"""Functions called by a real transformer: forced calls on llama.cpp, every family of templates, both endpoints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.types import ASGIApp

from headstart import server
from headstart.accounts import Accounts
from headstart.config import Config, EngineConfig, ModelConfig
from headstart.engine.demo_model import TINY, write_demo_model
from headstart.prompt.template import DEFAULT_TEMPLATE, DEMO_TEMPLATE

TEMPLATES = Path(__file__).parent / "prompt" / "templates"
FAMILIES = ("demo", "default", "qwen3", "llama3_1", "mistral")
PLAIN = "chatml"
"""A template without calls."""

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Oslo ☔"]},
        "days": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        "note": {"type": "string", "maxLength": 3},
    },
    "required": ["city", "days"],
}
FUNCTIONS: list[dict[str, Any]] = [
    {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA, "strict": True},
    {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
]
FLAT: list[Any] = [{"type": "function", **function} for function in FUNCTIONS]
NESTED: list[Any] = [{"type": "function", "function": function} for function in FUNCTIONS]
HELLO: list[Any] = [{"role": "user", "content": "Weather?"}]


@pytest.fixture(scope="module")
def client(
    serve: Callable[[ASGIApp], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    """A server of one tiny model per template, and the SDK."""
    directory = tmp_path_factory.mktemp("families")
    models = []
    for name in (*FAMILIES, PLAIN):
        ours = {"demo": DEMO_TEMPLATE, "default": DEFAULT_TEMPLATE}
        template = ours.get(name) or (TEMPLATES / f"{name}.jinja").read_text("utf-8")
        write_demo_model(directory / f"{name}.gguf", chat_template=template, shape=TINY)
        models.append(ModelConfig(name=name, file=str(directory / f"{name}.gguf")))
    engine = EngineConfig(context_cells=8_192, max_sequences=4, threads=1)
    config = Config(data_dir=str(directory), models=tuple(models), engine=engine)
    keys = server.prepare(config)
    pipeline, accounts = server.build_pipeline(config, keys), Accounts(config, b"")
    with (
        serve(server.build_app(config, pipeline, keys, server.open_store(config, keys), accounts)) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="unused", max_retries=0, timeout=60) as client,
    ):
        yield client
    for model in pipeline.models.values():
        asyncio.run(model.engine.close())


def check(name: str, arguments: str) -> None:
    """A call of one of the functions, with arguments of its schema."""
    given = json.loads(arguments)
    if name == "get_time":
        assert given == {}
        return
    assert name == "get_weather"
    assert given["city"] in ("Rome", "Oslo ☔")
    assert set(map(type, given["days"])) <= {bool}
    assert set(given) <= {"city", "days", "note"}
    assert len(given.get("note", "")) <= 3


@pytest.mark.parametrize("model", FAMILIES)
def test_forced_calls(client: openai.OpenAI, model: str) -> None:
    """Whatever random weights would rather say, one call of a function that is allowed, whole and streamed alike."""
    for seed, choice in enumerate(("required", {"type": "function", "name": "get_weather"})):
        options: dict[str, Any] = {"model": model, "input": f"Weather {seed}?", "tools": FLAT, "tool_choice": choice}
        options |= {"parallel_tool_calls": False, "temperature": 0}
        whole = client.responses.create(**options)
        with client.responses.stream(**options) as stream:
            streamed = stream.get_final_response()
        for response in (whole, streamed):
            assert response.status == "completed"
            (call,) = response.output
            assert call.type == "function_call"
            check(call.name, call.arguments)
            assert choice == "required" or call.name == "get_weather"
        first, second = whole.output[0], streamed.output[0]
        assert (first.name, first.arguments) == (second.name, second.arguments)  # type: ignore[union-attr]


@pytest.mark.parametrize("model", FAMILIES)
def test_forced_calls_in_chat(client: openai.OpenAI, model: str) -> None:
    """The same in Chat Completions, drawn at random; and the turn after it is served."""
    only: Any = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "get_weather"}}]},
    }
    for seed, choice in enumerate(("required", only)):
        options: dict[str, Any] = {"model": model, "messages": HELLO, "tools": NESTED, "tool_choice": choice}
        options |= {"parallel_tool_calls": False, "seed": seed}
        whole = client.chat.completions.create(**options)
        with client.chat.completions.stream(**options) as stream:
            streamed = stream.get_final_completion()
        for completion in (whole, streamed):
            assert completion.choices[0].finish_reason == "tool_calls"
            assert not completion.choices[0].message.content
            (call,) = completion.choices[0].message.tool_calls or []
            assert call.type == "function"
            check(call.function.name, call.function.arguments)
            assert choice == "required" or call.function.name == "get_weather"
        message = whole.choices[0].message
        result = {"role": "tool", "tool_call_id": (message.tool_calls or [])[0].id, "content": "rain"}
        conversation: list[Any] = [*HELLO, message, result]
        client.chat.completions.create(
            model=model, messages=conversation, tools=NESTED, tool_choice="none", max_completion_tokens=3
        )


@pytest.mark.parametrize("model", FAMILIES)
def test_calls_that_needn_t_be_made(client: openai.OpenAI, model: str) -> None:
    """With `auto` these weights write text, and the prompt is the one that forced calls have."""
    usage = []
    for choice in ("auto", "none", "required"):
        response = client.responses.create(
            model=model,
            input="Weather?",
            tools=FLAT,
            tool_choice=choice,  # type: ignore[call-overload]
            max_output_tokens=20,
            temperature=0,
        )
        assert response.usage is not None
        usage.append(response.usage.input_tokens)
        assert (response.output_text != "") is (choice != "required")
        assert choice == "required" or [item.type for item in response.output] == ["message"]
    assert len(set(usage)) == 1


def test_several_calls(client: openai.OpenAI) -> None:
    """Where several may be made, each is whole; the last one may be cut off by the limit."""
    response = client.responses.create(
        model="demo", input="All?", tools=FLAT, tool_choice="required", temperature=0, max_output_tokens=400
    )
    calls = [item for item in response.output if item.type == "function_call"]
    assert calls
    for call in calls:
        if call.status == "completed":
            check(call.name, call.arguments)


def test_a_call_or_the_format(client: openai.OpenAI) -> None:
    """Tools beside an output format: an answer that is no call has the format."""
    response = client.responses.create(
        model="demo",
        input="Which?",
        tools=FLAT,
        text={"format": {"type": "json_schema", "name": "x", "schema": {"enum": ["a", "b"]}}},
        temperature=0,
    )
    if response.output_text:
        assert json.loads(response.output_text) in ("a", "b")
    else:
        assert {item.type for item in response.output} == {"function_call"}


def test_a_template_without_calls(client: openai.OpenAI) -> None:
    """A call can't be forced there, and the error says why; else its answers are text."""
    with pytest.raises(openai.BadRequestError, match="chat template") as caught:
        client.responses.create(model=PLAIN, input="Weather?", tools=FLAT, tool_choice="required")
    assert caught.value.param == "tool_choice"
    assert client.responses.create(model=PLAIN, input="Hi", tools=FLAT, max_output_tokens=5).output_text


def test_strict_schemas_that_cannot_be_kept(client: openai.OpenAI) -> None:
    """Refused by name in either endpoint's shape; without `strict` they are kept as far as they can."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    function: dict[str, Any] = {"name": "f", "parameters": schema, "strict": True}
    place = "properties.n.minimum"
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="demo", input="x", tools=[{"type": "function", **function}])  # type: ignore[arg-type]
    assert caught.value.param == f"tools[0].parameters.{place}"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="demo", messages=HELLO, tools=[{"type": "function", "function": function}])  # type: ignore[list-item]
    assert caught.value.param == f"tools[0].function.parameters.{place}"
    function["strict"] = False
    response = client.responses.create(
        model="demo",
        input="x",
        tools=[{"type": "function", **function}],
        tool_choice="required",
        max_output_tokens=60,  # type: ignore[arg-type]
    )
    assert response.output[0].type == "function_call"
