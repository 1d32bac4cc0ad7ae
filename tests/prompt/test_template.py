"""A chat template renders exactly what plain Jinja renders, and every piece names its origin."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from headstart.errors import InvalidRequest, StartError
from headstart.prompt.builder import PromptBuilder
from headstart.prompt.template import DEFAULT_TEMPLATE, DEMO_TEMPLATE, ChatTemplate, Piece
from headstart.prompt.tokenizer import OpenAITokenizer
from headstart.types import Message, OutputFormat, PromptSettings, Request, Text, Tool, ToolCall

NOON = datetime(2026, 11, 23, 12, 0)
TEMPLATES = {path.stem: path.read_text("utf-8") for path in (Path(__file__).parent / "templates").glob("*.jinja")}
TEMPLATES |= {"default": DEFAULT_TEMPLATE, "demo": DEMO_TEMPLATE}
COMPILED = {
    name: ChatTemplate(source, bos_token="<s>", eos_token="</s>", clock=lambda: NOON)
    for name, source in TEMPLATES.items()
}

TOOLS = tuple(
    Tool(
        {
            "type": "function",
            "function": {
                "name": name,
                "description": 'Gets "it" <b>é',
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        },
        f"tools[{index}]",
    )
    for index, name in enumerate(["get_weather", "get_time"])
)

texts = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="aA \n\t", max_size=8),
    st.sampled_from(["<|im_end|>", "<think>\nhm\n</think>\n\nyes", "<|im_start|>system\n", "{{ 1 }}", "a, b", "</s>"]),
)


def message(role: Any, content: str | None, index: int, **more: Any) -> Message:
    """A message of one text."""
    path = f"messages[{index}]"
    return Message(role, () if content is None else (Text(content, f"{path}.content"),), path, **more)


def plain(value: Any) -> Any:
    """The variables without provenance, as a client of Hugging Face's would have them."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str.__str__(value) if isinstance(value, str) else value


class Generation(Extension):
    """The block that training uses, read as its body."""

    tags = {"generation"}  # noqa: RUF012  Jinja declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def hugging_face(source: str, variables: dict[str, Any]) -> str:
    """What `apply_chat_template` would render."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )

    def raise_exception(reason: str) -> None:
        raise TemplateError(reason)

    def tojson(value: Any, ensure_ascii: bool = False, **more: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **more)

    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": NOON.strftime}
    given = {"bos_token": "<s>", "eos_token": "</s>", **plain(variables)}
    return environment.from_string(source).render(given)


def outcome(render: Callable[[], str]) -> tuple[str, str]:
    """The text, or the reason why there is none."""
    try:
        return "rendered", render()
    except InvalidRequest as error:
        return "refused", str(error.__cause__)
    except Exception as error:
        return "refused", str(error)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A conversation as agents have them: instructions, turns, calls and their results."""
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append(message(draw(st.sampled_from(["system", "developer"])), draw(texts), 0))
    for _ in range(draw(st.integers(1, 3))):
        messages.append(message("user", draw(texts), len(messages)))
        if draw(st.booleans()):
            arguments = draw(st.sampled_from(['{"city": "Rome <|im_end|>"}', "{}", '{"n": [1, {"a": null}]}', "{bad"]))
            path = f"messages[{len(messages)}].tool_calls[0].function"
            call = ToolCall("abcdefghi", Text("get_weather", f"{path}.name"), Text(arguments, f"{path}.arguments"))
            messages.append(message("assistant", draw(st.none() | texts), len(messages), tool_calls=(call,)))
            messages.append(message("tool", draw(texts), len(messages), tool_call_id="abcdefghi"))
        messages.append(message("assistant", draw(texts), len(messages)))
    messages.append(message("user", draw(texts), len(messages)))
    return Request("m", tuple(messages), draw(st.sampled_from([(), TOOLS])))


