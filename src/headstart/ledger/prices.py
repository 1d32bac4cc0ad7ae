"""What input tokens cost at the providers' published prices, from genai-prices' snapshot: no network; and whether a
cached prefix pays.

Each input token is billed once, as uncached, cached or written (docs/contract.md, B12).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

from genai_prices import Usage, calc_price

Provider = Literal["openai", "anthropic"]


class Rates(NamedTuple):
    """What a written and a read token cost, as multiples of an uncached one."""

    write: Decimal
    read: Decimal


def input_cost(model: str, *, input_tokens: int, cached_tokens: int, written_tokens: int = 0) -> Decimal | None:
    """Dollars for one request's input, exactly; None for a model that OpenAI has no price for.

    `input_tokens` counts all of them, `cached_tokens` and `written_tokens` among them. Raises `ValueError` if they are
    more than all.
    """
    if min(cached_tokens, written_tokens) < 0 or cached_tokens + written_tokens > input_tokens:
        raise ValueError(f"{cached_tokens} cached and {written_tokens} written of {input_tokens} input tokens.")
    usage = Usage(input_tokens=input_tokens, cache_read_tokens=cached_tokens, cache_write_tokens=written_tokens)
    return _input_price(usage, model, "openai")


def rates_of(model: str, provider: Provider = "openai", *, hour: bool = False) -> Rates | None:
    """A model's rates; None if the provider has no price for it. `hour`: written for an hour, which Claude's
    `"ttl": "1h"` asks for."""
    count = 1000  # under every tier of long prompts
    hours = {"cache_write_1h_tokens": count} if hour else {}
    plain = _input_price(Usage(input_tokens=count), model, provider)
    write = _input_price(Usage(input_tokens=count, cache_write_tokens=count, **hours), model, provider)
    read = _input_price(Usage(input_tokens=count, cache_read_tokens=count), model, provider)
    return Rates(write / plain, read / plain) if plain and write is not None and read is not None else None


def passes(requests: int, rates: Rates) -> Decimal:
    """What a prefix costs that one of `requests` writes and the others read, in uncached passes over it. Without a
    cache it takes as many passes as requests (docs/contract.md, E7)."""
    return rates.write + (requests - 1) * rates.read


def padding_pays_from(minimum: int, requests: int, rates: Rates) -> int:
    """The fewest tokens of a prefix that is cheaper padded to `minimum` tokens and cached than left as it is, over
    `requests` (docs/contract.md, E8); `minimum` or more: padding never pays."""
    return int(minimum * passes(requests, rates) // requests) + 1


def _input_price(usage: Usage, model: str, provider: Provider) -> Decimal | None:
    """Dollars, or None."""
    try:
        return calc_price(usage, model_ref=model, provider_id=provider).input_price
    except LookupError:
        return None
