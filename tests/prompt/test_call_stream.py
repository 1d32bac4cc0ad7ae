"""Calls in what models write: every family's, whole and broken, however the text is cut."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.prompt.call_stream import CallStream
from headstart.prompt.calls import HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, MISTRAL_NAME
from headstart.types import CallArguments, CallBegun, CallEnded, Calls, CallSyntax, Function, OutputPart

FAMILIES = {"hermes": HERMES, "llama": LLAMA, "mistral": MISTRAL, "args": MISTRAL_ARGS, "name": MISTRAL_NAME}
FUNCTIONS = tuple(Function(name, None, False, "tools[0]") for name in ("get_weather", "get_time", "f"))
NESTED = '{"a": {"b": [1, {"c": "}]{\\"\\\\"}]}, "é": "☔ 😀", "t": "</tool_call>"}'

Call = tuple[str, str, bool]


def read(syntax: CallSyntax, deltas: Iterable[str], *, several: bool = True) -> list[str | Call]:
    """The answer's texts and calls (name, arguments, complete) in their order."""
    stream = CallStream(Calls(syntax, FUNCTIONS, several=several))
    parts: list[OutputPart] = [part for delta in deltas for part in stream.push(delta)] + stream.finish()
    found: list[str | Call] = []
    name, arguments = "", ""
    for part in parts:
        match part:
            case str():
                assert part
                if found and isinstance(found[-1], str):
                    part = found.pop() + part
                found.append(part)
            case CallBegun():
                name, arguments = part.name, ""
            case CallArguments():
                assert part.text
                arguments += part.text
            case CallEnded():
                found.append((name, arguments, part.complete))
                name = ""
    assert not name
    return found


