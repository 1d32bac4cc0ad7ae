"""What kind of value broke a prefix: as prompts of real applications have them, and what only looks like one."""

from __future__ import annotations

import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.cache.kinds import AHEAD, BEHIND, REMEDIES, Found, Kind, kind_of

ISO = "2026-11-23T10:05:07Z"

EXAMPLES: tuple[tuple[Kind, str], ...] = (
    ("timestamp", f"Current time: [{ISO}]."),
    ("timestamp", "now=[2026-11-23T10:05:07.123456+00:00], locale=de"),
    ("timestamp", "System time [2026-11-23 10:05:07+0100] (server)"),
    ("timestamp", "[2026-11-23 10:05:07,123] INFO started"),
    ("timestamp", "It is [2026-11-23 10:05] now."),
    ("timestamp", "Date: [Mon, 23 Nov 2026 10:05:07 GMT]\r\n"),
    ("timestamp", "Date: [Mon, 23 Nov 2026 10:05:07 +0000]\n"),
    ("timestamp", "$ date\n[Mon Nov 23 10:05:07 UTC 2026]\n"),
    ("timestamp", "asctime: [Mon Nov  2 10:05:07 2026]."),
    ("timestamp", "new Date() is [Mon Nov 23 2026 10:05:07 GMT+0000] (UTC)"),
    ("timestamp", "Today is [November 23, 2026 at 10:05 AM]."),
    ("timestamp", "Today is [11/23/2026, 10:05:07 AM] here"),
    ("timestamp", '127.0.0.1 - - [23/Nov/2026:10:05:07 +0000] "GET /"'),
    ("timestamp", "backup-of [20261123T100507Z] follows"),
    ("timestamp", '{"ts": [1795428307]}'),
    ("timestamp", '{"ts": [1795428307123]}'),
    ("timestamp", "time.time() = [1795428307.123456]"),
    ("date", "Today's date is [2026-11-23]."),
    ("date", "Heute ist der [23.11.2026]."),
    ("date", "Today's date: [11/23/2026]"),
    ("date", "Folder [2026/11/23] is open"),
    ("date", "You are a helpful assistant. Today is [November 23, 2026]."),
    ("date", "Today is [Monday, 23 November 2026]. Be short."),
    ("date", "Today is [Monday, November 23rd, 2026]."),
    ("date", "Current date: [23 Nov 2026]\n"),
    ("date", "Report of [November 2026], all regions"),
    ("date", "Snapshot [20261123] of the tables"),
    ("date", "It is [Tuesday] today."),
    ("date", "Figures of [2026-11] only"),
    ("date", "今天是[2026年11月23日]。"),
    ("time", "The time is [10:05]."),
    ("time", "The time is [10:05:07] here"),
    ("time", "Local time: [10:05 PM]\n"),
    ("time", "Local time: [10:05 p.m.] in Paris"),
    ("time", "We meet at [3pm] sharp"),
    ("time", "Clock: [23:59:59.999Z]"),
    ("uuid", "Request [550e8400-e29b-41d4-a716-446655440000]: go"),
    ("uuid", "doc {[550E8400-E29B-41D4-A716-446655440000]}"),
    ("uuid", "id=[urn:uuid:550e8400-e29b-41d4-a716-446655440000]"),
    ("uuid", "id: [550e8400e29b41d4a716446655440000] end"),
    ("uuid", "trace_id: [0192f3c4-5d6e-7f80-9a1b-2c3d4e5f6071]"),
    ("request_identifier", "[req_8f3a9c2d1e] was received"),
    ("request_identifier", "[trace-42af] and so on"),
    ("request_identifier", "[chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG]:"),
    ("request_identifier", "session id: [abc123def]"),
    ("request_identifier", '{"session_id": "[s9x8]"}'),
    ("request_identifier", "X-Request-Id: [4711-0815]"),
    ("request_identifier", "nonce: [7f3k]"),
    ("request_identifier", "traceparent [00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01]"),
    ("request_identifier", "Key [01ARZ3NDEKTSV4RRFFQ69G5FAV] (ULID)"),
    ("request_identifier", "Key [01arz3ndektsv4rrffq69g5fav] (ULID)"),
    ("request_identifier", "nanoid [V1StGXR8_Z5jdHi6B-myT] here"),
    ("request_identifier", "commit [3f2a9c1b7d] of main"),
    ("request_identifier", "at [0x7f3a9c2d1e40]>"),
    ("request_identifier", "snowflake [175928847299117063] it is"),
    ("user_identifier", "Signed in as [ada.lovelace+1@mail.example.org]."),
    ("user_identifier", "You talk to [user_123]."),
    ("user_identifier", "Customer [cus_NffrFeUfNV2Hib] pays"),
    ("user_identifier", "user id: [4711]"),
    ("user_identifier", '{"user_id": [4711]}'),
    ("user_identifier", '{"user": "[u8812]"}'),
    ("user_identifier", "userId=[4711]&x"),
    ("user_identifier", "uid:[1001] gid"),
    ("user_identifier", "customer=[acme], plan"),
    ("user_identifier", "Account number [DE89-3704] is"),
    ("user_identifier", "Hello [@maria_k], hi"),
    ("user_identifier", "user_id: [550e8400-e29b-41d4-a716-446655440000]"),
    ("counter", "Turn [7]"),
    ("counter", "This is attempt [3 of 5]."),
    ("counter", "Issue [#12] is open"),
    ("counter", "You have [5] messages."),
    ("counter", "Seen [1,204] times"),
    ("counter", '{"step": [17], "x"'),
    ("whitespace", "one[  ]two"),
    ("whitespace", "one[\t]two"),
    ("whitespace", "one.[\r\n]Two"),
    ("whitespace", "one[\n\n\n]Two"),
    ("whitespace", "one[\u00a0]two"),
    ("whitespace", "one[\u200b]two"),
    ("whitespace", "The end.[ ]"),
)
"""`[…]` marks the value that is to be found."""

