"""A clock that goes on evenly and can be compared across restarts."""

from __future__ import annotations

import time
from collections.abc import Callable


class SteadyClock:
    """Unix time in seconds as it was when this was made, and the seconds since: a clock that is set meanwhile changes
    nothing, and the time that a machine sleeps counts."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] | None = None) -> None:
        self._steady = steady or _since_boot
        self._offset = wall() - self._steady()

    def __call__(self) -> float:
        """Now."""
        return self._offset + self._steady()


def _since_boot() -> float:
    boot = getattr(time, "CLOCK_BOOTTIME", None)  # Linux alone has it
    return time.monotonic() if boot is None else time.clock_gettime(boot)
