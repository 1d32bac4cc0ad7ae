"""What requests cost: as published, to the last digit, or at one's own prices."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import TimeOfDateConstraint
from hypothesis import given
from hypothesis import strategies as st

from headstart.ledger.price_list import Cost, HourPrice, Like, Price, PriceList, TokenPrice, price_of
from headstart.ledger.prices import input_cost
from headstart.types import PICO

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PUBLISHED = PriceList({}, clock=NOW.timestamp)
MODELS = get_snapshot().find_provider(None, "openai", None).models
NAMES = {model.id if model.is_match(model.id) else f"{model.id}-2024-07-18": model for model in MODELS}
"""Fine-tuned models have a date in their names."""
BY_TOKEN = [name for name, model in NAMES.items() if model.get_prices(NOW).input_mtok is not None]
MODEL = "my-llama"

counts = st.one_of(st.integers(0, 1000), st.integers(0, 500_000), st.sampled_from([271_999, 272_000, 272_001]))
dollars = st.decimals(0, 1000, places=4) | st.floats(0, 1e6).map(lambda price: Decimal(repr(price)))
seconds = st.floats(0, 1e6)


def cost(
    prices: PriceList, model: str, input: int, cached: int = 0, short: int = 0, long: int = 0, output: int = 0
) -> Cost | None:
    """Of so many input tokens, some cached and some written for 30 minutes or 12 hours, and output tokens."""
    return prices.cost(model, input=input, cached=cached, written_30m=short, written_12h=long, output=output)


def own(price: Price | Like) -> PriceList:
    """A list of one model."""
    return PriceList({MODEL: price})


def published(model: str, usage: Usage, when: datetime = NOW) -> Decimal:
    """By genai-prices, in picodollars."""
    found = calc_price(usage, model_ref=model, provider_id="openai", genai_request_timestamp=when)
    return (found.input_price + found.output_price) * PICO


@pytest.mark.contract("B12")
@given(st.data(), counts, counts, counts, counts, counts)
def test_as_published(data: st.DataObject, plain: int, cached: int, short: int, long: int, output: int) -> None:
    """Every model of OpenAI's list that is paid by the token, in every tier."""
    model = data.draw(st.sampled_from(BY_TOKEN))
    input = plain + cached + short + long
    usage = Usage(input_tokens=input, cache_read_tokens=cached, cache_write_tokens=short + long, output_tokens=output)
    uncached = Usage(input_tokens=input, cache_read_tokens=0, cache_write_tokens=0, output_tokens=output)
    assert cost(PUBLISHED, model, input, cached, short, long, output) == Cost(
        published(model, usage),
        published(model, uncached),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("model", NAMES)
def test_every_published_model(model: str) -> None:
    """Each once. What isn't paid by the token, as speech by the hour, has no price here."""
    found = cost(PUBLISHED, model, 300_000, 1000, 500, 250, 7)
    usage = Usage(input_tokens=300_000, cache_read_tokens=1000, cache_write_tokens=750, output_tokens=7)
    if model in BY_TOKEN:
        assert found is not None
        assert found.cost == published(model, usage)
    else:
        assert found is None
        assert PUBLISHED.estimate(model, input=1, output=1) is None


@pytest.mark.parametrize("model", ["gpt-5.6", "gpt-5.6-sol", "gpt-5.4"])
@pytest.mark.parametrize("input", [271_999, 272_000, 272_001])
def test_edges_of_a_tier(model: str, input: int) -> None:
    """Beyond 272,000 input tokens every token costs more, the output's too; at 272,000 none does."""
    base, edge = cost(PUBLISHED, model, 1000, 500, 0, 0, 10), cost(PUBLISHED, model, input, input // 2, 0, 0, 10)
    assert base is not None
    assert edge is not None
    usage = Usage(input_tokens=input, cache_read_tokens=input // 2, output_tokens=10)
    assert edge.cost == published(model, usage)
    ordinary = Fraction(base.uncached_cost - published_output(model), 1000)
    assert (edge.uncached_cost > input * ordinary + published_output(model)) == (input > 272_000)


def published_output(model: str) -> int:
    """Ten output tokens behind a short prompt."""
    found = cost(PUBLISHED, model, 0, output=10)
    assert found is not None
    return found.cost


def test_a_published_price_has_a_date() -> None:
    """It goes from that day on, also in a list that was asked before; o3 became cheaper on 10 June 2025."""
    now = [datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC).timestamp()]
    prices = PriceList({}, clock=lambda: now[0])
    found = []
    for _ in range(2):
        found.append(cost(prices, "o3", 1000))
        now[0] += 1
    assert found == [Cost(10 * 10**9, 10 * 10**9), Cost(2 * 10**9, 2 * 10**9)]


def test_published_prices_are_whole_picodollars_and_have_dates_only() -> None:
    """So nothing is rounded, and a price holds for a minute."""
    assert {price.parts for model in BY_TOKEN if (price := PUBLISHED._published(model))} == {1}
    conditions = [c for model in MODELS if isinstance(model.prices, list) for c in model.prices]
    assert not [c for c in conditions if isinstance(c.constraint, TimeOfDateConstraint)]


@given(dollars, dollars, dollars, dollars, dollars, counts, counts, counts, counts, counts)
def test_the_formula(
    plain: Decimal,
    cached: Decimal,
    written: Decimal,
    long: Decimal,
    output: Decimal,
    ordinary: int,
    read: int,
    short: int,
    twelve: int,
    answer: int,
) -> None:
    """In fractions, rounded once to whole picodollars, half to even."""
    price = price_of(input=plain, cached=cached, written=written, written_12h=long, output=output)
    input = ordinary + read + short + twelve
    rates = [Fraction(rate) * 10**6 for rate in (plain, cached, written, long, output)]
    exact = sum(rate * tokens for rate, tokens in zip(rates, (ordinary, read, short, twelve, answer), strict=True))
    assert cost(own(price), MODEL, input, read, short, twelve, answer) == Cost(
        round(exact), round(input * rates[0] + answer * rates[4])
    )


@pytest.mark.parametrize(("tokens", "rounded"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3), (7, 4)])
def test_half_to_even(tokens: int, rounded: int) -> None:
    """Half a picodollar a token."""
    price = price_of(input=Decimal("0.0000005"), output=Decimal(0))
    assert cost(own(price), MODEL, tokens) == Cost(rounded, rounded)


def test_what_is_left_out_costs_as_much_as_its_like() -> None:
    """Cached and written as much as input, written for 12 hours as much as written."""
    assert price_of(input=Decimal(1), output=Decimal(2)) == TokenPrice.of({-1: [Decimal(n) for n in (1, 1, 1, 1, 2)]})
    assert price_of(input=Decimal(1), cached=Decimal(0), written=Decimal(3), output=Decimal(2)) == TokenPrice.of(
        {-1: [Decimal(n) for n in (1, 0, 3, 3, 2)]}
    )
    with pytest.raises(ValueError, match="input and output"):
        price_of(input=Decimal(1))


@given(st.data(), counts, counts, counts, counts, counts)
def test_an_estimate_is_never_exceeded(
    data: st.DataObject, plain: int, cached: int, short: int, long: int, output: int
) -> None:
    """Whatever is written, and however short the answer is; and it is what it costs if all is of the dearest sort."""
    model = data.draw(st.sampled_from(BY_TOKEN))
    input = plain + cached + short + long
    most = PUBLISHED.estimate(model, input=input, output=output)
    found = cost(PUBLISHED, model, input, cached, short, long, data.draw(st.integers(0, output)))
    sorts = [cost(PUBLISHED, model, input, *all_of, output) for all_of in ((0, 0, 0), (input, 0, 0), (0, input, 0))]
    assert most is not None
    assert found is not None
    assert max(found) <= most
    assert most == max(sort.cost for sort in sorts if sort is not None)


def test_writing_can_cost_more_than_it_saves() -> None:
    """The first request of a breakpoint model pays for those to come."""
    found = cost(PUBLISHED, "gpt-5.6-sol", 5000, 0, 5000)
    assert found is not None
    assert found.cost * 4 == found.uncached_cost * 5


def test_no_price() -> None:
    """None, never 0; asked again, too."""
    for _ in range(2):
        assert cost(PUBLISHED, MODEL, 0) is None
        assert PUBLISHED.estimate(MODEL, input=0, output=0) is None


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-5.6"])
def test_no_tokens(model: str) -> None:
    """Cost nothing, which is known."""
    assert cost(PUBLISHED, model, 0) == Cost(0, 0)
    assert PUBLISHED.estimate(model, input=0, output=0) == 0


def test_ones_own_price_goes_first() -> None:
    """Also for a name that OpenAI has a price for; other names keep theirs."""
    prices = PriceList({"gpt-5": price_of(input=Decimal(7), output=Decimal(0)), MODEL: Like("gpt-4.1-mini")})
    assert cost(prices, "gpt-5", 10) == Cost(70_000_000, 70_000_000)
    assert cost(prices, "gpt-5-mini", 10) == cost(PUBLISHED, "gpt-5-mini", 10)
    assert cost(prices, MODEL, 4616, 4608, output=3) == cost(PUBLISHED, "gpt-4.1-mini", 4616, 4608, output=3)
    assert prices.estimate(MODEL, input=10, output=10) == PUBLISHED.estimate("gpt-4.1-mini", input=10, output=10)


@given(dollars, seconds, seconds)
def test_by_the_hour(hour: Decimal, computed: float, saved: float) -> None:
    """So many seconds of it; without a cache those that it saved, too."""
    found = own(price_of(gpu_hour=hour)).cost(
        MODEL, input=10, cached=5, written_30m=0, written_12h=0, output=2, seconds=computed, saved_seconds=saved
    )
    rate = Fraction(hour) * PICO / 3600
    assert found == Cost(round(computed_exactly(computed, rate)), round(computed_exactly(computed, rate, saved)))


def computed_exactly(computed: float, rate: Fraction, saved: float = 0.0) -> Fraction:
    """No float is added."""
    return (Fraction(computed) + Fraction(saved)) * rate


def test_an_hour_that_nobody_measured() -> None:
    """It has a price, and that isn't known: None afterwards, and 0 before."""
    prices = own(HourPrice.of(Decimal("2.5")))
    assert cost(prices, MODEL, 10) is None
    assert prices.estimate(MODEL, input=10, output=10) == 0
    found = prices.cost(MODEL, input=10, cached=0, written_30m=0, written_12h=0, output=0, seconds=3600.0)
    assert found == Cost(25 * PICO // 10, 25 * PICO // 10)


@pytest.mark.contract("B11", note="for whoever asks for a price")
@pytest.mark.parametrize(
    "tokens", [(10, 11), (10, 6, 5), (10, 0, 6, 5), (10, -1), (10, 0, -1), (10, 0, 0, 0, -1), (-1,)]
)
def test_impossible_counts(tokens: tuple[int, ...]) -> None:
    """More cached and written tokens than input tokens is a mistake of the caller's, also about an unknown model."""
    for model in ("gpt-4.1-mini", MODEL):
        with pytest.raises(ValueError, match="input tokens"):
            cost(PUBLISHED, model, *tokens)
    with pytest.raises(ValueError, match="-1"):
        PUBLISHED.estimate(MODEL, input=-1, output=0)


def test_the_demos_figure_is_the_same() -> None:
    """What the demo prints is what the ledger has."""
    found = cost(PUBLISHED, "gpt-4.1-mini", 4616, 4608)
    dollars = input_cost("gpt-4.1-mini", input_tokens=4616, cached_tokens=4608)
    assert dollars is not None
    assert found is not None
    assert found.cost == dollars * PICO
