"""What input tokens cost at OpenAI's published prices, from genai-prices' snapshot: no network.

Each input token is billed once, as uncached, cached or written (docs/contract.md, both generations).
"""

from __future__ import annotations

from decimal import Decimal

from genai_prices import Usage, calc_price


def input_cost(model: str, *, input_tokens: int, cached_tokens: int, written_tokens: int = 0) -> Decimal | None:
    """Dollars for one request's input, exactly; None for a model that OpenAI has no price for.

    `input_tokens` counts all of them, `cached_tokens` and `written_tokens` among them. Raises `ValueError` if they are
    more than all.
    """
    if min(cached_tokens, written_tokens) < 0 or cached_tokens + written_tokens > input_tokens:
        raise ValueError(f"{cached_tokens} cached and {written_tokens} written of {input_tokens} input tokens.")
    usage = Usage(input_tokens=input_tokens, cache_read_tokens=cached_tokens, cache_write_tokens=written_tokens)
    try:
        return calc_price(usage, model_ref=model, provider_id="openai").input_price
    except LookupError:
        return None
