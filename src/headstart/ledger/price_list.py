"""What a request costs, and what it would cost without a cache, in whole picodollars.

    (ordinary + cached · r + written · w) · input price + output · output price

Every input token is billed once (docs/contract.md, B12): `ordinary` are those neither cached nor written. Without a
cache all of them are ordinary. Prices are OpenAI's published ones, from genai-prices' snapshot (no network), or one's
own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import lcm
from typing import NamedTuple, Protocol

from genai_prices import Usage, calc_price
from genai_prices.types import TieredPrices

from headstart.errors import StartError
from headstart.ledger.prices import Provider
from headstart.types import PICO

PER_TOKEN = PICO // 10**6
"""Picodollars for a token, at a dollar for a million."""
KEPT = 512
"""Published prices that are kept at hand."""


class Cost(NamedTuple):
    """In picodollars. What the cache saved is the difference: below 0 where writing cost more than reading saved."""

    cost: int
    uncached_cost: int


class Tokens(NamedTuple):
    """A request's tokens; `input` counts all of the prompt's, the cached and written ones among them."""

    input: int
    cached: int = 0
    written_30m: int = 0
    written_12h: int = 0
    output: int = 0


class Price(Protocol):
    """How a model is paid for."""

    def cost(self, tokens: Tokens, seconds: float | None, saved_seconds: float) -> Cost | None:
        """For a request, which took `seconds` of computing and saved others; None if that can't be said."""
        ...

    def estimate(self, tokens: Tokens) -> int:
        """The most that it can cost, before it runs."""
        ...


class Like(NamedTuple):
    """A model of one's own that is priced as one that is published."""

    model: str


class Rates(NamedTuple):
    """What one token of each sort costs, in whole parts of a picodollar (`TokenPrice.parts`)."""

    ordinary: int
    cached: int
    written_30m: int
    written_12h: int
    output: int


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """By the token. `tiers`: rates, and the input tokens beyond which they go for all of a request's tokens; first -1,
    and rising. So many `parts` make a picodollar: 1 for all published prices, which are whole picodollars for a token.
    Where a price of one's own is not, a request's cost is rounded once, half to even."""

    tiers: tuple[tuple[int, Rates], ...]
    parts: int = 1

    @classmethod
    def of(cls, tiers: Mapping[int, Sequence[Decimal]]) -> TokenPrice:
        """From dollars for a million tokens, in the order of `Rates`, by where their tier begins."""
        exact = [(start, [Fraction(price) * PER_TOKEN for price in prices]) for start, prices in sorted(tiers.items())]
        parts = lcm(*(price.denominator for _, prices in exact for price in prices))
        return cls(tuple((start, Rates(*(int(price * parts) for price in prices))) for start, prices in exact), parts)

    def rates(self, input: int) -> Rates:
        """Those of a prompt of so many tokens."""
        return next(rates for start, rates in reversed(self.tiers) if input > start)

    def cost(self, tokens: Tokens, seconds: float | None, saved_seconds: float) -> Cost:  # noqa: ARG002 - by the token
        """See `Price.cost`."""
        rates = self.rates(tokens.input)
        output = tokens.output * rates.output
        ordinary = tokens.input - tokens.cached - tokens.written_30m - tokens.written_12h
        cost = ordinary * rates.ordinary + tokens.cached * rates.cached + output
        cost += tokens.written_30m * rates.written_30m + tokens.written_12h * rates.written_12h
        return Cost(_whole(cost, self.parts), _whole(tokens.input * rates.ordinary + output, self.parts))

    def estimate(self, tokens: Tokens) -> int:
        """See `Price.estimate`: as if all of the input were of the dearest sort."""
        rates = self.rates(tokens.input)
        return _whole(tokens.input * max(rates[:-1]) + tokens.output * rates.output, self.parts)


@dataclass(frozen=True, slots=True)
class HourPrice:
    """By the time that a machine of one's own computes: `rate` is in picodollars for a second."""

    rate: Fraction

    @classmethod
    def of(cls, hour: Decimal) -> HourPrice:
        """From dollars for an hour."""
        return cls(Fraction(hour) * PICO / 3600)

    def cost(self, tokens: Tokens, seconds: float | None, saved_seconds: float) -> Cost | None:  # noqa: ARG002 - by time
        """See `Price.cost`: None if nobody measured the time. Rounded once, half to even."""
        if seconds is None:
            return None
        spent = Fraction(seconds)
        return Cost(round(spent * self.rate), round((spent + Fraction(saved_seconds)) * self.rate))

    def estimate(self, tokens: Tokens) -> int:  # noqa: ARG002 - nobody knows how long they will take
        """See `Price.estimate`. How long it takes is known afterwards only: 0."""
        return 0


