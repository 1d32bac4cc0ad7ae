"""The rules of breakpoint models as clients meet them, through the SDK."""

from __future__ import annotations

import itertools
from typing import Any

import openai
import pytest

MODEL = "gpt-5.6"
_numbers = itertools.count()


def long_text(words: int = 1500) -> str:
    """A text of its own, of a little more tokens than words."""
    return f"Case {next(_numbers)}. " + "alpha beta gamma delta epsilon " * (words // 5)


def user(*texts: str, marked: str | None = None, ttl: str | None = None) -> dict[str, Any]:
    """A user message; the block `marked` carries a breakpoint."""
    mark = {"mode": "explicit"} | ({"ttl": ttl} if ttl else {})
    parts = [
        {"type": "input_text", "text": text} | ({"prompt_cache_breakpoint": mark} if text == marked else {})
        for text in texts
    ]
    return {"role": "user", "content": parts}


def ask(client: openai.OpenAI, input: Any, **options: Any) -> Any:
    """A response."""
    return client.responses.create(model=MODEL, input=input, max_output_tokens=3, **options)


def counts(response: Any) -> tuple[int, int]:
    """(read, written)."""
    details = response.usage.input_tokens_details
    return details.cached_tokens, details.cache_write_tokens


@pytest.mark.contract("E2", "P2", "P13")
def test_a_conversation_reads_its_last_turn_and_writes_the_new_one(client: openai.OpenAI, server: Any) -> None:
    """To the token; what closes the last message and opens the answer is ordinary input."""
    turns: list[Any] = [{"role": "user", "content": long_text()}]
    first = ask(client, turns)
    read, written = counts(first)
    assert read == 0
    assert first.usage.input_tokens - 10 < written < first.usage.input_tokens
    turns += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": long_text(100)}]
    second = ask(client, turns)
    read_then, written_then = counts(second)
    assert read_then == written
    assert second.usage.input_tokens - 10 < read_then + written_then < second.usage.input_tokens


@pytest.mark.contract("E3", "P11")
def test_an_implicit_entry_is_not_for_explicit_requests(client: openai.OpenAI, server: Any) -> None:
    """Worked case 3, on the wire."""
    text, more = long_text(), long_text(100)
    ask(client, [user(text)])
    explicit: Any = {"mode": "explicit"}
    assert counts(ask(client, [user(text), user(more, marked=more)], prompt_cache_options=explicit))[0] == 0
    assert counts(ask(client, [user(text, marked=text), user(more)], prompt_cache_options=explicit))[0] > 1024


@pytest.mark.contract("E5", "P4", "P6")
@pytest.mark.parametrize("endpoint", ["responses", "chat"])
def test_a_rubric_is_written_once(client: openai.OpenAI, server: Any, endpoint: str) -> None:
    """Worked case 5 on both endpoints: then read, and nothing written."""
    rubric = long_text()
    seen = []
    for number in range(3):
        parts = [(rubric, {"prompt_cache_breakpoint": {"mode": "explicit"}}), (f"Grade essay {number}. " * 9, {})]
        options: Any = {"prompt_cache_options": {"mode": "explicit"}}
        if endpoint == "responses":
            content: list[Any] = [{"type": "input_text", "text": text} | mark for text, mark in parts]
            seen.append(counts(ask(client, [{"role": "user", "content": content}], **options)))
        else:
            content = [{"type": "text", "text": text} | mark for text, mark in parts]
            answer = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": content}], max_completion_tokens=3, **options
            )
            details: Any = answer.usage.prompt_tokens_details if answer.usage else None
            seen.append((details.cached_tokens, details.cache_write_tokens))
    written = seen[0][1]
    assert written > 1500
    assert seen == [(0, written), (written, 0), (written, 0)]
    assert counts(ask(client, [user(rubric)], prompt_cache_options={"mode": "explicit"})) == (0, 0), "no mark"


@pytest.mark.contract("B14", "P17")
def test_options_are_echoed_as_they_were_applied(client: openai.OpenAI, server: Any) -> None:
    """With the defaults where the client said nothing."""
    plain = ask(client, "Hello")
    assert (plain.prompt_cache_options.mode, plain.prompt_cache_options.ttl) == ("implicit", "30m")
    chosen: Any = {"mode": "explicit", "ttl": "12h"}
    response = ask(client, "Hello", prompt_cache_options=chosen, prompt_cache_key="k", prompt_cache_retention="24h")
    assert (response.prompt_cache_options.mode, response.prompt_cache_options.ttl) == ("explicit", "12h")
    assert (response.prompt_cache_key, response.prompt_cache_retention) == ("k", "24h")
    interval = client.responses.create(model="gpt-4.1-mini", input="Hello", max_output_tokens=3)
    assert interval.prompt_cache_options is None


@pytest.mark.contract("P14", "P18")
def test_writes_are_split_by_ttl(client: openai.OpenAI, server: Any) -> None:
    """A mark's own 12 hours, and the request's 30 minutes behind it."""
    text, more = long_text(), long_text(200)
    response = ask(client, [user(text, more, marked=text, ttl="12h")])
    details = response.usage.input_tokens_details
    split = details.cache_write_tokens_details
    assert split.ttl_12h_tokens > 1500
    assert split.ttl_30m_tokens > 200
    assert split.ttl_30m_tokens + split.ttl_12h_tokens == details.cache_write_tokens


@pytest.mark.contract("P21")
@pytest.mark.parametrize("stream", [False, True])
def test_a_prewarm_writes_and_says_nothing(client: openai.OpenAI, server: Any, stream: bool) -> None:
    """Completed, without output, and the next request reads what it wrote."""
    text = long_text()
    options: Any = {"prewarm": True}
    if stream:
        with client.responses.stream(model=MODEL, input=text, prompt_cache_options=options) as events:
            response: Any = events.get_final_response()
    else:
        response = client.responses.create(model=MODEL, input=text, prompt_cache_options=options)
    assert (response.status, response.output, response.usage.output_tokens) == ("completed", [], 0)
    read, written = counts(response)
    assert read == 0
    assert written > 1500
    assert counts(ask(client, text)) == (written, 0)


