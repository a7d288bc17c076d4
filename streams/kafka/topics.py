"""The topics a worker needs: reports all problems with them at once, and creates missing ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streams.core.errors import Failed, Refused
from streams.core.names import Output, Table, Topic
from streams.kafka.brokers import admin_client, patiently
from streams.kafka.config import DEFAULT_MAX_MESSAGE_BYTES, KafkaConfig
from streams.wire.writes import WRITTEN

_KIB = 1024
RECORD_BYTES = 1024 * _KIB + 64 * _KIB
"""`max.message.bytes` of inputs and outputs that we create: the largest accepted value, plus a margin for headers.
Topics with a lower limit are accepted."""
ROW_BYTES = 320 * _KIB
"""`max.message.bytes` that changelogs should have: the largest row plus a margin."""

ENTRY_BYTES = 16 * 1024 * _KIB
"""`max.message.bytes` of the rules topic: an entry holds a whole trigger file."""
_FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1"}

_METADATA_SECONDS = 10.0


class Wanted(NamedTuple):
    """The required properties of a topic. A policy is *compact*, *delete* or *any*."""

    name: str
    cleanup: str
    max_message_bytes: int
    """The value for a new topic; an existing topic may have less."""
    why_cleanup: str = ""
    required: bool = True
    """Whether a worker refuses to start without it."""
    is_rules: bool = False
    """Whether it is the rules topic: one partition, and nothing in it is ever removed."""


class Existing(msgspec.Struct, frozen=True):
    """A topic as it exists on the broker. Configuration values are None without the permission to read them."""

    name: str
    partitions: int
    cleanup: str | None
    max_message_bytes: int | None
    retention: tuple[str | None, str | None] = (None, None)
    """`retention.ms` and `retention.bytes`."""


class Report(msgspec.Struct, frozen=True):
    """The topics of an installation, and every problem with them."""

    existing: tuple[Existing, ...]
    missing: tuple[str, ...]
    problems: tuple[str, ...]
    """Problems that prevent a worker from starting; those of missing topics come first, one each."""
    warnings: tuple[str, ...] = ()
    """Problems that do not prevent a start but may matter later."""

    @property
    def limits(self) -> dict[str, int]:
        """Return `max.message.bytes` by topic, or Kafka's default without the permission to read it."""
        default = DEFAULT_MAX_MESSAGE_BYTES
        return {topic.name: topic.max_message_bytes or default for topic in self.existing}


def wanted_topics(config: KafkaConfig, *, holds: bool = False) -> list[Wanted]:
    """Return the table of SPEC section 1 with the configured names, each topic once.

    `holds`: a trigger has a `limit`. With the setting `silence`, the changelog of `lapse ingest --silence` is one.
    """
    written = (*WRITTEN, Output.HELD_COMMANDS) if holds else WRITTEN
    hides_return = "compaction hides a customer's short return"
    keeps_last = "compaction would keep only the last record of each ticket"
    is_table = "it holds a table, which must be kept whole and may be compacted"
    wanted = [
        Wanted(config.topic(Topic.TICKETS.value), "any", RECORD_BYTES),
        Wanted(config.topic(Topic.SESSIONS.value), "delete", RECORD_BYTES, hides_return),
        *(Wanted(config.topic(name), "delete", RECORD_BYTES, keeps_last, name in written) for name in Output),
        *(Wanted(config.changelog(table), "compact", ROW_BYTES, is_table) for table in Table),
        *([Wanted(config.silence_changelog, "compact", ROW_BYTES, is_table)] if config.silence else ()),
        *_wanted_rules(config),
    ]
    return list(dict.fromkeys(wanted))


def _wanted_rules(config: KafkaConfig) -> list[Wanted]:
    if config.rules != "topic":
        return []
    why = "every revision must stay as it was published"
    return [Wanted(config.rules_topic, "delete", ENTRY_BYTES, why, is_rules=True)]


async def check_topics(config: KafkaConfig, *, holds: bool = False) -> Report:
    """Compare the broker's topics with the requirements. Raises `Failed` when no broker answers."""
    async with admin_client(config) as admin:
        return await _check(config, admin, holds=holds)


