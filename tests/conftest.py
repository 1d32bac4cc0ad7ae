"""Shared by all tests: an application on a real port, and the tiny model's file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp

from headstart.engine.demo_model import TINY, write_demo_model
from headstart.prompt.template import DEMO_TEMPLATE


@contextmanager
def _serve(app: ASGIApp) -> Iterator[str]:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        server.force_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def serve() -> Callable[[ASGIApp], AbstractContextManager[str]]:
    """Run an app on a free loopback port; gives its URL."""
    return _serve


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's file: F32 weights, 512 tokens of vocabulary."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_demo_model(path, chat_template=DEMO_TEMPLATE, shape=TINY)
    return path
