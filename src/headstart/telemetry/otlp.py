"""A span for every request, by the names of OpenTelemetry's GenAI semantic conventions, sent behind the answers.

The only file that imports OpenTelemetry, which is an optional dependency: `spans.open_spans` imports this one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headstart import __version__
from headstart.errors import StartError
from headstart.types import PICO, Usage

log = logging.getLogger("headstart.telemetry")

CLOSE_SECONDS = 2.0
"""How long the last spans may take."""

LONGEST_NAME = 256
"""Of a model's name that a client has sent, so many characters are told."""

PARENTS = TraceContextTextMapPropagator()


class Spans:
    """Makes a span of every request that has ended, and sends it in a thread of its own.

    At most 2,048 spans wait (`OTEL_BSP_MAX_QUEUE_SIZE`); beyond that the oldest are given up. A collector that doesn't
    answer is reported once, and once more when it answers again.
    """

    def __init__(self, endpoint: str) -> None:
        # It would repeat for every batch what is reported once, and tell headers that it can't read, secrets and all.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        try:
            self._exporter = _Reported(OTLPSpanExporter(endpoint), endpoint)
            self._processor = BatchSpanProcessor(self._exporter)
        except (ValueError, OSError) as error:
            raise StartError(f"OpenTelemetry can't start by its OTEL_… variables: {error}") from error
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("headstart", __version__)

    def take(self, row: Usage, gaps: Sequence[int], traceparent: str | None = None) -> None:  # noqa: ARG002
        """Make the span of a request. `traceparent`: the client's W3C header, which makes it part of a trace of theirs;
        one that isn't valid is passed over."""
        refused = row.status == "refused"
        span = self._tracer.start_span(
            # A refused request may have named any model; names of spans are to be few.
            f"chat {row.model}" if row.model and not refused else "chat",
            context=PARENTS.extract({"traceparent": traceparent}) if traceparent else None,
            kind=SpanKind.SERVER,
            attributes=_attributes(row),
            start_time=_nanoseconds(row.time),
        )
        if row.status == "failed":
            span.set_status(Status(StatusCode.ERROR))
        span.end(_nanoseconds(row.time + row.total))

    def close(self) -> None:
        """Send what waits, for at most two seconds. Idempotent."""
        closing = threading.Thread(target=self._processor.shutdown, name="close-spans", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS - 0.2)
        self._exporter.shutdown()


class _Reported(SpanExporter):
    """An exporter whose failures are logged when they begin and when they end, and that is shut down once."""

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._inner = inner
        self._place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._failing = False
        self._lost = 0
        self._closed = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; called by one thread at a time."""
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        self._lost += len(spans) if failed else 0
        if failed and not self._failing:
            log.warning("Spans can't be sent to %s; they are given up until it takes them.", self._place)
        elif not failed and self._failing:
            log.warning("Spans are sent to %s again; %d were given up.", self._place, self._lost)
            self._lost = 0
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Stop, in the middle of an attempt too."""
        if not self._closed.is_set():
            self._closed.set()
            self._inner.shutdown()


def _resource() -> Resource:
    """Who speaks: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, else `headstart`."""
    told = Resource.create({"service.version": __version__})
    if str(told.attributes.get("service.name", "")).startswith("unknown_service"):
        return told.merge(Resource({"service.name": "headstart"}))
    return told


def _nanoseconds(seconds: float) -> int:
    """Unix time as spans have it. A float holds it to the microsecond, and noise behind that."""
    return round(seconds * 1e6) * 1000


def _attributes(row: Usage) -> dict[str, str | int | float | bool]:
    """What a span says. Nothing of a prompt, and not whose it was: organisations and keys stay in the ledger.

    The conventions' `gen_ai.response.time_to_first_chunk` is measured by a client, of a stream; a server's has a name
    of our own.
    """
    found: dict[str, str | int | float | bool | None] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "headstart",
        "gen_ai.request.model": row.model[:LONGEST_NAME] or None,
        "headstart.endpoint": row.endpoint,
        "headstart.status": row.status,
    }
    if row.status in ("failed", "cancelled", "refused"):
        found["error.type"] = row.error or row.status
    if row.status != "refused":
        found |= {
            "gen_ai.response.id": row.id or None,
            "gen_ai.response.model": row.model[:LONGEST_NAME] or None,
            "gen_ai.usage.input_tokens": row.input,
            "gen_ai.usage.output_tokens": row.output,
            "gen_ai.usage.cache_read.input_tokens": row.cached,
            # The conventions' drafts now say `cache_write` for what they released as `cache_creation`.
            "gen_ai.usage.cache_creation.input_tokens": row.written,
            "gen_ai.usage.cache_write.input_tokens": row.written,
            "headstart.time_to_first_token": row.ttft,
            "headstart.cache.refused_tokens": row.unkept,
            "headstart.cache.missed_tokens": row.missed,
            "headstart.cache.miss_cause": row.cause,
            "headstart.cost_dollars": None if row.cost is None else row.cost / PICO,
            "headstart.uncached_cost_dollars": None if row.uncached_cost is None else row.uncached_cost / PICO,
        }
    return {name: value for name, value in found.items() if value is not None}
