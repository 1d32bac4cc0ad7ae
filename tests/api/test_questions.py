"""Questions to who may never answer."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from headstart.api.questions import Questions

HANGS = """
import asyncio, time
from headstart.api.questions import Questions

async def main():
    asked = Questions("test").ask(lambda: time.sleep(60))
    await asyncio.wait({asked}, timeout=0.2)
    print("pending" if not asked.done() else "done")

asyncio.run(main())
"""


async def test_answers_and_errors_come_back() -> None:
    """To the event loop that asked, one after the other."""
    questions = Questions("test")
    assert [await questions.ask(lambda n=n: n * n) for n in range(3)] == [0, 1, 4]  # type: ignore[misc]
    with pytest.raises(ZeroDivisionError):
        await questions.ask(lambda: 1 // 0)
    assert await questions.ask(lambda: threading.current_thread().name) == "test"


async def test_who_gave_up_misses_only_its_own() -> None:
    """The answer of a question that was cancelled goes nowhere, and the next one comes."""
    questions, hold = Questions("test"), threading.Event()
    late = questions.ask(hold.wait)
    late.cancel()
    soon = questions.ask(lambda: 7)
    await asyncio.sleep(0.05)
    assert not soon.done()
    hold.set()
    assert await soon == 7


def test_a_process_ends_without_its_answer() -> None:
    """Its thread is not waited for, neither by asyncio nor at the interpreter's end."""
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=50)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("pending\n", "", 0)
    assert time.monotonic() - begun < 20
