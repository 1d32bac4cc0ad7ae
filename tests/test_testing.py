"""The pytest plugin as an application's tests use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import openai
import pytest

from headstart.testing import FakeServer, assert_cached

ROOT = Path(__file__).parent.parent
MANUAL = "".join(f"Rule {number}: answer in two sentences.\n" for number in range(150))


def usage(input: int, cached: int) -> dict[str, object]:
    """A response as JSON."""
    return {"id": "resp_1", "usage": {"input_tokens": input, "input_tokens_details": {"cached_tokens": cached}}}


def test_the_example_passes() -> None:
    """With nothing but the installed plugin."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(ROOT / "examples" / "test_caching.py"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "COLUMNS": "80"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-5.6"])
def test_both_generations_and_endpoints(headstart_client: openai.OpenAI, model: str) -> None:
    """The real rules: a conversation is read from its second request on, over either endpoint."""
    first = headstart_client.responses.create(model=model, instructions=MANUAL, input="One?")
    messages = [
        {"role": "developer", "content": MANUAL},
        {"role": "user", "content": "One?"},
        {"role": "user", "content": "Two?"},
    ]
    second = headstart_client.chat.completions.create(model=model, messages=messages)  # type: ignore[arg-type]
    assert first.usage is not None
    assert first.usage.input_tokens_details.cached_tokens == 0
    assert_cached(second)
    assert_cached([second, second.usage, second.model_dump()])


def test_time_passes_when_the_test_says_so(headstart_server: FakeServer, headstart_client: openai.OpenAI) -> None:
    """And with it entries."""
    for gap, share in ((0, 0.0), (1700, 0.9), (1900, 0.0)):
        headstart_server.clock.advance(gap)
        response = headstart_client.responses.create(model="gpt-5.6", input=MANUAL)
        assert_cached(response, at_least=share)
        if gap == 1900:
            assert response.usage is not None
            assert response.usage.input_tokens_details.cached_tokens == 0
    with pytest.raises(ValueError, match="go back"):
        headstart_server.clock.advance(-1)


def test_what_a_failure_says(headstart_client: openai.OpenAI) -> None:
    """Figures of each response, and why: the path, the kind of value, the remedy."""
    responses = [
        headstart_client.responses.create(model="gpt-5.1", input=f"Now: 2026-09-21T10:0{minute}:00Z\n{MANUAL}")
        for minute in range(3)
    ]
    with pytest.raises(AssertionError) as failed:
        assert_cached(responses[1:])
    said = str(failed.value)
    assert said.startswith("0.0% of the input tokens were cached; at least 90.0% was expected.")
    assert "prefix_changed at input: Move the timestamp behind" in said


def test_the_first_request_is_pointed_out() -> None:
    """Who passes it learns why that can't succeed."""
    with pytest.raises(AssertionError, match="leave its response out"):
        assert_cached([usage(2000, 0), usage(2000, 1920)], at_least=0.9)
    assert_cached([usage(2000, 0), usage(2000, 1920)], at_least=0.4)


@pytest.mark.parametrize(
    ("responses", "share", "words"),
    [
        ([], 0.9, "no response"),
        (usage(1, 1), 1.5, "between 0 and 1"),
        ({"id": "x"}, 0.9, "include_usage"),
        (SimpleNamespace(usage=None), 0.9, "has no usage"),
    ],
)
def test_wrong_arguments(responses: object, share: float, words: str) -> None:
    """They say what would be right."""
    with pytest.raises(ValueError, match=words):
        assert_cached(responses, share)


def test_two_servers_share_nothing() -> None:
    """Each has a cache of its own."""
    with FakeServer() as one, FakeServer({"mine": "interval"}) as two:
        for server, model in ((one, "gpt-5.1"), (two, "mine")):
            with openai.OpenAI(base_url=server.url, api_key="x", max_retries=0) as client:
                response = client.responses.create(model=model, input=MANUAL)
                assert response.usage is not None
                assert response.usage.input_tokens_details.cached_tokens == 0
                assert (one.explain(response.id) is None) == (server is two)


def test_the_plugin_costs_other_tests_next_to_nothing() -> None:
    """It is imported by every run of pytest: nothing large comes with it."""
    code = "import sys, headstart.pytest_plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert {"numpy", "starlette", "bpe_openai"} & set(done.stdout.split()) == set()
    assert "headstart.pytest_plugin" in done.stdout
