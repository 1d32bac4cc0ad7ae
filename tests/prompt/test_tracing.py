"""`Traced` is always the text that `str` would give, and its pieces always add up to it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.prompt.tracing import Piece, Traced, derived, joined, merged, pieces_of, strings

short = st.text(alphabet="ab ,\n\tAé\x85", max_size=8)
traces = st.lists(st.tuples(short, st.sampled_from(["", "p", "q"])), max_size=4)


def trace(parts: list[tuple[str, str]]) -> str:
    """A text of parts, each of its own path."""
    return Traced().join([Traced.whole(text, path) if path else text for text, path in parts])


def same(result: Any, plain: Any) -> None:
    """The same characters, and pieces that give them."""
    assert result == plain
    for text in [result] if isinstance(result, str) else result:
        assert "".join(piece.text for piece in pieces_of(text)) == text
        assert all(type(piece.text) is str for piece in pieces_of(text))


OPERATIONS: list[Callable[[str, str], Any]] = [
    lambda a, b: a + b,
    lambda a, b: "x" + a + "y" + b,
    lambda a, b: a.strip(),
    lambda a, b: a.lstrip("a ") + b.rstrip("b\n"),
    lambda a, b: a.replace("a", b),
    lambda a, b: a.replace("b ", "", 1) + b.replace("", "-"),
    lambda a, b: a.split(),
    lambda a, b: a.split(None, 1),
    lambda a, b: a.split("a"),
    lambda a, b: a.split("b,", 1),
    lambda a, b: a.rsplit(None, 1),
    lambda a, b: a.rsplit("a", 1),
    lambda a, b: a.splitlines(),
    lambda a, b: a.splitlines(True),
    lambda a, b: a.partition("a"),
    lambda a, b: a.rpartition("b"),
    lambda a, b: a.removeprefix("a").removesuffix("b"),
    lambda a, b: a.join([b, "x", a]),
    lambda a, b: a.upper() + b.title() + a.center(12) + b.zfill(9),
    lambda a, b: a * 2 + 2 * b,
    lambda a, b: a[1:] + b[-2:] + a[:3] + b[2:1] + a[::-1] + b[::2],
    lambda a, b: [a[i] for i in range(-len(a), len(a))],
    lambda a, b: list(a),
    lambda a, b: str(a),
]


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(max_examples=40, deadline=None)
@given(traces, traces)
def test_is_what_str_gives(
    operation: Callable[[str, str], Any], a: list[tuple[str, str]], b: list[tuple[str, str]]
) -> None:
    """Every operation, on texts of any provenance, against the same operation on plain text."""
    left, right = trace(a), trace(b)
    same(operation(left, right), operation(str.__str__(left), str.__str__(right)))


@settings(max_examples=100, deadline=None)
@given(short, short, st.integers(0, 9), st.integers(0, 9))
def test_offsets_point_at_the_characters(text: str, lead: str, start: int, length: int) -> None:
    """After cutting and joining, each piece is found at its offset in the client's value."""
    cut = (lead + Traced.whole(text, "p"))[start : start + length].strip()
    for piece in pieces_of(cut):
        if piece.path:
            assert text[piece.offset : piece.offset + len(piece.text)] == piece.text


def test_whole_needs_a_path() -> None:
    """Without one it would pass for the template's own text."""
    with pytest.raises(AssertionError, match="control tokens"):
        Traced.whole("<|im_end|>", "")


def test_rewriting_keeps_the_path() -> None:
    """A rewritten text is one piece of the value it came from."""
    assert pieces_of(("x" + Traced.whole("abc", "p")[1:]).upper()) == (Piece("XBC", "p", 1),)
    assert pieces_of(derived("x", "plain")) == (Piece("x", "", 0),)


def test_errors_are_those_of_str() -> None:
    """What `str` refuses is refused."""
    text: Any = Traced.whole("abc", "p")
    operations: list[Callable[[], Any]] = [
        lambda: text + 1,
        lambda: 1 + text,
        lambda: text[3],
        lambda: text["a"],
        lambda: text.split(""),
        lambda: text.join([1]),
    ]
    for operation in operations:
        with pytest.raises((TypeError, IndexError, ValueError)):
            operation()
    assert hash(text) == hash("abc")
    assert operator.eq(text, "abc")


def test_joined_of_plain_text_is_plain() -> None:
    """No provenance is invented."""
    assert type(joined(["a", "b"], ",")) is str


def test_merged_joins_what_continues() -> None:
    """Template text is one run; a value continues only at its next character; empty pieces go."""
    pieces = [Piece("a", "", 0), Piece("", "q", 0), Piece("b", "", 0), Piece("cd", "p", 0), Piece("e", "p", 2)]
    assert merged([*pieces, Piece("f", "p", 9)]) == [Piece("ab", "", 0), Piece("cde", "p", 0), Piece("f", "p", 9)]


def test_strings_of_a_json_value() -> None:
    """Keys and values at any depth."""
    assert sorted(strings({"a": ["b", {"c": 1}], "d": None})) == ["a", "b", "c", "d"]
