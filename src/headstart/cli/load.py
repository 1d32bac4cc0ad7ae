"""One streamed request to any OpenAI-compatible endpoint, and what it took."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import httpx2
import msgspec

from headstart.errors import StartError

Message = Mapping[str, str]
"""`{"role": …, "content": …}`."""


class Measurement(NamedTuple):
    """One answer. Times in seconds from sending the request; token counts are None where the endpoint gives none."""

    ttft: float
    """Until the first piece of text; all of the time if the answer has none."""
    total: float
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    text: str

    @property
    def decode_rate(self) -> float | None:
        """Output tokens per second after the first one; None for an answer of fewer than two."""
        if self.output_tokens is None or self.output_tokens < 2 or self.total <= self.ttft:
            return None
        return (self.output_tokens - 1) / (self.total - self.ttft)


def connect(api_key: str | None, *, timeout: float = 600.0) -> httpx2.AsyncClient:
    """A client for many requests at once. `timeout`: seconds without a byte."""
    return httpx2.AsyncClient(
        headers={"authorization": f"Bearer {api_key}"} if api_key else {},
        timeout=httpx2.Timeout(timeout, connect=10.0, pool=None),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
    )


async def measure(
    client: httpx2.AsyncClient,
    base_url: str,
    model: str,
    messages: Sequence[Message],
    max_tokens: int,
    *,
    options: Mapping[str, Any] | None = None,
) -> Measurement:
    """Stream one chat completion from `base_url` (which ends with `/v1`, as a rule) and time it.

    `options` are further fields of the request, as `{"temperature": 0}`. Raises `StartError` in one line.
    """
    body = {
        "model": model,
        "messages": messages,
        "max_completion_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **(options or {}),
    }
    usage: dict[str, Any] = {}
    pieces: list[str] = []
    begun = time.perf_counter()
    first: float | None = None
    async for chunk in _chunks(client, f"{base_url.rstrip('/')}/chat/completions", body):
        text = _text(chunk)
        if text and first is None:
            first = time.perf_counter()
        pieces.append(text)
        usage = chunk.get("usage") or usage
    end = time.perf_counter()
    details = usage.get("prompt_tokens_details") or {}
    return Measurement(
        ttft=(first or end) - begun,
        total=end - begun,
        input_tokens=usage.get("prompt_tokens"),
        cached_tokens=details.get("cached_tokens"),
        output_tokens=usage.get("completion_tokens"),
        text="".join(pieces),
    )


async def served_models(client: httpx2.AsyncClient, base_url: str) -> list[str]:
    """The names that the endpoint lists. Raises `StartError` in one line."""
    url = f"{base_url.rstrip('/')}/models"
    try:
        response = await client.get(url)
        body = await response.aread()
    except httpx2.HTTPError as error:
        raise _unreachable(url, error) from error
    if response.status_code != 200:
        raise _refused(client, url, response.status_code, body)
    try:
        return [str(model["id"]) for model in msgspec.json.decode(body)["data"]]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise StartError(f"{url} is not an OpenAI-compatible API: its answer is no list of models.") from error


async def _chunks(client: httpx2.AsyncClient, url: str, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The chunks of one stream, up to `[DONE]`."""
    headers = {"content-type": "application/json"}
    try:
        async with client.stream("POST", url, content=msgspec.json.encode(body), headers=headers) as response:
            if response.status_code != 200:
                raise _refused(client, url, response.status_code, await response.aread())
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                chunk = msgspec.json.decode(data)
                if chunk.get("error"):
                    raise StartError(f"{url} failed while it answered: {_message(chunk)}")
                yield chunk
    except httpx2.HTTPError as error:
        raise _unreachable(url, error) from error
    except (msgspec.DecodeError, AttributeError) as error:
        raise StartError(f"{url} is not an OpenAI-compatible API: its stream holds no chat chunks.") from error


def _text(chunk: dict[str, Any]) -> str:
    """The chunk's text; a reasoning model's thoughts count, since they are tokens that were waited for."""
    choices = chunk.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return str(delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning") or "")


def _message(answer: dict[str, Any]) -> str:
    error = answer.get("error", answer)
    return str(error.get("message", error) if isinstance(error, dict) else error)


def _refused(client: httpx2.AsyncClient, url: str, status: int, body: bytes) -> StartError:
    try:
        message = _message(msgspec.json.decode(body))
    except (msgspec.DecodeError, AttributeError):
        message = body[:200].decode(errors="replace").strip() or "no explanation"
    advice = ""
    if status == 401:
        has_key = "authorization" in client.headers
        advice = "The key in OPENAI_API_KEY is not accepted." if has_key else "Set OPENAI_API_KEY."
    elif status == 404 and "/v1/" not in url:
        advice = "Does the base URL end with /v1?"
    if advice:
        message += f" {advice}" if message.endswith((".", "!", "?")) else f". {advice}"
    return StartError(f"{url} answered {status}: {message}")


def _unreachable(url: str, error: httpx2.HTTPError) -> StartError:
    if isinstance(error, httpx2.ConnectError):
        return StartError(f"Nothing answers at {url}. Start a server with: headstart serve")
    if isinstance(error, httpx2.TimeoutException):
        return StartError(f"{url} sent nothing for too long.")
    return StartError(f"{url}: {error or type(error).__name__}")
