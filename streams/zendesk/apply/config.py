"""The runtime's configuration as `lapse apply` uses it: a group and transactional ids of its own."""

from __future__ import annotations

from streams.core.names import Output
from streams.kafka.config import KafkaConfig


class ApplyConfig(KafkaConfig, frozen=True, kw_only=True):
    """As that of a worker, but for the group, the transactional ids and the topics written to."""

    @property
    def group(self) -> str:
        """Return the consumer group."""
        return f"{self.topic_prefix}{self.app_id}-apply"

    @property
    def written(self) -> tuple[str, ...]:
        """Return the broker names of all topics that a transaction writes to."""
        return (self.topic(Output.RESULTS), self.topic(Output.APPLY_DEAD_LETTERS))

    def transactional_id(self, partition: int) -> str:
        """Return the transactional id. A producer that starts with it fences the previous one."""
        return f"{self.topic_prefix}{self.app_id}-apply-{partition}"
