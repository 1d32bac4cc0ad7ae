"""Schemas that would bring llama.cpp down, and grammars that would let bad JSON through."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from headstart.engine.grammar import SchemaReader, repaired, schema_grammar
from headstart.engine.llama import LlamaModel, LlamaSampler
from headstart.errors import InvalidRequest
from headstart.types import OutputFormat, Sampling


def sampler(model: LlamaModel, schema: Any) -> LlamaSampler:
    """A greedy sampler of a schema."""
    return LlamaSampler(model, Sampling(temperature=0, format=OutputFormat("json_schema", schema)), 100)


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "string", "maxLength": 100_000}, ".maxLength"),
        ({"type": "string", "minLength": 10_000_000}, ".minLength"),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 10**9}, ".maxItems"),
        ({"properties": {"a": {"anyOf": [{"pattern": "^(a?b?){40}$"}]}}}, ".properties.a.anyOf[0].pattern"),
        ({"type": "integer", "minimum": 5}, ".minimum"),
        ({"type": "string", "format": "email"}, ".format"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, ".minLength"),
        ({"enum": [str(n) for n in range(501)]}, ".enum"),
        ({"enum": ["x" * 300_000]}, ""),
        ({"const": "\u0000"}, ".const"),
        ({"properties": {"a": {"$ref": "#"}}}, ".properties.a.$ref"),
        ({"properties": {"a": {"$ref": "#/$defs/absent"}}}, ".properties.a.$ref"),
        ({"properties": {"a": {"oneOf": []}}}, ".properties.a.oneOf"),
        ({"properties": {"a": {"anyOf": []}}}, ".properties.a.anyOf"),
        ({"properties": {"a": 5}}, ".properties.a"),
        ([], ""),
    ],
)
def test_a_schema_that_would_not_be_kept_is_refused(tiny: LlamaModel, schema: Any, place: str) -> None:
    """400 naming the keyword; some of these would end the process, or stop it for minutes."""
    with pytest.raises(InvalidRequest) as caught:
        sampler(tiny, schema)
    assert caught.value.param == f"text.format.schema{place}"
    assert caught.value.code == "invalid_json_schema"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 1000},
        {"type": "array", "maxItems": 1000},
        {"type": "object", "properties": {"a": True}, "required": ["a"]},
        {"type": "string", "format": "date-time", "title": "When", "description": "A time."},
        {
            "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
            "$ref": "#/$defs/node",
        },
    ],
)
def test_common_schemas_pass(tiny: LlamaModel, schema: Any) -> None:
    """Bounds up to a thousand, remarks, any value, a recursive model as pydantic writes it."""
    SchemaReader("p").read(schema)
    sampler(tiny, schema).close()


def to(name: str) -> dict[str, str]:
    """A reference to a definition."""
    return {"$ref": f"#/$defs/{name}"}


@pytest.mark.parametrize(
    ("definitions", "place"),
    [
        ({"a": to("a")}, "a.$ref"),
        ({"a": to("b"), "b": to("a")}, "a.$ref"),
        ({"a": to("b"), "b": to("c"), "c": to("b")}, "a.$ref"),
        ({"a": {"anyOf": [{"type": "null"}, to("a")]}}, "a.anyOf[1].$ref"),
        ({"a": {"oneOf": [{"anyOf": [to("b")]}]}, "b": to("a")}, "a.oneOf[0].anyOf[0].$ref"),
    ],
)
@pytest.mark.parametrize("root", [to("a"), {"type": "object", "properties": {"x": to("a")}}])
def test_references_in_a_circle_are_refused(tiny: LlamaModel, root: Any, definitions: Any, place: str) -> None:
    """In a sentence, at the first of them; a schema that is kept as far as it can be is kept without them."""
    with pytest.raises(InvalidRequest, match=r"references run in a circle: '#/\$defs/.' .*\.$") as caught:
        sampler(tiny, {"$defs": definitions, **root})
    assert caught.value.param == f"text.format.schema.$defs.{place}"
    assert "$ref" not in json.dumps(SchemaReader("p", strict=False).read({"$defs": definitions, **root}))


def test_recursion_through_a_value_is_no_circle(tiny: LlamaModel) -> None:
    """A list, a tree, and two kinds of nodes that hold each other."""
    definitions = {
        "a": {"anyOf": [{"type": "object", "properties": {"b": to("b")}}, {"type": "null"}]},
        "b": {"type": "array", "items": to("a")},
        "c": to("a"),
    }
    sampler(tiny, {"$defs": definitions, "type": "object", "properties": {"x": to("a"), "y": to("c")}}).close()


def test_many_references_are_followed_once() -> None:
    """Not along every way that leads through them."""
    names = [str(number) for number in range(300)]
    definitions = {name: {"anyOf": [to(later) for later in names[int(name) + 1 :]] or [True]} for name in names}
    begun = time.monotonic()
    SchemaReader("p").read({"$defs": definitions})
    assert time.monotonic() - begun < 5


def test_a_failure_of_the_converter_is_a_sentence() -> None:
    """A client reads it, and more may be said behind it."""

    def broken(schema: str) -> str:
        raise KeyError("x")

    with pytest.raises(InvalidRequest, match=r"grammar \(KeyError: 'x'\)\.$"):
        schema_grammar({"type": "object"}, "p", broken)


def test_what_a_client_sent_is_not_printed(tiny: LlamaModel, capfd: pytest.CaptureFixture[str]) -> None:
    """llama.cpp's parser prints a grammar that it can't read."""
    with pytest.raises(InvalidRequest, match="quotes"):
        sampler(tiny, {"type": "object", "properties": {'SECRET"\n\\': {"type": "null"}}, "required": ['SECRET"\n\\']})
    assert "SECRET" not in "".join(capfd.readouterr())


def favouring(model: LlamaModel, text: bytes) -> np.ndarray:
    """Logits under which the tokens of these bytes come first."""
    row = np.zeros(512, np.float32)
    for token in range(512):
        piece = model.piece(token)
        row[token] = 5.0 if piece and piece in text else -5.0 * len(piece)
    return row


def test_strings_hold_no_raw_control_characters(tiny: LlamaModel) -> None:
    """A model that wants nothing but line breaks cannot put one into a string."""
    chosen, text = sampler(tiny, {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}), b""
    row = favouring(tiny, b"\n")
    row[[token for token in range(512) if b"\n" in tiny.piece(token)]] = 50.0
    for _ in range(60):
        token = chosen.choose(row)
        if token < 0 or tiny.ends_turn(token):
            break
        text += tiny.piece(token)
    inside = text.partition(b":")[2].partition(b'"')[2]
    assert not any(byte < 0x20 for byte in inside.rpartition(b'"')[0] or inside)


def test_characters_beyond_the_first_plane_are_kept(tiny: LlamaModel) -> None:
    """An emoji in an enumeration is written as itself."""
    chosen, text = sampler(tiny, {"enum": ["é中😀"]}), b""
    for _ in range(40):
        token = chosen.choose(np.zeros(512, np.float32))
        if token < 0 or tiny.ends_turn(token):
            break
        text += tiny.piece(token)
    assert json.loads(text) == "é中😀"


def test_only_what_needs_it_is_rewritten() -> None:
    """Control characters are shut out, surrogate pairs joined, the rest is as it was."""
    given = 'char ::= [^"\\\\] | "x"\nroot ::= "\\ud83d\\ude00" char'
    assert repaired(given, "p") == 'char ::= [^"\\\\\\x7F\\x00-\\x1F] | "x"\nroot ::= "\\U0001F600" char'