NOTHING = (
    "an ordinary word",
    "version 1.2.3 of it",
    "for $19.99 only",
    "for $ 20 only",
    "for 20 € only",
    "at 10.0.0.12 there",
    "gpt-4.1-mini answers",
    "claude-3-5-sonnet-20241022 answers",
    "Llama-3-8B-Instruct-v2 answers",
    "you may go in march",
    "deadbeef and facade",
    "user_name and user-agent",
    "request to do",
    "antidisestablishmentarianism",
    "a ratio of 3:1",
    "20% of them",
    "12px wide",
    "a 5-star hotel",
    "ISO week 2026-W47",
    "1st of all",
    "0.532s later",
    "COVID-19 is over",
    "User: what is it?",
)


def marked(example: str) -> tuple[str, int, int]:
    """The text without its outermost brackets, and where they stood."""
    start, stop = example.index("["), example.rindex("]")
    return example[:start] + example[start + 1 : stop] + example[stop + 1 :], start, stop - 1


@pytest.mark.parametrize(("kind", "example"), EXAMPLES)
def test_a_value_is_found_from_any_of_its_characters(kind: Kind, example: str) -> None:
    """As the whole value, wherever in it the texts part; also in the middle of a long prompt."""
    for around in ("", "Answer in English, please. " * 40):
        text, start, stop = marked(f"{around}{example}")
        text += around and f" {around}"
        if kind == "whitespace" and around:
            continue  # trailing spaces end the text
        assert {kind_of(text, offset) for offset in range(start, stop)} == {Found(kind, start, stop)}


@pytest.mark.parametrize(("kind", "example"), [e for e in EXAMPLES if e[0] not in ("whitespace", "counter")])
def test_a_place_a_few_characters_before_finds_the_value_too(kind: Kind, example: str) -> None:
    """The place is exact to a token: it may lie in what stands before the value, or in its label."""
    text, start, stop = marked(example)
    for before in range(min(start, 3) + 1):
        assert kind_of(text, start - before) == Found(kind, start, stop)


@pytest.mark.parametrize("text", NOTHING)
def test_what_only_looks_like_a_value_is_none(text: str) -> None:
    """No version, price, address, model's name or word is taken for one, from any of its characters."""
    assert {kind_of(f"Say: {text}", offset) for offset in range(5, 5 + len(text))} == {None}


def test_the_nearest_value_wins() -> None:
    """Not a later one, nor one that ended before; a place in a number's own word is not yet that number's."""
    text = f"Turn 7, {ISO}, then user_123 came"
    assert [kind_of(text, at) for at in (0, 5, 8, 12)] == [
        Found("counter", 5, 6),
        Found("counter", 5, 6),
        Found("timestamp", 8, 28),
        Found("timestamp", 8, 28),
    ]
    assert kind_of("Hello to bob, 5 apples", 9) is None
    assert kind_of(f"{ISO} is behind us by a lot of words", 25) is None


def test_white_space_gives_way_only_to_a_value_right_behind_it() -> None:
    """Two spaces before a timestamp may be in every such prompt; before a word they are what differs."""
    assert kind_of(f"Time:  {ISO}.", 5) == Found("timestamp", 7, 27)
    assert kind_of("one  two 10:05 ", 3) == Found("whitespace", 3, 5)


def test_a_handle_is_no_decorator() -> None:
    """Prompts hold code."""
    assert kind_of("class A:\n    @property\n    def b", 13) is None


@given(st.text(st.sampled_from("09afZ-_:.,@#/ \n\tTuserid=Nov"), max_size=400), st.integers(-5, 450))
def test_whatever_is_found_covers_the_place_or_follows_it(text: str, offset: int) -> None:
    """Never raises; the value is inside the window and doesn't end before the place."""
    found = kind_of(text, offset)
    if found is not None:
        place = min(max(offset, 0), len(text))
        assert max(0, place - BEHIND) <= found.start < found.stop <= min(len(text), place + AHEAD)
        assert found.stop > place


@given(st.text(), st.integers(0, 40))
def test_any_text_is_read(text: str, offset: int) -> None:
    """Surrogates, controls, any script."""
    kind_of(text, offset)


@given(st.sampled_from(EXAMPLES), st.text(st.sampled_from("abc 0\n"), max_size=30))
def test_what_is_far_away_changes_nothing(example: tuple[Kind, str], far: str) -> None:
    """Only the window is read."""
    text, start, _ = marked("~" * BEHIND + f" {example[1]} " + "~" * AHEAD)
    found, moved = kind_of(text, start), kind_of(far + text + far, start + len(far))
    assert found is not None
    assert moved == Found(found.kind, found.start + len(far), found.stop + len(far))


@pytest.mark.parametrize(
    "piece",
    [" ", "1", "a1", "a-", "a@", "a.", "Nov ", "1a_-", "1-", "1:", "12,345,", "user id:", "req_", "user-a", "2026-11-"],
)
def test_a_hostile_megabyte_takes_no_longer_than_any_text(piece: str) -> None:
    """Repetitions that patterns stumble over: milliseconds, whatever follows the window."""
    text = piece * (1_000_000 // len(piece))
    begun = time.process_time()
    for offset in range(500_000, 500_010):
        kind_of(text, offset)
    assert time.process_time() - begun < 2


def test_every_kind_has_a_remedy_of_one_sentence() -> None:
    """What a person is told."""
    assert set(REMEDIES) == set(get_args(Kind))
    assert all(remedy.endswith(".") and ". " not in remedy for remedy in REMEDIES.values())
