"""`GET /v1/models`, `GET /v1/models/{id}` and `GET /health`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from headstart import __version__
from headstart.api.desk import Desk, json
from headstart.errors import Unauthenticated
from headstart.pipeline import ServedModel


@dataclass(frozen=True, slots=True)
class Models:
    """What is served, and how it is doing."""

    desk: Desk

    async def list(self, request: Request) -> Response:
        """Every model."""
        self.desk.organisation(request)
        models = [_model(model) for model in self.desk.pipeline.models.values()]
        return json({"object": "list", "data": models})

    async def retrieve(self, request: Request) -> Response:
        """One model; its name may hold slashes."""
        self.desk.organisation(request)
        return json(_model(self.desk.pipeline.model(request.path_params["model"])))

    async def health(self, request: Request) -> Response:
        """That the server answers; to those who may ask it for more, also what it does."""
        report: dict[str, Any] = {"status": "ok"}
        try:
            self.desk.organisation(request)
        except Unauthenticated:
            return json(report)  # a load balancer has no key
        served = self.desk.pipeline.models.values()
        engines = {id(model.engine): model.engine for model in served}
        return json(
            report
            | {
                "version": __version__,
                "models": [model.name for model in served],
                "engines": [
                    {
                        "description": engine.info.description,
                        "models": [model.name for model in served if model.engine is engine],
                        **engine.stats()._asdict(),
                    }
                    for engine in engines.values()
                ],
            }
        )


def _model(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "headstart"}
