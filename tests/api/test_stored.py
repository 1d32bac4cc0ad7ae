"""The endpoints of stored responses, through the SDK."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import ResponseFunctionToolCallOutputItem, ResponseInputMessageItem, ResponseItemList
from tests.api.house import MODEL, House, assert_unknown


def test_items_come_back_in_openais_shape(acme: openai.OpenAI) -> None:
    """With an id and a status, content in parts, and everything else as it was sent."""
    sent: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}], "id": "msg_mine"},
        {"role": "assistant", "content": "Hello", "id": "msg_mine", "phase": None},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "rain"}]},
    ]
    id = acme.responses.create(model=MODEL, input=sent, store=True).id
    page = acme.responses.input_items.list(id, order="asc")
    items = [item.to_dict() for item in page.data]
    assert [item["id"].split("_")[0] for item in items] == ["msg", "msg", "msg", "fc", "fco"]  # type: ignore[attr-defined]
    assert items[1]["id"] == "msg_mine" != items[2]["id"]
    assert len({item["id"] for item in items}) == 5
    for item in items:
        del item["id"]
    assert items == [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "Be brief."}],
            "status": "completed",
        },
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi"}],
            "status": "completed",
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
            "status": "completed",
        },
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}", "status": "completed"},
        sent[4] | {"status": "completed"},
    ]
    assert isinstance(page.data[0], ResponseInputMessageItem)
    assert isinstance(page.data[4], ResponseFunctionToolCallOutputItem)
    ResponseItemList.model_validate(page.to_dict())


def test_a_string_becomes_a_users_message(acme: openai.OpenAI) -> None:
    """With one part."""
    id = acme.responses.create(model=MODEL, input="Hello", store=True).id
    (item,) = acme.responses.input_items.list(id).data
    assert item.to_dict() | {"id": ""} == {
        "id": "",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hello"}],
        "status": "completed",
    }


def test_items_of_a_conversation_are_all_that_led_to_it(acme: openai.OpenAI) -> None:
    """What it goes on from, then its own input; not its output. Pages of the SDK, in both orders."""
    previous = None
    for number in range(4):
        previous = acme.responses.create(model=MODEL, input=f"{number}", store=True, previous_response_id=previous).id
    assert previous is not None
    down = [item.id for item in acme.responses.input_items.list(previous, limit=3)]
    up = [item.id for item in acme.responses.input_items.list(previous, limit=1, order="asc")]
    assert len(up) == 7
    assert up == down[::-1]
    page = acme.responses.input_items.list(previous, limit=3)
    body = page.to_dict()
    assert (body["object"], body["first_id"], body["last_id"], body["has_more"]) == ("list", down[0], down[2], True)
    last = acme.responses.input_items.list(previous, after=down[5]).to_dict()
    assert (last["first_id"], last["last_id"], last["has_more"]) == (down[6], down[6], False)
    none = acme.responses.input_items.list(previous, after=down[6]).to_dict()
    assert (none["data"], none["first_id"], none["last_id"], none["has_more"]) == ([], None, None, False)


@pytest.mark.parametrize(
    ("place", "query", "param", "said"),
    [
        ("/input_items", "limit=0", "limit", ">= 1"),
        ("/input_items", "limit=101", "limit", "<= 100"),
        ("/input_items", "limit=many", "limit", "an integer"),
        ("/input_items", "order=up", "order", "'asc', 'desc'"),
        ("/input_items", "after=msg_none", "after", "msg_none"),
        ("/input_items", "page=2", "page", "Unknown"),
        ("/input_items", "include[]=everything", "include[0]", "message.output_text.logprobs"),
        ("/input_items", "include=x&include[]=everything", "include[0]", "Supported"),
        ("", "stream=true", "stream", "Leave it out"),
        ("", "stream=perhaps", "stream", "a boolean"),
        ("", "starting_after=x", "starting_after", "an integer"),
        ("", "deep=1", "deep", "Unknown"),
    ],
)
def test_a_wrong_parameter_is_named(house: House, place: str, query: str, param: str, said: str) -> None:
    """400, with what would be right."""
    id = house.client().responses.create(model=MODEL, input="Hello", store=True).id
    answer = house.get(f"/v1/responses/{id}{place}?{query}")
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert said in error["message"]


def test_harmless_parameters_are_accepted(acme: openai.OpenAI) -> None:
    """As the SDK sends them."""
    id = acme.responses.create(model=MODEL, input="Hello", store=True).id
    assert acme.responses.retrieve(id, include=["message.output_text.logprobs"], stream=False).id == id
    assert acme.responses.input_items.list(id, include=["reasoning.encrypted_content"], limit=100).data


# ------------------------------------------------------------------------------------------------ deleting, cancelling


def test_a_deleted_response_is_gone_and_its_conversation_goes_on(acme: openai.OpenAI, house: House) -> None:
    """Later responses still have all of it; with the last of them, all of it goes."""
    first = acme.responses.create(model=MODEL, input="One", store=True)
    second = acme.responses.create(model=MODEL, input="Two", store=True, previous_response_id=first.id)
    deleted = house.get(f"/v1/responses/{first.id}", "DELETE")
    assert deleted.json() == {"id": first.id, "object": "response", "deleted": True}
    assert_unknown(acme, first.id)
    third = acme.responses.create(model=MODEL, input="Three", store=True, previous_response_id=second.id)
    assert len(acme.responses.input_items.list(third.id).data) == 5
    for id in (second.id, third.id):
        acme.responses.delete(id)
    assert (house.count("responses"), house.count("items")) == (0, 0)


def test_cancelling_says_how(acme: openai.OpenAI) -> None:
    """Nothing runs in the background here."""
    id = acme.responses.create(model=MODEL, input="Hello", store=True).id
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        acme.responses.cancel(id)
    with pytest.raises(openai.NotFoundError):
        acme.responses.cancel("resp_none")


def test_other_methods_are_refused_by_both_names(house: House) -> None:
    """405, and which would be right."""
    answer = httpx2.put(f"{house.url}/v1/responses/resp_1", json={})
    assert answer.status_code == 405
    assert {"GET", "DELETE"} <= set(answer.headers["allow"].split(", "))


def test_a_key_is_needed(house: House) -> None:
    """Of every endpoint."""
    for method, place in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
        assert httpx2.request(method, f"{house.url}/v1/responses/resp_1{place}").status_code == 401


def test_a_deleted_response_is_not_explained_any_more(acme: openai.OpenAI, house: House) -> None:
    """Its explanation may quote it, where the operator lets explanations quote."""
    id = acme.responses.create(model="gpt-4.1-mini", input="Hello", store=True).id
    assert acme.get(f"/responses/{id}/cache", cast_to=httpx2.Response).status_code == 200
    acme.responses.delete(id)
    with pytest.raises(openai.NotFoundError):
        acme.get(f"/responses/{id}/cache", cast_to=httpx2.Response)


def test_an_explanation_is_its_organisations_alone(house: House) -> None:
    """Another's key finds nothing, and a comparison with it neither."""
    id = house.client("acme").responses.create(model="gpt-5.6", input="Hello").id
    other = house.client("other")
    with pytest.raises(openai.NotFoundError):
        other.get(f"/responses/{id}/cache", cast_to=httpx2.Response)
    compared = other.responses.create(
        model="gpt-5.6", input="Hello", prompt_cache_options={"comparison_response_id": id}
    )
    assert compared.prompt_cache_diagnostics is not None
    assert compared.prompt_cache_diagnostics.type == "comparison_response_not_found"
