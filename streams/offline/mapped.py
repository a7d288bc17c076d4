"""`lapse map`: shows how a mapping reads captured records, one by one."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streams.core.model import Micros, Rejection
from streams.core.names import Topic
from streams.mapping.records import MappedRecord, Mapper, mapped
from streams.offline.captures import CaptureError, Captures
from streams.offline.command import BacktestError, name_broken_lines
from streams.offline.words import say
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode


def show_mapped(
    events: Sequence[Path], mappers: Mapping[Topic, Mapper], *, now: Micros | None = None, as_json: bool = False
) -> int:
    """Print each record of the captures as the worker would read it, or the reason it can't be read.

    Return the exit code: 1 if no record of the captures can be used. Raises `BacktestError` if one can't be read.
    """
    clock = time.time_ns() // 1000 if now is None else now
    counts: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    try:
        with Captures(events) as captures:
            for partition in captures.partitions:
                for topic in Topic:
                    for record in captures.read(partition, topic):
                        shown = _shown(topic, partition, record, mappers, clock)
                        counts["usable" if "rejected" not in shown else shown["rejected"]["code"]] += 1
                        missing.update(f"{topic} {name}" for name in shown.get("missing", ()))
                        say([json.dumps(shown, ensure_ascii=False)] if as_json else _lines(shown))
            name_broken_lines(captures, strict=False)
    except CaptureError as error:
        raise BacktestError(str(error), 2) from None
    if not as_json:
        say(_summary(counts, missing))
    return 0 if counts["usable"] else 1


def _shown(
    topic: Topic, partition: int, record: CapturedRecord, mappers: Mapping[Topic, Mapper], now: Micros
) -> dict[str, Any]:
    """Return the result for one record, with the members of `lapse map --json`."""
    shown: dict[str, Any] = {"topic": topic.value, "partition": partition, "offset": record.offset}
    mapper = mappers.get(topic)
    made = record if mapper is None else mapper.map(record)
    result = made if isinstance(made, Rejection) else mapped(decode, mappers)(topic, partition, record, now)
    if isinstance(result, Rejection):
        shown["rejected"] = {"code": str(result.code), "path": result.path, "message": result.message}
        return shown
    assert not isinstance(made, Rejection)  # noqa: S101 -- or the result would be one
    shown["key"] = None if made.key is None else made.key.decode(errors="replace")
    shown["value"] = None if made.value is None else json.loads(made.value)
    if mapper is not None and isinstance(made, MappedRecord) and made.value is not None:
        shown["missing"] = mapper.missing(made)
    return shown


def _lines(shown: Mapping[str, Any]) -> list[str]:
    where = f"{shown['topic']}/{shown['partition']}/{shown['offset']}"
    rejected = shown.get("rejected")
    if rejected is not None:
        return [f"{where}: {rejected['code']}: {rejected['path']}: {rejected['message']}"]
    value = "deleted" if shown["value"] is None else json.dumps(shown["value"], ensure_ascii=False)
    missing = shown.get("missing")
    lines = [f"{where}: {shown['key']}: {value}"]
    return [*lines, f"  not found: {', '.join(missing)}"] if missing else lines


def _summary(counts: Mapping[str, int], missing: Mapping[str, int]) -> list[str]:
    total = sum(counts.values())
    bad = ", ".join(f"{code} {count:,}" for code, count in sorted(counts.items()) if code != "usable")
    lines = [f"{total:,} records: {counts.get('usable', 0):,} usable" + (f", {bad}" if bad else "")]
    lines += [f"not found: {name} in {count:,} records" for name, count in sorted(missing.items())]
    return lines
