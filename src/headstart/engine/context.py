"""What the scheduler needs of a context: `llama.LlamaContext`, or a model of one in tests."""

from __future__ import annotations

from collections.abc import Sequence as Ordered
from typing import Protocol

import numpy as np
import numpy.typing as npt

from headstart.types import TokenIds


class Context(Protocol):
    """Sequences of cells, and one batch of tokens to compute into them. See `LlamaContext` for what each call does."""

    @property
    def tokens(self) -> TokenIds:
        """The batch's token ids, to be filled."""

    @property
    def positions(self) -> npt.NDArray[np.int32]:
        """Their positions in their sequences."""

    @property
    def sequences(self) -> npt.NDArray[np.int32]:
        """Their sequences."""

    @property
    def outputs(self) -> npt.NDArray[np.int8]:
        """1 where logits are wanted."""

    def decode(self, count: int) -> int:
        """Compute the batch's first `count` tokens; 0 if done."""

    def logits(self, at: int) -> npt.NDArray[np.float32]:
        """Of the batch's token `at`."""

    def share(self, source: int, target: int, start: int, stop: int) -> None:
        """`target` also holds what `source` holds at positions [start, stop)."""

    def keep(self, sequence: int, length: int) -> bool:
        """Let go of positions from `length` on; False if that can't be."""

    def save(self, sequence: int, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """The state of positions [start, stop)."""

    def restore(
        self, sequence: int, blocks: npt.NDArray[np.uint8] | Ordered[npt.NDArray[np.uint8]], start: int, stop: int
    ) -> bool:
        """Bring one state back, or blocks in a row; False, and nothing is changed, if there is no room."""

    def dump(self, sequence: int, length: int) -> npt.NDArray[np.uint8]:
        """All of a sequence of `length` tokens, where state can't be cut."""

    def load(self, sequence: int, data: npt.NDArray[np.uint8], length: int) -> bool:
        """Bring it back into an empty sequence; False if there is no room."""

    def weigh(self, tokens: int) -> int:
        """The bytes that `save` gives of so many tokens."""

    def clear(self) -> None:
        """Let go of everything."""

    def close(self) -> None:
        """Free it."""


class Vocabulary(Protocol):
    """What the scheduler needs of a model."""

    @property
    def space_prefix(self) -> bool:
        """Whether the vocabulary puts a space before the first word of a text, which an answer doesn't show."""

    def piece(self, token: int) -> bytes:
        """The bytes a token adds to the text."""

    def ends_turn(self, token: int) -> bool:
        """Whether generation stops at this token."""


class Sampler(Protocol):
    """Chooses one request's tokens."""

    def choose(self, logits: npt.NDArray[np.float32]) -> int:
        """The next token."""

    def close(self) -> None:
        """Free it. Idempotent."""
