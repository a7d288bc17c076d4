"""The proxy changes nothing that it is not told to change, and does to a request exactly what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from tests.kafka_kit import topics
from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java
from tests.kafka_kit.proxy import (
    TRANSACTIONAL,
    Api,
    CutAfter,
    CutBefore,
    Delay,
    Drop,
    Duplicate,
    Exchange,
    Fault,
    Hold,
    Match,
    Proxy,
    Swallow,
)
from tests.system.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

_NOT_YET = {14, 15, 16, 51}
"""A coordinator that is loading, not there, elsewhere, or still ends the transaction before: asked again."""

FAULTS: dict[str, tuple[Fault, bool, bool]] = {
    "delay": (Delay(0.3), True, True),
    "delay the answer": (Delay(0.3, answer=True), True, True),
    "cut before": (CutBefore(), False, False),
    "cut after": (CutAfter(), True, False),
    "swallow": (Swallow(), True, False),
    "swallow and cut": (Swallow(cut_after=0.2), True, False),
    "hold": (Hold(0.0), True, False),
    "duplicate": (Duplicate(), True, True),
}
"""What is done; whether the broker gets the request; whether the client gets the answer."""


@pytest.fixture(scope="module")
def proxied() -> Iterator[Broker]:
    """A broker with a listener behind a proxy, and transactions as aiokafka knows them."""
    require_java()
    with Broker(proxied=1, features={"transaction.version": 1}) as broker:
        yield broker


@pytest.fixture
async def proxy(proxied: Broker) -> AsyncIterator[Proxy]:
    async with Proxy(proxied) as made:
        yield made


@pytest.fixture
async def topic(proxied: Broker, topic_prefix: str) -> str:
    await topics.create(proxied.bootstrap, [f"{topic_prefix}t"], 1)
    return f"{topic_prefix}t"


def _producer(proxy: Proxy, transactional_id: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        bootstrap_servers=proxy.bootstrap,
        client_id="tested",
        transactional_id=transactional_id,
        request_timeout_ms=1_000,
        retry_backoff_ms=20,
    )


async def _transaction(producer: AIOKafkaProducer, topic: str, value: bytes) -> None:
    async with producer.transaction():
        await producer.send_and_wait(topic, value, partition=0)
        await producer.send_offsets_to_transaction(
            {TopicPartition(topic, 0): OffsetAndMetadata(int(value), "")}, f"{topic}-group"
        )


async def _values(broker: Broker, topic: str, count: int) -> list[bytes]:
    """All values of a topic once there are so many: markers are written after the end of a transaction is answered."""
    async with asyncio.timeout(30):
        while True:
            values = [record.value for record in await topics.read(broker.bootstrap, topic, 1)]
            if len(values) >= count:
                return values


async def test_what_passes_is_unchanged_and_journaled(proxied, proxy, topic):
    async with _producer(proxy, topic) as producer:
        for number in range(3):
            await _transaction(producer, topic, b"%d" % number)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=proxy.bootstrap,
        client_id="reader",
        group_id=f"{topic}-readers",
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with consumer, asyncio.timeout(20):
        assert [(await consumer.getone()).value for _ in range(3)] == [b"0", b"1", b"2"]
    assert proxy.unread == {}
    assert all(exchange.frame == b"" for exchange in proxy.journal), "bytes are kept no longer than they are needed"
    for api in TRANSACTIONAL:
        found = proxy.find(Match(api, transactional_id=topic))
        assert len(found) >= (1 if api is Api.INIT_PRODUCER_ID else 3), f"{api.name} is missing in the journal"
        for exchange in found:
            assert exchange.request.client_id == "tested"
            assert exchange.arrived <= exchange.forwarded <= exchange.answered <= exchange.delivered
            assert set(exchange.errors) <= _NOT_YET
    produced = [exchange.request for exchange in proxy.find(Match(Api.PRODUCE, topic=topic))]
    assert [request.records for request in produced] == [1, 1, 1]
    (producer_id,) = {request.producer_id for request in produced}
    ended = [exchange.request for exchange in proxy.find(Match(Api.END_TXN))]
    assert {(end.producer_id, end.epoch, end.committed) for end in ended} == {(producer_id, 0, True)}
    commits = proxy.find(Match(Api.TXN_OFFSET_COMMIT, group=f"{topic}-group"))
    taken = [exchange.request.offsets for exchange in commits if not exchange.errors]
    assert taken == [{(topic, 0): number} for number in range(3)]
    assert proxy.find(Match(Api.FETCH, client_id="reader", topic=topic))
    for api in (Api.JOIN_GROUP, Api.SYNC_GROUP, Api.LEAVE_GROUP):
        assert proxy.find(Match(api, group=f"{topic}-readers")), api
    assert proxy.requests["EndTxn"] == len(ended) == 3
    assert proxy.connections == len({exchange.connection for exchange in proxy.journal})


@pytest.mark.parametrize("api", TRANSACTIONAL, ids=lambda api: api.name.lower())
@pytest.mark.parametrize("case", FAULTS)
async def test_each_fault_does_to_a_request_what_it_says(proxied, proxy, topic, api, case):
    fault, forwarded, delivered = FAULTS[case]
    injection = proxy.inject(Match(api, transactional_id=topic), fault)
    producer = _producer(proxy, topic)

    async def use() -> None:
        await producer.start()
        await _transaction(producer, topic, b"1")

    def copies() -> list[Exchange]:
        return [exchange for exchange in proxy.journal if exchange.fault.startswith("copy of")]

    task = asyncio.ensure_future(use())
    try:
        await eventually(lambda: injection.done, 20, "the fault")
        (hit,) = injection.hits
        await eventually(lambda: not forwarded or hit.answered is not None, 5, "the broker's answer")
        await eventually(lambda: not delivered or hit.delivered is not None, 5, "the answer to the client")
        if isinstance(fault, Duplicate):
            await eventually(lambda: all(copy.answered is not None for copy in copies()), 5, "the copy's answer")
        elif not isinstance(fault, Hold):  # what a client makes of those two is the client's matter
            await asyncio.wait_for(task, 10)
            assert await _values(proxied, topic, 1) == [b"1"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(producer.stop(), return_exceptions=True)
    assert hit.fault == str(fault)
    assert (hit.forwarded is not None) == forwarded
    assert (hit.delivered is not None) == delivered
    if isinstance(fault, Delay):
        late = hit.delivered - hit.answered if fault.answer else hit.forwarded - hit.arrived
        assert late >= 0.3
    if isinstance(fault, Swallow) and fault.cut_after is None:
        later = proxy.find(lambda exchange: exchange.connection == hit.connection, since=hit.arrived)
        assert all(exchange.delivered is None for exchange in later), "an answer came after one that was swallowed"
    assert [copy.request for copy in copies()] == [hit.request] * isinstance(fault, Duplicate)


async def test_a_held_commit_lands_in_the_next_transaction_at_the_chosen_moment(proxied, proxy, topic):
    # The hole that the proxy is there to show: with one epoch for both transactions the broker can't tell them apart.
    async with _producer(proxy, topic) as producer:
        await _transaction(producer, topic, b"1")
        commits = Match(Api.END_TXN, transactional_id=topic)
        held = proxy.inject(commits, Hold(lambda: proxy.next(Match(Api.PRODUCE, transactional_id=topic), "answered")))
        await _transaction(producer, topic, b"2")
        (late,) = held.hits
        assert late.forwarded is None, "the client's second request ended the transaction"
        ended = proxy.next(lambda exchange: exchange is late)
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"3", partition=0)
        await asyncio.wait_for(ended, 5)
        assert late.errors == ()
        assert await _values(proxied, topic, 3) == [b"1", b"2", b"3"], "a transaction that nobody has committed"


async def test_a_gate_opens_on_an_event_and_skip_and_times_count(proxied, proxy, topic):
    async with _producer(proxy, topic) as producer:
        gate = asyncio.Event()
        gated = proxy.inject(Match(Api.PRODUCE, transactional_id=topic), Delay(gate.wait), skip=1, times=2)
        await _transaction(producer, topic, b"1")
        assert gated.hits == []
        task = asyncio.ensure_future(_transaction(producer, topic, b"2"))
        hit = await asyncio.wait_for(proxy.next(lambda exchange: exchange in gated.hits, "arrived"), 5)
        assert hit.forwarded is None
        assert not task.done()
        gate.set()
        await asyncio.wait_for(task, 5)
        await _transaction(producer, topic, b"3")
        await _transaction(producer, topic, b"4")
        assert len(gated.hits) == 2
        assert gated.done


async def test_connections_are_counted_and_ended_while_the_broker_is_away(topic_prefix):
    require_java()
    with Broker(proxied=1) as broker:
        async with Proxy(broker) as proxy:
            consumer = AIOKafkaConsumer(bootstrap_servers=proxy.bootstrap)
            async with consumer:
                await consumer.topics()
            assert proxy.connections > 0
            broker.stop()
            before = proxy.connections
            reader, _ = await asyncio.open_connection("127.0.0.1", broker.proxied[0].advertised)
            with pytest.raises(asyncio.IncompleteReadError):
                await asyncio.wait_for(reader.readexactly(1), 20)
            assert proxy.connections == before + 1
            broker.start()
            async with AIOKafkaConsumer(bootstrap_servers=proxy.bootstrap) as again:
                await again.topics()


async def test_the_journal_is_written_a_line_a_request(proxied, proxy, topic, tmp_path):
    async with _producer(proxy, topic) as producer:
        proxy.inject(Match(Api.END_TXN), CutAfter())
        await _transaction(producer, topic, b"1")
    proxy.write_journal(tmp_path / "journal")
    lines = (tmp_path / "journal").read_text().splitlines()
    assert len(lines) == len(proxy.find(Match(*TRANSACTIONAL)))
    (cut,) = [line for line in lines if "fault=CutAfter" in line]
    assert "EndTxn" in cut
    assert f"txn={topic}" in cut
    assert "delivered -" in cut


async def test_all_connections_can_be_cut_at_once(proxied, proxy, topic):
    async with _producer(proxy, topic) as producer:
        await _transaction(producer, topic, b"1")
        exchange: Exchange = proxy.journal[-1]
        proxy.cut_all()
        await _transaction(producer, topic, b"2")
        assert proxy.journal[-1].connection > exchange.connection
    assert await _values(proxied, topic, 2) == [b"1", b"2"]


async def test_a_proxy_that_is_away_refuses_connections_and_comes_back_at_the_same_port(proxied, proxy, topic):
    async with _producer(proxy, topic) as producer:
        await _transaction(producer, topic, b"1")
        await proxy.go_away()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxied.proxied[0].advertised)
        await proxy.come_back()
        await _transaction(producer, topic, b"2")


async def test_a_dropped_request_gets_no_further_and_its_connection_stays(proxied, proxy, topic):
    producer = _producer(proxy, topic)
    await producer.start()
    dropped = proxy.inject(Match(Api.PRODUCE, transactional_id=topic), Drop())
    await producer.begin_transaction()
    task = asyncio.ensure_future(producer.send_and_wait(topic, b"1", partition=0))
    await asyncio.wait_for(proxy.next(lambda exchange: exchange in dropped.hits, "arrived"), 5)
    await asyncio.wait_for(proxy.next(Match(Api.PRODUCE), "answered"), 5)  # the client gave up and asked again
    assert dropped.hits[0].forwarded is None
    await asyncio.wait_for(task, 5)
    await producer.commit_transaction()
    await producer.stop()
    assert await _values(proxied, topic, 1) == [b"1"]
