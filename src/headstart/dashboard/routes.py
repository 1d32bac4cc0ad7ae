"""`/dashboard`: a page that shows what the cache does and saves, and the two documents that it asks for.

The page itself holds no figures; these are for administrators, where there are keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from headstart.api.desk import Desk, json
from headstart.api.questions import Questions
from headstart.dashboard import documents
from headstart.errors import InvalidRequest, StartError, StoreFailed
from headstart.ledger.ledger import Ledger
from headstart.ledger.reports import span
from headstart.sql.postgres import reason

STATIC = Path(__file__).parent / "static"
RANGES = {"1h": 3600, "6h": 6 * 3600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
"""What can be asked for, in seconds."""
PATIENCE = 10.0
"""Seconds that the page waits for the ledger."""
PREFIXES = 40
"""Of each engine, the most that are shown."""
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
"""The page loads nothing from elsewhere, and no other page may frame it."""


class Dashboard:
    """The page and its documents. `ledger` None: no usage is kept, and only what happens now is shown."""

    def __init__(self, desk: Desk, ledger: Ledger | None) -> None:
        self.desk, self.ledger = desk, ledger
        self._questions = Questions("headstart-dashboard")
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def routes(self) -> Sequence[BaseRoute]:
        """Where they are."""
        return (
            Route("/dashboard", self.page, methods=["GET"]),
            Route("/dashboard/data", self.data, methods=["GET"]),
            Route("/dashboard/live", self.live, methods=["GET"]),
            Mount("/dashboard/static", StaticFiles(directory=STATIC)),
        )

    async def page(self, request: Request) -> Response:  # noqa: ARG002 - a route's signature
        """The page, which asks for a key if the documents do."""
        return FileResponse(STATIC / "index.html", headers=HEADERS)

    async def data(self, request: Request) -> Response:
        """What the ledger says of a range of time. Raises `InvalidRequest`, `StoreFailed`."""
        self.desk.admin(request)
        asked = request.query_params.get("range", "24h")
        if asked not in RANGES:
            raise InvalidRequest(f"There is no range '{asked[:32]}'. Use one of {', '.join(RANGES)}.", param="range")
        over = span(RANGES[asked], self.desk.clock())
        if self.ledger is None:
            return json(documents.no_ledger(over))
        question = self._asked.get(asked)
        if question is None or question.done():  # else all who ask meanwhile get the same answer
            question = self._asked[asked] = self._questions.ask(partial(documents.of_ledger, self.ledger, over))
        await asyncio.wait({question}, timeout=PATIENCE)
        if not question.done():
            raise StoreFailed(f"no answer for {PATIENCE:.0f} seconds", "The usage ledger")
        try:
            return json(question.result())
        except SQLAlchemyError as error:
            raise StoreFailed(reason(error), "The usage ledger") from None
        except StartError as error:  # a database of a newer version
            raise StoreFailed(str(error).rstrip("."), "The usage ledger") from None

    async def live(self, request: Request) -> Response:
        """What the engines hold and compute at this moment."""
        self.desk.admin(request)
        served = self.desk.pipeline.models.values()
        engines = []
        for engine in {id(model.engine): model.engine for model in served}.values():
            names = [model.name for model in served if model.engine is engine]
            engines.append(documents.of_engine(names, engine.stats(), await engine.prefixes(PREFIXES)))
        requests = sorted(self.desk.meter.under_way, key=lambda receipt: receipt.time)
        now = self.desk.clock()
        return json({"now": now, "engines": engines, "requests": [documents.of_request(r) for r in requests]})
