"""What `cells` needs of a disk: `disk.DiskTier`, or a model of one in tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from headstart.types import Namespace, StoredBlock

State = npt.NDArray[np.uint8]
"""Bytes of a block of state."""


class Fetch(Protocol):
    """A block that is being loaded."""

    @property
    def done(self) -> bool:
        """Whether loading has ended."""

    @property
    def data(self) -> State | None:
        """The state, once that is so; None if it can't be read."""


class Selected(Protocol):
    """Whose entries; None: everybody's."""

    @property
    def expired_only(self) -> bool:
        """Only those whose time is up, which go by themselves."""

    def owns(self, owner: Namespace) -> bool:
        """Whether these are an owner's."""


class Disk(Protocol):
    """Blocks by digest. Nothing here waits for the disk but `load` and `flush`."""

    def load(self) -> list[StoredBlock]:
        """What is there, at a start."""

    def write(self, block: StoredBlock, data: State) -> None:
        """Write a block behind what goes on; parents are handed in before children."""

    def update(self, blocks: Sequence[StoredBlock]) -> None:
        """The entries that end with these blocks have changed."""

    def remove(self, digests: Iterable[bytes]) -> None:
        """Remove blocks, whether they are written by then or not."""

    def fetch(self, digest: bytes) -> Fetch:
        """Begin to load a block."""

    def completed(self) -> list[tuple[bytes, bool]]:
        """Blocks whose writing has ended since the last call, and whether they are there."""

    def commands(self) -> Sequence[Selected]:
        """What people ask to have cleared, since the last call."""

    def flush(self, timeout: float) -> bool:
        """Wait, in seconds, until all that was handed in is done; whether it is."""

    def close(self, timeout: float = 20.0) -> None:
        """Flush, and stop."""
