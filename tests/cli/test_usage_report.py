"""Costs, counts, times and names as `headstart usage` writes them."""

from __future__ import annotations

import pytest

from headstart.cli.usage_report import money, short, spreadsheet_text, time_text
from headstart.types import dollars


@pytest.mark.parametrize(
    ("name", "text"),
    [("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), (" @x", "' @x"), ("\t=1", "\\t=1"), ("a=1", "a=1"), ("", "")],
)
def test_names_are_no_formulas(name: str, text: str) -> None:
    """An apostrophe before what a spreadsheet would compute."""
    assert spreadsheet_text(name) == text


@pytest.mark.parametrize(
    ("cost", "text", "digits"),
    [
        (0, "$0", "0"),
        (1, "$0.000001", "0.000000000001"),
        (1_846_000_000, "$0.001846", "0.001846"),
        (-1_846_000_000, "-$0.001846", "-0.001846"),
        (999_999_600_000, "$1.00", "0.9999996"),
        (12_300_000_000_000, "$12.30", "12.3"),
        (9_999_994_000_000_000, "$9,999.99", "9999.994"),
        (-12_345_678_000_000_000, "-$12,346", "-12345.678"),
        (2**63 - 1, "$9,223,372", "9223372.036854775807"),
    ],
)
def test_money(cost: int, text: str, digits: str) -> None:
    """To the millionth for people, and to the last digit for scripts."""
    assert (money(cost), dollars(cost)) == (text, digits)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999_999, "999,999"),
        (10**6, "1M"),
        (999_600_000, "1,000M"),
        (1_234 * 10**6, "1.23B"),
        (10**16, "10,000T"),
    ],
)
def test_short_numbers(number: int, text: str) -> None:
    """Three digits from a million on."""
    assert short(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.0042, "4.2 ms"), (0.00999, "10 ms"), (0.4504, "450 ms"), (0.9996, "1.00 s"), (99.96, "100 s")],
)
def test_times(seconds: float | None, text: str) -> None:
    """In the unit that suits them."""
    assert time_text(seconds) == text
