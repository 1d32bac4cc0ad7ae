"""What an engine is given of the cache: an index of which prefixes are held, where and until when.

`cache.index.PrefixIndex` is the one implementation; engines don't import it, so that the rules stay free of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from headstart.types import Lost, Plan, Tally


class Index(Protocol):
    """Lengths in tokens, `now` in the seconds of the engine's clock. `budget`: bytes of RAM for blocks."""

    budget: int

    def match(self, plan: Plan, now: float) -> int:
        """The longest boundary that can be read, 0 if none."""

    def lost(self, plan: Plan, read: int, now: float) -> Lost | None:
        """The longest one beyond `read` that could be once, and what became of it."""

    def is_readable(self, digest: bytes, now: float) -> bool:
        """Whether the entry that ends with this block lives."""

    def read(self, plan: Plan, length: int, now: float) -> None:
        """The prefix of `length` tokens is used."""

    def write(self, plan: Plan, now: float) -> None:
        """All of the prompt is held, by an engine whose blocks have no bytes."""

    def hold(self, plan: Plan, start: int, stop: int, now: float) -> list[int]:
        """A sequence that held tokens [0, start) holds [0, stop); returns where the tails end that it holds besides."""

    def release(self, digests: Iterable[bytes]) -> None:
        """It lets go of these blocks of one chain, children first."""

    def is_stored(self, digest: bytes) -> bool:
        """Whether the block is in RAM."""

    def is_needed(self, digest: bytes, now: float) -> bool:
        """Whether an entry that lives needs this block."""

    def store(self, digest: bytes, size: int) -> list[bytes] | None:
        """The block is to be in RAM: what to drop for it, or None if it may not."""

    def expire(self, now: float, limit: int = 64) -> list[bytes]:
        """Blocks to drop from RAM because their time is up."""

    def tally(self) -> Tally:
        """How much is held now."""

    def clear(self) -> None:
        """Forget all state."""

    def check_integrity(self) -> None:
        """Assert what must always hold."""
