"""The vocabulary that the stages share. Imports nothing of ours; every stage imports it.

Data goes down once and comes back once:

    Request --prompt--> Prompt --cache.policy--> Plan --engine--> Placed, Started, Delta..., Finished
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]
"""Token ids of a prompt or a part of one, shape (n,)."""

BLOCK_TOKENS = 128
"""Tokens of one physical block; also the step of an interval model's boundaries (docs/contract.md, interval models)."""

LONG = 12 * 3600.0
"""Seconds from which on an entry's life counts as 12 hours."""

MINIMUM_PREFIX = 1024
"""Tokens under which nothing is read or written (docs/contract.md, both generations)."""

Generation = Literal["interval", "breakpoint"]
Retention = Literal["in_memory", "24h"]
Ttl = Literal["30m", "12h"]
Mode = Literal["implicit", "explicit"]
Role = Literal["system", "developer", "user", "assistant", "tool"]
Fate = Literal["expired", "evicted", "refused"]
"""What became of an entry: its time was up, its blocks had to go for others, or there never was room to keep it."""


# ------------------------------------------------------------------------------------------------ what a client asks


class Breakpoint(NamedTuple):
    """A content block's `prompt_cache_breakpoint`; its `ttl` wins over the request's."""

    ttl: Ttl | None = None


class Text(NamedTuple):
    """One piece of a client's text and the JSON path where it stands in the request, as `input[0].content[1].text`."""

    text: str
    path: str
    breakpoint: Breakpoint | None = None


class ToolCall(NamedTuple):
    """A call that an assistant message made: `arguments` is the JSON text, as the API has it."""

    id: str
    name: Text
    arguments: Text


@dataclass(frozen=True, slots=True)
class Message:
    """One message in the order of the rendered prompt. `path` names the whole message, as `messages[3]`."""

    role: Role
    content: tuple[Text, ...]
    path: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call. `definition` is what a template renders: `{"type": "function", "function": {…}}`,
    keys in the client's order, since their order is part of the prefix. `schema_path` is where its `parameters` stand
    in the request, as `tools[0].function.parameters`."""

    definition: Mapping[str, Any]
    path: str
    schema_path: str = ""


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


class CallSyntax(NamedTuple):
    """How a family of models writes calls of functions:

        opener start  { before name middle arguments after }  joint { … }  closer

    `joint` None: the model makes one call per answer. `bare`: at the beginning of an answer calls need no `opener`.
    `markers` are texts that may be control tokens of the vocabulary, which elsewhere are not shown.
    """

    opener: str
    before: str
    middle: str
    after: str
    joint: str | None
    start: str = ""
    closer: str = ""
    bare: bool = False
    markers: tuple[str, ...] = ()

    def written(self, calls: Iterable[tuple[str, str]]) -> str:
        """Calls, each a name and the JSON text of its arguments, as a model of the family writes them."""
        made = [f"{self.before}{name}{self.middle}{arguments}{self.after}" for name, arguments in calls]
        return ("" if self.bare else self.opener) + self.start + (self.joint or "").join(made) + self.closer


class Function(NamedTuple):
    """A function that may be called. `parameters` is its JSON schema, at `path` in the request; None: no arguments."""

    name: str
    parameters: Mapping[str, Any] | None
    strict: bool
    path: str


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls that an answer may have, or has to be (`required`). `several`: more than one."""

    syntax: CallSyntax
    functions: tuple[Function, ...]
    required: bool = False
    several: bool = True


@dataclass(frozen=True, slots=True)
class Sampling:
    """How output tokens are chosen. `temperature` 0 is greedy. `max_tokens` None: up to the model's own default; 0:
    none are, the prompt is only prefilled.

    `logprobs` None: not asked for; n: the chosen token's and the n most likely ones' (0 to 20). `calls` None: the
    output is text, whatever it looks like.
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
    calls: Calls | None = None


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """What the client said about caching; None: the model's defaults. `path` names the options' object, if there was
    one. `comparison`: the response that `prompt_cache_diagnostics` shall compare with."""

    key: str | None = None
    retention: Retention | None = None
    mode: Mode | None = None
    ttl: Ttl | None = None
    prewarm: bool = False
    comparison: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether functions may or have to be called, and which (None: any). `single`: exactly one call, as when a client
    names the function. Never part of the prefix."""

    mode: Literal["auto", "none", "required"] = "auto"
    names: tuple[str, ...] | None = None
    single: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request of either endpoint, in one shape."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
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


class Ending(NamedTuple):
    """A message's content ends after `stop` tokens of the prompt; 0 if the template printed nothing of it."""

    role: Role
    stop: int


