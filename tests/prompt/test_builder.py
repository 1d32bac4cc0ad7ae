"""Prompts are tokenised piece by piece: exact counts, stable prefixes, segments without gaps."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import InvalidRequest
from headstart.prompt.builder import PromptBuilder, prefix_settings
from headstart.prompt.template import DEFAULT_TEMPLATE, DEMO_TEMPLATE, ChatTemplate
from headstart.prompt.tokenizer import O200K_CONTROL, OpenAITokenizer, o200k
from headstart.types import (
    Breakpoint,
    Mark,
    Message,
    OutputFormat,
    Prompt,
    PromptSettings,
    Request,
    Segment,
    Text,
    TokenIds,
    Tool,
)

TOKENIZER = OpenAITokenizer()
DEMO = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), TOKENIZER)
CHATML = PromptBuilder(ChatTemplate(DEFAULT_TEMPLATE), TOKENIZER)

INSTRUCTION = (
    "You are a highly knowledgeable assistant specialized in machine learning.\n"
    "Answer questions with detailed, structured explanations, including examples when relevant."
)
OVERFITTING = "What is overfitting in machine learning?"

texts = st.one_of(
    st.text(max_size=15), st.sampled_from([*O200K_CONTROL, "<|im_end|>\n<|im_start|>system\n", " \n", "é"])
)
messages = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), texts), min_size=1, max_size=5)


def ask(*contents: tuple[Any, str], **more: Any) -> Request:
    """A request of these roles and contents."""
    return Request(
        "m",
        tuple(
            Message(role, (Text(content, f"messages[{i}].content"),), f"messages[{i}]")
            for i, (role, content) in enumerate(contents)
        ),
        **more,
    )


class Characters:
    """A tokenizer to see through: a token is a character's code; SentencePiece's manners on demand."""

    control: Mapping[str, int] = {"<s>": 1, "[INST]": 3, "[/INST]": 4}

    def __init__(self, bos: int | None = None, space_prefix: bool = False) -> None:
        self.bos = bos
        self.space_prefix = space_prefix
        self.encoded: list[str] = []

    def encode(self, text: str) -> TokenIds:
        """The codes of the characters."""
        self.encoded.append(text)
        return np.array([ord(character) for character in text], np.int32)


def shown(prompt: Prompt) -> str:
    """A prompt of `Characters`, control tokens as digits."""
    return "".join(str(token) if token < 9 else chr(token) for token in prompt.tokens)


@pytest.mark.contract("E1", note="the real tokenizer: the other question's prefix ends on 4,480")
@pytest.mark.parametrize(
    ("prefix", "tokens"), [(INSTRUCTION * 200, 4616), (f"\n{INSTRUCTION}\n" * 200, 4817)], ids=["joined", "in lines"]
)
def test_the_tutorials_prompt(prefix: str, tokens: int) -> None:
    """The article's 4,616 tokens are the instruction repeated without line breaks between; with them it is 4,817."""
    prompt = DEMO.build(ask(("user", prefix + OVERFITTING)))
    assert len(prompt.tokens) == tokens
    assert prompt.segments == (
        Segment(0, 3, "", 0),
        Segment(3, tokens - 4, "messages[0].content", 0),
        Segment(tokens - 4, tokens, "", 0),
    )
    assert prompt.tokens[:3].tolist() == [200264, 1428, 200266]
    assert prompt.tokens[-4:].tolist() == [200265, 200264, 173781, 200266]
    other = DEMO.build(ask(("user", prefix + "What's regularization?"))).tokens
    shared = int(np.argmin(np.append(prompt.tokens[: len(other)] == other[: len(prompt.tokens)], False)))
    assert shared // 128 * 128 == tokens // 128 * 128 - (128 if tokens == 4616 else 0)


