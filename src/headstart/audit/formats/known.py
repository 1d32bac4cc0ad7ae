"""The formats that logs come in, by name, in the order in which a line is tried for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from headstart.audit.call import OTHER_SHAPE, Call, Skipped
from headstart.audit.formats import exports, openai, spans


class Format(Protocol):
    """Reads the lines of one format."""

    def __call__(self, line: dict[str, Any], number: int, /) -> Iterator[Call]:
        """The requests of a line, none if it isn't of this format. Raises `ValueError`, in a sentence, if it is of this
        format and can't be audited."""
        ...


class Known(NamedTuple):
    """A format and what it is called in `--help`."""

    read: Format
    about: str


FORMATS: Mapping[str, Known] = {
    "headstart": Known(openai.capture, "headstart serve --capture"),
    "otel": Known(spans.otel, "OpenTelemetry GenAI spans"),
    "litellm": Known(exports.litellm, "LiteLLM's standard logging payload"),
    "langfuse": Known(exports.langfuse, "Langfuse's observations"),
    "openai-batch": Known(openai.batch, "OpenAI batch input"),
    "openai": Known(openai.bodies, "OpenAI bodies, alone or as request beside response"),
    "anthropic": Known(openai.messages, "Anthropic Messages bodies, likewise"),
}


def calls_of(line: Any, number: int, format: str | None) -> Iterator[Call | Skipped]:
    """The requests of one JSON value."""
    if not isinstance(line, dict):
        yield Skipped(number, "It is no JSON object.")
        return
    names = [format] if format is not None else list(FORMATS)
    try:
        for name in names:
            found = list(FORMATS[name].read(line, number))
            if found:
                yield from found
                return
    except ValueError as error:
        yield Skipped(number, str(error))
        return
    except OTHER_SHAPE as error:
        yield Skipped(number, f"It isn't of the shape that its format has ({type(error).__name__}).")
        return
    what = "a request" if format is None else f"a line of the format '{format}'"
    keys = ", ".join(repr(str(key)[:20]) for key in list(line)[:5])
    yield Skipped(number, f"It is not {what}: it has {keys or 'nothing'}, and no messages or input.")
