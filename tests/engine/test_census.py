"""Counting what is cached: by whom it is done, how often, and what it costs others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from headstart.cache.index import PrefixIndex
from headstart.engine.census import FRESH_SECONDS, Census
from headstart.types import Prefix


class Slow(PrefixIndex):
    """An index that is looked at as long as a test wants. `threads`: who looked."""

    def __init__(self) -> None:
        super().__init__(100)
        self.threads: list[threading.Thread] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.fails = False

    def prefixes(self, limit: int, now: float, pause: Callable[[], None]) -> list[Prefix]:
        """As the index does, when it may."""
        self.threads.append(threading.current_thread())
        assert self.go_on.wait(10)
        if self.fails:
            raise KeyError("a defect")
        return super().prefixes(limit, now, pause)


async def test_many_who_ask_at_once_have_one_count() -> None:
    """In another thread; who stops asking stops no other."""
    index = Slow()
    census = Census(index, lambda: 0.0)
    index.go_on.clear()
    asking = [asyncio.create_task(census.prefixes(10)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()
    index.go_on.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [[]] * 19
    assert len(index.threads) == 1
    assert index.threads[0] is not threading.main_thread()


async def test_a_count_is_good_for_two_seconds_and_one_limit() -> None:
    """On the injected clock; one that is set back makes it no younger."""
    index, now = Slow(), 100.0
    census = Census(index, lambda: now)
    counts = []
    for moment, limit in ((100.0, 10), (100.0 + 0.9 * FRESH_SECONDS, 10), (102.0, 10), (102.0, 20), (50.0, 20)):
        now = moment
        await census.prefixes(limit)
        counts.append(len(index.threads))
    assert counts == [1, 1, 2, 3, 4]


async def test_a_count_that_failed_is_made_again() -> None:
    """Who asks is told, and who asks next is served."""
    index = Slow()
    census = Census(index, lambda: 0.0)
    index.fails = True
    with pytest.raises(KeyError):
        await census.prefixes(10)
    index.fails = False
    assert await census.prefixes(10) == []


def test_another_event_loop_makes_its_own() -> None:
    """One that stands still in the middle of a count is waited for by no other."""
    index = Slow()
    census = Census(index, lambda: 0.0)

    async def gives_up() -> None:
        index.go_on.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(census.prefixes(10), 0.01)
        index.go_on.set()

    with asyncio.Runner() as runner:
        runner.run(gives_up())
        answers: list[list[Prefix]] = []
        other = threading.Thread(target=lambda: answers.append(asyncio.run(census.prefixes(10))))
        other.start()
        other.join()
    assert answers == [[]]
