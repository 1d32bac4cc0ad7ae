"""Composes what requests are measured by and charged to: prices, budgets, the ledger, metrics, spans; and the pages
that show it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial

from msgspec.structs import asdict
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from headstart.api.desk import Desk
from headstart.api.limits import Limits
from headstart.api.meter import Meter, Sink
from headstart.cache.hashing import key_label
from headstart.config import Config
from headstart.dashboard.routes import Dashboard
from headstart.engine.base import EngineStats
from headstart.errors import StartError
from headstart.ledger.database import open_database
from headstart.ledger.ledger import Ledger
from headstart.ledger.price_list import PriceList, price_of
from headstart.pipeline import Pipeline
from headstart.telemetry.metrics import LedgerState, Metrics
from headstart.telemetry.spans import open_spans
from headstart.types import Usage

log = logging.getLogger("headstart.server")


class Accounts:
    """Those of one server. Raises `StartError` for a price, a database or a collector that can't be used.

    Args:
        secret: the deployment's, which keys what `prompt_cache_key`s are called.
    """

    def __init__(self, config: Config, secret: bytes) -> None:
        own = {model.name: price_of(**asdict(model.price)) for model in config.models if model.price is not None}
        self._pipeline: Pipeline | None = None
        self._spans = open_spans(os.environ)
        self.ledger = None
        if config.ledger.enabled:
            self.ledger = Ledger(open_database(config.ledger_place), days=config.ledger.days)
        self._metrics = Metrics(
            self._engines,
            None if self.ledger is None else partial(_state, self.ledger),
            self._under_way,
            frozenset(model.name for model in config.models),
        )
        sinks: list[Sink] = [self._metrics]
        if self.ledger is not None:
            sinks.append(_Rows(self.ledger))
        if self._spans is not None:
            sinks.append(self._spans)
        label = partial(key_label, secret) if config.ledger.cache_keys == "hashed" else _as_it_is
        self.meter = Meter(PriceList(own), Limits(self._spent, time.time), sinks, label)

    def routes(self, desk: Desk) -> Sequence[BaseRoute]:
        """`/metrics` and `/dashboard`, for administrators."""

        self._pipeline = desk.pipeline

        async def metrics(request: Request) -> Response:
            desk.admin(request)
            content, media_type = self._metrics.render(request.headers.get("accept", ""))
            return Response(content, headers={"content-type": media_type})

        return (Route("/metrics", metrics, methods=["GET"]), *Dashboard(desk, self.ledger).routes())

    async def close(self) -> None:
        """Write what is to be written."""
        if self.ledger is not None:
            await asyncio.to_thread(self.ledger.close)
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)

    def _spent(self, key: str, since: float) -> int | None:
        """What a key spent, in picodollars; None if the ledger doesn't say."""
        try:
            return None if self.ledger is None else self.ledger.reports.spent(key, since)
        except (SQLAlchemyError, StartError):  # the latter: a database of a newer version
            return None

    def _engines(self) -> Mapping[str, EngineStats]:
        served = self._pipeline.models.values() if self._pipeline is not None else ()
        engines = {id(model.engine): model.engine for model in served}
        return {
            ",".join(model.name for model in served if model.engine is engine): engine.stats()
            for engine in engines.values()
        }

    def _under_way(self) -> int:
        return len(self.meter.under_way)


class _Rows:
    """The ledger as a sink of rows."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def take(self, row: Usage, gaps: Sequence[int], traceparent: str | None = None) -> None:  # noqa: ARG002 - a sink's
        """Have it written."""
        self._ledger.record(row)


def _state(ledger: Ledger) -> LedgerState:
    state = ledger.state()
    return LedgerState(state.waiting, state.written, state.lost, state.failing is not None)


def _as_it_is(key: str | None) -> str | None:
    return key
