"""Spans, as a collector of the test's own receives them over HTTP."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tests.telemetry.rows import NO_GAPS, PLAIN

from headstart import __version__
from headstart.errors import StartError
from headstart.telemetry.otlp import Spans
from headstart.telemetry.spans import open_spans

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector(ThreadingHTTPServer):
    """An OTLP collector that keeps what it gets, and answers with `answer` after `delay` seconds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []
        self.answer = 200
        self.delay = 0.0

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def spans(self) -> list[Span]:
        """Every span it got."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Receiver(BaseHTTPRequestHandler):
    """One request to the collector."""

    server: Collector

    def do_POST(self) -> None:
        """Take a batch."""
        body = self.rfile.read(int(self.headers["content-length"]))
        time.sleep(self.server.delay)
        if self.server.answer == 200:
            self.server.paths.append(self.path)
            self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(self.server.answer)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that listens."""
    server = Collector()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def opened(environ: Mapping[str, str]) -> Spans:
    """Spans that are on."""
    spans = open_spans(environ)
    assert spans is not None
    return spans


def sent(collector: Collector, *, traceparent: str | None = None, **changes: Any) -> Span:
    """The span of one request, as it arrives."""
    spans = opened({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    spans.take(PLAIN._replace(**changes), NO_GAPS, traceparent=traceparent)
    spans.close()
    (span,) = collector.spans
    return span


def attributes(span: Span) -> dict[str, object]:
    """A span's attributes, with their types."""
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


def test_a_span_says_all_of_a_request(collector: Collector) -> None:
    """Every attribute, its type and value; the true times; a trace of its own; no one's name, nothing of the prompt."""
    span = sent(collector)
    assert (span.name, span.kind) == ("chat gpt-5.6", Span.SPAN_KIND_SERVER)
    assert attributes(span) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "headstart",
        "gen_ai.request.model": "gpt-5.6",
        "gen_ai.response.model": "gpt-5.6",
        "gen_ai.response.id": "resp_1",
        "gen_ai.usage.input_tokens": 4_612,
        "gen_ai.usage.output_tokens": 33,
        "gen_ai.usage.cache_read.input_tokens": 4_480,
        "gen_ai.usage.cache_creation.input_tokens": 120,
        "gen_ai.usage.cache_write.input_tokens": 120,
        "headstart.endpoint": "responses",
        "headstart.status": "completed",
        "headstart.time_to_first_token": 0.05,
        "headstart.cache.refused_tokens": 12,
        "headstart.cache.missed_tokens": 128,
        "headstart.cache.miss_cause": "prefix_changed",
        "headstart.cost_dollars": 0.0005009,
        "headstart.uncached_cost_dollars": 0.0018448,
    }
    assert span.start_time_unix_nano == 1_790_000_000_250_000_000
    assert span.end_time_unix_nano == 1_790_000_001_750_000_000
    assert span.parent_span_id == b""
    assert span.status.code == Status.STATUS_CODE_UNSET
    everything = collector.requests[0].SerializeToString()
    for private in (PLAIN.organisation, PLAIN.key, str(PLAIN.cache_key), str(PLAIN.path)):
        assert private.encode() not in everything


def test_who_sends(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """`headstart`, unless OpenTelemetry's own variable says another name."""
    sent(collector)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "gpu-7")
    collector.requests.clear(), sent(collector)
    (resource,) = (each.resource for each in collector.requests[0].resource_spans)
    told = {each.key: each.value.string_value for each in resource.attributes}
    assert (told["service.name"], told["service.version"]) == ("gpu-7", __version__)


def test_default_name(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not `unknown_service`."""
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    sent(collector)
    told = {each.key: each.value.string_value for each in collector.requests[0].resource_spans[0].resource.attributes}
    assert told["service.name"] == "headstart"


def test_part_of_a_clients_trace(collector: Collector) -> None:
    """The client's span is the parent."""
    span = sent(collector, traceparent=f"00-{TRACE}-{PARENT}-01")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "traceparent",
    ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01", "00-" + "a" * 100_000, "00-\x00é-é-01"],
    ids=range(6),
)
def test_a_traceparent_that_is_not_valid(
    collector: Collector, traceparent: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is passed over, and not logged: anyone may send one."""
    assert sent(collector, traceparent=traceparent).parent_span_id == b""
    assert not caplog.records


@pytest.mark.parametrize(
    ("changes", "name", "error", "code"),
    [
        ({"status": "failed", "error": "server_error"}, "chat gpt-5.6", "server_error", Status.STATUS_CODE_ERROR),
        ({"status": "failed"}, "chat gpt-5.6", "failed", Status.STATUS_CODE_ERROR),
        ({"status": "cancelled"}, "chat gpt-5.6", "cancelled", Status.STATUS_CODE_UNSET),
        (
            {"status": "refused", "error": "rate_limit_exceeded"},
            "chat",
            "rate_limit_exceeded",
            Status.STATUS_CODE_UNSET,
        ),
        ({"status": "refused", "model": ""}, "chat", "refused", Status.STATUS_CODE_UNSET),
        ({"status": "incomplete"}, "chat gpt-5.6", None, Status.STATUS_CODE_UNSET),
    ],
)
def test_errors(
    collector: Collector, changes: dict[str, Any], name: str, error: str | None, code: Status.StatusCode
) -> None:
    """What ended badly has an `error.type`; only what failed by our fault is an error of the span's."""
    span = sent(collector, **changes)
    assert (span.name, attributes(span).get("error.type"), span.status.code) == (name, error, code)


def test_refused_requests_make_no_names(collector: Collector) -> None:
    """A client may ask for any model: it is cut, is no span's name, and nothing of an answer is told."""
    span = sent(collector, status="refused", model="x" * 5_000)
    assert span.name == "chat"
    found = attributes(span)
    assert found["gen_ai.request.model"] == "x" * 256
    assert not [key for key in found if key.startswith(("gen_ai.usage", "gen_ai.response"))]


def test_without_a_price_or_a_token(collector: Collector) -> None:
    """What isn't known isn't told; a price least of all as 0."""
    found = attributes(sent(collector, cost=None, uncached_cost=None, ttft=None, cause=None))
    assert not {"headstart.cost_dollars", "headstart.time_to_first_token", "headstart.cache.miss_cause"} & set(found)


def test_the_endpoint_for_traces_wins(collector: Collector) -> None:
    """It is taken as it is; the general one gets /v1/traces."""
    for environ in (
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/in",
        },
        {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/"},
    ):
        spans = opened(environ)
        spans.take(PLAIN, NO_GAPS)
        spans.close()
    assert collector.paths == ["/in", "/v1/traces"]


def test_a_dead_collector_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody listens: ten thousand requests take no longer for it, one line is logged, closing takes two seconds."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        spans = opened({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{taken.getsockname()[1]}"})
        slowest = 0.0
        for _ in range(10_000):
            begun = time.perf_counter()
            spans.take(PLAIN, NO_GAPS)
            slowest = max(slowest, time.perf_counter() - begun)
        begun = time.perf_counter()
        spans.close()
        assert time.perf_counter() - begun < 4
    assert slowest < 1.5
    time.sleep(0.1)
    assert len(caplog.records) <= 1


