"""What the server tells of itself to the systems that watch it: Prometheus and OpenTelemetry."""
