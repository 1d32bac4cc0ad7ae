"""`tojson` is `json.dumps`, and knows whose text it wrote."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.prompt.tojson import tojson
from headstart.prompt.tracing import Traced, pieces_of

text = st.text(alphabet='ab"\\\n<é\ud83d😀', max_size=5)
some_text = st.one_of(
    text,
    st.builds(Traced.whole, text, st.sampled_from(["p", "q"])),
    st.builds(lambda a, b: Traced.whole(a, "p") + Traced.whole(b, "q"), text, text),
)
values = st.recursive(
    st.one_of(some_text, st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(some_text, inner, max_size=3)),
    max_leaves=8,
)
styles = st.fixed_dictionaries(
    {},
    optional={
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 0, 2, "\t"]),
        "separators": st.sampled_from([None, (",", ":")]),
        "sort_keys": st.booleans(),
    },
)


@settings(max_examples=200, deadline=None)
@given(values, styles)
def test_is_what_json_gives(value: Any, style: dict[str, Any]) -> None:
    """In every style, for values of mixed provenance."""
    written = tojson(value, **style)
    assert written == json.dumps(value, **{"ensure_ascii": False, **style})
    assert "".join(piece.text for piece in pieces_of(written)) == written


def test_keys_that_are_no_text() -> None:
    """Numbers, truth values and null as keys, as `json.dumps` writes them."""
    value: dict[Any, Any] = {1: Traced.whole("a", "p"), False: Traced.whole("b", "q"), None: 0, 1.5: "c"}
    assert tojson(value) == json.dumps(value)


def test_a_value_of_one_client_is_one_piece() -> None:
    """A list of tools: the brackets are the template's, each definition is its tool's."""
    tools = [{Traced.whole("name", f"tools[{i}]"): Traced.whole("f", f"tools[{i}]")} for i in range(2)]
    assert [(piece.text, piece.path) for piece in pieces_of(tojson(tools))] == [
        ("[", ""),
        ('{"name": "f"}', "tools[0]"),
        (", ", ""),
        ('{"name": "f"}', "tools[1]"),
        ("]", ""),
    ]
