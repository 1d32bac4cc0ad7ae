"""What an audit says, as values; how it is told is for the command line and the page."""

from __future__ import annotations

from dataclasses import dataclass, field

from headstart.audit.call import Skipped
from headstart.audit.edits import Edit
from headstart.audit.findings import Finding
from headstart.audit.models import Profile

DAY = 86_400.0
SHORTEST = 3_600.0
"""Seconds of a log from which on its figures are also said for a day."""


@dataclass
class Sum:
    """Tokens and picodollars of requests; `cost` None: some have no price."""

    requests: int = 0
    input: int = 0
    cached: int = 0
    written: int = 0
    cost: int | None = 0

    def add(self, input: int, cached: int, written: int, cost: int | None) -> None:
        """One more."""
        self.requests += 1
        self.input += input
        self.cached += cached
        self.written += written
        self.cost = None if cost is None or self.cost is None else self.cost + cost

    @property
    def rate(self) -> float:
        """Share of the input tokens that was read."""
        return self.cached / self.input if self.input else 0.0


@dataclass
class ModelSum:
    """A model's requests: as the log's answers counted them, as the rules say, with the findings mended; and without
    any cache. `output`: tokens, `output_cost` what they cost."""

    profile: Profile
    observed: Sum = field(default_factory=Sum)
    predicted: Sum = field(default_factory=Sum)
    attainable: Sum = field(default_factory=Sum)
    uncached: Sum = field(default_factory=Sum)
    output: int = 0
    output_cost: int | None = 0
    differ: int = 0
    """Requests whose answer counted other cached tokens than the rules predict."""


@dataclass
class Report:
    """All of it. `first` and `last`: Unix times; None where the log has none. `studied`: requests that the edits were
    tried on; the rest were replayed with what was found. `edits`: all of a model's, in their order."""

    models: dict[str, ModelSum] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    skipped: int = 0
    examples: list[Skipped] = field(default_factory=list)
    first: float | None = None
    last: float | None = None
    timed: int = 0
    shuffled: int = 0
    studied: int = 0
    notes: list[str] = field(default_factory=list)
    edits: dict[str, tuple[Edit, ...]] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """That were replayed."""
        return sum(model.predicted.requests for model in self.models.values())

    @property
    def seconds(self) -> float:
        """From the first to the last."""
        return self.last - self.first if self.first is not None and self.last is not None else 0.0

    @property
    def per_day(self) -> float | None:
        """What to multiply the log's figures with for those of a day; None for a log that is too short."""
        return DAY / self.seconds if self.seconds >= SHORTEST else None

    def total(self, which: str) -> Sum:
        """Of all models: `observed`, `predicted`, `attainable` or `uncached`."""
        found = Sum()
        for model in self.models.values():
            part: Sum = getattr(model, which)
            found.requests += part.requests
            found.input += part.input
            found.cached += part.cached
            found.written += part.written
            found.cost = None if part.cost is None or found.cost is None else found.cost + part.cost
        return found
