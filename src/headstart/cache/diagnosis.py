"""Why a prompt was not read from the cache, in words that help: from what the engine found, and from records of earlier
requests. Pure.

`explain` needs no comparison to be named: it looks for the nearest earlier prompt. `compare` is OpenAI's own diagnosis
against a response that the client named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from headstart.cache import kinds
from headstart.cache.records import Near, Record, RecordBook
from headstart.types import (
    BLOCK_TOKENS,
    MINIMUM_PREFIX,
    CacheReport,
    Cause,
    Comparison,
    Explanation,
    Parting,
    Plan,
    Prompt,
    Reason,
    Request,
)

REMEDIES: Mapping[Cause, str] = {
    "below_minimum": f"Nothing under {MINIMUM_PREFIX} tokens is cached: share a longer prefix, or don't mind.",
    "first_request": "Nothing to mend, if you expected none: no earlier request of this namespace is recognised in it.",
    "not_cacheable": "This model's state can't be used again in a way known to be right: nothing is cached.",
    "not_written": "Nothing to mend: the earlier request ended before it saved as much of its prompt.",
    "prefix_changed": "Put what changes behind what stays the same, and a breakpoint in front of it.",
    "expired": "Send such requests more often, or ask for a longer life.",
    "evicted": "Give the cache more memory (--ram-cache), or send fewer different prefixes.",
    "refused": "It could not be promised, or there was no room for it: raise --disk-cache or --ram-cache.",
    "different_key": "Use the same prompt_cache_key for requests that share this prefix.",
    "boundary_not_marked": (
        "Mark the end of the part that stays the same with a prompt_cache_breakpoint, in every request that has it."
    ),
}
"""What to do about each cause, in one sentence for a person. A kind of value at the parting has a better one."""

STRUCTURAL: Mapping[str, str] = {
    "setting": "This setting is part of the prefix: keep it the same for requests that share one.",
    "reordered_tools": "Send the tools in the same order every time, for instance sorted by name.",
    "reordered_keys": "Write JSON with its keys in the same order every time, for instance sorted.",
    "reordered_text": "Put the same texts in the same order every time, for instance sorted by their names.",
    "changed_tools": (
        "Send the same tools every time: what varies in a description belongs into the input, and tool_choice's "
        "allowed_tools limits which may be called."
    ),
    "edited_history": "Only append to a conversation: an edited or shortened history is a new prefix.",
}
"""The same for what `kinds` doesn't know, since it takes both prompts to tell."""

_REMEDIES: Mapping[str, str] = dict(REMEDIES.items())
_KIND_REMEDIES: Mapping[str, str] = {**dict(kinds.REMEDIES.items()), **STRUCTURAL}


def remedy_of(cause: str, kind: str | None = None) -> str:
    """What to do about a cause, where a value of some kind stands at the parting; empty for one of a later version."""
    if cause == "prefix_changed" and kind is not None and kind in _KIND_REMEDIES:
        return _KIND_REMEDIES[kind]
    return _REMEDIES.get(cause, "")


ELSEWHERE = 0.2
"""Share of a prompt that another has to hold behind the place where they part, to be the same prompt, changed."""
TAIL_TOKENS = 64
"""Tokens behind a changed value that make it stand in the middle of a text rather than at its end."""
_JSON = re.compile(r'[{,]\s*"[^"\n]{1,100}"\s*:')
"""A key of an object."""

QUOTED = 40
"""Characters on either side of a parting that an explanation may quote."""

Locate = Callable[[int], tuple[str, int] | None]
"""Token number to the JSON path and character of the value it came from."""


class Subject(NamedTuple):
    """The request in question. `locate` finds a token's place in its JSON. `keep_text`: an explanation may quote it.
    `cacheable`: whether the model can cache anything."""

    record: Record
    request: Request
    prompt: Prompt
    plan: Plan
    locate: Locate
    keep_text: bool = False
    cacheable: bool = True


class Miss(NamedTuple):
    """A cause, and how many tokens could have been read besides."""

    cause: Cause
    tokens: int = 0


