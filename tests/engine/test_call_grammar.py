"""What a model may write where functions may or have to be called: on llama.cpp's own grammars."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headstart.engine.call_grammar import OpenerWatch
from headstart.engine.llama import LlamaModel, LlamaSampler
from headstart.errors import InvalidRequest
from headstart.types import Calls, CallSyntax, Function, OutputFormat, Sampling

TAGGED = CallSyntax("<tool_call>", '\n{"name": "', '", "arguments": ', "}\n</tool_call>", joint="\n<tool_call>")
BARE = CallSyntax("<|python_tag|>", '{"name": "', '", "parameters": ', "}", joint="; ", bare=True)
LISTED = CallSyntax("[TOOL_CALLS]", '{"name": "', '", "arguments": ', "}", joint=", ", start=" [", closer="]")
NAMED = CallSyntax("[TOOL_CALLS]", "", "[ARGS]", "", joint="[TOOL_CALLS]")
SYNTAXES = {"tagged": TAGGED, "bare": BARE, "listed": LISTED, "named": NAMED}

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTIONS = (Function("weather", CITY, False, "tools[0].parameters"), Function("time", None, False, "tools[1]"))
ROME = ("weather", '{"city": "Rome"}')
NOW = ("time", "{}")


def takes(model: LlamaModel, text: str, calls: Calls | None, **more: Any) -> bool:
    """Whether a model that wants to write `text`, and then to end, may."""
    return takes_tokens(model, model.tokenizer.encode(text).tolist(), calls, **more)


def takes_tokens(model: LlamaModel, tokens: list[int], calls: Calls | None, **more: Any) -> bool:
    """Whether it may write these tokens."""
    sampler = LlamaSampler(model, Sampling(temperature=0, calls=calls, **more), 100)
    try:
        for token in [*tokens, model.eos]:
            logits = np.zeros(model.vocabulary_size, np.float32)
            logits[token] = 10.0
            if sampler.choose(logits) != token:
                return False
    finally:
        sampler.close()
    return True


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_a_call_that_has_to_be_made(tiny: LlamaModel, syntax: CallSyntax) -> None:
    """Calls of allowed functions with arguments of their schemas, and nothing else."""
    forced = Calls(syntax, FUNCTIONS, required=True)
    assert takes(tiny, syntax.written([ROME]), forced)
    assert takes(tiny, syntax.written([NOW, ROME, ROME]), forced)
    assert takes(tiny, syntax.written([ROME]).replace("\n", ""), forced)
    for wrong in (
        "text",
        "",
        f"text {syntax.written([ROME])}",
        f"{syntax.written([ROME])} text",
        syntax.written([("clock", "{}")]),
        syntax.written([("weather", "{}")]),
        syntax.written([("weather", '{"city": 1}')]),
        syntax.written([("time", '{"city": "Rome"}')]),
    ):
        assert not takes(tiny, wrong, forced), wrong


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
def test_a_call_that_may_be_made(tiny: LlamaModel, syntax: CallSyntax) -> None:
    """Any text, and whole calls of allowed functions behind the opener."""
    free = Calls(syntax, FUNCTIONS)
    opener = syntax.opener
    call = opener + syntax.written([ROME]).removeprefix(opener)
    for text in (
        "",
        "Text, with < and [ and | and \u2614 and \\ in it.\n",
        f"{opener[:-1]} {opener[:3]}{opener[:-1]}",
        f"{opener[0]}{opener[:-1]}",
        f"Look: {call}",
        f"{call} and {call} too",
        call.replace('"Rome"', '{"any": [1, 2]}'),
    ):
        assert takes(tiny, text, free), text
    assert not takes(tiny, f"Look: {opener} text", free)
    assert not takes(tiny, call.replace("weather", "clock"), free)
    assert not takes(tiny, call[: call.index("Rome")], free)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["<", "<t", "<tool", "_call", "ool_call>", ">", "<tool_call", "é☔", " text", "\n"])))
def test_text_is_free_until_the_opener_is_whole(tiny: LlamaModel, pieces: list[str]) -> None:
    """However it begins and breaks off, and where the grammar isn't even asked."""
    text = "".join(pieces)
    assert takes(tiny, text, Calls(TAGGED, FUNCTIONS)) is (TAGGED.opener not in text)


def test_the_grammar_is_asked_where_an_opener_may_begin() -> None:
    """And from the first whole one on; before, nearly no token has anything of it."""
    watch = OpenerWatch("<tool_call>")
    asked = [not watch.passes(piece) for piece in (b"Text", b" <", b"b", b"c", b"\xe2", b"<tool", b"_call", b">", b"c")]
    assert asked == [False, True, True, False, False, True, True, True, True]
    assert OpenerWatch.of(Sampling()) is None
    assert OpenerWatch.of(Sampling(calls=Calls(TAGGED, FUNCTIONS, required=True))) is None
    assert OpenerWatch.of(Sampling(calls=Calls(TAGGED, FUNCTIONS), format=OutputFormat("json_object"))) is None


@pytest.mark.parametrize("syntax", SYNTAXES.values(), ids=SYNTAXES)
@pytest.mark.parametrize("required", [False, True])
def test_one_call_at_most(tiny: LlamaModel, syntax: CallSyntax, required: bool) -> None:
    """Without parallel calls there is no second one."""
    single = Calls(syntax, FUNCTIONS, required, several=False)
    opener = "" if required else syntax.opener
    one, two = (opener + syntax.written([ROME] * n).removeprefix(opener) for n in (1, 2))
    assert takes(tiny, one, single)
    if syntax is not BARE or required:  # a second bare object is text, as far as text may be written
        assert not takes(tiny, two, single)
    assert not takes(tiny, f"{one} so {syntax.opener}", single)


