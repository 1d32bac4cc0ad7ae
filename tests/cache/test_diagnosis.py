"""Every cause and every reason, from records and reports alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.cache.test_records import HOME, PLAIN, record_of

from headstart.cache.diagnosis import Subject, compare, explain
from headstart.cache.records import Record, RecordBook
from headstart.types import (
    CacheReport,
    Cause,
    Comparison,
    Ending,
    Fate,
    Lifetime,
    Lost,
    Mark,
    Message,
    Namespace,
    Plan,
    Prompt,
    Request,
    Text,
)

TEXT = "Session 7f3d2c1a-9b8e-4f6a-8c2d-1e0f9a8b7c6d: be brief."


def subject_of(
    record: Record,
    reads: Sequence[int] = (1024,),
    step: int = 1,
    *,
    keep_text: bool = False,
    place: tuple[str, int] | None = ("input", 10),
    marks: tuple[Mark, ...] = (),
) -> Subject:
    """A request whose every token stands at one place, by default character 10 of its one message."""
    plan = Plan(record.length, (), reads, reads, Lifetime(1800.0), step=step)
    request = Request("model", (Message("user", (Text(TEXT, "input"),), "input"),))
    prompt = Prompt(np.zeros(record.length, np.int32), (), "", (Ending("user", record.length),), marks)
    return Subject(record, request, prompt, plan, lambda token: place, keep_text)


def book_of(*records: Record) -> RecordBook:
    """A book that knows these."""
    book = RecordBook()
    for record in records:
        book.add(record, 0.0)
    return book


def test_below_the_minimum() -> None:
    """1,023 tokens, whatever else there is."""
    explained = explain(subject_of(record_of("new", (1, 1023))), CacheReport(), RecordBook())
    assert explained.cause == "below_minimum"


@pytest.mark.parametrize("fate", ["expired", "evicted", "refused"])
def test_the_engine_knows_what_became_of_an_entry(fate: Fate) -> None:
    """Its word comes before any guess; the tokens are those that were lost."""
    explained = explain(
        subject_of(record_of("new", (1, 3000)), (2000,)), CacheReport(lost=Lost(2000, fate)), RecordBook()
    )
    assert (explained.cause, explained.missed) == (fate, 2000)


def test_the_first_of_its_kind() -> None:
    """No earlier request of the organisation began so."""
    book = book_of(record_of("a", (9, 3000)))
    assert explain(subject_of(record_of("new", (1, 3000))), CacheReport(), book).cause == "first_request"


def test_under_another_key() -> None:
    """It is there, for another namespace of the same model."""
    new = subject_of(record_of("new", (1, 3000)), (2900, 3000))
    keyed = record_of("a", (1, 3000), namespace=HOME._replace(key="other"))
    explained = explain(new, CacheReport(), book_of(dataclasses.replace(keyed, boundaries=(2900,))))
    assert (explained.cause, explained.nearest, explained.missed) == ("different_key", "a", 2900)
    assert explain(new, CacheReport(), book_of(keyed)).cause == "first_request", "it left nothing"
    keyed = record_of("a", (1, 3000), namespace=Namespace("org", "another-model", "interval", "other"))
    assert explain(new, CacheReport(), book_of(dataclasses.replace(keyed, boundaries=(2900,)))).cause == "first_request"


def test_what_can_not_be_cached() -> None:
    """A model whose memory can't be cut; an explicit request without a mark."""
    record = record_of("new", (1, 3000))
    subject = subject_of(record)._replace(cacheable=False)
    assert explain(subject, CacheReport(), RecordBook()).cause == "not_cacheable"
    assert explain(subject_of(record, ()), CacheReport(), RecordBook()).cause == "boundary_not_marked"


@pytest.mark.parametrize("keep_text", [False, True])
def test_a_changed_prefix(keep_text: bool) -> None:
    """The kind of value at the parting decides the remedy; the text is quoted only where that is allowed."""
    book = book_of(dataclasses.replace(record_of("a", (7, 5), (1, 3000)), boundaries=(3005,)))
    new = subject_of(record_of("new", (8, 5), (1, 3000)), (1024, 2000), keep_text=keep_text)
    explained = explain(new, CacheReport(), book)
    assert (explained.cause, explained.missed) == ("prefix_changed", 2000), "no more than this prompt could read"
    parting: Any = explained.parting
    assert (parting.token, parting.path, parting.kind) == (0, "input", "uuid")
    assert TEXT[parting.start : parting.stop] == "7f3d2c1a-9b8e-4f6a-8c2d-1e0f9a8b7c6d"
    assert explained.remedy is not None
    assert "UUID" in explained.remedy
    assert parting.text == (TEXT if keep_text else None)


@pytest.mark.parametrize(
    ("boundaries", "reads", "read", "cause", "missed"),
    [
        ((2000,), (2000, 2500), 2000, None, 0),  # the longest that both have was read
        ((2000,), (1500,), 0, "boundary_not_marked", 2000),  # it is there, and not looked up
        ((2000,), (2000,), 0, "not_written", 2000),  # it was looked up, and never was there
        ((2600,), (2600,), 0, "boundary_not_marked", 2200),  # they share 2,200 tokens, and no boundary
        ((1500, 2600), (1500, 2600), 1500, None, 0),  # little is missing: another conversation
        ((1024, 2600), (1024, 2600), 1024, "boundary_not_marked", 1176),  # much is
    ],
)
def test_breakpoints(
    boundaries: tuple[int, ...], reads: tuple[int, ...], read: int, cause: Cause | None, missed: int
) -> None:
    """The earlier prompt has 2,200 tokens in common with the new one."""
    earlier = dataclasses.replace(record_of("a", (1, 2200), (2, 600)), boundaries=boundaries)
    new = subject_of(record_of("new", (1, 2200), (3, 600)), reads, place=None)
    explained = explain(new, CacheReport(read=read), book_of(earlier))
    assert (explained.cause, explained.missed) == (cause, missed)


