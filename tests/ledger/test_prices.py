"""Prices, against OpenAI's published rates."""

from __future__ import annotations

from decimal import Decimal

import pytest

from headstart.ledger.prices import input_cost


def test_uncached_input() -> None:
    """gpt-4.1-mini: $0.40 per million."""
    assert input_cost("gpt-4.1-mini", input_tokens=1_000_000, cached_tokens=0) == Decimal("0.40")


def test_cached_input() -> None:
    """gpt-4.1-mini: $0.10 per million tokens read from the cache."""
    assert input_cost("gpt-4.1-mini", input_tokens=1_000_000, cached_tokens=1_000_000) == Decimal("0.10")


def test_tutorials_second_call() -> None:
    """4,608 of 4,616 tokens cached: exact to the last digit, in decimals."""
    cost = input_cost("gpt-4.1-mini", input_tokens=4_616, cached_tokens=4_608)
    assert cost == 8 * Decimal("0.0000004") + 4_608 * Decimal("0.0000001")


def test_written_tokens() -> None:
    """Breakpoint models bill a write at 1.25 times the uncached rate (docs/contract.md, breakpoint models)."""
    plain = input_cost("gpt-5.6", input_tokens=10_000, cached_tokens=0)
    written = input_cost("gpt-5.6", input_tokens=10_000, cached_tokens=0, written_tokens=10_000)
    assert plain is not None
    assert written == plain * Decimal("1.25")


def test_unknown_model() -> None:
    """A model of one's own has no price."""
    assert input_cost("my-model", input_tokens=10, cached_tokens=0) is None


@pytest.mark.parametrize(("cached", "written"), [(11, 0), (6, 5), (-1, 0)])
def test_impossible_counts(cached: int, written: int) -> None:
    """More cached and written tokens than input tokens is a mistake of the caller's."""
    with pytest.raises(ValueError, match="of 10 input tokens"):
        input_cost("gpt-4.1-mini", input_tokens=10, cached_tokens=cached, written_tokens=written)