def test_a_slow_collector_delays_nothing(collector: Collector) -> None:
    """One that takes the connection and doesn't answer."""
    collector.delay = 6
    spans = opened({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
    begun = time.perf_counter()
    for _ in range(600):
        spans.take(PLAIN, NO_GAPS)
    assert time.perf_counter() - begun < 3
    begun = time.perf_counter()
    spans.close()
    spans.close()
    assert time.perf_counter() - begun < 4


def test_failures_are_reported_once(
    collector: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When they begin, and when they end; what was given up is counted, and what comes then arrives.
    A password in the address isn't logged."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    caplog.set_level(logging.DEBUG, "headstart")
    collector.answer = 400
    spans = opened({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url.replace("//", "//me:secret@")})

    def wait(lines: int) -> None:
        deadline = time.monotonic() + 5
        while len(caplog.records) < lines and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(caplog.records) == lines

    spans.take(PLAIN, NO_GAPS)
    wait(1)
    spans.take(PLAIN, NO_GAPS)
    time.sleep(0.2)
    wait(1)
    collector.answer = 200
    spans.take(PLAIN, NO_GAPS)
    wait(2)
    spans.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"Spans can't be sent to {collector.url}/v1/traces; they are given up until it takes them.",
        f"Spans are sent to {collector.url}/v1/traces again; 2 were given up.",
    ]
    assert len(collector.spans) == 1


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_off(environ: Mapping[str, str]) -> None:
    """Off is the default."""
    assert open_spans(environ) is None


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT is not an address"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is not an address"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:99999"}, "not an address"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "not an address"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', but spans are sent by http/protobuf",
        ),
    ],
)
def test_what_can_not_be_used(environ: Mapping[str, str], message: str) -> None:
    """The command ends, and says which variable."""
    with pytest.raises(StartError, match=message):
        open_spans(environ)


def test_headers_that_can_not_be_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """A secret with a colon for an equals sign: neither the error nor any log has it."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_HEADERS": "Auth: TOPSECRET"}
    with pytest.raises(StartError, match="OTEL_EXPORTER_OTLP_HEADERS is to be like NAME=VALUE") as caught:
        open_spans(environ)
    assert "TOPSECRET" not in str(caught.value) + caplog.text


def test_queue_that_can_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own variables too."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(StartError, match="OTEL_"):
        open_spans({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})


OFF_PROGRAM = """
import sys
from headstart.telemetry.metrics import Metrics
from headstart.telemetry.spans import open_spans
assert open_spans({}) is None
assert not [name for name in sys.modules if name.startswith(("opentelemetry", "google.protobuf", "requests"))]
sys.modules["opentelemetry"] = None  # as if it weren't installed
try:
    open_spans({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
except Exception as error:
    print(type(error).__name__, error)
"""


def test_nothing_is_imported_when_off_and_what_is_missing_is_named() -> None:
    """In a process of its own, which has imported nothing else."""
    done = subprocess.run([sys.executable, "-c", OFF_PROGRAM], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("StartError OTEL_EXPORTER_OTLP_ENDPOINT is set")
    assert "pip install 'headstart[otel]'" in done.stdout