def test_an_opener_that_is_a_control_token(tiny: LlamaModel) -> None:
    """As Mistral's and Llama's are: one token, forced or free, and only in its place."""
    marker = "<|im_sep|>"
    control, encode = tiny.tokenizer.control[marker], tiny.tokenizer.encode
    syntax = NAMED._replace(opener=marker, joint=marker, markers=(marker,))
    call = [control, *encode('weather[ARGS]{"city": "Rome"}').tolist()]
    text = encode("Text ").tolist()
    for required in (False, True):
        calls = Calls(syntax, FUNCTIONS, required)
        assert takes_tokens(tiny, [*call, *call], calls)
        assert takes_tokens(tiny, [*text, *call], calls) is not required
        assert not takes_tokens(tiny, [control, *text], calls)
    assert takes_tokens(tiny, [*text, control, *text], None)


def test_a_call_or_the_format(tiny: LlamaModel) -> None:
    """Where an output format is asked for, an answer is a call or has the format."""
    free = Calls(TAGGED, FUNCTIONS)
    for format in (OutputFormat("json_schema", CITY), OutputFormat("json_object")):
        assert takes(tiny, TAGGED.written([ROME]), free, format=format)
        assert takes(tiny, '{"city": "Rome"}', free, format=format)
        assert not takes(tiny, "Rome", free, format=format)
        assert not takes(tiny, '{"city": "Rome"}', Calls(TAGGED, FUNCTIONS, required=True), format=format)
    assert not takes(tiny, '{"city": 1}', free, format=OutputFormat("json_schema", CITY))


UNKEPT = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 5}}, "required": ["n"]}


@pytest.mark.parametrize("required", [False, True])
def test_strict_schemas_are_kept_or_refused(tiny: LlamaModel, required: bool) -> None:
    """`strict` is a promise: what can't be kept is refused by name, whether or not the call is forced."""
    strict = Calls(TAGGED, (Function("weather", CITY, True, "p"),), required)
    assert takes(tiny, TAGGED.written([ROME]), strict)
    assert not takes(tiny, TAGGED.written([("weather", "{}")]), strict)
    with pytest.raises(InvalidRequest, match=r"'minimum'.*'strict': false") as caught:
        takes(tiny, "", Calls(TAGGED, (Function("f", UNKEPT, True, "tools[0].parameters"),), required))
    assert caught.value.param == "tools[0].parameters.properties.n.minimum"
    assert caught.value.code == "invalid_function_parameters"


@pytest.mark.parametrize(
    "schema",
    [
        UNKEPT,
        {**UNKEPT, "required": 5, "additionalProperties": "no"},
        {"type": "object", "properties": {"n": {"$ref": "#/nowhere"}}},
        {"type": "object", "properties": {"n": {"type": "whatever"}}},
        {"type": "object", "properties": {"n": {"description": "anything"}}},
        {"type": "object", "properties": {"n": {"type": "string", "minLength": 10**6, "pattern": "x"}}},
        {"type": "object", "properties": {"n": {"type": "string", "minLength": 7, "maxLength": 2}}},
        {"type": "object", "properties": {"n": {"enum": [*range(5_000)]}}},
        {"properties": {"n": 5}},
        {"properties": 5},
        {"type": "object", "properties": {'a "quoted" name': {"type": "null"}}},
        {"type": "object", "properties": {"n": {"enum": ['"', "\\n"]}}},
        {},
    ],
)
def test_other_schemas_are_kept_as_far_as_they_can(tiny: LlamaModel, schema: Any) -> None:
    """A function that isn't `strict` never fails a request: keywords that can't be kept are left out."""
    forced = Calls(TAGGED, (Function("f", schema, False, "p"),), required=True)
    for arguments in ('{"n": 3}', '{"n": "xx"}', "{}"):
        if takes(tiny, TAGGED.written([("f", arguments)]), forced):
            return
    pytest.fail("no arguments are allowed")


def test_rules_of_functions_do_not_meet(tiny: LlamaModel) -> None:
    """Each schema has its own definitions, and texts in it that look like rules stay as they are."""
    functions = []
    for name, kind in (("a", "string"), ("b", "boolean")):
        node = {"type": "object", "properties": {"root": {"type": kind}, "next": {"$ref": "#/$defs/node"}}}
        odd = {"enum": ["root ::= x | [a-z]", f"é{name}"]}
        schema = {"type": "object", "$defs": {"node": node}, "properties": {"n": {"$ref": "#/$defs/node"}, "o": odd}}
        functions.append(Function(name, schema, True, "p"))
    forced = Calls(TAGGED, tuple(functions), required=True)
    for name, good, bad in (("a", "s", True), ("b", True, "s")):
        for value, fits in ((good, True), (bad, False)):
            for odd in ("root ::= x | [a-z]", f"é{name}"):
                arguments = json.dumps({"n": {"root": value, "next": {"root": value}}, "o": odd}, ensure_ascii=False)
                assert takes(tiny, TAGGED.written([(name, arguments)]), forced) is fits


def test_too_many_schemas(tiny: LlamaModel) -> None:
    """A grammar that would be too large is refused; where nothing is forced only names are in it."""
    schema = {"type": "object", "properties": {f"p{n}": {"enum": ["x" * 200]} for n in range(100)}}
    functions = tuple(Function(f"f{n}", schema, False, "p") for n in range(1000))
    with pytest.raises(InvalidRequest, match="too large"):
        takes(tiny, "", Calls(TAGGED, functions, required=True))
    assert takes(tiny, "text", Calls(TAGGED, functions))
