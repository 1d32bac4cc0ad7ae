"""What Prometheus is told, read back by its own parsers."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from tests.telemetry import rows as usage
from tests.telemetry.rows import MODELS, NO_GAPS

from headstart import __version__
from headstart.engine.base import EngineStats
from headstart.telemetry.metrics import OPENMETRICS, PLAIN, LedgerState, Metrics
from headstart.telemetry.tally import CODES
from headstart.types import PICO, Usage

STATS = EngineStats(*range(1, len(EngineStats._fields) + 1))
BASE_UNITS = {"seconds", "bytes", "ratio"}
NO_BASE_UNITS = {"milliseconds", "microseconds", "kilobytes", "megabytes", "percent", "minutes", "hours"}


def metrics() -> Metrics:
    """Metrics of a server with an engine and a ledger."""
    return Metrics(lambda: {"tiny.gguf": STATS}, lambda: LedgerState(3, 40, 5, True), lambda: 7, MODELS)


def families(told: Metrics) -> dict[str, Metric]:
    """What the plain text says, by name."""
    return {family.name: family for family in parse_text(told.render()[0].decode())}


def samples(told: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every number, by its name and labels; none is told twice."""
    found = {}
    for family in families(told).values():
        for sample in family.samples:
            at = (sample.name, frozenset(sample.labels.items()))
            assert at not in found
            found[at] = sample.value
    return found


