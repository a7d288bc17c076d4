"""What is wrong with an installation, judged from the facts of a survey: the findings of `lapse doctor`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum

import msgspec

from streams.core.names import Table
from streams.kafka.config import KafkaConfig
from streams.operate.survey import OpenTransaction, Partition, Survey
from streams.wire import instants


class Level(Enum):
    """How bad a finding is. Only a problem makes `lapse doctor` end with 1."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    check: str
    level: Level
    text: str
    advice: str = ""
    """What to do about it."""


_OPERATIONS = {"Read": 3, "Write": 4}
"""The bits of Kafka's ACL operations: https://kafka.apache.org/documentation/#operations_resources_and_protocols"""

_NEEDED_VERSIONS = {22: ("InitProducerId", 3), 26: ("EndTxn", 1), 28: ("TxnOffsetCommit", 2), 1: ("Fetch", 4)}
"""By API key, the lowest version that a worker can use: transactions whose epoch can be renewed in place."""

_FIRST_PLAUSIBLE_MS = 946_684_800_000
"""The beginning of the year 2000. A timestamp in seconds that is taken for milliseconds lies before it."""
_AHEAD_MS = 60_000
_HANGING_MS = 60_000
_NAMED = 3
"""How many partitions or brokers a finding names."""


def judge(seen: Survey, config: KafkaConfig, now_ms: int) -> list[Finding]:
    """Return the findings of every check in the order of the report; `now_ms` is this machine's clock."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("brokers", lambda: _brokers(seen)),
        ("topics", lambda: _topics(seen)),
        ("replicas", lambda: _replicas(seen)),
        ("rights", lambda: _rights(seen, config)),
        ("keys", lambda: _keys(seen, config)),
        ("records", lambda: _readable(seen)),
        ("timestamps", lambda: _timestamps(seen, now_ms)),
        ("group", lambda: _group(seen)),
        ("offsets", lambda: _offsets(seen, config)),
        ("transactions", lambda: _transactions(seen, config, now_ms)),
        ("lag", lambda: _lag(seen, config)),
    ]
    return [finding for _, check in checks for finding in check()]


# --- the cluster -----------------------------------------------------------------------------------------------------


def _brokers(seen: Survey) -> Iterator[Finding]:
    silent = [node.address for node in seen.nodes if node.versions is None]
    if silent:
        yield Finding(
            "brokers",
            Level.PROBLEM,
            f"{_some(silent)} of the cluster did not answer.",
            "Their `advertised.listeners` must be reachable from here.",
        )
    old = [
        f"{node.address} ({name})"
        for node in seen.nodes
        if node.versions is not None
        for key, (name, least) in _NEEDED_VERSIONS.items()
        if node.versions.get(key, (0, -1))[1] < least
    ]
    if old:
        yield Finding("brokers", Level.PROBLEM, f"{_some(old)} can't do what Lapse needs.", "Use Kafka 2.5 or later.")
    answering = [node for node in seen.nodes if node.versions is not None]
    if answering:
        level = max(node.features.get("transaction.version", 0) for node in answering)
        slowest = max(node.milliseconds for node in answering)
        trips = "two" if level >= 2 else "three"
        yield Finding(
            "brokers",
            Level.OK,
            f"{_count(len(answering), 'broker')} answered within {slowest:.0f} ms. transaction.version is {level}: "
            f"{trips} round trips a transaction.",
        )


def _topics(seen: Survey) -> Iterator[Finding]:
    report = seen.report
    if report is None:
        yield _unknown("topics", seen.trouble.get("topics"))
        return
    if report.missing:
        verb = "does" if len(report.missing) == 1 else "do"
        yield Finding(
            "topics",
            Level.PROBLEM,
            f"{_some(list(report.missing), all_of_them=True)} {verb} not exist or may not be described by this user.",
            "Make missing topics with `lapse topics create`.",
        )
    for problem in report.problems[len(report.missing) :]:
        yield Finding("topics", Level.PROBLEM, problem)
    for warning in report.warnings:
        yield Finding("topics", Level.WARNING, warning)
    if not report.problems:
        yield Finding(
            "topics",
            Level.OK,
            f"{_count(len(report.existing), 'topic')} of {_count(report.existing[0].partitions, 'partition')} each.",
        )


def _replicas(seen: Survey) -> Iterator[Finding]:
    partitions = [
        (f"{name}-{number}", one)
        for name, topic in sorted(seen.topics.items())
        for number, one in sorted(topic.partitions.items())
    ]
    if not partitions:
        return
    leaderless = [name for name, one in partitions if one.leader < 0]
    if leaderless:
        yield Finding("replicas", Level.PROBLEM, f"{_some(leaderless)} {_has(leaderless)} no leader.", "Start brokers.")
    behind = [name for name, one in partitions if one.leader >= 0 and one.in_sync < one.replicas]
    if behind:
        yield Finding(
            "replicas", Level.WARNING, f"{_some(behind)} {_has(behind)} fewer replicas in sync than it should have."
        )
    single = {name.rpartition("-")[0] for name, one in partitions if one.replicas == 1}
    if single and len(seen.nodes) > 1:
        yield Finding(
            "replicas",
            Level.WARNING,
            f"{_some(sorted(single))} {_has(sorted(single))} one replica: the loss of a broker loses records.",
        )
    if not leaderless and not behind:
        yield Finding("replicas", Level.OK, f"All {_count(len(partitions), 'partition')} have all replicas in sync.")


# --- rights ----------------------------------------------------------------------------------------------------------


def _rights(seen: Survey, config: KafkaConfig) -> Iterator[Finding]:
    """Compare with the worker's rows of the table in docs/operations.md."""
    wanted = {name: ["Read"] for name in config.inputs}
    wanted |= {name: ["Write"] for name in config.written}
    wanted |= {config.changelog(table): ["Read", "Write"] for table in Table}
    if config.rules == "topic":
        wanted[config.rules_topic] = ["Read"]
    user = config.security.get("sasl_plain_username")
    who = "This client" if user is None else f"User {user}"
    lacking = [
        f"{operation} on the topic {name}"
        for name, operations in wanted.items()
        if (topic := seen.topics.get(name)) is not None and topic.rights >= 0
        for operation in operations
        if not topic.rights & 1 << _OPERATIONS[operation]
    ]
    if (seen.group is not None and seen.group.rights >= 0 and not seen.group.rights & 1 << _OPERATIONS["Read"]) or (
        "GroupAuthorization" in seen.trouble.get("group", "")
        or "GROUP_AUTHORIZATION_FAILED" in seen.trouble.get("group", "")
    ):
        lacking.append(f"Read on the group {config.group}")
    if seen.transactional_error is not None or "TransactionalId" in seen.trouble.get("producer", ""):
        lacking.append(f"Write on the transactional ids {config.group}-*")
    if lacking:
        yield Finding(
            "rights",
            Level.PROBLEM,
            f"{who} lacks {_some(lacking, all_of_them=True)}. A worker with this login could not run.",
            "Add the ACLs that docs/operations.md lists.",
        )
    elif not seen.topics:
        yield _unknown("rights", "no topic can be described")
    else:
        yield Finding("rights", Level.OK, f"{who} may do what a worker has to do.")


