"""`/metrics`: what Prometheus scrapes. Names follow its conventions: base units, and what only grows ends in `_total`.

Labels have few values, and none that a client can choose: a model is one that is served, or `other`; organisations and
keys are the ledger's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from headstart import __version__
from headstart.engine.base import EngineStats
from headstart.telemetry.tally import Histogram, Tally
from headstart.types import PICO, Usage

PLAIN = CONTENT_TYPE_PLAIN_0_0_4
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST
OTHER = "other"


class LedgerState(NamedTuple):
    """How the ledger's writing goes. Rows, from the server's start."""

    waiting: int
    written: int
    lost: int
    failing: bool


class _Number(NamedTuple):
    """A number of an engine. `labels` besides the engine's own."""

    name: str
    unit: str
    help: str
    fields: Mapping[tuple[str, ...], str]
    """Which of `EngineStats` it is, by the values of `labels`."""
    labels: tuple[str, ...] = ()


GAUGES = (
    _Number("requests_running", "", "Requests whose tokens are computed.", {(): "running"}),
    _Number("requests_waiting", "", "Requests in the engine's queue.", {(): "waiting"}),
    _Number("context_cells", "", "Cells of the context: tokens that can be held at once.", {(): "context_cells"}),
    _Number("context_cells_used", "", "Cells of the context that hold a token.", {(): "context_cells_used"}),
    _Number(
        "tier_blocks",
        "",
        "Cached blocks, by where they are.",
        {("ram",): "ram_blocks", ("disk",): "disk_blocks"},
        ("tier",),
    ),
    _Number(
        "tier",
        "bytes",
        "Bytes of cached blocks, by where they are.",
        {("ram",): "ram_bytes", ("disk",): "disk_bytes"},
        ("tier",),
    ),
    _Number(
        "tier_budget",
        "bytes",
        "The most bytes of cached blocks, by where they are.",
        {("ram",): "ram_budget", ("disk",): "disk_budget"},
        ("tier",),
    ),
    _Number("promised", "bytes", "Bytes of blocks that are promised until some time.", {(): "promised_bytes"}),
    _Number("promised_blocks", "", "Blocks that are promised until some time.", {(): "promised_blocks"}),
    _Number("promised_budget", "bytes", "The most bytes that are promised at once.", {(): "promised_budget"}),
)
COUNTERS = (
    _Number("prefilled", "tokens", "Prompt tokens computed by the engine.", {(): "tokens_prefilled"}),
    _Number("read", "tokens", "Prompt tokens the engine took from its cache instead.", {(): "tokens_read"}),
    _Number("decoded", "tokens", "Output tokens computed by the engine.", {(): "tokens_decoded"}),
    _Number(
        "evictions",
        "",
        "Cached entries that went: for want of room, at their end, by a fault, by the operator.",
        {
            ("room",): "entries_evicted",
            ("expired",): "entries_expired",
            ("lost",): "entries_lost",
            ("cleared",): "entries_cleared",
        },
        ("cause",),
    ),
    _Number("preemptions", "", "Sequences that gave up their cells and started again.", {(): "preemptions"}),
)


