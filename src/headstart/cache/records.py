"""What is remembered of recent requests, to explain later ones: hashes, counts, settings; never text.

`RecordBook` finds, among the requests of one organisation, the one whose prompt a new prompt is nearest to.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from headstart.cache.fingerprint import Fingerprint, common_tokens, fingerprint, organisation_key
from headstart.types import BLOCK_TOKENS, MINIMUM_PREFIX, Explanation, Namespace, Plan, Prompt, Request

LIFE = 24 * 3600.0
"""Seconds that a record is kept (docs/contract.md, diagnostics)."""
MOST_TOKENS = 4_000_000
"""Prompt tokens of all records together; the oldest go first. A token takes some 8 bytes."""
VALUE_TOKENS, MOST_VALUES = 40, 1_000
"""What a value or a tool counts for in that, and how many values of a prompt are remembered: the longest."""
MOST_RECORDS = 10_000
ALIKE = 0.5
"""Share of a prompt's sample that another has to hold to be taken for the same prompt, changed."""

_SPACES = np.frombuffer(b"\t\n\v\f\r ", np.uint8)


class Print(NamedTuple):
    """Of a value: `exact` of the whole; `letters` of how often each byte occurs, without white space; `all` with it.
    So the same `letters` in another value are the same words in another order, or spaced otherwise."""

    exact: bytes
    all: bytes
    letters: bytes


class Settings(NamedTuple):
    """What a comparison can name, by its own value or a hash of it."""

    service_tier: str
    reasoning_effort: str | None
    verbosity: str | None
    text_format: bytes
    parallel_tool_calls: bool


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One request. `created` in seconds of the caller's clock. `lookups` and `boundaries` are what it looked up, and
    what it saved or found saved. `tools` in their order, `sorted_tools` with the keys of each sorted. `values`: the
    longest of the client's texts by path; `messages` are counted. `compacted`: its history was replaced by a summary.
    `outcome`: what became of it."""

    id: str
    namespace: Namespace
    created: float
    prompt: Fingerprint
    settings: Settings
    lookups: Sequence[int]
    boundaries: Sequence[int]
    tools: tuple[bytes, ...] = ()
    sorted_tools: tuple[bytes, ...] = ()
    values: Mapping[str, Print] = field(default_factory=dict)
    messages: int = 0
    compacted: bool = False
    outcome: Explanation | None = None

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt.traces)

    @property
    def weight(self) -> int:
        """What it counts for in the bound of all records."""
        return self.length + VALUE_TOKENS * (len(self.values) + len(self.tools))

    @property
    def reusable(self) -> int:
        """The longest prefix that it left to be read."""
        read = self.outcome.report.read if self.outcome else 0
        return max((*self.boundaries[-1:], read))


class Near(NamedTuple):
    """The record nearest to a prompt, how many first tokens both share, and what share of the prompt it holds too, if
    that is how it was found."""

    record: Record
    common: int
    alike: float = 1.0


class Recorder:
    """Makes records of one deployment's requests. `secret` is at most 64 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def record(self, namespace: Namespace, request: Request, prompt: Prompt, plan: Plan, now: float) -> Record:
        """The record of a request that has a plan; its id and outcome are added when they are known."""
        key = organisation_key(self._secret, namespace.organisation)
        settings = request.settings
        texts = [text for message in request.messages for text in message.content if text.text]
        longest = heapq.nlargest(MOST_VALUES, texts, key=lambda text: len(text.text))
        output = [settings.format.kind, settings.format.name, settings.format.schema]
        return Record(
            "",
            namespace,
            now,
            fingerprint(prompt.tokens, key, prompt.settings),
            Settings(
                "default",
                settings.reasoning_effort,
                settings.verbosity,
                _hashed(_json(output), key),
                settings.parallel_tool_calls or not request.tools,
            ),
            plan.reads,
            plan.writes,
            tuple(_hashed(_json(tool.definition), key) for tool in request.tools),
            tuple(_hashed(_json(tool.definition, sort=True), key) for tool in request.tools),
            {text.path: _print(text.text, key) for text in longest},
            len(request.messages),
        )


