"""Places of breakpoints against a restatement of the contract that shares no code, exhaustively and at random."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cache.serving import Said, prompt_of

from headstart.cache.breakpoints import lookups, written
from headstart.types import Mode, Role

ROLES: dict[str, Role] = {"s": "system", "d": "developer", "u": "user", "a": "assistant", "t": "tool"}


def naive_eligible(roles: str) -> list[int]:
    """Numbers of the messages after which a breakpoint may stand, read off a string as `sduattu`."""
    initial = re.match("[sd]+", roles)
    found = {initial.end() - 1} if initial else set()
    found |= {match.start() for match in re.finditer("u", roles)}
    found |= {match.end() - 1 for match in re.finditer("t+", roles)}
    return sorted(found)


def naive(roles: str, ends: list[int], marks: list[int], mode: Mode) -> tuple[set[int], set[int]]:
    """(written, looked up) in tokens, sentence by sentence of docs/contract.md."""
    endings = [ends[number] for number in naive_eligible(roles)]
    if mode == "explicit":
        write, look = set(marks[-4:]), set(marks[:2]) | set(marks[-50:])
    else:
        write, look = set(marks[-3:]), set(marks[:2]) | set(marks[-50:])
        if endings:
            write.add(endings[-1])
            look.add(endings[-1])
            look |= set(endings[:-1][-20:])
        developers = len(roles) - len(roles.lstrip("sd"))
        if developers:
            look.add(ends[developers - 1])
    return {place for place in write if place >= 1024}, {place for place in look if place >= 1024}


def check(roles: str, lengths: list[int], marked: list[int], mode: Mode) -> None:
    """Both agree. `marked`: numbers of the messages whose end carries a mark."""
    messages = [
        Said(ROLES[role], number, length, ((length, None),) if number in marked else ())
        for number, (role, length) in enumerate(zip(roles, lengths, strict=True))
    ]
    ends = list(itertools.accumulate(lengths))
    prompt = prompt_of(messages)
    write, look = naive(roles, ends, [ends[number] for number in marked], mode)
    assert {mark.stop for mark in written(prompt, mode)} == write
    assert set(lookups(prompt, mode)) == look
    assert write <= look


@pytest.mark.contract("P2")
@pytest.mark.contract("P10")
@pytest.mark.parametrize("mode", ["implicit", "explicit"])
def test_every_sequence_of_five_roles(mode: Mode) -> None:
    """All 3,906 of them, unmarked and with every second message marked."""
    for count in range(6):
        for roles in map("".join, itertools.product("sduat", repeat=count)):
            check(roles, [700] * count, [], mode)
            check(roles, [700] * count, list(range(0, count, 2)), mode)


@given(
    st.text("sduat", max_size=120),
    st.data(),
    st.sampled_from(["implicit", "explicit"]),
)
@settings(max_examples=300, deadline=None)
def test_long_conversations(roles: str, data: st.DataObject, mode: Mode) -> None:
    """Any lengths, any marks."""
    lengths = data.draw(st.lists(st.integers(1, 600), min_size=len(roles), max_size=len(roles)))
    marked = data.draw(st.lists(st.booleans(), min_size=len(roles), max_size=len(roles)))
    check(roles, lengths, [number for number, is_marked in enumerate(marked) if is_marked], mode)


@pytest.mark.contract("P3")
@pytest.mark.contract("P5")
@pytest.mark.parametrize(
    ("mode", "places"), [("implicit", [4000, 5000, 6000, 7000]), ("explicit", [3000, 4000, 5000, 6000])]
)
def test_the_latest_marks_are_written(mode: Mode, places: list[int]) -> None:
    """Five marks and an unmarked end: three and the implicit one, or four; the excess is ignored, not an error."""
    marks = tuple((place, None) for place in (2000, 3000, 4000, 5000, 6000))
    prompt = prompt_of([Said("user", 1, 7000, marks)])
    assert [mark.stop for mark in written(prompt, mode)] == places


@pytest.mark.contract("P9")
@pytest.mark.parametrize("mode", ["implicit", "explicit"])
def test_the_first_two_and_the_latest_fifty_marks_are_looked_up(mode: Mode) -> None:
    """Of sixty marks the 3rd to 10th are not."""
    marks = tuple((2000 + 10 * number, None) for number in range(60))
    found = lookups(prompt_of([Said("assistant", 1, 4000, marks)]), mode)
    assert found == [2000, 2010, *range(2100, 2600, 10)]


@pytest.mark.contract("P10")
def test_twenty_earlier_endings_and_the_initial_block_are_looked_up() -> None:
    """Of forty user messages the last twenty-one; and the developer's, however far back."""
    messages = [Said("system", 1, 1000), Said("developer", 2, 500), *(Said("user", 3, 100) for _ in range(40))]
    assert lookups(prompt_of(messages), "implicit") == [1500, *range(3500, 5501, 100)]


@pytest.mark.contract("P6")
def test_explicit_without_a_mark_does_nothing() -> None:
    """It neither reads nor writes."""
    prompt = prompt_of([Said("system", 1, 5000), Said("user", 2, 5000)])
    assert (written(prompt, "explicit"), lookups(prompt, "explicit")) == ([], [])


@pytest.mark.contract("B2")
def test_places_under_the_minimum_are_not_used() -> None:
    """1,023 tokens are too few, 1,024 are enough."""
    for length, places in ((1023, []), (1024, [1024])):
        prompt = prompt_of([Said("user", 1, length)])
        assert lookups(prompt, "implicit") == [mark.stop for mark in written(prompt, "implicit")] == places


@pytest.mark.contract("P18")
def test_a_marks_own_ttl_is_kept_with_its_place() -> None:
    """Also where it coincides with the implicit breakpoint."""
    prompt = prompt_of([Said("user", 1, 3000, ((2000, "12h"), (3000, "30m")))])
    assert written(prompt, "implicit") == [(2000, "12h"), (3000, "30m")]


def test_a_message_that_prints_nothing_has_no_end() -> None:
    """An empty last user message: the one before it is the latest that ends somewhere."""
    prompt = prompt_of([Said("user", 1, 2000), Said("assistant", 2, 10), Said("user", 3, 0)])
    assert [mark.stop for mark in written(prompt, "implicit")] == [2000]


def test_an_empty_result_does_not_hide_its_group() -> None:
    """A command without output: the group ends where its last result with any text does."""
    prompt = prompt_of([Said("user", 1, 1500), Said("assistant", 2, 60), Said("tool", 3, 6000), Said("tool", 4, 0)])
    assert [mark.stop for mark in written(prompt, "implicit")] == [7560]
