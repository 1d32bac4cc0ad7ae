"""A disk whose every delay and fault a test decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from headstart.engine.blocks.catalogue import Selection
from headstart.types import StoredBlock


@dataclass
class ModelFetch:
    """Done after it was asked so often."""

    content: np.ndarray | None
    polls: int

    @property
    def done(self) -> bool:
        self.polls -= 1
        return self.polls < 0

    @property
    def data(self) -> np.ndarray | None:
        return self.content


class ModelDisk:
    """`Disk` in a dictionary. `full`: nothing can be written. `unreadable`: what can't be read. `polls`: how often who
    fetches has to look. Writes end when `settle` says so."""

    def __init__(self) -> None:
        self.rows: dict[bytes, StoredBlock] = {}
        self.states: dict[bytes, np.ndarray] = {}
        self.queue: list[tuple[str, object, object]] = []
        self.ended: list[tuple[bytes, bool]] = []
        self.asked: list[Selection] = []
        self.unreadable: set[bytes] = set()
        self.full, self.polls, self.fetched, self.written = False, 0, 0, 0

    def load(self) -> list[StoredBlock]:
        assert not self.queue
        return list(self.rows.values())

    def write(self, block: StoredBlock, data: np.ndarray) -> None:
        self.queue.append(("write", block, data))

    def update(self, blocks: Sequence[StoredBlock]) -> None:
        self.queue += [("update", block, None) for block in blocks]

    def remove(self, digests: Iterable[bytes]) -> None:
        self.queue += [("remove", digest, None) for digest in digests]

    def fetch(self, digest: bytes) -> ModelFetch:
        self.fetched += 1
        return ModelFetch(None if digest in self.unreadable else self.states.get(digest), self.polls)

    def completed(self) -> list[tuple[bytes, bool]]:
        ended, self.ended = self.ended, []
        return ended

    def commands(self) -> list[Selection]:
        asked, self.asked = self.asked, []
        return asked

    def settle(self, count: int = 1_000_000) -> None:
        """Do the first `count` of what was handed in."""
        todo, self.queue = self.queue[:count], self.queue[count:]
        for what, block, data in todo:
            if isinstance(block, bytes):
                self.rows.pop(block, None)
                self.states.pop(block, None)
            elif isinstance(block, StoredBlock) and what == "update":
                if block.digest in self.rows:
                    self.rows[block.digest] = block
            elif isinstance(block, StoredBlock) and isinstance(data, np.ndarray):
                if not self.full:
                    assert block.digest not in self.rows, "a block is written twice"
                    self.rows[block.digest], self.states[block.digest] = block, data.copy()
                    self.written += 1
                self.ended.append((block.digest, not self.full))

    def flush(self, timeout: float) -> bool:
        self.settle()
        return True

    def close(self, timeout: float = 20.0) -> None:
        self.settle()

    def shift(self, seconds: float) -> None:
        """The machine's clock is set: what was written seems older by so much."""
        for digest, row in self.rows.items():
            written = None if row.written is None else row.written - seconds
            self.rows[digest] = row._replace(written=written, used=row.used - seconds)