async def require_topics(config: KafkaConfig, *, holds: bool = False) -> Report:
    """Return the report on the topics. Raises `Refused` with every problem when there are any.

    With `holds`, where a trigger has a `limit`, `held-commands` is one of them.
    """
    report = await check_topics(config, holds=holds)
    if report.problems:
        lines = "".join(f"\n  - {problem}" for problem in report.problems)
        hint = "\nMake the missing ones with `lapse topics create`." if report.missing else ""
        raise Refused(f"The topics at {', '.join(config.brokers)} will not do:{lines}{hint}")
    return report


async def create_topics(
    config: KafkaConfig,
    partitions: int | None = None,
    replication: int = -1,
    settings: Mapping[str, str] | None = None,
) -> list[str]:
    """Create the missing topics without changing existing ones; return the names created.

    `partitions` defaults to the number that existing topics have, else 1. `replication` -1 is the broker's default.
    `settings` are topic configurations in addition to those that Lapse needs.
    Raises `Refused` when `partitions` differs from that of existing topics, `Failed` when the broker refuses.
    """
    async with admin_client(config) as admin:
        found = await _find(config, admin)
        counts = {topic.partitions for topic in found.values() if topic.name != config.rules_topic}
        if partitions is None:
            if len(counts) > 1:
                raise Refused(
                    f"{_partition_problem(config, found)} Say how many the missing topics get, with --partitions."
                )
            partitions = counts.pop() if counts else 1
        elif counts - {partitions}:
            names = ", ".join(
                f"{t.name} has {t.partitions}"
                for t in found.values()
                if t.partitions != partitions and t.name != config.rules_topic
            )
            raise Refused(
                f"--partitions {partitions}, but {names}. All topics need the same number; nothing was created."
            )
        missing = [topic for topic in wanted_topics(config) if topic.name not in found]
        for topic in missing:
            policy = "compact" if topic.cleanup == "compact" else "delete"
            configs = {
                **(settings or {}),
                "cleanup.policy": policy,
                "max.message.bytes": str(topic.max_message_bytes),
                **(_FOR_EVER if topic.is_rules else {}),
            }
            # NewTopic treats a replication factor of -1, the broker's default, as missing.
            replicas: dict[int, list[int]] | None = {} if replication == -1 else None
            number = 1 if topic.is_rules else partitions
            await _create(config, admin, NewTopic(topic.name, number, replication, replicas, configs))
        await _wait_until_known(config, admin, [topic.name for topic in missing])
        return [topic.name for topic in missing]


async def _create(config: KafkaConfig, admin: AIOKafkaAdminClient, new: NewTopic) -> None:
    answer = await patiently(f"Can't create {new.name}", config, lambda: admin.create_topics([new]))
    for _, code, *message in answer.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise Failed(f"Can't create {new.name}: {(message and message[0]) or error.__name__}")


