"""Options that both endpoints have, from their wire form to the vocabulary of `headstart.types`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from headstart.api import decoding, problems, refusals
from headstart.api.wire import chat, fields, responses
from headstart.errors import InvalidRequest
from headstart.types import Breakpoint, CacheOptions, OutputFormat, Tool, ToolChoice

METADATA_PAIRS, METADATA_KEY_CHARACTERS, METADATA_VALUE_CHARACTERS = 16, 64, 512
"""OpenAI's bounds of `metadata`."""

Format = fields.TextFormat | fields.JsonObjectFormat | responses.JsonSchemaFormat | chat.JsonSchemaFormat


def output_format(wire: Format | None, path: str) -> OutputFormat:
    """`text.format` or `response_format`."""
    match wire:
        case fields.JsonObjectFormat():
            return OutputFormat("json_object", path=path)
        case responses.JsonSchemaFormat():
            decoding.check_depth(wire.schema, f"{path}.schema")
            return OutputFormat("json_schema", wire.schema, wire.name, path)
        case chat.JsonSchemaFormat(json_schema=inner):
            decoding.check_depth(inner.schema, f"{path}.json_schema.schema")
            return OutputFormat("json_schema", inner.schema, inner.name, f"{path}.json_schema")
        case _:
            return OutputFormat(path=path)


def responses_tools(wire: Sequence[msgspec.Raw] | None) -> tuple[Tool, ...]:
    """Tools as the Responses API has them, flat: `{"type": "function", "name": …, "parameters": …}`."""
    tools, names = [], set[str]()
    for number, raw in enumerate(wire or ()):
        at = f"tools[{number}]"
        _check_kind(raw, at)
        known = decoding.decode(raw, fields.FunctionTool, at)
        function = decoding.tree(raw, at)
        del function["type"]
        _check_function(known, at, names)
        tools.append(Tool({"type": "function", "function": function}, at, f"{at}.parameters"))
    return tuple(tools)


def chat_tools(wire: Sequence[msgspec.Raw] | None) -> tuple[Tool, ...]:
    """Tools as Chat Completions has them: `{"type": "function", "function": {"name": …, "parameters": …}}`."""
    tools, names = [], set[str]()
    for number, raw in enumerate(wire or ()):
        at = f"tools[{number}]"
        _check_kind(raw, at)
        known = decoding.decode(raw, chat.Tool, at)
        _check_function(known.function, f"{at}.function", names)
        tools.append(Tool(decoding.tree(raw, at), at, f"{at}.function.parameters"))
    return tuple(tools)


def _check_kind(raw: msgspec.Raw, at: str) -> None:
    kind = decoding.decode(raw, fields.Kind, at).type
    if kind is None:
        raise problems.missing(f"{at}.type")
    if kind != "function":
        raise refusals.refused(f"A tool of type '{kind[:64]}'", f"{at}.type", "Use 'function' and run it yourself.")


def _check_function(function: fields.FunctionTool, at: str, names: set[str]) -> None:
    if function.name in names:
        raise InvalidRequest(
            f"Invalid '{at}.name': there are two functions of the name '{function.name}'. Names must be unique.",
            param=f"{at}.name",
            code="invalid_value",
        )
    names.add(function.name)
    kind = (function.parameters or {}).get("type", "object")
    if kind != "object":
        raise InvalidRequest(
            f"Invalid schema for function '{function.name}': schema must be a JSON Schema of 'type: \"object\"', got "
            f"'type: {msgspec.json.encode(kind).decode()[:64]}'.",
            param=f"{at}.parameters",
            code="invalid_function_parameters",
        )


def tool_choice(wire: responses.PromptBody | chat.ChatBody, tools: Sequence[Tool]) -> ToolChoice:
    """`tool_choice`, in either endpoint's shape. Raises `InvalidRequest` for functions that aren't among the tools."""
    match wire.tool_choice:
        case None:
            return ToolChoice()
        case responses.NamedFunction(name=name):
            choice, places = ToolChoice("required", (name,), single=True), ["name"]
        case chat.NamedFunction(function=function):
            choice, places = ToolChoice("required", (function.name,), single=True), ["function.name"]
        case responses.AllowedTools() as allowed:
            choice = ToolChoice(allowed.mode, tuple(tool.name for tool in allowed.tools))
            places = [f"tools[{number}].name" for number in range(len(allowed.tools))]
        case chat.AllowedTools(allowed_tools=functions):
            choice = ToolChoice(functions.mode, tuple(tool.function.name for tool in functions.tools))
            places = [f"allowed_tools.tools[{number}].function.name" for number in range(len(functions.tools))]
        case mode:
            choice, places = ToolChoice(mode), []
    if choice.mode == "required" and not tools:
        raise InvalidRequest(
            f"Tool choice '{'function' if choice.single else 'required'}' must be specified with 'tools' parameter.",
            param="tool_choice",
        )
    known = {tool.definition["function"]["name"] for tool in tools}
    for name, place in zip(choice.names or (), places, strict=True):
        if name not in known:
            raise InvalidRequest(
                f"Tool choice '{name[:64]}' not found in 'tools' parameter.", param=f"tool_choice.{place}"
            )
    return choice


def cache_options(body: responses.ResponsesBody | chat.ChatBody) -> CacheOptions:
    """What the client said about caching; the model's rules check it."""
    asked = body.prompt_cache_options
    if asked is None:
        return CacheOptions(body.prompt_cache_key, body.prompt_cache_retention)
    options = CacheOptions(
        body.prompt_cache_key, body.prompt_cache_retention, asked.mode, asked.ttl, path="prompt_cache_options"
    )
    if isinstance(asked, responses.PromptCacheOptions):
        options = replace(options, prewarm=bool(asked.prewarm), comparison=asked.comparison_response_id)
    return options


def breakpoint_of(wire: fields.PromptCacheBreakpoint | None) -> Breakpoint | None:
    """A content block's mark."""
    return None if wire is None else Breakpoint(wire.ttl)


def check_metadata(metadata: Mapping[str, str] | None) -> None:
    """Raise `InvalidRequest` beyond OpenAI's bounds."""
    if metadata is None:
        return
    if len(metadata) > METADATA_PAIRS:
        raise InvalidRequest(
            f"Invalid 'metadata': too many properties. Expected an object with at most {METADATA_PAIRS} properties, "
            f"but got an object with {len(metadata)} properties instead.",
            param="metadata",
            code="object_above_max_properties",
        )
    for key, value in metadata.items():
        for what, text, most, param, code in (
            ("property name", key, METADATA_KEY_CHARACTERS, "metadata", "property_name_above_max_length"),
            ("string", value, METADATA_VALUE_CHARACTERS, f"metadata.{key[:64]}", "string_above_max_length"),
        ):
            if len(text) > most:
                raise InvalidRequest(
                    f"Invalid '{param}': {what} too long. Expected a string with maximum length {most}, but got a "
                    f"string with length {len(text)} instead.",
                    param=param,
                    code=code,
                )


def check_stream_options(stream: bool | None, given: object) -> None:
    """`stream_options` means nothing without `stream`."""
    if given is not None and not stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