class RecordBook:
    """The latest records, found by id or by nearness. Not thread-safe."""

    def __init__(self, *, most_tokens: int = MOST_TOKENS, life: float = LIFE) -> None:
        self._most_tokens, self._life = most_tokens, life
        self._records: OrderedDict[tuple[str, str], Record] = OrderedDict()
        self._by_block: dict[tuple[object, bytes], Record] = {}
        self._by_sample: dict[int, Record] = {}
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._records)

    def get(self, organisation: str, id: str, now: float) -> Record | None:
        """A record of this organisation, unless it has expired."""
        self._expire(now)
        return self._records.get((organisation, id))

    def add(self, record: Record, now: float) -> None:
        """Remember a request; the oldest are forgotten for it."""
        self._records[record.namespace.organisation, record.id] = record
        self._tokens += record.weight
        self._by_block.update(dict.fromkeys(_block_names(record), record))
        self._by_sample.update(dict.fromkeys(_sample_names(record.namespace, record.prompt), record))
        while self._tokens > self._most_tokens or len(self._records) > MOST_RECORDS:
            self._forget_oldest()
        self._expire(now)

    def forget(self, organisation: str, id: str) -> None:
        """Forget a request, if it is remembered."""
        if (organisation, id) in self._records:
            self._records.move_to_end((organisation, id), last=False)
            self._forget_oldest()

    def nearest(self, namespace: Namespace, prompt: Fingerprint, *, anywhere: bool = False) -> Near | None:
        """The request of the namespace (or `anywhere` in its organisation) whose prompt begins as this one does for at
        least 1,024 tokens; or else, in the namespace, one that says much the same. None if there is none."""
        scope = namespace.organisation if anywhere else namespace
        known = bisect_left(prompt.chain, True, key=lambda digest: (scope, digest) not in self._by_block)
        if known * BLOCK_TOKENS >= MINIMUM_PREFIX:
            record = self._by_block[scope, prompt.chain[known - 1]]
            return Near(record, common_tokens(record.prompt, prompt))
        if anywhere:
            return None
        votes: Counter[Record] = Counter()
        for name, count in zip(_sample_names(namespace, prompt), prompt.sample.values(), strict=True):
            if (found := self._by_sample.get(name)) is not None:
                votes[found] += count
        for record, count in votes.most_common(1):
            alike = count / sum(prompt.sample.values())
            if alike >= ALIKE:
                return Near(record, common_tokens(record.prompt, prompt), alike)
        return None

    def _expire(self, now: float) -> None:
        while self._records and now - next(iter(self._records.values())).created >= self._life:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, record = self._records.popitem(last=False)
        self._tokens -= record.weight
        for name in _block_names(record):
            if self._by_block.get(name) is record:
                del self._by_block[name]
        for word in _sample_names(record.namespace, record.prompt):
            if self._by_sample.get(word) is record:
                del self._by_sample[word]


def _block_names(record: Record) -> Iterator[tuple[object, bytes]]:
    """What a record is found by: the digests of its blocks, in its namespace and in its organisation."""
    for scope in (record.namespace, record.namespace.organisation):
        yield from ((scope, digest) for digest in record.prompt.chain)


def _sample_names(namespace: Namespace, prompt: Fingerprint) -> Iterator[int]:
    """And the hashes of its sample, in its namespace."""
    scope = hash(namespace)
    return (word ^ scope for word in prompt.sample)


def _json(value: Any, *, sort: bool = False) -> str:
    return json.dumps(value, sort_keys=sort, default=str)


def _hashed(text: str | bytes, key: bytes) -> bytes:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return blake2b(data, key=key, digest_size=16).digest()


def _print(text: str, key: bytes) -> Print:
    data = text.encode("utf-8", "surrogatepass")
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    everything = _hashed(counts.tobytes(), key)
    counts[_SPACES] = 0
    return Print(_hashed(data, key), everything, _hashed(counts.tobytes(), key))
