"""`GET` and `DELETE /v1/responses/{id}`, `/input_items`, and `/cancel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headstart.api import decoding, refusals
from headstart.api.conversations import STORED_ONLY_IF
from headstart.api.desk import Desk, json
from headstart.api.wire.stored import InputItemsQuery, NoQuery, RetrieveQuery
from headstart.errors import InvalidRequest, NotFound
from headstart.store.responses import Item

Q = TypeVar("Q")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredResponses:
    """What is stored, to its organisation alone."""

    desk: Desk

    async def one(self, request: Request) -> Response:
        """A response, to get or to delete: one route, so that a 405 there names both methods."""
        return await (self.delete(request) if request.method == "DELETE" else self.retrieve(request))

    async def retrieve(self, request: Request) -> Response:
        """A response as it was answered."""
        organisation, id, query = self._asked(request, RetrieveQuery)
        if query.stream:
            raise refusals.refused("'stream' of a stored response", "stream", "Leave it out to get all of it at once.")
        stored = _found(await self.desk.store.get(organisation, id) if self.desk.store else None, id)
        fields = msgspec.json.decode(stored.body, type=dict[str, msgspec.Raw])
        return json(fields | {"output": [msgspec.Raw(item.body) for item in stored.output]})

    async def delete(self, request: Request) -> Response:
        """Forget a response."""
        organisation, id, _ = self._asked(request, NoQuery)
        deleted = await self.desk.store.delete(organisation, id) if self.desk.store else False
        _found(deleted or None, id)
        self.desk.pipeline.forget(organisation, id)  # its explanation may quote it
        return json({"id": id, "object": "response", "deleted": True})

    async def input_items(self, request: Request) -> Response:
        """A page of what a response was given, with all that it went on from."""
        organisation, id, query = self._asked(request, InputItemsQuery)
        history = _found(await self.desk.store.history(organisation, id) if self.desk.store else None, id)
        items = history.input if query.order == "asc" else history.input[::-1]
        rest = items[_place(items, query.after) :]
        page = rest[: query.limit]
        return json(
            {
                "object": "list",
                "data": [msgspec.Raw(item.body) for item in page],
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": len(rest) > len(page),
            }
        )

    async def cancel(self, request: Request) -> Response:
        """Refused: only responses in the background could be cancelled."""
        organisation, id, _ = self._asked(request, NoQuery)
        _found(await self.desk.store.get(organisation, id) if self.desk.store else None, id)
        raise InvalidRequest(
            "Cannot cancel a synchronous response. One that is being made is cancelled by closing its connection."
        )

    def _asked(self, request: Request, kind: type[Q]) -> tuple[str, str, Q]:
        """Who asks for which response, and how."""
        organisation = self.desk.organisation(request)
        return organisation, request.path_params["id"], decoding.query(request.query_params.multi_items(), kind)


def _found(found: T | None, id: str) -> T:
    if found is None:
        raise NotFound(f"Response with id '{id[:64]}' not found. {STORED_ONLY_IF}")
    return found


def _place(items: tuple[Item, ...], after: str | None) -> int:
    if after is None:
        return 0
    for place, item in enumerate(items, 1):
        if item.id == after:
            return place
    raise InvalidRequest(
        f"Invalid 'after': no input item of this response has the id '{after[:64]}'.",
        param="after",
        code="invalid_value",
    )
