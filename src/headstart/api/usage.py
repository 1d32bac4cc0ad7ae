"""Usage: how many tokens were read, written and computed (docs/contract.md, both generations)."""

from __future__ import annotations

from typing import Any

from headstart.types import CacheReport, Generation, TokenLogprob


def responses_usage(
    input_tokens: int, output_tokens: int, report: CacheReport, generation: Generation
) -> dict[str, Any]:
    """`usage` of the Responses API. Interval models write for free: their `cache_write_tokens` is 0."""
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {
            "cached_tokens": report.read,
            "cache_write_tokens": 0 if generation == "interval" else report.written,
            "cache_write_tokens_details": {"ttl_30m_tokens": 0, "ttl_12h_tokens": 0},
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
            "cache_write_tokens": 0 if generation == "interval" else report.written,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


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
