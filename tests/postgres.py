"""A PostgreSQL server of the tests' own, from Debian's package: in a directory of its own, on a free loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

SETTINGS = (
    "-c fsync=off -c full_page_writes=off -c max_connections=60 -c unix_socket_directories= -c shared_buffers=32MB"
)
USERS = ("postgres", "nobody")
"""Who runs it where the tests are run by root, whom PostgreSQL refuses."""


def binaries() -> Path | None:
    """Where `initdb` is; None without PostgreSQL."""
    places = [Path(found).parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: float(place.parent.name))
    return next((place for place in reversed(places) if (place / "initdb").exists()), None)


class Postgres:
    """A server with databases, which can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder, self._data = programs, folder, folder / "data"
        self._user = next((name for name in USERS if _exists(name)), None) if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._databases = 0
        self._run("initdb", "-D", self._data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-h 127.0.0.1 -p {self.port} {SETTINGS}"
        self._run("pg_ctl", "-D", self._data, "-l", self._folder / "log", "-o", options, "-w", "start")

    def stop(self) -> None:
        """As in a crash: whatever is open is cut."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It runs and doesn't answer, like a machine that swaps."""
        parent = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        processes = [parent, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"test{self._databases}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str | Path) -> None:
        identity = {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid} if self._user else {}
        said = self._folder / "said"
        with said.open("wb") as output:  # no pipe: the server would keep it open
            done = subprocess.run(
                [self._programs / program, *arguments],
                **identity,
                extra_groups=[] if self._user else None,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        assert done.returncode == 0, f"{program}: {said.read_text()}"


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


@contextmanager
def server(programs: Path) -> Iterator[Postgres]:
    """One that runs, and leaves nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="headstart-postgres-"))  # pytest's own can't be reached by another user
    try:
        running = Postgres(programs, folder)
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder)