def explain(subject: Subject, report: CacheReport, book: RecordBook) -> Explanation:
    """Why no more was read than `report` says."""
    record, plan = subject.record, subject.plan
    if plan.length < MINIMUM_PREFIX:
        return Explanation("below_minimum", REMEDIES["below_minimum"], report)
    near = book.nearest(record.namespace, record.prompt)
    parting = _parting(subject, near) if near is not None else None
    miss = _miss(subject, report, near, parting)
    if miss is not None and miss.cause == "first_request":
        elsewhere = book.nearest(record.namespace, record.prompt, anywhere=True)
        if elsewhere is not None and (left := _left(subject, elsewhere)):
            near, miss = elsewhere, Miss("different_key", left)
    cause, missed = miss or (None, 0)
    remedy = None if cause is None else remedy_of(cause, parting.kind if parting is not None else None)
    if cause == "below_minimum" and near is not None:
        lacking = MINIMUM_PREFIX - near.common
        remedy = f"Both share {near.common} tokens, {lacking} too few: from {MINIMUM_PREFIX} on a prefix is cached."
    if near is None:
        return Explanation(cause, remedy, report, missed)
    return Explanation(cause, remedy, report, missed, near.record.id, near.common, parting)


def _miss(subject: Subject, report: CacheReport, near: Near | None, parting: Parting | None) -> Miss | None:
    plan, read = subject.plan, report.read
    if not subject.cacheable:
        return Miss("not_cacheable")
    if plan.step == 1 and not plan.reads:
        return Miss("boundary_not_marked")
    if report.lost is not None:
        return Miss(report.lost.fate, report.lost.boundary - read)
    if near is None:
        return None if read else Miss("first_request")
    if near.record.settings != subject.record.settings or near.common < MINIMUM_PREFIX:
        if read:
            return None
        same_behind = near.alike - near.common / plan.length
        if near.record.settings == subject.record.settings and same_behind < ELSEWHERE:
            return Miss("below_minimum")
        return Miss("prefix_changed", min(near.record.reusable, *plan.reads[-1:]))
    left = max((boundary for boundary in _up_to(near.record.boundaries, near.common) if boundary > read), default=0)
    if left:
        return Miss("not_written" if left in plan.reads else "boundary_not_marked", left - read)
    if plan.step == 1 and near.common - read >= MINIMUM_PREFIX:
        changed = _changed_within(subject, near.common, parting)
        return Miss("prefix_changed" if changed else "boundary_not_marked", near.common - read)
    return None


def _changed_within(subject: Subject, common: int, parting: Parting | None) -> bool:
    """Whether what changed stands within what was to stay the same: in front of a mark or a later message, or as a
    value in the middle of the last one. Else that only ends in another way, and there is no boundary before its end."""
    prompt = subject.prompt
    if any(common < mark.stop for mark in prompt.marks):
        return True
    if prompt.endings and common < max((ending.stop for ending in prompt.endings[:-1]), default=0):
        return True
    return parting is not None and parting.kind is not None and len(prompt.tokens) - common >= TAIL_TOKENS


def _left(subject: Subject, elsewhere: Near) -> int:
    """What this prompt could read of one that has another key."""
    ours, theirs = subject.record.namespace, elsewhere.record.namespace
    if ours._replace(key=None) != theirs._replace(key=None):
        return 0
    boundaries = _up_to(elsewhere.record.boundaries, elsewhere.common)
    return max((boundary for boundary in boundaries if boundary in subject.plan.reads), default=0)


