"""The body of a Responses request, as a `Request`: order, paths, merging."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headstart.api.decoding import decode
from headstart.api.responses_input import countable, request_of
from headstart.api.wire.responses import InputTokensBody, ResponsesBody
from headstart.errors import InvalidRequest
from headstart.store.responses import Item
from headstart.types import Message, Request, Text, ToolCall


def read(**body: Any) -> Request:
    """As it comes over the wire."""
    return request_of(decode(msgspec.json.encode({"model": "m", **body}), ResponsesBody))


def test_string() -> None:
    """A string is a user's message at `input`."""
    assert read(input="Hello").messages == (Message("user", (Text("Hello", "input"),), "input"),)


@pytest.mark.contract("W1")
def test_instructions_come_first() -> None:
    """Instructions, then the input, each at its path."""
    request = read(instructions="Be short.", input=[{"role": "user", "content": "Hello"}])
    assert request.messages == (
        Message("developer", (Text("Be short.", "instructions"),), "instructions"),
        Message("user", (Text("Hello", "input[0].content"),), "input[0]"),
    )


def test_parts() -> None:
    """Each part is a text at its own path."""
    parts = [{"type": "input_text", "text": "a"}, {"type": "output_text", "text": "b", "annotations": []}]
    (message,) = read(input=[{"type": "message", "role": "assistant", "content": parts}]).messages
    assert message.content == (Text("a", "input[0].content[0].text"), Text("b", "input[0].content[1].text"))


def test_calls_merge() -> None:
    """Consecutive calls are one message, a reasoning item between them notwithstanding; their results are one each."""
    request = read(
        input=[
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "[]"},
            {"type": "function_call_output", "call_id": "c2", "output": "two"},
            {"type": "function_call", "call_id": "c3", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c3", "output": "three"},
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
        ]
    )
    first, result, second, *_ = request.messages
    assert (first.role, first.path, first.content) == ("assistant", "input[0]", ())
    assert first.tool_calls == (
        ToolCall("c1", Text("f", "input[0].name"), Text("{}", "input[0].arguments")),
        ToolCall("c2", Text("g", "input[2].name"), Text("[]", "input[2].arguments")),
    )
    assert result == Message("tool", (Text("two", "input[3].output"),), "input[3]", tool_call_id="c2")
    assert [call.id for call in second.tool_calls] == ["c3"]


@pytest.mark.contract("B5")
def test_tools_keep_the_clients_order() -> None:
    """The definition is nested as templates expect, its keys in the client's order."""
    tool = {"strict": True, "type": "function", "parameters": {"z": 1, "a": 2}, "name": "f"}
    (read_tool,) = read(input="x", tools=[tool]).tools
    assert read_tool.path == "tools[0]"
    assert list(read_tool.definition) == ["type", "function"]
    assert list(read_tool.definition["function"]) == ["strict", "parameters", "name"]
    assert list(read_tool.definition["function"]["parameters"]) == ["z", "a"]


def test_settings_and_sampling() -> None:
    """What shapes the prefix is apart from what chooses tokens; the format is in both."""
    schema = {"type": "object"}
    request = read(
        input="x",
        reasoning={"effort": "high"},
        text={"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": schema}},
        parallel_tool_calls=False,
        temperature=0,
        top_p=0.5,
        max_output_tokens=7,
        prompt_cache_key="k",
        prompt_cache_retention="24h",
    )
    assert request.settings.reasoning_effort == "high"
    assert request.settings.verbosity == "low"
    assert request.settings.parallel_tool_calls is False
    assert request.settings.format == request.sampling.format
    assert (request.settings.format.kind, request.settings.format.schema) == ("json_schema", schema)
    assert request.settings.format.path == "text.format"
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.max_tokens) == (0, 0.5, 7)
    assert (request.cache.key, request.cache.retention) == ("k", "24h")


def test_logprobs() -> None:
    """Asked for by `include` alone, by `top_logprobs` alone, or not."""
    assert read(input="x").sampling.logprobs is None
    assert read(input="x", top_logprobs=0).sampling.logprobs is None
    assert read(input="x", top_logprobs=3).sampling.logprobs == 3
    assert read(input="x", include=["message.output_text.logprobs"]).sampling.logprobs == 0


def test_counting_with_the_only_model() -> None:
    """`model` may be absent where a single one is served."""
    body = decode(b'{"input": "x"}', InputTokensBody)
    assert countable(body, ["only"]).model == "only"


def test_earlier_items_stand_between_instructions_and_input() -> None:
    """A stored conversation, its items counted through; a tool's result may belong to a call among them."""
    earlier = [
        {"id": "msg_1", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"id": "fc_1", "type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"},
    ]
    items = [Item(str(item["id"]), msgspec.json.encode(item)) for item in earlier]
    result = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
    body = {"model": "m", "instructions": "Be short.", "input": [result]}
    request = request_of(decode(msgspec.json.encode(body), ResponsesBody), items)
    at = "previous_response_id.input"
    assert [message.path for message in request.messages] == ["instructions", f"{at}[0]", f"{at}[1]", "input[0]"]
    assert request.messages[1].content == (Text("Weather?", f"{at}[0].content[0].text"),)
    assert request.messages[2].tool_calls[0].name == Text("f", f"{at}[1].name")
    body["input"] = "And now?"
    request = request_of(decode(msgspec.json.encode(body), ResponsesBody), items[:1])
    assert request.messages[2] == Message("user", (Text("And now?", "input"),), "input")


def test_a_text_and_the_calls_behind_it_are_one_message() -> None:
    """As the model wrote them, in one turn."""
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
    said = {"role": "assistant", "content": "Let me see."}
    request = read(input=[{"role": "user", "content": "?"}, said, call, result])
    assert [message.role for message in request.messages] == ["user", "assistant", "tool"]
    assert request.messages[1].content == (Text("Let me see.", "input[1].content"),)
    assert request.messages[1].tool_calls == (
        ToolCall("c1", Text("f", "input[2].name"), Text("{}", "input[2].arguments")),
    )


CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "rain"}
USER = {"role": "user", "content": "Well?"}


@pytest.mark.parametrize(
    "items", [[CALL], [CALL, USER], [CALL, OUTPUT, CALL | {"call_id": "c2"}], [USER, CALL | {"call_id": "c" * 99}]]
)
def test_a_call_without_an_output_is_refused(items: list[Any]) -> None:
    """By its id, of which no more is said back than a line holds."""
    id = items[-1].get("call_id", "c1")[:64]
    with pytest.raises(InvalidRequest, match=rf"^No tool output found for function call {id}\.$") as caught:
        read(input=items)
    assert caught.value.param == "input"


def test_an_output_may_come_later() -> None:
    """Whatever stands between it and its call."""
    assert len(read(input=[CALL, USER, CALL | {"call_id": "c2"}, OUTPUT | {"call_id": "c2"}, OUTPUT]).messages) == 5


@pytest.mark.parametrize(("items", "second"), [([CALL, CALL, OUTPUT], 1), ([CALL, OUTPUT, CALL, OUTPUT], 2)])
def test_two_calls_of_one_id_are_refused(items: list[Any], second: int) -> None:
    """An output couldn't say whose it is."""
    with pytest.raises(InvalidRequest, match="Two function calls have the call_id c1") as caught:
        read(input=items)
    assert caught.value.param == f"input[{second}].call_id"
