"""What the runtime needs to know, resolved once: no code below reads a setting or the environment again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streams.core.model import MILLISECOND, SECOND, Micros
from streams.core.names import Output, Table, Topic
from streams.core.pipeline import BATCH_RECORDS
from streams.wire.writes import WRITTEN

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default of `max.message.bytes`: what a topic takes when nobody said otherwise."""

_NAMED_BY = {
    Topic.TICKETS: "tickets_topic",
    Topic.SESSIONS: "sessions_topic",
    Output.COMMANDS: "commands_topic",
    Output.TRANSITIONS: "transitions_topic",
    Output.DEAD_LETTERS: "dead_letters_topic",
}
"""By default name, the field that names a topic on the broker."""

_LEAST_INBOX = 500
_MOST_INBOX = 20_000
_LONGEST_PAUSE: Micros = SECOND // 2


class KafkaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Broker, names and limits of one worker. Durations and instants are microseconds, sizes bytes.

    The defaults from `fetch_max_wait` on are for one broker in the same data centre; they are settings of the runtime,
    not of what it decides: no value here changes a command, only when it comes.
    """

    brokers: tuple[str, ...] = ("127.0.0.1:9092",)
    app_id: str = "lapse"
    topic_prefix: str = ""
    """Goes, with nothing between, before every topic name, the group and the transactional ids."""
    tickets_topic: str = Topic.TICKETS.value
    sessions_topic: str = Topic.SESSIONS.value
    commands_topic: str = Output.COMMANDS.value
    transitions_topic: str = Output.TRANSITIONS.value
    dead_letters_topic: str = Output.DEAD_LETTERS.value
    """The names of these topics on the broker, without the prefix; `topic` gives them by their default names."""
    compression: str = "none"
    """Codec of what is written: `none`, `gzip`, `snappy`, `lz4` or `zstd`."""
    security: Mapping[str, Any] = {}
    """aiokafka's keyword arguments for TLS and SASL: `security_protocol`, `ssl_context`, `sasl_mechanism`, ..."""
    group_instance_id: str | None = None
    """Static membership: a name that stays with this worker over restarts (a StatefulSet's pod name)."""

    act_from_is_set: bool = False
    """Whether `act_from` was given; a first start over topics that are not empty is refused without it."""
    act_from_now: bool = False
    """Whether `act_from` is the first start of the worker, which each partition keeps with its committed offsets."""
    dead_letter_limit: float | None = 0.5
    clock_grace: Micros = SECOND

    broker_patience: Micros = 1_800 * SECOND
    """How long brokers that are away or refuse for a while are tried again, without any progress, before the end."""
    stop_grace: Micros = 2 * SECOND
    """How long a stop waits for batches in flight; what is not committed by then is done again at the next start."""
    session_timeout: Micros = 15 * SECOND
    """After how long without heartbeats the group gives the partitions of this worker to others."""
    heartbeat_interval: Micros = 3 * SECOND
    """At most a third of `session_timeout`, so that a heartbeat may be lost."""
    rebalance_timeout: Micros = 60 * SECOND
    request_timeout: Micros = 40 * SECOND
    transaction_timeout: Micros = 15 * SECOND
    """After this the broker gives up the transaction of a worker that died, and readers go on."""

    fetch_max_wait: Micros = 25 * MILLISECOND
    """How long the broker holds a fetch that finds nothing, and so how late an idle topic is known to be at its end."""
    fetch_pause: Micros = 5 * MILLISECOND
    """How long the broker holds the next answer for every partition that a fetch brought records of: each of them is
    a transaction to come. It bounds transactions per second, at the price of that delay."""
    max_partition_fetch_bytes: int = 1 << 20
    fetch_max_bytes: int = 8 << 20
    inbox_records: int = 100_000
    """Records that wait in this worker at most, over all its partitions; a fetch that is under way comes on top."""
    batch_records: int = BATCH_RECORDS
    """Records that one transaction takes, about, at most."""
    producer_batch_bytes: int = 256 << 10
    """Size of a record batch, less where a topic takes less; a single record may be larger."""
    opening_at_once: int = 4
    """Partitions that are restored at the same time."""

    @property
    def group(self) -> str:
        """Return the consumer group."""
        return f"{self.topic_prefix}{self.app_id}"

    def topic(self, name: str) -> str:
        """Return a topic's name on the broker from its default name."""
        setting = _NAMED_BY.get(name)  # type: ignore[call-overload] # names compare equal to their text
        return f"{self.topic_prefix}{name if setting is None else getattr(self, setting)}"

    @property
    def compression_type(self) -> str | None:
        """Return the codec as aiokafka's producers take it."""
        return None if self.compression == "none" else self.compression

    def changelog(self, table: str) -> str:
        """Return the changelog of a table."""
        return f"{self.topic_prefix}{self.app_id}-{table}-changelog"

    @property
    def written(self) -> tuple[str, ...]:
        """Return the names on the broker of all topics that a transaction writes to."""
        return (*(self.topic(name) for name in WRITTEN), *(self.changelog(table) for table in Table))

    def transactional_id(self, partition: int) -> str:
        """Return the transactional id: whoever starts a producer with it fences the one before."""
        return f"{self.topic_prefix}{self.app_id}-{partition}"

    @property
    def inputs(self) -> dict[str, Topic]:
        """Return the two inputs by their names on the broker."""
        return {self.topic(topic.value): topic for topic in Topic}

    def inbox_limit(self, partitions: int) -> int:
        """Return how many records may wait in one inbox with that many partitions held."""
        return min(_MOST_INBOX, max(_LEAST_INBOX, self.inbox_records // max(1, 2 * partitions)))

    def pause(self, partitions: int) -> Micros:
        """Return how long an answer is held after a fetch that brought records of that many partitions."""
        return min(_LONGEST_PAUSE, self.fetch_pause * partitions)
