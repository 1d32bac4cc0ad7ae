"""Every request leaves one row, however it ends, and the row says what the answer said."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx2
import pytest
from tests.api.books import (
    BREAKPOINTS,
    MODEL,
    PATHS,
    UNPRICED,
    Books,
    asked,
    boom,
    counted,
    figures,
    long_text,
    told,
    wait_for,
)

from headstart.api.chat_output import ChatObject
from headstart.api.receipt import Receipt
from headstart.api.responses_output import ResponseObject
from headstart.types import Endpoint, Event

ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)

on_both = pytest.mark.parametrize("endpoint", ENDPOINTS)
streamed_and_not = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


# ------------------------------------------------------------------------------------------------------------- endings


@on_both
@streamed_and_not
@pytest.mark.parametrize(
    ("model", "more", "status"),
    [
        (MODEL, {}, "completed"),
        (MODEL, {"most": 3}, "incomplete"),
        (BREAKPOINTS, {}, "completed"),
        (BREAKPOINTS, {"most": 1}, "incomplete"),
        (UNPRICED, {"most": 2}, "incomplete"),
    ],
    ids=["end", "limit", "breakpoints", "one token", "unpriced"],
)
def test_an_answer(
    books: Books, endpoint: Endpoint, stream: bool, model: str, more: dict[str, Any], status: str
) -> None:
    """The row has the answer's id, its usage and its header's cause; the times are in order."""
    before = time.time()
    for text in [long_text()] * 2:
        answer = books.post(endpoint, text=text, model=model, stream=stream, **more)
        assert answer.status_code == 200, answer.text
        said, row = told(endpoint, answer), books.row()
        assert (row.status, row.error, row.model, row.endpoint) == (status, None, model, endpoint)
        assert (row.organisation, row.key, row.id) == ("acme", "laptop", said["id"])
        assert figures(row) == counted(said["usage"])
        assert before <= row.time <= time.time()
        assert row.ttft is not None
        assert 0 < row.ttft <= row.total < 10
        _, _, cause = answer.headers["x-headstart-cache"].partition("miss=")
        assert (row.cause or "") == cause
        gaps = books.sink.gaps[-1]
        assert sum(gaps) == max(row.output - (status == "completed") - 1, 0)
    assert row.cached > 1024
    assert row.warm


@streamed_and_not
def test_a_prewarm(books: Books, stream: bool) -> None:
    """Completed without a token: what it wrote is counted and paid for."""
    options: Any = {"prompt_cache_options": {"prewarm": True, "ttl": "12h"}}
    answer = books.post("responses", text=long_text(), model=BREAKPOINTS, stream=stream, **options)
    row = books.row()
    assert figures(row) == counted(told("responses", answer)["usage"])
    assert (row.status, row.ttft, row.output, row.cached) == ("completed", None, 0, 0)
    assert row.written_12h > 1500
    assert row.cost == row.uncached_cost + row.written_12h * 1_000_000  # type: ignore[operator]  # priced


@on_both
@streamed_and_not
@pytest.mark.parametrize("after", [0, 3])
def test_the_engine_fails(books: Books, endpoint: Endpoint, stream: bool, after: int) -> None:
    """Before the first token, or in the middle: failed, and it costs nothing."""
    books.engine.fail_after = after
    answer = books.post(endpoint, text=long_text(), stream=stream)
    assert answer.status_code == (200 if stream else 500)
    assert "The engine failed" in answer.text
    row = books.row()
    assert (row.status, row.error, row.output) == ("failed", "server_error", after)
    assert (row.ttft is None) == (after == 0)
    assert row.input > 1500
    assert (row.cost, row.uncached_cost) == (0, 0)


@on_both
@streamed_and_not
def test_the_engine_is_full(books: Books, endpoint: Endpoint, stream: bool) -> None:
    """Refused, with the answer's code; nothing is counted."""
    books.engine.capacity = 0
    answer = books.post(endpoint, stream=stream)
    assert answer.status_code == 429
    row = books.row()
    assert (row.status, row.error, row.model, row.id) == ("refused", "rate_limit_exceeded", MODEL, "")
    assert (figures(row), row.ttft, row.cost, row.cause) == ((0, 0, 0, 0), None, 0, None)


