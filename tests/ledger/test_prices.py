"""Prices, against the published rates, and when a cache pays."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.ledger.prices import Rates, input_cost, padding_pays_from, passes, rates_of

USUAL = Rates(write=Decimal("1.25"), read=Decimal("0.1"))


def test_uncached_input() -> None:
    """gpt-4.1-mini: $0.40 per million."""
    assert input_cost("gpt-4.1-mini", input_tokens=1_000_000, cached_tokens=0) == Decimal("0.40")


def test_cached_input() -> None:
    """gpt-4.1-mini: $0.10 per million tokens read from the cache."""
    assert input_cost("gpt-4.1-mini", input_tokens=1_000_000, cached_tokens=1_000_000) == Decimal("0.10")


@pytest.mark.contract("B12")
def test_tutorials_second_call() -> None:
    """4,608 of 4,616 tokens cached: exact to the last digit, in decimals."""
    cost = input_cost("gpt-4.1-mini", input_tokens=4_616, cached_tokens=4_608)
    assert cost == 8 * Decimal("0.0000004") + 4_608 * Decimal("0.0000001")


@pytest.mark.contract("P22")
def test_written_tokens() -> None:
    """Breakpoint models bill a write at 1.25 times the uncached rate."""
    plain = input_cost("gpt-5.6", input_tokens=10_000, cached_tokens=0)
    written = input_cost("gpt-5.6", input_tokens=10_000, cached_tokens=0, written_tokens=10_000)
    assert plain is not None
    assert written == plain * Decimal("1.25")


def test_unknown_model() -> None:
    """A model of one's own has no price."""
    assert input_cost("my-model", input_tokens=10, cached_tokens=0) is None


@pytest.mark.contract("B11", note="for whoever asks for a price")
@pytest.mark.parametrize(("cached", "written"), [(11, 0), (6, 5), (-1, 0)])
def test_impossible_counts(cached: int, written: int) -> None:
    """More cached and written tokens than input tokens is a mistake of the caller's."""
    with pytest.raises(ValueError, match="of 10 input tokens"):
        input_cost("gpt-4.1-mini", input_tokens=10, cached_tokens=cached, written_tokens=written)


@pytest.mark.contract("B12")
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000))
def test_each_token_is_billed_once(cached: int, written: int, uncached: int) -> None:
    """The sum over the three sorts, each at its own rate."""
    one = input_cost("gpt-5.6-sol", input_tokens=1, cached_tokens=0)
    cost = input_cost(
        "gpt-5.6-sol", input_tokens=cached + written + uncached, cached_tokens=cached, written_tokens=written
    )
    assert one is not None
    assert cost == one * (uncached + cached * USUAL.read + written * USUAL.write)


@pytest.mark.contract("P22")
@pytest.mark.parametrize(("model", "read"), [("gpt-5.6-sol", "0.1"), ("gpt-5.6-terra", "0.1"), ("gpt-6.1-sol", "0.05")])
def test_rates_of_breakpoint_models(model: str, read: str) -> None:
    """0.1 times the uncached rate for most, 0.05 for some; a write is 1.25."""
    assert rates_of(model) == Rates(Decimal("1.25"), Decimal(read))


@pytest.mark.contract("I5")
def test_rates_of_interval_models() -> None:
    """A write costs what the uncached token does anyway."""
    assert rates_of("gpt-4.1-mini") == Rates(Decimal(1), Decimal("0.25"))
    assert rates_of("gpt-5") == Rates(Decimal(1), Decimal("0.1"))


CLAUDE = ("claude-sonnet-4-5", "claude-opus-4-8", "claude-haiku-4-5", "claude-sonnet-5", "claude-opus-5")


@pytest.mark.contract("C1")
@pytest.mark.contract("C2", note="read is 0.05× or 0.025× for some newer models, by genai-prices")
@pytest.mark.parametrize("model", CLAUDE)
def test_rates_of_claude(model: str) -> None:
    """Written for five minutes or for an hour."""
    assert rates_of(model, "anthropic") == Rates(Decimal("1.25"), Decimal("0.1"))
    assert rates_of(model, "anthropic", hour=True) == Rates(Decimal(2), Decimal("0.1"))


@pytest.mark.contract("C1")
@pytest.mark.parametrize(("model", "read"), [("claude-sonnet-5-5", "0.05"), ("claude-fable-5-1", "0.025")])
def test_claudes_that_read_for_less(model: str, read: str) -> None:
    """The published price of a model goes before the family's rule of thumb."""
    assert rates_of(model, "anthropic") == Rates(Decimal("1.25"), Decimal(read))
    assert rates_of(model, "anthropic", hour=True) == Rates(Decimal(2), Decimal(read))


def test_rates_of_an_unknown_model() -> None:
    """None, also of the other provider's."""
    assert rates_of("my-model") is None
    assert rates_of("my-model", "anthropic") is None


@pytest.mark.contract("E7")
def test_one_write_and_nine_reads() -> None:
    """2.15 passes, against ten; in dollars too, through what each request is billed."""
    assert passes(10, USUAL) == Decimal("2.15")
    write = input_cost("gpt-5.6-sol", input_tokens=5000, cached_tokens=0, written_tokens=5000)
    read = input_cost("gpt-5.6-sol", input_tokens=5000, cached_tokens=5000)
    uncached = input_cost("gpt-5.6-sol", input_tokens=5000, cached_tokens=0)
    assert write is not None
    assert read is not None
    assert uncached is not None
    assert write + 9 * read == Decimal("2.15") * uncached


@pytest.mark.contract("E8")
def test_padding_pays_from_221_tokens() -> None:
    """1,024 tokens, ten requests: a prefix of 221 tokens is cheaper padded, one of 220 isn't."""
    assert padding_pays_from(1024, 10, USUAL) == 221


@pytest.mark.contract("E8")
@given(
    st.integers(1, 5000), st.integers(1, 1000), st.sampled_from(["1.25", "2", "1"]), st.sampled_from(["0.1", "0.05"])
)
def test_padding_pays_where_it_costs_less(minimum: int, requests: int, write: str, read: str) -> None:
    """From there on it is cheaper than without a cache, and one token below it isn't."""
    rates = Rates(Decimal(write), Decimal(read))
    padded = minimum * passes(requests, rates)
    first = padding_pays_from(minimum, requests, rates)
    assert padded < first * requests
    assert padded >= (first - 1) * requests
