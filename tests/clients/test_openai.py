"""The `openai` SDK's own conveniences: stream helpers, parsed output, the asynchronous client."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
import pytest


class Weather(pydantic.BaseModel):
    """What the model shall answer with."""

    city: str
    degrees: int
    raining: bool


def test_responses(client: openai.OpenAI, model: str, prefix: str) -> None:
    """The second of two requests reads their common prefix, by the SDK's usage."""
    read = []
    for question in ("One?", "Two?"):
        usage = client.responses.create(model=model, instructions=prefix, input=question).usage
        assert usage is not None
        read.append(usage.input_tokens_details.cached_tokens)
    assert read[0] == 0
    assert read[1] >= 1024


def test_chat(client: openai.OpenAI, model: str, prefix: str) -> None:
    """The same with Chat Completions."""
    read = []
    for question in ("One?", "Two?"):
        messages: list[Any] = [{"role": "system", "content": prefix}, {"role": "user", "content": question}]
        usage = client.chat.completions.create(model=model, messages=messages).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        read.append(usage.prompt_tokens_details.cached_tokens or 0)
    assert read[0] == 0
    assert read[1] >= 1024


def test_writes(client: openai.OpenAI, breakpoints: str, prefix: str) -> None:
    """A breakpoint model's usage says what is written; the next turn reads exactly that."""
    asked: list[Any] = [{"role": "user", "content": prefix}]
    first = client.responses.create(model=breakpoints, input=asked)
    asked += [*first.output, {"role": "user", "content": "Two?"}]
    second = client.responses.create(model=breakpoints, input=asked)
    assert first.usage is not None
    assert second.usage is not None
    assert first.usage.input_tokens_details.cache_write_tokens >= 1024
    assert second.usage.input_tokens_details.cached_tokens == first.usage.input_tokens_details.cache_write_tokens


@pytest.mark.parametrize("tools", [[], [{"type": "function", "name": "f", "parameters": None, "strict": None}]])
def test_responses_stream(client: openai.OpenAI, model: str, prefix: str, tools: Any) -> None:
    """The stream helper puts the answer together from its events, as with tools that aren't called; usage is on the
    final response."""
    client.responses.create(model=model, instructions=prefix, input="One?", tools=tools)
    told = whole = ""
    with client.responses.stream(model=model, instructions=prefix, input="Two?", tools=tools) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                told, whole = told + event.delta, event.snapshot
        final = stream.get_final_response()
    assert final.output_text == told == whole != ""
    assert final.usage is not None
    assert final.usage.input_tokens_details.cached_tokens >= 1024


def test_chat_stream(client: openai.OpenAI, model: str, prefix: str) -> None:
    """The stream helper of Chat Completions, with usage in its last chunk."""
    messages: list[Any] = [{"role": "system", "content": prefix}, {"role": "user", "content": "One?"}]
    client.chat.completions.create(model=model, messages=messages)
    with client.chat.completions.stream(
        model=model, messages=messages, stream_options={"include_usage": True}
    ) as stream:
        told = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert final.choices[0].message.content == told != ""
    assert final.usage is not None
    assert final.usage.prompt_tokens_details is not None
    assert (final.usage.prompt_tokens_details.cached_tokens or 0) >= 1024


def test_responses_parse(client: openai.OpenAI, model: str, prefix: str) -> None:
    """`responses.parse` gives an object of the class whose schema it sent."""
    for read in (False, True):
        response = client.responses.parse(model=model, instructions=prefix, input="Weather?", text_format=Weather)
        assert isinstance(response.output_parsed, Weather)
        assert response.usage is not None
        assert (response.usage.input_tokens_details.cached_tokens >= 1024) is read


# The SDK warns of its own message, sent back: at runtime its class says that nothing parsed is in it.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_chat_parse(client: openai.OpenAI, model: str, prefix: str) -> None:
    """`chat.completions.parse` gives an object of the class whose schema it sent, and a message that can be sent back,
    with the object in it."""
    messages: list[Any] = [{"role": "system", "content": prefix}, {"role": "user", "content": "Weather?"}]
    for read in (False, True):
        completion = client.chat.completions.parse(model=model, messages=messages, response_format=Weather)
        message = completion.choices[0].message
        assert isinstance(message.parsed, Weather)
        assert completion.usage is not None
        assert completion.usage.prompt_tokens_details is not None
        assert ((completion.usage.prompt_tokens_details.cached_tokens or 0) >= 1024) is read
        messages += [message, {"role": "user", "content": "And tomorrow?"}]


def test_responses_tools(client: openai.OpenAI, model: str, prefix: str) -> None:
    """A forced call comes with parsed arguments; what the function said is answered, on a prefix read again."""
    tools = [openai.pydantic_function_tool(Weather, name="report")]
    asked: list[Any] = [{"role": "user", "content": "Report!"}]
    first = client.responses.parse(model=model, instructions=prefix, input=asked, tools=tools, tool_choice="required")
    (call,) = first.output
    assert call.type == "function_call"
    assert call.name == "report"
    assert isinstance(call.parsed_arguments, Weather)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Thanks."}
    second = client.responses.parse(
        model=model, instructions=prefix, input=[*asked, *first.output, result], tools=tools
    )
    assert second.output_text
    assert second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens >= 1024


def test_chat_tools(client: openai.OpenAI, model: str, prefix: str) -> None:
    """The same with Chat Completions."""
    tools = [openai.pydantic_function_tool(Weather, name="report")]
    asked: list[Any] = [{"role": "system", "content": prefix}, {"role": "user", "content": "Report!"}]
    first = client.chat.completions.parse(model=model, messages=asked, tools=tools, tool_choice="required")
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or ()
    assert call.function.name == "report"
    assert isinstance(call.function.parsed_arguments, Weather)
    result = {"role": "tool", "tool_call_id": call.id, "content": "Thanks."}
    second = client.chat.completions.create(model=model, messages=[*asked, choice.message, result], tools=tools)
    assert second.choices[0].message.content
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) >= 1024


async def test_asynchronous(api: dict[str, str], model: str, prefix: str) -> None:
    """The asynchronous client, streaming."""
    async with openai.AsyncOpenAI(**api, max_retries=0, timeout=30) as client:
        await client.responses.create(model=model, instructions=prefix, input="One?")
        async with client.responses.stream(model=model, instructions=prefix, input="Two?") as stream:
            final = await stream.get_final_response()
    assert final.usage is not None
    assert final.usage.input_tokens_details.cached_tokens >= 1024


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}, "input[0]"),
        ({"input": "News?", "tools": [{"type": "web_search"}]}, "tools[0]"),
    ],
    ids=["image", "hosted tool"],
)
def test_unsupported(client: openai.OpenAI, model: str, options: dict[str, Any], param: str) -> None:
    """What isn't served is an error of the SDK that says where."""
    with pytest.raises(openai.BadRequestError, match="not supported by this server") as caught:
        client.responses.create(model=model, **options)
    assert caught.value.param is not None
    assert caught.value.param.startswith(param)
