"""How many of the context's cells are taken. llama.cpp doesn't say, and two sequences may hold the same cells.

A page stands for the up to 128 cells of one sequence's block, and counts who holds it. It is whole even where its block
is short, so the true number of cells in use is never above the one here.
"""

from __future__ import annotations

from collections.abc import Sequence

from headstart.types import BLOCK_TOKENS


def pages_for(tokens: int) -> int:
    """Pages that hold this many tokens."""
    return -(-tokens // BLOCK_TOKENS)


class Page:
    """Held by `holders` sequences."""

    __slots__ = ("holders",)

    def __init__(self) -> None:
        self.holders = 1


class PagePool:
    """A fixed number of pages."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total

    def take(self, count: int) -> list[Page]:
        """Pages that no one held. The caller has checked `free`."""
        assert count <= self.free
        self.free -= count
        return [Page() for _ in range(count)]

    def share(self, pages: Sequence[Page]) -> list[Page]:
        """The same pages for one more holder."""
        for page in pages:
            page.holders += 1
        return list(pages)

    def release(self, pages: Sequence[Page]) -> None:
        """One holder fewer of each; those that no one holds are free."""
        for page in pages:
            page.holders -= 1
            assert page.holders >= 0
            self.free += not page.holders
