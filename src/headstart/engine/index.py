"""What an engine is given of the cache: an index of which prefixes are held, where and until when.

`cache.index.PrefixIndex` is the one implementation; engines don't import it, so that the rules stay free of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from headstart.types import CacheReport, Drops, Lost, Namespace, Plan, Prefix, StoredBlock, Tally


class Index(Protocol):
    """Lengths in tokens, `now` in the seconds of the engine's clock. `budget`: bytes of RAM for blocks; `weigh`: the
    bytes of the state of so many tokens, which the engine tells before anything else."""

    budget: int
    weigh: Callable[[int], int]

    def match(self, plan: Plan, now: float) -> int:
        """The longest boundary that can be read, 0 if none."""

    def lost(self, plan: Plan, read: int, now: float) -> Lost | None:
        """The longest one beyond `read` that could be once, and what became of it."""

    def is_entry(self, digest: bytes) -> bool:
        """Whether an entry ends with this block, that lives or has lived."""

    def is_readable(self, digest: bytes, now: float) -> bool:
        """Whether the entry that ends with this block lives."""

    def reserve(self, plan: Plan, now: float) -> tuple[Plan, list[bytes]]:
        """Promise what the plan writes, as far as can be: the plan as it can be kept, and what to `unreserve`."""

    def unreserve(self, digests: Iterable[bytes]) -> None:
        """The prompt that reserved them has them by now, or never will."""

    def read(self, plan: Plan, length: int, now: float) -> None:
        """The prefix of `length` tokens is used."""

    def hit(self, plan: Plan, length: int) -> None:
        """A request has read the prefix of `length` tokens: told once for each."""

    def prefixes(self, limit: int, now: float, pause: Callable[[], None]) -> list[Prefix]:
        """What is cached, as `Engine.prefixes` tells. Callable from any thread; it takes its time, and calls `pause`
        now and then for others to go on."""

    def write(self, plan: Plan, now: float) -> None:
        """All of the prompt is held, by an engine whose blocks have no bytes."""

    def serve(self, plan: Plan, now: float) -> CacheReport:
        """All that becomes of a prompt in such an engine: what was read, and what is written."""

    def hold(self, plan: Plan, start: int, stop: int, now: float) -> list[int]:
        """A sequence that held tokens [0, start) holds [0, stop); returns where the tails end that it holds besides."""

    def release(self, digests: Iterable[bytes]) -> None:
        """It lets go of these blocks of one chain, children first."""

    def is_stored(self, digest: bytes) -> bool:
        """Whether the block is in RAM."""

    def is_needed(self, digest: bytes, now: float) -> bool:
        """Whether an entry that lives needs this block."""

    def store(self, digest: bytes, size: int) -> bool:
        """The block is to be in RAM; False if it may not."""

    def pin(self, digests: Iterable[bytes]) -> None:
        """Keep these where they are, until they are `unpin`ned."""

    def unpin(self, digests: Iterable[bytes]) -> None:
        """They may go."""

    def is_on_disk(self, digest: bytes) -> bool:
        """Whether the block can be read from there."""

    def begin_writing(self, digest: bytes) -> StoredBlock | None:
        """What is to be written to disk of a block in RAM; None if it is not to be."""

    def saved(self, digest: bytes, *, done: bool) -> None:
        """That has ended, and is done or could not be."""

    def unsaved(self) -> list[bytes]:
        """What could not be written, to be tried again."""

    def changes(self) -> list[StoredBlock]:
        """The blocks on disk whose entries have changed since the last call."""

    def lose(self, digest: bytes) -> None:
        """The block can't be read from disk."""

    def restore(self, stored: Iterable[StoredBlock], now: float) -> None:
        """What is on disk from before, into an empty index."""

    def expire(self, now: float, limit: int = 64) -> None:
        """Let go of blocks whose time is up."""

    def purge(self, wanted: Callable[[Namespace], bool]) -> int:
        """Let go of what these owners have; returns how many entries."""

    def drops(self) -> Drops:
        """What is to be freed in RAM and removed from disk since the last call."""

    def tally(self) -> Tally:
        """How much is held now."""

    def clear(self) -> None:
        """Forget all state."""

    def check_integrity(self, now: float = ...) -> None:
        """Assert what must always hold."""
