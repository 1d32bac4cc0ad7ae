"""What requests cost, by the rows that they leave: as published, and in the contract's worked cases."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any, get_args

import pytest
from tests.api.books import BREAKPOINTS, PATHS, UNPRICED, Books, boom, counted, figures, long_text, told

from headstart.ledger.price_list import PriceList
from headstart.ledger.prices import padding_pays_from, passes, rates_of
from headstart.types import Endpoint, Usage, dollars

on_both = pytest.mark.parametrize("endpoint", get_args(Endpoint))
streamed_and_not = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def parts(endpoint: Endpoint, *texts: str, ttl: str | None = None) -> list[Any]:
    """A user message in blocks, of which the first is marked as a breakpoint."""
    kind = "input_text" if endpoint == "responses" else "text"
    content: list[dict[str, Any]] = [{"type": kind, "text": text} for text in texts]
    content[0]["prompt_cache_breakpoint"] = {"mode": "explicit"} | ({"ttl": ttl} if ttl else {})
    return content if endpoint == "chat.completions" else [{"role": "user", "content": content}]


@on_both
@streamed_and_not
@pytest.mark.parametrize(("mark", "rest"), [("30m", "12h"), ("12h", "30m"), ("12h", "12h")])
def test_writes_by_their_life(books: Books, endpoint: Endpoint, stream: bool, mark: str, rest: str) -> None:
    """A marked block's own time, and the request's for what stands behind it; each at its price."""
    content = parts(endpoint, long_text(), long_text(200), ttl=mark)
    more: Any = {"prompt_cache_options": {"ttl": rest}, "prompt_cache_key": "writes"}
    answer = books.post(endpoint, text=content, model=BREAKPOINTS, most=3, stream=stream, **more)
    row, said = books.row(), told(endpoint, answer)["usage"]
    assert figures(row) == counted(said)
    if endpoint == "responses":
        split = said["input_tokens_details"]["cache_write_tokens_details"]
        assert (row.written_30m, row.written_12h) == (split["ttl_30m_tokens"], split["ttl_12h_tokens"])
    long, short = row.written_12h, row.written_30m
    if mark == rest:
        assert (long > 1700, short) == (True, 0)
    else:
        assert (long > 1500, short > 200) == (True, mark == "12h"), "what stands before a longer life lives as long"
    ordinary = row.input - row.written
    assert row.cost == ordinary * 4_000_000 + row.written * 5_000_000 + row.output * 20_000_000
    assert row.uncached_cost == row.input * 4_000_000 + row.output * 20_000_000


@on_both
def test_costs_by_hand(books: Books, endpoint: Endpoint) -> None:
    """$0.40 for a million tokens, $0.10 cached, $1.60 for output; and as `GET …/cache` has it, in dollars."""
    text = long_text()
    for _ in range(2):
        id = told(endpoint, books.post(endpoint, text=text, most=5))["id"]
        row = books.row()
        assert row.cost == (row.input - row.cached) * 400_000 + row.cached * 100_000 + row.output * 1_600_000
        assert row.uncached_cost == row.input * 400_000 + row.output * 1_600_000
        explained = books.get(f"{PATHS[endpoint]}/{id}/cache").json()
        assert explained["cost"] == {"dollars": dollars(row.cost), "without_cache": dollars(row.uncached_cost)}
        assert Decimal(explained["cost"]["dollars"]) * 10**12 == row.cost
        assert (explained["cached_tokens"], explained["input_tokens"]) == (row.cached, row.input)
    assert row.cached > 1024


@on_both
def test_an_unknown_price_is_null(books: Books, endpoint: Endpoint) -> None:
    """Never 0, in the row and for who asks."""
    id = told(endpoint, books.post(endpoint, model=UNPRICED))["id"]
    row = books.row()
    assert (row.cost, row.uncached_cost) == (None, None)
    assert books.get(f"{PATHS[endpoint]}/{id}/cache").json()["cost"] is None


def test_the_cost_is_its_organisations(books: Books) -> None:
    """Nobody else finds a row by an id."""
    id = told("responses", books.post("responses"))["id"]
    assert books.meter.recent("acme", id) == books.row()
    assert books.meter.recent("other", id) is None


# ----------------------------------------------------------------------------------------- the contract's worked cases


@pytest.mark.contract("E7", note="over the wire: what ten requests cost, by their rows")
@on_both
def test_one_write_and_nine_reads_cost_2_15_passes(books: Books, endpoint: Endpoint) -> None:
    """Of the prefix; without a cache it is ten."""
    rubric, price = long_text(12_000), 4_000_000
    rows = []
    for essay in range(10):
        content = parts(endpoint, rubric, f"Grade essay {essay}.")
        explicit = {"mode": "explicit"}
        books.post(endpoint, text=content, model=BREAKPOINTS, most=4, prompt_cache_options=explicit)
        rows.append(books.row())
    prefix = rows[0].written
    assert prefix > 12_000
    assert [(row.written, row.cached) for row in rows] == [(prefix, 0)] + [(0, prefix)] * 9
    others = sum((row.input - prefix) * price + row.output * 20_000_000 for row in rows)
    assert Fraction(sum(row.cost or 0 for row in rows) - others, prefix * price) == Fraction("2.15")
    assert Fraction(sum(row.uncached_cost or 0 for row in rows) - others, prefix * price) == 10


@pytest.mark.contract("E8", note="over the wire: ten requests with a prefix of 1,024 tokens, by their rows")
def test_padding_pays_from_221_tokens(books: Books) -> None:
    """What ten requests on a padded prefix cost is less than with 221 tokens as they are, and more than with 220."""
    options: Any = {"model": BREAKPOINTS, "most": 1, "prompt_cache_options": {"mode": "explicit"}}

    def rows_of(words: int, requests: int) -> list[Usage]:
        rubric, rows = f"Pad {words}" + " alpha" * words, []
        for essay in range(requests):
            books.post("responses", text=parts("responses", rubric, f"Essay {essay}."), **options)
            rows.append(books.row())
        return rows

    around = rows_of(1100, 1)[0].written - 1100
    assert rows_of(1023 - around, 1)[0].written == 0, "too short"
    padded = rows_of(1024 - around, 10)
    assert padded[0].written == padded[9].cached == 1024
    rest = sum((row.input - 1024) * 4_000_000 + row.output * 20_000_000 for row in padded)
    prefix = sum(row.cost or 0 for row in padded) - rest
    assert 10 * 220 * 4_000_000 < prefix < 10 * 221 * 4_000_000
    rates = rates_of(BREAKPOINTS)
    assert rates is not None
    assert (prefix, padding_pays_from(1024, 10, rates)) == (1024 * passes(10, rates) * 4_000_000, 221)


# ------------------------------------------------------------------------------------------------------------- faults


def test_a_price_list_that_fails_costs_no_answer(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is filed without a cost, and says what else there is."""
    monkeypatch.setattr(PriceList, "cost", boom)
    answer = books.post("responses")
    assert answer.status_code == 200
    row = books.row()
    assert (row.status, row.cost, row.uncached_cost) == ("completed", None, None)
    assert row.output == 17


def test_a_sink_that_fails_costs_no_answer(
    books: Books, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The others get their rows, and the log says so."""

    class Broken:
        def take(self, row: Usage, gaps: Any, traceparent: str | None = None) -> None:
            boom()

    monkeypatch.setattr(books.meter, "_sinks", (Broken(), *books.meter._sinks))
    assert books.post("responses").status_code == 200
    assert books.row().status == "completed"
    assert "A request's row was not taken." in caplog.text
