"""`GET /v1/responses/{id}/cache`: what became of a recent response's prompt in the cache, and why it was not more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from headstart.api.desk import Desk, json
from headstart.api.usage import billed
from headstart.api.wire import answers
from headstart.errors import NotFound
from headstart.pipeline import Record
from headstart.types import Explanation, Parting, Usage, dollars

REFUSED = (
    "All that this server or your organisation can promise is promised. Until some of it ends, this prefix is kept as "
    "long as there is room. The operator can raise --disk-cache, or --ram-cache where there is no disk."
)


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
        return json(_explained(record, record.outcome, self.desk.meter.recent(organisation, id)))


def _explained(record: Record, outcome: Explanation, row: Usage | None) -> answers.CacheExplanation:
    report, namespace = outcome.report, record.namespace
    cause, nearest, parting = outcome.cause, outcome.nearest, outcome.parting
    return answers.CacheExplanation(
        object="response.cache",
        response_id=record.id,
        created_at=int(record.created),
        model=namespace.model,
        generation=namespace.generation,
        input_tokens=record.length,
        cached_tokens=report.read,
        cache_write_tokens=billed(report, namespace.generation).tokens,
        cost=_cost(row),
        cached_from=answers.CachedFrom(report.from_context, report.from_ram, report.from_disk, report.waited),
        write_refused=answers.RefusedWrite("refused", report.refused, REFUSED) if report.refused else None,
        boundaries=answers.Boundaries(_boundaries(record.lookups), _boundaries(record.boundaries)),
        lost=None if report.lost is None else answers.LostEntry(*report.lost),
        miss=None if cause is None else answers.Miss(cause, outcome.missed, outcome.remedy),
        nearest=None if nearest is None else answers.Nearest(nearest, outcome.shared),
        parting=None if parting is None else _parting(parting),
    )


def _cost(row: Usage | None) -> answers.Cost | None:
    if row is None or row.cost is None or row.uncached_cost is None:
        return None
    return answers.Cost(dollars(row.cost), dollars(row.uncached_cost))


def _boundaries(boundaries: Sequence[int]) -> answers.Range | list[int]:
    """An interval model's by their range, a breakpoint model's one by one."""
    if isinstance(boundaries, range) and len(boundaries):
        return answers.Range(boundaries[0], boundaries[-1], boundaries.step)
    return list(boundaries)


def _parting(parting: Parting) -> answers.PartingPlace:
    value = answers.Span(parting.start, parting.stop) if parting.stop > parting.start else None
    return answers.PartingPlace(parting.token, parting.path, parting.offset, parting.kind, value, parting.text)
