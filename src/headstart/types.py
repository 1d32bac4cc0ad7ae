"""The vocabulary that the stages share. Imports nothing of ours; every stage imports it.

Data goes down once and comes back once:

    Request --prompt--> Prompt --cache.policy--> Plan --engine--> Started, Delta..., Finished
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]
"""Token ids of a prompt or a part of one, shape (n,)."""

BLOCK_TOKENS = 128
"""Tokens of one physical block; also the step of an interval model's boundaries (docs/contract.md, interval models)."""

MINIMUM_PREFIX = 1024
"""Tokens under which nothing is read or written (docs/contract.md, both generations)."""

Generation = Literal["interval", "breakpoint"]
Retention = Literal["in_memory", "24h"]


# ------------------------------------------------------------------------------------------------ what a client asks


class Text(NamedTuple):
    """One piece of a client's text and the JSON path where it stands in the request, as `input[0].content[1].text`."""

    text: str
    path: str


class ToolCall(NamedTuple):
    """A call that an assistant message made: `arguments` is the JSON text, as the API has it."""

    id: str
    name: Text
    arguments: Text


@dataclass(frozen=True, slots=True)
class Message:
    """One message in the order of the rendered prompt. `path` names the whole message, as `messages[3]`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: tuple[Text, ...]
    path: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call. `definition` is what a template renders: `{"type": "function", "function": {…}}`,
    keys in the client's order, since their order is part of the prefix."""

    definition: Mapping[str, Any]
    path: str


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """`text.format` or `response_format`: `text`, any JSON object, or JSON of a schema."""

    kind: Literal["text", "json_object", "json_schema"] = "text"
    schema: Mapping[str, Any] | None = None
    name: str | None = None
    path: str = "text.format"


@dataclass(frozen=True, slots=True)
class PromptSettings:
    """Settings that are part of the prefix beside the messages (docs/contract.md, both generations)."""

    parallel_tool_calls: bool = True
    format: OutputFormat = field(default_factory=OutputFormat)
    reasoning_effort: str | None = None
    verbosity: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How output tokens are chosen. `temperature` 0 is greedy. `max_tokens` None: up to the model's own default.

    `logprobs` None: not asked for; n: the chosen token's and the n most likely ones' (0 to 20).
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    format: OutputFormat = field(default_factory=OutputFormat)


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """What the client said about caching. Both None: the model's defaults."""

    key: str | None = None
    retention: Retention | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request of either endpoint, in one shape."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    settings: PromptSettings = field(default_factory=PromptSettings)
    sampling: Sampling = field(default_factory=Sampling)
    cache: CacheOptions = field(default_factory=CacheOptions)


# ------------------------------------------------------------------------------------------------ what is rendered


class Segment(NamedTuple):
    """Tokens [start, stop) of a prompt came from the value at `path` (empty: the template's own text), beginning with
    its character `offset`."""

    start: int
    stop: int
    path: str
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A rendered request. `segments` cover `tokens` in order without gaps. `settings` is a canonical string of the
    settings that are part of the prefix whether or not the model's template renders them ("" for the defaults)."""

    tokens: TokenIds
    segments: tuple[Segment, ...]
    settings: str = ""


# ------------------------------------------------------------------------------------------------ what the cache plans


class Namespace(NamedTuple):
    """Nothing is shared across namespaces (docs/contract.md, Words)."""

    organisation: str
    model: str
    generation: Generation
    key: str | None


class Lifetime(NamedTuple):
    """How long an entry is kept, in seconds: `idle` after its last write or reuse, never `total` after its write."""

    idle: float
    total: float


class Plan(NamedTuple):
    """What the rules say of one prompt.

    `blocks[i]` is the chained digest of tokens [0, (i + 1) * BLOCK_TOKENS): equal digests mean equal prefixes in one
    namespace. `reads` and `writes` are boundaries in tokens, ascending.
    """

    length: int
    blocks: tuple[bytes, ...]
    reads: Sequence[int]
    writes: Sequence[int]
    lifetime: Lifetime


# ------------------------------------------------------------------------------------------------ what an engine says


class CacheReport(NamedTuple):
    """What physically happened to one prompt, in tokens.

    `read` were taken from an entry (`cached_tokens`); of them `from_context` shared cells and `from_ram` were brought
    back. `prefilled` were computed. `waited`: for another request that was prefilling the same prefix.
    """

    read: int = 0
    written: int = 0
    prefilled: int = 0
    from_context: int = 0
    from_ram: int = 0
    waited: bool = False


class Tally(NamedTuple):
    """How much an index holds: blocks known, of them in RAM, their bytes; and blocks lost for want of room so far."""

    blocks: int
    stored: int
    stored_bytes: int
    evicted: int


class TokenLogprob(NamedTuple):
    """A token, its bytes (a token may be half a character), its natural log-probability, and its likeliest rivals."""

    token: str
    bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt is in the context; the first output token follows."""

    report: CacheReport


@dataclass(frozen=True, slots=True)
class Delta:
    """More output. `text` may be empty while a character or a possible stop string is incomplete."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. `output_tokens` counts every one computed, the end-of-turn token and a stop string's included."""

    reason: Literal["stop", "length"]
    output_tokens: int


Event = Started | Delta | Finished


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an engine tells about the model it runs."""

    context_length: int
    """Tokens of prompt and output together that one request may have."""
    vocabulary_size: int
    description: str
    """For people, as `llama 0.1B Q8_0, 134 MB`."""
