"""The budgets of API keys: tokens per minute, and dollars per UTC day.

A request reserves what it may use when it is admitted, and is settled to what it used at its end. So requests that run
together never pass a budget that each alone would keep.

- **Tokens**: a bucket that leaks. What was used leaves it evenly, a whole limit per minute; cached tokens count
  (docs/contract.md, B15). All in integers, so nothing is lost to rounding.
- **Dollars**: what the ledger says that the key has spent since midnight, what this process knows of that the ledger
  may not have yet, and what is reserved. Nothing is counted twice: see `Day`.

Of the output only as much is reserved as fits: a client that asks for more output than there can be is not locked out.
In return the one request that was admitted with less may pass the budget, by its own output at most; it is never cut
short. What other servers on the same ledger spent is known up to `ASK_EVERY` seconds and their ledger's delay later.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from headstart.api.auth import Key
from headstart.api.questions import Questions
from headstart.errors import QuotaExceeded, RateLimited
from headstart.types.usage import PICO

log = logging.getLogger("headstart.api")

NANO = 10**9
MINUTE = 60 * NANO
"""A token is this many parts, of which a limit of one token per minute lets one go each nanosecond."""
DAY_SECONDS = 86400
HOUR_SECONDS = 3600
ASK_EVERY = 10.0
"""Seconds for which the ledger's answer counts."""
PATIENCE = 0.25
"""Seconds that a request waits for the ledger; if it was late, the key's requests don't wait the next time."""


class Estimate(NamedTuple):
    """What a request may cost, in picodollars: its input if nothing of it is cached, and the most output."""

    input: int
    output: int


