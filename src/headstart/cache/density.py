"""Retention by what was learned: the block that will earn the fewest hits for the room it takes goes first.

age            0 ─ 32 ─ 64 ─── 128 ────── 256 ─ … ─ 8 M ─
used once      │  ░ │ ░ │  ▒  │    ▓    │    ░             a cell is a class and a bucket, its shade how
used twice     │  ▒ │ ▒ │  ▓  │    ▓    │    ▒             many hits the room it takes is worth
…
"""

from __future__ import annotations

from collections import OrderedDict

REMEMBERED = 65_536
"""Blocks that are gone and whose use would still be noticed."""

_CLASSES = 8  # blocks are told apart by how often they were used, up to this often
_EDGES = [32 << bucket for bucket in range(19)]  # ages at which a bucket ends and the next, twice as wide, begins
_LAST = len(_EDGES)
_SPANS = [_EDGES[0], *_EDGES]
_PRIOR, _WEIGHT = 0.05, 30.0  # without evidence, a use is as likely in every bucket: that ranks as LRU does
_RELEARN, _HALVE = 512, 262_144  # in uses


class _Seen:
    """A block that is known, there or gone: how often and when it was used last, how old it is."""

    __slots__ = ("bucket", "offered", "used", "uses")

    def __init__(self) -> None:
        self.uses = self.used = self.bucket = 0
        self.offered = False


