"""`lapse state` shows what the changelogs hold of a ticket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
from typer.testing import CliRunner

from streams.cli import app
from streams.core.model import Lapse, OrderKey, PendingRound, SessionRow, TicketRow
from streams.core.partitioning import partition_of
from streams.core.revisions import RULES_KEY, Entry, EntryKind, InUse, Stops
from streams.kafka.config import KafkaConfig
from streams.operate.rules_topic import publish
from streams.operate.state import read_state
from streams.rules.source import compile_source
from streams.wire.rows import MsgpackRows
from tests.worker.kit import config_for, producing, topics

AT = 1_772_359_200_000_000
TICKET = TicketRow({"status": "open", "tags": ["vip", "late"]}, OrderKey(AT, ("e-1",), 4), AT)
LAPSE = Lapse("s-1", AT, AT, 2, "active", None, "web", "user_inactive_or_offline", "web")
SESSION = SessionRow(
    "inactive", "user_inactive_or_offline", AT, "abc", "web", 2, OrderKey(AT), AT, LAPSE,
    (PendingRound(AT + 60_000_000, 60_000_000),), abandoned=(AT, "web"), outstanding=(("c-1", AT),),
)  # fmt: skip
CODEC = MsgpackRows()


async def written(config: KafkaConfig, rows: list[tuple[str, str, bytes | None, int]]) -> KafkaConfig:
    """Write rows given as (table, ticket id, row, partition)."""
    async with producing(config) as producer:
        for table, ticket_id, row, partition in rows:
            await producer.send_and_wait(config.changelog(table), row, ticket_id.encode(), partition=partition)
    return config


async def test_the_latest_rows_of_the_ticket_are_found_where_its_key_belongs(kafka: Any, topic_prefix: str) -> None:
    at = partition_of(b"51", 3)
    older, ticket = CODEC.encode_ticket(TicketRow({"status": "new"}, None, 1)), CODEC.encode_ticket(TICKET)
    config = await written(
        await topics(config_for(kafka, topic_prefix), 3),
        [
            ("tickets", "51", older, at),
            ("tickets", "52", older, at),
            ("tickets", "51", ticket, at),
            ("sessions", "51", CODEC.encode_session(SESSION), at),
        ],
    )
    [found] = await read_state(config, "51")
    assert (found.partition, found.expected_partition) == (at, at)
    assert (found.ticket, found.session) == (TICKET, SESSION)


async def test_a_row_that_was_deleted_is_gone(kafka: Any, topic_prefix: str) -> None:
    row = CODEC.encode_ticket(TICKET)
    config = await written(
        await topics(config_for(kafka, topic_prefix), 1), [("tickets", "51", row, 0), ("tickets", "51", None, 0)]
    )
    assert await read_state(config, "51") == []


def test_the_verb_tells_rows_rounds_and_a_partition_that_is_not_murmur2s(kafka: Any, topic_prefix: str) -> None:
    elsewhere = (partition_of(b"51", 2) + 1) % 2

    async def prepare() -> None:
        config = await topics(config_for(kafka, topic_prefix), 2)
        await written(config, [("sessions", "51", CODEC.encode_session(SESSION), elsewhere)])

    asyncio.run(prepare())
    where = ["--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix]
    told = CliRunner().invoke(app, ["state", "51", *where, "--json"])
    state = json.loads(told.stdout)
    assert (state["partition"], state["ticket"]) == (elsewhere, None)
    assert state["session"]["pending"] == [{"wait_ms": 60_000, "due": "2026-03-01T10:01:00Z", "parked_until": None}]
    assert "another partitioner" in told.stderr
    text = CliRunner().invoke(app, ["state", "51", *where]).stdout
    assert "state          inactive" in text
    assert "- wait_ms 60000, due 2026-03-01T10:01:00Z, parked_until -" in text
    nothing = CliRunner().invoke(app, ["state", "52", *where])
    assert (nothing.exit_code, nothing.stderr) == (
        1,
        f"lapse: no row of ticket 52 in {topic_prefix}lapse-tickets-changelog or "
        f"{topic_prefix}lapse-sessions-changelog\n",
    )


HOLDOUT = """\
holdout: {share: 12.5%, salt: "2026-q4"}
triggers:
  - id: note
    conditions: {all: [{field: status, operator: is, value: open}]}
    actions: [{field: add_tags, value: left}]
"""
GROUPS = {"51": "held_out", "52": "acted_on"}
"""By the first 8 bytes of SHA-256 over `2026-q4/51` (0.102 of 2^64) and `2026-q4/52` (0.945)."""


def test_the_verb_tells_held_commands_and_the_holdout_group_by_the_file(
    kafka: Any, topic_prefix: str, tmp_path: Path
) -> None:
    session = msgspec.structs.replace(SESSION, held=("c-7", "c-8"), holdout_group="acted_on")

    async def prepare() -> None:
        config = await topics(config_for(kafka, topic_prefix), 1)
        await written(config, [("sessions", ticket, CODEC.encode_session(session), 0) for ticket in GROUPS])

    asyncio.run(prepare())
    (tmp_path / "rules.yaml").write_text(HOLDOUT)
    where = ["--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix]
    for ticket, group in GROUPS.items():
        told = CliRunner().invoke(app, ["state", ticket, *where, "--triggers", str(tmp_path / "rules.yaml"), "--json"])
        state = json.loads(told.stdout)
        assert state["holdout"] == {"group": group, "share": "12.5%", "salt": "2026-q4", "revision": None}
        assert state["session"]["held_commands"] == ["c-7", "c-8"]
        assert state["session"]["holdout_group"] == "acted_on"
    text = CliRunner().invoke(app, ["state", "51", *where]).stdout
    assert "held_commands  c-7, c-8" in text
    assert "holdout    -" in text
    broken = CliRunner().invoke(app, ["state", "51", *where, "--triggers", str(tmp_path / "none.yaml")])
    assert broken.exit_code == 0
    assert "whether a holdout is set is not known" in broken.stderr


def test_the_verb_tells_the_holdout_group_by_the_revision_in_use(kafka: Any, topic_prefix: str) -> None:
    async def prepare() -> None:
        config = await topics(config_for(kafka, topic_prefix, rules="topic"), 1)
        entry = await publish(config, compile_source, lambda book: live(book.last + 1, HOLDOUT))
        await publish(config, compile_source, lambda book: live(book.last + 1, HOLDOUT.replace("12.5%", "0%")))
        row = InUse(1, entry.ruleset or "", 0, Stops(), 1, AT)
        async with producing(config) as producer:
            name = config.changelog("sessions")
            await producer.send_and_wait(name, CODEC.encode_rules(row), RULES_KEY, partition=0)
        await written(config, [("sessions", "51", CODEC.encode_session(SESSION), 0)])

    asyncio.run(prepare())
    where = ["--brokers", kafka.bootstrap, "--topic-prefix", topic_prefix, "--rules", "topic"]
    told = CliRunner().invoke(app, ["state", "51", *where, "--json"])
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.stdout)["holdout"] == {
        "group": "held_out",
        "share": "12.5%",
        "salt": "2026-q4",
        "revision": 1,
    }


def live(number: int, source: str) -> Entry:
    ruleset = compile_source(source)
    return Entry(
        number=number, kind=EntryKind.LIVE, published_at=AT, source=source, ruleset=ruleset.digest, effective_from=0
    )
