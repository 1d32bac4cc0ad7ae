"""The body of a Chat Completions request, as a `Request`."""

from __future__ import annotations

from collections.abc import Iterable

from headstart.api import options, problems, refusals
from headstart.api.wire import chat as wire
from headstart.errors import InvalidRequest
from headstart.types import Message, PromptSettings, Request, Sampling, Text, ToolCall

MAX_BIAS = 100
"""OpenAI's bound of a `logit_bias` value, either way."""
MAX_NAMED = 8
"""Ids of calls in one message of an error."""


def request_of(body: wire.ChatBody) -> Request:
    """A request to answer. Raises `InvalidRequest`."""
    refusals.check(body, refusals.CHAT)
    options.check_metadata(body.metadata)
    options.check_stream_options(body.stream, body.stream_options)
    tools = options.chat_tools(body.tools)
    settings = PromptSettings(
        parallel_tool_calls=body.parallel_tool_calls is not False,
        format=options.output_format(body.response_format, "response_format"),
        reasoning_effort=body.reasoning_effort,
        verbosity=body.verbosity,
    )
    sampling = Sampling(
        max_tokens=_max_tokens(body),
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=_logit_bias(body),
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        logprobs=_logprobs(body),
        format=settings.format,
    )
    return Request(
        model=body.model,
        messages=_messages(body.messages),
        tools=tools,
        tool_choice=options.tool_choice(body, tools),
        settings=settings,
        sampling=sampling,
        cache=options.cache_options(body),
    )


def check_vocabulary(bias: Iterable[tuple[int, float]], size: int) -> None:
    """Raise `InvalidRequest` if `logit_bias` names a token that a vocabulary of `size` tokens doesn't have."""
    for token, _ in bias:
        if token >= size:
            raise InvalidRequest(
                f"Invalid key in 'logit_bias': {token}. Maximum value is {size - 1}.",
                param="logit_bias",
                code="invalid_value",
            )


def _max_tokens(body: wire.ChatBody) -> int | None:
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidRequest(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            param="max_tokens",
            code="invalid_parameter_combination",
        )
    return body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens


def _logprobs(body: wire.ChatBody) -> int | None:
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest(
            "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", param="top_logprobs"
        )
    return body.top_logprobs or 0 if body.logprobs else None


def _logit_bias(body: wire.ChatBody) -> tuple[tuple[int, float], ...]:
    bias = []
    for key, value in (body.logit_bias or {}).items():
        if not (key.isascii() and key.isdigit() and len(key) <= 10):
            raise InvalidRequest(
                f"Invalid key in 'logit_bias': {key[:64]}. Keys are token ids: non-negative integers.",
                param="logit_bias",
                code="invalid_value",
            )
        if not -MAX_BIAS <= value <= MAX_BIAS:
            raise InvalidRequest(
                f"Invalid value in 'logit_bias': {value:g}. Values are between -{MAX_BIAS} and {MAX_BIAS}.",
                param=f"logit_bias.{key}",
                code="invalid_value",
            )
        bias.append((int(key), value))
    return tuple(bias)


def _messages(messages: Iterable[wire.Message]) -> tuple[Message, ...]:
    read: list[Message] = []
    calls = _OpenCalls("", ())
    for number, message in enumerate(messages):
        at = f"messages[{number}]"
        if not isinstance(message, wire.ToolMessage):
            calls.close()
            calls = _OpenCalls("", ())
        match message:
            case wire.FunctionMessage():
                raise refusals.refused("The role 'function'", f"{at}.role", "It is deprecated. Use 'tool'.")
            case wire.AssistantMessage():
                read.append(_assistant(message, at))
                calls = _OpenCalls(at, read[-1].tool_calls)
            case wire.ToolMessage():
                calls.answer(message.tool_call_id, at)
                content = _content(message.content, f"{at}.content")
                read.append(Message("tool", content, at, tool_call_id=message.tool_call_id))
            case wire.SystemMessage():
                read.append(Message("system", _content(message.content, f"{at}.content"), at))
            case wire.DeveloperMessage():
                read.append(Message("developer", _content(message.content, f"{at}.content"), at))
            case wire.UserMessage():
                read.append(Message("user", _content(message.content, f"{at}.content"), at))
    calls.close()
    return tuple(read)


class _OpenCalls:
    """The calls of the message at `at`: what answers them follows directly, in any order."""

    def __init__(self, at: str, calls: Iterable[ToolCall]) -> None:
        self._at = at
        self._answered: dict[str, bool] = {}
        for number, call in enumerate(calls):
            if call.id in self._answered:
                raise InvalidRequest(
                    f"Two tool calls of '{at}' have the id '{call.id[:64]}'. Each needs its own.",
                    param=f"{at}.tool_calls[{number}].id",
                    code="invalid_value",
                )
            self._answered[call.id] = False

    def answer(self, id: str, at: str) -> None:
        """The message at `at` answers the call `id`. Raises `InvalidRequest` if there is none."""
        if id not in self._answered:
            raise InvalidRequest(
                f"Invalid parameter: '{at}' with role 'tool' must be a response to a preceding message with "
                "'tool_calls' that holds its 'tool_call_id'.",
                param=f"{at}.tool_call_id",
            )
        self._answered[id] = True

    def close(self) -> None:
        """Something else follows. Raises `InvalidRequest` if a call has no answer."""
        missing = [id[:64] for id, answered in self._answered.items() if not answered]
        if missing:
            names = ", ".join(missing[:MAX_NAMED])
            more = f" and {len(missing) - MAX_NAMED} more" if missing[MAX_NAMED:] else ""
            raise InvalidRequest(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {names}{more}",
                param=f"{self._at}.role",
            )


def _assistant(message: wire.AssistantMessage, at: str) -> Message:
    if message.function_call is not None:
        raise refusals.refused("'function_call'", f"{at}.function_call", "It is deprecated. Use 'tool_calls'.")
    if message.audio is not None:
        raise refusals.refused("'audio'", f"{at}.audio", "Send the transcript as 'content'.")
    content = _content(message.content or (), f"{at}.content")
    if message.refusal is not None:
        content += (Text(message.refusal, f"{at}.refusal"),)
    calls = []
    for number, call in enumerate(message.tool_calls or ()):
        place = f"{at}.tool_calls[{number}]"
        if isinstance(call, wire.CustomCall):
            raise refusals.refused("A tool call of type 'custom'", f"{place}.type", "Use 'function'.")
        name = Text(call.function.name, f"{place}.function.name")
        calls.append(ToolCall(call.id, name, Text(call.function.arguments, f"{place}.function.arguments")))
    if message.content is None and not content and not calls:
        raise problems.missing(f"{at}.content")
    return Message("assistant", content, at, tool_calls=tuple(calls))


def _content(content: str | Iterable[wire.Part], at: str) -> tuple[Text, ...]:
    if isinstance(content, str):
        return (Text(content, at),)
    return tuple(_part(part, f"{at}[{number}]") for number, part in enumerate(content))


def _part(part: wire.Part, at: str) -> Text:
    match part:
        case wire.Text():
            return Text(part.text, f"{at}.text", options.breakpoint_of(part.prompt_cache_breakpoint))
        case wire.Refusal():
            return Text(part.refusal, f"{at}.refusal")
        case _:
            raise refusals.not_text(part, at)