@on_both
@pytest.mark.parametrize(
    ("content", "more", "code", "model"),
    [
        (b"{", {}, None, ""),
        (b'{"model": 7}', {}, None, ""),
        (None, {"temperature": 3}, "decimal_above_max_value", ""),
        (None, {"model": "gpt-9"}, "model_not_found", ""),
        (b" " * 2_000_001, {}, "request_too_large", ""),
        (None, {"headers": {"content-type": "text/plain"}}, "unsupported_content_type", ""),
        (None, {"text": "word " * 40_000}, "context_length_exceeded", MODEL),
        (None, {"model": BREAKPOINTS, "prompt_cache_retention": "in_memory"}, "unsupported_value", ""),
        (None, {"prompt_cache_options": {"mode": "explicit"}}, "unsupported_parameter", ""),
    ],
    ids=["JSON", "type", "value", "model", "size", "content type", "context", "retention", "options"],
)
def test_a_bad_request(books: Books, endpoint: Endpoint, content: Any, more: Any, code: str | None, model: str) -> None:
    """Refused with the code that is answered, or its type where it has none."""
    answer = books.post(endpoint, content, **more)
    assert 400 <= answer.status_code < 500
    error = answer.json()["error"]
    row = books.row()
    assert (row.status, row.error) == ("refused", error["code"] or error["type"])
    assert code in (None, error["code"])
    assert row.model in (model, more.get("model", model)) or not model
    assert (figures(row), row.id, row.cost) == ((0, 0, 0, 0), "", 0)
    assert row.total < 5


def test_a_conversation_that_is_not_there(books: Books) -> None:
    """Refused as unknown."""
    assert books.post("responses", previous_response_id="resp_none").status_code == 404
    assert books.row().error == "previous_response_not_found"


