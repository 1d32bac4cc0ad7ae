"""The budgets of keys as clients meet them: through the SDK, on a server with a ledger."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest
from tests.api.books import BREAKPOINTS, MODEL, PATHS, UNPRICED, Firm, OpenFirm, asked, wait_for

from headstart.config import ModelConfig, PriceConfig
from headstart.ledger.reports import span
from headstart.types import Endpoint, Usage

HEADERS = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")
TEXT = "alpha beta gamma delta epsilon " * 400

on_both = pytest.mark.parametrize("endpoint", ["responses", "chat.completions"])
streamed_and_not = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def post(house: Firm, name: str, endpoint: Endpoint = "responses", text: str = "Hello", **more: Any) -> httpx2.Response:
    """A plain request with a key."""
    headers = {"authorization": f"Bearer {house.keys[name]}"}
    return httpx2.post(house.url + PATHS[endpoint], json=asked(endpoint, text, **more), headers=headers, timeout=20)


def remaining(answer: httpx2.Response) -> int:
    """Tokens that are left, by an answer's headers."""
    return int(answer.headers["x-ratelimit-remaining-tokens"])


def last_row(house: Firm) -> Usage:
    """The row of the latest request that ended."""
    return house.rows()[-1]


@on_both
@streamed_and_not
def test_every_answer_says_what_is_left(open_firm: OpenFirm, endpoint: Endpoint, stream: bool) -> None:
    """OpenAI's three headers, whatever the answer; none for a key without a limit."""
    with open_firm({"ci": {"tokens_per_minute": 3000}, "free": {}}) as house:
        answer = post(house, "ci", endpoint, most=5, stream=stream)
        assert answer.status_code == 200
        assert answer.headers[HEADERS[0]] == "3000"
        assert 2900 < remaining(answer) < 3000
        assert answer.headers[HEADERS[2]].endswith("s")
        other = post(house, "free", endpoint, most=5, stream=stream)
        assert not set(HEADERS) & set(other.headers)


@on_both
@streamed_and_not
def test_tokens_per_minute(open_firm: OpenFirm, endpoint: Endpoint, stream: bool) -> None:
    """429 in OpenAI's shape, for this key alone; what is read from the cache counts; the row is refused."""
    with open_firm({"ci": {"tokens_per_minute": 5000}, "other": {"tokens_per_minute": 5000}}) as house:
        for _ in range(2):
            assert post(house, "ci", endpoint, TEXT, most=5).status_code == 200
        warm = last_row(house)
        assert warm.cached > 1024
        answer = post(house, "ci", endpoint, TEXT, most=5, stream=stream)
        assert answer.status_code == 429
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("tokens", "rate_limit_exceeded", None)
        assert error["message"].startswith(f"Rate limit reached for {MODEL} in organization default on tokens per min")
        assert 5000 - 2 * (warm.input + warm.output) <= remaining(answer) < 5000 - 2 * warm.input + 100
        wait = int(answer.headers["retry-after-ms"])
        assert 0 < wait <= int(answer.headers["retry-after"]) * 1000 < wait + 1000
        assert wait < 60_000 * (warm.input + 5) / 5000
        row = last_row(house)
        assert (row.status, row.error, row.key, row.model) == ("refused", "rate_limit_exceeded", "ci", MODEL)
        assert (row.input, row.cost, row.id) == (0, 0, "")
        assert post(house, "other", endpoint, TEXT, most=5, stream=stream).status_code == 200


def test_the_sdk_knows_it(open_firm: OpenFirm) -> None:
    """As its own kind of error; a request that can never fit is not tried again."""
    with open_firm({"ci": {"tokens_per_minute": 100}}) as house, house.client("ci", retries=5) as client:
        begun = time.perf_counter()
        with pytest.raises(openai.RateLimitError) as caught:
            client.responses.create(model=MODEL, input=TEXT)
        assert time.perf_counter() - begun < 5
        assert (caught.value.status_code, caught.value.code, caught.value.type) == (
            429,
            "rate_limit_exceeded",
            "tokens",
        )
        assert "Request too large" in caught.value.message
        assert caught.value.response.headers["x-should-retry"] == "false"
        house.quiet()
        total = house.ledger.reports.total(span(3600, time.time() + 1)).sums
        assert (total.requests, total.failed) == (1, 1), "one attempt"


def test_the_sdk_waits_and_succeeds(open_firm: OpenFirm) -> None:
    """It comes again when it was told to, and is let in."""
    limit = 60_000  # a thousand a second
    with open_firm({"ci": {"tokens_per_minute": limit}}) as house, house.client("ci", retries=3) as client:
        words = " ".join(["alpha"] * 20_000)
        for _ in range(2):
            client.responses.create(model=MODEL, input=words, max_output_tokens=1)
        begun = time.perf_counter()
        client.responses.create(model=MODEL, input=" ".join(["alpha"] * 20_600), max_output_tokens=1)
        assert 0.2 < time.perf_counter() - begun < 5
        house.quiet()
        total = house.ledger.reports.total(span(3600, time.time() + 1)).sums
        assert (total.requests, total.failed) == (4, 1)


def test_what_was_not_used_is_given_back(open_firm: OpenFirm) -> None:
    """Reserved are all output tokens that were asked for; at the end those that came count, also of who went away."""
    with open_firm({"ci": {"tokens_per_minute": 6000}}) as house:
        answer = post(house, "ci", most=5000)
        assert remaining(answer) < 1000, "as it was admitted"
        house.quiet()
        after = remaining(post(house, "ci", most=1))
        assert after > 5900
        house.engine.delay, house.engine.output_tokens = 0.01, 100_000
        with house.client("ci") as client:
            stream = client.responses.create(model=MODEL, input="Hello", max_output_tokens=5000, stream=True)
            next(iter(stream))
            assert post(house, "ci", text="word " * 1500).status_code == 429, "what it may still have is held"
            stream.close()
        wait_for(lambda: not house.accounts.meter.under_way)
        house.engine.delay, house.engine.output_tokens = 0.0, 16
        assert remaining(post(house, "ci", most=1)) > 5800


