"""The server of `tests/api`, for clients that others wrote."""

from __future__ import annotations

import pytest
from tests.api.conftest import BREAKPOINTS, MODEL, Running, _running, client, make_pipeline, prompts, server  # noqa: F401 - fixtures

LONG = "The quick brown fox jumps over the lazy dog. " * 180
"""More than 1,024 tokens, so that they are read the second time."""


@pytest.fixture
def api(server: Running) -> dict[str, str]:  # noqa: F811 - the fixture
    """Where to point a client, as most of them name it."""
    return {"base_url": f"{server.url}/v1", "api_key": "unused"}


@pytest.fixture
def model() -> str:
    """What is served there."""
    return MODEL


@pytest.fixture
def breakpoints() -> str:
    """A breakpoint model that is served there."""
    return BREAKPOINTS


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A long prefix that no other test has sent."""
    return f"{request.node.name}. {LONG}"