@on_both
def test_no_row_without_a_known_key(books: Books, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    """Who doesn't get in fills no ledger, whatever is sent."""
    monkeypatch.setattr(books, "key", "sk-wrong")
    for content in (None, b"{"):
        assert books.post(endpoint, content).status_code == 401
    books.settled()


def test_other_endpoints_leave_none(books: Books) -> None:
    """What generates nothing isn't counted."""
    for path in ("/v1/models", "/health", "/v1/responses/resp_none", "/v1/responses/resp_none/cache"):
        books.get(path)
    counting = httpx2.post(
        f"{books.url}/v1/responses/input_tokens",
        json={"model": MODEL, "input": "Hello"},
        headers={"authorization": f"Bearer {books.key}"},
    )
    assert counting.status_code == 200
    books.settled()


# --------------------------------------------------------------------------------------------- clients that go away


@on_both
def test_gone_while_the_body_is_sent(books: Books, endpoint: Endpoint) -> None:
    """Cancelled, and nothing is known of it."""
    with books.sent(endpoint, cut=5):
        wait_for(lambda: len(books.meter.under_way) == 1)
    row = books.row()
    assert (row.status, row.error, row.model, figures(row), row.cost) == ("cancelled", None, "", (0, 0, 0, 0), 0)


@on_both
@streamed_and_not
def test_gone_while_it_waits(books: Books, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, stream: bool) -> None:
    """Before it has a place in the engine: nothing was computed."""
    compute = books.engine._compute

    async def later(*asked: Any) -> AsyncIterator[Event]:
        await asyncio.sleep(30)
        async for event in compute(*asked):
            yield event

    monkeypatch.setattr(books.engine, "_compute", later)
    with books.sent(endpoint, stream=stream, text=long_text()):
        wait_for(lambda: [r.state for r in books.meter.under_way] == ["waiting"] and books.engine.stats().running == 1)
    row = books.row()
    assert (row.status, row.error, row.model, figures(row), row.cost) == ("cancelled", None, MODEL, (0, 0, 0, 0), 0)


@on_both
@streamed_and_not
def test_gone_in_the_middle(books: Books, endpoint: Endpoint, stream: bool) -> None:
    """Cancelled: the tokens that were computed are counted, and cost what they cost."""
    books.engine.delay, books.engine.output_tokens = 0.02, 10_000
    with books.sent(endpoint, stream=stream, text=long_text()):
        wait_for(lambda: [receipt.output >= 3 for receipt in books.meter.under_way] == [True])
        (receipt,) = books.meter.under_way
        assert (receipt.state, receipt.elapsed > 0.03) == ("answering", True)
    row = books.row()
    assert (row.status, row.error, row.cause) == ("cancelled", None, "first_request")
    assert 3 <= row.output < 200
    assert row.cost == row.uncached_cost == row.input * 400_000 + row.output * 1_600_000
    assert row.ttft is not None
    assert 0.02 <= row.ttft <= row.total


# ------------------------------------------------------------------------------------------- crashes of our own code


CRASHES = {
    "template": "headstart.prompt.builder.PromptBuilder.build",
    "record": "headstart.cache.records.Recorder.record",
    "explain": "headstart.pipeline.explain",
    "headers": "headstart.api.receipt.Receipt.headers",
    "placed": "headstart.api.receipt.Receipt.place",
}


@on_both
@streamed_and_not
@pytest.mark.parametrize("where", CRASHES)
def test_a_crash_before_the_answer(
    books: Books, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, stream: bool, where: str
) -> None:
    """Failed, however far it came; the client gets a 500."""
    monkeypatch.setattr(CRASHES[where], boom)
    assert books.post(endpoint, stream=stream).status_code == 500
    row = books.row()
    assert (row.status, row.error, row.cost) == ("failed", "server_error", 0)


@on_both
@streamed_and_not
@pytest.mark.parametrize("tokens", [0, 2, 17])
def test_a_crash_in_the_answer(
    books: Books, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, stream: bool, tokens: int
) -> None:
    """Failed, and neither cancelled nor completed: the client did nothing, and has no whole answer."""
    kind = ResponseObject if endpoint == "responses" else ChatObject
    take, left = kind.take, iter([True] * tokens)

    def crash(self: Any, event: Event) -> Any:
        return take(self, event) if next(left, False) else boom()

    monkeypatch.setattr(kind, "take", crash)
    answer = books.post(endpoint, stream=stream)
    assert answer.status_code == (200 if stream else 500)
    assert "server had an error" in answer.text
    row = books.row()
    assert (row.status, row.error, row.cost) == ("failed", "server_error", 0)


@on_both
def test_a_crash_behind_the_answer(books: Books, monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    """All tokens were there, and the client got none of them."""
    monkeypatch.setattr(ResponseObject if endpoint == "responses" else ChatObject, "finished", boom)
    assert books.post(endpoint).status_code == 500
    row = books.row()
    assert (row.status, row.error, row.cost) == ("failed", "server_error", 0)


def test_filing_twice_leaves_one_row(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes it, and however often."""
    file = Receipt.file

    def twice(self: Receipt) -> None:
        file(self)
        file(self)

    monkeypatch.setattr(Receipt, "file", twice)
    for endpoint in ENDPOINTS:
        books.post(endpoint)
        books.row()


# ------------------------------------------------------------------------------------------------------ what it says


@on_both
def test_why_it_missed(books: Books, endpoint: Endpoint) -> None:
    """Cause, path and kind are those of `GET …/cache`."""
    text = long_text()
    books.post(endpoint, text=f"Now: 2026-11-23 10:05:07. {text}")
    books.row()
    answer = books.post(endpoint, text=f"Now: 2026-11-23 10:06:11. {text}")
    row, said = books.row(), told(endpoint, answer)
    explained = books.get(f"{PATHS[endpoint]}/{said['id']}/cache").json()
    assert answer.headers["x-headstart-cache"].endswith("miss=prefix_changed")
    assert (row.cause, row.missed) == ("prefix_changed", explained["miss"]["tokens"])
    assert (row.path, row.kind) == (explained["parting"]["path"], explained["parting"]["kind"])
    assert row.kind == "timestamp"
    assert row.missed >= 1024


def test_a_path_holds_no_text(books: Books) -> None:
    """Nothing of a prompt stands in a row, nor its `prompt_cache_key` unless the meter has a name for it."""
    word = "tangerine"
    for place in "ab":
        books.post("responses", text=f"{place} {word} {long_text()}", prompt_cache_key=word)
        assert word not in repr(books.row())


def test_the_trace_goes_with_the_row(books: Books) -> None:
    """As the client sent it."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    books.post("responses", headers={"traceparent": trace})
    books.row()
    assert books.sink.traces[-1] == trace


def test_many_at_once(books: Books) -> None:
    """Forty beside each other leave forty rows, each its own."""

    async def all_of_them() -> list[str]:
        async with httpx2.AsyncClient(base_url=books.url, headers={"authorization": f"Bearer {books.key}"}) as http:
            bodies = [(e, asked(e, stream=stream)) for e in ENDPOINTS for stream in (False, True)] * 10
            answers = await asyncio.gather(*(http.post(PATHS[e], json=body) for e, body in bodies))
            return [told(e, answer)["id"] for (e, _), answer in zip(bodies, answers, strict=True)]

    ids = asyncio.run(all_of_them())
    wait_for(lambda: len(books.sink.rows) == books.seen + 40)
    assert {row.id for row in books.sink.rows[books.seen :]} == set(ids)
    books.seen += 40