WEATHER = ("get_weather", '{"city": "Rome"}', True)
TIME = ("get_time", "{}", True)
OUTPUTS: list[tuple[CallSyntax, str, list[str | Call]]] = [
    # Qwen 2.5 and 3, Hermes
    (HERMES, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>', [WEATHER]),
    (
        HERMES,
        'Let me look.\n\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>\n',
        ["Let me look.", WEATHER, TIME],
    ),
    (
        HERMES,
        '<think>\nhm {x}\n</think>\n\n<tool_call>{"name":"get_time","arguments":{}}</tool_call> Done.',
        ["<think>\nhm {x}\n</think>", TIME, "Done."],
    ),
    (HERMES, '<tool_call>{"arguments": {"city": "Rome"}, "name": "get_weather"}</tool_call>', [WEATHER]),
    (HERMES, '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Rome\\"}"}</tool_call>', [WEATHER]),
    (HERMES, '<tool_call>{"name": "get_time", "arguments": null}</tool_call>', [TIME]),
    (HERMES, '<tool_call>{"name": "get_time"}</tool_call>', [TIME]),
    (HERMES, '<tool_call>{"name": "get_time", "arguments": {}</tool_call>', [TIME]),
    (HERMES, '<tool_call>[{"name": "get_time", "arguments": {}}]</tool_call>!', [TIME, "!"]),
    (
        HERMES,
        '<tool_call>\n{"name": "get_time", "arguments": {}}\n{"name": "get_time", "arguments": {}}\n</tool_call>',
        [TIME, TIME],
    ),
    (HERMES, f'<tool_call>{{"name": "f", "arguments": {NESTED}}}</tool_call>', [("f", NESTED, True)]),
    (HERMES, '<tool_call>{"id": [1, "}"], "name": "get_time", "arguments": {}, "x": 5}</tool_call>', [TIME]),
    (HERMES, '<tool_call>\n<tool_call>\n{"name": "get_time"}</tool_call>', ["<tool_call>", TIME]),
    # Llama 3.1 to 3.3
    (LLAMA, '{"name": "get_weather", "parameters": {"city": "Rome"}}', [WEATHER]),
    (LLAMA, '\n {"name": "get_weather", "parameters": {"city": "Rome"}}', [WEATHER]),
    (LLAMA, '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Rome"}}', [WEATHER]),
    (LLAMA, '<|python_tag|>{"type": "function", "name": "get_time", "parameters": {}}', [TIME]),
    (LLAMA, '{"type": "function", "name": "get_weather", "parameters": {"city": "Rome"}}', [WEATHER]),
    (
        LLAMA,
        '{"name": "get_weather", "parameters": {"city": "Rome"}}; {"name": "get_time", "parameters": {}}',
        [WEATHER, TIME],
    ),
    (
        LLAMA,
        '{"name": "get_weather", "parameters": {"city": "Rome"}}\n{"name": "get_time", "parameters": {}}',
        [WEATHER, TIME],
    ),
    (LLAMA, 'Sure: <|python_tag|>{"name": "get_time", "parameters": {}}', ["Sure:", TIME]),
    (LLAMA, '{"name": "get_time", "parameters": {}} That is all.', [TIME, "That is all."]),
    (LLAMA, '{"name": "Ada", "parameters": {"born": 1815}}', ['{"name": "Ada", "parameters": {"born": 1815}}']),
    (LLAMA, '{"name": "f", "age": 3}', ['{"name": "f", "age": 3}']),
    (LLAMA, 'An object: {"name": "get_time", "parameters": {}}', ['An object: {"name": "get_time", "parameters": {}}']),
    # Mistral, older and newer
    (MISTRAL, '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Rome"}, "id": "abcdefghi"}]', [WEATHER]),
    (
        MISTRAL,
        'Yes.[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome"}}, {"name":"get_time","arguments":{}}]',
        ["Yes.", WEATHER, TIME],
    ),
    (MISTRAL_ARGS, '[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}', [WEATHER]),
    (MISTRAL_ARGS, '[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}[TOOL_CALLS]get_time[ARGS]{}', [WEATHER, TIME]),
    (MISTRAL_ARGS, "[TOOL_CALLS]get_time[CALL_ID]abc123XYZ[ARGS]{}", [TIME]),
    (MISTRAL_NAME, 'Hm. [TOOL_CALLS]get_weather{"city": "Rome"}\nSo', ["Hm.", WEATHER, "So"]),
    (MISTRAL_NAME, f"[TOOL_CALLS]f {NESTED}", [("f", NESTED, True)]),
]
TEXTS = [
    "Just text, with a <tool> and [TOOL] in it.",
    "<tool_call>",
    "a < b and <tool_call nothing",
    '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
    '<tool_call>\n{"name": 5}\n</tool_call>',
    '<tool_call>{"name" "get_time"}</tool_call>',
    '<tool_call>{"name": "get_time", "arguments": 5}</tool_call>',
    '<tool_call>{"arguments": {]}, "name": "get_time"}</tool_call>',
    "<tool_call>\n<function=get_time>\n</function>\n</tool_call>",
    "[TOOL_CALLS]",
    "[TOOL_CALLS] none",
    "[TOOL_CALLS][1, 2]",
    "[TOOL_CALLS]get_time[X]{}",
    "[TOOL_CALLS]unknown[ARGS]{}",
    "<|python_tag|>print(1)",
    '{"answer": 1}',
    "{",
    "\n\n",
    "  indented\n",
    "[TOOL_CALLS]" + "long" * 100,
    f'<tool_call>{{"{"k" * 1000}": 1}}</tool_call>',
]
UNFINISHED: list[tuple[CallSyntax, str, list[str | Call]]] = [
    (
        HERMES,
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Ro',
        [("get_weather", '{"city": "Ro', False)],
    ),
    (HERMES, 'So\n<tool_call>\n{"name": "get_weather", "arg', ["So", ("get_weather", "", False)]),
    (HERMES, '<tool_call>\n{"name": "get_wea', ['<tool_call>\n{"name": "get_wea']),
    (HERMES, '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool', [TIME]),
    (HERMES, '<tool_call>\n{"name": "get_time", "arguments": {}', [TIME]),
    (LLAMA, '{"name": "get_weather", "parameters": {"city"', [("get_weather", '{"city"', False)]),
    (LLAMA, '{"name": "get_weather", "par', ['{"name": "get_weather", "par']),
    (LLAMA, '{"name": "get_time", "parameters": {}};', [TIME]),
    (MISTRAL, '[TOOL_CALLS][{"name": "get_time", "arguments": {}}, {"na', [TIME, ', {"na']),
    (MISTRAL_ARGS, "[TOOL_CALLS]get_time[ARGS]", [("get_time", "", False)]),
]


@pytest.mark.parametrize(("syntax", "output", "expected"), OUTPUTS + UNFINISHED)
def test_what_models_write(syntax: CallSyntax, output: str, expected: list[str | Call]) -> None:
    """Calls of every family, with text around them; whole, by characters, by halves."""
    assert read(syntax, [output]) == expected
    assert read(syntax, output) == expected
    for cut in range(len(output)):
        assert read(syntax, [output[:cut], output[cut:]]) == expected


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("syntax", FAMILIES.values(), ids=FAMILIES)
def test_what_only_looks_like_a_call_is_text(syntax: CallSyntax, text: str) -> None:
    """Nothing is lost, nothing is shown twice."""
    for deltas in ([text], text):
        assert read(syntax, deltas) == [text]


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_forced_call_that_is_cut_off_is_no_text(cut: int) -> None:
    """Nobody who forces a call wants to read the beginning of one."""
    for syntax in FAMILIES.values():
        stream = CallStream(Calls(syntax, FUNCTIONS, required=True))
        parts = stream.push(f" {syntax.written([('get_weather', '{}')])}"[:cut]) + stream.finish()
        assert not any(isinstance(part, str) for part in parts)


def test_one_call_at_most() -> None:
    """Where one may be made, a second one is text."""
    call = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
    assert read(HERMES, [f"{call}\n{call}"], several=False) == [TIME, call]
    calls = '{"name": "get_time", "parameters": {}}; {"name": "f", "parameters": {}}'
    assert read(LLAMA, calls, several=False) == [TIME, '; {"name": "f", "parameters": {}}']


def test_arguments_come_as_they_are_written() -> None:
    """A call is known by its name at once; no half of an opener is ever shown."""
    stream = CallStream(Calls(HERMES, FUNCTIONS))
    assert stream.push("Look:\n<tool_") == ["Look:"]
    assert stream.push('call>\n{"name": "f", "arguments":') == []
    assert stream.push(' {"a": ') == [CallBegun("f"), CallArguments('{"a": ')]
    assert stream.push("[1, 2]}") == [CallArguments("[1, 2]}"), CallEnded()]
    assert stream.push("}\n</tool_call>") == []
    assert stream.finish() == []


def test_text_is_not_held_back_without_need() -> None:
    """An object that is no call is known by its first key, a word that is no name by its length."""
    stream = CallStream(Calls(LLAMA, FUNCTIONS))
    assert stream.push('{"answer":') == ['{"answer":']
    assert stream.push(" [1") == [" [1"]
    stream = CallStream(Calls(MISTRAL_NAME, FUNCTIONS))
    assert stream.push("[TOOL_CALLS]" + "a" * 300) != []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(st.text(max_size=6), values, max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)


def cut(text: str, places: Sequence[int]) -> list[str]:
    """The text in deltas."""
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:stop] for start, stop in pairwise(edges)]