@pytest.mark.contract("P4")
def test_a_tool_result_may_carry_a_mark(client: openai.OpenAI, server: Any) -> None:
    """As input_text blocks of a function's output."""
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    found = {"type": "input_text", "text": long_text(), **mark}
    call = {"type": "function_call", "call_id": "c", "name": "search", "arguments": "{}"}
    items: list[Any] = [
        {"role": "user", "content": "Look it up."},
        call,
        {"type": "function_call_output", "call_id": "c", "output": [found]},
    ]
    explicit: Any = {"mode": "explicit"}
    written = counts(ask(client, items, prompt_cache_options=explicit))[1]
    assert written > 1500
    again = ask(client, [*items, {"role": "user", "content": "And?"}], prompt_cache_options=explicit)
    assert counts(again) == (written, 0)


@pytest.mark.contract("P5")
def test_more_marks_than_count_are_ignored(client: openai.OpenAI, server: Any) -> None:
    """Sixty of them are no error."""
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    content = [{"type": "input_text", "text": f"Item {n}: " + "one two three " * 10, **mark} for n in range(60)]
    response = ask(client, [{"role": "user", "content": content}], prompt_cache_options={"mode": "explicit"})
    assert counts(response)[1] > 1500


@pytest.mark.contract("D1", "D2", "D7")
def test_a_comparison_that_hits(client: openai.OpenAI, server: Any) -> None:
    """The next turn read all that the first left, though it brought new input."""
    turns: list[Any] = [{"role": "user", "content": long_text()}]
    first = ask(client, turns)
    turns += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": long_text(100)}]
    options: Any = {"comparison_response_id": first.id}
    response = ask(client, turns, prompt_cache_options=options)
    assert response.prompt_cache_diagnostics.type == "cache_hit"
    assert response.prompt_cache_options.comparison_response_id == first.id
    assert ask(client, turns).prompt_cache_diagnostics is None, "it was not asked for"


@pytest.mark.contract("E6", "D3")
def test_a_renamed_tool_is_named_as_the_reason(client: openai.OpenAI, server: Any) -> None:
    """Worked case 6: both counts are the reusable prefix."""

    def tools(name: str) -> list[Any]:
        return [{"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, "strict": False}]

    text = long_text()
    first = ask(client, text, tools=tools("search"))
    reusable = counts(first)[1]
    second = ask(client, text, tools=tools("find"), prompt_cache_options={"comparison_response_id": first.id})
    assert second.prompt_cache_diagnostics.to_dict() == {
        "type": "cache_miss",
        "reason": "tools_changed",
        "cache_missed_tokens": reusable,
        "comparison_reusable_tokens": reusable,
    }
    assert counts(second)[0] == 0


@pytest.mark.contract("D1", "D6")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt_cache_key": "other"}, "prompt_cache_key_changed"),
        ({"reasoning": {"effort": "low"}}, "reasoning_effort_changed"),
        ({"text": {"verbosity": "low"}}, "verbosity_changed"),
        ({"text": {"format": {"type": "json_object"}}}, "text_format_changed"),
        ({"instructions": "Be brief."}, "input_changed"),
    ],
)
def test_what_changed_is_named(client: openai.OpenAI, server: Any, change: dict[str, Any], reason: str) -> None:
    """In a stream: on `response.completed`."""
    text = long_text()
    first = ask(client, text)
    options: Any = {"comparison_response_id": first.id}
    with client.responses.stream(
        model=MODEL, input=text, max_output_tokens=40, prompt_cache_options=options, **change
    ) as events:
        response: Any = events.get_final_response()
    assert response.prompt_cache_diagnostics.reason == reason


@pytest.mark.contract("D4", "D5")
def test_a_comparison_without_a_clear_answer_is_no_error(client: openai.OpenAI, server: Any) -> None:
    """An unknown response; one that left nothing to reuse."""
    unknown: Any = {"comparison_response_id": "resp_nobody_knows"}
    assert ask(client, "Hi", prompt_cache_options=unknown).prompt_cache_diagnostics.type == (
        "comparison_response_not_found"
    )
    short: Any = {"comparison_response_id": ask(client, "Hi").id}
    assert ask(client, "Hi", prompt_cache_options=short).prompt_cache_diagnostics.type == "unavailable"


@pytest.mark.contract("P16", note="and conversations: all but the newest turn is read, to the token")
def test_twenty_turns_read_all_but_the_newest(client: openai.OpenAI, server: Any) -> None:
    """What a turn read and wrote is what the next one reads; stored, and gone on from by its id."""
    previous: Any = None
    kept = 0
    for turn in range(20):
        text = long_text() if previous is None else f"And what of {turn}? " * 20
        more: Any = {} if previous is None else {"previous_response_id": previous.id}
        previous = ask(client, text, store=True, **more)
        read, written = counts(previous)
        assert read == kept
        assert written > (1500 if turn == 0 else 100)
        kept = read + written
        assert previous.usage.input_tokens - 10 < kept < previous.usage.input_tokens


@pytest.mark.contract("B15", note="what limits count has the cached tokens in it")
def test_cached_tokens_are_part_of_the_total(client: openai.OpenAI, server: Any) -> None:
    """A warm request weighs as much as a cold one."""
    text = long_text()
    cold, warm = ask(client, text), ask(client, text)
    assert counts(warm)[0] > 1500
    assert warm.usage.total_tokens == cold.usage.total_tokens
