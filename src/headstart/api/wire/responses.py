"""Bodies of `POST /v1/responses` and `POST /v1/responses/input_tokens`.

Items of `input` and `tools` stay raw JSON here: their `type`, which a message may leave out, says how to read them
(`api.responses_input`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headstart.api.wire import fields

Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class Reasoning(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`effort` is part of the prefix; the others shape reasoning items, which no model here makes."""

    effort: fields.Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: str | None = None


class JsonSchemaFormat(fields.JsonSchema, tag="json_schema", forbid_unknown_fields=True):
    """JSON of a schema, flat beside its `type`."""


class TextOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`text`: the output's format and verbosity."""

    format: fields.TextFormat | fields.JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: fields.Verbosity | None = None


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """Obfuscation (padding against a listener who measures chunks) is accepted and not added."""

    include_obfuscation: bool | None = None


class PromptCacheOptions(fields.PromptCacheOptions, forbid_unknown_fields=True, kw_only=True):
    """`prewarm` prefills and writes, and generates nothing. `comparison_response_id` asks for diagnostics."""

    prewarm: bool | None = None
    comparison_response_id: str | None = None


class NamedFunction(msgspec.Struct, tag="function", forbid_unknown_fields=True):
    """A `tool_choice` that has one function called."""

    name: str


class AllowedFunction(msgspec.Struct):
    """One of the functions that may be called."""

    name: str
    type: Literal["function"]


class AllowedTools(msgspec.Struct, tag="allowed_tools", forbid_unknown_fields=True):
    """A `tool_choice` that limits calls to some of the tools, without a change to the prompt."""

    mode: fields.AllowedMode
    tools: Annotated[list[AllowedFunction], Meta(min_length=1)]


class PromptBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What shapes the prompt. `refusals` says which of these get a 400, and what to send instead."""

    model: fields.ModelName | None = None
    input: str | list[msgspec.Raw] | None = None
    instructions: str | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: fields.ToolMode | NamedFunction | AllowedTools | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None
    conversation: Any = None
    previous_response_id: str | None = None


class InputTokensBody(PromptBody, forbid_unknown_fields=True, kw_only=True):
    """The body of `/v1/responses/input_tokens`."""

    personality: str | None = None


class ResponsesBody(PromptBody, forbid_unknown_fields=True, kw_only=True):
    """The body of `/v1/responses`: every field of the SDK's `ResponseCreateParams`."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: fields.MaxTokens | None = None
    temperature: fields.Temperature | None = None
    top_p: fields.TopP | None = None
    top_logprobs: fields.TopLogprobs | None = None
    include: list[Includable] | None = None
    prompt_cache_key: fields.CacheKey | None = None
    prompt_cache_retention: fields.Retention | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: fields.SafetyIdentifier | None = None
    service_tier: fields.ServiceTier | None = None
    store: bool | None = None
    max_tool_calls: fields.MaxTokens | None = None
    background: bool | None = None
    background_options: Any = None
    access_programs: Any = None
    context_management: list[Any] | None = None
    image: Any = None
    moderation: Any = None
    prompt: Any = None


# ------------------------------------------------------------------------------------------------ items of `input`


class InputText(msgspec.Struct, tag="input_text", forbid_unknown_fields=True, kw_only=True):
    """Text that the client sends."""

    text: str
    prompt_cache_breakpoint: fields.PromptCacheBreakpoint | None = None


class OutputText(msgspec.Struct, tag="output_text", forbid_unknown_fields=True, kw_only=True):
    """Text that a model wrote, sent back."""

    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class Refusal(msgspec.Struct, tag="refusal", forbid_unknown_fields=True):
    """A model's refusal, sent back."""

    refusal: str


class InputImage(msgspec.Struct, tag="input_image"):
    """Known, and refused: no model here sees."""


class InputFile(msgspec.Struct, tag="input_file"):
    """Known, and refused."""


class InputAudio(msgspec.Struct, tag="input_audio"):
    """Known, and refused."""


Part = InputText | OutputText | Refusal | InputImage | InputFile | InputAudio
Status = Literal["in_progress", "completed", "incomplete"]


class MessageItem(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A message, of either side."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    type: str | None = None
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A call that the model made in an earlier turn."""

    call_id: str
    name: str
    arguments: str
    type: str | None = None
    id: str | None = None
    status: Status | None = None
    namespace: str | None = None
    caller: Any = None
    asynchronous: bool | None = msgspec.field(default=None, name="async")


class FunctionCallOutputItem(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What the client's function answered."""

    call_id: str
    output: str | list[InputText | InputImage | InputFile]
    type: str | None = None
    id: str | None = None
    status: Status | None = None
    name: str | None = None
    namespace: str | None = None
    caller: Any = None
