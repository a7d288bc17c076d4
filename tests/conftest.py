"""What all tests share: the real broker, and the flag for the long runs."""

from __future__ import annotations

import pytest

from tests.kafka_kit.fixtures import kafka, topic_prefix

__all__ = ["kafka", "topic_prefix"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long version of the system tests (about half an hour)")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the long version was asked for."""
    return bool(request.config.getoption("--long"))
