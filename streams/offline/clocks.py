"""Detects implausible record timestamps. The merge order depends on timestamps, so the user must be warned."""

from __future__ import annotations

from collections.abc import Iterator

from streams.core.inputs import Decode
from streams.core.model import MILLISECOND, SECOND, Micros, Rejection
from streams.offline.captures import Captures
from streams.wire import instants

LOOKED_AT = 200
"""Number of records sampled from each topic-partition, evenly spaced."""

_YEAR: Micros = 365 * 86_400 * SECOND
_NO_TIMESTAMP = -1


def timestamp_warnings(captures: Captures, now: Micros, decode: Decode) -> Iterator[str]:
    """Yield a warning for each topic with record timestamps more than a year before the events.

    A record can be written long after its event (a backfill), but hardly a year before it.
    """
    early: dict[str, list[tuple[int, Micros]]] = {}
    seen: dict[str, int] = {}
    for topic, partition, record in captures.sample(LOOKED_AT):
        if record.value is None:
            continue
        update = decode(topic, partition, record, now)
        if isinstance(update, Rejection):
            continue
        seen[topic.value] = seen.get(topic.value, 0) + 1
        if update.occurred_at - record.timestamp * MILLISECOND > _YEAR:
            early.setdefault(topic.value, []).append((record.timestamp, update.occurred_at))
    for topic_name, found in early.items():
        timestamp, occurred_at = found[0]
        years = (occurred_at - timestamp * MILLISECOND) // _YEAR
        yield (
            f"warning: {topic_name}: {len(found)} of {seen[topic_name]} records looked at have a timestamp that lies "
            f"{years} {'year' if years == 1 else 'years'} or so before their `occurred_at`: the first is {timestamp} "
            f"({instants.text(timestamp * MILLISECOND)}){_guess(timestamp, occurred_at)}. The two topics are merged, "
            "and waits counted, by these timestamps"
        )


def _guess(timestamp: int, occurred_at: Micros) -> str:
    if timestamp == _NO_TIMESTAMP:
        return ", which stands for no timestamp"
    if abs(timestamp * SECOND - occurred_at) < _YEAR:
        return ", which looks like seconds, while Kafka's timestamps are milliseconds"
    return ""
