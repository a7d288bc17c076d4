"""Apply commands to a helpdesk: each one once, none over newer work, and each one answered.

`desk` stands for your helpdesk's API:

- `await desk.read(ticket_id)` returns `{"fields": {...}, "updated_at": "...", "applied": [command ids]}`, or None when
  there is no such ticket. `fields` has the members that a ticket update has under `ticket`.
- `await desk.update(command, unless_changed_since)` carries out all actions of the command as one update, records its
  `command_id` with the ticket in that same update, and returns the ticket as `read` does. It raises an error when the
  ticket has been changed since; the command is not committed then, and comes again after a restart.
"""

import json

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def apply_commands(brokers, desk, commands="action-commands", updates="ticket-updates", group="apply-commands"):
    """Apply commands until cancelled."""
    options = {"isolation_level": "read_committed", "auto_offset_reset": "earliest", "enable_auto_commit": False}
    consumer = AIOKafkaConsumer(commands, bootstrap_servers=brokers, group_id=group, **options)
    async with consumer, AIOKafkaProducer(bootstrap_servers=brokers, acks="all") as producer:
        async for record in consumer:
            command = json.loads(record.value)
            ticket = await desk.read(command["ticket_id"])
            if ticket and command["command_id"] not in ticket["applied"]:
                ticket = await desk.update(command, ticket["updated_at"]) if _is_as_expected(command, ticket) else None
            if ticket:  # also when it had been applied before: the answer may have been lost with the last process
                await producer.send_and_wait(updates, _answer(command, ticket), key=record.key)
            await consumer.commit()


def _is_as_expected(command, ticket):
    expected = {name: value for name, value in command["expected"].items() if name != "updated_at"}
    return all(_value(ticket["fields"], name) == value for name, value in expected.items())


def _value(fields, name):
    custom = name.removeprefix("custom_fields_")
    value = fields.get(name) if custom == name else fields.get("custom_fields", {}).get(custom)
    return sorted(value) if name == "tags" else value


def _answer(command, ticket):
    answer = {name: command[name] for name in ("ticket_id", "command_id")}
    answer |= {"event_id": f"applied-{command['command_id']}", "occurred_at": ticket["updated_at"]}
    return json.dumps({**answer, "ticket": ticket["fields"]}).encode()
