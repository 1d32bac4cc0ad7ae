"""What is stored of an answer, and what goes on from it, through the SDK."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from tests.api.house import DAYS, MODEL, House, Open, assert_unknown

from headstart.store.responses import DAY

# ------------------------------------------------------------------------------------------------ what is stored


@pytest.mark.parametrize("limit", [100, 3])
def test_a_stored_response_comes_back_as_it_was_answered(acme: openai.OpenAI, limit: int) -> None:
    """Every field of it, completed or incomplete."""
    asked = acme.responses.create(model=MODEL, input="Hello", store=True, max_output_tokens=limit, metadata={"a": "b"})
    assert asked.store is True
    assert acme.responses.retrieve(asked.id).to_dict() == asked.to_dict()


@pytest.mark.parametrize("limit", [100, 3])
def test_a_streamed_response_is_stored_before_its_end_is_seen(acme: openai.OpenAI, limit: int) -> None:
    """Who reads `response.completed` finds the response, as the event has it."""
    with acme.responses.create(model=MODEL, input="Hello", store=True, stream=True, max_output_tokens=limit) as stream:
        for event in stream:
            if event.type in ("response.completed", "response.incomplete"):
                assert acme.responses.retrieve(event.response.id).to_dict() == event.response.to_dict()
                assert event.response.store is True
                return
    raise AssertionError("the stream never ended")


def test_nothing_is_stored_unless_asked(acme: openai.OpenAI, house: House) -> None:
    """The house's rule: prompts are kept only if somebody says so."""
    for options in ({}, {"store": False}, {"store": None}):
        response = acme.responses.create(model=MODEL, input="Hello", **options)  # type: ignore[call-overload]
        assert response.store is False
        with pytest.raises(openai.NotFoundError, match="'store': true"):
            acme.responses.retrieve(response.id)
    assert (house.count("responses"), house.count("items")) == (0, 0)


def test_the_servers_default_can_be_openais(open_house: Open) -> None:
    """`headstart serve --store`: stored unless the request says otherwise."""
    with open_house(store_default=True) as house:
        acme = house.client()
        response = acme.responses.create(model=MODEL, input="Hello")
        assert response.store is True
        assert acme.responses.retrieve(response.id).id == response.id
        assert acme.responses.create(model=MODEL, input="Hello", store=False).store is False
        assert house.client("private").responses.create(model=MODEL, input="Hello").store is False
        assert house.count("responses") == 1


def test_a_server_without_a_store_says_so(open_house: Open) -> None:
    """Nothing is stored, and nothing is found."""
    with open_house(store=None, store_default=True) as house:
        acme = house.client()
        response = acme.responses.create(model=MODEL, input="Hello", store=True)
        assert response.store is False
        assert_unknown(acme, response.id)


def test_zero_data_retention_goes_before_everything(house: House) -> None:
    """Nothing is stored whatever is asked, the response says so, and no earlier one can be continued."""
    private = house.client("private")
    assert private.responses.create(model=MODEL, input="Hello", store=True).store is False
    assert house.count("responses") == 0
    with pytest.raises(openai.BadRequestError, match="Zero Data Retention") as caught:
        private.responses.create(model=MODEL, input="More", previous_response_id="resp_1")
    assert (caught.value.param, caught.value.code) == ("previous_response_id", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError, match="Zero Data Retention"):
        private.responses.input_tokens.count(model=MODEL, input="More", previous_response_id="resp_1")


def test_what_failed_or_was_left_is_not_stored(acme: openai.OpenAI, house: House) -> None:
    """Only completed and incomplete responses are."""
    house.engine.fail_after = 2
    with pytest.raises(openai.InternalServerError):
        acme.responses.create(model=MODEL, input="Hello", store=True)
    with acme.responses.create(model=MODEL, input="Hello", store=True, stream=True) as stream:
        assert [event.type for event in stream][-1] == "response.failed"
    house.engine.fail_after, house.engine.delay = None, 0.05
    with acme.responses.create(model=MODEL, input="Hello", store=True, stream=True) as stream:
        next(iter(stream))
    assert acme.responses.create(model=MODEL, input="Still there?").output_text
    assert house.count("responses") == 0


