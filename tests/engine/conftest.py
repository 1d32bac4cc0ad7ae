"""A real transformer in llama.cpp, small enough that a test can compute a hundred thousand tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine.plain_model import write_plain_model

from headstart.engine.llama import LlamaModel


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
