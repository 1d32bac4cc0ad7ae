"""Budgets: what a key may use in a minute and spend on a day."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headstart.api.auth import ANYONE, Key
from headstart.api.limits import DAY_SECONDS, Estimate, Limits, Reservation, duration
from headstart.errors import QuotaExceeded, RateLimited
from headstart.types.usage import PICO

MIDNIGHT = 20_000.0 * DAY_SECONDS
NOON = MIDNIGHT + 43_200.0
FREE = Estimate(0, 0)


class Clock:
    """A time that is set."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Asked:
    """A ledger that says what it is told to, and how often it was asked."""

    def __init__(self, answer: int | None = 0) -> None:
        self.answer = answer
        self.calls: list[tuple[str, float]] = []

    def __call__(self, name: str, since: float) -> int | None:
        self.calls.append((name, since))
        return self.answer


def key(tokens: int | None = None, dollars: str | None = None, name: str = "ci") -> Key:
    """A key with budgets."""
    return Key(name, "acme", 0, "", False, tokens, None if dollars is None else Decimal(dollars))


async def admit(
    limits: Limits, who: Key, input: int = 0, max_output: int = 0, estimate: Estimate | None = FREE
) -> Reservation:
    """A request's reservation."""
    return await limits.admit(who, "gpt-4.1-mini", input=input, max_output=max_output, estimate=estimate)


async def test_without_limits() -> None:
    """Nothing is remembered, asked or said, and it takes no time to speak of."""
    ledger = Asked()
    limits = Limits(ledger, Clock())
    reservation = await admit(limits, ANYONE, 10**9, 10**9, None)
    reservation.settle(10**9, None)
    assert reservation.headers() == {}
    assert (len(limits), ledger.calls) == (0, [])
    best = min([await timed(limits) for _ in range(20)])
    assert best < 2e-6


async def timed(limits: Limits) -> float:
    """Seconds that an admission and its end take."""
    begun = time.perf_counter()
    for _ in range(1000):
        (await limits.admit(ANYONE, "m", input=1, max_output=0, estimate=None)).settle(1, 1)
    return (time.perf_counter() - begun) / 1000


@pytest.mark.contract("B15", note="a request is admitted by its input tokens and settled by all it used, cached or not")
async def test_tokens_per_minute() -> None:
    """Reserved with the output it may have, settled to what it used, free again evenly within a minute."""
    clock = Clock()
    limits, who = Limits(Asked(), clock), key(6000)
    first = await admit(limits, who, 3000, 1000)
    assert first.headers() == {
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "2000",
        "x-ratelimit-reset-tokens": "40s",
    }
    with pytest.raises(RateLimited) as caught:
        await admit(limits, who, 2620)
    error = caught.value
    assert error.message == (
        "Rate limit reached for gpt-4.1-mini in organization acme on tokens per min (TPM): Limit 6000, Used 4000, "
        "Requested 2620. Please try again in 6.2s."
    )
    assert (error.status, error.type, error.code, error.param) == (429, "tokens", "rate_limit_exceeded", None)
    assert error.headers == {**first.headers(), "retry-after": "7", "retry-after-ms": "6200"}
    first.settle(3010, None)
    first.settle(0, 0)
    assert first.headers()["x-ratelimit-remaining-tokens"] == "2990"
    (await admit(limits, who, 2620)).settle(2620, None)
    clock.now += 60
    assert first.headers()["x-ratelimit-remaining-tokens"] == "6000"
    assert first.headers()["x-ratelimit-reset-tokens"] == "0s"


async def test_waiting_as_told_is_enough() -> None:
    """Whoever comes back after `retry-after-ms` is admitted, and not a millisecond earlier."""
    clock = Clock()
    limits, who = Limits(Asked(), clock), key(7)
    await admit(limits, who, 5)
    with pytest.raises(RateLimited) as caught:
        await admit(limits, who, 6)
    wait = int(caught.value.headers["retry-after-ms"])
    clock.now = NOON + (wait - 1) / 1000
    with pytest.raises(RateLimited):
        await admit(limits, who, 6)
    clock.now = NOON + wait / 1000 + 1e-6  # a float of today's time holds no fewer than 0.24 microseconds
    await admit(limits, who, 6)


async def test_too_large() -> None:
    """A request whose input alone is more than the limit is told so; there is no use in trying again."""
    limits, who = Limits(Asked(), Clock()), key(100)
    with pytest.raises(RateLimited, match=r"^Request too large for gpt-4.1-mini in organization acme on") as caught:
        await admit(limits, who, 101)
    assert "Limit 100, Requested 101. " in caught.value.message
    assert caught.value.headers["x-should-retry"] == "false"
    assert caught.value.headers["x-ratelimit-remaining-tokens"] == "100"
    assert "retry-after" not in caught.value.headers


