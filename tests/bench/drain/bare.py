"""A reference without a framework: aiokafka, batch by batch, transactions, decoded rows in dicts, no merging by time.

What it leaves out (order by time, timers, checks, dead letters, restore) is what it is faster by. Arguments by
environment as for `faust_app`; prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from typing import Any

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

PREFIX, COUNT = os.environ["DRAIN_PREFIX"], int(os.environ["DRAIN_RECORDS"])
PARTITIONS, APP_ID = int(os.environ["DRAIN_PARTITIONS"]), os.environ["DRAIN_APP_ID"]
BROKERS = os.environ["DRAIN_BROKERS"]
TICKETS, SESSIONS = f"{PREFIX}ticket-updates", f"{PREFIX}session-states"


async def main() -> None:
    """Drain the inputs."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=BROKERS, isolation_level="read_committed", auto_offset_reset="earliest", fetch_max_wait_ms=25
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=BROKERS, transactional_id=f"{APP_ID}-0", max_batch_size=512 << 10, max_request_size=8 << 20
    )
    producer._sender._retry_backoff = 0.005
    tps = [TopicPartition(topic, number) for topic in (TICKETS, SESSIONS) for number in range(PARTITIONS)]
    tickets: dict[bytes, dict[str, Any]] = {}
    sessions: dict[bytes, str] = {}
    async with consumer, producer:
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        done, sent_commands, began, cpu = 0, 0, 0.0, 0.0
        while done < COUNT:
            fetched = await consumer.getmany(timeout_ms=1000)
            if not began:
                began, cpu = time.perf_counter(), _cpu()
            outputs: dict[tuple[str, int], list[tuple[bytes, bytes]]] = {}
            for tp, records in fetched.items():
                rows: dict[bytes, bytes] = {}
                found = outputs.setdefault((f"{PREFIX}bare-commands", tp.partition), [])
                for record in records:
                    body = orjson.loads(record.value)
                    if tp.topic == TICKETS:
                        row = tickets.setdefault(record.key, {})
                        row.update(body["ticket"])
                    else:
                        before = sessions.get(record.key)
                        row = sessions[record.key] = body["state"]
                        ticket = tickets.get(record.key)
                        if row == "inactive" and before != "inactive" and ticket and ticket["status"] == "open":
                            found.append((record.key, b'{"actions":[{"field":"status","value":"solved"}]}'))
                    rows[record.key] = orjson.dumps(row)
                outputs[f"{PREFIX}bare-changelog", tp.partition] = [
                    *outputs.get((f"{PREFIX}bare-changelog", tp.partition), ()),
                    *rows.items(),
                ]
                done += len(records)
                sent_commands += len(found)
            if fetched:
                await _commit(producer, outputs, {tp: found[-1].offset + 1 for tp, found in fetched.items()})
        out = {"records": done, "seconds": time.perf_counter() - began, "cpu": _cpu() - cpu, "commands": sent_commands}
    print(json.dumps(out), flush=True)


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
        await producer.send_offsets_to_transaction(offsets, APP_ID)
        await asyncio.gather(*sent)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
