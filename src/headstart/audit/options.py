"""Which edits may mend a group of misses. Each option is one or more edits; the replay tells which is best, if any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from os.path import commonprefix
from typing import Any, NamedTuple

from headstart.audit.edits import (
    Edit,
    EvenSpaces,
    KeepLonger,
    KeepTools,
    Mark,
    MarkLatest,
    MoveValue,
    Pad,
    SetOption,
    SortText,
    SortTools,
    tool_name,
)
from headstart.audit.findings import Group
from headstart.audit.replay import Prompts, Served
from headstart.types import Request, Text

LOOKED_AT = 200
"""Requests of a group that are compared with one another."""
MARGIN = 8
"""Tokens of padding more than needed: where texts are cut, tokens may fall otherwise."""

Option = tuple[Edit, ...]


def options(group: Group, prompts: Prompts) -> Iterator[Option]:
    """For a group of misses; none where nothing can be changed without knowing the application."""
    if group.cause == "prefix_changed":
        yield from _moved(group)
    elif group.cause == "below_minimum":
        shared = shared_prefix(group.served, prompts)
        if shared is not None:
            yield from padded(shared, group.served[0])
    elif group.cause == "expired":
        rules = group.served[0].profile.rules
        if rules == "claude":
            yield (KeepLonger(),)
        elif rules == "interval":
            yield (SetOption("prompt_cache_retention", "24h"),)
        else:
            yield (SetOption("prompt_cache_options", {"ttl": "12h"}),)
    elif group.cause == "different_key":
        yield (SetOption("prompt_cache_key"),)
    elif group.cause == "boundary_not_marked":
        yield from marked(group, prompts)


def kind_of(edit: Edit) -> str | None:
    """What kind of difference it is that this edit mends, if the edit alone tells."""
    if isinstance(edit, EvenSpaces):
        return "whitespace"
    if isinstance(edit, SortText):
        return "reordered_text" if edit.lines else "reordered_keys"
    return None


def _moved(group: Group) -> Iterator[Option]:
    usual = group.usual()
    if usual is None:
        return
    served, parting = usual
    path, kind = parting.path or "", parting.kind
    if kind == "whitespace":
        yield (EvenSpaces(path),)
    elif kind in ("reordered_tools", "reordered_keys") and path.startswith("tools"):
        yield (SortTools(),)
    elif kind == "changed_tools":
        yield (_all_tools(group.served),)
    elif kind == "reordered_keys":
        yield (SortText(path),)
    elif kind == "reordered_text":
        yield (SortText(path, parting.start, lines=True),)
    elif kind not in ("edited_history", "setting") and path:
        if kind in (None, "counter"):  # the texts end in different ways, so what they have in common was not seen
            yield (EvenSpaces(path),)
            yield (SortText(path),)
            yield (SortText(path, parting.start, lines=True),)
        yield (MoveValue(path, parting.start, kind),)
        if kind is None and path != _texts(served.request)[-1].path:
            yield (MoveValue(path, 0, whole=True),)


def _all_tools(served: Sequence[Served]) -> KeepTools:
    """Every tool that a request has, as it was first defined, by name."""
    tools: dict[str, Any] = {}
    for each in served:
        given = each.call.body.get("tools")
        for tool in given if isinstance(given, list) else ():
            tools.setdefault(tool_name(tool), tool)
    return KeepTools(tuple(tools[name] for name in sorted(tools)))


class Shared(NamedTuple):
    """What the beginnings of some prompts share: `tokens`, up to the end of `prefix` in the text at `path`."""

    path: str
    prefix: str
    tokens: int
    requests: int


def shared_prefix(served: Sequence[Served], prompts: Prompts) -> Shared | None:
    """Of the largest family of these requests: those whose first texts begin alike. None if there is no family."""
    families = Counter(_opening(each.request) for each in served[:LOOKED_AT])
    if not families:
        return None
    opening, count = families.most_common(1)[0]
    if count < 2:
        return None
    family = [each for each in served[:LOOKED_AT] if _opening(each.request) == opening]
    place = _common([each.request for each in family])
    if place is None:
        return None
    path, prefix = place
    _, prompt = prompts.build(family[0].call)
    start = next((segment.start for segment in prompt.segments if segment.path == path), None)
    if start is None:
        return None
    return Shared(path, prefix, start + prompts.count(prefix), round(len(served) * count / len(served[:LOOKED_AT])))


def padded(shared: Shared, served: Served) -> Iterator[Option]:
    """The prefix with as much more as it lacks, and a breakpoint where the model wants one."""
    lacking = served.profile.minimum - shared.tokens
    if lacking <= 0:
        return
    pad = Pad(shared.path, shared.prefix, lacking + MARGIN)
    if served.profile.rules == "interval":
        yield (pad,)
    else:
        yield (pad, Mark(shared.path, f"{shared.prefix}\n{' note' * pad.tokens}\n"))


def marked(group: Group, prompts: Prompts) -> Iterator[Option]:
    """A breakpoint where the group's prompts part."""
    shared = shared_prefix(group.served, prompts)
    places: list[Edit] = [] if shared is None else [Mark(shared.path, shared.prefix)]
    if shared is None and (usual := group.usual()) is not None:  # one request parts from one of another group
        served, parting = usual
        prefix = _cut(served.request.text_at(parting.path or "")[: parting.start])
        places += [Mark(parting.path or "", prefix)] if prefix else []
    if group.served[0].profile.rules == "claude":
        places.append(MarkLatest())
        yield from ((place, KeepLonger()) for place in places)
    yield from ((place,) for place in places)


def _texts(request: Request) -> list[Text]:
    return [text for message in request.messages for text in message.content]


def _opening(request: Request) -> tuple[str, ...]:
    texts = _texts(request)
    return (texts[0].path, texts[0].text[:48]) if texts else ()


def _common(requests: Sequence[Request]) -> tuple[str, str] | None:
    """The path of the first text that isn't the same in all, and how all of them begin; the end of the one before if
    they have nothing in common."""
    all_texts = [_texts(request) for request in requests]
    before: tuple[str, str] | None = None
    for texts in zip(*all_texts, strict=False):
        if len({text.path for text in texts}) > 1:
            return before
        common = commonprefix([text.text for text in texts])  # noqa: RUF071 - of texts, not of paths
        if any(text.text != common for text in texts):
            cut = _cut(common)
            return (texts[0].path, cut) if cut else before
        if common:
            before = texts[0].path, common
    return before


def _cut(text: str) -> str:
    """Up to the end of its last line, or of its last word if that is far: in the middle of a word is no place."""
    line = text.rfind("\n") + 1
    if line and len(text) - line <= LOOKED_AT:
        return text[:line]
    return text[: text.rfind(" ") + 1]