def test_a_store_that_fails_never_loses_the_answer(acme: openai.OpenAI, house: House) -> None:
    """Locked for too long: the answer comes, whole and streamed, and says that it isn't stored."""
    with house.locked():
        whole = acme.responses.create(model=MODEL, input="Hello", store=True)
        with acme.responses.create(model=MODEL, input="Hello", store=True, stream=True) as stream:
            last = list(stream)[-1]
        assert whole.status == "completed"
        assert whole.store is False
        assert last.type == "response.completed"
        assert last.response.store is False
        assert last.response.output_text == whole.output_text
        with pytest.raises(openai.InternalServerError, match="locked") as caught:
            acme.responses.delete("resp_1")
        assert caught.value.status_code == 503
    assert acme.responses.create(model=MODEL, input="Hello", store=True).store is True


def test_a_file_that_is_gone_loses_no_answer(acme: openai.OpenAI, house: House) -> None:
    """Nothing is called stored that a restart wouldn't find; and where the file comes back, so does what it holds."""
    id = acme.responses.create(model=MODEL, input="Hello", store=True).id
    away = house.path.rename(house.path.with_name("away.db"))
    answer = acme.responses.create(model=MODEL, input="Hello", store=True)
    assert (answer.status, answer.store) == ("completed", False)
    for call in (acme.responses.retrieve, acme.responses.delete, acme.responses.input_items.list):
        with pytest.raises(openai.InternalServerError, match=r"headstart\.db was moved or removed") as caught:
            call(id)
        assert caught.value.status_code == 503
    away.rename(house.path)
    assert acme.responses.create(model=MODEL, input="Hello", store=True, previous_response_id=id).store is True


def test_a_lock_for_a_moment_only_delays(acme: openai.OpenAI, house: House) -> None:
    """The last event waits until the response is stored."""
    lock = ExitStack()
    lock.enter_context(house.locked())
    release = threading.Timer(0.3, lock.close)
    release.start()
    begun = time.monotonic()
    with acme.responses.create(model=MODEL, input="Hello", store=True, stream=True) as stream:
        last = list(stream)[-1]
    assert time.monotonic() - begun > 0.2
    assert last.type == "response.completed"
    assert last.response.store is True
    release.join()


def test_expired_responses_are_gone(acme: openai.OpenAI, house: House) -> None:
    """At once, though no sweep has run."""
    id = acme.responses.create(model=MODEL, input="Hello", store=True).id
    house.now += DAYS * DAY - 1
    assert acme.responses.retrieve(id).id == id
    house.now += 1
    assert_unknown(acme, id)
    assert house.count("responses") == 1


def test_a_restart_forgets_nothing(open_house: Open) -> None:
    """Another process on the same file goes on."""
    with open_house() as house:
        first = house.client().responses.create(model=MODEL, input="Hello", store=True)
    with open_house() as house:
        acme = house.client()
        assert acme.responses.retrieve(first.id).to_dict() == first.to_dict()
        assert acme.responses.create(model=MODEL, input="More", previous_response_id=first.id).output_text


# ------------------------------------------------------------------------------------------------ what goes on


def test_another_organisations_response_is_unknown(acme: openai.OpenAI, house: House) -> None:
    """To every endpoint, and it stays."""
    id = acme.responses.create(model=MODEL, input="Hello", store=True).id
    assert_unknown(house.client("other"), id)
    assert_unknown(house.client("other"), "resp_never")
    assert acme.responses.retrieve(id).id == id


def test_a_conversation_is_read_as_if_it_were_sent_whole(acme: openai.OpenAI, house: House) -> None:
    """Everything before, in order, then the new input; the earlier instructions are not carried over."""
    first = acme.responses.create(model=MODEL, input="One", instructions="Be brief.", store=True)
    acme.responses.create(
        model=MODEL,
        previous_response_id=first.id,
        input=[{"role": "developer", "content": "Now in verse."}, {"role": "user", "content": "Two"}],
        instructions="Be long.",
        store=True,
    )
    continued = house.engine.prompts[-1]
    whole: Any = [
        {"role": "user", "content": "One"},
        *(item.to_dict() for item in first.output),
        {"role": "developer", "content": "Now in verse."},
        {"role": "user", "content": "Two"},
    ]
    acme.responses.create(model=MODEL, input=whole, instructions="Be long.")
    assert continued.tokens.tolist() == house.engine.prompts[-1].tokens.tolist()
    paths = [segment.path for segment in continued.segments if segment.path]
    assert paths == [
        "instructions",
        "previous_response_id.input[0].content[0].text",
        "previous_response_id.input[1].content[0].text",
        "input[0].content",
        "input[1].content",
    ]


def test_the_previous_response_is_echoed(acme: openai.OpenAI) -> None:
    """And a chain can branch."""
    first = acme.responses.create(model=MODEL, input="One", store=True)
    for text in ("Two", "Other two"):
        response = acme.responses.create(model=MODEL, input=text, previous_response_id=first.id, store=True)
        assert response.previous_response_id == first.id
        assert acme.responses.retrieve(response.id).previous_response_id == first.id