# --- records ---------------------------------------------------------------------------------------------------------


def _keys(seen: Survey, config: KafkaConfig) -> Iterator[Finding]:
    samples = [(name, sample) for name, sample in seen.samples.items() if sample.records]
    if not samples:
        yield _unknown("keys", "the inputs have no records yet")
        return
    fine = True
    for name, sample in samples:
        if sample.without_key:
            fine = False
            yield Finding(
                "keys",
                Level.PROBLEM,
                f"{sample.without_key:,} of the latest {sample.records:,} records of {name} have no key.",
                "The key of each record must be the ticket id. Such records become dead letters.",
            )
        if sample.elsewhere:
            fine = False
            yield Finding(
                "keys",
                Level.WARNING,
                f"{sample.elsewhere:,} of the latest {sample.records:,} records of {name} are not in the partition "
                "that Kafka's default partitioner (murmur2) gives for their key.",
                "Producers based on librdkafka need partitioner=murmur2_random.",
            )
    if len(samples) == len(config.inputs):
        (_, first), (_, second) = samples
        common = first.partitions.keys() & second.partitions.keys()
        split = sorted(key for key in common if first.partitions[key] != second.partitions[key])
        if split:
            fine = False
            yield Finding(
                "keys",
                Level.PROBLEM,
                f"{len(split):,} of {len(common):,} keys that both inputs have lie in different partitions, for "
                f"example {split[0].decode(errors='replace')!r}. Such a ticket and its session never meet.",
                "All producers of both topics need the same partitioner and the same form of key.",
            )
        elif not common:
            yield Finding(
                "keys",
                Level.WARNING,
                "Not one key of the latest records is in both inputs.",
                "Do both topics use the ticket id as key, spelled alike?",
            )
            fine = False
    if fine:
        records = sum(sample.records for _, sample in samples)
        yield Finding("keys", Level.OK, f"The latest {records:,} records lie where murmur2 puts their keys.")


