"""Schemas that would bring llama.cpp down, and grammars that would let bad JSON through."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from headstart.engine.grammar import check_schema, repaired
from headstart.engine.llama import LlamaModel, LlamaSampler
from headstart.errors import InvalidRequest
from headstart.types import OutputFormat, Sampling


def sampler(model: LlamaModel, schema: Any) -> LlamaSampler:
    """A greedy sampler of a schema."""
    return LlamaSampler(model, Sampling(temperature=0, format=OutputFormat("json_schema", schema)), 100)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 100_000},
        {"type": "string", "minLength": 10_000_000},
        {"type": "array", "items": {"type": "null"}, "maxItems": 10**9},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "string", "pattern": "^a{1,99999}$"}]}}},
        {"enum": ["x" * 300_000]},
        {"const": "\u0000"},
    ],
)
def test_a_schema_too_large_for_a_grammar_is_refused(tiny: LlamaModel, schema: Any) -> None:
    """400 naming the schema; each of these used to end the process, or take seconds."""
    with pytest.raises(InvalidRequest) as caught:
        sampler(tiny, schema)
    assert caught.value.param == "text.format.schema"
    assert caught.value.code == "invalid_json_schema"


@pytest.mark.parametrize("schema", [{"type": "string", "maxLength": 1000}, {"type": "array", "maxItems": 1000}, True])
def test_bounds_up_to_the_limit_pass(tiny: LlamaModel, schema: Any) -> None:
    """A thousand is enough for most, and safe."""
    check_schema(schema, "p")
    if schema is not True:
        sampler(tiny, schema).close()


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
