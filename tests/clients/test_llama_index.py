"""LlamaIndex's `OpenAILike`. It lives in an environment of its own (pyproject.toml, dependency-groups), so what it does
is in `llama_index_client.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import LONG

PYTHON = Path(sys.prefix) / "llama-index" / "bin" / "python"
SCRIPT = Path(__file__).with_name("llama_index_client.py")


@pytest.fixture(scope="module")
def told(_running: Any) -> dict[str, Any]:
    """What the client was told."""
    assert PYTHON.exists(), "scripts/setup installs LlamaIndex there"
    command = [PYTHON, SCRIPT, f"{_running.url}/v1", _running.model, "For LlamaIndex. " + LONG]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.mark.parametrize("kind", ["chat", "stream_chat", "complete", "stream_complete"])
def test_cached_tokens(told: dict[str, Any], kind: str) -> None:
    """Every kind of call has text, and reads the prefix that an earlier one wrote."""
    assert told[kind].get("text"), told[kind]
    assert told[kind]["cached"] >= 1024


@pytest.mark.parametrize("kind", ["chat_first", "complete_first"])
def test_first_calls(told: dict[str, Any], kind: str) -> None:
    """What nobody sent before is read from nowhere."""
    assert told[kind].get("text"), told[kind]
    assert told[kind]["cached"] == 0


def test_structured_output(told: dict[str, Any]) -> None:
    """An answer is an object of the class whose schema was sent."""
    assert set(told["structured"]) == {"city", "raining"}


def test_tools(told: dict[str, Any]) -> None:
    """A forced call runs the client's function, and its result is answered on the prefix read again."""
    assert told["tools"].get("name") == "weather", told["tools"]
    assert told["tools"]["said"].startswith("Rain in")
    assert told["tools"]["text"]
    assert told["tools"]["cached"] >= 1024


def test_image(told: dict[str, Any]) -> None:
    """An image is an error that says what isn't served."""
    assert told["image"]["error"].startswith("BadRequestError")
    assert "not supported by this server" in told["image"]["error"]