class Bucket:
    """The tokens of one key that count at present, in parts of a token. The limit is an argument: it may change.

    What was used runs off evenly; the output that requests under way may still have (`held`, in tokens) doesn't, since
    it would be given back twice.
    """

    __slots__ = ("_seen", "_used", "held", "passed")

    def __init__(self, now: float) -> None:
        self._used = self.held = 0
        self.passed = 0
        """Nanoseconds for which something could run off: the clock's steps forward."""
        self._seen = int(now * NANO)

    def used(self, limit: int, now: float) -> int:
        """Parts in use or held. A clock that is set back lets nothing go, and nothing is lost."""
        at = int(now * NANO)
        step = max(at - self._seen, 0)
        self._used = max(self._used - step * limit, 0)
        self._seen = at
        self.passed += step
        return self._used + self.held * MINUTE

    def take(self, parts: int) -> None:
        """Use so many parts, or give them back if negative; `used` was called before, at the same time."""
        self._used = max(self._used + parts, 0)

    def free(self, limit: int, now: float) -> int:
        """Whole tokens that are neither used nor held."""
        return (limit * MINUTE - self.used(limit, now)) // MINUTE

    def wait(self, limit: int, tokens: int, now: float) -> int:
        """Nanoseconds until so many tokens fit, as far as time alone can tell; 0: they do now."""
        missing = self.used(limit, now) + (tokens - limit) * MINUTE
        if missing <= 0:
            return 0
        return NANO if self.held + tokens > limit else -(-missing // limit)


class Day:
    """What a key spends on the UTC day that begins at `midnight`, in picodollars.

    `own` is what this process has settled, `rest` what it knows of everything else: other servers, and its own life
    before a restart. An answer A of the ledger holds no request of ours that isn't settled, so that A - own <= the true
    rest; `rest` is the largest such bound. Hence spent = rest + own is never more than was truly spent, and never less
    than any answer. `own` and the ledger both count a request on the day it came.
    """

    __slots__ = ("asked", "asking", "late", "midnight", "own", "reserved", "rest")

    def __init__(self, midnight: float) -> None:
        self.midnight = midnight
        self.rest = self.own = self.reserved = 0
        self.asked: float | None = None
        self.asking: asyncio.Future[int | None] | None = None
        self.late = False

    @property
    def spent(self) -> int:
        """What is known to be spent."""
        return self.rest + self.own

    def heard(self, asking: asyncio.Future[int | None]) -> None:
        """Take the ledger's answer, None where it has none."""
        self.asking = None
        error = None if asking.cancelled() else asking.exception()
        if error is not None:
            log.error("The ledger failed when it was asked for a key's spending: %r", error)
        answer = None if asking.cancelled() or error is not None else asking.result()
        self.late = answer is None
        self.rest = max(self.rest, (answer or 0) - self.own)


class Account:
    """What is known of one key's name."""

    __slots__ = ("bucket", "day", "touched")

    def __init__(self, now: float) -> None:
        self.bucket = Bucket(now)
        self.day = Day(midnight_of(now))
        self.touched = now


class Reservation:
    """A request's part of its key's budgets. To be settled at its end, however it ends.

    `input` tokens are used and `output` tokens held; `cost` picodollars are reserved.
    """

    __slots__ = ("_account", "_begun", "_clock", "_day", "_limit", "_settled", "cost", "input", "output")

    def __init__(
        self,
        account: Account | None,
        clock: Callable[[], float],
        limit: int | None,
        input: int = 0,
        output: int = 0,
        cost: int = 0,
    ) -> None:
        self._account = account
        self._clock = clock
        self._limit = limit
        self._day = account.day if account else None
        self._settled = account is None
        self._begun = account.bucket.passed if account else 0
        self.input = input
        self.output = output
        self.cost = cost

    def settle(self, tokens: int, cost: int | None) -> None:
        """Count what was used in place of what was reserved, once; (0, 0) for what was refused after all. An unknown
        cost counts as what was reserved. To be called in one go with filing the request's row in the ledger, without
        an await between the two."""
        if self._settled:
            return
        self._settled = True
        assert self._account is not None
        assert self._day is not None
        if self._limit is not None:
            bucket = self._account.bucket
            bucket.used(self._limit, self._clock())
            bucket.held -= self.output
            unused = (self.input - tokens) * MINUTE
            if unused > 0:  # of which some has run off
                unused = max(unused - (bucket.passed - self._begun) * self._limit, 0)
            bucket.take(-unused)
        self._day.reserved -= self.cost
        self._day.own += self.cost if cost is None else cost

    def headers(self) -> dict[str, str]:
        """The rate-limit headers as they are now; none for a key without a token limit."""
        if self._account is None or self._limit is None:
            return {}
        return token_headers(self._limit, self._account.bucket.used(self._limit, self._clock()))


class Limits:
    """The budgets of all keys, each by its key's name. To be used on one event loop.

    `spent(name, since)` asks the ledger for the picodollars that a key spent since a Unix time; None where it doesn't
    answer. It may block: it is called in a thread of ours, one call at a time. `clock` gives Unix time in seconds.
    """

    def __init__(self, spent: Callable[[str, float], int | None], clock: Callable[[], float] = time.time) -> None:
        self._spent = spent
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._swept = clock()
        self._questions = Questions("headstart-budgets")
        self._unlimited = Reservation(None, clock, None)

    def __len__(self) -> int:
        return len(self._accounts)

    async def admit(
        self, key: Key, model: str, *, input: int, max_output: int, estimate: Estimate | None
    ) -> Reservation:
        """Reserve a request's part of its key's budgets. Raises `RateLimited`, `QuotaExceeded`.

        `input` tokens count whether cached or not, and have to fit; of the `max_output` that may follow, what fits is
        reserved. `estimate`: None where the model has no price, which a budget in dollars refuses.
        """
        limit, dollars = key.tokens_per_minute, key.dollars_per_day
        if limit is None and dollars is None:
            return self._unlimited
        if limit is not None and input > limit:
            raise RateLimited(
                f"Request too large for {model} in organization {key.organisation} on tokens per min (TPM): Limit "
                f"{limit}, Requested {input}. The input must have fewer tokens, or the API key '{key.name}' a higher "
                "limit.",
                headers={**self._headers(key), "x-should-retry": "false"},
            )
        if dollars is not None and estimate is None:
            raise QuotaExceeded(
                f"You exceeded your current quota: the model '{model}' has no price here, and the API key "
                f"'{key.name}' a budget in dollars. Whoever runs this server can set 'price' for the model in "
                "[[models]], or give the key another budget.",
                headers={**self._headers(key), "x-should-retry": "false"},
            )
        account = self._account(key.name)
        if dollars is not None:
            await self._ask(key.name, account)
        now = self._clock()  # from here on nothing is awaited: what is found to fit is reserved
        output = 0
        if limit is not None:
            if wait := account.bucket.wait(limit, input, now):
                milliseconds = -(-wait // 10**6)
                raise RateLimited(
                    f"Rate limit reached for {model} in organization {key.organisation} on tokens per min (TPM): "
                    f"Limit {limit}, Used {-(-account.bucket.used(limit, now) // MINUTE)}, Requested {input}. Please "
                    f"try again in {duration(milliseconds)}.",
                    headers={**self._headers(key), **retry_headers(milliseconds)},
                )
            output = min(max_output, account.bucket.free(limit, now) - input)
        cost = 0
        if dollars is not None:
            assert estimate is not None
            try:
                cost = reserved_cost(key, dollars, estimate, account.day, now)
            except QuotaExceeded as error:
                error.headers.update(self._headers(key))
                raise
        if limit is not None:
            account.bucket.take(input * MINUTE)
            account.bucket.held += output
        account.day.reserved += cost
        return Reservation(account, self._clock, limit, input if limit is not None else 0, output, cost)

    def _account(self, name: str) -> Account:
        """A key's account as of now. Those that were idle for a day hold nothing that a new one wouldn't."""
        now = self._clock()
        if abs(now - self._swept) >= HOUR_SECONDS:
            self._swept = now
            self._accounts = {name: a for name, a in self._accounts.items() if abs(now - a.touched) < DAY_SECONDS}
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(now)
        # A clock that is set back over midnight by a little doesn't bring yesterday back.
        if not account.day.midnight - HOUR_SECONDS <= now < account.day.midnight + DAY_SECONDS:
            account.day = Day(midnight_of(now))
        account.touched = now
        return account

    def _headers(self, key: Key) -> dict[str, str]:
        """The rate-limit headers of a refusal; none for a key without a token limit."""
        limit, account = key.tokens_per_minute, self._accounts.get(key.name)
        if limit is None:
            return {}
        return token_headers(limit, account.bucket.used(limit, self._clock()) if account else 0)

    async def _ask(self, name: str, account: Account) -> None:
        """Have the ledger's answer at hand, if it comes in time."""
        day, now = account.day, self._clock()
        if day.asking is None and (day.asked is None or not 0 <= now - day.asked < ASK_EVERY):
            day.asked = now
            day.asking = self._questions.ask(partial(self._spent, name, day.midnight))
            day.asking.add_done_callback(day.heard)
        if day.asking is not None and not day.late:
            _, pending = await asyncio.wait({day.asking}, timeout=PATIENCE)
            day.late = day.late or bool(pending)


def reserved_cost(key: Key, dollars: Decimal, estimate: Estimate, day: Day, now: float) -> int:
    """What of a request's cost is reserved: its input, and of its output what fits. Raises `QuotaExceeded` where its
    input doesn't fit, or nothing is left, which ends what is paid by the hour, too: its cost is known afterwards."""
    budget = int(dollars * PICO)
    most = sum(estimate)
    left = budget - day.spent - day.reserved
    if left > 0 and estimate.input <= left:
        return min(most, left)
    message = (
        "You exceeded your current quota, please check the budget of your API key "
        f"'{key.name}': ${dollars:f} per day, of which ${in_dollars(day.spent)} are spent"
    )
    unreserved = budget - day.spent
    if unreserved > 0 and estimate.input <= unreserved:
        raise QuotaExceeded(
            f"{message} and ${in_dollars(day.reserved)} reserved by requests under way. Please try again when they "
            "have ended.",
            headers=retry_headers(1000),
        )
    milliseconds = max(math.ceil(day.midnight + DAY_SECONDS - now), 0) * 1000
    if estimate.input:
        message += f"; this request's input costs up to ${in_dollars(estimate.input)}"
    raise QuotaExceeded(
        f"{message}. The budget is renewed at 00:00 UTC, in {duration(milliseconds)}.",
        headers={**retry_headers(milliseconds), "x-should-retry": "false"},
    )


def midnight_of(now: float) -> float:
    """The start of a time's UTC day."""
    return now // DAY_SECONDS * DAY_SECONDS


def token_headers(limit: int, used: int) -> dict[str, str]:
    """OpenAI's headers; `used` is in parts of a token."""
    return {
        "x-ratelimit-limit-tokens": str(limit),
        "x-ratelimit-remaining-tokens": str(max(limit * MINUTE - used, 0) // MINUTE),
        "x-ratelimit-reset-tokens": duration(-(-used // (limit * 10**6))),
    }


def retry_headers(milliseconds: int) -> dict[str, str]:
    """When to come again: in whole seconds, as HTTP has it, and in milliseconds, which OpenAI's SDK prefers."""
    return {"retry-after": str(-(-milliseconds // 1000)), "retry-after-ms": str(milliseconds)}


def duration(milliseconds: int) -> str:
    """As OpenAI writes it: `6ms`, `1.2s`, `6m0s`, `1h0m0s`."""
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{hours}h{minutes}m{seconds}s" if hours else f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def in_dollars(pico: int) -> str:
    """`0.000123`: to the microdollar, rounded up."""
    return f"{-(-pico // 10**6) / 10**6:.6f}"
