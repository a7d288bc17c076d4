"""The fixtures that bring a real Apache Kafka into a test; `tests/conftest.py` registers them."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterator

import pytest

from tests.kafka_kit.broker import Broker
from tests.kafka_kit.distribution import find_java


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """One real broker for the whole session. Skips where Java is missing, but never in CI."""
    require_java()
    with Broker() as broker:
        yield broker


@pytest.fixture
def topic_prefix() -> str:
    """A prefix no other test has, for topics, groups and transactional ids on the shared broker."""
    return f"t{uuid.uuid4().hex[:8]}-"


def require_java() -> None:
    """Skip the test, aloud, when no Java is there; fail it when `CI` is set."""
    if find_java() is not None:
        return
    message = "No Java: the tests on a real Apache Kafka did NOT run. Install Java 17 and Maven to run them."
    if os.environ.get("CI"):
        pytest.fail(message)
    warnings.warn(message, stacklevel=2)
    pytest.skip(message)
