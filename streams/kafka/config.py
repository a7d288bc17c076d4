"""The runtime's configuration, resolved once: no code below reads a setting or the environment again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streams.core.model import MILLISECOND, SECOND, Micros
from streams.core.names import Output, Table, Topic
from streams.core.pipeline import BATCH_RECORDS
from streams.wire.writes import WRITTEN

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default `max.message.bytes`: the limit of a topic that does not set its own."""

_NAMED_BY = {
    Topic.TICKETS: "tickets_topic",
    Topic.SESSIONS: "sessions_topic",
    Output.COMMANDS: "commands_topic",
    Output.TRANSITIONS: "transitions_topic",
    Output.DEAD_LETTERS: "dead_letters_topic",
}
"""Maps a topic's default name to the field that holds its name on the broker."""

_LEAST_INBOX = 500
_MOST_INBOX = 20_000
_LONGEST_PAUSE: Micros = SECOND // 2


class Security(dict[str, Any]):
    """aiokafka's keyword arguments for TLS and SASL. It holds the password, so it does not show what is in it."""

    def __repr__(self) -> str:
        """Return the protocol alone."""
        return f"Security({self.get('security_protocol')})"


class KafkaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Brokers, names and limits of one worker. Durations and instants are in microseconds, sizes in bytes.

    The defaults from `fetch_max_wait` on suit one broker in the same data centre. They configure the runtime, not its
    decisions: no value here changes a command, only the time at which it is written.
    """

    brokers: tuple[str, ...] = ("127.0.0.1:9092",)
    app_id: str = "lapse"
    topic_prefix: str = ""
    """Prefix of every topic name, the group and the transactional ids, without a separator."""
    tickets_topic: str = Topic.TICKETS.value
    sessions_topic: str = Topic.SESSIONS.value
    commands_topic: str = Output.COMMANDS.value
    transitions_topic: str = Output.TRANSITIONS.value
    dead_letters_topic: str = Output.DEAD_LETTERS.value
    """The names of these topics on the broker, without the prefix. `topic` looks them up by their default names."""
    rules: str = "file"
    """Where the rules come from: `file`, or `topic`."""
    compression: str = "none"
    """Codec for writing: `none`, `gzip`, `snappy`, `lz4` or `zstd`."""
    silence: Mapping[str, Micros] = {}
    """How long a customer may be silent, by channel; `lapse ingest --silence` watches over it."""
    security: Mapping[str, Any] = {}
    """aiokafka's keyword arguments for TLS and SASL: `security_protocol`, `ssl_context`, `sasl_mechanism`, ..."""
    group_instance_id: str | None = None
    """Static membership: a name that this worker keeps across restarts (a StatefulSet's pod name)."""

    act_from_is_set: bool = False
    """Whether `act_from` was given. Without it, a first start over topics that are not empty is refused."""
    act_from_now: bool = False
    """Whether `act_from` is the worker's first start. Each partition stores that time with its committed offsets."""
    dead_letter_limit: float | None = 0.5
    clock_grace: Micros = SECOND

    broker_patience: Micros = 1_800 * SECOND
    """How long to retry unavailable or temporarily refusing brokers without any progress before the worker ends."""
    stop_grace: Micros = 2 * SECOND
    """How long a stop waits for batches in flight. What is not committed by then is redone at the next start."""
    session_timeout: Micros = 15 * SECOND
    """Time without heartbeats after which the group reassigns the partitions of this worker."""
    heartbeat_interval: Micros = 3 * SECOND
    """At most a third of `session_timeout`, so that a lost heartbeat does no harm."""
    rebalance_timeout: Micros = 60 * SECOND
    request_timeout: Micros = 40 * SECOND
    transaction_timeout: Micros = 15 * SECOND
    """Time after which the broker aborts the transaction of a dead worker, so that readers can continue."""

    fetch_max_wait: Micros = 25 * MILLISECOND
    """How long the broker holds a fetch that finds nothing. An idle topic is known to be at its end with this delay."""
    fetch_pause: Micros = 5 * MILLISECOND
    """How long the broker holds the next response, per partition for which a fetch brought records: each of them
    causes a transaction. This limits transactions per second at the cost of that delay."""
    max_partition_fetch_bytes: int = 1 << 20
    fetch_max_bytes: int = 8 << 20
    inbox_records: int = 100_000
    """Maximum number of records waiting in this worker, over all its partitions, plus any fetch in flight."""
    batch_records: int = BATCH_RECORDS
    """Approximate maximum number of records per transaction."""
    producer_batch_bytes: int = 256 << 10
    """Maximum size of a record batch, or the topic's limit where that is lower; a single record may be larger."""
    opening_at_once: int = 4
    """Number of partitions restored at the same time."""

    @property
    def group(self) -> str:
        """Return the consumer group."""
        return f"{self.topic_prefix}{self.app_id}"

    def topic(self, name: str) -> str:
        """Return the name on the broker for a topic's default name."""
        setting = _NAMED_BY.get(name)  # type: ignore[call-overload] # names compare equal to their text
        return f"{self.topic_prefix}{name if setting is None else getattr(self, setting)}"

    @property
    def compression_type(self) -> str | None:
        """Return the codec in the form that aiokafka's producers expect."""
        return None if self.compression == "none" else self.compression

    def changelog(self, table: str) -> str:
        """Return the changelog of a table."""
        return f"{self.topic_prefix}{self.app_id}-{table}-changelog"

    @property
    def silence_changelog(self) -> str:
        """Return the changelog of `lapse ingest --silence`."""
        return self.changelog("silence")

    @property
    def rules_topic(self) -> str:
        """Return the topic of the rules' revisions."""
        return f"{self.topic_prefix}{self.app_id}-rules"

    @property
    def rules_transactional_id(self) -> str:
        """Return the transactional id of whoever publishes."""
        return f"{self.topic_prefix}{self.app_id}-rules"

    @property
    def written(self) -> tuple[str, ...]:
        """Return the broker names of all topics that a transaction writes to."""
        return (*(self.topic(name) for name in WRITTEN), *(self.changelog(table) for table in Table))

    def transactional_id(self, partition: int) -> str:
        """Return the transactional id. A producer that starts with it fences the previous one."""
        return f"{self.topic_prefix}{self.app_id}-{partition}"

    @property
    def inputs(self) -> dict[str, Topic]:
        """Return the two inputs by their broker names."""
        return {self.topic(topic.value): topic for topic in Topic}

    def inbox_limit(self, partitions: int) -> int:
        """Return how many records may wait in one inbox when the worker holds this many partitions."""
        return min(_MOST_INBOX, max(_LEAST_INBOX, self.inbox_records // max(1, 2 * partitions)))

    def pause(self, partitions: int) -> Micros:
        """Return how long the broker holds a response after a fetch that brought records of this many partitions."""
        return min(_LONGEST_PAUSE, self.fetch_pause * partitions)


class SilenceConfig(KafkaConfig, frozen=True, kw_only=True):
    """The configuration of `lapse ingest --silence`: a group of its own, and one changelog for its one table."""

    @property
    def silence_changelog(self) -> str:
        """Return the changelog; the application's name here already says `silence`."""
        return f"{self.topic_prefix}{self.app_id}-changelog"

    def changelog(self, _: str) -> str:
        """Return the changelog, whatever the table."""
        return self.silence_changelog

    @property
    def written(self) -> tuple[str, ...]:
        """Return the broker names of all topics that a transaction writes to."""
        return (self.topic(Topic.SESSIONS.value), self.silence_changelog)


def silence_config(config: KafkaConfig) -> SilenceConfig:
    """Return the configuration of `lapse ingest --silence` for a worker's installation.

    >>> silence_config(KafkaConfig(topic_prefix="test.")).group
    'test.lapse-silence'
    """
    same = {name: getattr(config, name) for name in KafkaConfig.__struct_fields__}
    # Where the worker's rules come from does not matter here, and a bad record is the worker's to refuse.
    own = {"app_id": f"{config.app_id}-silence", "rules": "file", "dead_letter_limit": None}
    return SilenceConfig(**(same | own))
