"""The RAM tier: the state of blocks that left the context, by digest. The index decides what goes for want of room."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class RamTier:
    """Bytes by digest, each block once however many prompts share it."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, npt.NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def put(self, digest: bytes, data: npt.NDArray[np.uint8]) -> None:
        """Keep a block's state."""
        self._blocks[digest] = data

    def get(self, digest: bytes) -> npt.NDArray[np.uint8]:
        """The state of a block that the index says is here."""
        return self._blocks[digest]

    def drop(self, digests: Iterable[bytes]) -> None:
        """Free what the index no longer counts."""
        for digest in digests:
            del self._blocks[digest]

    def clear(self) -> None:
        """Free everything."""
        self._blocks.clear()
