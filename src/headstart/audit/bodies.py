"""A log's body as a `Request`: as the server reads it, but without refusing anything. What the server wouldn't take,
the provider took: pictures, other tools, unknown fields. Paths are those of the body."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from headstart.audit.call import Call
from headstart.types import (
    Breakpoint,
    CacheOptions,
    Message,
    OutputFormat,
    PromptSettings,
    Request,
    Role,
    Text,
    Tool,
    ToolCall,
    Ttl,
)

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
TTLS: Mapping[str, Ttl] = {"30m": "30m", "12h": "12h", "5m": "30m", "1h": "12h"}
"""Claude's by those they stand for (`cache.claude`)."""


def request_of(call: Call) -> Request:
    """The request of a call. Raises `ValueError`, in a sentence, for one without a prompt."""
    body = call.body
    messages = list(_MESSAGES[call.api](body))
    if not messages:
        raise ValueError("It has no messages.")
    tools = tuple(_tools(body.get("tools")))
    return Request(call.model, tuple(messages), tools, settings=_settings(body), cache=_cache(body))


def _settings(body: Mapping[str, Any]) -> PromptSettings:
    text, reasoning = _mapping(body.get("text")), _mapping(body.get("reasoning"))
    chat = "response_format" in body
    path = "response_format" if chat else "text.format"
    output = _mapping(body.get("response_format") if chat else text.get("format"))
    effort, verbosity = body.get("reasoning_effort") or reasoning.get("effort"), body.get("verbosity")
    kind = output.get("type")
    schema, name = None, None
    if kind == "json_schema":
        inner = _mapping(output.get("json_schema")) if "json_schema" in output else output
        schema, name = _mapping(inner.get("schema")), inner.get("name")
    return PromptSettings(
        parallel_tool_calls=body.get("parallel_tool_calls") is not False,
        format=OutputFormat(kind if kind in ("json_object", "json_schema") else "text", schema, name, path),
        reasoning_effort=str(effort) if effort else None,
        verbosity=str(verbosity or text.get("verbosity") or "") or None,
    )


def _cache(body: Mapping[str, Any]) -> CacheOptions:
    options = _mapping(body.get("prompt_cache_options"))
    key, retention, mode, ttl = (
        body.get("prompt_cache_key"),
        body.get("prompt_cache_retention"),
        options.get("mode"),
        options.get("ttl"),
    )
    return CacheOptions(
        key=None if key is None else str(key),
        retention=retention if retention in ("in_memory", "24h") else None,
        mode=mode if mode in ("implicit", "explicit") else None,
        ttl=ttl if ttl in ("30m", "12h") else None,
    )


def _tools(given: Any) -> Iterator[Tool]:
    for number, tool in enumerate(given if isinstance(given, list) else ()):
        at = f"tools[{number}]"
        if not isinstance(tool, Mapping):
            continue
        if "function" in tool:
            yield Tool(dict(tool), at, f"{at}.function.parameters")
        else:
            function = {name: value for name, value in tool.items() if name not in ("type", "cache_control")}
            yield Tool({"type": "function", "function": function}, at, f"{at}.parameters")


def _responses(body: Mapping[str, Any]) -> Iterator[Message]:
    if body.get("instructions") is not None:
        yield Message("developer", (Text(str(body["instructions"]), "instructions"),), "instructions")
    given = body.get("input")
    if isinstance(given, str):
        yield Message("user", (Text(given, "input"),), "input")
        return
    made: Message | None = None
    for number, item in enumerate(given if isinstance(given, list) else ()):
        at = f"input[{number}]"
        if not isinstance(item, Mapping):
            continue
        kind = item.get("type")
        if kind == "function_call":
            call = _call(item.get("call_id"), item, at)
            if made is not None and made.role == "assistant":  # as the server has it: one message with its calls
                made = Message("assistant", made.content, made.path, (*made.tool_calls, call))
                continue
            message = Message("assistant", (), at, (call,))
        elif kind == "function_call_output":
            content = tuple(_content(item.get("output"), f"{at}.output"))
            message = Message("tool", content, at, tool_call_id=str(item.get("call_id") or ""))
        elif "role" in item:
            message = _message(item, at)
        elif kind == "reasoning":
            continue
        else:
            message = Message("assistant", (_other(item, at),), at)
        if made is not None:
            yield made
        made = message
    if made is not None:
        yield made


