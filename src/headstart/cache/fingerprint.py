"""A prompt as hashes: enough to say later where another prompt parts from it, too little to read it.

    tokens   [0,128)  [128,256)  …      chain: a digest of everything up to the end of each block
              ||||||    ||||||          traces: 16 bits for each token, of the block's tokens up to it
             . .   .      .  .          sample: some of the hashes of 8 tokens in a row, wherever they stand

Chains tell in a few steps how many blocks two prompts share, traces in which token of the next block they part. The
sample tells whether two prompts say much the same though they part at once. All are keyed by a secret and the
organisation, so that they can't be compared across organisations, nor made from a guess.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headstart.cache.hashing import block_digests
from headstart.types import BLOCK_TOKENS, TokenIds

WINDOW = 8
"""Tokens in a row that one hash of the sample covers."""
SAMPLED, LEAST = 64, 32
"""One of so many windows is in the sample; and so many, if there are: a text that repeats itself has few."""

_ODD = np.uint64(0x9E3779B97F4A7C15)
_Words = npt.NDArray[np.uint64]


class Fingerprint(NamedTuple):
    """`chain`: 16 bytes a block. `traces`: shape (tokens,). `sample`: by window's hash, how often it occurs."""

    chain: tuple[bytes, ...]
    traces: npt.NDArray[np.uint16]
    sample: Mapping[int, int]


def organisation_key(secret: bytes, organisation: str) -> bytes:
    """The key of an organisation's fingerprints, 32 bytes. `secret` is at most 64 bytes."""
    encoded = organisation.encode("utf-8", "surrogatepass")
    return blake2b(encoded, key=secret, digest_size=32, person=b"headstart record").digest()


def fingerprint(tokens: TokenIds, key: bytes, settings: str = "") -> Fingerprint:
    """Hashes of a prompt. `settings` are those of its prefix beside the tokens; with others it shares no chain."""
    chain_key = blake2b(settings.encode("utf-8", "surrogatepass"), key=key, digest_size=32).digest()
    chain = tuple(digest[:16] for digest in block_digests(tokens, chain_key))
    words = tokens.astype(np.uint64)
    return Fingerprint(chain, _traces(words, chain_key, chain), _sample(words, key))


def common_tokens(left: Fingerprint, right: Fingerprint) -> int:
    """How many first tokens two prompts share."""
    most = min(len(left.chain), len(right.chain))
    blocks = bisect_left(range(most), True, key=lambda at: left.chain[at] != right.chain[at])
    start = blocks * BLOCK_TOKENS
    ours, theirs = (print_.traces[start : start + BLOCK_TOKENS] for print_ in (left, right))
    size = min(len(ours), len(theirs))
    differ = np.flatnonzero(ours[:size] != theirs[:size])
    return start + (int(differ[0]) if len(differ) else size)


def _traces(words: _Words, key: bytes, chain: tuple[bytes, ...]) -> npt.NDArray[np.uint16]:
    """Of each token, 16 bits that depend on it and all before it: sums of keyed hashes, begun anew in every block."""
    count = -(-len(words) // BLOCK_TOKENS)
    padded = np.zeros((count, BLOCK_TOKENS), np.uint64)
    padded.reshape(-1)[: len(words)] = words
    parents = b"".join(parent[:8] for parent in (key, *chain)[:count])
    padded += np.frombuffer(parents, np.uint64)[:, None] + np.arange(BLOCK_TOKENS, dtype=np.uint64) * _ODD
    sums = np.cumsum(_mixed(padded), axis=1, dtype=np.uint64) >> np.uint64(48)
    return sums.astype(np.uint16).reshape(-1)[: len(words)]


def _sample(words: _Words, key: bytes) -> dict[int, int]:
    if len(words) < WINDOW:
        return {}
    mixed = _mixed(words + np.frombuffer(key[:8], np.uint64))
    factor, hashes = np.uint64(1), np.zeros(len(words) - WINDOW + 1, np.uint64)
    for at in range(WINDOW):
        hashes += mixed[at : at + len(hashes)] * factor
        factor = np.uint64(int(factor) * int(_ODD) & 0xFFFFFFFFFFFFFFFF)
    hashes, counts = np.unique(_mixed(hashes), return_counts=True)
    chosen = hashes % np.uint64(SAMPLED) == 0
    chosen[:LEAST] = True
    return dict(zip(hashes[chosen].tolist(), counts[chosen].tolist(), strict=True))


def _mixed(words: _Words) -> _Words:
    """splitmix64's finaliser: every bit of a word depends on every other."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
