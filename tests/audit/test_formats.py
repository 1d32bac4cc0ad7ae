"""One line of each format, with what is read of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headstart.audit.call import Call, Observed
from headstart.audit.formats.fields import usage_of, when
from headstart.audit.formats.known import FORMATS, calls_of
from headstart.cli import audit as command

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
USAGE = {"prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}
CHAT = {"model": "gpt-4o", "messages": MESSAGES}
TIME = 1_790_000_000.0
ISO = "2026-09-21T14:13:20Z"

LINES: dict[str, tuple[str, dict[str, Any], Observed | None]] = {
    "a body alone": ("openai", CHAT, None),
    "beside its response": (
        "openai",
        {"timestamp": ISO, "request": CHAT, "response": {"choices": [], "usage": USAGE}},
        Observed(20, 8, 0, 0, 3),
    ),
    "in envelopes": ("openai", {"time": TIME * 1000, "request": {"url": "/v1", "body": CHAT}}, None),
    "a batch": ("openai-batch", {"custom_id": "1", "url": "/v1/chat/completions", "body": CHAT}, None),
    "our capture": (
        "headstart",
        {"headstart_capture": 1, "time": TIME, "endpoint": "chat.completions", "organisation": "acme",
         "generation": "interval", "request": CHAT, "usage": {"input": 20, "cached": 8, "output": 3}},
        Observed(20, 8, 0, 0, 3),
    ),
    "LiteLLM": (
        "litellm",
        {"id": "1", "call_type": "acompletion", "model": "openai/gpt-4o", "messages": MESSAGES, "startTime": TIME,
         "model_parameters": {"temperature": 0}, "response": {"usage": USAGE}},
        Observed(20, 8, 0, 0, 3),
    ),
    "Langfuse": (
        "langfuse",
        {"id": "1", "traceId": "2", "type": "GENERATION", "model": "gpt-4o", "startTime": ISO,
         "input": {"messages": MESSAGES}, "usageDetails": {"input": 12, "input_cached_tokens": 8, "output": 3}},
        Observed(20, 8, 0, 0, 3),
    ),
    "Anthropic": (
        "anthropic",
        {"timestamp": TIME, "request": {"model": "claude-sonnet-4-5", "system": "Be kind.", "messages": MESSAGES[1:]},
         "response": {"usage": {"input_tokens": 4, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 8,
                                "cache_creation": {"ephemeral_1h_input_tokens": 2}, "output_tokens": 3}}},
        Observed(20, 8, 6, 2, 3),
    ),
    "a span": (
        "otel",
        {"name": "chat gpt-4o", "start_time": ISO, "attributes": {
            "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 3,
            "gen_ai.usage.cache_read.input_tokens": 8, "gen_ai.system_instructions": json.dumps(
                [{"type": "text", "content": "Be kind."}]),
            "gen_ai.input.messages": json.dumps(
                [{"role": "user", "parts": [{"type": "text", "content": "Hello"}]}])}},
        Observed(20, 8, 0, 0, 3),
    ),
    "OTLP": (
        "otel",
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": str(int(TIME * 1e9)), "attributes": [
            {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4o"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "20"}},
            {"key": "gen_ai.usage.cache_read.input_tokens", "value": {"intValue": "8"}},
            {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "3"}},
            {"key": "gen_ai.input.messages", "value": {"stringValue": json.dumps(MESSAGES)}}]}]}]}]},
        Observed(20, 8, 0, 0, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_each(name: str) -> None:
    """It is known without being told, and gives the same prompt, time and counts in all of them."""
    format, line, usage = LINES[name]
    (call,) = calls_of(line, 1, None)
    assert isinstance(call, Call)
    assert list(calls_of(line, 1, format)) == [call]
    messages = call.body["messages"]
    texts = [message["content"] for message in messages]
    assert texts == (["Hello"] if name == "Anthropic" else ["Be kind.", "Hello"])
    assert call.model == ("claude-sonnet-4-5" if name == "Anthropic" else "gpt-4o")
    assert call.time in (None, TIME)
    assert (call.time is None) == (name in ("a body alone", "a batch"))
    assert call.usage == usage


def test_every_format_is_tried_here() -> None:
    """And the command's help names them all."""
    assert {format for format, _, _ in LINES.values()} == set(FORMATS) == set(command.FORMATS)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(TIME, TIME), (TIME * 1e3, TIME), (str(int(TIME * 1e9)), TIME), (ISO, TIME), ("2026-09-21 14:13:20", TIME),
     ("yesterday", None), (True, None), (float("nan"), None), (-1, None)],
)  # fmt: skip
def test_times(value: object, seconds: float | None) -> None:
    """Seconds, milliseconds, nanoseconds, ISO 8601."""
    found = when({"timestamp": value})
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_counts_that_do_not_add_up_are_left_out() -> None:
    """More cached than there is."""
    assert usage_of({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}) is None
    assert usage_of({"total": 5}) is None
