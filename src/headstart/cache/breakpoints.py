"""Where a breakpoint model's prefixes end: which of a prompt's places are written, and which are looked up. Pure.

    system  developer | user  tool_call  tool  tool | assistant  user     messages
                    ^      ^                      ^                 ^     eligible endings; the last: the implicit one

From docs/contract.md, breakpoint models. A place is a number of tokens: the exact end of a message's content, or of a
block that carries a mark.
"""

from __future__ import annotations

import itertools

from headstart.types import MINIMUM_PREFIX, Ending, Mark, Mode, Prompt

MARKS_WRITTEN = {"implicit": 3, "explicit": 4}
FIRST_MARKS, LATEST_MARKS = 2, 50
"""Explicit breakpoints that are looked up: the first and the latest."""
EARLIER_ENDINGS = 20
"""Eligible endings before the latest one that are looked up."""


def written(prompt: Prompt, mode: Mode) -> list[Mark]:
    """The places to save, ascending, each once, with its own ttl where it has one."""
    places = {mark.stop: mark.ttl for mark in _marks(prompt)[-MARKS_WRITTEN[mode] :]}
    endings = eligible(prompt.endings)
    if mode == "implicit" and endings:
        places.setdefault(endings[-1])
    return [Mark(stop, places[stop]) for stop in sorted(places) if stop >= MINIMUM_PREFIX]


def lookups(prompt: Prompt, mode: Mode) -> list[int]:
    """The places to look up, ascending, each once. All that is written is among them."""
    marks = [mark.stop for mark in _marks(prompt)]
    places = {*marks[:FIRST_MARKS], *marks[-LATEST_MARKS:]}
    endings = eligible(prompt.endings)
    if mode == "implicit" and endings:
        places.update(endings[-EARLIER_ENDINGS - 1 :])
        places.add(_initial(prompt.endings))
    return sorted(stop for stop in places if stop >= MINIMUM_PREFIX)


def eligible(endings: tuple[Ending, ...]) -> list[int]:
    """Where messages end after which a prompt is likely to be continued, ascending: user messages, the last tool result
    of a consecutive group, the last developer or system message of the initial consecutive group."""
    places = {_initial(endings)}
    for role, group in itertools.groupby(endings, key=lambda ending: ending.role):
        stops = [ending.stop for ending in group]
        if role == "user":
            places.update(stops)
        elif role == "tool":  # a result may be empty
            places.add(max(stops))
    return sorted(places - {0})


def _initial(endings: tuple[Ending, ...]) -> int:
    """Where the initial group of developer and system messages ends; 0 without one."""
    stop = 0
    for ending in endings:
        if ending.role not in ("system", "developer"):
            break
        stop = max(stop, ending.stop)
    return stop


def _marks(prompt: Prompt) -> list[Mark]:
    """In their order in the prompt; of several at one place the last, which is the innermost block that ends there."""
    return sorted({mark.stop: mark for mark in prompt.marks}.values())
