"""Every field that the SDK can send is known here."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from openai.types.chat import completion_create_params as chat
from openai.types.responses import input_token_count_params as counting
from openai.types.responses import response_create_params as responses
from openai.types.responses.response_includable import ResponseIncludable

from headstart.api import refusals
from headstart.api.wire.chat import ChatBody
from headstart.api.wire.responses import Includable, InputTokensBody, ResponsesBody


def fields(kind: type[msgspec.Struct]) -> set[str]:
    """Names on the wire."""
    return {field.encode_name for field in msgspec.structs.fields(kind)}


@pytest.mark.parametrize(
    ("body", "params", "more"),
    [
        (ResponsesBody, responses.ResponseCreateParamsBase, {"stream"}),
        (ChatBody, chat.CompletionCreateParamsBase, {"stream"}),
        (InputTokensBody, counting.InputTokenCountParams, set()),
    ],
)
def test_fields_are_the_sdks(body: type[msgspec.Struct], params: Any, more: set[str]) -> None:
    """No field of the SDK's is unknown, and none of ours is made up."""
    assert fields(body) == set(params.__annotations__) | more


def test_includables_are_the_sdks() -> None:
    """The values of `include`."""
    assert set(get_args(Includable)) == set(get_args(ResponseIncludable))


@pytest.mark.parametrize(
    ("body", "table"),
    [(ResponsesBody, refusals.RESPONSES), (ChatBody, refusals.CHAT), (InputTokensBody, refusals.COUNTING)],
)
def test_refused_fields_exist(body: type[msgspec.Struct], table: Any) -> None:
    """A refusal names a field that can be sent."""
    assert set(table) <= fields(body)


def test_nulls_are_not_given() -> None:
    """Every optional field takes null, as OpenAI does."""
    for body, needed in (
        (ResponsesBody, {}),
        (ChatBody, {"model": "m", "messages": [{"role": "user", "content": ""}]}),
    ):
        nulls = dict.fromkeys(fields(body)) | needed
        msgspec.json.decode(msgspec.json.encode(nulls), type=body)
