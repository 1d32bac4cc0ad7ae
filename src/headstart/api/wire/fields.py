"""Fields that both endpoints have, with the bounds OpenAI gives them.

`X | None` everywhere: OpenAI takes an explicit null for "not given", and its SDKs send one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

PROMPT_CACHE_KEY_CHARACTERS = 64
"""docs/contract.md, both generations."""

ModelName = Annotated[str, Meta(max_length=256)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
TopLogprobs = Annotated[int, Meta(ge=0, le=20)]
MaxTokens = Annotated[int, Meta(ge=1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
CacheKey = Annotated[str, Meta(max_length=PROMPT_CACHE_KEY_CHARACTERS)]
SafetyIdentifier = Annotated[str, Meta(max_length=128)]
FunctionName = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$")]

Retention = Literal["in_memory", "24h"]
Ttl = Literal["30m", "12h"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Verbosity = Literal["low", "medium", "high"]
ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]


class PromptCacheBreakpoint(msgspec.Struct, forbid_unknown_fields=True):
    """A content block's mark: a reusable prefix ends with it. Without `ttl` it has the request's."""

    mode: Literal["explicit"]
    ttl: Ttl | None = None


class PromptCacheOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`prompt_cache_options`, of breakpoint models alone (docs/contract.md)."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Ttl | None = None


class FunctionTool(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A function's definition: flat in Responses (`tools[0]`), inside `function` in Chat Completions.

    Only checked: what is rendered is the client's own object, since the order of its keys is part of the prefix.
    """

    name: FunctionName
    type: Literal["function"] = "function"
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    output_schema: dict[str, Any] | None = None
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    asynchronous: bool | None = msgspec.field(default=None, name="async")


ToolMode = Literal["none", "auto", "required"]
AllowedMode = Literal["auto", "required"]


class TextFormat(msgspec.Struct, tag="text", forbid_unknown_fields=True):
    """Plain text."""


class JsonObjectFormat(msgspec.Struct, tag="json_object", forbid_unknown_fields=True):
    """Any JSON object."""


class JsonSchema(msgspec.Struct, forbid_unknown_fields=True):
    """A schema and its name."""

    name: FunctionName
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class Kind(msgspec.Struct):
    """The `type` of an input item or a tool, read before the rest. Messages may leave it out."""

    type: str | None = None
