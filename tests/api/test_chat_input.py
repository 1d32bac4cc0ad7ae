"""The body of a Chat Completions request, as a `Request`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headstart.api.chat_input import check_vocabulary, request_of
from headstart.api.decoding import decode
from headstart.api.wire.chat import ChatBody
from headstart.errors import InvalidRequest
from headstart.types import Message, Request, Text, ToolCall

HELLO = {"role": "user", "content": "Hello"}


def read(*messages: Any, **body: Any) -> Request:
    """As it comes over the wire."""
    return request_of(decode(msgspec.json.encode({"model": "m", "messages": messages or [HELLO], **body}), ChatBody))


def test_messages() -> None:
    """Each message and part at its path, calls and results with their ids."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    request = read(
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "A", "tool_calls": [call], "refusal": None, "annotations": []},
        {"role": "tool", "content": "T", "tool_call_id": "c"},
    )
    at = "messages[2].tool_calls[0].function"
    assert request.messages == (
        Message("system", (Text("S", "messages[0].content"),), "messages[0]"),
        Message(
            "user", (Text("a", "messages[1].content[0].text"), Text("b", "messages[1].content[1].text")), "messages[1]"
        ),
        Message(
            "assistant",
            (Text("A", "messages[2].content"),),
            "messages[2]",
            tool_calls=(ToolCall("c", Text("f", f"{at}.name"), Text("{}", f"{at}.arguments")),),
        ),
        Message("tool", (Text("T", "messages[3].content"),), "messages[3]", tool_call_id="c"),
    )


def test_refusals_are_text() -> None:
    """A refusal that is sent back is what the model said, as a field or as a part."""
    (field, part) = read(
        {"role": "assistant", "refusal": "No."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No!"}]},
    ).messages
    assert field.content == (Text("No.", "messages[0].refusal"),)
    assert part.content == (Text("No!", "messages[1].content[0].refusal"),)


def test_tools() -> None:
    """Definitions are the client's own objects."""
    tool = {"function": {"parameters": {}, "name": "f"}, "type": "function"}
    (read_tool,) = read(tools=[tool]).tools
    assert list(read_tool.definition) == ["function", "type"]
    assert list(read_tool.definition["function"]) == ["parameters", "name"]


def test_sampling() -> None:
    """Every option in the vocabulary's terms."""
    sampling = read(
        temperature=0,
        top_p=0.1,
        seed=-5,
        frequency_penalty=1,
        presence_penalty=-2,
        logit_bias={"7": -100, "8": 0.5},
        stop=["a", "b"],
        logprobs=True,
        top_logprobs=4,
        max_completion_tokens=9,
        response_format={"type": "json_object"},
    ).sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0, 0.1, -5)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (1, -2)
    assert sampling.logit_bias == ((7, -100), (8, 0.5))
    assert sampling.stop == ("a", "b")
    assert (sampling.logprobs, sampling.max_tokens, sampling.format.kind) == (4, 9, "json_object")


def test_defaults() -> None:
    """What isn't said."""
    sampling = read().sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed, sampling.max_tokens) == (1.0, 1.0, None, None)
    assert (sampling.stop, sampling.logprobs, sampling.logit_bias) == ((), None, ())
    assert read(stop="x", logprobs=True).sampling.stop == ("x",)
    assert read(logprobs=True).sampling.logprobs == 0


@pytest.mark.parametrize("key", ["", "-1", "1.5", "cat", "²", "1" * 11])
def test_bias_keys_are_token_ids(key: str) -> None:
    """Digits only."""
    with pytest.raises(InvalidRequest, match="Invalid key in 'logit_bias'"):
        read(logit_bias={key: 1})


def test_bias_within_the_vocabulary() -> None:
    """A token that the model doesn't have."""
    check_vocabulary([(9, 1.0)], 10)
    with pytest.raises(InvalidRequest, match="Maximum value is 9"):
        check_vocabulary([(10, 1.0)], 10)


def calling(*ids: str) -> dict[str, Any]:
    """An assistant's message with calls."""
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(id: str) -> dict[str, Any]:
    """What a call gave."""
    return {"role": "tool", "content": "rain", "tool_call_id": id}


@pytest.mark.parametrize(
    ("messages", "missing"),
    [
        ([HELLO, calling("a")], "a"),
        ([HELLO, calling("a"), HELLO], "a"),
        ([HELLO, calling("a"), HELLO, result("a")], "a"),
        ([HELLO, calling("a", "b", "c"), result("b")], "a, c"),
        ([HELLO, calling("a"), calling("b"), result("b")], "a"),
        ([HELLO, calling("x" * 99)], "x" * 64),
        ([HELLO, calling(*"abcdefghij")], "a, b, c, d, e, f, g, h and 2 more"),
    ],
)
def test_a_call_without_a_result_is_refused(messages: list[Any], missing: str) -> None:
    """In OpenAI's words, at the message that made it; results follow directly."""
    with pytest.raises(InvalidRequest) as caught:
        read(*messages)
    assert caught.value.message == (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
        f"The following tool_call_ids did not have response messages: {missing}"
    )
    assert caught.value.param == "messages[1].role"


def test_results_come_in_any_order_and_ids_again_in_later_messages() -> None:
    """Some models count their calls anew in every answer."""
    read(HELLO, calling("a", "b"), result("b"), result("a"), calling("a"), result("a"), HELLO)


def test_two_calls_of_one_id_are_refused() -> None:
    """A result couldn't say whose it is."""
    with pytest.raises(InvalidRequest, match=r"Two tool calls of 'messages\[1\]' have the id 'a'") as caught:
        read(HELLO, calling("a", "a"), result("a"))
    assert caught.value.param == "messages[1].tool_calls[1].id"


def test_a_result_of_an_earlier_messages_call_is_refused() -> None:
    """Its group is over."""
    with pytest.raises(InvalidRequest, match="must be a response to a preceding message") as caught:
        read(HELLO, calling("a"), result("a"), HELLO, result("a"))
    assert caught.value.param == "messages[4].tool_call_id"
