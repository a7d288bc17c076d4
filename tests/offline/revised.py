"""A driver whose rules are revisions, and the capture that `lapse capture` would make of its topics."""

from __future__ import annotations

from pathlib import Path

from streams.core.model import MILLISECOND
from streams.core.names import Output, Topic
from streams.core.revisions import Entry, EntryKind, Rulebook
from streams.rules.triggers import parse_triggers
from streams.testing.driver import Driver
from streams.wire import capture, instants
from streams.wire.capture import CapturedRecord
from streams.wire.rule_entries import encode_entry

START_MS = 1_772_359_200_000
CONDITIONS = """
    conditions:
      all:
        - {field: status, operator: is, value: open}
        - {field: messaging_session_state, operator: changed_to, value: inactive}
"""
SOURCES = {
    "tag": f"triggers:\n  - id: tag{CONDITIONS}    actions: [{{field: add_tags, value: gone}}]\n",
    "solve": f"triggers:\n  - id: solve{CONDITIONS}    actions: [{{field: status, value: solved}}]\n",
    "wait": f"triggers:\n  - id: tag\n    wait: 10s{CONDITIONS}    actions: [{{field: priority, value: low}}]\n",
}


def live(number: int, source: str, effective_ms: int = 0) -> Entry:
    ruleset = parse_triggers(SOURCES[source]).ruleset
    assert ruleset is not None
    return Entry(
        number=number, kind=EntryKind.LIVE, published_at=START_MS * MILLISECOND, author="ada", source=SOURCES[source],
        ruleset=ruleset.digest, effective_from=(START_MS + effective_ms) * MILLISECOND if effective_ms else 0,
    )  # fmt: skip


def leaves(driver: Driver, ticket: str, at_ms: int) -> None:
    at = START_MS + at_ms
    when = {"occurred_at": instants.text(at * MILLISECOND)}
    driver.pipe(Topic.TICKETS, ticket, {"ticket_id": ticket, **when, "ticket": {"status": "open"}}, at - 2)
    driver.pipe(Topic.SESSIONS, ticket, {"ticket_id": ticket, **when, "state": "inactive"}, at)


def captured(driver: Driver, book: Rulebook, file: Path) -> None:
    """Write what `lapse capture` would."""
    lines = [capture.line(topic, 0, record) for topic in Topic for record in driver.broker.inputs[topic]]
    for entry in book.after(0):
        key, value = encode_entry(entry)
        lines.append(capture.line(capture.RULES, 0, CapturedRecord(entry.number - 1, START_MS, key, value)))
    for offset, write in enumerate(driver.broker.outputs[Output.TRANSITIONS]):
        if (write.key or b"").startswith(b"rules/"):
            lines.append(capture.line(capture.ACTIVATIONS, 0, CapturedRecord(offset, START_MS, write.key, write.value)))
    file.write_bytes(b"".join(lines))
