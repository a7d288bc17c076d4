"""What the counters have to say, counted from the committed topics alone: the oracle of the truth test.

Shares nothing with `streams`. Keys are (metric, label values in the order of their names, sorted); sums of durations
are in milliseconds here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from aiokafka import ConsumerRecord

Key: TypeAlias = tuple[str, tuple[str, ...]]

REASON = "user_inactive_or_offline"
EDGE = "returns on the edge"
"""Topics tell milliseconds, and Lapse decides by microseconds: of these nobody can tell here whether they are false."""

CHANNELS = {"web", "ios", "android", "native_messaging", "whatsapp", "messenger", "instagram"}


def key(metric: str, **labels: str) -> Key:
    """Name one series."""
    return metric, tuple(labels[name] for name in sorted(labels))


def count(
    records: Iterable[ConsumerRecord],
    commands: Iterable[ConsumerRecord],
    letters: Iterable[ConsumerRecord],
    *,
    prefix: str,
    false_window: float,
) -> Counter[Key]:
    """Count transitions, evaluations, commands and dead letters; `false_window` in seconds."""
    counts: Counter[Key] = Counter()
    tickets: dict[str, _Ticket] = {}
    for record in sorted(records, key=lambda each: (each.partition, each.offset)):
        body = json.loads(record.value)
        if body["type"] == "evaluation":
            counts[key("lapse_rounds_total", outcome=body["outcome"])] += 1
            for trigger in body["triggers"]:
                counts[key("lapse_triggers_fired_total", trigger=trigger)] += 1
        else:
            tickets.setdefault(body["ticket_id"], _Ticket()).changed(body, counts, false_window)
    counts[key("lapse_commands_total")] = sum(1 for _ in commands)
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers if name.startswith("lapse.")}
        topic = headers["lapse.source.topic"].removeprefix(prefix)
        counts[key("lapse_dead_letters_total", topic=topic, code=headers["lapse.error.code"])] += 1
        counts[key("lapse_records_total", topic=topic, result="dead_letter")] += 1
    return counts


def _milliseconds(begin: datetime, end: datetime) -> int:
    return max(0, round((end - begin).total_seconds() * 1000))


class _Ticket:
    """What the story of one ticket was so far."""

    def __init__(self) -> None:
        self.opened_at: datetime | None = None
        self.left_at: tuple[datetime, str] | None = None
        self.session_abandoned = False
        self.ever_abandoned = False

    def changed(self, body: Mapping[str, Any], counts: Counter[Key], false_window: float) -> None:
        kind, at = body["kind"], datetime.fromisoformat(body["occurred_at"])
        said = body["channel"] or "none"
        channel = said if said in CHANNELS or said == "none" else "other"
        reason = body["reason"] or "none"
        shown = reason if reason in {REASON, "none"} else "other"
        counts[key("lapse_session_transitions_total", kind=kind, reason=shown, channel=channel)] += 1
        if body["from"] is None:
            counts[key("lapse_sessions_total", channel=channel)] += 1
            self.opened_at, self.session_abandoned = None, False
        if kind in {"opened", "resumed"}:
            if self.left_at is not None:
                left_at, left_channel = self.left_at
                counts[key("lapse_time_to_return_seconds_count")] += 1
                counts[key("lapse_time_to_return_seconds_sum")] += _milliseconds(left_at, at)
                away = (at - left_at).total_seconds()
                if abs(away - false_window) < 0.0015:
                    counts[key(EDGE, channel=left_channel)] += 1
                if away <= false_window:
                    counts[key("lapse_false_abandonments_total", channel=left_channel)] += 1
            self.opened_at, self.left_at = at, None
        elif kind == "lapsed" and reason == REASON:
            counts[key("lapse_abandonments_total", reason=reason, channel=channel)] += 1
            if not self.session_abandoned:
                counts[key("lapse_sessions_abandoned_total", channel=channel)] += 1
            if not self.ever_abandoned:
                counts[key("lapse_tickets_abandoned_total", channel=channel)] += 1
            if self.opened_at is not None:
                counts[key("lapse_time_to_abandon_seconds_count")] += 1
                counts[key("lapse_time_to_abandon_seconds_sum")] += _milliseconds(self.opened_at, at)
            self.left_at, self.session_abandoned, self.ever_abandoned = (at, channel), True, True
