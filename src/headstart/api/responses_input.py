"""The body of a Responses request, as a `Request`: instructions first, then the items of `input` in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import msgspec

from headstart.api import decoding, options, problems, refusals
from headstart.api.wire import fields
from headstart.api.wire import responses as wire
from headstart.errors import InvalidRequest
from headstart.store.responses import Item
from headstart.types import Message, PromptSettings, Request, Sampling, Text, ToolCall

LOGPROBS = "message.output_text.logprobs"
"""The value of `include` that asks for log-probabilities."""


def request_of(body: wire.ResponsesBody, earlier: Iterable[Item] = ()) -> Request:
    """A request to answer, that goes on from `earlier` items. Raises `InvalidRequest`."""
    refusals.check(body, refusals.RESPONSES)
    options.check_metadata(body.metadata)
    options.check_stream_options(body.stream, body.stream_options)
    if body.model is None:
        raise problems.missing("model")
    prompt = _prompt_of(body, body.model, earlier)
    cache = options.cache_options(body)
    wants_logprobs = body.top_logprobs or LOGPROBS in (body.include or ())
    sampling = Sampling(
        max_tokens=0 if cache.prewarm else body.max_output_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        logprobs=body.top_logprobs or 0 if wants_logprobs else None,
        format=prompt.settings.format,
    )
    return replace(prompt, sampling=sampling, cache=cache)


def countable(body: wire.InputTokensBody, served: Iterable[str], earlier: Iterable[Item] = ()) -> Request:
    """A request to count. OpenAI lets `model` be absent; here that works where a single one is served."""
    refusals.check(body, refusals.COUNTING)
    names = list(served)
    model = body.model if body.model is not None else names[0] if len(names) == 1 else None
    if model is None:
        raise problems.missing("model")
    return _prompt_of(body, model, earlier)


def _prompt_of(body: wire.PromptBody, model: str, earlier: Iterable[Item]) -> Request:
    text = body.text or wire.TextOptions()
    messages = _messages(body, earlier)
    if not messages:
        raise problems.missing("input")
    settings = PromptSettings(
        parallel_tool_calls=body.parallel_tool_calls is not False,
        format=options.output_format(text.format, "text.format"),
        reasoning_effort=body.reasoning.effort if body.reasoning else None,
        verbosity=text.verbosity,
    )
    tools = options.responses_tools(body.tools)
    return Request(model, tuple(messages), tools, options.tool_choice(body, tools), settings)


def _messages(body: wire.PromptBody, earlier: Iterable[Item]) -> list[Message]:
    messages = []
    items: list[tuple[str, bytes | msgspec.Raw]] = [
        (f"previous_response_id.input[{number}]", item.body) for number, item in enumerate(earlier)
    ]
    if body.instructions is not None:
        messages.append(Message("developer", (Text(body.instructions, "instructions"),), "instructions"))
    if not isinstance(body.input, str):
        items += ((f"input[{number}]", raw) for number, raw in enumerate(body.input or ()))
    calls: set[str | None] = set()
    unanswered: dict[str | None, None] = {}  # in order
    for at, raw in items:
        message = _item(raw, at)
        if message is None:
            continue
        if message.role == "tool" and message.tool_call_id not in calls:
            raise InvalidRequest(
                f"No tool call found for function call output with call_id {str(message.tool_call_id)[:64]}.",
                param=f"{at}.call_id",
            )
        unanswered.pop(message.tool_call_id, None)
        for call in message.tool_calls:
            if call.id in calls:
                raise InvalidRequest(
                    f"Two function calls have the call_id {call.id[:64]}. Each needs its own.",
                    param=f"{at}.call_id",
                    code="invalid_value",
                )
            calls.add(call.id)
            unanswered[call.id] = None
        if message.tool_calls and messages and messages[-1].role == "assistant":
            # One item for its text and one per call on the wire; one message with all of them in every chat template.
            messages[-1] = replace(messages[-1], tool_calls=messages[-1].tool_calls + message.tool_calls)
        else:
            messages.append(message)
    for id in unanswered:
        raise InvalidRequest(f"No tool output found for function call {str(id)[:64]}.", param="input")
    if isinstance(body.input, str):
        messages.append(Message("user", (Text(body.input, "input"),), "input"))
    return messages


def _item(raw: bytes | msgspec.Raw, at: str) -> Message | None:
    kind = decoding.decode(raw, fields.Kind, at).type
    read = _ITEMS.get(kind or "message")
    if read is None:
        raise refusals.refused(
            f"An input item of type '{(kind or '')[:64]}'",
            f"{at}.type",
            "Supported are 'message', 'function_call', 'function_call_output' and 'reasoning' (which is ignored).",
        )
    return read(raw, at)


def _message(raw: bytes | msgspec.Raw, at: str) -> Message:
    item = decoding.decode(raw, wire.MessageItem, at)
    return Message(item.role, _content(item.content, f"{at}.content"), at)


def _function_call(raw: bytes | msgspec.Raw, at: str) -> Message:
    item = decoding.decode(raw, wire.FunctionCallItem, at)
    call = ToolCall(item.call_id, Text(item.name, f"{at}.name"), Text(item.arguments, f"{at}.arguments"))
    return Message("assistant", (), at, tool_calls=(call,))


def _function_call_output(raw: bytes | msgspec.Raw, at: str) -> Message:
    item = decoding.decode(raw, wire.FunctionCallOutputItem, at)
    return Message("tool", _content(item.output, f"{at}.output"), at, tool_call_id=item.call_id)


def _reasoning(_raw: bytes | msgspec.Raw, _at: str) -> None:
    """Ignored: OpenAI's models read their own again; the models here have none."""


def _item_reference(_: bytes | msgspec.Raw, at: str) -> None:
    raise refusals.refused("'item_reference'", at, "Send the item itself, or 'previous_response_id'.")


_ITEMS: Mapping[str, Callable[[bytes | msgspec.Raw, str], Message | None]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_call_output,
    "reasoning": _reasoning,
    "item_reference": _item_reference,
}


def _content(content: str | Iterable[wire.Part], at: str) -> tuple[Text, ...]:
    if isinstance(content, str):
        return (Text(content, at),)
    return tuple(_part(part, f"{at}[{number}]") for number, part in enumerate(content))


def _part(part: wire.Part, at: str) -> Text:
    match part:
        case wire.InputText():
            return Text(part.text, f"{at}.text", options.breakpoint_of(part.prompt_cache_breakpoint))
        case wire.OutputText():
            return Text(part.text, f"{at}.text")
        case wire.Refusal():
            return Text(part.refusal, f"{at}.refusal")
        case _:
            raise refusals.not_text(part, at)
