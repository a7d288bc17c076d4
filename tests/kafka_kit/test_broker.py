"""The broker kit keeps its own promises: data and port outlive a stop, a kill and a freeze; close leaves nothing."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.kafka_kit import Broker, KafkaKitError
from tests.kafka_kit.fixtures import require_java

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


async def _write(broker: Broker, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=topic) as producer:
        async with producer.transaction():
            await producer.send_and_wait(topic, value, partition=0)


async def _read(broker: Broker, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    async with consumer, asyncio.timeout(20):
        return [(await consumer.getone()).value for _ in range(count)]


async def test_data_and_port_outlive_a_stop_a_kill_and_a_freeze():
    require_java()
    with Broker() as broker:
        where, seen = broker.bootstrap, []
        admin = AIOKafkaAdminClient(bootstrap_servers=where)
        await admin.start()
        await admin.create_topics([NewTopic("t", 1, 1)])
        await admin.close()
        for value, restart in ((b"1", broker.stop), (b"2", broker.kill), (b"3", None)):
            await _write(broker, "t", value)
            seen.append(value)
            await asyncio.sleep(0.5)  # see Broker.lost_markers
            if restart is not None:
                restart()
                assert broker.pid is None
                broker.start()
            else:
                broker.pause()
                broker.resume()
            assert broker.bootstrap == where
            assert await _read(broker, "t", len(seen)) == seen
        assert broker.lost_markers == 0
    assert broker.pid is None
    assert not broker.log.parent.exists()


async def test_settings_go_over_the_defaults_and_a_bad_one_is_told():
    require_java()
    with pytest.raises(KafkaKitError, match=r"num\.network\.threads"), Broker({"num.network.threads": "none"}):
        pass
