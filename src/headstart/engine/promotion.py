"""Bringing a prefix back into the context for one sequence: from RAM at once, from disk as it comes."""

from __future__ import annotations

from collections.abc import Iterator

from headstart.engine.blocks.base import Fetch, State
from headstart.engine.holding import Piece
from headstart.engine.index import Index
from headstart.engine.tiers import Tiers
from headstart.types import BLOCK_TOKENS, Lost, Plan

FETCHED_AHEAD = 64 * 2**20
"""Bytes that are loaded from disk ahead of the block that comes next."""


class Promotion:
    """What is read of a plan: the first `read` tokens, of which the first `shared` are there and those up to `goal` are
    still to come. `lost`: what was looked up in vain."""

    def __init__(self, plan: Plan, read: int, lost: Lost | None) -> None:
        self.plan, self.read, self.lost = plan, read, lost
        self.shared, self.goal, self.from_disk = 0, read, 0
        self.loaded: list[tuple[Piece, State]] = []
        self._fetches: dict[bytes, Fetch] = {}
        self._pinned: list[bytes] = []

    def pieces(self, computed: int) -> Iterator[Piece]:
        """What follows the first `computed` tokens."""
        if computed >= self.goal:
            return
        if self.plan.whole:
            yield Piece(self.plan.digest(self.read), 0, self.read)
            return
        for start in range(computed, self.goal, BLOCK_TOKENS):
            stop = min(start + BLOCK_TOKENS, self.read)
            digest = self.plan.digest(self.read) if stop == self.read else self.plan.blocks[start // BLOCK_TOKENS]
            yield Piece(digest, start, stop)

    def state(self, piece: Piece, tiers: Tiers) -> State | None:
        """Its bytes; None if they are not there, for good or `waiting` for the disk."""
        digest = piece.digest
        if tiers.index.is_stored(digest):
            return tiers.ram.get(digest)
        fetch = self._fetches.get(digest)
        if fetch is None or not fetch.done:
            return None
        del self._fetches[digest]
        data = fetch.data
        if data is None:
            tiers.index.lose(digest)
        else:
            self.from_disk += piece.stop - piece.start
            self.loaded.append((piece, data))
        return data

    def waiting(self, piece: Piece) -> bool:
        """Whether the disk is yet to bring it."""
        return piece.digest in self._fetches

    def fetch_ahead(self, computed: int, tiers: Tiers) -> None:
        """Have the next blocks loaded that are on disk alone."""
        index, ahead = tiers.index, 0
        if tiers.disk is None:
            return
        for piece in self.pieces(computed):
            if ahead > FETCHED_AHEAD:
                return
            ahead += index.weigh(piece.stop - piece.start)
            digest = piece.digest
            if digest not in self._fetches and not index.is_stored(digest) and index.is_on_disk(digest):
                self._fetches[digest] = tiers.disk.fetch(digest)

    def pin(self, index: Index) -> None:
        """Keep what is read where it is."""
        self._pinned = [piece.digest for piece in self.pieces(0)]
        index.pin(self._pinned)

    def end(self, index: Index) -> None:
        """It is over, or given up."""
        index.unpin(self._pinned)
        self._pinned = []
        self._fetches.clear()