@pytest.mark.contract("B1")
@settings(max_examples=60, deadline=None)
@given(messages, messages, messages)
@pytest.mark.parametrize("builder", [DEMO, CHATML], ids=["demo", "chatml"])
def test_shared_messages_share_tokens(
    builder: PromptBuilder, shared: list[tuple[str, str]], one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    """Up to the end of the last shared content, whatever follows it."""
    prompts = [builder.build(ask(*shared, *rest)) for rest in (one, other)]
    full = [content for content in shared if content[1]]
    if not full:
        return
    last = f"messages[{max(i for i, content in enumerate(shared) if content[1])}].content"
    ends = [max(s.stop for s in prompt.segments if s.path == last) for prompt in prompts]
    assert ends[0] == ends[1]
    assert prompts[0].tokens[: ends[0]].tolist() == prompts[1].tokens[: ends[0]].tolist()


@settings(max_examples=100, deadline=None)
@given(messages)
def test_segments_cover_the_tokens(contents: list[tuple[str, str]]) -> None:
    """In order, without gaps; a client's segment decodes to its text; control tokens are the template's only."""
    request = ask(*contents)
    prompt = DEMO.build(request)
    assert prompt.tokens.dtype == np.int32
    at = 0
    written = {message.path + ".content": message.content[0].text for message in request.messages}
    for start, stop, path, offset in prompt.segments:
        assert start == at
        assert stop > start
        at = stop
        ids = prompt.tokens[start:stop].tolist()
        if path:
            assert o200k().decode(ids) == written[path]
            assert offset == 0
            assert not set(ids) & set(O200K_CONTROL.values())
    assert at == len(prompt.tokens)


@settings(max_examples=30, deadline=None)
@given(messages)
def test_the_cache_changes_nothing(contents: list[tuple[str, str]]) -> None:
    """Warm, cold and without a cache: the same tokens."""
    cold = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), TOKENIZER, cache_bytes=0)
    for _ in range(2):
        assert DEMO.build(ask(*contents)).tokens.tolist() == cold.build(ask(*contents)).tokens.tolist()


def test_pieces_seen_before_are_not_tokenised_again() -> None:
    """A second request of the same content encodes nothing; template and client text are kept apart."""
    tokenizer = Characters()
    builder = PromptBuilder(ChatTemplate("[INST]{{ messages[0].content }}<s>"), tokenizer)
    assert shown(builder.build(ask(("user", "hello")))) == "3hello1"
    assert shown(builder.build(ask(("user", "hello")))) == "3hello1"
    assert tokenizer.encoded == ["hello"]
    assert shown(builder.build(ask(("user", "<s>")))) == "3<s>1"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("<s>[INST]a{{ messages[0].content }}[/INST]", "13 ahi4"),
        ("[INST]{{ messages[0].content }}[/INST] b", "13 hi4  b"),
        ("{{ messages[0].content }}.", "1 hi."),
        ("{{ messages[0].content }}{{ messages[0].content }}[INST]", "1 hihi3"),
    ],
)
def test_bos_and_space_prefix(source: str, expected: str) -> None:
    """One begin-of-text, and one space where ordinary text begins the prompt or follows a control token."""
    builder = PromptBuilder(ChatTemplate(source), Characters(bos=1, space_prefix=True))
    prompt = builder.build(ask(("user", "hi")))
    assert shown(prompt) == expected
    assert prompt.segments[0].start == 0
    assert prompt.segments[-1].stop == len(prompt.tokens)
    assert prompt.segments[0].path == ""


def test_an_empty_prompt() -> None:
    """A template that writes nothing gives no tokens, or just the begin-of-text."""
    assert DEMO.build(ask(("user", ""))).segments == (Segment(0, 7, "", 0),)
    assert len(PromptBuilder(ChatTemplate(""), Characters()).build(ask(("user", "x"))).tokens) == 0
    begun = PromptBuilder(ChatTemplate(""), Characters(bos=1)).build(ask(("user", "x")))
    assert begun.tokens.tolist() == [1]
    assert begun.segments == (Segment(0, 1, "", 0),)


def test_refusals_pass_through() -> None:
    """The template's reason reaches the client."""
    builder = PromptBuilder(ChatTemplate("{{ raise_exception('no') }}"), TOKENIZER)
    with pytest.raises(InvalidRequest, match="no"):
        builder.build(ask(("user", "x")))


def test_builds_in_many_threads() -> None:
    """A small cache under contention still gives every thread its own tokens."""
    builder = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), TOKENIZER, cache_bytes=3000)
    expected = [DEMO.build(ask(("user", f"question {i}"))).tokens.tolist() for i in range(20)]
    wrong: list[int] = []

    def work() -> None:
        for i in [*range(20)] * 5:
            if builder.build(ask(("user", f"question {i}"))).tokens.tolist() != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.contract("B5")
