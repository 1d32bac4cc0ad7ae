"""A Headstart server as a child process, for as long as it is needed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2

from headstart.errors import StartError

POLL = 0.1
"""Seconds between looks at a server that is starting."""
PATIENCE = 10.0
"""Seconds a server has to stop by itself."""


class ServerProcess:
    """`headstart serve` on a free port of this machine. What it prints goes to `server.log` in the data directory.
    `without`: variables of the environment that it doesn't get."""

    def __init__(self, data_dir: Path, *options: str, command: Sequence[str] = (), without: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.log = data_dir / "server.log"
        serve = command or (sys.executable, "-m", "headstart", "serve")
        try:
            log = self.log.open("wb")
        except OSError as error:
            raise StartError(f"{self.log} can't be written: {error.strerror}.") from error
        with log:
            self._process = subprocess.Popen(  # noqa: S603 - this program itself
                [*serve, "--port", str(self.port), "--data-dir", str(data_dir), *options],
                env={name: value for name, value in os.environ.items() if name not in without},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def base_url(self) -> str:
        """What a client needs."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def starting(self, limit: float = 180.0) -> Iterator[float]:
        """Yield the seconds waited until the server answers. Raises `StartError`, with what it last said."""
        begun = time.monotonic()
        while not self._healthy():
            waited = time.monotonic() - begun
            if self._process.poll() is not None or waited > limit:
                said = self.log.read_text(errors="replace").strip().splitlines()[-5:]
                raise StartError("\n".join(("The server did not start. It said:", *said)))
            yield waited
            time.sleep(POLL)

    def stop(self) -> None:
        """Ask it to stop, and make it stop if it doesn't. Idempotent."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _healthy(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/health", timeout=2.0).status_code == 200
        except httpx2.HTTPError:
            return False


def free_port() -> int:
    """A port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