@settings(deadline=None)
@given(
    st.sampled_from(list(FAMILIES.values())),
    st.lists(st.tuples(st.sampled_from(["get_weather", "get_time", "f"]), arguments), min_size=1, max_size=3),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_written_calls_are_read(syntax: CallSyntax, calls: list[tuple[str, str]], places: list[int]) -> None:
    """What a family's syntax writes comes back, whatever the arguments and the cuts."""
    assert read(syntax, cut(syntax.written(calls), places)) == [(*call, True) for call in calls]


FRAMES = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "[ARGS]", '{"name": "f", "arguments": ')
SHREDS = ('{"a": "}"}', "{}", "}", "]", "[", ", ", ";", "\n", " ", "f", "text", '"', "\\", "<", "[TOOL", '"name": "f"')
pieces = st.sampled_from([*FRAMES, *SHREDS])


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(list(FAMILIES.values())), st.lists(pieces, max_size=12), st.lists(st.integers(0, 500), max_size=9)
)
def test_any_cut_gives_the_same(syntax: CallSyntax, parts: list[str], places: list[int]) -> None:
    """The result depends on the text alone."""
    text = "".join(parts)
    assert read(syntax, cut(text, places)) == read(syntax, [text]) == read(syntax, text)


@settings(deadline=None)
@given(st.sampled_from(list(FAMILIES.values())), st.text(alphabet='<>[]{}"tool_call/TOOLCALLS|python \n', max_size=60))
def test_text_is_kept(syntax: CallSyntax, text: str) -> None:
    """An answer without any call is given as it was."""
    assert "".join(part for part in read(syntax, text) if isinstance(part, str)) == text


@pytest.mark.parametrize(
    "unit", ["<tool_call>", '<tool_call>{"', "\n", "<tool_call>[", '<tool_call>{"name": "f", ', "word "]
)
def test_time_is_linear(unit: str) -> None:
    """Nothing is read again and again, even of what never becomes a call."""

    def seconds(count: int) -> float:
        began = time.perf_counter()
        read(HERMES, [unit] * count)
        return time.perf_counter() - began

    assert min(seconds(8_000) for _ in range(3)) < 30 * max(min(seconds(1_000) for _ in range(3)), 1e-4)
