"""`POST /v1/chat/completions`, through the SDK."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletion

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
LONG: list[Any] = [{"role": "system", "content": "The quick brown fox jumps over the lazy dog. " * 180}]


def test_answer(client: openai.OpenAI, server: Any) -> None:
    """The simplest call answers with text, reason and usage."""
    completion = client.chat.completions.create(model=server.model, messages=HELLO)
    choice = completion.choices[0]
    assert completion.id.startswith("chatcmpl-")
    assert completion.system_fingerprint is not None
    assert completion.system_fingerprint.startswith("fp_")
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert choice.logprobs is None
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_object_is_the_sdks(http: httpx2.Client, server: Any) -> None:
    """The body validates strictly as the SDK's type."""
    ChatCompletion.model_validate(
        http.post("/v1/chat/completions", json={"model": server.model, "messages": HELLO}).json()
    )


@pytest.mark.contract("B9", "I4", "I5")
def test_prefix_is_read_the_second_time(client: openai.OpenAI, server: Any) -> None:
    """A long prefix is written, then read, in usage as Chat Completions has it."""
    for question, read in (("One?", False), ("Two?", True)):
        completion = client.chat.completions.create(
            model=server.model, messages=[*LONG, {"role": "user", "content": question}]
        )
        assert completion.usage is not None
        details = completion.usage.prompt_tokens_details
        assert details is not None
        assert details.cached_tokens is not None
        assert (details.cached_tokens >= 1024) is read
        assert details.cached_tokens % 128 == 0
        assert details.cache_write_tokens == 0


def test_every_role(client: openai.OpenAI, server: Any) -> None:
    """All roles that OpenAI serves, with an earlier answer as the SDK gives it."""
    first = client.chat.completions.create(model=server.model, messages=HELLO)
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages: list[Any] = [
        {"role": "system", "content": "Be short."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}], "name": "ada"},
        first.choices[0].message,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ]
    tools: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    completion = client.chat.completions.create(model=server.model, messages=messages, tools=tools, tool_choice="auto")
    assert completion.choices[0].message.content


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_token_limit(client: openai.OpenAI, server: Any, limit: str) -> None:
    """Both names of the limit; the reason is `length`."""
    options: Any = {limit: 3}
    completion = client.chat.completions.create(model=server.model, messages=HELLO, **options)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 3


@pytest.mark.parametrize("many", [False, True])
def test_stop(client: openai.OpenAI, server: Any, many: bool) -> None:
    """The text ends before the stop string."""
    whole = client.chat.completions.create(model=server.model, messages=HELLO).choices[0].message.content
    assert whole is not None
    word = whole.split()[4]
    stop: Any = ["never", f" {word}"] if many else f" {word}"
    completion = client.chat.completions.create(model=server.model, messages=HELLO, stop=stop)
    assert completion.choices[0].message.content == whole[: whole.index(f" {word}")]
    assert completion.choices[0].finish_reason == "stop"


def test_logprobs(client: openai.OpenAI, server: Any) -> None:
    """Every token's log-probability and its rivals'."""
    completion = client.chat.completions.create(model=server.model, messages=HELLO, logprobs=True, top_logprobs=3)
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(token.token for token in logprobs.content) == completion.choices[0].message.content
    assert all(len(token.top_logprobs) == 3 for token in logprobs.content)
    assert bytes(logprobs.content[0].bytes or ()) == logprobs.content[0].token.encode()


def test_sampling_options_are_taken(client: openai.OpenAI, server: Any) -> None:
    """Everything that is served and changes nothing here."""
    client.chat.completions.create(
        model=server.model,
        messages=HELLO,
        seed=7,
        temperature=0,
        top_p=0.5,
        frequency_penalty=1,
        presence_penalty=-1,
        logit_bias={"100": 5, "200": -100},
        n=1,
        modalities=["text"],
        service_tier="default",
        metadata={"a": "b"},
        store=False,
        user="u",
        reasoning_effort="low",
        verbosity="high",
        prompt_cache_key="k",
        prompt_cache_retention="in_memory",
        response_format={"type": "text"},
    )


def test_parsed_output(client: openai.OpenAI, server: Any) -> None:
    """The SDK's structured outputs."""

    class City(pydantic.BaseModel):
        name: str
        people: int

    completion = client.chat.completions.parse(model=server.model, messages=HELLO, response_format=City)
    assert isinstance(completion.choices[0].message.parsed, City)


@pytest.mark.contract("B10")
@pytest.mark.parametrize("usage", [False, True])
def test_stream(client: openai.OpenAI, server: Any, usage: bool) -> None:
    """The role, the text, the reason; the usage last, where it was asked for."""
    whole = client.chat.completions.create(model=server.model, messages=HELLO)
    with client.chat.completions.create(
        model=server.model, messages=HELLO, stream=True, stream_options={"include_usage": usage}
    ) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    told = [chunk for chunk in chunks if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in told) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in told[-2:]] == [None, "stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage for chunk in told] == [None] * len(told)
    if usage:
        assert chunks[-1].choices == []
        assert chunks[-1].usage == whole.usage
    else:
        assert chunks[-1].choices


def test_stream_ends_with_done(http: httpx2.Client, server: Any) -> None:
    """The last line is OpenAI's `[DONE]`; `usage` is null in the other chunks only when it will come."""
    asked = {"model": server.model, "messages": HELLO, "stream": True}
    answer = http.post("/v1/chat/completions", json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("data: [DONE]\n\n")
    assert '"usage"' not in answer.text


def test_streamed_logprobs(client: openai.OpenAI, server: Any) -> None:
    """Log-probabilities come with their text."""
    with client.chat.completions.create(
        model=server.model, messages=HELLO, stream=True, logprobs=True, top_logprobs=1
    ) as stream:
        for chunk in stream:
            choice = chunk.choices[0]
            if choice.delta.content:
                assert choice.logprobs is not None
                assert choice.logprobs.content is not None
                assert choice.logprobs.content[0].token == choice.delta.content


def test_stream_through_the_accumulator(client: openai.OpenAI, server: Any) -> None:
    """The SDK's own accumulator follows the stream."""
    with client.chat.completions.stream(model=server.model, messages=HELLO) as stream:
        completion = stream.get_final_completion()
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"


async def test_async(async_client: openai.AsyncOpenAI, server: Any) -> None:
    """The asynchronous SDK, whole and streaming."""
    whole = await async_client.chat.completions.create(model=server.model, messages=HELLO)
    text = ""
    async with await async_client.chat.completions.create(model=server.model, messages=HELLO, stream=True) as stream:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    assert text == whole.choices[0].message.content


def test_stream_that_breaks(client: openai.OpenAI, server: Any, served: Any) -> None:
    """An engine that fails in the middle: the SDK raises what the chunk says."""
    server.engine.fail_after = 2
    with (
        client.chat.completions.create(model=server.model, messages=HELLO, stream=True) as stream,
        pytest.raises(openai.APIError, match="failed"),
    ):
        list(stream)
