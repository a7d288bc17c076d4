"""Write one record to an input topic: `send.py TOPIC JSON`. The record happens now."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer


async def send(topic: str, members: str) -> None:
    """Write the record with its ticket id as key; the client's default partitioner is murmur2, like Java's."""
    record = {"occurred_at": datetime.now(UTC).isoformat(), **json.loads(members)}
    async with AIOKafkaProducer(bootstrap_servers=os.environ["LAPSE_BROKERS"]) as producer:
        await producer.send_and_wait(topic, json.dumps(record).encode(), key=record["ticket_id"].encode())


asyncio.run(send(*sys.argv[1:]))