class LeastHitDensity:
    """What will earn the fewest hits for the room it takes goes first, as learned from what came back and when.

    Blocks fall into classes by how often they were used and, within a class, into buckets by age. Of those of a class
    that reached a bucket, a share is used while in it: that is counted, evicted blocks included, so that what is
    learned doesn't depend on what is kept. The density of a cell (a class and a bucket) is the highest expected number
    of hits per age that keeping a block from there on can earn, over all ages at which one might give up (its Gittins
    index; Beckmann et al., "LHD", NSDI 2018, is its kin). A prompt just answered may so rank below one a minute old,
    when users take a minute to go on. Counts are halved now and then; where they are few, a class leans on all
    classes, and all on a prior that ranks by age alone.
    """

    def __init__(self) -> None:
        self._uses = 0
        self._seen: dict[bytes, _Seen] = {}
        self._ages: list[OrderedDict[bytes, _Seen]] = [OrderedDict() for _ in range(_LAST + 1)]
        self._gone: OrderedDict[bytes, None] = OrderedDict()
        self._reached = [[0.0] * (_LAST + 1) for _ in range(_CLASSES)]
        self._reused = [[0.0] * (_LAST + 1) for _ in range(_CLASSES)]
        self._cells: list[list[OrderedDict[bytes, _Seen]]] = [
            [OrderedDict() for _ in range(_LAST + 1)] for _ in range(_CLASSES)
        ]
        self._order: list[OrderedDict[bytes, _Seen]] = []
        self._learn()

    def use(self, digest: bytes) -> None:
        """A prompt reads or writes the block: if it was known, its cell has earned a hit."""
        self._uses += 1
        self._grow_older(self._uses % _LAST)
        if self._uses % _RELEARN == 0:
            self._learn()
        seen = self._seen.get(digest)
        if seen is None:
            seen = self._seen[digest] = _Seen()
        else:
            self._reused[seen.uses - 1][seen.bucket] += 1
            self._gone.pop(digest, None)
            del self._ages[seen.bucket][digest]
            if seen.offered:
                del self._cell(seen)[digest]
        seen.uses, seen.used = min(seen.uses + 1, _CLASSES), self._uses
        self._enter(digest, seen, 0)

    def offer(self, digest: bytes) -> None:
        """It may go: it stands in its cell."""
        seen = self._seen[digest]
        if not seen.offered:
            seen.offered = True
            self._show(digest, seen)

    def withhold(self, digest: bytes) -> None:
        """It may not go: it is known, and in no cell."""
        seen = self._seen[digest]
        if seen.offered:
            seen.offered = False
            del self._cell(seen)[digest]

    def take(self) -> bytes | None:
        """The first of the least dense cell that isn't empty."""
        cell = next((cell for cell in self._order if cell), None)
        if cell is None:
            return None
        digest, seen = cell.popitem(last=False)
        seen.offered = False
        return digest

    def forget(self, digest: bytes) -> None:
        """It is gone, and known still: what it would have earned is to be learned."""
        if digest not in self._seen:
            return
        self.withhold(digest)
        self._gone[digest] = None
        if len(self._gone) > REMEMBERED:
            oldest, _ = self._gone.popitem(last=False)
            del self._ages[self._seen.pop(oldest).bucket][oldest]

    def _cell(self, seen: _Seen) -> OrderedDict[bytes, _Seen]:
        return self._cells[seen.uses - 1][seen.bucket]

    def _enter(self, digest: bytes, seen: _Seen, bucket: int) -> None:
        seen.bucket = bucket
        self._ages[bucket][digest] = seen
        self._reached[seen.uses - 1][bucket] += 1
        if seen.offered:
            self._show(digest, seen)

    def _show(self, digest: bytes, seen: _Seen) -> None:
        """Into its cell: behind the others, or before them if it is older, as the parent of what went last is. So a
        prefix that has begun to go goes on going, and no other is cut."""
        cell = self._cell(seen)
        first = next(iter(cell.values()), None)
        cell[digest] = seen
        if first is not None and seen.used < first.used:
            cell.move_to_end(digest, last=False)

    def _grow_older(self, bucket: int) -> None:
        """Move on what has outgrown this bucket. They have their turn one by one, so this is a few blocks a time."""
        ages, before = self._ages[bucket], self._uses - _EDGES[bucket]
        while ages:
            digest, seen = next(iter(ages.items()))
            if seen.used > before:
                break
            del ages[digest]
            if seen.offered:
                del self._cell(seen)[digest]
            self._enter(digest, seen, bucket + 1)

    def _learn(self) -> None:
        """Put the cells in order, the least dense first."""
        if self._uses % _HALVE == 0:
            for counts in (*self._reached, *self._reused):
                counts[:] = [count / 2 for count in counts]
        reused, reached = (
            [sum(counts) for counts in zip(*table, strict=True)] for table in (self._reused, self._reached)
        )
        every = _shares(reused, reached, [_PRIOR] * (_LAST + 1))
        ranked: list[tuple[float, OrderedDict[bytes, _Seen]]] = []
        for cells, reused, reached in zip(self._cells, self._reused, self._reached, strict=True):
            ranked += zip(_densities(_shares(reused, reached, every)), cells, strict=True)
        self._order = [cell for _, cell in sorted(ranked, key=lambda pair: pair[0])]


def _shares(reused: list[float], reached: list[float], prior: list[float]) -> list[float]:
    """For each bucket, the share that is used in it of those that reach it."""
    return [(used + _WEIGHT * p) / (all_ + _WEIGHT) for used, all_, p in zip(reused, reached, prior, strict=True)]


def _densities(shares: list[float]) -> list[float]:
    """For each bucket, the most hits per age that can be had from its beginning on.

    From the last bucket back, on a stack of stretches (hits, age spent, share that survives): a stretch takes in those
    behind it that are denser than itself.
    """
    densities: list[float] = []
    stretches: list[tuple[float, float, float]] = []
    for share, span in zip(reversed(shares), reversed(_SPANS), strict=True):
        hits, spent, left = share, span * (1 - share / 2), 1 - share
        while stretches and stretches[-1][0] * spent > hits * stretches[-1][1]:
            more, longer, fewer = stretches.pop()
            hits, spent, left = hits + left * more, spent + left * longer, left * fewer
        stretches.append((hits, spent, left))
        densities.append(hits / spent)
    return densities[::-1]
