"""A cache's directory, and processes that open it again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.engine.blocks.chains import MODEL, NOW

from headstart.engine.blocks.directory import CacheDirectory
from headstart.engine.blocks.disk import DiskTier


class Cache:
    """A cache on disk whose clock is set by hand; `path` is its directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = NOW

    @contextmanager
    def directory(self) -> Iterator[CacheDirectory]:
        """One run of a server."""
        directory = CacheDirectory(self.path, clock=lambda: self.now)
        try:
            yield directory
        finally:
            directory.close()

    @contextmanager
    def tier(self, fingerprint: bytes = MODEL) -> Iterator[DiskTier]:
        """One run of a server with one model, before it has loaded."""
        with self.directory() as directory:
            yield directory.tier(fingerprint)

    def files(self) -> list[Path]:
        """The files of blocks, and whatever else lies there."""
        return sorted(path for path in (self.path / "blocks").rglob("*") if path.is_file())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "data" / "cache")


@pytest.fixture
def running(cache: Cache) -> Iterator[Callable[..., DiskTier]]:
    """Start a model's tier and load it; it is closed behind the test."""
    with ExitStack() as stack:

        def start(fingerprint: bytes = MODEL) -> DiskTier:
            tier = stack.enter_context(cache.tier(fingerprint))
            tier.load()
            return tier

        yield start