@pytest.mark.parametrize(
    ("place", "end", "marked", "cause"),
    [
        (("input", 10), 600, 0, "prefix_changed"),  # a UUID in the middle of a text
        (("input", 10), 30, 0, "boundary_not_marked"),  # at its end: the question
        (None, 600, 0, "boundary_not_marked"),  # something else
        (None, 600, 2500, "prefix_changed"),  # in front of the mark
        (("input", 10), 30, 2100, "boundary_not_marked"),  # behind it, and yet not written there
    ],
)
def test_what_changes_in_front_of_a_mark(place: tuple[str, int] | None, end: int, marked: int, cause: Cause) -> None:
    """Marking more doesn't help there."""
    earlier = dataclasses.replace(record_of("a", (1, 2200), (2, 600)), boundaries=(2800,))
    marks = (Mark(marked),) if marked else ()
    new = subject_of(record_of("new", (1, 2200), (3, end)), (2200 + end,), place=place, marks=marks)
    assert explain(new, CacheReport(), book_of(earlier)).cause == cause


def test_a_shared_beginning_that_is_too_short() -> None:
    """They part at 967 tokens for good: 57 too few. If they said the same behind it, something had changed there."""
    earlier = dataclasses.replace(record_of("a", (1, 967), (2, 300)), boundaries=(1267,))
    explained = explain(subject_of(record_of("new", (1, 967), (3, 300)), (1267,)), CacheReport(), book_of(earlier))
    assert (explained.cause, explained.shared) == ("below_minimum", 967)
    assert "57 too few" in str(explained.remedy)
    same_behind = subject_of(record_of("new", (1, 967), (4, 8), (2, 300)), (1275,))
    assert explain(same_behind, CacheReport(), book_of(earlier)).cause == "prefix_changed"


def test_intervals() -> None:
    """2,176 of 2,200 common tokens is all there is to read."""
    earlier = dataclasses.replace(record_of("a", (1, 2200), (2, 600)), boundaries=range(1024, 2800, 128))
    new = subject_of(record_of("new", (1, 2200), (3, 600)), range(1024, 2800, 128), 128)
    assert explain(new, CacheReport(read=2176), book_of(earlier)).cause is None
    explained = explain(new, CacheReport(read=1024), book_of(earlier))
    assert (explained.cause, explained.missed) == ("not_written", 1152)


# ------------------------------------------------------------------------------------------------ OpenAI's diagnosis

EARLIER = dataclasses.replace(record_of("a", (1, 3000)), boundaries=(2000, 3000), tools=(b"t",))


def other_settings(**change: Any) -> Record:
    """The same request with other settings."""
    return dataclasses.replace(EARLIER, settings=PLAIN._replace(**change))


def other_namespace(**change: Any) -> Record:
    """The same request in another namespace."""
    return dataclasses.replace(EARLIER, namespace=HOME._replace(**change))


@pytest.mark.contract("D3", "D6")
@pytest.mark.parametrize(
    ("new", "common", "reason"),
    [
        (other_namespace(model="m"), 3000, "model_changed"),
        (other_settings(service_tier="priority"), 3000, "service_tier_changed"),
        (other_namespace(key="k"), 3000, "prompt_cache_key_changed"),
        (other_settings(reasoning_effort="low"), 3000, "reasoning_effort_changed"),
        (other_settings(verbosity="low"), 3000, "verbosity_changed"),
        (other_settings(text_format=b"x"), 3000, "text_format_changed"),
        (dataclasses.replace(EARLIER, tools=()), 0, "tools_changed"),
        (other_settings(parallel_tool_calls=False), 3000, "tools_changed"),
        (dataclasses.replace(EARLIER, compacted=True), 500, "context_compacted"),
        (EARLIER, 2999, "input_changed"),
        # the first that applies
        (dataclasses.replace(other_namespace(model="m", key="k"), tools=()), 0, "model_changed"),
        (dataclasses.replace(other_settings(verbosity="low"), tools=()), 0, "verbosity_changed"),
    ],
)
def test_reasons(new: Record, common: int, reason: str) -> None:
    """Each alone, and their order. Of the 3,000 tokens that were left, 2,000 were read, if both begin with as many."""
    expected = Comparison("cache_miss", reason, 3000 - min(2000, common), 3000)  # type: ignore[arg-type]
    assert compare(new, CacheReport(read=2000), EARLIER, common) == expected


@pytest.mark.contract("D2", "D4", "D5")
def test_the_other_answers() -> None:
    """A hit reads all that was left; no record; nothing left, or nothing changed and yet not read."""
    assert compare(EARLIER, CacheReport(read=3000), EARLIER, 3000).type == "cache_hit"
    unrelated = compare(EARLIER, CacheReport(read=8000), EARLIER, 5)
    assert unrelated == Comparison("cache_miss", "input_changed", 2995, 3000), "it read an entry of its own"
    assert compare(EARLIER, CacheReport(), None, 0).type == "comparison_response_not_found"
    nothing = dataclasses.replace(EARLIER, boundaries=())
    assert compare(EARLIER, CacheReport(), nothing, 3000).type == "unavailable"
    assert compare(EARLIER, CacheReport(), EARLIER, 3000).type == "unavailable"


def test_fingerprints_are_arrays_of_their_own() -> None:
    """A record keeps no reference to a prompt's tokens."""
    tokens = np.zeros(2000, np.int32)
    assert not np.shares_memory(tokens, record_of("a", (1, 2000)).prompt.traces)
