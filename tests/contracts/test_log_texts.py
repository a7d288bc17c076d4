"""What aiokafka, Faust and mode log at every stop and rebalance, in the words that our filter knows them by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import faust
import mode
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    IllegalGenerationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from faust.transport.consumer import Fetcher

from streams.telemetry.logs import configure_logging
from tests.telemetry.test_logs import events, logging_as_it_was, stream

__all__ = ["logging_as_it_was", "stream"]


class Member:
    """As much of a group coordinator as a heartbeat needs."""

    group_id, generation, member_id, coordinator_id = "lapse", 7, "worker-1", 1

    def __init__(self, error: type[Any]) -> None:
        self.error, self.rejoins = error, 0

    async def _send_req(self, _: Any) -> Any:
        return SimpleNamespace(error_code=self.error.errno)

    def request_rejoin(self) -> None:
        self.rejoins += 1

    reset_generation = request_rejoin


@pytest.mark.parametrize("error", [RebalanceInProgressError, IllegalGenerationError])
async def test_a_heartbeat_that_learns_of_a_rebalance_is_a_warning_of_aiokafka_and_expected(error, stream, listen):
    configure_logging(stream=stream)
    member, heard = Member(error), listen("aiokafka.consumer.group_coordinator")
    await GroupCoordinator._do_heartbeat(member)
    assert member.rejoins == 1
    assert heard.levels == ["WARNING"]
    assert events(stream) == []


async def test_a_heartbeat_of_a_member_that_was_taken_for_dead_is_not_expected(stream):
    configure_logging(stream=stream)
    await GroupCoordinator._do_heartbeat(Member(UnknownMemberIdError))
    assert [event["level"] for event in events(stream)] == ["warning"]


async def test_a_fetcher_that_is_cancelled_by_a_rebalance_reports_a_crash_and_that_is_expected(stream, listen):
    configure_logging(stream=stream)
    heard = listen("faust.transport.consumer")
    fetcher = Fetcher(_app())
    try:
        raise asyncio.CancelledError
    except asyncio.CancelledError as error:
        await mode.Service.crash(fetcher, error)
    assert heard.levels == ["ERROR"]
    assert events(stream) == []


async def test_a_fetcher_that_crashes_for_any_other_reason_islisten(stream):
    configure_logging(stream=stream)
    fetcher = Fetcher(_app())
    try:
        raise OSError("no route to host")
    except OSError as error:
        await mode.Service.crash(fetcher, error)
    (event,) = events(stream)
    assert "Crashed reason=OSError('no route to host')" in event["event"]
    assert event["level"] == "error"


async def test_an_app_without_sensors_misses_their_state_at_every_rebalance_and_that_is_expected(stream, listen):
    configure_logging(stream=stream)
    app = _app()
    heard = listen(app.log.logger.name)
    app._rebalancing_sensor_state = None
    app.on_rebalance_return()
    app.on_rebalance_end()
    assert heard.levels == ["WARNING", "WARNING"]
    assert events(stream) == []


async def test_at_debug_all_of_it_is_shown(stream):
    configure_logging(level="debug", stream=stream)
    await GroupCoordinator._do_heartbeat(Member(RebalanceInProgressError))
    assert "rebalancing" in events(stream)[0]["event"]


def _app() -> Any:
    return faust.App("contract", broker="kafka://127.0.0.1:1", loop=asyncio.get_running_loop())


class Ear(logging.Handler):
    """Keeps what a library logs, whatever becomes of it."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.levels.append(record.levelname)


@pytest.fixture
def listen() -> Iterator[Callable[[str], Ear]]:
    """Attach an ear to a logger for the time of a test."""
    attached: list[tuple[logging.Logger, Ear]] = []

    def attach(name: str) -> Ear:
        attached.append((logging.getLogger(name), Ear()))
        attached[-1][0].addHandler(attached[-1][1])
        return attached[-1][1]

    yield attach
    for logger, ear in attached:
        logger.removeHandler(ear)
