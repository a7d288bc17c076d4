"""Print every command, from the first one on."""

import asyncio
import json
import os

from aiokafka import AIOKafkaConsumer


async def watch(brokers: str) -> None:
    """Read `read_committed`: what an aborted transaction wrote is not a command."""
    options = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
    async with AIOKafkaConsumer("action-commands", bootstrap_servers=brokers, group_id="watch", **options) as commands:
        async for record in commands:
            command = json.loads(record.value)
            print(command["ticket_id"], command["actions"], command["command_id"], flush=True)


asyncio.run(watch(os.environ["LAPSE_BROKERS"]))
