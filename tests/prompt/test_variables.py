"""Templates are given requests as Hugging Face's `apply_chat_template` would give them, every text traced."""

from __future__ import annotations

import pytest

from headstart.prompt.tracing import Traced, pieces_of, strings
from headstart.prompt.variables import Dialect, traced, variables
from headstart.types import Message, Request, Text, Tool, ToolCall

CALL = ToolCall("call_1", Text("f", "messages[1].name"), Text('{"a": ["b", 1]}', "messages[1].arguments"))
REQUEST = Request(
    "m",
    (
        Message(
            "user",
            (Text("one", "messages[0].content[0].text"), Text("two", "messages[0].content[1].text")),
            "messages[0]",
        ),
        Message("assistant", (), "messages[1]", (CALL,)),
        Message("tool", (Text("3", "messages[2].content"),), "messages[2]", tool_call_id="call_1"),
    ),
    (Tool({"type": "function", "function": {"name": "f"}}, "tools[0]"),),
)


def test_messages_as_dictionaries() -> None:
    """A content is the concatenation of its texts; a call's arguments are parsed; a result knows its tool's name."""
    given = variables(REQUEST, Dialect())
    assert given["messages"] == [
        {"role": "user", "content": "onetwo"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"a": ["b", 1]}}}
            ],
        },
        {"role": "tool", "content": "3", "tool_call_id": "call_1", "name": "f"},
    ]
    assert given["tools"] == [{"type": "function", "function": {"name": "f"}}]
    assert given["add_generation_prompt"] is True


def test_dialects() -> None:
    """None for no content, and arguments as text, where the template wants that."""
    message = variables(REQUEST, Dialect(null_content=True, parsed_arguments=False))["messages"][1]
    assert message["content"] is None
    assert message["tool_calls"][0]["function"]["arguments"] == '{"a": ["b", 1]}'


@pytest.mark.parametrize("text", ["{bad", "", "[" * 100_000, "\ud800"])
def test_arguments_that_are_no_json_stay_text(text: str) -> None:
    """A model may have written anything."""
    call = CALL._replace(arguments=Text(text, "a"))
    request = Request("m", (Message("assistant", (), "b", (call,)),))
    assert variables(request, Dialect())["messages"][0]["tool_calls"][0]["function"]["arguments"] == text


def test_everything_a_client_wrote_is_traced() -> None:
    """Names, ids, keys and values: all but the words that are the API's own."""
    given = variables(REQUEST, Dialect())
    own = {text for text in strings(given) if text and not isinstance(text, Traced)}
    words = {"messages", "tools", "documents", "add_generation_prompt"}
    keys = {"role", "content", "tool_calls", "tool_call_id", "id", "type", "function", "name", "arguments"}
    assert own <= words | keys | {"user", "assistant", "tool"}


def test_traced_values_keep_their_shape() -> None:
    """Other values than text are themselves."""
    value = {"a": [1, None, True, {"b": "c"}]}
    assert traced(value, "p") == value
    assert {piece.path for text in strings(traced(value, "p")) for piece in pieces_of(text)} == {"p"}
