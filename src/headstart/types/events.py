"""What an engine says, and what becomes of its output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from headstart.types.base import Fate
from headstart.types.plan import Plan, Written


class Lost(NamedTuple):
    """An entry that a prompt looked for and that is no longer there: its boundary in tokens, and what became of it."""

    boundary: int
    fate: Fate


class CacheReport(NamedTuple):
    """What physically happened to one prompt, in tokens.

    `read` were taken from an entry (`cached_tokens`); of them `from_context` shared cells, and `from_ram` and
    `from_disk` were brought back. `prefilled` were computed. `refused`: of what was to be written, what isn't promised.
    `waited`: for another request that was prefilling the same prefix. `lost`: the longest entry beyond `read` that once
    was there.
    """

    read: int = 0
    written: Written = Written()
    prefilled: int = 0
    from_context: int = 0
    from_ram: int = 0
    from_disk: int = 0
    refused: int = 0
    waited: bool = False
    lost: Lost | None = None


class Tally(NamedTuple):
    """How much an index holds: blocks known, of them in RAM and on disk, and bytes there; bytes promised, of as many
    that can be, and of them those that memory alone keeps; and blocks promised, or reserved for a promise.

    Then entries that went so far, each counted once: `evicted` for others, or because there was no room for it from the
    start; `expired`; `lost` by a fault, of the disk or of computing; `cleared` by the operator."""

    blocks: int
    stored: int
    stored_bytes: int
    on_disk: int
    disk_bytes: int
    disk_budget: int
    promised_bytes: int
    promised_budget: int
    unsafe_bytes: int
    promised_blocks: int
    evicted: int
    expired: int
    lost: int
    cleared: int


class Drops(NamedTuple):
    """Blocks whose bytes are no longer counted: to be freed in RAM, and to be removed from disk."""

    ram: list[bytes]
    disk: list[bytes]


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
    """The prompt is in the context; the first output token follows. The report is that of its place: who had to give it
    up in between is served again, and what was read is not computed at the client's cost."""

    report: CacheReport


@dataclass(frozen=True, slots=True)
class Delta:
    """More output. `text` may be empty while a character or a possible stop string is incomplete."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. `output_tokens` counts every one computed, the end-of-turn token and a stop string's included.

    `seconds` is the request's share of the time that the engine computed: a batch's time is divided by its tokens, a
    prompt's that had to be computed again included. `saved_seconds` is what the tokens that were read would have taken,
    at the pace of the engine's prefill so far. Both are measured, and so no part of what is compared.
    """

    reason: Literal["stop", "length"]
    output_tokens: int
    seconds: float = field(default=0.0, compare=False)
    saved_seconds: float = field(default=0.0, compare=False)


Event = Placed | Started | Delta | Finished


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
    cacheable: bool = True
    """Whether the state of a prefix can be saved and used again."""
    cuttable: bool = True
    """Whether that can be cut into blocks."""

    usual_output: int = 2_048
    """Output tokens at most of a request that names no limit."""

    def most_output(self, input: int, asked: int | None) -> int:
        """Output tokens at most of a request with so many input tokens, which asks for so many."""
        return max(min(self.usual_output if asked is None else asked, self.context_length - input), 0)

    def kept(self, plan: Plan) -> Plan:
        """The plan as far as this model can follow it."""
        if not self.cacheable:
            return plan.uncached()
        return plan if self.cuttable or plan.whole else plan.in_whole()
