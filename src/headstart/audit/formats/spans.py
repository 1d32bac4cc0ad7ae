"""OpenTelemetry's GenAI spans as JSON: OTLP's (`resourceSpans`), or one span a line with its attributes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from headstart.audit.call import Api, Call, Observed
from headstart.audit.formats.fields import answer_of, count, parsed, when

TIMES = ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime", "timestamp")


def otel(line: dict[str, Any], number: int) -> Iterator[Call]:
    """All GenAI spans of a line."""
    if "resourceSpans" in line:
        for resource in line["resourceSpans"] or ():
            for scope in resource.get("scopeSpans") or ():
                for span in scope.get("spans") or ():
                    yield from _span(span, number)
    else:
        yield from _span(line, number)


def _span(span: Any, number: int) -> Iterator[Call]:
    attributes = _attributes(span.get("attributes") if isinstance(span, Mapping) else None)
    for event in span.get("events") or () if attributes and isinstance(span.get("events"), list) else ():
        for name, value in _attributes(event.get("attributes") if isinstance(event, Mapping) else None).items():
            attributes.setdefault(name, value)
    if not any(name.startswith("gen_ai.") for name in attributes):
        return
    found = parsed(attributes.get("gen_ai.input.messages"))
    if not isinstance(found, list):
        raise ValueError(
            "The span has no gen_ai.input.messages: let the instrumentation capture message content, else there is no "
            "prompt to audit."
        )
    system = parsed(attributes.get("gen_ai.system_instructions"))
    messages = [{"role": "system", "content": _text(system)}] if system else []
    for message in found:
        messages.extend(_messages(message))
    model = attributes.get("gen_ai.request.model") or attributes.get("gen_ai.response.model")
    body: dict[str, Any] = {"model": model, "messages": messages}
    tools = parsed(attributes.get("gen_ai.tool.definitions"))
    if isinstance(tools, list):
        body["tools"] = tools
    usage = None
    if "gen_ai.usage.input_tokens" in attributes:
        names = ("input_tokens", "cache_read.input_tokens", "cache_creation.input_tokens", "output_tokens")
        input, cached, written, output = (count(_number(attributes.get(f"gen_ai.usage.{name}"))) for name in names)
        if cached + written <= input:
            usage = Observed(input, cached, written, 0, output)
    api: Api = "messages" if str(model).startswith("claude") else "chat"
    if api == "messages" and messages and messages[0]["role"] == "system":
        body["system"] = messages.pop(0)["content"]
    answer = answer_of({"output": parsed(attributes.get("gen_ai.output.messages"))})
    yield Call(number, api, body, when(span, *TIMES), usage, answer)


def _attributes(given: Any) -> dict[str, Any]:
    """Of a span: an object, or OTLP's list of keys and typed values."""
    if isinstance(given, Mapping):
        return {str(name): value for name, value in given.items()}
    if not isinstance(given, list):
        return {}
    found = {}
    for each in given:
        if isinstance(each, Mapping) and isinstance(each.get("value"), Mapping):
            found[str(each.get("key"))] = next(iter(each["value"].values()), None)
    return found


def _number(value: Any) -> Any:
    """OTLP writes 64-bit integers as texts."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _messages(message: Any) -> Iterator[dict[str, Any]]:
    """A message of the semantic conventions, as Chat Completions has it: a tool's results are messages of their own."""
    if not isinstance(message, Mapping):
        return
    parts = message.get("parts")
    if not isinstance(parts, list):
        yield dict(message)
        return
    calls = [part for part in parts if isinstance(part, Mapping) and part.get("type") == "tool_call"]
    results = [part for part in parts if isinstance(part, Mapping) and part.get("type") == "tool_call_response"]
    for part in results:
        answer = part.get("response", part.get("result"))
        yield {"role": "tool", "tool_call_id": part.get("id"), "content": _text(answer)}
    text = _text([part for part in parts if part not in calls and part not in results])
    if text or calls:
        made: dict[str, Any] = {"role": message.get("role", "user"), "content": text}
        if calls:
            made["tool_calls"] = [
                {"id": call.get("id"), "type": "function",
                 "function": {"name": call.get("name"), "arguments": _text(call.get("arguments"))}}
                for call in calls
            ]  # fmt: skip
        yield made


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, Mapping) and "content" in part for part in value):
        return "".join(str(part["content"]) for part in value)
    return "" if value is None else json.dumps(value, ensure_ascii=False)
