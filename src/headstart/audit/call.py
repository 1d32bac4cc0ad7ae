"""One request of a log, whatever format it came in."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from headstart.types import Generation

Api = Literal["responses", "chat", "messages"]
"""Whose body it is: OpenAI's Responses or Chat Completions, or Anthropic's Messages."""


class Observed(NamedTuple):
    """Tokens, as the provider's answer counted them; `input` has all of the prompt's."""

    input: int
    cached: int = 0
    written_30m: int = 0
    written_12h: int = 0
    output: int = 0


class Call(NamedTuple):
    """A request.

    Args:
        line: where it stands in its file, from 1 on.
        api: how `body` is to be read.
        body: as the client sent it, keys in its order.
        time: when it was sent, Unix time in seconds; None if the log doesn't say.
        usage: None if the log has no answer.
        answer: the output's text, or a digest of it; None if the log doesn't have it.
        organisation: who sent it; nothing is shared between organisations.
        generation: the rules that it was served under, where the log says.
    """

    line: int
    api: Api
    body: dict[str, Any]
    time: float | None = None
    usage: Observed | None = None
    answer: str | None = None
    organisation: str = ""
    generation: Generation | None = None

    @property
    def model(self) -> str:
        """The model's name, without a provider in front of it."""
        return str(self.body.get("model") or "").rpartition("/")[2]


OTHER_SHAPE = (TypeError, AttributeError, LookupError, OverflowError)
"""What a value raises that isn't of the shape that its format has: logs are other people's."""


class Skipped(NamedTuple):
    """A line that is not audited, from 1 on, and why."""

    line: int
    reason: str