def price_of(
    *,
    input: Decimal | None = None,
    cached: Decimal | None = None,
    written: Decimal | None = None,
    written_12h: Decimal | None = None,
    output: Decimal | None = None,
    gpu_hour: Decimal | None = None,
    like: str | None = None,
) -> Price | Like:
    """A price as the configuration has it: dollars for a million tokens, or for an hour of computing, or a published
    model's. `cached` and `written` cost as much as `input` if they are left out, `written_12h` as much as `written`.
    Raises `ValueError` if it is none of the three."""
    if like is not None:
        return Like(like)
    if gpu_hour is not None:
        return HourPrice.of(gpu_hour)
    if input is None or output is None:
        raise ValueError("A price has input and output, or gpu_hour, or like.")
    cached = input if cached is None else cached
    written = input if written is None else written
    return TokenPrice.of({-1: (input, cached, written, written if written_12h is None else written_12h, output)})


class PriceList:
    """What every model costs: at its own price in `overrides`, else at the published one.

    `model` is a served name, of which there are few: genai-prices remembers every name that it was ever asked for.
    Published prices have dates, by `clock`, which gives Unix time. Raises `StartError` where `overrides` name a model
    that has no published price.
    """

    def __init__(self, overrides: Mapping[str, Price | Like], *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._own: dict[str, Price] = {}
        self._like: dict[str, str] = {}
        for model, price in overrides.items():
            if not isinstance(price, Like):
                self._own[model] = price
            elif self._published(price.model) is None:
                raise StartError(
                    f"models: '{model}' is priced like '{price.model}', which has no published price by the token. "
                    "Name a model of OpenAI's, or give input and output."
                )
            else:
                self._like[model] = price.model

    def cost(
        self,
        model: str,
        *,
        input: int,
        cached: int,
        written_30m: int,
        written_12h: int,
        output: int,
        seconds: float | None = None,
        saved_seconds: float | None = None,
    ) -> Cost | None:
        """What a request costs; None for a model that has no price, and for one that is paid by the hour if `seconds`
        aren't known. `input` counts all of the prompt's tokens, the cached and written ones among them; raises
        `ValueError` if those are more than all."""
        if min(input, cached, written_30m, written_12h, output) < 0 or cached + written_30m + written_12h > input:
            written = written_30m + written_12h
            raise ValueError(f"{cached} cached and {written} written of {input} input tokens, {output} output tokens.")
        price = self._price(model)
        if price is None:
            return None
        tokens = Tokens(input, cached, written_30m, written_12h, output)
        return price.cost(tokens, seconds, saved_seconds or 0.0)

    def estimate(self, model: str, *, input: int, output: int) -> int | None:
        """The most that a request can cost that has so many input tokens, and at most so many output tokens. None for a
        model that has no price, and 0 for one that is paid by the hour: how long it takes is known afterwards only."""
        if min(input, output) < 0:
            raise ValueError(f"{input} input tokens and {output} output tokens.")
        price = self._price(model)
        return None if price is None else price.estimate(Tokens(input, output=output))

    def _price(self, model: str) -> Price | None:
        return self._own.get(model) or self._published(self._like.get(model, model))

    def _published(self, model: str) -> TokenPrice | None:
        return published(model, self._clock())


def published(model: str, when: float, provider: Provider = "openai") -> TokenPrice | None:
    """A provider's price of a model at that Unix time; None if there is none by the token. Claude's writes for an hour
    stand in the place of those for 12."""
    return _published(model, int(when // 60), provider)


@lru_cache(KEPT)
def _published(model: str, minute: int, provider: Provider) -> TokenPrice | None:
    """The price in that minute.

    Tokens of a sort that has no price cost as much as any input token, and an output token nothing where only input is
    paid for, as genai-prices has it.
    """
    when = datetime.fromtimestamp(minute * 60, UTC)
    try:
        listed = calc_price(Usage(), model_ref=model, provider_id=provider, genai_request_timestamp=when).model_price
    except LookupError:
        return None
    plain, output = listed.input_mtok, listed.output_mtok
    if plain is None:
        return None
    read, write = (plain if price is None else price for price in (listed.cache_read_mtok, listed.cache_write_mtok))
    prices = (plain, read, write, write, Decimal(0) if output is None else output)
    starts = {-1} | {tier.start for price in prices if isinstance(price, TieredPrices) for tier in price.tiers}
    tiers = {start: [_beyond(price, start) for price in prices] for start in starts}
    if provider == "anthropic":
        for rates in tiers.values():
            rates[3] = 2 * rates[0]  # docs/contract.md, Claude
    return TokenPrice.of(tiers)


def _beyond(price: Decimal | TieredPrices, start: int) -> Decimal:
    """Of more than `start` input tokens."""
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if tier.start <= start), price.base)


def _whole(amount: int, parts: int) -> int:
    """`amount / parts`, half to even."""
    if parts == 1:
        return amount
    whole, rest = divmod(amount, parts)
    return whole + (2 * rest > parts or (2 * rest == parts and whole % 2 == 1))
