"""Whether spans are sent: where the environment names an OTLP endpoint. Otherwise OpenTelemetry isn't even imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headstart.errors import StartError

if TYPE_CHECKING:
    from headstart.telemetry.otlp import Spans

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
PROTOCOL = "http/protobuf"


def open_spans(environ: Mapping[str, str]) -> Spans | None:
    """Where spans go, or None: no endpoint is set, or `OTEL_SDK_DISABLED` is `true`.

    OpenTelemetry's other variables, as `OTEL_EXPORTER_OTLP_HEADERS` or `OTEL_SERVICE_NAME`, its SDK reads from the
    process' environment itself. Raises `StartError` for what can't be used.
    """
    base = environ.get(ENDPOINT, "").strip()
    endpoint = environ.get(TRACES_ENDPOINT, "").strip() or (f"{base.rstrip('/')}/v1/traces" if base else "")
    if not endpoint or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        name = TRACES_ENDPOINT if environ.get(TRACES_ENDPOINT, "").strip() else ENDPOINT
        raise StartError(f"{name} is not an address as http://localhost:4318.")
    for name in PROTOCOLS:
        if (protocol := environ.get(name, PROTOCOL).strip()) not in ("", PROTOCOL):
            raise StartError(f"{name} is {protocol[:64]!r}, but spans are sent by {PROTOCOL}, usually to port 4318.")
    for name in HEADERS:
        if any("=" not in pair for pair in environ.get(name, "").split(",") if pair.strip()):
            raise StartError(f"{name} is to be like NAME=VALUE,NAME=VALUE. (Its value is not shown: it may be secret.)")
    try:
        from headstart.telemetry.otlp import Spans
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise StartError(
            f"{TRACES_ENDPOINT if not base else ENDPOINT} is set, but OpenTelemetry is not installed. "
            "Run: pip install 'headstart[otel]'"
        ) from error
    return Spans(endpoint)
