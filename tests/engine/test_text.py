"""Text as soon as it is certain, and not before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.engine.llama import LlamaModel
from headstart.engine.text import TextStream, shown
from headstart.types import Calls, CallSyntax


def stream(data: bytes, cuts: list[int], stop: tuple[str, ...] = ()) -> str:
    """What a client sees of bytes that arrive in pieces."""
    text, seen, at = TextStream(stop), "", 0
    for cut in (*sorted({c % (len(data) + 1) for c in cuts}), len(data)):
        seen += text.push(data[at:cut])
        at = cut
        if text.stopped:
            return seen
    return seen + text.finish()


@given(st.text(), st.lists(st.integers(0, 500)))
def test_pieces_give_the_same_text_wherever_they_are_cut(text: str, cuts: list[int]) -> None:
    """A character that spans pieces comes out whole."""
    assert stream(text.encode(), cuts) == text


@given(st.text("abX"), st.lists(st.integers(0, 500)), st.lists(st.text("abX", min_size=1, max_size=3), max_size=3))
def test_nothing_from_the_first_stop_string_on(text: str, cuts: list[int], stop: list[str]) -> None:
    """However it is cut; what only began as a stop string is said in the end."""
    ends = [at for one in stop if (at := text.find(one)) >= 0]
    seen = stream(text.encode(), cuts, tuple(stop))
    if not ends:
        assert seen == text
    else:  # pieces may end before a longer stop string that would begin earlier is complete
        assert any(seen == text[: text.find(one)] for one in stop if one in text)


def test_text_is_not_held_back_without_need() -> None:
    """Only what may begin a stop string waits."""
    text = TextStream(("END",))
    assert [text.push(b"the E"), text.push(b"N"), text.push(b"T "), text.push(b"END!")] == ["the ", "", "ENT ", ""]
    assert text.stopped


@pytest.mark.parametrize("data", [b"\xf0\x9f", b"ok \xe2\x82", b"\xff"])
def test_an_unfinished_character_becomes_the_replacement(data: bytes) -> None:
    """At the end of the output, never in its middle."""
    assert stream(data, []).endswith("�")


def test_control_tokens_that_frame_calls_are_text_where_calls_may_be_made(tiny: LlamaModel) -> None:
    """Mistral's [TOOL_CALLS], Llama's <|python_tag|>: nowhere else, and no other control token."""
    control = tiny.tokenizer.control.get
    marker, other = "<|im_sep|>", "<|im_start|>"
    calls = Calls(CallSyntax(marker, "", "", "", None, markers=(marker, "[ELSEWHERE]")), ())
    spelled = shown(tiny, control, calls)
    assert spelled.piece(control(marker, -1)) == marker.encode()
    assert spelled.piece(control(other, -1)) == b""
    assert spelled.ends_turn(tiny.eos)
    assert spelled.space_prefix == tiny.space_prefix
    assert [tiny.control_token(text) for text in (marker, "Text", "", "<tool_call>")] == [control(marker), *[None] * 3]
    for token in tiny.tokenizer.encode("Text, é"):
        assert spelled.piece(token) == tiny.piece(token) != b""
    assert shown(tiny, control, None) is tiny
    assert shown(tiny, {}.get, calls) is tiny