class Metrics(Collector):
    """Counts every request, and tells Prometheus all there is to tell.

    Args:
        engines: a moment's numbers of every engine, by what tells engines apart, as a model file's name.
        ledger: how the ledger's writing goes; None without a ledger.
        under_way: requests that are being answered now.
        models: the names that are served.
    """

    def __init__(
        self,
        engines: Callable[[], Mapping[str, EngineStats]],
        ledger: Callable[[], LedgerState] | None,
        under_way: Callable[[], int],
        models: frozenset[str],
    ) -> None:
        self._engines, self._ledger, self._under_way = engines, ledger, under_way
        self._tallies = {model: Tally() for model in sorted(models)}
        self._other = self._tallies.setdefault(OTHER, Tally())
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def take(self, row: Usage, gaps: Sequence[int], traceparent: str | None = None) -> None:  # noqa: ARG002
        """Count a request that has ended. `gaps` counts the times between its tokens by `types.GAP_BOUNDS`."""
        self._tallies.get(row.model, self._other).add(row, gaps)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """All of it as text, and its content type: OpenMetrics if the `Accept` header has it, else Prometheus' own."""
        if "application/openmetrics-text" in accept.lower():
            text: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]  # it has no types
            return text, OPENMETRICS
        return generate_latest(self._registry), PLAIN

    def describe(self) -> list[Metric]:
        """Nothing: the registry need not collect once to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        yield InfoMetricFamily("headstart_build", "The version that runs.", {"version": __version__})
        yield from self._requests()
        yield from self._tokens()
        yield from self._costs()
        yield from self._times()
        yield from self._of_engines()
        if self._ledger is not None:
            yield from _of_ledger(self._ledger())

    def _requests(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("headstart_requests_under_way", "Requests being answered now.", self._under_way())
        requests = _counter("requests", "Requests that have ended.", ["model", "endpoint", "status"])
        errors = _counter("errors", "Requests that failed or were refused, by the error's code.", ["model", "code"])
        misses = _counter(
            "misses", "Requests of which not all was read that might have been, by the cause.", ["model", "cause"]
        )
        for model, tally in self._tallies.items():
            for (endpoint, status), count in tally.requests.items():
                requests.add_metric([model, endpoint, status], count)
            for code, count in tally.errors.items():
                errors.add_metric([model, code], count)
            for cause, count in tally.misses.items():
                misses.add_metric([model, cause], count)
        yield from (requests, errors, misses)

    def _tokens(self) -> Iterator[Metric]:
        read = _counter("input", "Input tokens.", ["model"], "tokens")
        cached = _counter("cached", "Input tokens read from the cache.", ["model"], "tokens")
        written = _counter(
            "written", "Input tokens written to the cache and billed, by their life.", ["model", "ttl"], "tokens"
        )
        refused = _counter(
            "refused", "Input tokens that were to be written and could not be promised.", ["model"], "tokens"
        )
        output = _counter("output", "Output tokens.", ["model"], "tokens")
        missed = _counter(
            "missed",
            "Input tokens that were cached or shared, and not read, by the cause.",
            ["model", "cause"],
            "tokens",
        )
        ratio = GaugeMetricFamily(
            "headstart_cache_hit", "Cached tokens of all input tokens, from the start.", labels=["model"], unit="ratio"
        )
        for model, tally in self._tallies.items():
            read.add_metric([model], tally.input)
            cached.add_metric([model], tally.cached)
            refused.add_metric([model], tally.unkept)
            output.add_metric([model], tally.output)
            for ttl, count in tally.written.items():
                written.add_metric([model, ttl], count)
            for cause, count in tally.missed.items():
                missed.add_metric([model, cause], count)
            if tally.input:
                ratio.add_metric([model], tally.cached / tally.input)
        yield from (read, cached, written, refused, output, missed, ratio)

    def _costs(self) -> Iterator[Metric]:
        cost = _counter("cost", "What requests cost, of models with a price.", ["model"], "dollars")
        uncached = _counter("uncached_cost", "What they would cost without a cache.", ["model"], "dollars")
        for model, tally in self._tallies.items():
            if tally.priced:
                cost.add_metric([model], tally.cost / PICO)
                uncached.add_metric([model], tally.uncached_cost / PICO)
        yield from (cost, uncached)

    def _times(self) -> Iterator[Metric]:
        total = _histogram("request", "From a request's coming to the end of its answer.", ["model"])
        first = _histogram(
            "time_to_first_token", "To the first output token, by whether anything was cached.", ["model", "cache"]
        )
        gaps = _histogram(
            "inter_token", "Between two output tokens, by whether anything was cached.", ["model", "cache"]
        )
        for model, tally in self._tallies.items():
            _fill(total, [model], tally.total)
            for hit, times in tally.times.items():
                labels = [model, "hit" if hit else "miss"]
                _fill(first, labels, times.first)
                _fill(gaps, labels, times.gaps)
        yield from (total, first, gaps)

    def _of_engines(self) -> Iterator[Metric]:
        engines = {name: stats._asdict() for name, stats in self._engines().items()}
        for kind, sort in ((GAUGES, GaugeMetricFamily), (COUNTERS, CounterMetricFamily)):
            for number in kind:
                family = sort(
                    f"headstart_{number.name}", number.help, labels=["engine", *number.labels], unit=number.unit
                )
                for name, stats in engines.items():
                    for values, field in number.fields.items():
                        family.add_metric([name, *values], stats[field])
                yield family


def _of_ledger(state: LedgerState) -> Iterator[Metric]:
    yield GaugeMetricFamily("headstart_ledger_waiting_rows", "Rows that wait to be written.", state.waiting)
    yield CounterMetricFamily("headstart_ledger_written_rows", "Rows written.", state.written)
    yield CounterMetricFamily("headstart_ledger_lost_rows", "Rows given up: the database took none.", state.lost)
    yield GaugeMetricFamily("headstart_ledger_failing", "1 while the database can't be written to.", state.failing)


def _counter(name: str, text: str, labels: list[str], unit: str = "") -> CounterMetricFamily:
    return CounterMetricFamily(f"headstart_{name}", text, labels=labels, unit=unit)


def _histogram(name: str, text: str, labels: list[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"headstart_{name}", text, labels=labels, unit="seconds")


def _fill(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    """Nothing of a histogram that is empty: a dozen lines for each model that nobody asks."""
    if any(histogram.counts):
        family.add_metric(labels, list(histogram.buckets()), histogram.sum)