@pytest.mark.parametrize("fault", ["full", "failing", "bad"])
def test_who_gets_no_answer_keeps_the_budget(open_firm: OpenFirm, fault: str) -> None:
    """What was refused after it was admitted, or failed, reserves nothing any more."""
    with open_firm({"ci": {"tokens_per_minute": 6000, "dollars_per_day": Decimal(1)}}) as house:
        house.engine.capacity = 0 if fault == "full" else 64
        house.engine.fail_after = 0 if fault == "failing" else None
        more: Any = {"text": "word " * 5_500} if fault == "failing" else {}
        text = more.get("text", "Hello")
        if fault == "bad":
            assert post(house, "ci", temperature=9).status_code == 400
        else:
            assert post(house, "ci", text=text, most=400).status_code == (429 if fault == "full" else 500)
        house.engine.capacity, house.engine.fail_after = 64, None
        left = remaining(post(house, "ci", most=1))
        assert left > 5900 if fault != "failing" else left < 600, "what was computed counts"
        account = house.accounts.meter.limits._accounts["ci"]
        house.quiet()
        assert account.day.reserved == 0
        assert account.day.own < 20_000_000, "dollars: that one word, and no more"


def test_dollars_per_day(open_firm: OpenFirm) -> None:
    """The input is reserved at its dearest; what is over is `insufficient_quota`, and not tried again."""
    keys: Any = {"ci": {"dollars_per_day": Decimal("0.001")}, "other": {"dollars_per_day": Decimal("0.001")}}
    with open_firm(keys) as house:
        house.ask("ci", TEXT)
        with pytest.raises(openai.RateLimitError) as caught:
            house.ask("ci", TEXT)
        error = caught.value
        assert (error.status_code, error.code, error.type) == (429, "insufficient_quota", "insufficient_quota")
        assert "You exceeded your current quota" in error.message
        assert "$0.001 per day" in error.message
        assert error.response.headers["x-should-retry"] == "false"
        assert 0 < int(error.response.headers["retry-after"]) <= 86_400
        row = last_row(house)
        assert (row.status, row.error, row.cost) == ("refused", "insufficient_quota", 0)
        house.ask("other", TEXT)
        assert house.ask("ci", "Hello").output_text, "a small one fits"


def test_a_model_without_a_price_and_one_by_the_hour(open_firm: OpenFirm) -> None:
    """What can't be counted is refused to a key with a budget in dollars; one's own price counts."""
    models = (ModelConfig(name=UNPRICED), ModelConfig(name="own", price=PriceConfig(gpu_hour=Decimal(36))))
    with open_firm({"ci": {"dollars_per_day": Decimal("0.001")}, "free": {}}, models) as house:
        with pytest.raises(openai.RateLimitError, match=f"'{UNPRICED}' has no price here"):
            house.ask("ci", model=UNPRICED)
        assert house.ask("free", model=UNPRICED).output_text
        house.engine.delay = 0.05  # five hundredths of a second are 0.0005 dollars
        house.ask("ci", model="own", most=2)
        assert last_row(house).cost == 10**9
        house.engine.delay = 0
        with pytest.raises(openai.RateLimitError, match=r"\$0.001000 are spent\. The budget is renewed"):
            house.ask("ci", model="own", most=2)


def test_spending_survives_a_restart(open_firm: OpenFirm) -> None:
    """The ledger knows what the key spent before: to the picodollar."""
    keys: Any = {"ci": {"dollars_per_day": Decimal("0.001")}}
    with open_firm(keys) as house:
        house.ask("ci", TEXT)
        cost, plaintext = last_row(house).cost, house.keys["ci"]
    with open_firm(keys) as house:
        house.keys["ci"] = plaintext
        with pytest.raises(openai.RateLimitError) as caught:
            house.ask("ci", TEXT)
        assert caught.value.code == "insufficient_quota"
        day = house.accounts.meter.limits._accounts["ci"].day
        assert (day.rest, day.own, day.reserved) == (cost, 0, 0)


def test_two_servers_share_a_budget(open_firm: OpenFirm) -> None:
    """On one ledger: what one has spent, the other knows when it asks."""
    keys: Any = {"ci": {"dollars_per_day": Decimal("0.001")}}
    with open_firm(keys) as one:
        one.ask("ci", TEXT)
        one.quiet()
        with open_firm(keys) as two:
            two.keys["ci"] = one.keys["ci"]
            with pytest.raises(openai.RateLimitError, match="exceeded your current quota"):
                two.ask("ci", TEXT)


@streamed_and_not
def test_written_tokens_are_reserved_at_their_price(open_firm: OpenFirm, stream: bool) -> None:
    """A write costs a quarter more than plain input, and the budget holds for it."""
    tokens = 2_021  # of TEXT in its frame, or so
    budget = Decimal(tokens * 4_500_000) / 10**12  # enough as plain input, and not as a write
    with open_firm({"ci": {"dollars_per_day": budget}, "rich": {"dollars_per_day": budget * 2}}) as house:
        refused = post(house, "ci", text=TEXT, model=BREAKPOINTS, most=1, stream=stream)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert post(house, "rich", text=TEXT, model=BREAKPOINTS, most=1, stream=stream).status_code == 200
        row = last_row(house)
        assert abs(row.input - tokens) < 40
        assert row.cost is not None
        assert budget * 10**12 < row.cost < 2 * budget * 10**12
