"""The metrics of `lapse apply`."""

from __future__ import annotations

from streams.telemetry.labels import APPLY_RESULTS, APPLY_STATUSES, LabelDomains
from streams.telemetry.metrics import Instruments
from streams.telemetry.table import APPLY


class ApplyMetrics:
    """Counts how commands ended, once that is committed, and the answers of Zendesk. Durations are in seconds."""

    def __init__(self) -> None:
        """Start every series at 0, so that `rate` sees the first increment."""
        self._instruments = Instruments(LabelDomains(), APPLY)
        for result in APPLY_RESULTS:
            self._instruments.counter("lapse_apply_total", (result,))
        for status in APPLY_STATUSES:
            self._instruments.counter("lapse_apply_requests_total", (status,))

    def ended(self, result: str, age: float, not_done: int) -> None:
        """Count a command whose result is committed; `age` is how old it was, `not_done` how many actions it lacks."""
        self._instruments.counter("lapse_apply_total", (result,)).inc()
        self._instruments.histogram("lapse_apply_age_seconds").observe(max(age, 0))
        self._instruments.counter("lapse_apply_not_done_total").inc(not_done)

    def answered(self, status: int | None) -> None:
        """Count a request by the status of its answer; None when there was none."""
        text = "none" if status is None else "2xx" if 200 <= status < 300 else str(status)
        known = text if text in APPLY_STATUSES else "other"
        self._instruments.counter("lapse_apply_requests_total", (known,)).inc()

    def waiting(self, commands: int, held: int) -> None:
        """Show how many commands were read and have not ended, and how many of them a pause or a stop holds."""
        self._instruments.gauge("lapse_apply_waiting").set(commands)
        self._instruments.gauge("lapse_apply_held").set(held)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type, in the format an Accept header asks for."""
        return self._instruments.exposition(accept)
