"""What LiteLLM and Langfuse export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from headstart.audit.call import Api, Call, Observed
from headstart.audit.formats.fields import answer_of, count, parsed, usage_of, when, within
from headstart.audit.formats.openai import api_of


def litellm(line: dict[str, Any], number: int) -> Iterator[Call]:
    """A standard logging payload: `messages` and `model_parameters` beside `call_type` and token counts."""
    if not ({"call_type", "litellm_call_id", "model_parameters"} & set(line)) or "messages" not in line:
        return
    found = parsed(line["messages"])
    parameters = parsed(line.get("model_parameters")) or {}
    rest = dict(parameters) if isinstance(parameters, Mapping) else {}
    proxied = within(line, "proxy_server_request", "body")
    call_type = str(line.get("call_type") or "")
    api: Api = "responses" if "responses" in call_type else "chat"
    if isinstance(proxied, dict) and (own := api_of(proxied)) is not None:
        body, api = proxied, own
    elif isinstance(found, list) or (api == "responses" and isinstance(found, str)):
        body = {**rest, "model": line.get("model"), ("input" if api == "responses" else "messages"): found}
        if api == "chat":
            api = api_of(body) or "chat"
    else:
        raise ValueError("'messages' is no list: the logger was set to leave prompts out, and nothing can be audited.")
    usage = usage_of(within(line, "metadata", "usage_object")) or usage_of(within(line, "response", "usage"))
    if usage is None and "prompt_tokens" in line:
        usage = Observed(count(line["prompt_tokens"]), output=count(line.get("completion_tokens")))
    who = within(line, "metadata", "user_api_key_org_id")
    yield Call(
        number,
        api,
        body,
        when(line, "startTime", "start_time"),
        usage,
        answer_of(line.get("response")),
        str(who) if who else "",
    )


def langfuse(line: dict[str, Any], number: int) -> Iterator[Call]:
    """An observation of type GENERATION."""
    if not ({"traceId", "trace_id"} & set(line)) or "input" not in line:
        return
    if str(line.get("type") or "GENERATION").upper() != "GENERATION":
        raise ValueError(f"It is an observation of type {str(line.get('type'))[:30]}; only GENERATION has a prompt.")
    found = parsed(line["input"])
    parameters = parsed(line.get("modelParameters") or line.get("model_parameters")) or {}
    body = dict(parameters) if isinstance(parameters, Mapping) else {}
    if isinstance(found, Mapping):
        body |= found
    elif isinstance(found, list):
        body["messages"] = found
    else:
        body["messages"] = [{"role": "user", "content": str(found)}]
    body["model"] = line.get("model") or body.get("model")
    api = api_of(body)
    if api is None:
        raise ValueError("'input' has no messages.")
    details = line.get("usageDetails") or line.get("usage_details")
    usage = usage_of(details) or usage_of(line.get("usage"))
    if isinstance(details, Mapping) and usage is None:
        usage = _details(details)
    time = when(line, "startTime", "start_time", "timestamp")
    yield Call(number, api, body, time, usage, answer_of(parsed(line.get("output"))))


def _details(details: Mapping[str, Any]) -> Observed:
    """Langfuse's own counts, each token in one of them: `input`, `input_cached_tokens`, `output`."""
    read = sum(count(details.get(name)) for name in ("input_cached_tokens", "cache_read_input_tokens"))
    written = sum(count(details.get(name)) for name in ("input_cache_creation", "input_cache_write_tokens"))
    return Observed(count(details.get("input")) + read + written, read, written, 0, count(details.get("output")))
