"""`POST /v1/responses` and `/input_tokens`, through the SDK."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pydantic
import pytest
from openai.types.responses import Response

LONG = "The quick brown fox jumps over the lazy dog near the river bank. " * 120


def test_string_input(client: openai.OpenAI, server: Any) -> None:
    """The simplest call answers with text and usage, and is the same each time."""
    first = client.responses.create(model=server.model, input="Hello")
    second = client.responses.create(model=server.model, input="Hello")
    assert first.status == "completed"
    assert first.output_text == second.output_text != ""
    assert first.id.startswith("resp_")
    assert first.id != second.id
    assert first.output[0].id.startswith("msg_")
    assert first.usage is not None
    assert first.usage.total_tokens == first.usage.input_tokens + first.usage.output_tokens


@pytest.mark.contract("B8")
def test_every_field_of_the_sdk_is_there(http: httpx2.Client, server: Any) -> None:
    """The object has all the fields of the SDK's `Response`, and validates strictly as one."""
    body = http.post("/v1/responses", json={"model": server.model, "input": "Hello"}).json()
    assert set(Response.model_fields) <= set(body)
    Response.model_validate(body)


@pytest.mark.contract("B8", "I4", "I5", "W2")
def test_prefix_is_read_the_second_time(client: openai.OpenAI, server: Any) -> None:
    """The tutorial: a long prefix is written, then read; `cached_tokens` is a multiple of 128."""
    first = client.responses.create(model=server.model, instructions=LONG, input="One?", prompt_cache_key="a")
    second = client.responses.create(model=server.model, instructions=LONG, input="Two?", prompt_cache_key="a")
    other = client.responses.create(model=server.model, instructions=LONG, input="Two?", prompt_cache_key="b")
    assert first.usage is not None
    assert second.usage is not None
    assert other.usage is not None
    assert first.usage.input_tokens_details.cached_tokens == 0
    cached = second.usage.input_tokens_details.cached_tokens
    assert cached >= 1024
    assert cached % 128 == 0
    assert other.usage.input_tokens_details.cached_tokens == 0
    assert second.usage.input_tokens_details.cache_write_tokens == 0
    details = second.usage.input_tokens_details.cache_write_tokens_details
    assert details is not None
    assert (details.ttl_30m_tokens, details.ttl_12h_tokens) == (0, 0)
    assert second.usage.output_tokens_details.reasoning_tokens == 0


@pytest.mark.contract("B14")
def test_options_are_echoed(client: openai.OpenAI, server: Any) -> None:
    """The response says which options were applied."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    response = client.responses.create(
        model=server.model,
        input=[{"role": "user", "content": "Weather?"}],
        instructions="Be short.",
        temperature=0.5,
        top_p=0.9,
        max_output_tokens=40,
        metadata={"purpose": "test"},
        prompt_cache_key="user-1",
        prompt_cache_retention="in_memory",
        reasoning={"effort": "low"},
        safety_identifier="abc",
        service_tier="auto",
        text={"verbosity": "low"},
        tools=[{"type": "function", "name": "weather", "parameters": schema, "strict": True}],
        tool_choice="none",
        parallel_tool_calls=False,
        truncation="disabled",
        store=True,
        user="u",
    )
    assert response.instructions == "Be short."
    assert (response.temperature, response.top_p, response.max_output_tokens) == (0.5, 0.9, 40)
    assert response.metadata == {"purpose": "test"}
    assert (response.prompt_cache_key, response.prompt_cache_retention) == ("user-1", "in_memory")
    assert response.reasoning is not None
    assert response.reasoning.effort == "low"
    assert response.safety_identifier == "abc"
    assert response.service_tier == "default"
    assert response.text is not None
    assert response.text.verbosity == "low"
    assert response.tools[0].type == "function"
    assert response.tools[0].parameters == schema
    assert response.tools[0].strict is True
    assert response.tool_choice == "none"
    assert response.parallel_tool_calls is False
    assert response.truncation == "disabled"
    assert response.user == "u"


@pytest.mark.contract("B14")
def test_defaults_are_echoed(client: openai.OpenAI, server: Any) -> None:
    """What was not given is answered as it was applied."""
    response = client.responses.create(model=server.model, input="Hello")
    assert (response.temperature, response.top_p, response.top_logprobs) == (1.0, 1.0, 0)
    assert response.prompt_cache_key is None
    assert response.prompt_cache_retention == "24h"
    assert response.tool_choice == "auto"
    assert response.tools == []
    assert response.parallel_tool_calls is True
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "text"
    assert response.metadata == {}
    assert response.background is False


def test_token_limit_is_incomplete(client: openai.OpenAI, server: Any) -> None:
    """At its limit an answer is `incomplete`, and says why."""
    response = client.responses.create(model=server.model, input="Hello", max_output_tokens=3)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text.count(" ") == 2
    assert response.usage is not None
    assert response.usage.output_tokens == 3
    assert response.output[0].status == "incomplete"


def test_conversation_with_a_tool(client: openai.OpenAI, server: Any) -> None:
    """Earlier answers, calls and their results are taken back as the SDK gives them."""
    first = client.responses.create(model=server.model, input="Hello")
    response = client.responses.create(
        model=server.model,
        input=[
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            *(item.model_dump() for item in first.output),
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "time", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "noon"}]},
            {"role": "developer", "content": "Answer now."},
        ],
    )
    assert response.status == "completed"


def test_logprobs(client: openai.OpenAI, server: Any) -> None:
    """`include` and `top_logprobs` give log-probabilities, and only they do."""
    response = client.responses.create(
        model=server.model, input="Hello", include=["message.output_text.logprobs"], top_logprobs=2
    )
    part = response.output[0].content[0]
    assert part.type == "output_text"
    assert "".join(token.token for token in part.logprobs) == response.output_text
    assert all(len(token.top_logprobs) == 2 for token in part.logprobs)
    plain = client.responses.create(model=server.model, input="Hello")
    assert plain.output[0].content[0].logprobs == []


def test_parsed_output(client: openai.OpenAI, server: Any) -> None:
    """The SDK's structured outputs: a schema goes there, an object comes back."""

    class City(pydantic.BaseModel):
        name: str
        people: int

    response = client.responses.parse(model=server.model, input="A city", text_format=City)
    assert isinstance(response.output_parsed, City)
    conversation: Any = [{"role": "user", "content": "A city"}, *response.output, {"role": "user", "content": "More"}]
    assert client.responses.create(model=server.model, input=conversation).status == "completed"


EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]


@pytest.mark.parametrize(("limit", "last"), [(100, "response.completed"), (3, "response.incomplete")])
def test_stream_order(client: openai.OpenAI, server: Any, limit: int, last: str) -> None:
    """Every documented event, in order, numbered without gaps; the text is the deltas'."""
    with client.responses.create(model=server.model, input="Hello", stream=True, max_output_tokens=limit) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert list(dict.fromkeys(kinds)) == [*EVENTS, last]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final = events[-1].response
    assert final.output_text == text
    assert final.usage is not None
    assert final.output[0].id == events[2].item.id
    assert {event.response.id for event in events if hasattr(event, "response")} == {final.id}


@pytest.mark.contract("B10")
def test_streamed_equals_whole(client: openai.OpenAI, server: Any) -> None:
    """A stream ends with the object that the same request gets whole."""
    asked: dict[str, Any] = {"model": server.model, "input": "Hello", "top_logprobs": 2, "instructions": "Short."}
    whole = client.responses.create(**asked).to_dict()
    with client.responses.create(**asked, stream=True) as stream:
        streamed = list(stream)[-1].response.to_dict()
    for response in (whole, streamed):
        for field in ("id", "created_at", "completed_at"):
            response.pop(field)
        response["output"][0].pop("id")
    assert whole == streamed


def test_stream_through_the_accumulator(client: openai.OpenAI, server: Any) -> None:
    """The SDK's own accumulator follows the stream and ends with the same text."""
    with client.responses.stream(model=server.model, input="Hello") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text != ""
    assert final.status == "completed"


async def test_async_stream(async_client: openai.AsyncOpenAI, server: Any) -> None:
    """The asynchronous SDK, whole and streaming."""
    whole = await async_client.responses.create(model=server.model, input="Hello")
    async with async_client.responses.stream(model=server.model, input="Hello") as stream:
        final = await stream.get_final_response()
    assert final.output_text == whole.output_text


def test_stream_that_breaks(client: openai.OpenAI, server: Any, served: Any) -> None:
    """An engine that fails in the middle ends the stream with `response.failed`."""
    server.engine.fail_after = 2
    with client.responses.create(model=server.model, input="Hello", stream=True) as stream:
        last = list(stream)[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.code == "server_error"


def test_whole_answer_that_breaks(client: openai.OpenAI, server: Any, served: Any) -> None:
    """An engine that fails is a 500 where nothing was sent yet."""
    server.engine.fail_after = 2
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(model=server.model, input="Hello")
    assert caught.value.code == "server_error"


@pytest.mark.contract("B8")
def test_input_tokens(client: openai.OpenAI, server: Any) -> None:
    """Counting gives what the answer's usage says."""
    asked: Any = {"model": server.model, "input": "How many?", "instructions": "Count."}
    counted = client.responses.input_tokens.count(**asked)
    response = client.responses.create(**asked)
    assert counted.object == "response.input_tokens"
    assert response.usage is not None
    assert counted.input_tokens == response.usage.input_tokens


def test_input_tokens_needs_a_model_where_several_are_served(client: openai.OpenAI) -> None:
    """Without a model there is nothing to count with."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.input_tokens.count(input="How many?")
    assert caught.value.param == "model"
