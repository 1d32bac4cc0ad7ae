"""A Headstart server with the demo model, as a process of its own, for one measurement."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from headstart.cli.process import ServerProcess
from headstart.engine.demo_model import DEMO, DemoShape, demo_model_path, write_demo_model
from headstart.prompt.template import DEMO_TEMPLATE

DATA = Path(tempfile.gettempdir()) / "headstart-benchmarks"
MODEL = "gpt-4.1-mini"


def demo_model(shape: DemoShape = DEMO) -> Path:
    """The demo model's file, or one of another shape, written if it isn't there."""
    path = demo_model_path(DATA, shape)
    if not path.exists():
        write_demo_model(path, chat_template=DEMO_TEMPLATE, shape=shape)
    return path


class Server:
    """Its address, and what it says of itself."""

    def __init__(self, process: ServerProcess) -> None:
        self.base_url, self.pid = process.base_url, process._process.pid

    def engine(self) -> dict[str, Any]:
        """The engine's counters, from /health."""
        health = httpx2.get(self.base_url.removesuffix("/v1") + "/health").json()
        engine: dict[str, Any] = health["engines"][0]
        return engine

    def resident_bytes(self) -> int:
        """The process's memory now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096


@contextmanager
def server(*options: str, data_dir: Path = DATA) -> Iterator[Server]:
    """A server on a free port, stopped at the end."""
    model, there = demo_model(), demo_model_path(data_dir)
    if not there.exists():
        there.symlink_to(model)
    if data_dir == DATA and "--disk-cache" not in options:  # what is cold there is to be cold in every run
        options = (*options, "--disk-cache", "0")
    process = ServerProcess(data_dir, *options)
    try:
        for _ in process.starting():
            pass
        yield Server(process)
    finally:
        process.stop()
