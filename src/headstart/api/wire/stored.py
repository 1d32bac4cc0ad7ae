"""Query parameters of the endpoints of stored responses."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from headstart.api.wire.responses import Includable

PageSize = Annotated[int, msgspec.Meta(ge=1, le=100)]


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """No parameter at all."""


class RetrieveQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of `GET /v1/responses/{id}`. What may be included always is; the rest shapes a stream, which there isn't."""

    include: list[Includable] | None = None
    include_obfuscation: bool | None = None
    starting_after: int | None = None
    stream: bool | None = None


class InputItemsQuery(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Of `GET /v1/responses/{id}/input_items`: the page that begins behind the item `after`."""

    after: str | None = None
    include: list[Includable] | None = None
    limit: PageSize = 20
    order: Literal["asc", "desc"] = "desc"