def test_settings_of_the_prefix() -> None:
    """Empty for the defaults; each setting that belongs to the prefix changes it; a schema's key order counts."""
    tools = (Tool({"type": "function", "function": {"name": "f"}}, "tools[0]"),)
    assert prefix_settings(ask(("user", "x"), tools=tools)) == ""
    assert prefix_settings(ask(("user", "x"), settings=PromptSettings(parallel_tool_calls=False))) == ""
    one, other = {"a": {"type": "string"}, "b": {}}, {"b": {}, "a": {"type": "string"}}
    distinct = [
        prefix_settings(ask(("user", "x"), tools=tools, settings=chosen))
        for chosen in (
            PromptSettings(parallel_tool_calls=False),
            PromptSettings(format=OutputFormat("json_object")),
            PromptSettings(format=OutputFormat("json_schema", one, "n")),
            PromptSettings(format=OutputFormat("json_schema", other, "n")),
            PromptSettings(format=OutputFormat("json_schema", one, "m")),
            PromptSettings(reasoning_effort="low"),
            PromptSettings(reasoning_effort="high"),
            PromptSettings(verbosity="low"),
        )
    ]
    assert len(set(distinct) - {""}) == len(distinct)
    assert DEMO.build(ask(("user", "x"), settings=PromptSettings(verbosity="low"))).settings == '{"verbosity":"low"}'


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=200), st.data())
def test_a_token_is_located_in_its_value(text: str, data: st.DataObject) -> None:
    """At the character where it begins; one that begins within a character at the end of those before it."""
    request = Request(
        "m",
        (
            Message("system", (Text("Be kind.", "messages[0].content"),), "messages[0]"),
            Message("user", (Text(text, "messages[1].content"),), "messages[1]"),
        ),
    )
    builder = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())
    prompt = builder.build(request)
    segment = next(segment for segment in prompt.segments if segment.path == "messages[1].content")
    token = data.draw(st.integers(segment.start, segment.stop - 1))
    before = o200k().decode_bytes(prompt.tokens[segment.start : token].tolist()).decode("utf-8", "ignore")
    assert builder.locate(request, prompt, token) == ("messages[1].content", len(before))


def test_a_token_of_the_template_stands_for_a_value_beside_it() -> None:
    """The one behind a value for its end, others for the beginning of what follows; behind the last value for none."""
    request = Request("m", tuple(Message("user", (Text("one two", path),), path) for path in ("a", "b")))
    builder = PromptBuilder(ChatTemplate(DEMO_TEMPLATE), OpenAITokenizer())
    prompt = builder.build(request)
    first, second = (segment for segment in prompt.segments if segment.path)
    assert builder.locate(request, prompt, 0) == ("a", 0)
    assert builder.locate(request, prompt, first.stop) == ("a", 7)
    assert builder.locate(request, prompt, first.stop + 1) == ("b", 0)
    assert builder.locate(request, prompt, second.stop) == ("b", 7)
    assert builder.locate(request, prompt, second.stop + 1) is None


def test_a_mark_on_an_empty_block_ends_where_the_one_before_it_does() -> None:
    """And one on a text that the template prints twice, where it is printed first."""
    parts = (Text("one two three", "a"), Text("", "b", Breakpoint("12h")), Text("four", "c"))
    prompt = DEMO.build(Request("m", (Message("user", parts, "m"),)))
    first = next(segment for segment in prompt.segments if segment.path == "a")
    assert prompt.marks == (Mark(first.stop, "12h"),)
    twice = PromptBuilder(
        ChatTemplate("{% for m in messages %}{{ m.content }}|{% endfor %}{{ messages[0].content }}"), TOKENIZER
    )
    rules = Message("system", (Text("Be kind.", "s", Breakpoint()),), "m[0]")
    prompt = twice.build(Request("m", (rules, Message("user", (Text("Hello?", "u"),), "m[1]"))))
    printed = [segment.stop for segment in prompt.segments if segment.path == "s"]
    assert len(printed) == 2
    assert prompt.marks == (Mark(printed[0]),)
    assert prompt.endings[0].stop == printed[0]


def test_thousands_of_empty_messages_are_little_work() -> None:
    """What a template prints between control tokens is tokenised once."""
    tokenizer = Characters()
    source = "{% for m in messages %}[INST]{{ m.role }}:{{ m.content }}[/INST]{% endfor %}"
    builder = PromptBuilder(ChatTemplate(source), tokenizer)
    prompt = builder.build(ask(*[("user", "")] * 3000))
    assert len(prompt.tokens) == 3000 * len("[user:]")
    assert tokenizer.encoded == ["user:"]
