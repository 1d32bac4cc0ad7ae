"""What a client asks, in one shape for both endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from headstart.types.base import Mode, Retention, Role, Ttl


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

    def text_at(self, path: str) -> str:
        """The text of a message's content at this JSON path; empty for any other value."""
        texts = (text for message in self.messages for text in message.content)
        return next((text.text for text in texts if text.path == path), "")