def _chat(body: Mapping[str, Any]) -> Iterator[Message]:
    given = body.get("messages")
    for number, message in enumerate(given if isinstance(given, list) else ()):
        if isinstance(message, Mapping):
            yield _message(message, f"messages[{number}]")


def _claude(body: Mapping[str, Any]) -> Iterator[Message]:
    if body.get("system"):
        yield Message("system", tuple(_content(body["system"], "system")), "system")
    for message in _chat(body):
        blocks = body["messages"][int(message.path[9:-1])].get("content")
        calls = tuple(
            ToolCall(
                str(block.get("id")), Text(str(block.get("name")), f"{at}.name"), Text(_json(block), f"{at}.input")
            )
            for at, block in _blocks(blocks, f"{message.path}.content")
            if block.get("type") == "tool_use"
        )
        results = [block for _, block in _blocks(blocks, "") if block.get("type") == "tool_result"]
        role: Role = "tool" if results else message.role
        id = str(results[0].get("tool_use_id")) if results else None
        yield Message(role, message.content, message.path, calls, id)


def _blocks(given: Any, at: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, block in enumerate(given if isinstance(given, list) else ()):
        if isinstance(block, Mapping):
            yield f"{at}[{number}]", block


_MESSAGES = {"responses": _responses, "chat": _chat, "messages": _claude}


def _message(message: Mapping[str, Any], at: str) -> Message:
    role = ROLES.get(str(message.get("role")), "user")
    content = tuple(_content(message.get("content"), f"{at}.content"))
    calls = tuple(
        _call(call.get("id"), _mapping(call.get("function")), f"{path}.function")
        for path, call in _blocks(message.get("tool_calls"), f"{at}.tool_calls")
    )
    id = message.get("tool_call_id")
    return Message(role, content, at, calls, None if id is None else str(id))


def _call(id: Any, function: Mapping[str, Any], at: str) -> ToolCall:
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(str(id or ""), Text(str(function.get("name") or ""), f"{at}.name"), Text(text, f"{at}.arguments"))


def _content(content: Any, at: str) -> Iterator[Text]:
    if isinstance(content, str):
        yield Text(content, at)
    for path, part in _blocks(content, at):
        kind = part.get("type")
        if kind == "tool_use":
            continue
        if kind == "tool_result":
            texts = list(_content(part.get("content"), f"{path}.content")) or [Text("", f"{path}.content")]
            yield from texts[:-1]
            yield texts[-1]._replace(breakpoint=_mark(part) or texts[-1].breakpoint)
            continue
        field = next((name for name in ("text", "refusal", "thinking") if isinstance(part.get(name), str)), None)
        text = _other(part, path) if field is None else Text(part[field], f"{path}.{field}")
        yield text._replace(breakpoint=_mark(part))


def _other(part: Mapping[str, Any], at: str) -> Text:
    """A picture, a file, a sound: the same one is the same tokens, whose number nobody knows here."""
    digest = blake2b(_json(part).encode(), digest_size=8).hexdigest()
    return Text(f"[{str(part.get('type'))[:32]} {digest}]", at)


def _mark(part: Mapping[str, Any]) -> Breakpoint | None:
    """`prompt_cache_breakpoint`, or Claude's `cache_control`."""
    for name in ("prompt_cache_breakpoint", "cache_control"):
        if isinstance(part.get(name), Mapping):
            return Breakpoint(TTLS.get(str(part[name].get("ttl"))))
    return None


def _json(part: Mapping[str, Any]) -> str:
    marks = ("cache_control", "prompt_cache_breakpoint", "id")
    return json.dumps({name: value for name, value in part.items() if name not in marks}, default=str)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