def _readable(seen: Survey) -> Iterator[Finding]:
    troubled = {name: sample.trouble for name, sample in seen.samples.items() if sample.trouble is not None}
    for name, trouble in troubled.items():
        yield Finding("records", Level.PROBLEM, f"The latest records of {name} can't be read: {trouble}")
    if seen.samples and not troubled:
        yield Finding("records", Level.OK, f"The latest records of {_count(len(seen.samples), 'input')} can be read.")


def _timestamps(seen: Survey, now_ms: int) -> Iterator[Finding]:
    fine = True
    for name, sample in seen.samples.items():
        if sample.oldest_ms is not None and sample.oldest_ms < _FIRST_PLAUSIBLE_MS:
            fine = False
            yield Finding(
                "timestamps",
                Level.PROBLEM,
                f"{name} has record timestamps of {_time(sample.oldest_ms)}: milliseconds are expected, and these look "
                "like seconds.",
                "Mend the producer.",
            )
        if sample.newest_ms is not None and sample.newest_ms > now_ms + _AHEAD_MS:
            fine = False
            yield Finding(
                "timestamps",
                Level.WARNING,
                f"The newest record of {name} is {_duration(sample.newest_ms - now_ms)} ahead of this machine's clock.",
                "Compare the clocks of producers, brokers and workers. Events too far ahead become dead letters.",
            )
    newest = [sample.newest_ms for sample in seen.samples.values() if sample.newest_ms is not None]
    if fine and newest:
        yield Finding("timestamps", Level.OK, f"The newest record is of {_time(max(newest))}.")


# --- progress --------------------------------------------------------------------------------------------------------


def _group(seen: Survey) -> Iterator[Finding]:
    group = seen.group
    if group is None:
        yield _unknown("group", seen.trouble.get("group"))
        return
    if not group.members:
        yield Finding("group", Level.WARNING, "No worker is running.", "Start one with `lapse run`.")
        return
    by_host = ", ".join(f"{count} at {host}" for host, count in sorted(Counter(group.members).items()))
    text = f"{_count(len(group.members), 'worker')} ({by_host}); the group is {group.state}."
    yield Finding("group", Level.OK if group.state == "Stable" else Level.WARNING, text)


def _inputs(seen: Survey, config: KafkaConfig) -> list[tuple[str, Partition]]:
    return [
        (f"{name}-{number}", partition)
        for name in config.inputs
        if name in seen.topics
        for number, partition in sorted(seen.topics[name].partitions.items())
    ]


def _offsets(seen: Survey, config: KafkaConfig) -> Iterator[Finding]:
    if "offsets" in seen.trouble:
        yield _unknown("offsets", seen.trouble["offsets"])
        return
    partitions = _inputs(seen, config)
    trimmed = [
        f"{name} (committed {one.committed:,}, begins at {one.begin:,})"
        for name, one in partitions
        if one.committed is not None and one.begin is not None and one.committed < one.begin
    ]
    if trimmed:
        yield Finding(
            "offsets",
            Level.PROBLEM,
            f"Records were deleted before they were read: {_some(trimmed)}.",
            "Retention is shorter than the worker was away. See *Resets* in docs/operations.md.",
        )
    beyond = [
        f"{name} (committed {one.committed:,}, ends at {one.end:,})"
        for name, one in partitions
        if one.committed is not None and one.end is not None and one.committed > one.end
    ]
    if beyond:
        yield Finding(
            "offsets",
            Level.PROBLEM,
            f"The group is past the end: {_some(beyond)}. The topic was made anew or truncated.",
            "See *Resets* in docs/operations.md.",
        )
    committed = sum(one.committed is not None for _, one in partitions)
    if partitions and not trimmed and not beyond:
        yield Finding(
            "offsets",
            Level.OK,
            f"{committed} of {_count(len(partitions), 'input partition')} have a committed offset."
            + ("" if committed else " This installation has not run yet."),
        )