def _up_to(boundaries: Sequence[int], most: int) -> Sequence[int]:
    if isinstance(boundaries, range):
        return boundaries[: max((most - boundaries.start) // BLOCK_TOKENS + 1, 0)]
    return [boundary for boundary in boundaries if boundary <= most]


# ------------------------------------------------------------------------------------------------ where prompts part


def _parting(subject: Subject, near: Near) -> Parting | None:
    """Where this prompt parts from the nearest one; None if it only goes on, or is the same."""
    ours, theirs = subject.record, near.record
    if ours.settings != theirs.settings:
        chat = subject.request.settings.format.path.startswith("response_format")
        path = next(names[chat] for names, differs in _settings(theirs, ours) if differs)
        return Parting(0, path, kind="setting")
    if near.common == min(ours.length, theirs.length):
        return None
    place = subject.locate(near.common)
    if place is None:
        return Parting(near.common)
    path, offset = place
    if path.startswith("tools["):
        return Parting(near.common, path, kind=_tools_kind(ours, theirs))
    if ours.tools != theirs.tools and offset == 0 and path == _first_path(subject.request):
        return Parting(near.common, "tools", kind=_tools_kind(ours, theirs))  # the last one is gone
    text = subject.request.text_at(path)
    found = kinds.kind_of(text, offset)
    start, stop = (found.start, found.stop) if found is not None else (offset, offset)
    quoted = text[max(start - QUOTED, 0) : stop + QUOTED] if subject.keep_text else None
    by_looks = None if found is None else found.kind
    kind: str | None = by_looks
    if by_looks in (None, "whitespace", "counter"):  # which any text may have
        kind = _text_kind(subject, theirs, path, text) or by_looks
    return Parting(near.common, path, offset, kind, start, stop, quoted)


def _first_path(request: Request) -> str | None:
    return next((text.path for message in request.messages for text in message.content), None)


def _tools_kind(ours: Record, theirs: Record) -> str:
    if sorted(ours.tools) == sorted(theirs.tools):
        return "reordered_tools"
    return "reordered_keys" if ours.sorted_tools == theirs.sorted_tools else "changed_tools"


def _text_kind(subject: Subject, theirs: Record, path: str, text: str) -> str | None:
    """What two values of one path have in common, though they differ; `text` is the newer."""
    new, old = subject.record.values.get(path), theirs.values.get(path)
    if new is not None and old is not None and new.exact != old.exact:
        if new.all == old.all:
            return "reordered_keys" if _JSON.search(text) else "reordered_text"
        if new.letters == old.letters:
            return "whitespace"
    steps = (message.path for message in subject.request.messages)
    number = next((number for number, step in enumerate(steps) if path.startswith(step)), 0)
    return "edited_history" if 0 < number < theirs.messages - 1 else None


# ------------------------------------------------------------------------------------------------ OpenAI's diagnosis


def compare(record: Record, report: CacheReport, earlier: Record | None, common: int) -> Comparison:
    """What a request made of the prefix that `earlier` left; both begin with `common` tokens (docs/contract.md,
    `comparison_response_id`)."""
    if earlier is None:
        return Comparison("comparison_response_not_found")
    reusable = earlier.reusable
    if not reusable:
        return Comparison("unavailable")
    read = min(report.read, common)  # of what both begin with
    if read >= reusable:
        return Comparison("cache_hit")
    reason = next((reason for reason, applies in _reasons(earlier, record, common) if applies), None)
    if reason is None:  # all is as it was: the entry has gone, or is not looked up
        return Comparison("unavailable")
    return Comparison("cache_miss", reason, reusable - read, reusable)


def _reasons(old: Record, new: Record, common: int) -> Sequence[tuple[Reason, bool]]:
    """In the order in which the first that applies is told."""
    before, after = old.settings, new.settings
    tools = old.tools != new.tools or before.parallel_tool_calls != after.parallel_tool_calls
    return (
        ("model_changed", old.namespace.model != new.namespace.model),
        ("service_tier_changed", before.service_tier != after.service_tier),
        ("prompt_cache_key_changed", old.namespace.key != new.namespace.key),
        ("reasoning_effort_changed", before.reasoning_effort != after.reasoning_effort),
        ("verbosity_changed", before.verbosity != after.verbosity),
        ("text_format_changed", before.text_format != after.text_format),
        ("tools_changed", tools),
        ("context_compacted", new.compacted and not old.compacted),
        ("input_changed", common < old.reusable),
    )


def _settings(old: Record, new: Record) -> Sequence[tuple[tuple[str, str], bool]]:
    """The settings of the prefix by what the Responses API and Chat Completions call them."""
    before, after = old.settings, new.settings
    return (
        (("reasoning.effort", "reasoning_effort"), before.reasoning_effort != after.reasoning_effort),
        (("text.verbosity", "verbosity"), before.verbosity != after.verbosity),
        (("text.format", "response_format"), before.text_format != after.text_format),
        (("parallel_tool_calls",) * 2, before.parallel_tool_calls != after.parallel_tool_calls),
        (("service_tier",) * 2, before.service_tier != after.service_tier),
    )
