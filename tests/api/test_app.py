"""Errors as clients see them: OpenAI's shape, status and codes; and after each, a good request that is served."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from headstart.api.app import create_app
from headstart.api.auth import KeyRing
from headstart.cache.index import PrefixIndex
from headstart.engine.fake import FakeEngine
from headstart.types import CacheReport, Placed

MODEL = "gpt-4.1-mini"
BREAKPOINTS = "gpt-5.6"
USER: list[Any] = [{"role": "user", "content": "Hello"}]
IMAGE = {"type": "input_image", "image_url": "https://example.org/a.png"}
MARK = {"mode": "explicit"}


def deep(levels: int) -> Any:
    """An object nested so many levels."""
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


# Each: what is wrong beside a good body, then the expected code, param and a part of the message.
RESPONSES: list[tuple[dict[str, Any], str | None, str | None, str]] = [
    ({"foo": 1}, "unknown_parameter", "foo", "Unknown parameter: 'foo'."),
    ({"top_k": 1}, "unknown_parameter", "top_k", "top_k"),
    ({"model": None}, "missing_required_parameter", "model", "Missing required parameter: 'model'."),
    ({"model": 3}, "invalid_type", "model", "expected a string, but got an integer instead"),
    ({"model": "m" * 300_000}, "string_above_max_length", "model", "maximum length 256"),
    ({"input": None}, "missing_required_parameter", "input", "'input'"),
    ({"input": []}, "missing_required_parameter", "input", "'input'"),
    ({"input": 7}, "invalid_type", "input", "expected one of a string or an array, but got an integer"),
    ({"input": ["x"]}, "invalid_type", "input[0]", "expected an object, but got a string"),
    ({"input": [{"content": "x"}]}, "missing_required_parameter", "input[0].role", "input[0].role"),
    (
        {"input": [{"role": "king", "content": "x"}]},
        "invalid_value",
        "input[0].role",
        "'assistant', 'developer', 'system', 'user'",
    ),
    ({"input": [{"role": "user", "content": 5}]}, "invalid_type", "input[0].content", "a string or an array"),
    ({"input": [{"role": "user", "content": "x", "b": 1}]}, "unknown_parameter", "input[0].b", "input[0].b"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]},
        "invalid_type",
        "input[0].content[0].text",
        "expected a string, but got an integer",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        "invalid_value",
        "input[0].content[0].type",
        "'input_text'",
    ),
    (
        {"input": [{"role": "user", "content": [{"text": "x"}]}]},
        "missing_required_parameter",
        "input[0].content[0].type",
        "type",
    ),
    (
        {"input": [{"role": "user", "content": [IMAGE]}]},
        "unsupported_parameter",
        "input[0].content[0].type",
        "input_image",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "", "prompt_cache_breakpoint": MARK}]}]},
        "unsupported_parameter",
        "input[0].content[0].prompt_cache_breakpoint",
        "by itself",
    ),
    ({"input": [{"type": "web_search_call"}]}, "unsupported_parameter", "input[0].type", "web_search_call"),
    ({"input": [{"type": "item_reference", "id": "x"}]}, "unsupported_parameter", "input[0]", "item_reference"),
    (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
        None,
        "input[0].call_id",
        "No tool call found",
    ),
    ({"temperature": "hot"}, "invalid_type", "temperature", "expected a number, but got a string instead."),
    ({"temperature": 3}, "decimal_above_max_value", "temperature", "Expected a value <= 2, but got 3 instead."),
    ({"temperature": -0.5}, "decimal_below_min_value", "temperature", "Expected a value >= 0, but got -0.5 instead."),
    ({"top_p": 1.5}, "decimal_above_max_value", "top_p", "<= 1"),
    ({"top_logprobs": 21}, "integer_above_max_value", "top_logprobs", "<= 20, but got 21"),
    ({"max_output_tokens": 0}, "integer_below_min_value", "max_output_tokens", ">= 1, but got 0"),
    ({"max_output_tokens": 1.5}, "invalid_type", "max_output_tokens", "expected an integer, but got a number"),
    ({"stream": "yes"}, "invalid_type", "stream", "expected a boolean"),
    ({"stream_options": {"include_obfuscation": True}}, None, "stream_options", "only allowed when 'stream'"),
    ({"prompt_cache_key": "k" * 65}, "string_above_max_length", "prompt_cache_key", "maximum length 64, but got"),
    ({"prompt_cache_key": "k" * 300_000}, "string_above_max_length", "prompt_cache_key", "length 300000"),
    ({"prompt_cache_retention": "1h"}, "invalid_value", "prompt_cache_retention", "'24h', 'in_memory'"),
    (
        {"model": BREAKPOINTS, "prompt_cache_retention": "in_memory"},
        "unsupported_value",
        "prompt_cache_retention",
        "ttl",
    ),
    ({"prompt_cache_options": {"mode": "implicit"}}, "unsupported_parameter", "prompt_cache_options", "by itself"),
    (
        {"model": BREAKPOINTS, "input": [{"role": "user", "content": "x", "prompt_cache_breakpoint": MARK}]},
        "unknown_parameter",
        "input[0].prompt_cache_breakpoint",
        "prompt_cache_breakpoint",
    ),
    (
        {
            "model": BREAKPOINTS,
            "input": [
                {"role": "assistant", "content": [{"type": "output_text", "text": "", "prompt_cache_breakpoint": MARK}]}
            ],
        },
        "unknown_parameter",
        "input[0].content[0].prompt_cache_breakpoint",
        "prompt_cache_breakpoint",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "", "prompt_cache_breakpoint": {}}]}]},
        "missing_required_parameter",
        "input[0].content[0].prompt_cache_breakpoint.mode",
        "mode",
    ),
    ({"prompt_cache_options": {"mode": "all"}}, "invalid_value", "prompt_cache_options.mode", "'explicit', 'implicit'"),
    ({"prompt_cache_options": {"ttl": "1h"}}, "invalid_value", "prompt_cache_options.ttl", "'12h', '30m'"),
    ({"prompt_cache_options": {"prewarm": 1}}, "invalid_type", "prompt_cache_options.prewarm", "boolean"),
    ({"prompt_cache_options": {"warm": True}}, "unknown_parameter", "prompt_cache_options.warm", "warm"),
    ({"metadata": {"a": 1}}, "invalid_type", "metadata.a", "expected a string"),
    ({"metadata": {"a": "b", "c": {}}}, "invalid_type", "metadata.c", "got an object"),
    ({"metadata": {"a" * 70: None}}, "invalid_type", f"metadata.{'a' * 64}… (70 characters)", "got null"),
    ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties", "metadata", "at most 16"),
    ({"metadata": {"a" * 65: ""}}, "property_name_above_max_length", "metadata", "64"),
    ({"metadata": {"a": "b" * 513}}, "string_above_max_length", "metadata.a", "512"),
    ({"safety_identifier": "s" * 129}, "string_above_max_length", "safety_identifier", "128"),
    ({"include": ["everything"]}, "invalid_value", "include[0]", "'message.output_text.logprobs'"),
    ({"reasoning": {"effort": "huge"}}, "invalid_value", "reasoning.effort", "'minimal'"),
    ({"text": {"verbosity": "huge"}}, "invalid_value", "text.verbosity", "'high', 'low', 'medium'"),
    ({"text": {"format": {"type": "xml"}}}, "invalid_value", "text.format.type", "'json_schema'"),
    (
        {"text": {"format": {"type": "json_schema", "name": "a"}}},
        "missing_required_parameter",
        "text.format.schema",
        "schema",
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": deep(100)}}},
        "invalid_value",
        "text.format.schema",
        "nested too deeply",
    ),
    ({"tools": [{"name": "x"}]}, "missing_required_parameter", "tools[0].type", "tools[0].type"),
    ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0].type", "web_search"),
    ({"tools": [{"type": "mcp", "server_label": "x"}]}, "unsupported_parameter", "tools[0].type", "mcp"),
    ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name", "tools[0].name"),
    ({"tools": [{"type": "function", "name": "a b"}]}, "invalid_value", "tools[0].name", "pattern"),
    (
        {"tools": [{"type": "function", "name": "a", "parameters": deep(100)}]},
        "invalid_value",
        "tools[0]",
        "nested too deeply",
    ),
    ({"tool_choice": "required"}, None, "tool_choice", "'required' must be specified with 'tools' parameter."),
    ({"tool_choice": {"type": "function", "name": "a"}}, None, "tool_choice", "must be specified with 'tools'"),
    ({"tool_choice": "perhaps"}, "invalid_value", "tool_choice", "'auto', 'none', 'required'"),
    ({"conversation": "conv_1"}, "unsupported_parameter", "conversation", "'previous_response_id'"),
    ({"background": True}, "unsupported_parameter", "background", "'stream'"),
    ({"prompt": {"id": "p"}}, "unsupported_parameter", "prompt", "instructions"),
    ({"truncation": "auto"}, "unsupported_parameter", "truncation", "'disabled'"),
    ({"service_tier": "flex"}, "unsupported_parameter", "service_tier", "'default'"),
    ({"instructions": "word " * 40_000}, "context_length_exceeded", None, "maximum context length is 32768"),
]
CHAT: list[tuple[dict[str, Any], str | None, str | None, str]] = [
    ({"foo": 1}, "unknown_parameter", "foo", "Unknown parameter: 'foo'."),
    ({"messages": None}, "invalid_type", "messages", "expected an array, but got null"),
    ({"messages": []}, "empty_array", "messages", "empty array"),
    ({"messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role", "role"),
    ({"messages": [{"role": "king", "content": "x"}]}, "invalid_value", "messages[0].role", "'assistant'"),
    ({"messages": [{"role": 5, "content": "x"}]}, "invalid_type", "messages[0].role", "a string, but got an integer"),
    (
        {"messages": [{"role": "user", "content": [{"type": "x"}]}]},
        "invalid_value",
        "messages[0].content[0].type",
        "Supported values are: 'text', 'refusal', 'image_url', 'input_audio', 'file'.",
    ),
    ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content", "content"),
    ({"messages": [{"role": "user", "content": 1}]}, "invalid_type", "messages[0].content", "string or an array"),
    ({"messages": [{"role": "assistant"}]}, "missing_required_parameter", "messages[0].content", "content"),
    ({"messages": [{"role": "function", "name": "f", "content": ""}]}, "unsupported_parameter", None, "deprecated"),
    (
        {"messages": [*USER, {"role": "tool", "content": "x", "tool_call_id": "c"}]},
        None,
        "messages[1].tool_call_id",
        "preceding message",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "unsupported_parameter",
        "messages[0].content[0].type",
        "image_url",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "", "prompt_cache_breakpoint": MARK}]}]},
        "unsupported_parameter",
        "messages[0].content[0].prompt_cache_breakpoint",
        "by itself",
    ),
    ({"n": 2}, "unsupported_parameter", "n", "One choice"),
    ({"n": 0}, "integer_below_min_value", "n", ">= 1"),
    ({"stop": ["a"] * 5}, "array_above_max_length", "stop", "maximum length 4, but got an array with length 5"),
    ({"stop": ""}, "empty_string", "stop", "minimum length 1"),
    ({"stop": 5}, "invalid_type", "stop", "string or an array"),
    ({"seed": 2**70}, "integer_above_max_value", "seed", "9223372036854775807"),
    ({"logit_bias": {"cat": 1}}, "invalid_value", "logit_bias", "cat"),
    ({"logit_bias": {"1": 101}}, "invalid_value", "logit_bias.1", "between -100 and 100"),
    ({"logit_bias": {"999999999": 1}}, "invalid_value", "logit_bias", "999999999"),
    ({"top_logprobs": 3}, None, "top_logprobs", "'logprobs'"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "invalid_parameter_combination", "max_tokens", "same time"),
    ({"frequency_penalty": 2.5}, "decimal_above_max_value", "frequency_penalty", "<= 2"),
    ({"functions": [{"name": "f"}]}, "unsupported_parameter", "functions", "'tools'"),
    ({"function_call": "auto"}, "unsupported_parameter", "function_call", "'tool_choice'"),
    ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities", "text"),
    ({"prediction": {"type": "content", "content": "x"}}, "unsupported_parameter", "prediction", "without"),
    ({"web_search_options": {}}, "unsupported_parameter", "web_search_options", "web"),
    ({"response_format": {"type": "json_schema"}}, "missing_required_parameter", "response_format.json_schema", ""),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "unsupported_parameter", "tools[0].type", "custom"),
    (
        {"tools": [{"type": "function", "function": {"name": "x", "b": 1}}]},
        "unknown_parameter",
        "tools[0].function.b",
        "tools[0].function.b",
    ),
    ({"stream_options": {"include_usage": True}}, None, "stream_options", "only allowed when 'stream'"),
]


def check(answer: httpx2.Response, code: str | None, param: str | None, message: str) -> None:
    """A 400 in OpenAI's shape, short whatever was sent."""
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    error = answer.json()["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == code, error
    if param is not None:
        assert error["param"] == param, error
    assert message in error["message"]
    assert len(answer.content) < 1000
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.contract("B13", "I14", note="the rows of `prompt_cache_…`")
@pytest.mark.parametrize(("wrong", "code", "param", "message"), RESPONSES)
def test_bad_responses_request(
    http: httpx2.Client, served: Any, wrong: dict[str, Any], code: str | None, param: str | None, message: str
) -> None:
    """Each names the place and what would be right."""
    check(http.post("/v1/responses", json={"model": MODEL, "input": "Hello", **wrong}), code, param, message)


@pytest.mark.contract("I14", note="the rows of `prompt_cache_…`")
@pytest.mark.parametrize(("wrong", "code", "param", "message"), CHAT)
def test_bad_chat_request(
    http: httpx2.Client, served: Any, wrong: dict[str, Any], code: str | None, param: str | None, message: str
) -> None:
    """Each names the place and what would be right."""
    check(http.post("/v1/chat/completions", json={"model": MODEL, "messages": USER, **wrong}), code, param, message)


BROKEN: list[tuple[bytes, str]] = [
    (b"", "could not parse the JSON body"),
    (b'{"model": "gpt', "could not parse the JSON body"),
    (b'{"model": nope}', "line 1 column"),
    (b'{"model": "x"} trailing', "trailing characters"),
    (b'{\n"model": "x",\n}', "line 3 column"),
    (b'{"model": "\xff\xfe"}', "UTF-8: byte 11 is 0xff"),
    (b'{"input": [{"role": "user", "content": "\xff"}], "model": "x"}', "UTF-8"),
    (b'{"model": "\\ud800"}', "could not parse the JSON body"),
    (b'{"reasoning": {"effort": "x"}, "instructions": nope}', "could not parse the JSON body"),
    (b'{"reasoning": {"effort": "x"}, "instructions": "\xff"}', "UTF-8"),
    (b'{"reasoning": {"effort": "x"}, "text": ' + b"[" * 200_000, "nested too deeply"),
    (b'{"reasoning": {"effort": "x"}, "reasoning": []}', "Invalid 'reasoning.effort'"),
    (b'{"reasoning": {"effort": "x"}, "reasoning": {}}', "Invalid 'reasoning.effort'"),
    (b'{"reasoning": {"effort": "x"}, "reasoning": {"effort": null}}', "Invalid value: 'None'"),
    (b"[1, 2]", "expected an object, but got an array"),
    (b"null", "expected an object, but got null"),
    (b"[" * 500_000, "expected an object"),
    (b'{"input": ' + b"[" * 500_000, "nested too deeply"),
    (b'{"text": ' + b'{"a":' * 200_000, "Unknown parameter: 'text.a'"),
    (b'{"model": "x", "conversation": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
    (b'{"model": "x", "input": "", "tools": [{"type": "function", "name": "a", "parameters": {"a":' + b"[" * 200_000,
     "nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens"])
@pytest.mark.parametrize(("body", "message"), BROKEN)
def test_broken_body(http: httpx2.Client, served: Any, path: str, body: bytes, message: str) -> None:
    """What isn't JSON, UTF-8 or an object, or nests without end, is a 400 that says where."""
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]["message"]
    assert len(answer.content) < 1000


def test_wrong_content_type(http: httpx2.Client, served: Any) -> None:
    """Forms and plain text are refused, with what is accepted; JSON without a type is taken as JSON."""
    answer = http.post("/v1/responses", content=b"{}", headers={"content-type": "text/plain"})
    check(answer, "unsupported_content_type", None, "'application/json'")
    answer = http.post("/v1/responses", content=b"{}")
    check(answer, "missing_required_parameter", "model", "'model'")


def test_unknown_model(client: openai.OpenAI, served: Any) -> None:
    """The SDK raises `NotFoundError`, and the message names what is served."""
    for ask in (
        lambda: client.responses.create(model="gpt-9", input="Hello"),
        lambda: client.chat.completions.create(model="gpt-9", messages=USER),
        lambda: client.models.retrieve("gpt-9"),
        lambda: client.responses.input_tokens.count(model="gpt-9", input="Hello"),
    ):
        with pytest.raises(openai.NotFoundError, match=MODEL) as caught:
            ask()
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_bad_request_is_typed(client: openai.OpenAI, served: Any) -> None:
    """The SDK raises `BadRequestError` with code, param, type and the request's id."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input="Hello", temperature=3)
    error = caught.value
    assert (error.code, error.param, error.type) == (
        "decimal_above_max_value",
        "temperature",
        "invalid_request_error",
    )
    assert error.request_id is not None


@pytest.mark.parametrize("stream", [False, True])
def test_overload(client: openai.OpenAI, server: Any, stream: bool) -> None:
    """The SDK raises `RateLimitError`; the answer says when to come back."""
    server.engine.capacity = 0
    with pytest.raises(openai.RateLimitError) as caught:
        client.responses.create(model=MODEL, input="Hello", stream=stream)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.type == "rate_limit_error"
    assert caught.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/foo", "/v1/responses/", "/v1/responses/resp_1/pause"])
def test_unknown_path(http: httpx2.Client, path: str) -> None:
    """404 in the same shape."""
    answer = http.post(path, json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == f"Invalid URL (POST {path})"
    assert "x-request-id" in answer.headers


def test_wrong_method(http: httpx2.Client) -> None:
    """405 in the same shape, with `Allow`."""
    answer = http.get("/v1/responses")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert "Not allowed to GET on /v1/responses" in answer.json()["error"]["message"]


def test_headers(http: httpx2.Client) -> None:
    """Every answer has its own id and the time it took."""
    first, second = (http.post("/v1/responses", json={"model": MODEL, "input": "Hello"}) for _ in range(2))
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert int(first.headers["openai-processing-ms"]) >= 0


@pytest.mark.parametrize("stream", [False, True])
def test_unforeseen_error(
    serve: Any, make_pipeline: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """A bug is a 500 in the same shape (in a stream, its last event), logged with the request's id, without the
    prompt."""

    class Broken(FakeEngine):
        async def _compute(self, *_: Any) -> Any:
            yield Placed(CacheReport())
            raise RuntimeError("a bug")

    app = create_app(make_pipeline(Broken(PrefixIndex(1))), KeyRing(tmp_path / "keys.json"), max_body=1000)
    with serve(app) as url, caplog.at_level(logging.ERROR):
        answer = httpx2.post(f"{url}/v1/responses", json={"model": MODEL, "input": "secret text", "stream": stream})
    request_id = answer.headers["x-request-id"]
    if stream:
        assert answer.status_code == 200
        assert '"type":"response.failed"' in answer.text
        assert "a bug" not in answer.text
    else:
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"
        assert request_id in answer.json()["error"]["message"]
    record = next(record for record in caplog.records if record.name == "headstart.api")
    assert request_id in record.getMessage()
    assert record.exc_info is not None
    assert "secret text" not in caplog.text


def test_ids_and_time_are_arguments(serve: Any, make_pipeline: Callable[..., Any], tmp_path: Any) -> None:
    """With a clock and a source of ids of one's own the whole answer is known beforehand."""
    app = create_app(
        make_pipeline(FakeEngine(PrefixIndex(1))),
        KeyRing(tmp_path / "keys.json"),
        max_body=1000,
        clock=lambda: 1_800_000_000.5,
        token=lambda size: "ab" * size,
    )
    with serve(app) as url:
        body = httpx2.post(f"{url}/v1/responses", json={"model": MODEL, "input": "Hello"}).json()
    assert body["id"] == "resp_" + "ab" * 24
    assert (body["created_at"], body["completed_at"]) == (1_800_000_000, 1_800_000_000)
