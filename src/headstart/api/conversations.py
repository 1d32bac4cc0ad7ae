"""Conversations: what a request goes on from, and what is kept of its answer."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from headstart.api.desk import Desk
from headstart.api.items import output_items
from headstart.api.responses_output import ResponseObject
from headstart.errors import NotFound, StoreFailed, UnsupportedFeature
from headstart.store.responses import Answered, History, Item, ResponseStore

log = logging.getLogger("headstart.api")

STORED_ONLY_IF = "Responses are stored only if the request says 'store': true, or by the server's default."


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation: what it goes on from, and where its answer is stored, None: nowhere."""

    organisation: str
    history: History | None
    store: ResponseStore | None

    @property
    def earlier(self) -> tuple[Item, ...]:
        """All items before this turn's."""
        return self.history.items if self.history else ()

    async def keep(self, answer: ResponseObject, input: tuple[Item, ...]) -> None:
        """Store a finished answer to `input`. If that fails, the answer says so and is given all the same."""
        response = answer.finished()
        if self.store is None:
            return
        body = msgspec.json.encode(response | {"output": []})
        output = output_items(response["output"])
        try:
            await self.store.add(Answered(answer.id, self.organisation, body, input, output, self.history))
        except StoreFailed as error:
            log.info("%s is answered, but not stored. %s", answer.id, error.message)  # the store logs why, once
            answer.not_stored()


async def turn(desk: Desk, organisation: str, previous: str | None, store: bool | None) -> Turn:
    """The turn of a request with this `previous_response_id` and `store`. Raises `NotFound`, `UnsupportedFeature`.

    Nothing is stored under zero data retention, else what is asked for, else what is the server's default.
    """
    private = organisation in desk.zero_data_retention
    wanted = not private and (desk.store_default if store is None else store)
    history = None if previous is None else await _history(desk, organisation, previous, private)
    return Turn(organisation, history, desk.store if wanted else None)


async def _history(desk: Desk, organisation: str, id: str, private: bool) -> History:
    param = "previous_response_id"
    if private:
        raise UnsupportedFeature(
            "Previous response cannot be used for this organization due to Zero Data Retention.", param=param
        )
    history = await desk.store.history(organisation, id) if desk.store else None
    if history is None:
        raise NotFound(
            f"Previous response with id '{id[:64]}' not found. {STORED_ONLY_IF}",
            param=param,
            code="previous_response_not_found",
        )
    return history
