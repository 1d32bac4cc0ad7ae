"""Questions to who may never answer, as a database that hangs: in a thread of their own, which nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Questions:
    """One after the other. The thread is a daemon, so that the process ends whether or not it got its answer; the pools
    of `asyncio.to_thread` and `concurrent.futures` would be waited for, and they have others' work to do."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: SimpleQueue[tuple[asyncio.Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """What `work` returns or raises. To be called on an event loop."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked.put((future, work))
        return future

    def _run(self) -> None:
        while True:
            future, work = self._asked.get()
            answer, error = None, None
            try:
                answer = work()
            except BaseException as raised:
                error = raised
            with suppress(RuntimeError):  # its event loop is closed
                future.get_loop().call_soon_threadsafe(_settle, future, answer, error)


def _settle(future: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
        future.exception()  # who asked may have gone: that is no reason to complain
    else:
        future.set_result(answer)
