"""How long a context computes, shared among requests by the tokens that they have in each batch."""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """A stopwatch of one context. `clock` is in seconds.

        begin        lap           lap     pause          begin        lap
        |-- a batch --|-- the next --|  ......  (idle) .....  |-- a batch --|

    What is between two batches, choosing tokens above all, counts as the later one's.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: float | None = None
        self._seconds, self._tokens = 0.0, 0

    def begin(self) -> None:
        """There may be something to compute; goes on if it has been running."""
        if self._since is None:
            self._since = self._clock()

    def lap(self, tokens: int) -> float:
        """A batch of so many tokens is computed: seconds for each of them."""
        assert self._since is not None
        since, self._since = self._since, self._clock()
        return (self._since - since) / tokens

    def pause(self) -> None:
        """There was nothing to compute."""
        self._since = None

    def prefilled(self, tokens: int, seconds: float) -> None:
        """So many tokens of a prompt took so long."""
        self._tokens += tokens
        self._seconds += seconds

    @property
    def of_prefill(self) -> float:
        """Seconds for a token of a prompt so far; 0 before there was one."""
        return self._seconds / self._tokens if self._tokens else 0.0
