"""Records: the nearest earlier request is found, bounds hold, and nothing crosses organisations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.cache.fingerprint import fingerprint, organisation_key
from headstart.cache.records import MOST_VALUES, Record, RecordBook, Recorder, Settings
from headstart.types import Lifetime, Message, Namespace, Plan, Prompt, Request, Text

HOME = Namespace("org", "model", "interval", None)
PLAIN = Settings("default", None, None, b"", True)


def record_of(id: str, *parts: tuple[int, int], namespace: Namespace = HOME, created: float = 0.0) -> Record:
    """A record of a prompt made of runs: (seed, length)."""
    tokens = [np.random.default_rng(seed).integers(0, 200_000, length).astype(np.int32) for seed, length in parts]
    key = organisation_key(b"secret", namespace.organisation)
    return Record(id, namespace, created, fingerprint(np.concatenate(tokens), key), PLAIN, (), ())


def test_the_one_that_shares_most_is_nearest() -> None:
    """Of three that share the stem, the one that also shares the branch."""
    book = RecordBook()
    for id, parts in (("a", [(1, 2000), (2, 500)]), ("b", [(1, 2000), (3, 500)]), ("c", [(1, 2000), (4, 500)])):
        book.add(record_of(id, *parts), 0.0)
    near = book.nearest(HOME, record_of("new", (1, 2000), (3, 400), (5, 100)).prompt)
    assert near is not None
    assert (near.record.id, near.common) == ("b", 2400)


def test_the_same_prompt_behind_a_changed_beginning_is_found() -> None:
    """It shares no block: the sample finds it. A prompt about something else isn't."""
    book = RecordBook()
    book.add(record_of("a", (7, 5), (1, 3000)), 0.0)
    near = book.nearest(HOME, record_of("new", (8, 6), (1, 3000)).prompt)
    assert near is not None
    assert (near.record.id, near.common) == ("a", 0)
    assert book.nearest(HOME, record_of("other", (9, 3000)).prompt) is None


@pytest.mark.contract("D9")
def test_records_are_scoped() -> None:
    """By namespace, and anywhere in the organisation; never in another one."""
    book, keyed = RecordBook(), HOME._replace(key="a")
    book.add(record_of("a", (1, 2000), namespace=keyed), 0.0)
    prompt = record_of("new", (1, 2000)).prompt
    assert book.nearest(HOME, prompt) is None
    assert book.nearest(keyed, prompt) is not None
    assert book.nearest(HOME, prompt, anywhere=True) is not None
    stranger = record_of("s", (1, 2000), namespace=HOME._replace(organisation="other"))
    assert book.nearest(stranger.namespace, stranger.prompt, anywhere=True) is None
    assert book.get("org", "a", 0.0) is not None
    assert book.get("other", "a", 0.0) is None


@pytest.mark.contract("D10")
def test_records_expire_after_a_day() -> None:
    """The very second."""
    book = RecordBook()
    book.add(record_of("a", (1, 2000)), 0.0)
    assert book.get("org", "a", 86_399.0) is not None
    assert book.get("org", "a", 86_400.0) is None
    assert book.nearest(HOME, record_of("new", (1, 2000)).prompt) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20), st.integers(1000, 10_000))
def test_the_book_is_bounded_and_forgets_cleanly(prompts: list[tuple[int, int]], most: int) -> None:
    """The oldest go first, and leave nothing behind by which they could be found."""
    book, kept = RecordBook(most_tokens=most), []
    for number, (stem, branch) in enumerate(prompts):
        record = record_of(str(number), (stem, 1100), (branch, 300))
        book.add(record, 0.0)
        kept.append(record)
    while sum(record.length for record in kept) > most:
        kept.pop(0)
    assert len(book) == len(kept)
    found = {*book._by_block.values(), *book._by_sample.values()}
    assert found <= set(kept)


def test_what_is_left_to_reuse_is_the_longest_boundary() -> None:
    """Saved by it, or read by it."""
    record = record_of("a", (1, 2000))
    assert record.reusable == 0
    assert dataclasses.replace(record, boundaries=(1024, 1500)).reusable == 1500


def test_a_prompt_of_very_many_values_weighs_what_it_takes() -> None:
    """150,000 tiny parts: the longest are remembered, empty ones aren't, and the book counts them."""
    parts = tuple(Text("x" * (number % 7), f"messages[0].content[{number}].text") for number in range(20_000))
    request = Request("m", (Message("user", parts, "messages[0]"),))
    prompt = Prompt(np.zeros(10, np.int32), ())
    plan = Plan(10, (), (), (), Lifetime(600.0))
    record = Recorder(b"secret").record(HOME, request, prompt, plan, 0.0)
    assert len(record.values) == MOST_VALUES
    assert record.weight >= 40 * MOST_VALUES
