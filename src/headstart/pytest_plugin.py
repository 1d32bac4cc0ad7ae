"""Fixtures for the tests of applications; docs/testing.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import openai

    from headstart.testing import FakeServer


@pytest.fixture
def headstart_server() -> Iterator[FakeServer]:
    """A server without a model that keeps the rules of OpenAI's prompt caching, with an empty cache."""
    from headstart.testing import FakeServer

    with FakeServer() as server:
        yield server


@pytest.fixture
def headstart_client(headstart_server: FakeServer) -> Iterator[openai.OpenAI]:
    """The `openai` SDK's client of that server."""
    try:
        import openai
    except ImportError:
        pytest.fail("The fixture headstart_client needs the SDK: pip install openai", pytrace=False)
    with openai.OpenAI(base_url=headstart_server.url, api_key="unused", max_retries=0) as client:
        yield client
