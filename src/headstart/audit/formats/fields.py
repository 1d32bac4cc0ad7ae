"""What the formats have in common: times, counts, texts, wherever they stand in a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec

from headstart.audit.call import Observed

TIMES = (
    "timestamp", "time", "start_time", "startTime", "created_at", "createdAt", "created", "ts", "date",
)  # fmt: skip
"""Where a line says when, the first that it has."""
LATEST = 4e9
"""Unix times beyond this are milliseconds, or less."""


def when(line: Mapping[str, Any], *names: str) -> float | None:
    """The time of a line, as Unix seconds: a number of seconds, milliseconds, micro- or nanoseconds, or ISO 8601."""
    for name in names or TIMES:
        found = _time(line.get(name))
        if found is not None:
            return found
    return None


def _time(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return _time(float(value))
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        return None
    while value > LATEST:
        value /= 1000
    return float(value)


def count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    ordinary = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return max(int(value), 0) if ordinary else 0


def within(value: Any, *names: str) -> Any:
    """What stands in objects inside one another; None where one isn't there."""
    for name in names:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def usage_of(usage: Any) -> Observed | None:
    """A `usage` object of any of the three APIs."""
    if not isinstance(usage, Mapping):
        return None
    if "prompt_tokens" in usage:
        details = usage.get("prompt_tokens_details")
        cached, written = count(within(details, "cached_tokens")), count(within(details, "cache_write_tokens"))
        return _observed(count(usage["prompt_tokens"]), cached, written, 0, count(usage.get("completion_tokens")))
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
        cached, written = count(usage.get("cache_read_input_tokens")), count(usage.get("cache_creation_input_tokens"))
        hour = count(within(usage, "cache_creation", "ephemeral_1h_input_tokens"))
        whole = count(usage.get("input_tokens")) + cached + written
        return _observed(whole, cached, written, hour, count(usage.get("output_tokens")))
    if "input_tokens" in usage:
        details = usage.get("input_tokens_details")
        long = count(within(details, "cache_write_tokens_details", "ttl_12h_tokens"))
        cached, written = count(within(details, "cached_tokens")), count(within(details, "cache_write_tokens"))
        return _observed(count(usage["input_tokens"]), cached, written, long, count(usage.get("output_tokens")))
    return None


def _observed(input: int, cached: int, written: int, long: int, output: int) -> Observed | None:
    """None if it doesn't add up: then nobody knows what was meant."""
    if cached + written > input or long > written:
        return None
    return Observed(input, cached, written - long, long, output)


def parsed(value: Any) -> Any:
    """JSON that is written as a text in JSON, as spans and exports have it; else as it is."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def answer_of(response: Any) -> str | None:
    """A digest of what was answered, to know the same answer again; None without one."""
    if response in (None, "", [], {}):
        return None
    content: Any = response
    if isinstance(response, Mapping):
        choices = response.get("choices")
        if isinstance(choices, list) and choices:
            message = within(choices[0], "message")
            content = [within(message, "content"), [within(call, "function") for call in _list(message, "tool_calls")]]
        else:
            items = response.get("output") or response.get("content")
            content = [_plain(item) for item in items] if isinstance(items, list) else items
    if content in (None, "", []):
        return None
    return blake2b(json.dumps(content, default=str).encode(), digest_size=8).hexdigest()


def _list(value: Any, name: str) -> list[Any]:
    found = within(value, name)
    return found if isinstance(found, list) else []


def _plain(item: Any) -> Any:
    """An item of an answer without its ids."""
    if not isinstance(item, Mapping):
        return item
    return {name: _plain(part) if not isinstance(part, list) else [_plain(each) for each in part]
            for name, part in item.items() if name not in ("id", "call_id", "status")}  # fmt: skip
