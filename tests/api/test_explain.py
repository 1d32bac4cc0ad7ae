"""Explanations of recent responses: the endpoint, and the header on every one."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx2
import openai
import pytest

from headstart.cli.tutorial import LONG_PREFIX, QUESTIONS

MODEL = "gpt-4.1-mini"
BREAKPOINTS = "gpt-5.6"
_numbers = itertools.count(1000)


def long_text(words: int = 1500) -> str:
    """A text of its own."""
    number = next(_numbers)
    return " ".join(f"item{number} {word}" for word in range(words // 3))


def ask(http: httpx2.Client, input: Any, model: str = MODEL, **more: Any) -> tuple[dict[str, Any], str]:
    """The explanation of a new response, and its header."""
    answer = http.post("/v1/responses", json={"model": model, "input": input, "max_output_tokens": 2, **more})
    assert answer.status_code == 200, answer.text
    explained = http.get(f"/v1/responses/{answer.json()['id']}/cache")
    assert explained.status_code == 200
    return explained.json(), answer.headers["x-headstart-cache"]


def test_a_first_request_and_a_hit(http: httpx2.Client, server: Any) -> None:
    """Nothing to mend; then nothing was missed."""
    text = long_text()
    first, header = ask(http, text)
    assert header == "read=0; write=0; miss=first_request"
    assert (first["miss"]["cause"], first["cached_tokens"], first["nearest"]) == ("first_request", 0, None)
    assert first["boundaries"]["saved"]["first"] == 1024
    second, header = ask(http, text + " And why?")
    assert second["miss"] is None
    assert header == f"read={second['cached_tokens']}; write=0"
    assert second["cached_tokens"] > 1024
    assert second["nearest"]["response_id"] == first["response_id"]


def test_below_the_minimum(http: httpx2.Client, server: Any) -> None:
    """The commonest cause of all."""
    explained, header = ask(http, "Hello")
    assert header == "read=0; write=0; miss=below_minimum"
    assert "1024" in explained["miss"]["remedy"]


def test_a_timestamp_in_front_is_found(http: httpx2.Client, server: Any) -> None:
    """Where, what kind of value, and what to do."""
    text = long_text()
    ask(http, f"Now: 2026-11-23 10:05:07. {text}")
    explained, header = ask(http, f"Now: 2026-11-23 10:06:11. {text}")
    assert header == "read=0; write=0; miss=prefix_changed"
    parting = explained["parting"]
    assert (parting["path"], parting["kind"]) == ("input", "timestamp")
    assert (parting["value"]["start"], parting["value"]["stop"]) == (5, 24)
    assert "timestamp" in explained["miss"]["remedy"]
    assert parting["text"] is None, "prompts are not quoted unless the operator lets them be"


def test_the_tutorials_mistake_is_found(http: httpx2.Client, server: Any) -> None:
    """Its prefix is two lines, two hundred times over."""
    ask(http, LONG_PREFIX + QUESTIONS[0])
    explained, header = ask(http, "2026-03-02 09:41:07" + LONG_PREFIX + QUESTIONS[1])
    assert header.endswith("miss=prefix_changed")
    assert explained["parting"]["kind"] == "timestamp"


def test_a_system_message_with_a_user_in_it(http: httpx2.Client, server: Any) -> None:
    """The path names the message and the part."""
    text = long_text()
    for name in ("ann@example.org", "bob@example.org"):
        system = {"role": "system", "content": [{"type": "input_text", "text": f"You serve {name}."}]}
        explained, _ = ask(http, [system, {"role": "user", "content": text}])
    assert explained["parting"]["path"] == "input[0].content[0].text"
    assert explained["parting"]["kind"] == "user_identifier"


def test_another_key_holds_it(http: httpx2.Client, server: Any) -> None:
    """The prefix is there, under a key that this request doesn't have."""
    text = long_text()
    first, _ = ask(http, text, prompt_cache_key="a")
    explained, header = ask(http, text, prompt_cache_key="b")
    assert header.endswith("miss=different_key")
    assert explained["nearest"]["response_id"] == first["response_id"]


def test_reordered_tools_and_keys(http: httpx2.Client, server: Any) -> None:
    """Same tools, another order; same tool, its keys in another order; other tools."""

    def tool(name: str, **more: Any) -> dict[str, Any]:
        return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, **more}

    text = long_text()
    ask(http, text, tools=[tool("a"), tool("b")])
    reordered, _ = ask(http, text, tools=[tool("b"), tool("a")])
    assert (reordered["miss"]["cause"], reordered["parting"]["kind"]) == ("prefix_changed", "reordered_tools")
    text = long_text()
    ask(http, text, tools=[tool("a", description="x", strict=True)])
    keys, _ = ask(http, text, tools=[tool("a", strict=True, description="x")])
    assert keys["parting"]["kind"] == "reordered_keys"
    assert keys["parting"]["path"] == "tools[0]"
    changed, _ = ask(http, text, tools=[tool("other")])
    assert changed["parting"]["kind"] == "changed_tools"


def test_a_setting_of_the_prefix(http: httpx2.Client, server: Any) -> None:
    """`reasoning.effort` is none of the prompt's text, and part of its prefix."""
    text = long_text()
    ask(http, text)
    explained, _ = ask(http, text, reasoning={"effort": "low"})
    assert explained["miss"]["cause"] == "prefix_changed"
    assert (explained["parting"]["path"], explained["parting"]["kind"]) == ("reasoning.effort", "setting")