class Mark(NamedTuple):
    """A block with an explicit breakpoint ends after `stop` tokens of the prompt."""

    stop: int
    ttl: Ttl | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A rendered request. `segments` cover `tokens` in order without gaps. `settings` is a canonical string of the
    settings that are part of the prefix whether or not the model's template renders them ("" for the defaults).
    `endings` has one of every message, in their order; `marks` those blocks that the template printed."""

    tokens: TokenIds
    segments: tuple[Segment, ...]
    settings: str = ""
    endings: tuple[Ending, ...] = ()
    marks: tuple[Mark, ...] = ()


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
    total: float = math.inf


class Written(NamedTuple):
    """Tokens newly saved beyond those that were read; `long` of them for 12 hours. A token that several new entries
    hold counts for the longest of their lives."""

    tokens: int = 0
    long: int = 0


class Plan(NamedTuple):
    """What the rules say of one prompt.

    `blocks[i]` is the chained digest of tokens [0, (i + 1) * BLOCK_TOKENS): equal digests mean equal prefixes in one
    namespace. `reads` and `writes` are boundaries in tokens, ascending; `tails` has the digests of those that don't end
    with a block. `lives` are those of writes that differ from `lifetime`. Boundaries are multiples of `step`.

        tokens    0 ........ 1024 ........ 1152 .... 1200 ....... 1280
        blocks    [ 8 blocks ][     [8]     ][       [9]          ]
        tails                                [ tail ]               a boundary at 1,200, whose parent is block 8
    """

    length: int
    blocks: tuple[bytes, ...]
    reads: Sequence[int]
    writes: Sequence[int]
    lifetime: Lifetime
    tails: Mapping[int, bytes] = MappingProxyType({})
    lives: Mapping[int, Lifetime] = MappingProxyType({})
    step: int = BLOCK_TOKENS

    def digest(self, boundary: int) -> bytes:
        """The name of the prefix that ends at a boundary of `reads` or `writes`."""
        return self.blocks[boundary // BLOCK_TOKENS - 1] if boundary % BLOCK_TOKENS == 0 else self.tails[boundary]

    def life(self, boundary: int) -> Lifetime:
        """How long the entry that is written there is kept."""
        return self.lives.get(boundary, self.lifetime)

    @property
    def end(self) -> int:
        """Tokens behind which nothing can be reused. A boundary that was rounded down hides less than a step."""
        return min(self.reads[-1] + self.step - 1, self.length) if self.reads else 0

    def written(self, read: int) -> Written:
        """What is newly saved when `read` is the longest boundary whose entry lives."""
        longest = max(*self.writes[-1:], read, 0)
        if self.lives:
            new = (boundary for boundary in self.writes if boundary > read and self.life(boundary).idle >= LONG)
            return Written(longest - read, max(new, default=read) - read)
        return Written(longest - read, longest - read if self.lifetime.idle >= LONG else 0)


# ------------------------------------------------------------------------------------------------ what an engine says


class Lost(NamedTuple):
    """An entry that a prompt looked for and that is no longer there: its boundary in tokens, and what became of it."""

    boundary: int
    fate: Fate


class CacheReport(NamedTuple):
    """What physically happened to one prompt, in tokens.

    `read` were taken from an entry (`cached_tokens`); of them `from_context` shared cells and `from_ram` were brought
    back. `prefilled` were computed. `waited`: for another request that was prefilling the same prefix. `lost`: the
    longest entry beyond `read` that once was there.
    """

    read: int = 0
    written: Written = Written()
    prefilled: int = 0
    from_context: int = 0
    from_ram: int = 0
    waited: bool = False
    lost: Lost | None = None


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
class Placed:
    """The prompt has its place, and what is read of it is decided; the rest will now be prefilled. Comes first."""

    report: CacheReport


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt is in the context; the first output token follows. Its report is the final one: who had to give up its
    place in between may have read less."""

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


Event = Placed | Started | Delta | Finished


# ------------------------------------------------------------------------------------------------ why not more was read


Cause = Literal[
    "below_minimum",
    "first_request",
    "prefix_changed",
    "expired",
    "evicted",
    "refused",
    "different_key",
    "boundary_not_marked",
]
"""Why a prompt's prefix was not read, or not as much of it as another request had left."""


class Parting(NamedTuple):
    """Where a prompt parts from an earlier one: after `token` tokens, at character `offset` of the value at `path`,
    where a value of some `kind` stands in characters [start, stop). `path` is None behind the last of a client's text.
    `text` is what stands around there, if the operator lets it be kept."""

    token: int
    path: str | None = None
    offset: int = 0
    kind: str | None = None
    start: int = 0
    stop: int = 0
    text: str | None = None


class Explanation(NamedTuple):
    """What became of a prompt in the cache, and why it was not more.

    `cause` None: what could be read was read. `missed`: tokens that another request had left, or shares, and that were
    not read. `nearest`: the earlier response whose prompt is nearest; both begin with the same `shared` tokens.
    """

    cause: Cause | None
    remedy: str | None
    report: CacheReport
    missed: int = 0
    nearest: str | None = None
    shared: int = 0
    parting: Parting | None = None


Reason = Literal[
    "model_changed",
    "service_tier_changed",
    "prompt_cache_key_changed",
    "reasoning_effort_changed",
    "verbosity_changed",
    "text_format_changed",
    "tools_changed",
    "context_compacted",
    "input_changed",
]


class Comparison(NamedTuple):
    """OpenAI's `prompt_cache_diagnostics`. A miss has the reason and both counts, in tokens."""

    type: Literal["cache_hit", "cache_miss", "comparison_response_not_found", "unavailable"]
    reason: Reason | None = None
    cache_missed_tokens: int = 0
    comparison_reusable_tokens: int = 0


# ------------------------------------------------------------------------------------------------ what an answer holds


class CallBegun(NamedTuple):
    """The model calls a function; the JSON text of its arguments follows."""

    name: str


class CallArguments(NamedTuple):
    """More of the arguments."""

    text: str


class CallEnded(NamedTuple):
    """The call is over; not `complete` if the answer ended within it."""

    complete: bool = True


OutputPart = str | CallBegun | CallArguments | CallEnded
"""A piece of an answer: text, or a part of a call."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an engine tells about the model it runs."""

    context_length: int
    """Tokens of prompt and output together that one request may have."""
    vocabulary_size: int
    description: str
    """For people, as `llama 0.1B Q8_0, 134 MB`."""
