"""Request bodies as clients send them: OpenAI's two endpoints and Anthropic's, alone, beside their answers, in batches,
and as Headstart's own capture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headstart.audit.call import Api, Call, Observed
from headstart.audit.formats.fields import answer_of, count, usage_of, when, within

REQUESTS = ("request", "body", "request_body", "kwargs", "req")
RESPONSES = ("response", "response_body", "res", "output")
URLS: Mapping[str, Api] = {
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
    "/v1/messages": "messages",
}


def api_of(body: Mapping[str, Any]) -> Api | None:
    """Whose body it is, by its looks."""
    messages = body.get("messages")
    if isinstance(messages, list):
        model = str(body.get("model") or "").rpartition("/")[2]
        claude = model.startswith("claude") or "system" in body or "anthropic_version" in body
        return "messages" if claude else "chat"
    if isinstance(body.get("input"), str | list) and ("model" in body or "instructions" in body):
        return "responses"
    return None


def bodies(line: dict[str, Any], number: int) -> Iterator[Call]:
    """A body of OpenAI's, or an object that has one, its response and its time."""
    yield from _any(line, number, {"responses", "chat"})


def messages(line: dict[str, Any], number: int) -> Iterator[Call]:
    """A body of Anthropic's, likewise."""
    yield from _any(line, number, {"messages"})


def _any(line: dict[str, Any], number: int, wanted: set[Api]) -> Iterator[Call]:
    body, response = line, None
    for name in REQUESTS:
        inner = line.get(name)
        if isinstance(inner, dict):
            body = inner.get("body") if isinstance(inner.get("body"), dict) else inner  # type: ignore[assignment]
            break
    api = api_of(body)
    if api is None and isinstance(body.get("messages"), str | dict):
        raise ValueError("'messages' is no list.")
    if api not in wanted:
        return
    for name in RESPONSES:
        inner = line.get(name)
        if isinstance(inner, dict):
            response = inner.get("body") if isinstance(inner.get("body"), dict) else inner
            break
    usage = usage_of(within(response, "usage")) or usage_of(line.get("usage"))
    time = when(line)
    if time is None and isinstance(response, dict):
        time = when(response, "created_at", "created")
    yield Call(number, api, body, time, usage, answer_of(response))


def batch(line: dict[str, Any], number: int) -> Iterator[Call]:
    """A line of a batch's input file."""
    if "custom_id" not in line:
        return
    body = line.get("body")
    if not isinstance(body, dict):
        raise ValueError("It is a line of a batch's output, which has no prompt: audit the batch's input file.")
    api = URLS.get(str(line.get("url") or "")) or api_of(body)
    if api is None:
        raise ValueError(f"Requests to {str(line.get('url'))[:60]!r} have no prompt that is cached.")
    yield Call(number, api, body)


def capture(line: dict[str, Any], number: int) -> Iterator[Call]:
    """A line of `headstart serve --capture`."""
    if "headstart_capture" not in line:
        return
    body, told = line.get("request"), line.get("usage")
    if not isinstance(body, dict) or not isinstance(told, dict):
        raise ValueError("It is a captured request without 'request' or 'usage'.")
    names = ("input", "cached", "written_30m", "written_12h", "output")
    usage = Observed(*(count(told.get(name)) for name in names))
    api: Api = "chat" if line.get("endpoint") == "chat.completions" else "responses"
    rules = line.get("generation")
    yield Call(
        number,
        api,
        body,
        when(line, "time"),
        usage,
        organisation=str(line.get("organisation") or ""),
        generation=rules if rules in ("interval", "breakpoint") else None,
    )
