"""What was promised to be kept, whatever comes, and the budgets within which more can be.

A promise is for a block until some time: the end of the last promised entry that needs it. It counts its bytes once,
however many entries do. It is *safe* once the block is on disk; until then, or for good where there is no disk, main
memory has to keep it. So there are two budgets, for all promises, and for those that memory alone keeps; and of each an
organisation may take a share.

A prompt's promises are reserved when it gets its place, before it is computed: what is then said to its client holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from headstart.cache.deadlines import Deadlines

AT_ONCE = 2_000
"""Promises that are ended in one go: some milliseconds."""


class PromiseBudget(NamedTuple):
    """Bytes: `disk` of all promises that may be there, `ram` of those that are not, or not yet, on disk. `share`: of
    each, what one organisation may take."""

    disk: int
    ram: int
    share: float = 1.0

    @property
    def all(self) -> int:
        """Bytes that can be promised at once: those on disk, or where there is none, those in memory."""
        return self.disk or self.ram


class PromiseTally(NamedTuple):
    """Blocks and bytes promised, and of them the bytes that only main memory keeps."""

    blocks: int = 0
    size: int = 0
    unsafe: int = 0


class _Account:
    """Bytes taken, in total and by each organisation."""

    def __init__(self) -> None:
        self.total = 0
        self._by: Counter[str] = Counter()

    def add(self, organisation: str, size: int) -> None:
        """More, or less, is taken."""
        self.total += size
        self._by[organisation] += size
        if not self._by[organisation]:
            del self._by[organisation]

    def left(self, budget: int, share: float, organisation: str) -> float:
        """What it may take yet of a budget in bytes."""
        return min(budget - self.total, budget * share - self._by[organisation])

    def clear(self) -> None:
        """Nothing is taken."""
        self.total = 0
        self._by.clear()


class _Promise:
    """`until`: when it ends, 0 while it is only reserved, by `reserved` prompts."""

    __slots__ = ("durable", "organisation", "reserved", "safe", "size", "until")

    def __init__(self, size: int, organisation: str, *, durable: bool) -> None:
        self.size, self.organisation, self.durable = size, organisation, durable
        self.until, self.reserved, self.safe = 0.0, 0, False


class Promises:
    """Blocks by digest, until when they are promised, and whose they are."""

    def __init__(self, budget: PromiseBudget) -> None:
        self.budget = budget
        self._promises: dict[bytes, _Promise] = {}
        self._deadlines = Deadlines(self._end)
        self._all, self._durable, self._unsafe = _Account(), _Account(), _Account()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._promises

    def until(self, digest: bytes) -> float:
        """When the promise ends; 0 if there is none, or it is only reserved."""
        promise = self._promises.get(digest)
        return promise.until if promise else 0.0

    def room(self, organisation: str, *, durable: bool) -> float:
        """Bytes that can be promised to it yet."""
        disk, ram, share = self.budget
        room = self._unsafe.left(ram, share, organisation)
        return min(room, self._durable.left(disk, share, organisation)) if durable else room

    def reserve(self, blocks: Iterable[tuple[bytes, int]], organisation: str, *, durable: bool) -> None:
        """A prompt will have these blocks, of so many bytes each, promised."""
        for digest, size in blocks:
            self._of(digest, size, organisation, durable=durable).reserved += 1

    def unreserve(self, digests: Iterable[bytes]) -> None:
        """It has them by now, or never will."""
        for digest in digests:
            promise = self._promises.get(digest)
            if promise is not None:
                promise.reserved -= 1
                if not promise.until:
                    self.end(digest)

    def promise(self, digest: bytes, until: float, size: int, organisation: str, *, durable: bool) -> None:
        """The block is promised at least until then."""
        promise = self._of(digest, size, organisation, durable=durable)
        if until > promise.until:
            promise.until = until
            self._deadlines.watch(digest)

    def secure(self, digest: bytes, *, safe: bool) -> None:
        """The block is on disk, or no longer."""
        promise = self._promises.get(digest)
        if promise is not None and promise.safe != safe:
            promise.safe = safe
            self._unsafe.add(promise.organisation, -promise.size if safe else promise.size)

    def is_unsafe(self, digest: bytes) -> bool:
        """Whether main memory alone keeps a promise."""
        promise = self._promises.get(digest)
        return promise is not None and promise.until > 0 and not promise.safe

    def is_durable(self, digest: bytes) -> bool:
        """Whether it is promised and may be on disk."""
        promise = self._promises.get(digest)
        return promise is not None and promise.until > 0 and promise.durable

    def settle(self, now: float) -> list[bytes]:
        """End the promises whose time is up, some at a time."""
        ended: list[bytes] = []
        while len(ended) < AT_ONCE and (digest := self._deadlines.due(now)) is not None:
            ended.append(digest)
            self.end(digest)
        return ended

    def end(self, digest: bytes) -> None:
        """The block is gone, or its time is up. What is reserved stays so."""
        promise = self._promises.get(digest)
        if promise is None:
            return
        self.secure(digest, safe=False)
        self._deadlines.forget(digest)
        promise.until = 0.0
        if not promise.reserved:
            del self._promises[digest]
            self._charge(promise, -promise.size)

    def clear(self) -> None:
        """Nothing is promised."""
        self._promises.clear()
        self._deadlines.clear()
        for account in (self._all, self._durable, self._unsafe):
            account.clear()

    def tally(self) -> PromiseTally:
        """How much is promised now; callable from any thread."""
        return PromiseTally(len(self._promises), self._all.total, self._unsafe.total)

    def check_integrity(self) -> None:
        """Assert what must always hold."""
        for digest, promise in self._promises.items():
            assert promise.reserved >= 0
            assert promise.reserved or promise.until, "a promise that nobody has"
            assert not promise.until or digest in self._deadlines, "a promise that will never end"
        promises = self._promises.values()
        assert self._all.total == sum(promise.size for promise in promises)
        assert self._durable.total == sum(promise.size for promise in promises if promise.durable)
        assert self._unsafe.total == sum(promise.size for promise in promises if not promise.safe)

    def _of(self, digest: bytes, size: int, organisation: str, *, durable: bool) -> _Promise:
        promise = self._promises.get(digest)
        if promise is None:
            promise = self._promises[digest] = _Promise(size, organisation, durable=durable)
            self._charge(promise, size)
        return promise

    def _charge(self, promise: _Promise, size: int) -> None:
        self._all.add(promise.organisation, size)
        if promise.durable:
            self._durable.add(promise.organisation, size)
        if not promise.safe:
            self._unsafe.add(promise.organisation, size)

    def _end(self, digest: bytes) -> tuple[float, int] | None:
        promise = self._promises.get(digest)
        return (promise.until, 0) if promise and promise.until else None
