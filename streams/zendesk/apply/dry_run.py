"""`lapse apply --dry-run`: says what would be sent for the commands that wait, and sends and commits nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from aiokafka import ConsumerRecord, TopicPartition

from streams.core.names import Output
from streams.kafka.brokers import admin_client, partitions_of, patiently, plain_consumer
from streams.kafka.bulk import read_to_ends
from streams.zendesk.apply.carry import Carrier
from streams.zendesk.apply.client import Zendesk
from streams.zendesk.apply.config import ApplyConfig
from streams.zendesk.apply.gate import Gate
from streams.zendesk.apply.pace import Pace
from streams.zendesk.apply.partition import done_ahead
from streams.zendesk.apply.pause import PauseReader
from streams.zendesk.apply.plan import NotACommandError, Send, age_counts_from, decode_command
from streams.zendesk.apply.service import ApplyOptions, Follower, limits_of
from streams.zendesk.apply.work import Work

Show = Callable[[Mapping[str, Any]], None]
"""Takes what would become of one command."""


def dry_run(config: ApplyConfig, options: ApplyOptions, show: Show) -> None:
    """Say for each command that waits what would be sent for it, partition by partition in offset order.

    Tickets are read as they are now: a second command for a ticket is judged without what the first would change.
    Raises `Refused` when settings or topics will not do, `Failed` when brokers or Zendesk answer with what stops all.
    """
    asyncio.run(_dry_run(config, options, show))


async def _dry_run(config: ApplyConfig, options: ApplyOptions, show: Show) -> None:
    await limits_of(config)
    gate = Gate()
    followers: list[Follower] = [PauseReader(config, lambda said: gate.pause(said.paused))]
    if options.stops is not None:
        followers.append(options.stops(gate.stop))
    pace = Pace(options.updates_per_minute)
    try:
        for follower in followers:
            await follower.start()
        gate.ready()
        async with Zendesk(options.account, pace) as zendesk:
            await zendesk.sign_in()
            carrier = Carrier(zendesk, pace, gate, max_age=options.max_age, command_field=options.command_field)
            for record in await _waiting(config):
                place = {"partition": record.partition, "offset": record.offset}
                show(place | await _told(record, carrier, gate))
    finally:
        await asyncio.gather(*(follower.stop() for follower in followers))


async def _waiting(config: ApplyConfig) -> list[ConsumerRecord]:
    """Return the records after what the group has committed, without those that have ended out of turn."""
    name = config.topic(Output.COMMANDS)
    async with admin_client(config) as admin:
        committed = await patiently(
            "Can't read the group's offsets", config, partial(admin.list_consumer_group_offsets, config.group)
        )
    found: list[ConsumerRecord] = []

    def after(tp: TopicPartition, records: list[ConsumerRecord]) -> Iterator[ConsumerRecord]:
        at = committed.get(tp)
        if at is None:
            yield from records
            return
        ended = done_ahead(at.metadata or "", at.offset)
        yield from (record for record in records if record.offset >= at.offset and record.offset not in ended)

    async with plain_consumer(config) as consumer:
        tps = [TopicPartition(name, number) for number in await partitions_of(config, consumer, name)]
        await read_to_ends(config, consumer, tps, lambda tp, records: found.extend(after(tp, records)))
    return sorted(found, key=lambda record: (record.partition, record.offset))


async def _told(record: ConsumerRecord, carrier: Carrier, gate: Gate) -> dict[str, Any]:
    try:
        command = decode_command(record.value)
    except NotACommandError as error:
        return {"would": "invalid", "why": str(error)}
    told: dict[str, Any] = {"command_id": command.command_id, "ticket_id": command.ticket_id}
    if gate.holds(command):
        return told | {"would": "wait", "why": "paused" if gate.paused else "stopped"}
    work = Work(command=command, counted_from=age_counts_from(command, record.headers or ()))
    if carrier.seconds_left(work) <= 0:
        return told | {"would": "expired", "why": "it is older than apply_max_age"}
    # A process may have sent it and ended before it could say so.
    made = await carrier.reader.applied_before(command) or await carrier.prepare(work)
    if isinstance(made, Send):
        request = {
            "method": "PUT",
            "path": f"/api/v2/tickets/{command.ticket_id}.json",
            "body": {"ticket": made.ticket},
        }
        return told | {"would": "update", "request": request, "not_done": list(made.not_done)}
    if made is None:
        return told | {"would": "wait", "why": "it became too old, or was held, while its ticket was read"}
    return told | {"would": made.result.value, "status": made.status, "why": made.why}
