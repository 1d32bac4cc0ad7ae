"""`GET /v1/models`, `/v1/models/{id}`, `/health`."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from headstart import __version__
from headstart.api.app import create_app
from headstart.api.auth import KeyRing
from headstart.cache.index import PrefixIndex
from headstart.engine.fake import FakeEngine


def test_list(client: openai.OpenAI) -> None:
    """The SDK lists what is served."""
    models = list(client.models.list())
    assert [model.id for model in models] == ["gpt-4.1-mini", "local/llama:8b", "gpt-5.6"]
    assert {model.owned_by for model in models} == {"headstart"}


@pytest.mark.parametrize("name", ["gpt-4.1-mini", "local/llama:8b"])
def test_retrieve(http: httpx2.Client, client: openai.OpenAI, name: str) -> None:
    """By its name, with the slash as it is or escaped (the SDK's way)."""
    assert client.models.retrieve(name).id == name
    assert http.get(f"/v1/models/{name}").json() == {
        "id": name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "headstart",
    }


async def test_async(async_client: openai.AsyncOpenAI) -> None:
    """The asynchronous SDK."""
    names = [model.id async for model in async_client.models.list()]
    assert names == ["gpt-4.1-mini", "local/llama:8b", "gpt-5.6"]


def test_health(http: httpx2.Client, client: openai.OpenAI, server: Any) -> None:
    """Version, models, and the engine's numbers, once for an engine under two names."""
    client.responses.create(model=server.model, input="Hello")
    health = http.get("/health").json()
    assert health["status"] == "ok"
    assert health["version"] == __version__
    (engine,) = health["engines"]
    assert engine["models"] == health["models"] == ["gpt-4.1-mini", "local/llama:8b", "gpt-5.6"]
    assert engine["tokens_decoded"] > 0
    assert engine["running"] == 0


def test_health_without_a_key(serve: Any, make_pipeline: Any, tmp_path: Any) -> None:
    """Where keys are needed, a stranger hears that the server answers, and no more."""
    keys = KeyRing(tmp_path / "keys.json")
    key = keys.create("one", "acme")
    with serve(create_app(make_pipeline(FakeEngine(PrefixIndex(1))), keys, max_body=1000)) as url:
        assert httpx2.get(f"{url}/health").json() == {"status": "ok"}
        assert "models" in httpx2.get(f"{url}/health", headers={"authorization": f"Bearer {key}"}).json()
