"""Families of models by their templates, and which calls an answer may have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.errors import UnsupportedFeature
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.calls import HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, MISTRAL_NAME, calls_of, syntax_of
from headstart.prompt.template import DEFAULT_TEMPLATE, DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import OpenAITokenizer
from headstart.types import CallSyntax, Function, Message, PromptSettings, Request, Text, Tool, ToolCall, ToolChoice

TEMPLATES = Path(__file__).parent / "templates"
SCHEMA = {"type": "object", "properties": {}}
TOOLS = (
    Tool({"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}, "tools[0]", "schema"),
    Tool({"type": "function", "function": {"name": "g"}}, "tools[1]"),
)
F, G = Function("f", SCHEMA, True, "schema"), Function("g", None, False, "")
ASKED = Request("m", (Message("user", (Text("Go", "input"),), "input"),), TOOLS)


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("qwen2_5", HERMES),
        ("qwen3", HERMES),
        ("mistral", MISTRAL),
        ("llama3_1", LLAMA._replace(joint=None)),
        ("chatml", None),
        ("deepseek", None),
        ("gemma", None),
        ("phi3", None),
        ("macros", None),
    ],
)
def test_family_of_a_template(name: str, syntax: CallSyntax | None) -> None:
    """Found by what the template prints for a call; Llama 3.1's takes one call per message."""
    assert ChatTemplate((TEMPLATES / f"{name}.jinja").read_text("utf-8")).call_syntax == syntax


@pytest.mark.parametrize("source", [DEFAULT_TEMPLATE, DEMO_TEMPLATE])
def test_our_own_templates_are_hermes(source: str) -> None:
    """Models without a template, and the demo model."""
    assert ChatTemplate(source).call_syntax == HERMES


@pytest.mark.parametrize(
    ("printed", "syntax"),
    [
        ('[TOOL_CALLS]f[ARGS]{"needle": 1}</s>', MISTRAL_ARGS),
        ('[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{"needle": 1}</s>', MISTRAL_ARGS),
        ('[TOOL_CALLS]f{"needle": 1}</s>', MISTRAL_NAME),
        ('[TOOL_CALLS] [{"name": "f", "arguments": {}, "id": "abcdefghi"}]', MISTRAL),
        ('<tool_call>\n{"arguments": {"needle": 1}, "name": "f"}\n</tool_call>', HERMES),
        ("<tool_call>\n<function=f>\n<parameter=needle>\n1\n</parameter>\n</function>\n</tool_call>", None),
        ("<tool_call>f\n<arg_key>needle</arg_key>\n<arg_value>1</arg_value>\n</tool_call>", None),
        ('f({"needle": 1})', None),
        ("", None),
    ],
)
def test_family_of_what_is_printed(printed: str, syntax: CallSyntax | None) -> None:
    """Newer Mistrals, Hermes with its keys turned round; XML isn't JSON."""
    assert syntax_of(printed) == syntax


@pytest.mark.parametrize("syntax", [HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, MISTRAL_NAME])
def test_what_a_syntax_writes_is_of_its_family(syntax: CallSyntax) -> None:
    """The syntax and the pattern that finds it agree."""
    assert syntax_of(syntax.written([("f", "{}")])) == syntax


@pytest.mark.parametrize(
    ("choice", "functions", "required"),
    [
        (ToolChoice(), (F, G), False),
        (ToolChoice("required"), (F, G), True),
        (ToolChoice("auto", ("g",)), (G,), False),
        (ToolChoice("required", ("g", "f")), (F, G), True),
    ],
)
def test_which_calls_may_be_made(choice: ToolChoice, functions: tuple[Function, ...], required: bool) -> None:
    """All functions or those that are allowed, forced or not, several unless the client or the model says otherwise."""
    calls = calls_of(replace(ASKED, tool_choice=choice), HERMES)
    assert calls is not None
    assert (calls.functions, calls.required, calls.several) == (functions, required, True)


def test_when_only_one_may_be_made() -> None:
    """A named function, `parallel_tool_calls: false`, a model that can't write two."""
    named = replace(ASKED, tool_choice=ToolChoice("required", ("f",), single=True))
    settled = replace(ASKED, settings=PromptSettings(parallel_tool_calls=False))
    for request, syntax in ((named, HERMES), (settled, HERMES), (ASKED, HERMES._replace(joint=None))):
        calls = calls_of(request, syntax)
        assert calls is not None
        assert not calls.several


def test_when_none_may_be_made() -> None:
    """`none`, no tools, a model of an unknown family; there a forced call is refused."""
    assert calls_of(replace(ASKED, tool_choice=ToolChoice("none")), HERMES) is None
    assert calls_of(replace(ASKED, tools=()), HERMES) is None
    assert calls_of(ASKED, None) is None
    with pytest.raises(UnsupportedFeature, match="chat template") as caught:
        calls_of(replace(ASKED, tool_choice=ToolChoice("required")), None)
    assert caught.value.param == "tool_choice"


def test_the_choice_is_no_part_of_the_prompt() -> None:
    """The same tokens and settings under every choice; other ones with other tools."""
    prompts = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())
    plain = prompts.build(ASKED)
    for choice in (ToolChoice("none"), ToolChoice("required"), ToolChoice("auto", ("g",))):
        prompt = prompts.build(replace(ASKED, tool_choice=choice))
        assert np.array_equal(prompt.tokens, plain.tokens)
        assert prompt.settings == plain.settings
    assert not np.array_equal(prompts.build(replace(ASKED, tools=TOOLS[:1])).tokens, plain.tokens)


def test_ids_for_a_template_that_wants_short_ones() -> None:
    """Mistral's refuses ids as OpenAI's API has them: a call and its result get the same short one instead."""
    template = ChatTemplate((TEMPLATES / "mistral.jinja").read_text("utf-8"))

    def rendered(id: str) -> str:
        call = ToolCall(id, Text("f", "b"), Text("{}", "b"))
        answers: list[Any] = [
            Message("user", (Text("a", "a"),), "a"),
            Message("assistant", (), "b", (call,)),
            Message("tool", (Text("c", "c"),), "c", tool_call_id=id),
        ]
        return "".join(piece.text for piece in template.render(Request("m", tuple(answers))))

    assert rendered("abcdefghi").count('"abcdefghi"') == 2
    long = rendered("call_0123456789abcdef01234567")
    short = long.partition('"id": "')[2].partition('"')[0]
    assert len(short) == 9
    assert short.isalnum()
    assert long.count(f'"{short}"') == 2
    assert long == rendered("call_0123456789abcdef01234567")
    assert short not in rendered("call_other")
