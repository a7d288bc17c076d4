"""Brokers that are not there."""

from __future__ import annotations

import io
import socket

import pytest

from streams.core.errors import Failed
from streams.core.model import SECOND
from streams.kafka.brokers import admin_client
from streams.kafka.config import KafkaConfig
from streams.telemetry.logs import configure_logging


@pytest.fixture
def nowhere() -> str:
    """An address on the loopback that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


async def test_a_broker_that_is_not_there_is_told_of_once_and_not_at_every_try(nowhere: str):
    stream = io.StringIO()
    configure_logging(format="text", stream=stream)
    with pytest.raises(Failed, match=f"Can't connect: {nowhere}: nothing listens on that port.* Tried for 2 s"):
        async with admin_client(KafkaConfig(brokers=(nowhere,), broker_patience=2 * SECOND)):
            pass
    lines = stream.getvalue().splitlines()
    (ours,) = [line for line in lines if "streams.kafka.brokers" in line]
    assert (
        f"Can't connect: {nowhere}: nothing listens on that port. "
        "The setting is `brokers` (--brokers, LAPSE_BROKERS). Trying again for 2 s" in ours
    )
    (theirs,) = [line for line in lines if "[aiokafka" in line]
    assert nowhere in theirs, "aiokafka says which, and why"
    assert "AddressFamily" not in stream.getvalue()
