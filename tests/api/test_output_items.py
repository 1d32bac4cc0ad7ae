"""Calls of functions in answers, on both endpoints, through the SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from headstart.prompt.calls import HERMES

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTIONS: list[dict[str, Any]] = [{"name": "get_weather", "parameters": CITY}, {"name": "get_time"}]
FLAT: list[Any] = [{"type": "function", **function} for function in FUNCTIONS]
NESTED: list[Any] = [{"type": "function", "function": function} for function in FUNCTIONS]
ROME = ("get_weather", '{"city": "Rome ☔"}')
NOW = ("get_time", "{}")
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]

Respond = Callable[..., tuple[Response, list[Any]]]
Chat = Callable[..., tuple[ChatCompletion, list[Any]]]


@pytest.fixture(params=["whole", "stream"])
def respond(client: openai.OpenAI, server: Any, request: pytest.FixtureRequest) -> Respond:
    """Ask the Responses API; the response, and the events if it was streamed."""

    def ask(**options: Any) -> tuple[Response, list[Any]]:
        asked = {"model": server.model, "input": "Hello", "tools": FLAT, **options}
        if request.param == "whole":
            return client.responses.create(**asked), []
        events = list(client.responses.create(**asked, stream=True))
        final = events[-1].response
        if final.status == "completed":  # the SDK's accumulator follows
            with client.responses.stream(**asked) as stream:
                assert told(stream.until_done().get_final_response()) == told(final)
        return final, events

    return ask


@pytest.fixture(params=["whole", "stream"])
def chat(client: openai.OpenAI, server: Any, request: pytest.FixtureRequest) -> Chat:
    """Ask Chat Completions; the completion, and the chunks if it was streamed."""

    def ask(**options: Any) -> tuple[ChatCompletion, list[Any]]:
        asked = {"model": server.model, "messages": HELLO, "tools": NESTED, **options}
        if request.param == "whole":
            return client.chat.completions.create(**asked), []
        chunks = list(client.chat.completions.create(**asked, stream=True))
        with client.chat.completions.stream(**asked) as stream:
            return stream.get_final_completion(), chunks

    return ask


def told(response: Response) -> list[Any]:
    """The output: texts, and calls as name and arguments."""
    return [
        (item.name, item.arguments) if item.type == "function_call" else item.content[0].text
        for item in response.output
    ]


def check_events(events: list[Any], response: Response) -> None:
    """Every item is added, grows and is done at its place, and the last event has them all."""
    if not events:
        return
    assert [event.sequence_number for event in events] == list(range(len(events)))
    done = [event for event in events if event.type == "response.output_item.done"]
    added = [event for event in events if event.type == "response.output_item.added"]
    assert [event.output_index for event in added] == [event.output_index for event in done]
    assert [event.output_index for event in done] == list(range(len(response.output)))
    assert [event.item.to_dict() for event in done] == [item.to_dict() for item in response.output]
    for start, item in zip(added, response.output, strict=True):
        assert (start.item.id, start.item.type, start.item.status) == (item.id, item.type, "in_progress")
        own = [event for event in events if getattr(event, "item_id", None) == item.id]
        assert {event.output_index for event in own} == {start.output_index}
        if item.type == "function_call":
            kinds = [event.type.removeprefix("response.function_call_arguments.") for event in own]
            assert kinds[-1] == "done"
            assert set(kinds[:-1]) <= {"delta"}
            assert own[-1].arguments == item.arguments == "".join(event.delta for event in own[:-1])
            assert (start.item.name, start.item.call_id, start.item.arguments) == (item.name, item.call_id, "")


def test_a_forced_call(respond: Respond) -> None:
    """`required`: an item with the call and no message, arguments of the schema, ids as OpenAI's."""
    response, events = respond(tool_choice="required")
    (call,) = response.output
    assert call.type == "function_call"
    assert (call.name, list(json.loads(call.arguments)), call.status) == ("get_weather", ["city"], "completed")
    assert call.call_id.startswith("call_")
    assert len(call.call_id) == 29
    assert str(call.id).startswith("fc_")
    assert (response.status, response.output_text) == ("completed", "")
    check_events(events, response)
    kinds = list(dict.fromkeys(event.type for event in events if event.type != "response.in_progress"))
    assert not kinds or kinds == [
        "response.created",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "function", "name": "get_time"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_time"}]},
    ],
)
def test_the_function_that_was_chosen(respond: Respond, choice: Any) -> None:
    """A named function, and the only one that is allowed."""
    assert told(respond(tool_choice=choice)[0]) == [NOW]


