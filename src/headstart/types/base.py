"""The few words and numbers that everything else is said in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

TokenIds: TypeAlias = "npt.NDArray[np.int32]"
"""Token ids of a prompt or a part of one, shape (n,). A command's help needs these words, and no numbers."""

BLOCK_TOKENS = 128
"""Tokens of one physical block; also the step of an interval model's boundaries (docs/contract.md, interval models)."""

LONG = 12 * 3600.0
"""Seconds from which on an entry's life counts as 12 hours."""

MINIMUM_PREFIX = 1024
"""Tokens under which nothing is read or written (docs/contract.md, both generations)."""

Generation = Literal["interval", "breakpoint"]
Retention = Literal["in_memory", "24h"]
Ttl = Literal["30m", "12h"]
Mode = Literal["implicit", "explicit"]
Role = Literal["system", "developer", "user", "assistant", "tool"]
Fate = Literal["expired", "evicted", "refused"]
"""What became of an entry: its time was up, its blocks had to go for others, or there never was room to keep it."""
