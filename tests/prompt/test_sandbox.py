"""The sandbox is bounded, and keeps provenance through Jinja's ways to make text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from headstart.errors import InvalidRequest
from headstart.prompt import sandbox
from headstart.prompt.sandbox import ChatSandbox, TooLong
from headstart.prompt.template import ChatTemplate
from headstart.prompt.tracing import Piece, Traced, merged, pieces_of
from headstart.types import Request


def pieces(source: str, **variables: Any) -> list[Piece]:
    """What a template makes of the variables."""
    template = ChatSandbox(datetime.now).from_string(source)
    texts = template.root_render_func(template.new_context(variables))
    return merged(piece for text in texts for piece in pieces_of(text))


@pytest.mark.parametrize(
    "source",
    [
        "<{{ text }}>",
        "{{ '<' + text + '>' }}",
        "{{ '<' ~ text ~ '>' }}",
        "{{ ('<', text, '>') | join }}",
        "{{ ''.join(['<', text, '>']) }}",
        "{% set x %}<{{ text }}>{% endset %}{{ x }}",
        "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(text) }}",
        "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}{{ text }}{% endcall %}",
        "{% filter trim %} <{{ text }}> {% endfilter %}",
        "{% set ns = namespace(x='<') %}{% for c in text %}{% set ns.x = ns.x + c %}{% endfor %}{{ ns.x + '>' }}",
        "{{ '<x>' | replace('x', text) }}",
        "{{ '<x>'.replace('x', text) }}",
        "{{ '<x>'.replace('x', text, 1) }}",
        "{{ ('<' + text + '>') | string | default('y') }}",
        "{{ [('<' ~ text ~ '>')] | map('trim') | first }}",
        "{% block b %}<{{ text }}>{% endblock %}",
    ],
)
def test_provenance_is_kept(source: str) -> None:
    """Exactly: the template's characters are the template's, the client's are the client's."""
    assert pieces(source, text=Traced.whole("abc", "p")) == [Piece("<", "", 0), Piece("abc", "p", 0), Piece(">", "", 0)]


@pytest.mark.parametrize(
    "source", ["{{ '<%s>' % text }}", "{{ '<%(a)s>' % {'a': text} }}", "{{ ('<' ~ text) | indent }}"]
)
def test_rewritten_text_is_the_clients(source: str) -> None:
    """Where characters can't be told apart, all of it is the client's: control tokens are not looked for there."""
    assert {piece.path for piece in pieces(source, text=Traced.whole("abc", "p"))} == {"p"}


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 200 }}",
        "{{ [1] * 200 }}",
        "{% for i in range(200) %}x{% endfor %}",
        "{% set ns = namespace(x='x') %}{% for i in range(9) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='x') %}{% for i in range(9) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set x %}{% for i in range(200) %}x{% endfor %}{% endset %}",
        "{{ range(200) | join('x') }}",
    ],
)
def test_texts_are_bounded(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit, made in any of these ways, rendering ends."""
    monkeypatch.setattr(sandbox, "MAX_CHARACTERS", 100)
    with pytest.raises(InvalidRequest, match="more than 100 characters"):
        ChatTemplate(source).render(Request("m", ()))


def test_power_is_bounded() -> None:
    """Small powers work; a number that would fill the memory is refused."""
    assert pieces("{{ 2 ** 10 }}") == [Piece("1024", "", 0)]
    with pytest.raises(OverflowError):
        pieces("{{ 10 ** 5000 }}")


def test_numbers_and_lists_add_up_as_ever() -> None:
    """Operators that are watched do to other values what Python does."""
    assert pieces("{{ 1 + 2 }} {{ [1] + [2] }} {{ 7 % 4 }} {{ 2 * 3 }}") == [Piece("3 [1, 2] 3 6", "", 0)]


def test_too_long_says_so() -> None:
    """The limit is in the message."""
    assert "67,108,864 characters" in str(TooLong())
