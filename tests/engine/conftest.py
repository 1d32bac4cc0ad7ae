"""A real transformer in llama.cpp, small enough that a test can compute a hundred thousand tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.plain_model import write_plain_model

from headstart.engine.demo_model import TINY, write_demo_model
from headstart.engine.llama import LlamaModel
from headstart.prompt.template import DEMO_TEMPLATE


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's file: F32 weights, 512 tokens of vocabulary."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_demo_model(path, chat_template=DEMO_TEMPLATE, shape=TINY)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Iterator[LlamaModel]:
    """The tiny model, loaded."""
    model = LlamaModel(tiny_path)
    yield model
    model.close()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    """The plain model, loaded: for comparing logits."""
    path = tmp_path_factory.mktemp("plain") / "plain.gguf"
    write_plain_model(path)
    model = LlamaModel(path)
    yield model
    model.close()
