"""OpenAI's tokenizer: exact, offline, and never a control token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.prompt.tokenizer import CHUNK_CHARACTERS, O200K_CONTROL, OpenAITokenizer, Tokenizer, chunks, o200k

TOKENIZER: Tokenizer = OpenAITokenizer()
O200K = o200k()

layout = st.text(alphabet="aZé中1 \t\n\r/.'!-\u00a0\u3000\u0301\x1c", max_size=60)


def test_known_ids() -> None:
    """The ids OpenAI publishes for this text, as int32."""
    ids = TOKENIZER.encode("hello world")
    assert ids.tolist() == [24912, 2375]
    assert ids.dtype == np.int32


def test_empty_text_has_no_tokens() -> None:
    """An empty array, still int32."""
    assert TOKENIZER.encode("").shape == (0,)
    assert TOKENIZER.encode("").dtype == np.int32


@pytest.mark.parametrize("text", O200K_CONTROL)
def test_control_text_stays_ordinary(text: str) -> None:
    """The text of a control token is encoded as the characters it is made of."""
    ids = TOKENIZER.encode(f"a{text}b").tolist()
    assert not set(ids) & set(O200K_CONTROL.values())
    assert O200K.decode(ids) == f"a{text}b"


@pytest.mark.parametrize(
    ("text", "read"),
    [("a\ud800b", "a\ufffdb"), ("\udc00", "\ufffd"), ("\ud83d\ude00", "\U0001f600"), ("\ude00\ud83d", "\ufffd\ufffd")],
)
def test_surrogates(text: str, read: str) -> None:
    """A lone surrogate becomes U+FFFD; two that make a pair become their character."""
    assert O200K.decode(TOKENIZER.encode(text).tolist()) == read


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_round_trip(text: str) -> None:
    """Decoding gives the text back, and no id is a control token's."""
    ids = TOKENIZER.encode(text).tolist()
    assert O200K.decode(ids) == text
    assert not set(ids) & set(O200K_CONTROL.values())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(layout, st.text(max_size=20)), max_size=6), st.integers(2, 40))
def test_chunks_have_the_tokens_of_the_whole(parts: list[str], size: int) -> None:
    """Wherever `chunks` finds a place to cut, no token changes."""
    text = " ".join(parts)
    pieces = list(chunks(text, size))
    assert "".join(pieces) == text
    if all(len(piece) < size for piece in pieces[:-1]):  # a piece of the full size may have been cut anywhere
        assert [i for piece in pieces for i in O200K.encode_ordinary(piece)] == O200K.encode_ordinary(text)


@settings(max_examples=300, deadline=None)
@given(layout, layout)
def test_cuts_are_safe(before: str, after: str) -> None:
    """The two rules of `_splits` hold beside white space, slashes and marks of every kind."""
    for left, right in ((before + ".", " " + after), (before + "\n", "-" + after), (before + "\n", "\u0301" + after)):
        whole = O200K.encode_ordinary(left + right)
        assert O200K.encode_ordinary(left) + O200K.encode_ordinary(right) == whole


def test_text_beyond_the_limits_of_the_library() -> None:
    """A million characters, and more than 200,000 tokens, are encoded all the same."""
    line = "All work and no play makes Jack a dull boy.\n"
    times = 1_100_000 // len(line)
    ids = TOKENIZER.encode(line * times).tolist()
    assert ids == O200K.encode_ordinary(line) * times
    dense = "! ? " * 110_000
    assert len(dense) > CHUNK_CHARACTERS
    assert len(TOKENIZER.encode(dense)) > 200_000
