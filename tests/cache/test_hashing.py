"""Digests name prefixes: equal exactly when namespace, settings and every token up to there are equal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.cache.hashing import block_digests, namespace_key
from headstart.types import BLOCK_TOKENS, Namespace

SECRET = bytes(range(32))
HOME = Namespace("org", "gpt-4.1-mini", "interval", "key")


def tokens(*values: int) -> np.ndarray:
    """One block of each value."""
    return np.repeat(np.array(values, np.int32), BLOCK_TOKENS)


@pytest.mark.contract("B1")
@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_digests_agree_exactly_as_far_as_tokens_do(left: list[int], right: list[int]) -> None:
    """The number of equal digests is the number of equal leading blocks: none agrees again after a difference."""
    key = namespace_key(SECRET, HOME)
    ours, theirs = block_digests(tokens(*left), key), block_digests(tokens(*right), key)
    shared = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    assert [a == b for a, b in zip(ours, theirs, strict=False)] == [
        i < shared for i in range(min(len(left), len(right)))
    ]


def test_a_tail_shorter_than_a_block_has_no_digest() -> None:
    """1,279 tokens are nine blocks and a tail."""
    assert len(block_digests(np.zeros(1279, np.int32), b"k")) == 9
    assert len(block_digests(np.zeros(1280, np.int32), b"k")) == 10


def test_a_view_of_other_width_or_stride_hashes_its_values() -> None:
    """Digests are of token ids, not of memory layout."""
    ids = np.arange(256, dtype=np.int32)
    strided = np.repeat(ids, 2)[::2]
    assert block_digests(ids, b"k") == block_digests(strided, b"k") == block_digests(ids.astype(np.int64), b"k")


@pytest.mark.contract("W2")
@pytest.mark.contract("B5")
@pytest.mark.parametrize(
    ("other", "settings"),
    [
        (HOME._replace(organisation="org2"), ""),
        (HOME._replace(model="gpt-5"), ""),
        (HOME._replace(generation="breakpoint"), ""),
        (HOME._replace(key=None), ""),
        (HOME._replace(key=""), ""),
        (HOME._replace(organisation="orgg", model="pt-4.1-mini"), ""),
        (HOME, '{"verbosity":"low"}'),
    ],
)
def test_every_field_of_a_namespace_separates(other: Namespace, settings: str) -> None:
    """docs/contract.md: nothing is shared across namespaces; not even where fields joined would spell the same."""
    assert namespace_key(SECRET, other, settings) != namespace_key(SECRET, HOME)


def test_no_key_and_an_empty_key_differ_and_the_secret_matters() -> None:
    """A digest can't be computed without the deployment's secret."""
    assert namespace_key(SECRET, HOME._replace(key=None)) != namespace_key(SECRET, HOME._replace(key=""))
    assert namespace_key(SECRET, HOME) != namespace_key(bytes(32), HOME)


def test_a_lone_surrogate_in_a_key_is_just_another_key() -> None:
    """JSON can carry one; it must neither fail nor meet its replacement character."""
    assert namespace_key(SECRET, HOME._replace(key="\ud800")) != namespace_key(SECRET, HOME._replace(key="�"))
