"""What is found in a log: causes with a name, how often, where, and what to do. First the misses that the rules
explain, then patterns that only show over many requests."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headstart.audit.edits import Edit
from headstart.audit.paths import general
from headstart.audit.replay import Served
from headstart.cache.diagnosis import remedy_of
from headstart.types import Parting

REMEDIES = {
    "unread_writes": (
        "Don't pay for writes that nobody reads: mark only what comes again, with prompt_cache_options.mode 'explicit' "
        "(Claude: without cache_control)."
    ),
    "unrepeated": (
        "Caching can't pay here: the prompts don't repeat a prefix of the minimum's length. Leave them as they are; "
        "don't pad them, and don't pay for writes."
    ),
    "output_not_cached": (
        "Only prompts are cached, never answers: output is computed and billed every time. Keep the answers to "
        "repeated requests in your application, or ask for shorter ones."
    ),
    "key_too_coarse": (
        "Spread such requests over several keys: a machine takes some 15 requests a minute of one prefix and key, and "
        "what is more goes to machines that don't have it."
    ),
}


class Example(NamedTuple):
    """Where a varying value stands in one request's text: characters [start, stop), which are cut out of it with some
    around. For whom may see prompts only; reports redact it."""

    line: int
    path: str
    before: str
    value: str
    after: str


@dataclass
class Finding:
    """A cause, in requests of one model. `lost`: tokens that were not read, by the rules' own estimate; `saved` and
    `tokens`: what the replay with `edits` saves, in picodollars and in uncached tokens; None where there was none.
    `kind`: of the value that varies. `requests`: how many have the cause."""

    cause: str
    model: str
    kind: str | None = None
    path: str | None = None
    requests: int = 0
    lost: int = 0
    remedy: str = ""
    example: Example | None = None
    edits: tuple[Edit, ...] = ()
    saved: int | None = None
    tokens: int | None = None
    note: str = ""
    lines: list[int] = field(default_factory=list)
    estimated: bool = False

    @property
    def name(self) -> str:
        """The cause, and the kind of value if there is one: `prefix_changed: timestamp`."""
        return self.cause if self.kind is None else f"{self.cause}: {self.kind}"

    @property
    def changes(self) -> str:
        """What becomes different for the model; empty: nothing."""
        return " ".join(dict.fromkeys(edit.changes for edit in self.edits if edit.changes))


class Group(NamedTuple):
    """Requests that miss for one reason."""

    cause: str
    kind: str | None
    model: str
    path: str | None
    served: list[Served]

    @property
    def lost(self) -> int:
        """Tokens."""
        return sum(max(each.explanation.missed, _shared(each)) for each in self.served)

    @property
    def partings(self) -> list[Parting]:
        """Those that have a place."""
        found = (each.explanation.parting for each in self.served)
        return [parting for parting in found if parting is not None and parting.path is not None]

    def usual(self) -> tuple[Served, Parting] | None:
        """A request that parts where most of them do."""
        places = Counter((parting.path, parting.start) for parting in self.partings)
        if not places:
            return None
        (path, start), _ = places.most_common(1)[0]
        for each in self.served:
            parting = each.explanation.parting
            if parting is not None and (parting.path, parting.start) == (path, start):
                return each, parting
        return None


def _shared(served: Served) -> int:
    """What a prompt without any boundary shares with another."""
    why = served.explanation
    return why.shared if why.cause == "boundary_not_marked" and not served.read else 0


def groups(served: Iterable[Served]) -> list[Group]:
    """Misses by cause, kind and place; the largest loss first. Requests that nothing could be read for are not among
    them."""
    found: dict[tuple[Any, ...], Group] = {}
    for each in served:
        why = each.explanation
        if why.cause in (None, "first_request", "not_cacheable", "not_written"):
            continue
        parting = why.parting
        path = None if parting is None or parting.path is None else general(parting.path)
        kind = parting.kind if parting is not None and why.cause == "prefix_changed" else None
        name = (why.cause, kind, each.call.model, path)
        if name not in found:
            found[name] = Group(str(why.cause), kind, each.call.model, path, [])
        found[name].served.append(each)
    return sorted(found.values(), key=lambda group: (-group.lost, -len(group.served)))


def finding_of(group: Group) -> Finding:
    """Its finding, without what a replay tells."""
    usual = group.usual()
    example, path = None, group.path
    if usual is not None:
        each, parting = usual
        path = parting.path
        example = example_of(each, parting)
    return Finding(
        group.cause,
        group.model,
        group.kind,
        path,
        len(group.served),
        group.lost,
        remedy_of(group.cause, group.kind),
        example,
        lines=[each.call.line for each in group.served[:5]],
    )


AROUND = 40
"""Characters on either side of a varying value."""


def example_of(served: Served, parting: Parting) -> Example | None:
    """The value at a parting, in its text."""
    path = parting.path or ""
    text = served.request.text_at(path)
    if not text:
        return None
    start = parting.start
    stop = max(parting.stop, min(start + 1, len(text)))
    if parting.kind is None:
        stop = min(len(text), start + AROUND)
    return Example(
        served.call.line, path, text[max(start - AROUND, 0) : start], text[start:stop], text[stop : stop + AROUND]
    )


# ------------------------------------------------------------------------------------- patterns over many requests

PER_MINUTE = 15
"""Requests a minute that one machine takes of one prefix and key (OpenAI's documentation)."""


class Rates:
    """Requests a minute by prefix and key."""

    def __init__(self) -> None:
        self._minutes: Counter[tuple[str, str, str | None, bytes, int]] = Counter()
        self.over: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    def take(self, served: Served, head: bytes | None) -> bool:
        """The next request; `head` names its first 256 tokens. Whether it is one too many in its minute."""
        if head is None or served.call.time is None:
            return False
        namespace = served.call.model, served.request.cache.key
        name = (served.call.organisation, *namespace, head, int(served.now // 60))
        if len(self._minutes) > 100_000:
            self._minutes.clear()
        self._minutes[name] += 1
        model = served.call.model
        self.most[model] = max(self.most[model], self._minutes[name])
        if self._minutes[name] > PER_MINUTE:
            self.over[model] += 1
            return True
        return False

    def findings(self) -> Iterable[Finding]:
        """One for each model."""
        for model, over in self.over.items():
            keys = math.ceil(self.most[model] / PER_MINUTE)
            yield Finding(
                "key_too_coarse",
                model,
                None,
                "prompt_cache_key",
                over,
                remedy=REMEDIES["key_too_coarse"],
                note=f"Up to {self.most[model]} a minute: {keys} keys would do.",
                estimated=True,
            )


class Repeats:
    """Requests that were sent before, word for word, and what answering them again cost."""

    MOST = 200_000

    def __init__(self) -> None:
        self._seen: set[tuple[str, str, bytes]] = set()
        self.findings: dict[str, Finding] = {}

    def take(self, served: Served, digest: bytes, cost: int | None) -> None:
        """The next request, and what its answer and its input cost."""
        usage = served.call.usage
        name = (served.call.organisation, served.call.model, digest)
        if name not in self._seen:
            if len(self._seen) < self.MOST:
                self._seen.add(name)
            return
        if usage is None or not usage.output:
            return
        model = served.call.model
        found = self.findings.setdefault(
            model, Finding("output_not_cached", model, remedy=REMEDIES["output_not_cached"], saved=0, tokens=0)
        )
        found.requests += 1
        found.lost += usage.output
        found.saved = None if cost is None or found.saved is None else found.saved + cost
        found.tokens = (found.tokens or 0) + usage.output
        if len(found.lines) < 5:
            found.lines.append(served.call.line)


def writes_by_model(served: Sequence[Served]) -> dict[str, tuple[int, int]]:
    """Tokens written and read, of each model that pays for writing."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for each in served:
        if each.profile.rules in ("breakpoint", "claude"):
            sums[each.call.model][0] += each.written + each.long
            sums[each.call.model][1] += each.read
    return {model: (written, read) for model, (written, read) in sums.items()}
