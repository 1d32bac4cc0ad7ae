"""What a chat template is given: a request as Hugging Face's `apply_chat_template` would hand it, every text traced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from headstart.prompt.tracing import Traced, joined
from headstart.types import Message, Request, Text, ToolCall


class Dialect(NamedTuple):
    """What templates differ in. `ChatTemplate` finds out which of them its source speaks.

    `developer`: it knows the role; others get `system`. `null_content`: it asks whether a content is none, so an
    assistant message that only calls tools has None; others would print the word, and get "". `parsed_arguments`: it
    takes a call's arguments as a mapping (Hugging Face's convention); others as JSON text. `short_ids`: ids of calls
    have to be nine letters or digits.
    """

    developer: bool = False
    null_content: bool = False
    parsed_arguments: bool = True
    short_ids: bool = False


def variables(request: Request, dialect: Dialect) -> dict[str, Any]:
    """The template's variables. Settings that are at their defaults are not among them."""
    settings = request.settings
    given: dict[str, Any] = {
        "messages": _messages(request.messages, dialect),
        "tools": [traced(tool.definition, tool.path) for tool in request.tools] or None,
        "documents": None,
        "add_generation_prompt": True,
    }
    if request.tools and not settings.parallel_tool_calls:
        given["parallel_tool_calls"] = False
    if settings.reasoning_effort is not None:
        given["reasoning_effort"] = _word(settings.reasoning_effort, "reasoning_effort")
    if settings.verbosity is not None:
        given["verbosity"] = _word(settings.verbosity, "verbosity")
    output = settings.format
    if output.kind != "text":
        given["response_format"] = {"type": output.kind}
    if output.schema is not None:
        schema = {"name": output.name, "schema": output.schema}
        given["response_format"]["json_schema"] = traced(schema, output.path)
    return given


def traced(value: Any, path: str) -> Any:
    """A JSON value whose strings, keys included, all belong to the client's value at `path`."""
    if isinstance(value, str):
        return Traced.whole(value, path)
    if isinstance(value, Mapping):
        return {Traced.whole(key, path): traced(item, path) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [traced(item, path) for item in value]
    return value


def _word(value: str, path: str) -> str:
    """A setting as the template's own text, so that it joins the tokens around it as the model learned them, if it is
    a plain word, which no control token is."""
    return value if value.isalnum() else Traced.whole(value, path)


def _messages(messages: tuple[Message, ...], dialect: Dialect) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    given: list[dict[str, Any]] = []
    for message in messages:
        role = "system" if message.role == "developer" and not dialect.developer else message.role
        variable: dict[str, Any] = {"role": role, "content": _content(message.content)}
        if message.tool_calls:
            if not message.content and dialect.null_content:
                variable["content"] = None
            variable["tool_calls"] = [_call(call, message.path, dialect) for call in message.tool_calls]
            names |= {call.id: _text(call.name) for call in message.tool_calls}
        if message.tool_call_id is not None:
            variable["tool_call_id"] = _id(message.tool_call_id, message.path, dialect)
            if message.tool_call_id in names:  # OpenAI's API has no name here, and some templates print it
                variable["name"] = names[message.tool_call_id]
        given.append(variable)
    return given


def _content(texts: tuple[Text, ...]) -> str:
    return _text(texts[0]) if len(texts) == 1 else joined(map(_text, texts))


def _text(text: Text) -> str:
    return Traced.whole(text.text, text.path)


def _call(call: ToolCall, path: str, dialect: Dialect) -> dict[str, Any]:
    arguments: Any = _text(call.arguments)
    if dialect.parsed_arguments:
        with suppress(ValueError, RecursionError):  # a model may have written anything, which then stays text
            arguments = traced(json.loads(call.arguments.text), call.arguments.path)
    function = {"name": _text(call.name), "arguments": arguments}
    return {"id": _id(call.id, path, dialect), "type": "function", "function": function}


def _id(given: str, path: str, dialect: Dialect) -> str:
    if dialect.short_ids and not (len(given) == 9 and given.isalnum()):
        given = hashlib.blake2b(given.encode(), digest_size=5).hexdigest()[:9]
    return Traced.whole(given, path)
