"""Usage: how many tokens were read, written and computed (docs/contract.md, both generations)."""

from __future__ import annotations

from typing import Any

from headstart.types import CacheOptions, CacheReport, Comparison, Explanation, Generation, TokenLogprob, Written

CACHE_HEADER = "x-headstart-cache"


def responses_usage(
    input_tokens: int, output_tokens: int, report: CacheReport, generation: Generation
) -> dict[str, Any]:
    """`usage` of the Responses API. Interval models write for free: their `cache_write_tokens` is 0."""
    written = billed(report, generation)
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {
            "cached_tokens": report.read,
            "cache_write_tokens": written.tokens,
            "cache_write_tokens_details": {
                "ttl_30m_tokens": written.tokens - written.long,
                "ttl_12h_tokens": written.long,
            },
        },
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }


def chat_usage(
    prompt_tokens: int, completion_tokens: int, report: CacheReport, generation: Generation
) -> dict[str, Any]:
    """`usage` of Chat Completions."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": report.read,
            "cache_write_tokens": billed(report, generation).tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def billed(report: CacheReport, generation: Generation) -> Written:
    """The writes that are counted."""
    return Written() if generation == "interval" else report.written


def cache_options(applied: CacheOptions) -> dict[str, Any] | None:
    """`prompt_cache_options` as they were applied; None for an interval model."""
    if applied.mode is None:
        return None
    return {"mode": applied.mode, "ttl": applied.ttl, "comparison_response_id": applied.comparison}


def diagnostics(comparison: Comparison | None) -> dict[str, Any] | None:
    """`prompt_cache_diagnostics`; None if none were asked for."""
    if comparison is None:
        return None
    return comparison._asdict() if comparison.type == "cache_miss" else {"type": comparison.type}


def cache_header(explanation: Explanation, generation: Generation) -> dict[str, str]:
    """The short of what the cache did, as a header."""
    report = explanation.report
    value = f"read={report.read}; write={billed(report, generation).tokens}"
    if report.refused:
        value += f"; refused={report.refused}"
    return {CACHE_HEADER: value if explanation.cause is None else f"{value}; miss={explanation.cause}"}


def logprob(token: TokenLogprob) -> dict[str, Any]:
    """A token's log-probability, in the shape that both endpoints share."""
    return {
        "token": token.token,
        "logprob": token.logprob,
        "bytes": list(token.bytes),
        "top_logprobs": [
            {"token": rival.token, "logprob": rival.logprob, "bytes": list(rival.bytes)} for rival in token.top
        ],
    }
