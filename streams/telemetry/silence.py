"""The metrics of `lapse ingest --silence`."""

from __future__ import annotations

from collections.abc import Iterable

from streams.core.batch import Batch
from streams.core.names import Topic
from streams.telemetry.labels import SILENCE_STATES, LabelDomains
from streams.telemetry.metrics import Instruments
from streams.telemetry.table import SILENCE


class SilenceMetrics:
    """Counts the states that were written, after their commit. Series of a partition end when it is revoked."""

    def __init__(self) -> None:
        """Start every series at 0, so that `rate` sees the first increment."""
        self._instruments = Instruments(LabelDomains(), SILENCE)
        for state in SILENCE_STATES:
            self._instruments.counter("lapse_silence_states_total", (state,))

    def batch_committed(self, batch: Batch) -> None:
        """Count a committed batch."""
        for one in batch.states:
            self._instruments.counter("lapse_silence_states_total", (one.state,)).inc()

    def waiting(self, partition: int, n: int) -> None:
        """Show how many waits are running."""
        self._instruments.gauge("lapse_silence_waiting", (str(partition),)).set(n)

    def lag(self, topic: Topic, partition: int, records: int) -> None:
        """Show how many records of an input are not yet processed and committed."""
        self._instruments.gauge("lapse_silence_lag_records", (topic.value, str(partition))).set(records)

    def revoked(self, partitions: Iterable[int]) -> None:
        """Remove partitions that are held no longer."""
        for partition in partitions:
            self._instruments.forget_partition(partition)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type, in the format an Accept header asks for."""
        return self._instruments.exposition(accept)
