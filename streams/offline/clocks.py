"""Record timestamps that can't be right: the merge goes by them, so a user must hear of it."""

from __future__ import annotations

from collections.abc import Iterator

from streams.core.inputs import Decode
from streams.core.model import MILLISECOND, SECOND, Micros, Rejection
from streams.offline.captures import Captures
from streams.wire import instants

LOOKED_AT = 200
"""Records of a topic-partition that are looked at, spread over it."""

_YEAR: Micros = 365 * 86_400 * SECOND
_NO_TIMESTAMP = -1


def timestamp_warnings(captures: Captures, now: Micros, decode: Decode) -> Iterator[str]:
    """Yield a warning for each topic whose records were written long before what they tell happened.

    A record can be written long after its event (a backfill), and hardly a year before it.
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
