"""What requests are measured by and charged to: prices, budgets, the requests under way, and where their rows go."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from headstart.api.limits import Estimate, Limits
from headstart.ledger.price_list import PriceList
from headstart.types import Usage

if TYPE_CHECKING:
    from headstart.api.receipt import Receipt

RECENT = 4_096
"""Rows that are kept at hand, for who asks what a response cost."""

log = logging.getLogger("headstart.api")


class Sink(Protocol):
    """Takes the rows of requests, on the event loop: it may not wait for anything."""

    def take(self, row: Usage, gaps: Sequence[int], traceparent: str | None = None) -> None:
        """A request's row. `gaps` counts its times from one output token to the next by `types.GAP_BOUNDS`;
        `traceparent` is the client's W3C trace context."""


class Meter:
    """What every request is measured by.

    Args:
        sinks: who takes the rows.
        label: what a client's `prompt_cache_key` is called in a row.
    """

    def __init__(
        self,
        prices: PriceList | None = None,
        limits: Limits | None = None,
        sinks: Sequence[Sink] = (),
        label: Callable[[str | None], str | None] = lambda _: None,
    ) -> None:
        self.prices = PriceList({}) if prices is None else prices
        self.limits = Limits(lambda _key, _since: None) if limits is None else limits  # one without accounts is empty
        self.label = label
        self.under_way: set[Receipt] = set()
        self._sinks = tuple(sinks)
        self._recent: OrderedDict[tuple[str, str], Usage] = OrderedDict()

    def estimate(self, model: str, input: int, output: int) -> Estimate | None:
        """What a request may cost; None where the model has no price."""
        whole = self.prices.estimate(model, input=input, output=output)
        plain = self.prices.estimate(model, input=input, output=0)
        return None if whole is None or plain is None else Estimate(plain, whole - plain)

    def recent(self, organisation: str, id: str) -> Usage | None:
        """The row of a response that ended lately."""
        return self._recent.get((organisation, id))

    def file(self, receipt: Receipt, row: Usage, gaps: Sequence[int], traceparent: str | None) -> None:
        """A request is over."""
        self.under_way.discard(receipt)
        if row.id:
            self._recent[row.organisation, row.id] = row
            if len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        for sink in self._sinks:
            try:
                sink.take(row, gaps, traceparent)
            except Exception:  # the answer is none of its business
                log.exception("A request's row was not taken.")
