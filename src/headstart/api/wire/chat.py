"""The body of `POST /v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headstart.api.wire import fields

Stop = Annotated[str, Meta(min_length=1, max_length=1024)]


class Text(msgspec.Struct, tag="text", forbid_unknown_fields=True, kw_only=True):
    """A part of text."""

    text: str
    prompt_cache_breakpoint: fields.PromptCacheBreakpoint | None = None


class Refusal(msgspec.Struct, tag="refusal", forbid_unknown_fields=True):
    """A model's refusal, sent back."""

    refusal: str


class ImageUrl(msgspec.Struct, tag="image_url"):
    """Known, and refused: no model here sees."""


class InputAudio(msgspec.Struct, tag="input_audio"):
    """Known, and refused."""


class File(msgspec.Struct, tag="file"):
    """Known, and refused."""


Part = Text | Refusal | ImageUrl | InputAudio | File


class CalledFunction(msgspec.Struct, forbid_unknown_fields=True):
    """The function that a model called, and the JSON text of its arguments, which the SDK also sends back parsed."""

    name: str
    arguments: str
    parsed_arguments: Any = None


class FunctionCall(msgspec.Struct, tag="function", forbid_unknown_fields=True):
    """One of an assistant message's `tool_calls`."""

    id: str
    function: CalledFunction


class CustomCall(msgspec.Struct, tag="custom"):
    """Known, and refused."""


class SystemMessage(msgspec.Struct, tag_field="role", tag="system", forbid_unknown_fields=True, kw_only=True):
    """Instructions."""

    content: str | list[Part]
    name: str | None = None


class DeveloperMessage(msgspec.Struct, tag_field="role", tag="developer", forbid_unknown_fields=True, kw_only=True):
    """Instructions, as newer models call them."""

    content: str | list[Part]
    name: str | None = None


class UserMessage(msgspec.Struct, tag_field="role", tag="user", forbid_unknown_fields=True, kw_only=True):
    """What the user says."""

    content: str | list[Part]
    name: str | None = None


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True, kw_only=True):
    """What a model said. `annotations`, `audio`, `function_call` and `parsed` come when a client sends an SDK's message
    back."""

    content: str | list[Part] | None = None
    tool_calls: list[FunctionCall | CustomCall] | None = None
    refusal: str | None = None
    name: str | None = None
    annotations: list[Any] | None = None
    audio: Any = None
    function_call: Any = None
    parsed: Any = None


class ToolMessage(msgspec.Struct, tag_field="role", tag="tool", forbid_unknown_fields=True, kw_only=True):
    """What the client's function answered."""

    content: str | list[Part]
    tool_call_id: str


class FunctionMessage(msgspec.Struct, tag_field="role", tag="function"):
    """Deprecated by OpenAI, and refused."""


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """A function tool; its definition is checked in `function`."""

    type: Literal["function"]
    function: fields.FunctionTool


class FunctionName(msgspec.Struct):
    """Which function."""

    name: str


class NamedFunction(msgspec.Struct, tag="function", forbid_unknown_fields=True):
    """A `tool_choice` that has one function called."""

    function: FunctionName


class AllowedFunction(msgspec.Struct):
    """One of the functions that may be called."""

    function: FunctionName
    type: Literal["function"]


class AllowedFunctions(msgspec.Struct, forbid_unknown_fields=True):
    """Which functions may be called, and whether one of them has to be."""

    mode: fields.AllowedMode
    tools: Annotated[list[AllowedFunction], Meta(min_length=1)]


class AllowedTools(msgspec.Struct, tag="allowed_tools", forbid_unknown_fields=True):
    """A `tool_choice` that limits calls to some of the tools, without a change to the prompt."""

    allowed_tools: AllowedFunctions


class JsonSchemaFormat(msgspec.Struct, tag="json_schema", forbid_unknown_fields=True):
    """JSON of a schema, one level down."""

    json_schema: fields.JsonSchema


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`include_usage` adds a last chunk with the usage. Obfuscation is accepted and not added."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Every field of the SDK's `CompletionCreateParams`. `refusals` says which get a 400, and what to send instead."""

    model: fields.ModelName
    messages: Annotated[list[Message], Meta(min_length=1)]
    tools: list[msgspec.Raw] | None = None
    tool_choice: fields.ToolMode | NamedFunction | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    response_format: fields.TextFormat | fields.JsonObjectFormat | JsonSchemaFormat | None = None
    reasoning_effort: fields.Effort | None = None
    verbosity: fields.Verbosity | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: fields.MaxTokens | None = None
    max_tokens: fields.MaxTokens | None = None
    temperature: fields.Temperature | None = None
    top_p: fields.TopP | None = None
    seed: fields.Seed | None = None
    frequency_penalty: fields.Penalty | None = None
    presence_penalty: fields.Penalty | None = None
    logit_bias: Annotated[dict[str, float], Meta(max_length=1024)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: fields.TopLogprobs | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    prompt_cache_key: fields.CacheKey | None = None
    prompt_cache_retention: fields.Retention | None = None
    prompt_cache_options: fields.PromptCacheOptions | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: fields.SafetyIdentifier | None = None
    service_tier: fields.ServiceTier | None = None
    store: bool | None = None
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    modalities: list[Literal["text", "audio"]] | None = None
    moderation: Any = None
    prediction: Any = None
    web_search_options: Any = None