def test_text_and_several_calls(respond: Respond, server: Any) -> None:
    """Items in the order in which the model wrote them."""
    server.engine.answer = f"Let me look.\n{HERMES.written([ROME, NOW])}\nSo."
    response, events = respond()
    assert told(response) == ["Let me look.", ROME, NOW, "So."]
    assert {item.status for item in response.output} == {"completed"}
    check_events(events, response)


def test_calls_that_may_not_be_made(respond: Respond, server: Any) -> None:
    """`none`, a function that isn't allowed, a second call where one may be made, no tools: all text."""
    one = server.engine.answer = HERMES.written([ROME])
    assert told(respond(tool_choice="none")[0]) == [one]
    only = [{"type": "function", "name": "get_time"}]
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": only}
    assert told(respond(tool_choice=allowed)[0]) == [one]
    assert told(respond(tools=[])[0]) == [one]
    server.engine.answer = HERMES.written([ROME, NOW])
    assert told(respond(parallel_tool_calls=False)[0]) == [ROME, HERMES.written([NOW])]


def test_a_call_that_is_cut_off(respond: Respond, server: Any) -> None:
    """At the token limit: incomplete, with what there is of the arguments."""
    server.engine.answer = f"Look: {HERMES.written([ROME])}"
    response, events = respond(max_output_tokens=17)
    assert told(response)[0] == "Look:"
    assert response.status == "incomplete"
    call = response.output[1]
    assert call.type == "function_call"
    assert call.status == "incomplete"
    assert ROME[1].startswith(call.arguments)
    assert 0 < len(call.arguments) < len(ROME[1])
    check_events(events, response)


def test_plain_text_beside_tools(respond: Respond, server: Any) -> None:
    """A model that calls nothing answers as ever; one that says nothing gives an empty message."""
    response, events = respond()
    assert response.output_text
    assert [item.type for item in response.output] == ["message"]
    check_events(events, response)
    server.engine.answer = ""
    assert told(respond()[0]) == [""]


def test_logprobs_are_those_of_text(respond: Respond, server: Any) -> None:
    """Tokens of calls have none."""
    server.engine.answer = f"Let me look.\n{HERMES.written([ROME])}"
    response, _ = respond(top_logprobs=1, include=["message.output_text.logprobs"])
    message = response.output[0]
    assert message.type == "message"
    part = message.content[0]
    assert part.type == "output_text"
    assert "".join(token.token for token in part.logprobs or []) == "Let me look."


def test_a_loop(client: openai.OpenAI, server: Any) -> None:
    """An agent's: calls, their results, and what the model then says; ids lead back."""
    server.engine.answer = HERMES.written([ROME, NOW])
    conversation: list[Any] = [{"role": "user", "content": "Weather and time?"}]
    first = client.responses.create(model=server.model, input=conversation, tools=FLAT)
    conversation += first.output
    for item in first.output:
        assert item.type == "function_call"
        conversation.append({"type": "function_call_output", "call_id": item.call_id, "output": "fine"})
    server.engine.answer = "Fine."
    assert client.responses.create(model=server.model, input=conversation, tools=FLAT).output_text == "Fine."


def test_parsed_arguments(client: openai.OpenAI, server: Any) -> None:
    """The SDK's own tools from types, strict, in both endpoints' helpers."""

    class GetWeather(pydantic.BaseModel):
        city: str

    flat = openai.pydantic_function_tool(GetWeather)
    response = client.responses.parse(
        model=server.model,
        input="Hello",
        tools=[{"type": "function", **flat["function"]}],  # type: ignore[misc,list-item]
        tool_choice="required",
    )
    (call,) = response.output
    assert call.type == "function_call"
    assert list(json.loads(call.arguments)) == ["city"]
    completion = client.chat.completions.parse(model=server.model, messages=HELLO, tools=[flat], tool_choice="required")
    (made,) = completion.choices[0].message.tool_calls or []
    assert isinstance(made.function.parsed_arguments, GetWeather)


