"""`GET /v1/responses/{id}/cache`: what became of a recent response's prompt in the cache, and why it was not more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from headstart.api.desk import Desk, json
from headstart.api.usage import billed
from headstart.errors import NotFound
from headstart.pipeline import Record
from headstart.types import Explanation, Parting


@dataclass(frozen=True, slots=True)
class Explain:
    """Explanations of responses of either endpoint."""

    desk: Desk

    async def retrieve(self, request: Request) -> Response:
        """The explanation of one response, by its id."""
        organisation = self.desk.organisation(request)
        id = request.path_params["id"]
        record = self.desk.pipeline.record(organisation, id)
        if record is None or record.outcome is None:
            raise NotFound(
                f"Nothing is remembered of a response with id '{id[:64]}'. Explanations are kept for a day, in memory: "
                "a restart and many later requests make them go sooner.",
                param="id",
            )
        return json(_explained(record, record.outcome))


def _explained(record: Record, outcome: Explanation) -> dict[str, Any]:
    report, namespace = outcome.report, record.namespace
    written = billed(report, namespace.generation)
    miss = None
    if outcome.cause is not None:
        miss = {"cause": outcome.cause, "tokens": outcome.missed, "remedy": outcome.remedy}
    return {
        "object": "response.cache",
        "response_id": record.id,
        "created_at": int(record.created),
        "model": namespace.model,
        "generation": namespace.generation,
        "input_tokens": record.length,
        "cached_tokens": report.read,
        "cache_write_tokens": written.tokens,
        "cached_from": {"context": report.from_context, "ram": report.from_ram, "waited": report.waited},
        "boundaries": {"looked_up": _boundaries(record.lookups), "saved": _boundaries(record.boundaries)},
        "lost": report.lost and report.lost._asdict(),
        "miss": miss,
        "nearest": outcome.nearest and {"response_id": outcome.nearest, "common_tokens": outcome.shared},
        "parting": outcome.parting and _parting(outcome.parting),
    }


def _boundaries(boundaries: Sequence[int]) -> dict[str, int] | list[int]:
    """An interval model's by their range, a breakpoint model's one by one."""
    if isinstance(boundaries, range) and len(boundaries):
        return {"first": boundaries[0], "last": boundaries[-1], "step": boundaries.step}
    return list(boundaries)


def _parting(parting: Parting) -> dict[str, Any]:
    place = {"token": parting.token, "path": parting.path, "offset": parting.offset, "kind": parting.kind}
    value = {"start": parting.start, "stop": parting.stop} if parting.stop > parting.start else None
    return {**place, "value": value, "text": parting.text}