def rendered(template: ChatTemplate, *messages: Message, **more: Any) -> str:
    """The text of a prompt."""
    return "".join(piece.text for piece in template.render(Request("m", messages, **more)))


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=25, deadline=None)
@given(requests())
def test_text_is_what_jinja_gives(name: str, request_: Request) -> None:
    """Of models' own templates, over conversations with tools, odd texts and control tokens' texts."""
    template = COMPILED[name]
    expected = outcome(lambda: hugging_face(TEMPLATES[name], template.variables(request_)))
    assert outcome(lambda: "".join(piece.text for piece in template.render(request_))) == expected


@pytest.mark.parametrize("name", set(TEMPLATES) - {"phi3", "macros"})
@settings(max_examples=25, deadline=None)
@given(requests())
def test_pieces_are_the_clients_characters(name: str, request_: Request) -> None:
    """Where a template only lays out, each piece of a content stands at its offset in that content."""
    contents = {text.path: text.text for message in request_.messages for text in message.content}
    try:
        pieces = COMPILED[name].render(request_)
    except InvalidRequest:
        return
    for before, after in pairwise(pieces):
        assert before.path != after.path or before.offset + len(before.text) != after.offset
    for piece in pieces:
        if piece.path in contents and '"' not in piece.text:
            assert contents[piece.path][piece.offset :].startswith(piece.text)


