"""The metrics of `lapse ingest`."""

from __future__ import annotations

from streams.telemetry.labels import INGEST_KINDS, INGEST_STATUSES, LabelDomains
from streams.telemetry.metrics import Instruments
from streams.telemetry.table import INGEST


class IngestMetrics:
    """Counts requests, what their bodies were, and the records written. Durations are in seconds."""

    def __init__(self) -> None:
        """Start every series at 0, so that `rate` sees the first increment."""
        self._instruments = Instruments(LabelDomains(), INGEST)
        for status in INGEST_STATUSES:
            self._instruments.counter("lapse_ingest_requests_total", (status,))
        for kind in INGEST_KINDS:
            self._instruments.counter("lapse_ingest_events_total", (kind,))

    def answered(self, status: int, seconds: float) -> None:
        """Count one request."""
        self._instruments.counter("lapse_ingest_requests_total", (str(status),)).inc()
        self._instruments.histogram("lapse_ingest_request_seconds").observe(max(seconds, 0))

    def received(self, kind: str) -> None:
        """Count one signed body."""
        self._instruments.counter("lapse_ingest_events_total", (kind,)).inc()

    def written(self, topic: str, age: float | None) -> None:
        """Count one record that was acknowledged; `age` is how old its event was when it arrived, where known."""
        self._instruments.counter("lapse_ingest_records_total", (topic,)).inc()
        if age is not None:
            self._instruments.histogram("lapse_ingest_event_age_seconds").observe(max(age, 0))

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type, in the format an Accept header asks for."""
        return self._instruments.exposition(accept)
