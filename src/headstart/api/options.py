"""Options that both endpoints have, from their wire form to the vocabulary of `headstart.types`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from headstart.api import decoding, problems, refusals
from headstart.api.wire import chat, fields, responses
from headstart.errors import InvalidRequest
from headstart.types import OutputFormat, Tool

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
    tools = []
    for number, raw in enumerate(wire or ()):
        at = f"tools[{number}]"
        _check_kind(raw, at)
        decoding.decode(raw, fields.FunctionTool, at)
        function = decoding.tree(raw, at)
        del function["type"]
        tools.append(Tool({"type": "function", "function": function}, at))
    return tuple(tools)


def chat_tools(wire: Sequence[msgspec.Raw] | None) -> tuple[Tool, ...]:
    """Tools as Chat Completions has them: `{"type": "function", "function": {"name": …, "parameters": …}}`."""
    tools = []
    for number, raw in enumerate(wire or ()):
        at = f"tools[{number}]"
        _check_kind(raw, at)
        decoding.decode(raw, chat.Tool, at)
        tools.append(Tool(decoding.tree(raw, at), at))
    return tuple(tools)


def _check_kind(raw: msgspec.Raw, at: str) -> None:
    kind = decoding.decode(raw, fields.Kind, at).type
    if kind is None:
        raise problems.missing(f"{at}.type")
    if kind != "function":
        raise refusals.refused(f"A tool of type '{kind[:64]}'", f"{at}.type", "Use 'function' and run it yourself.")


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