async def test_huge_output_locks_nobody_out() -> None:
    """Of the output what fits is reserved; what was used beyond that has to be waited for."""
    clock = Clock()
    limits, who = Limits(Asked(), clock), key(100)
    reservation = await admit(limits, who, 40, 10**9)
    assert (reservation.input, reservation.output) == (40, 60)
    reservation.settle(150, 0)
    assert reservation.headers()["x-ratelimit-remaining-tokens"] == "0"
    clock.now += 30
    with pytest.raises(RateLimited, match="Used 100"):
        await admit(limits, who, 40, 10**9)
    clock.now += 60
    assert (await admit(limits, who, 40, 10**9)).output == 60


async def test_held_output_does_not_run_off() -> None:
    """Streams that are held open and then cancelled free what they held, and nothing beside it."""
    clock = Clock()
    limits, who = Limits(Asked(), clock), key(1000)
    streams = []
    for _ in range(3):
        streams.append(await admit(limits, who, 10, 10**6))
        assert streams[-1].headers()["x-ratelimit-remaining-tokens"] == "0"
        clock.now += 60
    for stream in streams:
        stream.settle(10, 0)
    await admit(limits, who, 1000)
    with pytest.raises(RateLimited):
        await admit(limits, who, 1)


async def test_a_changed_limit_counts_at_once() -> None:
    """What was used stays used."""
    clock = Clock()
    limits = Limits(Asked(), clock)
    await admit(limits, key(100), 100)
    assert (await admit(limits, key(1000), 900)).headers()["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(RateLimited, match="Limit 50, Used 1000"):
        await admit(limits, key(50), 1)
    await admit(limits, key(None), 10**6)


async def test_dollars_per_day() -> None:
    """What the ledger knew of, what was settled since and what is reserved, until midnight."""
    clock, ledger = Clock(), Asked(PICO // 2)
    limits, who = Limits(ledger, clock), key(None, "1.00")
    first = await admit(limits, who, estimate=Estimate(PICO // 8, PICO // 8))
    assert ledger.calls == [("ci", MIDNIGHT)]
    with pytest.raises(QuotaExceeded) as caught:
        await admit(limits, who, estimate=Estimate(PICO // 2, 0))
    assert "$0.500000 are spent and $0.250000 reserved" in caught.value.message
    assert caught.value.headers == {"retry-after": "1", "retry-after-ms": "1000"}
    first.settle(0, PICO // 10)
    first.settle(0, PICO)
    await admit(limits, who, estimate=Estimate(PICO * 4 // 10, 0))
    with pytest.raises(QuotaExceeded):
        await admit(limits, who, estimate=Estimate(1, 0))
    with pytest.raises(QuotaExceeded):  # what is paid by the hour is only known afterwards
        await admit(limits, who, estimate=FREE)
    clock.now, ledger.answer = MIDNIGHT + DAY_SECONDS, 0
    await admit(limits, who, estimate=Estimate(PICO, 0))
    assert ledger.calls[-1] == ("ci", MIDNIGHT + DAY_SECONDS)


async def test_over_budget() -> None:
    """In OpenAI's words, with the time it is renewed, and the token limit's headers."""
    limits = Limits(Asked(3 * PICO), Clock(MIDNIGHT + 1800.5))
    with pytest.raises(QuotaExceeded, match=r"^You exceeded your current quota") as caught:
        await admit(limits, key(10, "2.50"), 1, estimate=Estimate(1, 0))
    error = caught.value
    assert "$2.50 per day, of which $3.000000 are spent" in error.message
    assert error.message.endswith("The budget is renewed at 00:00 UTC, in 23h30m0s.")
    assert (error.status, error.type, error.code) == (429, "insufficient_quota", "insufficient_quota")
    assert (error.headers["retry-after"], error.headers["x-should-retry"]) == ("84600", "false")
    assert error.headers["x-ratelimit-remaining-tokens"] == "10"


async def test_a_model_without_a_price() -> None:
    """Can't be counted, so a key with a budget in dollars can't use it; other keys can."""
    limits = Limits(Asked(), Clock())
    with pytest.raises(QuotaExceeded, match=r"'gpt-4.1-mini' has no price here.*\[\[models\]\]") as caught:
        await admit(limits, key(None, "1"), estimate=None)
    assert caught.value.headers == {"x-should-retry": "false"}
    await admit(limits, key(10), 10, estimate=None)


async def test_output_is_reserved_as_far_as_it_fits() -> None:
    """The last request that is admitted may pass the budget by its output, and no one comes beside it."""
    limits, who = Limits(Asked(), Clock()), key(None, "1")
    last = await admit(limits, who, estimate=Estimate(10, 50 * PICO))
    assert last.cost == PICO
    for estimate in (Estimate(1, 0), Estimate(0, 1)):
        with pytest.raises(QuotaExceeded, match="reserved"):
            await admit(limits, who, estimate=estimate)
    last.settle(0, None)
    with pytest.raises(QuotaExceeded, match=r"\$1.000000 are spent"):
        await admit(limits, who, estimate=Estimate(1, 0))


async def test_the_ledger_is_asked_every_ten_seconds_and_nothing_counts_twice() -> None:
    """Its answers hold our own rows sooner or later, and other servers' too."""
    clock, ledger = Clock(), Asked(100)
    limits, who = Limits(ledger, clock), key(None, "0.000001")  # a million picodollars
    (await admit(limits, who, estimate=Estimate(10, 0))).settle(0, 10)

    async def left() -> int:
        reservation = await admit(limits, who, estimate=Estimate(1, 10**9))
        reservation.settle(0, 0)
        return reservation.cost

    assert await left() == 10**6 - 110
    clock.now += 9.9
    ledger.answer = 110
    assert await left() == 10**6 - 110
    assert len(ledger.calls) == 1
    clock.now += 0.2
    assert await left() == 10**6 - 110
    clock.now += 10
    ledger.answer = 110 + 1000
    assert await left() == 10**6 - 1110
    clock.now += 10
    ledger.answer = None
    assert await left() == 10**6 - 1110
    clock.now -= 5  # a clock that was set back asks again; after a silence nobody waits for that
    assert await left() == 10**6 - 1110
    for _ in range(500):
        if len(ledger.calls) < 5:
            await asyncio.sleep(0.01)
    assert ledger.calls == [("ci", MIDNIGHT)] * 5


async def test_a_silent_ledger_delays_only_the_first(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for a moment, by one question at a time; its late answer counts. One that fails is logged."""
    clock, released = Clock(), threading.Event()
    calls: list[str] = []

    def spent(name: str, since: float) -> int | None:
        calls.append(name)
        released.wait(10)
        return PICO

    limits, who = Limits(spent, clock), key(None, "1")
    begun = time.perf_counter()
    await asyncio.gather(*(admit(limits, who, estimate=Estimate(1, 0)) for _ in range(10)))
    assert time.perf_counter() - begun < 2
    monkeypatch.setattr("headstart.api.limits.PATIENCE", 10)
    begun = time.perf_counter()
    clock.now += 60
    await admit(limits, who, estimate=Estimate(1, 0))
    assert time.perf_counter() - begun < 5
    assert calls == ["ci"]
    released.set()
    account = limits._accounts["ci"]
    while account.day.asking is not None:
        await asyncio.sleep(0.01)
    with pytest.raises(QuotaExceeded):
        await admit(limits, who, estimate=Estimate(1, 0))

    def broken(name: str, since: float) -> int | None:
        raise RuntimeError("no such table")

    await admit(Limits(broken, clock), who, estimate=Estimate(1, 0))
    assert "no such table" in caplog.text


async def test_yesterdays_request_counts_yesterday() -> None:
    """As in the ledger, which goes by when a request came."""
    clock = Clock(MIDNIGHT - 1)
    limits, who = Limits(Asked(), clock), key(None, "1")
    late = await admit(limits, who, estimate=Estimate(PICO, 0))
    clock.now = MIDNIGHT
    today = await admit(limits, who, estimate=Estimate(PICO, 0))
    late.settle(0, PICO)
    today.settle(0, 0)
    clock.now = MIDNIGHT - 0.5  # set back a little: it stays today
    await admit(limits, who, estimate=Estimate(PICO, 0))


async def test_idle_keys_are_forgotten() -> None:
    """After a day, in which everything they hold has gone."""
    clock = Clock()
    limits = Limits(Asked(), clock)
    for n in range(100):
        await admit(limits, key(10, name=f"key {n}"), 1)
    clock.now += DAY_SECONDS - 1
    await admit(limits, key(10), 1)
    assert len(limits) == 101
    clock.now += 3601
    await admit(limits, key(10), 1)
    assert len(limits) == 1


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0s"),
        (6, "6ms"),
        (1000, "1s"),
        (1200, "1.2s"),
        (10_000, "10s"),
        (59_999, "59.999s"),
        (72_500, "1m12.5s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (86_400_000, "24h0m0s"),
    ],
)
def test_durations(milliseconds: int, text: str) -> None:
    """As OpenAI writes them."""
    assert duration(milliseconds) == text


LIMIT, BUDGET = 600, 10**6


class AgainstNaive(RuleBasedStateMachine):
    """Against sums over the whole history: tokens over every window, picodollars exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.ledger = Clock(), Asked()
        self.limits = Limits(self.ledger, self.clock)
        self.who = key(LIMIT, "0.000001")
        self.open: list[Reservation] = []
        self.eye: Reservation | None = None
        self.passed = 0
        """Nanoseconds for which tokens were let go: the clock's steps forward."""
        self.begun: dict[int, int] = {}
        self.admitted: list[tuple[int, int | Fraction]] = []
        self.used = Fraction(0)
        self.ours, self.filed, self.others, self.known = 0, 0, 0, 0
        self.loop = asyncio.new_event_loop()

    def teardown(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def reserved(self) -> int:
        """Picodollars of what is under way."""
        return sum(reservation.cost for reservation in self.open)

    @rule(
        input=st.integers(1, LIMIT + 5),
        output=st.integers(0, 2 * LIMIT),
        costs=st.tuples(st.integers(0, BUDGET // 3), st.integers(0, BUDGET)),
    )
    def ask(self, input: int, output: int, costs: tuple[int, int]) -> None:
        """A request is admitted exactly if the model says so, with what it says."""
        asked = len(self.ledger.calls)
        self.ledger.answer = self.filed + self.others
        request: Any = admit(self.limits, self.who, input, output, Estimate(*costs))
        got: Reservation | None = None
        with suppress(RateLimited):
            got = self.loop.run_until_complete(request)
        if len(self.ledger.calls) > asked:
            self.known = max(self.known, self.filed + self.others - self.ours)
        left = BUDGET - self.known - self.ours - self.reserved()
        free = LIMIT - self.used - sum(one.output for one in self.open)
        fits = input <= free
        pays = left > 0 and costs[0] <= left
        assert (got is not None) == (fits and pays)
        if got is not None:
            assert (got.input, got.output) == (input, min(output, math.floor(free) - input))
            assert got.cost == min(sum(costs), left)
            self.open.append(got)
            self.begun[id(got)] = self.passed
            self.eye = got
            self.used += input
            held = sum(one.output for one in self.open)
            parts = self.eye._account.bucket.used(LIMIT, self.clock.now)  # type: ignore[union-attr]
            assert parts == (self.used + held) * 60 * 10**9 <= LIMIT * 60 * 10**9
            self.admitted.append((self.passed, input))
            assert 0 <= int(got.headers()["x-ratelimit-remaining-tokens"]) <= LIMIT

    @precondition(lambda self: self.open)
    @rule(data=st.data(), tokens=st.integers(0, LIMIT), cost=st.none() | st.integers(0, BUDGET))
    def end(self, data: st.DataObject, tokens: int, cost: int | None) -> None:
        """A request ends, twice."""
        one = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        one.settle(tokens, cost)
        one.settle(LIMIT, BUDGET)
        unused = Fraction(one.input - tokens)
        if unused > 0:
            unused = max(unused - Fraction((self.passed - self.begun[id(one)]) * LIMIT, 60 * 10**9), Fraction(0))
            self.admitted.append((self.passed, -unused))
        self.used = max(self.used - unused, Fraction(0))
        self.ours += one.cost if cost is None else cost

    @rule(seconds=st.sampled_from([0.25, 1.5, 11.0, 60.0, -0.5, -30.0]))
    def tick(self, seconds: float) -> None:
        """Time goes on, or the clock is set back."""
        before = int(self.clock.now * 10**9)
        self.clock.now += seconds
        on = max(int(self.clock.now * 10**9) - before, 0)
        if self.eye is not None:
            self.eye.headers()  # what is let go is reckoned at every look
        self.passed += on
        self.used = max(self.used - Fraction(on * LIMIT, 60 * 10**9), Fraction(0))

    @rule()
    def file(self) -> None:
        """Our rows reach the ledger."""
        self.filed = self.ours

    @rule(cost=st.integers(0, BUDGET // 10))
    def elsewhere(self, cost: int) -> None:
        """Another server spends."""
        self.others += cost

    @invariant()
    def no_window_has_more_than_the_limit_and_what_was_let_go(self) -> None:
        """Of what was admitted, less what was given back within the window."""
        total = Fraction(0)
        for at, tokens in reversed(self.admitted):
            total += tokens
            if tokens > 0:
                assert total <= LIMIT + Fraction((self.passed - at) * LIMIT, 60 * 10**9)

    @invariant()
    def spending_is_between_the_ledgers_and_the_truth(self) -> None:
        """Nothing counts twice."""
        assert self.known <= self.others


AgainstNaive.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstNaive = AgainstNaive.TestCase
