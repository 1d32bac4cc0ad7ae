"""A model's chat template: a request becomes text, and every piece of it knows which client's value it came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from headstart.errors import InvalidRequest, StartError
from headstart.prompt.calls import syntax_of
from headstart.prompt.sandbox import ChatSandbox, bounded_length
from headstart.prompt.tracing import Piece, merged, pieces_of
from headstart.prompt.variables import Dialect, variables
from headstart.types import Message, Request, Text, ToolCall

__all__ = ["DEFAULT_TEMPLATE", "DEMO_TEMPLATE", "ChatTemplate", "Piece"]

_TOOLS = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{% for tool in tools %}
{{ tool | tojson }}
{% endfor %}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""

_CALLS = """\
{%- for call in message.tool_calls or [] %}
{{- "\\n" if message.content or not loop.first }}<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}"""

DEFAULT_TEMPLATE = (
    """\
{%- set system = messages[0].content if messages and messages[0].role == "system" else "" %}
{%- if tools %}
{{- "<|im_start|>system\\n" }}"""
    + _TOOLS
    + """\
{{- "\\n\\n" + system if system }}<|im_end|>
{% elif system %}
{{- "<|im_start|>system\\n" + system }}<|im_end|>
{% endif %}
{%- for message in (messages[1:] if messages and messages[0].role == "system" else messages) %}
{%- if message.role == "tool" %}
{{- "<|im_start|>user" if loop.previtem is undefined or loop.previtem.role != "tool" }}
<tool_response>
{{ message.content }}
</tool_response>
{{- "<|im_end|>\\n" if loop.nextitem is undefined or loop.nextitem.role != "tool" }}
{%- else %}
{{- "<|im_start|>" + message.role + "\\n" }}{{ message.content }}"""
    + _CALLS
    + """<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "<|im_start|>assistant\\n" }}
{%- endif %}"""
)
"""ChatML, with tools as Hermes and Qwen write them, for a model whose file has no template. Tools come first, then the
instructions, then the messages."""

DEMO_TEMPLATE = (
    """\
{%- if tools %}<|im_start|>system<|im_sep|>"""
    + _TOOLS
    + """<|im_end|>{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}<|im_sep|>{{ message.content }}"""
    + _CALLS
    + """<|im_end|>{% endfor %}<|im_start|>assistant<|im_sep|>"""
)
"""OpenAI's own ChatML of the o200k models: three tokens around a message and one for its role, three that open the
answer. Tools come first, in a system section of their own; call ids are left out, so that a replay keeps its prefix."""

_NULL_CONTENT = re.compile(r"\bcontent['\"\]]*\s+is\s+(not\s+)?none\b", re.IGNORECASE)
_SINGLE_CALL = re.compile(r"only supports single tool-calls")
"""Llama's: it refuses a message with two calls, so the model isn't let make them."""
_SHORT_IDS = re.compile(r"\|\s*length\s*!=\s*9\b")
"""Mistral's: it refuses the ids of calls that don't have nine characters, and OpenAI's have more."""
_PROBE = Request(
    "probe",
    (
        Message("user", (Text("a", "a"),), "a"),
        Message("assistant", (), "b", (ToolCall("abcdefghi", Text("f", "b"), Text('{"needle": 1}', "b")),)),
        Message("tool", (Text("c", "c"),), "c", tool_call_id="abcdefghi"),
    ),
)


class ChatTemplate:
    """A Jinja chat template, compiled once; renders in any thread.

    Args:
        source: the template, as the GGUF's `tokenizer.chat_template` has it. `StartError` if it doesn't compile.
        bos_token: what `{{ bos_token }}` gives; `eos_token` likewise.
        clock: what `strftime_now` asks. A template that prints the time changes its prompt with it: one that prints a
            date loses every cached prefix at midnight, one that prints minutes never has any. A fixed clock cures both.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str = "",
        eos_token: str = "",
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        try:
            self.source = source
            self._template = ChatSandbox(clock).from_string(source)
        except (TemplateError, RecursionError, SyntaxError) as error:
            line = f" (line {error.lineno})" if isinstance(error, TemplateSyntaxError) else ""
            raise StartError(f"The model's chat template does not compile: {error}{line}. Give another one.") from error
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        self._dialect = Dialect(
            developer="developer" in source,
            null_content=_NULL_CONTENT.search(source) is not None,
            short_ids=_SHORT_IDS.search(source) is not None,
        )
        self.call_syntax = syntax_of(self._try_a_call(), single=_SINGLE_CALL.search(source) is not None)
        """How the model writes calls of functions; None if the template doesn't say, or in a way that isn't known."""

    def render(self, request: Request) -> list[Piece]:
        """The prompt in pieces; their texts joined are what Jinja alone would give.

        Neighbouring pieces of the template are one, and so are pieces that continue one client's value. Raises
        `InvalidRequest`, with the first message as its `param`, if the template refuses the request or fails.
        """
        return self.render_variables(self.variables(request), request)

    def variables(self, request: Request) -> dict[str, Any]:
        """What the template is given for a request."""
        return variables(request, self._dialect)

    def render_variables(self, given: Mapping[str, Any], request: Request) -> list[Piece]:
        """`render`, of variables that were already made of the request."""
        try:
            return self._pieces(given)
        except Exception as error:  # a template is a program of someone else's: it may raise anything
            reason = str(error) or type(error).__name__
            raise InvalidRequest(
                f"The model's chat template refused these messages: {reason}",
                param=request.messages[0].path if request.messages else None,
            ) from error

    def _pieces(self, given: Mapping[str, Any]) -> list[Piece]:
        context = self._template.new_context({**self._tokens, **given})
        pieces: list[Piece] = []
        length = 0
        for text in self._template.root_render_func(context):
            length = bounded_length(length + len(text))
            pieces.extend(pieces_of(text))
        return merged(pieces)

    def _try_a_call(self) -> str:
        """What the template prints of a call; "" if it refuses for a reason of its own, such as the order of roles.

        Hugging Face parses a call's arguments; a template that then fails or prints Python wants the JSON text.
        """
        for parsed in (True, False):
            self._dialect = self._dialect._replace(parsed_arguments=parsed)
            try:
                text = "".join(piece.text for piece in self._pieces(self.variables(_PROBE)))
            except TypeError:
                continue
            except Exception:
                return ""
            if "{'needle'" not in text:
                return text
        return ""
