"""Every message of msgspec's that a body can cause has a translation."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.api.chat_input import request_of as chat_request
from headstart.api.decoding import MAX_DEPTH, check_depth, decode, query
from headstart.api.responses_input import request_of as responses_request
from headstart.api.wire.chat import ChatBody
from headstart.api.wire.fields import Kind
from headstart.api.wire.responses import ResponsesBody
from headstart.api.wire.stored import InputItemsQuery
from headstart.errors import InvalidRequest


def test_path_prefix() -> None:
    """A raw part of a body is told by its place in the whole."""
    with pytest.raises(InvalidRequest) as caught:
        decode(msgspec.Raw(b'{"type": 3}'), Kind, "input[2]")
    assert caught.value.param == "input[2].type"
    assert caught.value.message == "Invalid type for 'input[2].type': expected a string, but got an integer instead."


def test_depth() -> None:
    """`MAX_DEPTH` levels pass, one more doesn't; width is no depth."""
    value: Any = 1
    for _ in range(MAX_DEPTH - 1):
        value = [value]
    check_depth(value, "x")
    check_depth([[]] * 10_000, "x")
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        check_depth([value], "x")


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
names = st.sampled_from([
    *(field.encode_name for body in (ResponsesBody, ChatBody) for field in msgspec.structs.fields(body)),
    "type", "role", "content", "text", "name", "arguments", "function", "parameters", "call_id", "output", "schema",
    "format", "effort", "json_schema", "tool_calls", "id", "refusal", "include_usage", "mode",
])  # fmt: skip
words = st.sampled_from([
    "message", "user", "assistant", "tool", "system", "developer", "function", "function_call", "function_call_output",
    "input_text", "output_text", "text", "json_schema", "json_object", "reasoning", "auto", "refusal", "input_image",
])  # fmt: skip
trees = st.recursive(
    leaves | words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=25
)


@pytest.mark.parametrize("endpoint", ["responses", "chat"])
@settings(max_examples=300, deadline=None)
@given(body=st.dictionaries(names, trees, max_size=5))
def test_anything_is_read_or_refused(endpoint: str, body: dict[str, Any]) -> None:
    """Whatever JSON comes: a request, or an `InvalidRequest` whose message is no bare msgspec text."""
    try:
        if endpoint == "responses":
            responses_request(decode(json.dumps({"model": "m", "input": "x", **body}).encode(), ResponsesBody))
        else:
            good = {"model": "m", "messages": [{"role": "user", "content": ""}]}
            chat_request(decode(json.dumps({**good, **body}).encode(), ChatBody))
    except InvalidRequest as error:
        refusal = error.message
    else:
        return
    assert refusal
    assert "`" not in refusal or "`" in str(body)


@settings(max_examples=300, deadline=None)
@given(noise=st.binary(max_size=40), cut=st.integers(0, 80))
def test_any_bytes_are_read_or_refused(noise: bytes, cut: int) -> None:
    """Cut anywhere, with anything in it."""
    body = b'{"model": "m", "input": [{"role": "user", "content": "\xc3\xa9"}], "tools": []}'
    try:
        responses_request(decode(body[:cut] + noise + body[cut:], ResponsesBody))
    except InvalidRequest as error:
        refusal = error.message
    else:
        return
    assert refusal


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["after", "limit", "order", "include", "include[]", "x", "[]"]), st.text())))
def test_any_query_is_read_or_refused(parameters: list[tuple[str, str]]) -> None:
    """Within its bounds, or with the parameter's name."""
    try:
        read = query(parameters, InputItemsQuery)
    except InvalidRequest as error:
        refusal = error
    else:
        assert 1 <= read.limit <= 100
        assert read.order in ("asc", "desc")
        return
    assert refusal.param is not None
    assert refusal.param.split("[")[0] in ("limit", "order", "include", "x", "")
