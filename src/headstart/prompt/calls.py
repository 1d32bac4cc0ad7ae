"""Which family of models a template belongs to, as far as calls of functions go, and what calls an answer may have.

| family | a call in its output |
| --- | --- |
| Hermes, Qwen | `<tool_call>\\n{"name": "f", "arguments": {…}}\\n</tool_call>` |
| Llama 3 | `{"name": "f", "parameters": {…}}`, with or without `<|python_tag|>` before it |
| Mistral | `[TOOL_CALLS][{"name": "f", "arguments": {…}}]`, newer ones `[TOOL_CALLS]f[ARGS]{…}` or `[TOOL_CALLS]f{…}` |
"""

from __future__ import annotations

import re

from headstart.errors import UnsupportedFeature
from headstart.types import Calls, CallSyntax, Function, Request, Tool

_ARGUMENTS = '", "arguments": '

HERMES = CallSyntax(
    "<tool_call>",
    '\n{"name": "',
    _ARGUMENTS,
    "}\n</tool_call>",
    joint="\n<tool_call>",
    markers=("<tool_call>", "</tool_call>"),
)
LLAMA = CallSyntax(
    "<|python_tag|>", '{"name": "', '", "parameters": ', "}", joint="; ", bare=True, markers=("<|python_tag|>",)
)
_MISTRAL = "[TOOL_CALLS]"
_MARKERS = (_MISTRAL, "[ARGS]", "[CALL_ID]")
MISTRAL = CallSyntax(_MISTRAL, '{"name": "', _ARGUMENTS, "}", joint=", ", start=" [", closer="]", markers=_MARKERS)
MISTRAL_ARGS = CallSyntax(_MISTRAL, "", "[ARGS]", "", joint=_MISTRAL, markers=_MARKERS)
MISTRAL_NAME = CallSyntax(_MISTRAL, "", "", "", joint=_MISTRAL, markers=_MARKERS)

FAMILIES: tuple[tuple[re.Pattern[str], CallSyntax], ...] = (
    (re.compile(r'<tool_call>\s*\{"(name|arguments)"'), HERMES),
    (re.compile(r"\[TOOL_CALLS\]\s*\["), MISTRAL),
    (re.compile(r"\[TOOL_CALLS\]\s*\w+(\[CALL_ID\]\w*)?\[ARGS\]"), MISTRAL_ARGS),
    (re.compile(r"\[TOOL_CALLS\]\s*\w+\s*\{"), MISTRAL_NAME),
    (re.compile(r'\{"name":\s*"\w+",\s*"parameters":'), LLAMA),
)
"""What the families' templates print for a call."""


def syntax_of(printed: str, *, single: bool = False) -> CallSyntax | None:
    """The syntax of the calls in what a template printed; None if it is none of the known ones. `single`: the template
    takes back one call per message and no more."""
    for pattern, syntax in FAMILIES:
        if pattern.search(printed):
            return syntax._replace(joint=None) if single else syntax
    return None


def calls_of(request: Request, syntax: CallSyntax | None) -> Calls | None:
    """The calls that the answer to a request may have; None: none, so its output is text.

    Raises `UnsupportedFeature` if one has to be made, and nobody knows how this model does.
    """
    choice = request.tool_choice
    if not request.tools or choice.mode == "none":
        return None
    if syntax is None:
        if choice.mode == "required":
            raise UnsupportedFeature(
                "A call can't be forced: the chat template of this model writes no calls, or none of a known kind. "
                "Use 'auto' or 'none', or serve a model whose template writes them as Hermes, Llama 3 or Mistral do.",
                param="tool_choice",
            )
        return None
    functions = tuple(map(_function, request.tools))
    if choice.names is not None:
        functions = tuple(function for function in functions if function.name in choice.names)
    several = request.settings.parallel_tool_calls and not choice.single and syntax.joint is not None
    return Calls(syntax, functions, choice.mode == "required", several)


def _function(tool: Tool) -> Function:
    definition = tool.definition["function"]
    schema, strict = definition.get("parameters"), definition.get("strict") is True
    return Function(definition["name"], schema, strict, tool.schema_path)
