"""The embedded broker: serves, and leaves nothing behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.demo import broker as module
from streams.demo.broker import TOPIC_CONFIG, BrokerFailed, EmbeddedBroker

LONG_AGO = 1_600_000_000_000


async def test_it_keeps_old_records_and_hides_aborted_transactions():
    with EmbeddedBroker() as broker:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
        await admin.start()
        await admin.create_topics([NewTopic("t", 1, 1, topic_configs=TOPIC_CONFIG)])
        await admin.close()

        producer = AIOKafkaProducer(bootstrap_servers=broker.address, transactional_id="p")
        await producer.start()
        for value, commits in ((b"kept", True), (b"aborted", False), (b"kept too", True)):
            await producer.begin_transaction()
            await producer.send("t", value, b"k", timestamp_ms=LONG_AGO)
            await (producer.commit_transaction() if commits else producer.abort_transaction())
        await producer.stop()

        consumer = AIOKafkaConsumer(bootstrap_servers=broker.address, isolation_level="read_committed")
        await consumer.start()
        consumer.assign([TopicPartition("t", 0)])
        await consumer.seek_to_beginning()
        values = [(await consumer.getone()).value for _ in range(2)]
        await consumer.stop()
    assert values == [b"kept", b"kept too"]


def test_closing_ends_the_process_and_removes_its_data():
    broker = EmbeddedBroker().start()
    pid, folder = broker.pid, broker.folder
    assert psutil.pid_exists(pid)
    assert folder.is_dir()
    broker.close()
    broker.close()
    assert broker.pid is None
    assert not psutil.pid_exists(pid)
    assert not folder.exists()


def test_two_brokers_do_not_meet():
    with EmbeddedBroker() as one, EmbeddedBroker() as other:
        assert one.address != other.address


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel for it")
def test_it_dies_with_a_demo_that_is_killed():
    program = "from streams.demo.broker import EmbeddedBroker as B; b = B().start(); print(b.pid, b.folder); input()"
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid, folder = parent.stdout.readline().split()
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the broker outlives its demo"
        time.sleep(0.05)
    shutil.rmtree(folder)


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "noida_db", None)
    with pytest.raises(BrokerFailed, match=r"pip install 'lapse\[demo\]'.*--brokers"):
        EmbeddedBroker().start()


def test_a_program_that_ends_at_once_is_quoted(monkeypatch, tmp_path):
    program = tmp_path / "noida-db"
    program.write_text("#!/bin/sh\necho this machine has no such instruction >&2\nexit 132\n")
    program.chmod(0o755)
    monkeypatch.setattr(module, "_binary", lambda: program)
    broker = EmbeddedBroker()
    with pytest.raises(BrokerFailed, match="no such instruction"):
        broker.start()
    with pytest.raises(BrokerFailed):
        _ = broker.folder
