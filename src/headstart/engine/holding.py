"""Which of a prompt's blocks are held under one sequence's name, as the index knows them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from headstart.types import BLOCK_TOKENS, Plan


class Piece(NamedTuple):
    """A block's name and its tokens [start, stop)."""

    digest: bytes
    start: int
    stop: int


class Holding:
    """The blocks within tokens [0, stop) of a plan, and some tails, by the boundary where they end."""

    __slots__ = ("plan", "stop", "tails")

    def __init__(self, plan: Plan) -> None:
        self.plan, self.stop = plan, 0
        self.tails: list[int] = []

    @property
    def blocks(self) -> tuple[bytes, ...]:
        """The digests of the whole blocks, first to last."""
        return self.plan.blocks[: self.stop // BLOCK_TOKENS]

    @property
    def leaves(self) -> list[bytes]:
        """What has no child here: the last block, and all tails."""
        return [*self.blocks[-1:], *(self.plan.tails[boundary] for boundary in self.tails)]

    @property
    def digests(self) -> list[bytes]:
        """All of them, children before parents."""
        return [*(self.plan.tails[boundary] for boundary in self.tails), *reversed(self.blocks)]

    def pieces(self) -> Iterator[Piece]:
        """All of them in order, so parents before children."""
        ends = sorted((*range(BLOCK_TOKENS, self.stop + 1, BLOCK_TOKENS), *self.tails))
        for stop in ends:
            yield Piece(self.plan.digest(stop), (stop - 1) // BLOCK_TOKENS * BLOCK_TOKENS, stop)

    def covers(self, other: Holding) -> bool:
        """Whether all that the other holds is held here too."""
        blocks = other.blocks
        if common_blocks(self.blocks, blocks) < len(blocks):
            return False
        ours = {self.plan.tails[boundary] for boundary in self.tails}
        return all(other.plan.tails[boundary] in ours for boundary in other.tails)


def common_blocks(left: tuple[bytes, ...], right: tuple[bytes, ...]) -> int:
    """How many first blocks two chains share. A digest covers all before it, so agreement can be bisected."""
    low, high = 0, min(len(left), len(right))
    if not high or left[0] != right[0]:  # as most are, and who waits asks at every step
        return 0
    while low < high:
        middle = (low + high + 1) // 2
        if left[middle - 1] == right[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


def common_boundary(writer: Plan, reader: Plan) -> int:
    """The longest boundary that one prompt writes and another reads; 0 if none."""
    common = common_blocks(writer.blocks, reader.blocks) * BLOCK_TOKENS
    reach = len(reader.reads) if reader.whole else bisect_right(reader.reads, common + BLOCK_TOKENS - 1)
    for boundary in reversed(reader.reads[:reach]):
        if boundary in writer.writes and reader.digest(boundary) == writer.digest(boundary):
            return boundary
    return 0