def test_counting_goes_on_from_a_stored_response(acme: openai.OpenAI) -> None:
    """What is counted is what is then used."""
    first = acme.responses.create(model=MODEL, input="One", store=True)
    asked: Any = {"model": MODEL, "input": "Two", "previous_response_id": first.id}
    counted = acme.responses.input_tokens.count(**asked)
    usage = acme.responses.create(**asked).usage
    assert usage is not None
    assert counted.input_tokens == usage.input_tokens > 2


def test_a_tools_result_goes_back_alone(acme: openai.OpenAI) -> None:
    """Its call is in the stored conversation; a result of no call is refused by its place."""
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
    first = acme.responses.create(model=MODEL, input="Weather?", tools=[tool], tool_choice="required", store=True)
    assert first.output[0].type == "function_call"
    result: Any = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "rain"}
    second = acme.responses.create(model=MODEL, input=[result], previous_response_id=first.id, store=True)
    assert second.status == "completed"
    with pytest.raises(openai.BadRequestError, match="No tool call found") as caught:
        acme.responses.create(
            model=MODEL, input=[result | {"call_id": "c2"}], previous_response_id=second.id, store=True
        )
    assert caught.value.param == "input[0].call_id"


def test_a_call_of_the_conversation_wants_its_output(acme: openai.OpenAI) -> None:
    """Whatever else is said, created or counted."""
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
    first = acme.responses.create(model=MODEL, input="Weather?", tools=[tool], tool_choice="required", store=True)
    assert first.output[0].type == "function_call"
    message = f"No tool output found for function call {first.output[0].call_id}."
    for create in (acme.responses.create, acme.responses.input_tokens.count):
        with pytest.raises(openai.BadRequestError, match=message) as caught:
            create(model=MODEL, input="Never mind.", previous_response_id=first.id)  # type: ignore[operator]
        assert caught.value.param == "input"


def test_a_tools_loop_goes_on_from_what_is_stored(acme: openai.OpenAI, house: House) -> None:
    """The model's own call is found in the stored answer, and its rendering is what a client would send back."""
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
    asked: dict[str, Any] = {"model": MODEL, "tools": [tool], "store": True}
    first = acme.responses.create(**asked, input="Weather?", tool_choice="required")
    (call,) = first.output
    assert call.type == "function_call"
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    second = acme.responses.create(**asked, input=[result], previous_response_id=first.id)
    kinds = [item.type for item in acme.responses.input_items.list(second.id, order="asc")]
    assert kinds == ["message", "function_call", "function_call_output"]
    acme.responses.create(**asked, input=[{"role": "user", "content": "Weather?"}, call.to_dict(), result])
    assert house.engine.prompts[-1].tokens.tolist() == house.engine.prompts[-2].tokens.tolist()


def test_input_may_be_left_out_where_there_is_a_conversation(acme: openai.OpenAI) -> None:
    """The model speaks again."""
    first = acme.responses.create(model=MODEL, input="One", store=True)
    assert acme.responses.create(model=MODEL, previous_response_id=first.id).status == "completed"


TURN = "The quick brown fox jumps over the lazy dog near the river bank. " * 40


@pytest.mark.parametrize("stream", [False, True])
def test_twenty_turns_read_more_of_the_cache_each(acme: openai.OpenAI, house: House, stream: bool) -> None:
    """The prompt of every turn begins with all of the one before, up to its last input; nothing is stored twice."""
    previous, cached = None, []
    for number in range(20):
        asked: dict[str, Any] = {"model": MODEL, "input": f"{number}. {TURN}", "store": True}
        asked["previous_response_id"] = previous
        if stream:
            with acme.responses.create(**asked, stream=True) as events:
                response = list(events)[-1].response  # type: ignore[union-attr]
        else:
            response = acme.responses.create(**asked)
        assert response.usage is not None
        cached.append((response.usage.input_tokens_details.cached_tokens, response.usage.input_tokens))
        previous = response.id
    for earlier, later in itertools.pairwise(house.engine.prompts):
        stop = earlier.endings[-1].stop
        assert stop > len(earlier.tokens) - 20
        assert later.tokens[:stop].tolist() == earlier.tokens[:stop].tolist()
    for (_, sent), (read, _) in itertools.pairwise(cached):
        assert read > sent - 128 - 20 or sent < 1024
    reads = [read for read, _ in cached]
    assert reads == sorted(reads)
    assert len(set(reads)) >= 18
    assert house.count("items") == 40
