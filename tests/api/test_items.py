"""Items of a conversation, as they are kept and given back."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from headstart.api.items import input_items, output_items, size_of
from headstart.store.responses import Item


def kept(*items: dict[str, Any], earlier: tuple[Item, ...] = ()) -> list[dict[str, Any]]:
    """What is kept of input items, with ids that count."""
    numbers = itertools.count(1)
    raw = [msgspec.Raw(msgspec.json.encode(item)) for item in items]
    made = input_items(raw, earlier, lambda _: str(next(numbers)))
    bodies = [msgspec.json.decode(item.body) for item in made]
    assert [body["id"] for body in bodies] == [item.id for item in made]
    return bodies


@pytest.mark.parametrize(
    ("item", "id"),
    [
        ({"role": "user", "content": "Hi"}, "msg_1"),
        ({"type": "message", "role": "assistant", "content": [], "id": None}, "msg_1"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, "fc_1"),
        ({"type": "function_call_output", "call_id": "c", "output": "x"}, "fco_1"),
        ({"type": "reasoning", "summary": []}, "rs_1"),
        ({"role": "user", "content": "Hi", "id": "msg_mine"}, "msg_mine"),
        ({"role": "user", "content": "Hi", "id": ""}, "msg_1"),
        ({"role": "user", "content": "Hi", "id": "x" * 129}, "msg_1"),
        ({"type": "reasoning", "summary": [], "id": 5}, "rs_1"),
    ],
)
def test_every_item_has_an_id(item: dict[str, Any], id: str) -> None:
    """Its own, if that is one, else a new one of its type."""
    assert kept(item)[0]["id"] == id


def test_an_id_is_given_once_in_a_conversation() -> None:
    """So that a page can begin behind it."""
    mine = {"role": "user", "content": "Hi", "id": "msg_mine"}
    assert [item["id"] for item in kept(mine, mine)] == ["msg_mine", "msg_1"]
    assert kept(mine, earlier=(Item("msg_mine", b"{}"),))[0]["id"] == "msg_1"


def test_marks_and_order_stay_as_they_were_sent() -> None:
    """The next turn's prompt has the same breakpoints, and its texts in the same order."""
    part = {"type": "input_text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}
    (item,) = kept({"role": "user", "content": [part, {"type": "input_text", "text": "there"}]})
    assert item["content"] == [part, {"type": "input_text", "text": "there"}]


def test_what_a_model_wrote_has_its_lists() -> None:
    """Log-probabilities that were sent back stay."""
    logprobs = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]
    (item,) = kept({"role": "assistant", "content": [{"type": "output_text", "text": "a", "logprobs": logprobs}]})
    assert item["content"] == [{"type": "output_text", "text": "a", "logprobs": logprobs, "annotations": []}]
    (refusal,) = kept({"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]})
    assert refusal["content"] == [{"type": "refusal", "refusal": "No."}]


def test_output_items_are_kept_as_they_are() -> None:
    """Byte for byte what the response has."""
    item = {"id": "msg_1", "type": "message", "content": []}
    (made,) = output_items([item])
    assert made == Item("msg_1", msgspec.json.encode(item))
    assert size_of((made, made)) == 2 * len(made.body)


def test_no_input_is_no_item() -> None:
    """The model speaks again."""
    assert input_items(None, (), lambda _: "1") == ()