def calls_of(completion: ChatCompletion) -> list[Any]:
    """Names and arguments."""
    calls = completion.choices[0].message.tool_calls or []
    return [(call.function.name, call.function.arguments) for call in calls if call.type == "function"]


def test_chat_calls(chat: Chat, server: Any) -> None:
    """`tool_calls` in the message, its content, and why it ended."""
    server.engine.answer = f"Let me look.\n{HERMES.written([ROME, NOW])}"
    completion, chunks = chat()
    choice = completion.choices[0]
    assert calls_of(completion) == [ROME, NOW]
    assert (choice.message.content, choice.finish_reason) == ("Let me look.", "tool_calls")
    if chunks:
        deltas = [chunk.choices[0].delta for chunk in chunks]
        parts = [call for delta in deltas for call in delta.tool_calls or []]
        heads = [call for call in parts if call.id]
        assert [(call.index, call.type, call.function.name) for call in heads] == [
            (0, "function", "get_weather"),
            (1, "function", "get_time"),
        ]
        for head, call in zip(heads, (ROME, NOW), strict=True):
            assert "".join(part.function.arguments for part in parts if part.index == head.index) == call[1]
        assert "".join(delta.content or "" for delta in deltas) == "Let me look."
        assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "tool_calls"]


def test_chat_call_without_text(chat: Chat) -> None:
    """A forced call: no content at all."""
    forced = {"type": "function", "function": {"name": "get_time"}}
    completion, chunks = chat(tool_choice=forced)
    choice = completion.choices[0]
    assert calls_of(completion) == [NOW]
    assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")
    assert (choice.message.tool_calls or [])[0].id.startswith("call_")
    assert all(chunk.choices[0].delta.content is None for chunk in chunks)


def test_chat_allowed_tools(chat: Chat, server: Any) -> None:
    """Limited without a change to the tools: a call of another function is text."""
    only = [{"type": "function", "function": {"name": "get_time"}}]

    def allowed(mode: str) -> Any:
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": only}}

    assert calls_of(chat(tool_choice=allowed("required"))[0]) == [NOW]
    server.engine.answer = HERMES.written([ROME])
    completion, _ = chat(tool_choice=allowed("auto"))
    assert calls_of(completion) == []
    assert completion.choices[0].message.content == HERMES.written([ROME])
    assert completion.choices[0].finish_reason == "stop"


def test_chat_call_that_is_cut_off(chat: Chat, server: Any) -> None:
    """At the token limit the reason is `length`."""
    server.engine.answer = HERMES.written([ROME])
    try:
        completion, _ = chat(max_completion_tokens=16)
    except openai.LengthFinishReasonError as error:  # the SDK's own stream refuses to give it
        completion = error.completion
    assert completion.choices[0].finish_reason == "length"
    ((name, arguments),) = calls_of(completion)
    assert name == "get_weather"
    assert ROME[1].startswith(arguments)


def test_chat_loop(client: openai.OpenAI, server: Any) -> None:
    """The message goes back as the SDK gives it, with the results."""
    server.engine.answer = HERMES.written([ROME])
    first = client.chat.completions.create(model=server.model, messages=HELLO, tools=NESTED)
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": (message.tool_calls or [])[0].id, "content": "rain"}
    server.engine.answer = "Rain."
    conversation: list[Any] = [*HELLO, message, result]
    second = client.chat.completions.create(model=server.model, messages=conversation, tools=NESTED)
    assert second.choices[0].message.content == "Rain."


def test_the_choice_is_no_part_of_the_prefix(client: openai.OpenAI, server: Any) -> None:
    """A prompt whose tools were cached is read under any choice, and not with other tools."""
    text = "The quick brown fox jumps over the lazy dog. " * 150
    read = []
    only: Any = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_time"}]}
    for tools, choice in ((FLAT, "auto"), (FLAT, "required"), (FLAT, only), (FLAT, "none"), (FLAT[:1], "auto")):
        response = client.responses.create(
            model=server.model, instructions=text, input="Go", tools=tools, tool_choice=choice
        )
        assert response.usage is not None
        read.append(response.usage.input_tokens_details.cached_tokens >= 1024)
    assert read == [False, True, True, True, False]
