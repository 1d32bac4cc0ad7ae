"""Digests that name prefixes.

A prompt's blocks are chained: each digest covers the parent's digest and the block's own tokens, so that equal digests
mean equal prefixes from the first token, and one block has one name however many prompts share it.

    key -- namespace -----------.
                                v
    tokens [0,128) -> d0 -> d1 -> d2 ...      d[i] = BLAKE2b(d[i-1] | tokens [128 i, 128 (i+1)), key)
                             `-> tail         a prefix that ends within a block: the same, of fewer tokens

The key is derived from the deployment's secret and the namespace: a tenant can neither guess another's digests nor
find an own one that meets them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from headstart.types import BLOCK_TOKENS, Namespace, TokenIds

DIGEST_BYTES = 32
BLOCK_BYTES = BLOCK_TOKENS * 4  # token ids are 32-bit


def namespace_key(secret: bytes, namespace: Namespace, settings: str = "") -> bytes:
    """The key of a namespace's digests, 32 bytes. `secret` is at most 64 bytes.

    `settings` are those that are part of the prefix beside the tokens (`Prompt.settings`). Every field is written with
    its length, so that no two namespaces spell the same input; no key and an empty key differ.
    """
    digest = blake2b(key=secret, digest_size=32, person=b"headstart ns")
    for field in (*namespace, settings):
        encoded = b"" if field is None else field.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%d:" % (field is not None, len(encoded)))
        digest.update(encoded)
    return digest.digest()


def key_label(secret: bytes, key: str | None) -> str | None:
    """What a client's `prompt_cache_key` is called where it is not to be read: 16 hexadecimal digits."""
    if key is None:
        return None
    return blake2b(
        key.encode("utf-8", "surrogatepass"), key=secret, digest_size=8, person=b"headstart label"
    ).hexdigest()


def block_digests(tokens: TokenIds, key: bytes) -> tuple[bytes, ...]:
    """The chained digest of every whole block of `tokens`, first to last; a tail shorter than a block has none."""
    data = memoryview(tokens.astype("<i4", copy=False).tobytes())
    keyed = blake2b(key=key, digest_size=DIGEST_BYTES)
    parent, chain = b"", []
    for start in range(0, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES):
        block = keyed.copy()  # spares setting the key up again
        block.update(parent)
        block.update(data[start : start + BLOCK_BYTES])
        parent = block.digest()
        chain.append(parent)
    return tuple(chain)


def tail_digests(tokens: TokenIds, key: bytes, blocks: Sequence[bytes], boundaries: Iterable[int]) -> dict[int, bytes]:
    """The digest of the prefix that ends at each of `boundaries`, which end no block. `blocks` are the `block_digests`
    before them."""
    keyed = blake2b(key=key, digest_size=DIGEST_BYTES)
    tails = {}
    for stop in boundaries:
        whole = stop // BLOCK_TOKENS
        tail = keyed.copy()
        tail.update(blocks[whole - 1] if whole else b"")
        tail.update(tokens[whole * BLOCK_TOKENS : stop].astype("<i4", copy=False).tobytes())
        tails[stop] = tail.digest()
    return tails
