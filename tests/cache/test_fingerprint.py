"""Fingerprints tell where prompts part, to the token, and nothing to another organisation."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headstart.cache.fingerprint import common_tokens, fingerprint, organisation_key

KEY = organisation_key(b"secret", "org")


def tokens_of(count: int, seed: int = 0) -> np.ndarray:
    """Random tokens."""
    return np.random.default_rng(seed).integers(0, 200_000, count).astype(np.int32)


@given(st.integers(0, 700), st.integers(0, 700), st.integers(0, 700))
def test_common_tokens_are_counted_to_the_token(shared: int, ours: int, theirs: int) -> None:
    """Two prompts that share `shared` tokens and then differ at once, or one of which ends there."""
    stem = tokens_of(shared)
    left = np.concatenate((stem, np.full(ours, 1, np.int32)))
    right = np.concatenate((stem, np.full(theirs, 2, np.int32)))
    assert common_tokens(fingerprint(left, KEY), fingerprint(right, KEY)) == shared


def test_one_token_changes_all_that_follows() -> None:
    """Nothing behind the change looks the same, so a fingerprint can't be pieced together."""
    tokens = tokens_of(1000)
    changed = tokens.copy()
    changed[300] += 1
    ours, theirs = fingerprint(tokens, KEY), fingerprint(changed, KEY)
    assert (ours.traces[300:] == theirs.traces[300:]).mean() < 0.01
    assert not set(ours.chain[2:]) & set(theirs.chain[2:])


def test_equal_tokens_have_no_equal_traces() -> None:
    """A word that is said a thousand times can't be counted."""
    assert len(set(fingerprint(np.zeros(1024, np.int32), KEY).traces.tolist())) > 900


def test_the_sample_survives_a_shift() -> None:
    """A few tokens in front move everything, and leave the sample as it was."""
    tokens = tokens_of(5000)
    moved = np.concatenate((tokens_of(3, seed=1), tokens))
    ours, theirs = (set(fingerprint(each, KEY).sample) for each in (tokens, moved))
    assert len(ours) > 40
    assert len(ours & theirs) >= len(ours) - 1


def test_a_text_that_repeats_itself_has_a_sample() -> None:
    """As the tutorial's: two lines, two hundred times over."""
    tokens = np.tile(tokens_of(23), 200)
    moved = np.concatenate((tokens_of(3, seed=1), tokens))
    ours, theirs = (set(fingerprint(each, KEY).sample) for each in (tokens, moved))
    assert len(ours & theirs) >= 23


def test_organisations_can_not_be_compared() -> None:
    """The same prompt of another organisation, or of another deployment, has nothing in common."""
    ours = fingerprint(tokens_of(2000), KEY)
    for secret, name in ((b"secret", "other"), (b"another", "org")):
        theirs = fingerprint(tokens_of(2000), organisation_key(secret, name))
        assert not set(ours.chain) & set(theirs.chain)
        assert not set(ours.sample) & set(theirs.sample)
        assert common_tokens(ours, theirs) < 3


def test_settings_of_the_prefix_part_prompts_at_once() -> None:
    """With another `reasoning.effort` no block is shared; the sample still tells that it says the same."""
    plain, low = (fingerprint(tokens_of(2000), KEY, settings) for settings in ("", '{"reasoning_effort":"low"}'))
    assert not set(plain.chain) & set(low.chain)
    assert plain.sample == low.sample


def test_short_prompts_have_fingerprints() -> None:
    """None, one, seven tokens."""
    for count in (0, 1, 7, 8, 127, 128, 129):
        made = fingerprint(tokens_of(count), KEY)
        assert (len(made.traces), len(made.chain)) == (count, count // 128)
