"""A reference without a framework: aiokafka, batch by batch, transactions, decoded rows in dicts, no merging by time.

What it leaves out (order by time, timers, checks, dead letters, restore) is what it is faster by. Its orders come by
environment: BENCH_BROKERS, BENCH_PREFIX, BENCH_GROUP, BENCH_COMMANDS, BENCH_PARTITIONS. Runs until SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.bench.peers.recipes import merged, take_session

BROKERS, PREFIX, GROUP = os.environ["BENCH_BROKERS"], os.environ["BENCH_PREFIX"], os.environ["BENCH_GROUP"]
COMMANDS, PARTITIONS = os.environ["BENCH_COMMANDS"], int(os.environ["BENCH_PARTITIONS"])
TICKETS, SESSIONS = f"{PREFIX}ticket-updates", f"{PREFIX}session-states"


async def main() -> None:
    """Drain the inputs."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=BROKERS, isolation_level="read_committed", auto_offset_reset="earliest", fetch_max_wait_ms=25
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=BROKERS, transactional_id=f"{GROUP}-0", max_batch_size=512 << 10, max_request_size=8 << 20
    )
    producer._sender._retry_backoff = 0.005
    tps = [TopicPartition(topic, number) for topic in (TICKETS, SESSIONS) for number in range(PARTITIONS)]
    tickets: dict[bytes, dict[str, Any]] = {}
    sessions: dict[bytes, dict[str, Any]] = {}
    async with consumer, producer:
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        while True:
            fetched = await consumer.getmany(timeout_ms=1000)
            outputs: dict[tuple[str, int], list[tuple[bytes, bytes]]] = {}
            # Tickets first: without them the sessions of a backlog find nothing to decide about.
            for tp, records in sorted(fetched.items(), key=lambda each: each[0].topic == SESSIONS):
                rows: dict[bytes, bytes] = {}
                commands = outputs.setdefault((COMMANDS, tp.partition), [])
                for record in records:
                    key, body = record.key, orjson.loads(record.value)
                    if tp.topic == TICKETS:
                        row = tickets[key] = merged(tickets.get(key), body["ticket"])
                    else:
                        row, command = take_session(body["ticket_id"], sessions.get(key), body, tickets.get(key))
                        sessions[key] = row
                        if command is not None:
                            commands.append((key, orjson.dumps(command)))
                    rows[key] = orjson.dumps(row)
                outputs.setdefault((f"{COMMANDS}-changelog", tp.partition), []).extend(rows.items())
            if fetched:
                await _commit(producer, outputs, {tp: found[-1].offset + 1 for tp, found in fetched.items()})


async def _commit(
    producer: AIOKafkaProducer,
    outputs: dict[tuple[str, int], list[tuple[bytes, bytes]]],
    offsets: dict[TopicPartition, int],
) -> None:
    async with producer.transaction():
        sent = []
        for (topic, partition), pairs in outputs.items():
            batch = producer.create_batch()
            for key, value in pairs:
                if batch.append(timestamp=None, key=key, value=value) is None:
                    sent.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    batch.append(timestamp=None, key=key, value=value)
            if pairs:
                sent.append(await producer.send_batch(batch, topic, partition=partition))
        await producer.send_offsets_to_transaction(offsets, GROUP)
        await asyncio.gather(*sent)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