def value(told: Metrics, name: str, **labels: str) -> float | None:
    """One number; None if it isn't told."""
    return samples(told).get((f"headstart_{name}", frozenset(labels.items())))


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("build_info", {"version": __version__}, 1),
        ("requests_under_way", {}, 7),
        ("requests_total", {"model": "gpt-5.6", "endpoint": "responses", "status": "completed"}, 2),
        ("input_tokens_total", {"model": "gpt-5.6"}, 9_224),
        ("cached_tokens_total", {"model": "gpt-5.6"}, 8_960),
        ("written_tokens_total", {"model": "gpt-5.6", "ttl": "30m"}, 200),
        ("written_tokens_total", {"model": "gpt-5.6", "ttl": "12h"}, 40),
        ("refused_tokens_total", {"model": "gpt-5.6"}, 24),
        ("output_tokens_total", {"model": "gpt-5.6"}, 66),
        ("misses_total", {"model": "gpt-5.6", "cause": "prefix_changed"}, 2),
        ("missed_tokens_total", {"model": "gpt-5.6", "cause": "prefix_changed"}, 256),
        ("cost_dollars_total", {"model": "gpt-5.6"}, 0.0010018),
        ("uncached_cost_dollars_total", {"model": "gpt-5.6"}, 0.0036896),
        ("cache_hit_ratio", {"model": "gpt-5.6"}, 4_480 / 4_612),
        ("input_tokens_total", {"model": "gpt-4.1-mini"}, 0),
        ("cache_hit_ratio", {"model": "gpt-4.1-mini"}, None),
        ("cost_dollars_total", {"model": "gpt-4.1-mini"}, None),
        ("time_to_first_token_seconds_count", {"model": "gpt-5.6", "cache": "hit"}, 2),
        ("time_to_first_token_seconds_count", {"model": "gpt-5.6", "cache": "miss"}, None),
        ("inter_token_seconds_count", {"model": "gpt-5.6", "cache": "hit"}, 3),
        ("inter_token_seconds_sum", {"model": "gpt-5.6", "cache": "hit"}, 1.45),
        ("request_seconds_sum", {"model": "gpt-5.6"}, 3.0),
        ("requests_running", {"engine": "tiny.gguf"}, STATS.running),
        ("requests_waiting", {"engine": "tiny.gguf"}, STATS.waiting),
        ("context_cells", {"engine": "tiny.gguf"}, STATS.context_cells),
        ("context_cells_used", {"engine": "tiny.gguf"}, STATS.context_cells_used),
        ("tier_bytes", {"engine": "tiny.gguf", "tier": "ram"}, STATS.ram_bytes),
        ("tier_bytes", {"engine": "tiny.gguf", "tier": "disk"}, STATS.disk_bytes),
        ("tier_budget_bytes", {"engine": "tiny.gguf", "tier": "ram"}, STATS.ram_budget),
        ("tier_budget_bytes", {"engine": "tiny.gguf", "tier": "disk"}, STATS.disk_budget),
        ("tier_blocks", {"engine": "tiny.gguf", "tier": "ram"}, STATS.ram_blocks),
        ("tier_blocks", {"engine": "tiny.gguf", "tier": "disk"}, STATS.disk_blocks),
        ("promised_bytes", {"engine": "tiny.gguf"}, STATS.promised_bytes),
        ("promised_budget_bytes", {"engine": "tiny.gguf"}, STATS.promised_budget),
        ("promised_blocks", {"engine": "tiny.gguf"}, STATS.promised_blocks),
        ("evictions_total", {"engine": "tiny.gguf", "cause": "room"}, STATS.entries_evicted),
        ("evictions_total", {"engine": "tiny.gguf", "cause": "expired"}, STATS.entries_expired),
        ("evictions_total", {"engine": "tiny.gguf", "cause": "lost"}, STATS.entries_lost),
        ("evictions_total", {"engine": "tiny.gguf", "cause": "cleared"}, STATS.entries_cleared),
        ("preemptions_total", {"engine": "tiny.gguf"}, STATS.preemptions),
        ("prefilled_tokens_total", {"engine": "tiny.gguf"}, STATS.tokens_prefilled),
        ("read_tokens_total", {"engine": "tiny.gguf"}, STATS.tokens_read),
        ("decoded_tokens_total", {"engine": "tiny.gguf"}, STATS.tokens_decoded),
        ("ledger_waiting_rows", {}, 3),
        ("ledger_written_rows_total", {}, 40),
        ("ledger_lost_rows_total", {}, 5),
        ("ledger_failing", {}, 1),
    ],
)
def test_each_number(name: str, labels: dict[str, str], expected: float | None) -> None:
    """After two requests, one of them with three gaps."""
    told = metrics()
    told.take(usage.PLAIN, NO_GAPS)
    told.take(usage.PLAIN, (0, 0, 2, 1, *NO_GAPS[4:]), traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    assert value(told, name, **labels) == (None if expected is None else pytest.approx(expected))


def test_without_a_ledger() -> None:
    """Nothing is said of what isn't there."""
    told = Metrics(dict, None, lambda: 0, MODELS)
    assert not [name for name in families(told) if name.startswith("headstart_ledger")]


def test_a_model_without_a_price_has_no_cost() -> None:
    """Not $0: its series doesn't exist; nor by requests that cost nothing, because they were refused or failed."""
    told = metrics()
    told.take(usage.PLAIN._replace(status="failed", cost=0, uncached_cost=0), NO_GAPS)
    told.take(usage.PLAIN._replace(cost=None, uncached_cost=None), NO_GAPS)
    told.take(usage.PLAIN._replace(status="refused", input=0, cached=0, cost=0, uncached_cost=0), NO_GAPS)
    assert value(told, "cost_dollars_total", model="gpt-5.6") is None
    told.take(usage.PLAIN, NO_GAPS)
    assert value(told, "cost_dollars_total", model="gpt-5.6") == pytest.approx(0.0005009)


def test_errors_by_code() -> None:
    """Which budget refused is told by the code."""
    told = metrics()
    for code in ("rate_limit_exceeded", "rate_limit_exceeded", "insufficient_quota"):
        told.take(usage.PLAIN._replace(status="refused", error=code), NO_GAPS)
    assert value(told, "errors_total", model="gpt-5.6", code="rate_limit_exceeded") == 2
    assert value(told, "errors_total", model="gpt-5.6", code="insufficient_quota") == 1


def name_of(row: Usage) -> str:
    """The model's label."""
    return row.model if row.model in MODELS else "other"


@given(taken=st.lists(st.tuples(usage.rows, usage.gaps), max_size=12))
@settings(max_examples=60, deadline=None)
def test_it_tells_what_it_took(taken: list[tuple[Usage, Sequence[int]]]) -> None:
    """Sums over all labels are those of the rows; every row is under one model."""
    told = metrics()
    for row, gaps in taken:
        told.take(row, gaps)
    sums: Counter[str] = Counter()
    for (name, _), number in samples(told).items():
        sums[name.removeprefix("headstart_")] += number  # type: ignore[assignment]
    known = [row for row, _ in taken]
    assert sums["requests_total"] == len(known)
    assert sums["request_seconds_count"] == len(known)
    assert sums["request_seconds_sum"] == pytest.approx(sum(row.total for row in known))
    assert sums["input_tokens_total"] == sum(row.input for row in known)
    assert sums["cached_tokens_total"] == sum(row.cached for row in known)
    assert sums["written_tokens_total"] == sum(row.written for row in known)
    assert sums["refused_tokens_total"] == sum(row.unkept for row in known)
    assert sums["output_tokens_total"] == sum(row.output for row in known)
    assert sums["misses_total"] == sum(row.cause is not None for row in known)
    assert sums["missed_tokens_total"] == sum(row.missed for row in known if row.cause)
    assert sums["errors_total"] == sum(row.error is not None for row in known)
    served = [row for row in known if row.cost is not None and row.uncached_cost is not None]
    priced = {name_of(row) for row in served if row.input and row.status not in ("failed", "refused")}
    for name in ("cost", "uncached_cost"):
        exact = sum(getattr(row, name) for row in served if name_of(row) in priced)
        assert sums[f"{name}_dollars_total"] == pytest.approx(exact / PICO)
    assert sums["time_to_first_token_seconds_count"] == sum(row.ttft is not None for row in known)
    assert sums["inter_token_seconds_count"] == sum(sum(gaps) for row, gaps in taken if row.ttft is not None)
    hits = sum(row.ttft is not None for row in known if row.cached)
    assert hits == sum(
        number
        for (name, labels), number in samples(told).items()
        if name == "headstart_time_to_first_token_seconds_count" and ("cache", "hit") in labels
    )


@given(taken=st.lists(st.tuples(usage.rows, usage.gaps), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_histograms_hold_together(taken: list[tuple[Usage, Sequence[int]]]) -> None:
    """Buckets grow with their bound up to +Inf, which is the count. OpenMetrics' strict parser takes all of it."""
    told = metrics()
    for row, gaps in taken:
        told.take(row, gaps)
    text, kind = told.render("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3")
    assert kind == OPENMETRICS
    plain, kind = told.render("text/plain")
    assert kind == PLAIN
    known = {family.name: family for family in parse_openmetrics(text.decode())}
    assert set(known) >= {family.name.removesuffix("_info") for family in parse_text(plain.decode())}
    for family in known.values():
        if family.type == "histogram":
            groups: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
            numbers = {}
            for sample in family.samples:
                own = frozenset((name, text) for name, text in sample.labels.items() if name != "le")
                if "le" in sample.labels:
                    groups.setdefault(own, []).append((float(sample.labels["le"]), sample.value))
                else:
                    numbers[sample.name, own] = sample.value
            for own, buckets in groups.items():
                assert buckets == sorted(buckets)
                assert [count for _, count in buckets] == sorted(count for _, count in buckets)
                assert buckets[-1] == (float("inf"), numbers[f"{family.name}_count", own])
                assert numbers[f"{family.name}_sum", own] >= 0


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.0011, 5.0, 1_000.0])
def test_a_time_on_a_bound_is_not_above_it(seconds: float) -> None:
    """Prometheus' `le` is less or equal."""
    told = metrics()
    told.take(usage.PLAIN._replace(ttft=seconds), NO_GAPS)
    for (name, labels), count in samples(told).items():
        if name == "headstart_time_to_first_token_seconds_bucket":
            assert count == (seconds <= float(dict(labels)["le"]))


def test_conventions() -> None:
    """What promtool's linter asks for: help, base units, `_total` on counters and nowhere else, no type in a name."""
    told = metrics()
    told.take(usage.PLAIN._replace(error="server_error"), (1, *NO_GAPS[1:]))
    for family in parse_openmetrics(told.render("application/openmetrics-text")[0].decode()):
        name = family.name
        assert re.fullmatch(r"headstart(_[a-z]+)+", name)
        assert family.documentation.endswith("."), name
        words = name.split("_")
        assert not NO_BASE_UNITS & set(words)
        assert not {"counter", "gauge", "histogram", "summary", family.type} & set(words) or family.type == "info"
        assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
        if family.type == "histogram":
            assert family.unit == "seconds"
        if family.unit:
            assert name.endswith(f"_{family.unit}")
            assert family.unit in BASE_UNITS | {"tokens", "dollars"}
        assert family.samples, name
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")


HOSTILE = ['evil"} 1\nheadstart_fake 2', "\\", "𝔤𝔭𝔱\x00", "x" * 10_000, "", "GPT-5.6", "other", "acme-corp"]


def test_a_client_can_not_make_labels() -> None:
    """Names that aren't served are one, whatever is in them; organisations and keys are nowhere."""
    told = metrics()
    for model in HOSTILE + [f"m{n}" for n in range(500)]:
        told.take(usage.PLAIN._replace(model=model, status="refused"), NO_GAPS)
    text = told.render()[0].decode()
    models = {dict(labels).get("model") for _, labels in samples(told)} - {None}
    assert models == MODELS | {"other"}
    assert value(told, "requests_total", model="other", endpoint="responses", status="refused") == 508
    for private in (usage.PLAIN.organisation, usage.PLAIN.key, usage.PLAIN.id, str(usage.PLAIN.cache_key), "evil"):
        assert private not in text


def test_codes_are_bounded() -> None:
    """Should there ever be more codes than the server has."""
    told = metrics()
    for n in range(3 * CODES):
        told.take(usage.PLAIN._replace(error=f"code_{n}"), NO_GAPS)
    codes = {dict(labels)["code"]: n for (name, labels), n in samples(told).items() if name == "headstart_errors_total"}
    assert len(codes) == CODES + 1
    assert codes["other"] == 2 * CODES


def test_a_served_name_that_needs_escaping() -> None:
    """An operator may call a model anything."""
    name = 'a "b"\\c\nd'
    told = Metrics(lambda: {name: STATS}, None, lambda: 0, frozenset({name}))
    told.take(usage.PLAIN._replace(model=name), NO_GAPS)
    assert value(told, "input_tokens_total", model=name) == 4_612
    assert value(told, "requests_running", engine=name) == STATS.running
    assert list(parse_openmetrics(told.render("application/openmetrics-text")[0].decode()))


def test_it_is_quick() -> None:
    """Counting is on every request's way, and a scrape on the event loop. The bounds are for a busy machine."""
    told = metrics()
    gaps = (0, 0, 0, 9, 20, 3, *NO_GAPS[6:])
    for model in (*MODELS, "x"):
        for cached in (0, 1):
            told.take(usage.PLAIN._replace(model=model, cached=cached), gaps)

    def best(times: int, action: object) -> float:
        found = []
        for _ in range(5):
            begun = time.perf_counter()
            for _ in range(times):
                action()  # type: ignore[operator]
            found.append((time.perf_counter() - begun) / times)
        return min(found)

    assert best(200, lambda: told.take(usage.PLAIN, gaps)) < 20e-6
    assert best(2, told.render) < 20e-3
