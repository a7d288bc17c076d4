"""`lapse demo --runaway`: a trigger that lost a condition goes live, and its limit holds what it would do."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from functools import partial
from pathlib import Path

import msgspec

from streams.core.errors import Failed
from streams.core.model import SECOND, Micros
from streams.core.revisions import Entry, EntryKind, Rulebook
from streams.kafka.config import KafkaConfig
from streams.operate.rules_topic import now, publish
from streams.rules.source import compile_source

Seconds = float

TRIGGER = "solve-spam"
"""The trigger that runs away."""

_AFTER: Seconds = 20.0
"""When it does, in a demo without an end."""

_PATIENCE: Seconds = 60.0

_LIMITED = f"""\
  - id: {TRIGGER}
    title: Solve conversations that were tagged as spam
    limit: {{count: 4, per: 1m}}
    conditions:
      all:
        - {{field: messaging_session_state, operator: changed_to, value: inactive}}
        - {{field: current_tags, operator: includes, value: spam}}
    actions:
      - {{field: status, value: solved}}
      - {{field: add_tags, value: closed_as_spam}}
"""
_CONDITION = "        - {field: current_tags, operator: includes, value: spam}\n"


class Revisions(msgspec.Struct, frozen=True):
    """The two trigger files: as they should be, and without a condition of `TRIGGER`."""

    good: str
    bad: str


def revisions(triggers: Path) -> Revisions:
    """Return the demo's triggers with one more, which has a limit, with and without its condition."""
    head, tests = triggers.read_text("utf-8").split("\ntests:", 1)
    good = f"{head}\n{_LIMITED}\ntests:{tests}"
    return Revisions(good, good.replace(_CONDITION, ""))


async def publish_good(config: KafkaConfig, triggers: Path) -> None:
    """Publish the revision that is as it should be, for the worker's start."""
    await _publish(config, revisions(triggers).good, 0, "the demo's triggers")


async def publish_bad(config: KafkaConfig, triggers: Path, page: str, seconds: Seconds | None) -> Seconds:
    """Publish the bad revision for after a third of the demo; return from when on it holds, by the clock.

    Returns once the worker at `page` knows of it, so that it holds for the records of that instant and later ones.
    """
    at = time.time() + (_AFTER if seconds is None else seconds / 3)
    number = await _publish(config, revisions(triggers).bad, int(at * SECOND), f"{TRIGGER} with a condition less")
    await asyncio.to_thread(_until_known, number, page)
    return at


def _until_known(number: int, page: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{page}api/v1/rules", timeout=2) as answer:  # noqa: S310 - our own page
                if json.load(answer)["newest"] == number:
                    return
        except OSError:
            pass  # it is busy; ask again
        time.sleep(0.1)
    raise Failed(f"The worker has not read revision {number} in {_PATIENCE:.0f} s.")


async def _publish(config: KafkaConfig, source: str, effective_from: Micros, reason: str) -> int:
    return (await publish(config, compile_source, partial(_next_entry, source, effective_from, reason))).number


def _next_entry(source: str, effective_from: Micros, reason: str, book: Rulebook) -> Entry:
    return Entry(
        number=book.last + 1,
        kind=EntryKind.LIVE,
        published_at=now(),
        author="demo",
        reason=reason,
        ruleset=compile_source(source).digest,
        source=source,
        based_on=book.last or None,
        effective_from=effective_from,
    )


def advice(config: KafkaConfig) -> str:
    """Say what to do with the held commands."""
    where = f"--brokers {','.join(config.brokers)}"
    if config.topic_prefix:
        where += f" --topic-prefix {config.topic_prefix}"
    return (
        f"the limit of {TRIGGER} holds its commands; in another terminal, `lapse held list {where}`, then "
        f"`lapse held discard --trigger {TRIGGER} {where}`, or `release`"
    )
