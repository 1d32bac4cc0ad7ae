"""A request's receipt: what it asked, what it was given, how long that took, and so what it costs.

Every request to an endpoint that generates, and whose key is known, leaves one row, however it ends.
"""

from __future__ import annotations

import logging
import sys
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from types import TracebackType

from starlette.requests import Request as HttpRequest

from headstart.api.auth import Key
from headstart.api.connection import ClientGone, closing
from headstart.api.desk import Desk
from headstart.api.limits import Reservation
from headstart.api.usage import billed, cache_header
from headstart.errors import RequestError
from headstart.pipeline import Completion, Placement, ServedModel
from headstart.store.responses import Item
from headstart.types import (
    GAP_BOUNDS,
    CacheReport,
    Delta,
    Endpoint,
    Event,
    Explanation,
    Finished,
    Placed,
    Prompt,
    Request,
    Status,
    Usage,
    Written,
)

log = logging.getLogger("headstart.api")


class Receipt:
    """One request's. A context around the making of its answer; a stream's goes on behind it, until that is closed.
    `earlier`: the items that it goes on from."""

    def __init__(self, desk: Desk, request: HttpRequest, caller: Key, endpoint: Endpoint) -> None:
        self.caller, self.endpoint, self.time = caller, endpoint, desk.clock()
        self.id = self.model = ""
        self.input = self.output = 0
        self.report: CacheReport | None = None
        self.earlier: Sequence[Item] = ()
        self._desk, self._request, self._begun = desk, request, time.perf_counter()
        self._asked: Request | None = None
        self._completion: Completion | None = None
        self._explanation: Explanation | None = None
        self._reservation: Reservation | None = None
        self._first = self._last = self._placed = 0.0
        self._gaps = [0] * (len(GAP_BOUNDS) + 1)
        self._finished: Finished | None = None
        self._error: BaseException | None = None
        self._inside = self._closed = self._filed = False
        desk.meter.under_way.add(self)

    async def __aenter__(self) -> Receipt:
        self._inside = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = False
        if error is not None:
            self.failed(error)
            if self._completion is not None:
                async with closing(self._completion.events):
                    pass
        if error is not None or self._closed:
            self.file()

    # --------------------------------------------------------------------------------------------- on the way in

    async def start(self, asked: Request) -> Completion:
        """As `Pipeline.start`; within the key's budget, and counted. Raises what that raises, and `RateLimited`."""
        self._asked = asked
        if asked.model in self._desk.pipeline.models:
            self.model = asked.model
        completion = await self._desk.pipeline.start(asked, self.caller.organisation, self._admit)
        self._completion = completion._replace(events=Metered(completion.events, self))
        return self._completion

    async def _admit(self, model: ServedModel, prompt: Prompt, asked: Request) -> None:
        self.input = len(prompt.tokens)
        meter, most = self._desk.meter, model.engine.info.most_output(self.input, asked.sampling.max_tokens)
        estimate = None
        if self.caller.dollars_per_day is not None:
            estimate = meter.estimate(model.name, self.input, most)
        self._reservation = await meter.limits.admit(
            self.caller, model.name, input=self.input, max_output=most, estimate=estimate
        )

    async def place(self, id: str) -> Placement:
        """As `Desk.place`."""
        assert self._completion is not None
        self.id = id
        placement = await self._desk.place(self._request, self._completion, id)
        self._explanation = placement.explanation
        return placement

    def headers(self) -> dict[str, str]:
        """What the answer's headers say of the cache, and of the key's budget."""
        assert self._completion is not None
        assert self._explanation is not None
        limits = self._reservation.headers() if self._reservation else {}
        return cache_header(self._explanation, self._completion.model.generation) | limits

    # --------------------------------------------------------------------------------------------- on the way out

    def note(self, event: Event) -> None:
        """Take account of an event on its way to the client."""
        if isinstance(event, Delta):
            now = time.perf_counter()
            if self.output:
                self._gaps[bisect_left(GAP_BOUNDS, now - self._last)] += 1
            else:
                self._first = now
            self._last = now
            self.output += 1
        elif isinstance(event, Finished):
            self._finished = event
        elif isinstance(event, Placed):
            self.report = event.report
            self._placed = time.perf_counter()

    def failed(self, error: BaseException) -> None:
        """The request ends by an error; the first one counts."""
        self._error = self._error or error

    def closed(self) -> None:
        """No more events come. What is left is to make the answer, unless it was streamed."""
        self._closed = True
        if not self._inside:
            self.file()

    @property
    def elapsed(self) -> float:
        """Seconds since the request came."""
        return time.perf_counter() - self._begun

    @property
    def state(self) -> str:
        """Where it is on its way: `waiting` for its place, `prefilling` or `answering`."""
        if self.output:
            return "answering"
        return "waiting" if self.report is None else "prefilling"

    def file(self) -> None:
        """The request is over: its row goes to whom it concerns. Once."""
        if self._filed:
            return
        self._filed = True
        row = self._row()
        if self._reservation is not None:
            self._reservation.settle(row.input + row.output, row.cost)
        self._desk.meter.file(self, row, self._gaps, self._request.headers.get("traceparent"))
        capture, private = self._desk.capture, self.caller.organisation in self._desk.zero_data_retention
        answered = row.status in ("completed", "incomplete")
        if capture is not None and self._completion is not None and answered and not private:
            generation = self._completion.model.generation
            capture.take(row, self._request.state.body, self.earlier, generation)

    def _row(self) -> Usage:
        status, code = self._ending()
        computed = self.report is not None and status != "refused"
        report = self.report or CacheReport()
        explanation = self._explanation if computed else None
        parting = explanation.parting if explanation else None
        private = self.caller.organisation in self._desk.zero_data_retention
        key = self._asked.cache.key if self._asked and not private else None
        written = billed(report, self._completion.model.generation) if self._completion else Written()
        output = self._finished.output_tokens if self._finished else self.output
        row = Usage(
            time=self.time,
            organisation=self.caller.organisation,
            key=self.caller.name,
            model=self.model,
            endpoint=self.endpoint,
            status=status,
            total=self.elapsed,
            id=self.id,
            cache_key=self._desk.meter.label(key),
            error=code,
        )
        if self.model and self._desk.meter.prices.estimate(self.model, input=0, output=0) is None:
            row = row._replace(cost=None, uncached_cost=None)
        if not computed:
            return row
        row = row._replace(
            input=self.input,
            cached=report.read,
            written_30m=written.tokens - written.long,
            written_12h=written.long,
            unkept=report.refused,
            output=output,
            ttft=self._first - self._begun if self.output else None,
            cause=explanation.cause if explanation else None,
            missed=explanation.missed if explanation else 0,
            path=parting.path if parting and not private else None,
            kind=parting.kind if parting and not private else None,
        )
        return row if status == "failed" else self._priced(row)

    def _priced(self, row: Usage) -> Usage:
        """The row with what it costs. What broke off by a fault of ours costs nothing; an answer that its client left
        costs the time since it had its place, where time is what costs."""
        seconds = self._finished.seconds if self._finished else time.perf_counter() - self._placed
        try:
            cost = self._desk.meter.prices.cost(
                row.model,
                input=row.input,
                cached=row.cached,
                written_30m=row.written_30m,
                written_12h=row.written_12h,
                output=row.output,
                seconds=seconds,
                saved_seconds=self._finished.saved_seconds if self._finished else None,
            )
        except Exception:  # the answer is none of its business, and the row has to be filed
            log.exception("What a request cost is not known.")
            cost = None
        if cost is None:
            return row._replace(cost=None, uncached_cost=None)
        return row._replace(cost=cost.cost, uncached_cost=cost.uncached_cost)

    def _ending(self) -> tuple[Status, str | None]:
        error = self._error
        if isinstance(error, RequestError):
            code = error.code or error.type
            return ("refused", code) if error.status < 500 and self.report is None else ("failed", code)
        if error is not None and not isinstance(error, ClientGone):
            return ("failed", "server_error") if isinstance(error, Exception) else ("cancelled", None)
        if self._finished is None:
            return "cancelled", None
        return ("incomplete" if self._finished.reason == "length" else "completed"), None


def receipt_for(desk: Desk, request: HttpRequest, endpoint: Endpoint) -> Receipt:
    """A receipt for a request that comes in. Raises `Unauthenticated`: then there is none."""
    return Receipt(desk, request, desk.caller(request), endpoint)


class Metered:
    """A completion's events on their way to the client, noted on its receipt."""

    def __init__(self, events: AsyncIterator[Event], receipt: Receipt) -> None:
        self._events, self._receipt = events, receipt

    def __aiter__(self) -> Metered:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await anext(self._events)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self._receipt.failed(error)
            raise
        self._receipt.note(event)
        return event

    async def aclose(self) -> None:
        """No more events are wanted. Whatever error is on its way out meanwhile is what the request ends by."""
        if (error := sys.exception()) is not None:
            self._receipt.failed(error)
        try:
            async with closing(self._events):
                pass
        finally:
            self._receipt.closed()
