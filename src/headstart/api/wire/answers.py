"""What the server answers, as far as clients may rely on it; an answer may hold more.

For `/openapi.json`, and for the tests, which decode real answers as these. Answers are made as dictionaries
(`api.responses_output`, `api.chat_output`), since most of a Response echoes its request.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from headstart.types import Cause, Fate, Generation, Mode, Reason, Ttl


class ErrorDetail(msgspec.Struct, kw_only=True):
    """What was wrong, and in `param` the JSON path where."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(msgspec.Struct):
    """Every answer that isn't a success."""

    error: ErrorDetail


# ------------------------------------------------------------------------------------------------ the Responses API


class CacheWriteDetails(msgspec.Struct):
    """Tokens newly saved, by their least life."""

    ttl_30m_tokens: int
    ttl_12h_tokens: int


class InputTokensDetails(msgspec.Struct):
    """Of the input tokens, those read from the cache and those newly saved."""

    cached_tokens: int
    cache_write_tokens: int
    cache_write_tokens_details: CacheWriteDetails


class OutputTokensDetails(msgspec.Struct):
    """Of the output tokens, those of reasoning."""

    reasoning_tokens: int


class ResponseUsage(msgspec.Struct):
    """Tokens of one response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class OutputTextPart(msgspec.Struct, tag="output_text"):
    """Text that the model wrote."""

    text: str
    annotations: list[Any]


class OutputMessage(msgspec.Struct, tag="message"):
    """What the model said."""

    id: str
    role: Literal["assistant"]
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputTextPart]


class OutputFunctionCall(msgspec.Struct, tag="function_call"):
    """A function that the model calls; `arguments` is JSON text."""

    id: str
    call_id: str
    name: str
    arguments: str


class ResponseFailure(msgspec.Struct):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(msgspec.Struct):
    """Why a response ended early."""

    reason: str


class AppliedCacheOptions(msgspec.Struct):
    """`prompt_cache_options` of a breakpoint model, as they were applied."""

    mode: Mode
    ttl: Ttl
    comparison_response_id: str | None


class CacheHit(msgspec.Struct, tag_field="type", tag="cache_hit"):
    """All that the compared response had left was read."""


class CacheMiss(msgspec.Struct, tag_field="type", tag="cache_miss"):
    """Of the tokens that the compared response had left, some were not read."""

    reason: Reason
    cache_missed_tokens: int
    comparison_reusable_tokens: int


class ComparisonNotFound(msgspec.Struct, tag_field="type", tag="comparison_response_not_found"):
    """Nothing is remembered of the response that was to be compared."""


class Unavailable(msgspec.Struct, tag_field="type", tag="unavailable"):
    """The comparison gives no clear answer."""


class Response(msgspec.Struct, kw_only=True):
    """An answer of the Responses API, with its options as they were applied."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[OutputMessage | OutputFunctionCall]
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    prompt_cache_key: str | None
    prompt_cache_retention: str | None
    prompt_cache_options: AppliedCacheOptions | None
    prompt_cache_diagnostics: CacheHit | CacheMiss | ComparisonNotFound | Unavailable | None
    usage: ResponseUsage | None
    metadata: dict[str, str]


class InputTokens(msgspec.Struct):
    """How many input tokens a request would have."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class Deleted(msgspec.Struct):
    """A stored response that was forgotten."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(msgspec.Struct):
    """A page of what a response was given, with all that it went on from."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Cost(msgspec.Struct):
    """What a request cost, and would have cost without a cache: dollars, exactly."""

    dollars: str
    without_cache: str


class CachedFrom(msgspec.Struct):
    """Where the tokens that were read came from, and whether the request waited for one that computed them."""

    context: int
    ram: int
    disk: int
    waited: bool


class RefusedWrite(msgspec.Struct):
    """What was not promised of what was to be written, in tokens."""

    reason: str
    tokens: int
    remedy: str


class Miss(msgspec.Struct):
    """Why not more was read, of how many tokens, and what would help."""

    cause: Cause
    tokens: int
    remedy: str | None


class Range(msgspec.Struct):
    """Boundaries of an interval model: every `step` tokens from `first` to `last`."""

    first: int
    last: int
    step: int


class Boundaries(msgspec.Struct):
    """Where a prefix was looked up, and where it was saved or found saved."""

    looked_up: Range | list[int]
    saved: Range | list[int]


class LostEntry(msgspec.Struct):
    """The longest entry that was looked up and is no longer there, and what became of it."""

    boundary: int
    fate: Fate


class Nearest(msgspec.Struct):
    """The earlier response whose prompt is nearest; both begin with the same `common_tokens`."""

    response_id: str
    common_tokens: int


class Span(msgspec.Struct):
    """Characters of a value, from `start` to before `stop`."""

    start: int
    stop: int


class PartingPlace(msgspec.Struct):
    """Where the prompt parts from the nearest one: after `token` tokens, at a character of the value at a JSON path,
    and what kind of value stands there. `text` quotes it, if the operator lets it."""

    token: int
    path: str | None
    offset: int
    kind: str | None
    value: Span | None
    text: str | None


class CacheExplanation(msgspec.Struct, kw_only=True):
    """What became of a prompt in the cache; counts are tokens."""

    object: Literal["response.cache"]
    response_id: str
    created_at: int
    model: str
    generation: Generation
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    cost: Cost | None
    """Null until the answer has ended, and for a model without a price."""
    cached_from: CachedFrom
    write_refused: RefusedWrite | None
    boundaries: Boundaries
    lost: LostEntry | None
    miss: Miss | None
    nearest: Nearest | None
    parting: PartingPlace | None


# ------------------------------------------------------------------------------------------------ Chat Completions


class PromptTokensDetails(msgspec.Struct):
    """Of the prompt's tokens, those read from the cache and those newly saved."""

    cached_tokens: int
    cache_write_tokens: int


class ChatUsage(msgspec.Struct):
    """Tokens of one completion."""

    prompt_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens: int
    total_tokens: int


class ChatMessage(msgspec.Struct):
    """What the model said or calls."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[Any] | None = None


class Choice(msgspec.Struct):
    """The one choice."""

    index: int
    message: ChatMessage
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(msgspec.Struct, kw_only=True):
    """An answer of Chat Completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage


# ------------------------------------------------------------------------------------------------ what is served


class Model(msgspec.Struct):
    """A model's name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(msgspec.Struct):
    """Every model."""

    object: Literal["list"]
    data: list[Model]


class Health(msgspec.Struct):
    """That the server answers. Who may use it is told more: its version, models and engines."""

    status: Literal["ok"]


class Document(msgspec.Struct):
    """This document."""

    openapi: str
    paths: dict[str, Any]
