"""The tokens of pieces that were seen before: a warm prompt is then only looked up, not tokenised."""

from __future__ import annotations

import sys
from collections import OrderedDict
from threading import Lock
from typing import NamedTuple

from headstart.types import TokenIds

_ENTRY_BYTES = 400
"""What an entry takes beside its text and its ids: the tuples, the array's head, the place in the table."""


class PieceKey(NamedTuple):
    """What decides the tokens of a piece: its text, whether control tokens are looked for in it (the template's own
    text), and whether it begins where a space prefix is due. `scope` is whose text it is: what one organisation sent
    must not make another's requests faster, which would tell that it was sent."""

    text: str
    template: bool
    spaced: bool
    scope: str = ""


class PieceTokens(NamedTuple):
    """A piece's tokens, read-only, and whether the last of them is a control token (None: there are no tokens)."""

    tokens: TokenIds
    ends_in_control: bool | None


class TokenCache:
    """The least recently used go when the bytes exceed `capacity`. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.bytes = 0
        self._entries: OrderedDict[PieceKey, PieceTokens] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: PieceKey) -> PieceTokens | None:
        """The tokens, which are now the most recently used."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: PieceKey, entry: PieceTokens) -> None:
        """Keep the tokens, unless they alone exceed the capacity."""
        size = _bytes(key, entry)
        if size > self.capacity:
            return
        with self._lock:
            if key in self._entries:  # another thread was as fast
                return
            self._entries[key] = entry
            self.bytes += size
            while self.bytes > self.capacity:
                self.bytes -= _bytes(*self._entries.popitem(last=False))


def _bytes(key: PieceKey, entry: PieceTokens) -> int:
    return sys.getsizeof(key.text) + entry.tokens.nbytes + _ENTRY_BYTES
