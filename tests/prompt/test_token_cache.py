"""The token cache stays within its bytes and forgets the least recently used."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.prompt.token_cache import PieceKey, PieceTokens, TokenCache


def key(text: str) -> PieceKey:
    """The key of a client's piece."""
    return PieceKey(text, False, False)


def entry(count: int) -> PieceTokens:
    """Some tokens."""
    return PieceTokens(np.zeros(count, np.int32), False)


def test_the_least_recently_used_goes() -> None:
    """Reading an entry keeps it; the other one makes room."""
    cache = TokenCache(1100)
    cache.put(key("a"), entry(1))
    cache.put(key("b"), entry(1))
    assert cache.get(key("a")) is not None
    cache.put(key("c"), entry(1))
    assert cache.get(key("b")) is None
    assert cache.get(key("a")) is not None


def test_what_is_too_large_is_not_kept() -> None:
    """One entry beyond the capacity doesn't empty the cache, and capacity 0 keeps nothing."""
    cache = TokenCache(1000)
    cache.put(key("a"), entry(1))
    cache.put(key("b"), entry(1000))
    assert len(cache) == 1
    nothing = TokenCache(0)
    nothing.put(key("a"), entry(1))
    assert len(nothing) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 300)), max_size=30))
def test_never_beyond_its_bytes(puts: list[tuple[str, int]]) -> None:
    """Whatever is put, the bytes counted are those kept, and within the capacity."""
    cache = TokenCache(3000)
    for text, count in puts:
        cache.put(key(text), entry(count))
        assert cache.bytes <= cache.capacity
    assert (cache.bytes == 0) == (len(cache) == 0)
