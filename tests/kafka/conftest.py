"""A broker for each of the two transaction protocols."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kafka_kit.broker import Broker
from tests.kafka_kit.fixtures import require_java


@pytest.fixture(scope="package")
def classic_kafka() -> Iterator[Broker]:
    """A broker whose transactions are as they were before KIP-890."""
    require_java()
    with Broker(features={"transaction.version": 1}) as broker:
        yield broker


@pytest.fixture(params=["classic", "implicit"])
def either_kafka(request: pytest.FixtureRequest) -> Broker:
    """Brokers of the one and the other protocol, one after the other."""
    broker: Broker = request.getfixturevalue("classic_kafka" if request.param == "classic" else "kafka")
    return broker
