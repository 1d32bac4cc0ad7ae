"""One measured request."""

from __future__ import annotations

import pytest
from tests.cli.conftest import COLD_SECONDS, Endpoint

from headstart.cli.load import Measurement, connect, measure, served_models
from headstart.cli.process import free_port
from headstart.errors import StartError

MESSAGES = [{"role": "user", "content": "Hello"}]


async def test_measures_a_stream(endpoint: Endpoint) -> None:
    """Times, text and usage; the role's chunk is no first token."""
    async with connect(None) as client:
        cold = await measure(client, endpoint.base_url, "stub", MESSAGES, 16, options={"temperature": 0})
        warm = await measure(client, endpoint.base_url + "/", "stub", MESSAGES, 16)
    assert cold.text == "one two three"
    assert (cold.input_tokens, cold.cached_tokens, cold.output_tokens) == (1100, 0, 3)
    assert COLD_SECONDS <= cold.ttft < cold.total
    assert warm.cached_tokens == 1024
    assert warm.ttft < cold.ttft
    asked = endpoint.bodies[0]
    assert (asked["max_completion_tokens"], asked["temperature"], asked["stream"]) == (16, 0, True)
    assert asked["stream_options"] == {"include_usage": True}


def test_decode_rate() -> None:
    """Tokens after the first, over the time after it; nothing to say of a single token."""
    assert Measurement(1.0, 3.0, 10, 0, 21, "").decode_rate == 10.0
    assert Measurement(1.0, 3.0, 10, 0, 1, "").decode_rate is None
    assert Measurement(1.0, 3.0, 10, 0, None, "").decode_rate is None


async def test_sends_the_key(endpoint: Endpoint) -> None:
    """The key goes as a bearer token; a wrong one says what to set."""
    endpoint.api_key = "sk-right"
    async with connect("sk-right") as client:
        assert await served_models(client, endpoint.base_url) == ["stub"]
    async with connect(None) as client:
        with pytest.raises(StartError, match=r"answered 401: Incorrect API key.*Set OPENAI_API_KEY\.$"):
            await measure(client, endpoint.base_url, "stub", MESSAGES, 16)
    async with connect("sk-wrong") as client:
        with pytest.raises(StartError, match=r"provided\. The key in OPENAI_API_KEY is not accepted\.$"):
            await served_models(client, endpoint.base_url)


async def test_base_url_without_v1(endpoint: Endpoint) -> None:
    """The commonest slip is asked about; a 404 of the API's own isn't."""
    async with connect(None) as client:
        with pytest.raises(StartError, match=r"answered 404: Not Found\. Does the base URL end with /v1\?$"):
            await served_models(client, endpoint.base_url.removesuffix("/v1"))


@pytest.mark.parametrize(
    ("broken", "model", "message"),
    [
        ("", "other", r"answered 404: The model 'other' does not exist\.$"),
        ("500", "stub", r"answered 500: upstream fell over"),
        ("stream", "stub", r"failed while it answered: out of memory"),
    ],
)
async def test_failures_are_one_line(endpoint: Endpoint, broken: str, model: str, message: str) -> None:
    """Whatever goes wrong ends in one line that names the address."""
    endpoint.broken = broken
    async with connect(None) as client:
        with pytest.raises(StartError, match=message) as raised:
            await measure(client, endpoint.base_url, model, MESSAGES, 16)
    assert "\n" not in str(raised.value)
    assert endpoint.base_url in str(raised.value)


async def test_not_an_api(endpoint: Endpoint) -> None:
    """Some web page is told from an API."""
    endpoint.broken = "html"
    async with connect(None) as client:
        with pytest.raises(StartError, match="not an OpenAI-compatible API"):
            await served_models(client, endpoint.base_url)


async def test_nothing_listens() -> None:
    """A refused connection says how to start a server."""
    async with connect(None) as client:
        with pytest.raises(StartError, match=r"Nothing answers at .* headstart serve"):
            await measure(client, f"http://127.0.0.1:{free_port()}/v1", "stub", MESSAGES, 16)