@pytest.mark.contract("W1")
def test_default_template_in_full() -> None:
    """ChatML: tools, then instructions, then messages, calls and results included."""
    call = ToolCall("id", Text("get_time", "n"), Text('{"city":"Rome"}', "a"))
    text = rendered(
        ChatTemplate(DEFAULT_TEMPLATE),
        message("developer", "Be brief.", 0),
        message("user", "Time?", 1),
        message("assistant", None, 2, tool_calls=(call, call)),
        message("tool", "12:00", 3, tool_call_id="id"),
        message("tool", "13:00", 4, tool_call_id="id"),
        tools=TOOLS[:1],
    )
    start = "<|im_start|>system\n# Tools\n\nYou may call one or more functions"
    assert text.startswith(start)
    assert '<tools>\n{"type": "function", "function": {"name": "get_weather"' in text
    called = '<tool_call>\n{"name": "get_time", "arguments": {"city": "Rome"}}\n</tool_call>'
    assert text.endswith(
        "</tool_call>\n\nBe brief.<|im_end|>\n<|im_start|>user\nTime?<|im_end|>\n"
        f"<|im_start|>assistant\n{called}\n{called}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n12:00\n</tool_response>\n<tool_response>\n13:00\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.contract("W1")
def test_demo_template_in_full() -> None:
    """OpenAI's ChatML; tools before instructions."""
    demo = ChatTemplate(DEMO_TEMPLATE)
    first = message("system", "Be brief.", 0)
    expected = "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|>"
    assert rendered(demo, first, message("user", "Hi", 1)) == expected + "<|im_start|>assistant<|im_sep|>"
    with_tools = rendered(demo, first, message("user", "Hi", 1), tools=TOOLS)
    assert with_tools.startswith("<|im_start|>system<|im_sep|># Tools\n")
    assert with_tools.endswith("</tool_call><|im_end|>" + expected + "<|im_start|>assistant<|im_sep|>")


def test_pieces_name_their_paths() -> None:
    """Template text is one piece; each part of a content has its own path and offset."""
    parts = (Text("Hello ", "input[0].content[0].text"), Text(" world ", "input[0].content[1].text"))
    template = ChatTemplate("{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}!{{ '?' }}")
    assert template.render(Request("m", (Message("user", parts, "input[0]"),))) == [
        Piece("<user>", "", 0),
        Piece("Hello ", "input[0].content[0].text", 0),
        Piece(" world", "input[0].content[1].text", 0),
        Piece("!?", "", 0),
    ]


def test_tools_are_traced_to_their_paths() -> None:
    """A definition that is written as JSON is one piece of its tool."""
    pieces = COMPILED["qwen2_5"].render(Request("m", (message("user", "Hi", 0),), TOOLS))
    assert [(piece.path, json.loads(piece.text)) for piece in pieces if piece.path.startswith("tools")] == [
        (tool.path, tool.definition) for tool in TOOLS
    ]


def test_developer_is_system_unless_the_template_knows_it() -> None:
    """By whether its source has the word."""
    source = "{% for m in messages %}{{ m.role }}{% endfor %}"
    assert rendered(ChatTemplate(source), message("developer", "x", 0)) == "system"
    assert rendered(ChatTemplate(source + "{# developer #}"), message("developer", "x", 0)) == "developer"


def test_arguments_are_text_where_the_template_wants_text() -> None:
    """One that adds them to a string, or would print them as Python, gets the client's JSON text."""
    call = ToolCall("abcdefghi", Text("f", "n"), Text('{"a":1}', "a"))
    messages = (message("user", "x", 0), message("assistant", None, 1, tool_calls=(call,)))
    for expression in ("'' + c.function.arguments", "c.function.arguments"):
        source = (
            "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ " + expression + " }}{% endfor %}{% endfor %}"
        )
        assert rendered(ChatTemplate(source), *messages) == '{"a":1}'
    assert "```json\n" + '{"a":1}' + "\n```" in rendered(COMPILED["deepseek"], *messages)


def test_settings_reach_the_template_where_set() -> None:
    """And are undefined otherwise, so that a template's own default holds."""
    source = "{{ reasoning_effort or 'none' }} {{ verbosity }} {{ parallel_tool_calls }} {{ response_format | tojson }}"
    chosen = PromptSettings(False, OutputFormat("json_schema", {"type": "object"}, "s"), "low", "high")
    text = rendered(ChatTemplate(source), message("user", "x", 0), tools=TOOLS, settings=chosen)
    assert text == (
        'low high False {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}'
    )
    assert rendered(ChatTemplate("{{ verbosity }}{{ tools }}"), message("user", "x", 0)) == "None"


def test_the_clock_is_the_callers() -> None:
    """`strftime_now` asks the injected clock, in the template's format."""
    assert "Today Date: 23 Nov 2026\n" in rendered(COMPILED["llama3_1"], message("user", "x", 0))


@pytest.mark.parametrize("source", ["{% if %}", "{{ a", "{{ a | nosuchfilter }}", "{% include 'x'"])
def test_a_template_that_does_not_compile(source: str) -> None:
    """Is the operator's to mend, when the server starts."""
    with pytest.raises(StartError, match="chat template does not compile"):
        ChatTemplate(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('Roles must alternate!') }}", "Roles must alternate!"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% include 'x' %}", "no loader"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
        ("{% for i in range(10**9) %}{% endfor %}", "MAX_RANGE"),
    ],
)
def test_refusals_name_the_first_message_and_the_reason(source: str, reason: str) -> None:
    """Whatever a template raises becomes one error that the client can read."""
    with pytest.raises(InvalidRequest) as refused:
        rendered(ChatTemplate(source), message("user", "x", 0))
    assert refused.value.param == "messages[0]"
    assert "chat template refused" in refused.value.message
    assert reason in refused.value.message


@pytest.mark.contract("P1", note="in the templates of real models, where an answer is sent back as it was made")
@pytest.mark.parametrize("name", set(TEMPLATES) - {"macros"})
def test_the_end_of_a_message_is_a_prefix_of_the_next_turn(name: str) -> None:
    """Whatever a template closes a message with: up to the last user message's own end, the next turn is the same."""
    builder = PromptBuilder(COMPILED[name], OpenAITokenizer())
    said = ["Be kind and brief.", "What is a leaf?", "A green thing.", "And a root?", "A brown thing.", "And a stem?"]
    messages = [message("user" if at % 2 else "assistant", text, at) for at, text in enumerate(said)]
    messages[0] = message("system", said[0], 0)
    if name == "mistral":  # it prints the instructions before the last message, wherever that is
        messages.pop(0)
    prompts = [builder.build(Request("m", tuple(messages[:count]))) for count in (len(messages) - 2, len(messages))]
    end = prompts[0].endings[-1].stop
    assert 0 < end < len(prompts[0].tokens)
    assert prompts[0].tokens[:end].tolist() == prompts[1].tokens[:end].tolist()
    assert prompts[1].endings[len(messages) - 3].stop == end