def test_an_edited_history(http: httpx2.Client, server: Any) -> None:
    """A turn that was changed afterwards: the part before it is read, and where it parts is told."""
    said = [long_text(), long_text(900), long_text(600)]
    turns = [{"role": "user", "content": text} for text in said]
    ask(http, turns)
    edited = [turns[0], {"role": "user", "content": "different " + said[1]}, turns[2], {"role": "user", "content": "?"}]
    explained, _ = ask(http, edited)
    assert explained["cached_tokens"] >= 1024
    assert explained["parting"]["path"] == "input[1].content"
    assert explained["parting"]["kind"] == "edited_history"


def test_white_space_that_drifted(http: httpx2.Client, server: Any) -> None:
    """The same words, spaced otherwise."""
    text = long_text()
    ask(http, f"Rules:\n- be kind\n- be brief\n{text}")
    explained, _ = ask(http, f"Rules:\n - be kind\n - be brief\n{text}")
    assert (explained["miss"]["cause"], explained["parting"]["kind"]) == ("prefix_changed", "whitespace")


def test_a_boundary_that_nobody_marked(http: httpx2.Client, server: Any) -> None:
    """The tutorial's two calls on a breakpoint model: one message, another question at its end."""
    text = long_text()
    ask(http, f"{text} What is overfitting?", BREAKPOINTS)
    explained, header = ask(http, f"{text} What's regularization?", BREAKPOINTS)
    assert header.endswith("miss=boundary_not_marked")
    assert explained["nearest"]["common_tokens"] > 1024
    assert "prompt_cache_breakpoint" in explained["miss"]["remedy"]


def test_an_entry_that_had_to_go(http: httpx2.Client, server: Any) -> None:
    """What became of it is the engine's own word."""
    text = long_text()
    ask(http, text, BREAKPOINTS)
    server.engine._index.clear()
    explained, header = ask(http, text, BREAKPOINTS)
    assert header.split("miss=")[1] == "evicted"
    assert explained["lost"]["fate"] == "evicted"
    assert explained["miss"]["tokens"] == explained["lost"]["boundary"]


def test_chat_completions_are_explained_too(client: openai.OpenAI, http: httpx2.Client, server: Any) -> None:
    """By their own ids; streams carry the header as well."""
    text = long_text()
    with client.chat.completions.with_streaming_response.create(
        model=MODEL, messages=[{"role": "user", "content": text}], max_completion_tokens=2, stream=True
    ) as answer:
        assert answer.headers["x-headstart-cache"] == "read=0; write=0; miss=first_request"
        answer.read()
    completion = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], max_completion_tokens=2
    )
    explained = http.get(f"/v1/chat/completions/{completion.id}/cache").json()
    assert explained["miss"] is None
    assert explained["cached_tokens"] > 1024


def test_an_unknown_response_is_a_404(http: httpx2.Client, server: Any) -> None:
    """In OpenAI's shape."""
    answer = http.get("/v1/responses/resp_nobody/cache")
    assert answer.status_code == 404
    assert answer.json()["error"]["param"] == "id"


@pytest.mark.contract("D8")
def test_records_hold_no_text(http: httpx2.Client, server: Any) -> None:
    """Of a prompt full of a secret word, nothing in the records spells it."""
    secret = "xylophonic"
    explained, _ = ask(http, f"{secret} " * 1500, prompt_cache_key="key-of-mine")
    record = server.pipeline.record("default", explained["response_id"])
    hashes = (*record.prompt.chain, record.prompt.traces.tobytes())
    prints = list(record.values.values())
    assert secret not in repr((record.settings, record.tools, record.outcome, prints))
    assert all(secret.encode() not in piece for piece in hashes)


def test_chat_completions_settings_have_their_own_names(http: httpx2.Client, server: Any) -> None:
    """What is called `text.format` there is `response_format` here."""
    for change, path in (
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"verbosity": "low"}, "verbosity"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ):
        plain = {"model": MODEL, "messages": [{"role": "user", "content": long_text()}], "max_completion_tokens": 2}
        http.post("/v1/chat/completions", json=plain)
        id = http.post("/v1/chat/completions", json={**plain, **change}).json()["id"]
        parting = http.get(f"/v1/chat/completions/{id}/cache").json()["parting"]
        assert (parting["kind"], parting["path"]) == ("setting", path)


def test_the_same_texts_in_another_order(http: httpx2.Client, server: Any) -> None:
    """Retrieved documents in the order of their scores, and JSON with its keys in any."""
    documents = [f"## Document {number}\n" + long_text(300) for number in range(5)]
    ask(http, "Docs:\n" + "\n\n".join(documents))
    explained, _ = ask(http, "Docs:\n" + "\n\n".join(reversed(documents)))
    assert (explained["miss"]["cause"], explained["parting"]["kind"]) == ("prefix_changed", "reordered_text")
    state = {f"key{number}": long_text(150) for number in range(10)}
    ask(http, "State: " + json.dumps(state))
    explained, _ = ask(http, "State: " + json.dumps(dict(reversed(state.items()))))
    assert explained["parting"]["kind"] == "reordered_keys"


def test_a_time_within_the_marked_part(http: httpx2.Client, server: Any) -> None:
    """It is marked already: the time has to go."""
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    rules = long_text()
    for minute in (1, 2):
        text = f"{rules}\nCurrent time: 2026-11-23T10:0{minute}:00Z"
        said = [
            {"role": "system", "content": [{"type": "input_text", "text": text, **mark}]},
            {"role": "user", "content": "Hello"},
        ]
        explained, _ = ask(http, said, BREAKPOINTS)
    assert (explained["miss"]["cause"], explained["parting"]["kind"]) == ("prefix_changed", "timestamp")
    assert "timestamp" in explained["miss"]["remedy"]
    assert explained["miss"]["tokens"] <= explained["input_tokens"]