async def _wait_until_known(config: KafkaConfig, admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    deadline = asyncio.get_running_loop().time() + _METADATA_SECONDS
    while names and not set(names) <= (await _find(config, admin, with_configs=False)).keys():
        if asyncio.get_running_loop().time() > deadline:
            raise Failed(f"The broker says it made {', '.join(names)}, but does not know them.")
        await asyncio.sleep(0.05)


async def _check(config: KafkaConfig, admin: AIOKafkaAdminClient, *, holds: bool) -> Report:
    found = await _find(config, admin)
    wanted = wanted_topics(config, holds=holds)
    missing = tuple(topic.name for topic in wanted if topic.required and topic.name not in found)
    problems = [f"{name} does not exist or may not be described by this user." for name in missing]
    if len({topic.partitions for topic in found.values() if topic.name != config.rules_topic}) > 1:
        problems.append(_partition_problem(config, found))
    for topic in wanted:
        if topic.name in found:
            problems.extend(_topic_problems(topic, found[topic.name]))
    existing = tuple(found[topic.name] for topic in wanted if topic.name in found)
    return Report(existing, missing, tuple(problems), tuple(_size_warnings(config, found)))


def _size_warnings(config: KafkaConfig, found: Mapping[str, Existing]) -> Iterable[str]:
    """Yield where a large record would not fit. This is only a warning: few are that large (SPEC section 9)."""
    for table in Table:
        topic = found.get(config.changelog(table))
        if topic is not None and topic.max_message_bytes is not None and topic.max_message_bytes < ROW_BYTES:
            yield (
                f"{topic.name} has max.message.bytes={topic.max_message_bytes}; a row can need {ROW_BYTES}, and a "
                "worker with a row that does not fit stops. Raise it with kafka-configs."
            )
    letters = found.get(config.topic(Output.DEAD_LETTERS))
    sizes = {name: found[name].max_message_bytes for name in config.inputs if name in found}
    largest = max((size for size in sizes.values() if size is not None), default=None)
    if letters is None or letters.max_message_bytes is None or largest is None:
        return
    if letters.max_message_bytes < largest:
        of = next(name for name, size in sizes.items() if size == largest)
        yield (
            f"{letters.name} has max.message.bytes={letters.max_message_bytes}, less than {of} with {largest}; a bad "
            "record that does not fit there is kept without its value."
        )


def _partition_problem(config: KafkaConfig, found: Mapping[str, Existing]) -> str:
    counts = ", ".join(
        f"{topic.name} has {topic.partitions}" for topic in found.values() if topic.name != config.rules_topic
    )
    return f"All topics need the same number of partitions, but {counts}."


def _topic_problems(wanted: Wanted, topic: Existing) -> Iterable[str]:
    policies = set((topic.cleanup or "").replace(" ", "").split(",")) - {""}
    if policies and wanted.cleanup == "delete" and "compact" in policies:
        yield f"{topic.name} has cleanup.policy={topic.cleanup}, it must be delete: {wanted.why_cleanup}."
    if policies and wanted.cleanup == "compact" and policies != {"compact"}:
        yield f"{topic.name} has cleanup.policy={topic.cleanup}, it must be compact: {wanted.why_cleanup}."
    if wanted.is_rules:
        yield from _rules_problems(topic)


def _rules_problems(topic: Existing) -> Iterable[str]:
    if topic.partitions != 1:
        yield f"{topic.name} has {topic.partitions} partitions, it must have one: its entries have one order."
    if topic.max_message_bytes is not None and topic.max_message_bytes < ENTRY_BYTES:
        yield f"{topic.name} has max.message.bytes={topic.max_message_bytes}, it must be {ENTRY_BYTES} or more."
    for name, value in zip(_FOR_EVER, topic.retention, strict=True):
        if value not in (None, "-1"):
            yield f"{topic.name} has {name}={value}, it must be -1: every revision must stay."


async def _find(config: KafkaConfig, admin: AIOKafkaAdminClient, *, with_configs: bool = True) -> dict[str, Existing]:
    """Return those of our topics that exist, by name."""
    names = [topic.name for topic in wanted_topics(config)]
    # Request all topics: a request by name would make a broker with auto-creation create the missing ones.
    described = await patiently("Can't ask for the topics", config, admin.describe_topics)
    counts: dict[str, int] = {}
    for topic in described:
        code = topic["error_code"]
        if topic["topic"] not in names:
            continue
        if code != 0:
            raise Failed(f"Can't read what {topic['topic']} is like: {for_code(code).__name__}")
        counts[topic["topic"]] = len(topic["partitions"])
    configs = await _configs(config, admin, list(counts)) if with_configs and counts else {}
    return {
        name: Existing(
            name,
            counts[name],
            configs.get(name, {}).get("cleanup.policy"),
            _number(configs.get(name, {}).get("max.message.bytes")),
            (configs.get(name, {}).get("retention.ms"), configs.get(name, {}).get("retention.bytes")),
        )
        for name in names
        if name in counts
    }


async def _configs(config: KafkaConfig, admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        answers = await patiently("Can't ask for the topics", config, lambda: admin.describe_configs(resources))
    except (KafkaError, Refused):
        # Reading configurations needs a permission of its own. Without it the rest can still be checked.
        return {}
    return {
        resource: {name: value for name, value, *_ in entries}
        for answer in answers
        for code, _, _, resource, entries in _resources(answer)
        if code == 0
    }


def _resources(answer: Any) -> Iterable[tuple[int, Any, Any, str, Any]]:
    resources: Iterable[tuple[int, Any, Any, str, Any]] = answer.resources
    return resources


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