def _transactions(seen: Survey, config: KafkaConfig, now_ms: int) -> Iterator[Finding]:
    if "transactions" in seen.trouble or "offsets" in seen.trouble:
        yield _unknown("transactions", seen.trouble.get("transactions") or seen.trouble.get("offsets"))
        return
    hanging = [one for one in seen.transactions if _is_hanging(one, now_ms)]
    for one in hanging:
        yield _hanging(one, config, now_ms)
    if not hanging:
        young = len(seen.transactions)
        text = f"{_count(young, 'transaction')} in progress, none of which hangs." if young else "None is open."
        yield Finding("transactions", Level.OK, text)


def _is_hanging(one: OpenTransaction, now_ms: int) -> bool:
    since = one.start_ms or one.last_write_ms
    limit = _HANGING_MS if one.timeout_ms is None else one.timeout_ms + _HANGING_MS
    return now_ms - since > limit


def _hanging(one: OpenTransaction, config: KafkaConfig, now_ms: int) -> Finding:
    since = one.start_ms or one.last_write_ms
    whose = (
        f"producer {one.producer_id}, of which no broker knows a transaction,"
        if one.transactional_id is None
        else f"{one.transactional_id} (producer {one.producer_id})"
    )
    return Finding(
        "transactions",
        Level.PROBLEM,
        f"A transaction of {whose} on {one.topic}-{one.partition} has been open since {_time(since)} "
        f"({_duration(now_ms - since)}). Readers of committed records wait at offset {one.start_offset:,}.",
        f"End it: kafka-transactions.sh --bootstrap-server {config.brokers[0]} abort --topic {one.topic} "
        f"--partition {one.partition} --start-offset {one.start_offset}",
    )


def _lag(seen: Survey, config: KafkaConfig) -> Iterator[Finding]:
    if "offsets" in seen.trouble or not (partitions := _inputs(seen, config)):
        return
    behind = {
        name: one.stable - max(one.begin, one.committed if one.committed is not None else one.begin)
        for name, one in partitions
        if one.stable is not None and one.begin is not None
    }
    total = sum(max(0, lag) for lag in behind.values())
    if not total:
        yield Finding("lag", Level.OK, "Everything was read.")
        return
    worst = max(behind, key=lambda name: behind[name])
    idle = seen.group is not None and not seen.group.members
    yield Finding(
        "lag",
        Level.WARNING if idle else Level.OK,
        f"{_count(total, 'record')} not read yet, most of them in {worst} ({behind[worst]:,}).",
    )


# --- words -----------------------------------------------------------------------------------------------------------


def _unknown(check: str, why: str | None) -> Finding:
    return Finding(check, Level.UNKNOWN, f"Could not be examined: {(why or 'no answer').rstrip('.')}.")


def _some(names: list[str], *, all_of_them: bool = False) -> str:
    """List names, the first ones only unless all are wanted.

    >>> _some(["a", "b"]), _some(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 more')
    """
    if not all_of_them and len(names) > _NAMED:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _has(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> _count(1, "broker"), _count(1200, "record")
    ('1 broker', '1,200 records')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _time(milliseconds: int) -> str:
    return instants.text(milliseconds * 1000)


def _duration(milliseconds: int) -> str:
    """Return a duration in the unit that people would choose.

    >>> _duration(42_000), _duration(5_700_000), _duration(300_000_000)
    ('42 s', '95 min', '83 h')
    """
    seconds = milliseconds // 1000
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h"
