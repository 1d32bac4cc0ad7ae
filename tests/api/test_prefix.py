"""Which settings are part of the prefix, through the SDK: a second request reads what the first wrote, or doesn't."""

from __future__ import annotations

from typing import Any

import openai
import pytest

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
CLOCK: dict[str, Any] = {**WEATHER, "name": "clock"}
ASKED: dict[str, Any] = {
    "instructions": "The quick brown fox jumps over the lazy dog near the river bank. " * 120,
    "input": "Well?",
    "tools": [WEATHER, CLOCK],
}
SCHEMA: dict[str, Any] = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}


def reads(client: openai.OpenAI, model: str, key: str, change: dict[str, Any]) -> tuple[int, int]:
    """Cached and input tokens of a request with a change, after one without it."""
    client.responses.create(**{**ASKED, "model": model, "prompt_cache_key": key})
    response = client.responses.create(**{**ASKED, "model": model, "prompt_cache_key": key, **change})
    if change.get("stream"):
        response = list(response)[-1].response
    assert response.usage is not None
    return response.usage.input_tokens_details.cached_tokens, response.usage.input_tokens


@pytest.mark.contract("B5")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("model", {"model": "local/llama:8b"}),
        ("name", {"tools": [{**WEATHER, "name": "climate"}, CLOCK]}),
        ("description", {"tools": [{**WEATHER, "description": "A city's weather."}, CLOCK]}),
        ("schema", {"tools": [{**WEATHER, "parameters": {"type": "object"}}, CLOCK]}),
        ("order", {"tools": [CLOCK, WEATHER]}),
        ("one less", {"tools": [WEATHER]}),
        ("parallel", {"parallel_tool_calls": False}),
        ("format", {"text": {"format": SCHEMA}}),
        ("effort", {"reasoning": {"effort": "high"}}),
        ("verbosity", {"text": {"verbosity": "low"}}),
    ],
)
def test_a_setting_of_the_prompt_changes_the_prefix(
    client: openai.OpenAI, server: Any, name: str, change: dict[str, Any]
) -> None:
    """Tools stand before everything else, and the settings count even where the template prints none of them."""
    assert reads(client, server.model, f"changed {name}", change)[0] == 0


@pytest.mark.contract("B7")
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"temperature": 0.3, "top_p": 0.5},
        {"max_output_tokens": 16},
        {"metadata": {"request": "4711"}},
        {"stream": True},
        {"safety_identifier": "abc", "user": "u"},
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        {"store": False, "service_tier": "default", "truncation": "disabled"},
    ],
    ids=lambda change: next(iter(change), "nothing"),
)
def test_what_only_concerns_the_answer_does_not(client: openai.OpenAI, server: Any, change: dict[str, Any]) -> None:
    """The whole prefix is read, up to the last boundary."""
    cached, tokens = reads(client, server.model, f"same {list(change)}", change)
    assert cached == tokens // 128 * 128


@pytest.mark.contract("B6")
@pytest.mark.parametrize(
    "choice",
    [
        "none",
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "clock"}]},
        {"type": "function", "name": "clock"},
        "required",
    ],
    ids=["none", "allowed", "function", "required"],
)
def test_neither_does_the_choice_of_a_tool(client: openai.OpenAI, server: Any, choice: Any) -> None:
    """All tools stay in the prompt, whatever may be called."""
    cached, tokens = reads(client, server.model, f"choice {choice}"[:64], {"tool_choice": choice})
    assert cached == tokens // 128 * 128


@pytest.mark.contract("B13")
def test_a_key_has_at_most_64_characters(client: openai.OpenAI, server: Any) -> None:
    """Of any script; one more is refused by name."""
    for key in ("k" * 64, "ключ" * 16):
        assert client.responses.create(model=server.model, input="x", prompt_cache_key=key).prompt_cache_key == key
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=server.model, input="x", prompt_cache_key="k" * 65)
    assert caught.value.param == "prompt_cache_key"


@pytest.mark.contract("P7")
def test_instructions_carry_no_breakpoint(client: openai.OpenAI, server: Any) -> None:
    """They are a plain string, under either generation of rules; a developer message can carry one."""
    marked = {"type": "input_text", "text": "Be short.", "prompt_cache_breakpoint": {"mode": "explicit"}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=server.model, input="x", instructions=[marked])  # type: ignore[arg-type]
    assert caught.value.param == "instructions"


@pytest.mark.contract("W3", "B11")
def test_the_tokens_read_are_some_of_the_input(client: openai.OpenAI, server: Any) -> None:
    """However often it is asked; the count of the input stays the same."""
    counts = {reads(client, server.model, "again", {}) for _ in range(3)}
    assert len(counts) == 1
    assert all(1024 <= cached <= tokens for cached, tokens in counts)
