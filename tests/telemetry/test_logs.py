"""Log lines as they reach the stream."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections import namedtuple
from types import SimpleNamespace

import mode
import pytest
import structlog
from aiokafka.structs import ConsumerRecord, TopicPartition

from streams.core.model import TicketUpdate
from streams.telemetry.logs import LIBRARIES, RateLimit, configure_logging, logging_config, say

CANARY = "canary-4711"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was():
    root, level, handlers = logging.root, logging.root.level, list(logging.root.handlers)
    levels = {library: logging.getLogger(library).level for library in LIBRARIES}
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    for library, old in levels.items():
        logging.getLogger(library).setLevel(old)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def events(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def a_record(value: bytes) -> ConsumerRecord:
    return ConsumerRecord("ticket-updates", 3, 41, 0, 0, b"key", value, None, 3, len(value), ())


def test_an_event_is_one_line_of_json_where_there_is_no_terminal(stream):
    configure_logging(stream=stream)
    structlog.get_logger("streams.test").info("partition ready", partition=3, rows=12)
    (event,) = events(stream)
    assert list(event)[:4] == ["ts", "level", "event", "logger"]
    assert event["event"] == "partition ready"
    assert (event["level"], event["logger"], event["partition"], event["rows"]) == ("info", "streams.test", 3, 12)
    assert event["ts"].endswith("Z")


def test_an_event_is_text_with_colours_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    configure_logging(stream=terminal)
    structlog.get_logger("streams.test").info("partition ready", partition=3)
    assert "partition ready" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_no_color_is_heeded(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    configure_logging(stream=terminal)
    structlog.get_logger("streams.test").warning("partition ready")
    assert "\x1b[" not in terminal.getvalue()


@pytest.mark.parametrize(("format", "terminal", "is_json"), [("json", True, True), ("text", False, False)])
def test_the_format_can_be_set(format, terminal, is_json):
    stream = Terminal() if terminal else io.StringIO()
    configure_logging(format=format, stream=stream)
    structlog.get_logger("streams.test").info("partition ready")
    assert stream.getvalue().startswith("{") == is_json


def test_standard_error_is_the_default(capsys):
    configure_logging()
    structlog.get_logger("streams.test").info("partition ready")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "partition ready"


def test_the_libraries_log_through_the_same_handler(stream):
    configure_logging(stream=stream)
    logging.getLogger("aiokafka.client").warning("Topic %s is not available", "ticket-updates")
    warnings.warn("old setting", RuntimeWarning, stacklevel=1)
    topic, warning = events(stream)
    assert topic["event"] == "Topic ticket-updates is not available"
    assert (topic["level"], topic["logger"]) == ("warning", "aiokafka.client")
    assert "old setting" in warning["event"]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("level", "heard"),
    [("debug", ["INFO", "WARNING", "ERROR"]), ("info", ["WARNING", "ERROR"]), ("error", ["ERROR"])],
)
def test_the_libraries_are_one_level_quieter_than_we_are(stream, library, level, heard):
    configure_logging(level=level, stream=stream)
    for name in ("DEBUG", "INFO", "WARNING", "ERROR"):
        logging.getLogger(f"{library}.some.part").log(getattr(logging, name), "%s line", name)
    assert [event["event"] for event in events(stream)] == [f"{name} line" for name in heard]


async def test_a_service_of_ours_does_not_chatter_in_our_name(stream):
    class Watch(mode.Service):
        async def on_start(self) -> None:
            self.log.info("on its way")
            self.log.warning("in trouble")

    configure_logging(stream=stream)
    service = Watch()
    await service.start()
    await service.stop()
    assert [event["event"].split("]: ")[1] for event in events(stream)] == ["in trouble"]
    assert not events(stream)[0]["logger"].startswith("mode")


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("terminal", [True, False])
def test_the_body_of_a_record_is_never_logged(format, terminal):
    stream = Terminal() if terminal else io.StringIO()
    configure_logging(level="debug", format=format, stream=stream)
    body = CANARY.encode()
    record = a_record(body)
    update = TicketUpdate("1", "e", 0, 0, {"subject": CANARY})
    event = SimpleNamespace(message=record, value=body)
    ours, theirs = structlog.get_logger("streams.test"), logging.getLogger("faust.streams")
    nested = {"batch": (record, update), record.offset: [event]}
    for n, value in enumerate((body, bytearray(body), record, event, update, [record], nested)):
        ours.warning(f"ours {n}", value=value)
        theirs.warning(f"theirs {n} %r", value)
        theirs.error(f"both {n} %r %s", 1, value)
    logging.getLogger("aiokafka.conn").debug("Request %s", CANARY)
    try:
        local = record.value.decode()
        raise LookupError("no row for it")
    except LookupError:
        assert local
        ours.exception("step failed")
        theirs.exception("agent crashed")
    text = stream.getvalue()
    assert "LookupError: no row for it" in text
    assert "<record ticket-updates/3/41>" in text
    assert f"<{len(body)} bytes>" in text
    assert CANARY not in text


def test_values_that_hold_no_body_are_logged_as_they_are(stream):
    configure_logging(stream=stream)
    tp = TopicPartition("ticket-updates", 3)
    logging.getLogger("faust").warning("revoked %r and %s", [tp], {"n": 1.5})
    Place = namedtuple("Place", "row column")
    structlog.get_logger("streams.test").warning("read", place=Place(1, 2), none=None)
    theirs, ours = events(stream)
    assert theirs["event"] == "revoked [TopicPartition(topic='ticket-updates', partition=3)] and {'n': 1.5}"
    assert (ours["place"], ours["none"]) == ([1, 2], None)


def test_equal_errors_are_limited_and_the_next_says_how_many_were_hidden(stream):
    configure_logging(stream=stream)
    now = [100.0]
    (handler,) = [handler for handler in logging.root.handlers if handler.filters]
    handler.filters = [RateLimit(lambda: now[0])]
    ours, theirs = structlog.get_logger("streams.test"), logging.getLogger("aiokafka.client")
    for partition in range(20):
        ours.error("broker does not answer", partition=partition)
        theirs.error("Unable to connect to node %s", partition)
    ours.error("disk full")
    assert len([event for event in events(stream) if event["event"] == "broker does not answer"]) == 5
    assert len([event for event in events(stream) if event["logger"] == "aiokafka.client"]) == 1
    assert events(stream)[-1]["event"] == "disk full"
    now[0] += 60
    ours.error("broker does not answer")
    theirs.error("Unable to connect to node %s", 7)
    assert [event["repeated"] for event in events(stream)[-2:]] == [15, 19]
    ours.error("broker does not answer")
    assert "repeated" not in events(stream)[-1]


def test_a_limit_key_lets_an_event_pass_once_a_minute(stream):
    configure_logging(stream=stream)
    now = [0.0]
    (handler,) = [handler for handler in logging.root.handlers if handler.filters]
    handler.filters = [RateLimit(lambda: now[0])]
    log = structlog.get_logger("streams.test")
    for second in range(61):
        now[0] = float(second)
        log.warning("misrouted record", topic="session-states", offset=second, limit="misrouted/session-states")
        log.info("misrouted record", topic="ticket-updates", offset=second, limit="misrouted/ticket-updates")
    passed = [(event["topic"], event["offset"], event.get("repeated")) for event in events(stream)]
    assert passed == [
        ("session-states", 0, None),
        ("ticket-updates", 0, None),
        ("session-states", 60, 59),
        ("ticket-updates", 60, 59),
    ]
    assert "limit" not in events(stream)[0]


def test_the_standard_librarys_way_carries_values_and_a_limit_too(stream):
    configure_logging(stream=stream)
    log = logging.getLogger("streams.worker.test")
    for offset in range(3):
        log.warning("misrouted record", extra={"offset": offset, "value": b"body", "limit": "misrouted"})
    logging.getLogger("faust.app").warning("theirs", extra={"no_alert": True})
    ours, theirs = events(stream)
    assert (ours["offset"], ours["value"]) == (0, "<4 bytes>")
    assert "limit" not in ours
    assert "no_alert" not in theirs


def test_information_and_critical_events_are_not_limited(stream):
    configure_logging(stream=stream)
    log = structlog.get_logger("streams.test")
    for _ in range(20):
        log.info("partition ready")
        log.critical("worker stops")
    assert len(events(stream)) == 40


def test_texts_without_end_do_not_grow_the_rate_limits_memory():
    limit = RateLimit()
    for n in range(3_000):
        record = logging.LogRecord("aiokafka", logging.ERROR, __file__, 1, f"request {n} failed", None, None)
        assert limit.filter(record)
    assert len(limit._windows) <= 1_024


def test_faust_given_the_configuration_keeps_our_handler(stream):
    configure_logging(stream=stream)
    worker = mode.Worker(loglevel="info", logging_config=logging_config(stream=stream), redirect_stdouts=False)
    worker._setup_logging()
    structlog.get_logger("streams.test").info("partition ready")
    logging.getLogger("mode.worker").warning("late")
    assert [event["event"] for event in events(stream)] == ["partition ready", "late"]


@pytest.mark.parametrize(("format", "terminal"), [("json", True), ("json", False), ("auto", False)])
def test_what_a_process_says_itself_is_a_line_of_json_among_lines_of_json(format, terminal):
    stream = Terminal() if terminal else io.StringIO()
    say("The topics will not do:\n  - a\n  - b", format, stream=stream)
    (event,) = events(stream)
    assert list(event) == ["ts", "level", "event", "logger"]
    assert (event["level"], event["event"]) == ("error", "The topics will not do:\n  - a\n  - b")
    configure_logging(format="json", stream=stream)
    structlog.get_logger("streams.test").info("partition ready")
    first, second = events(stream)
    assert len(first["ts"]) == len(second["ts"])


@pytest.mark.parametrize(("format", "terminal"), [("text", False), ("text", True), ("auto", True)])
def test_what_a_process_says_itself_is_plain_text_among_text(format, terminal):
    stream = Terminal() if terminal else io.StringIO()
    say("no broker", format, stream=stream)
    assert stream.getvalue() == "lapse: no broker\n"


def test_setting_up_twice_does_not_write_twice(stream):
    configure_logging(stream=stream)
    configure_logging(stream=stream)
    structlog.get_logger("streams.test").info("partition ready")
    assert len(events(stream)) == 1


async def test_context_is_carried_into_every_event_of_a_task(stream):
    configure_logging(stream=stream)

    async def of(partition: int) -> None:
        structlog.contextvars.bind_contextvars(partition=partition)
        await asyncio.sleep(0)
        structlog.get_logger("streams.test").info("partition ready")

    await asyncio.gather(*(asyncio.create_task(of(partition)) for partition in (1, 2)))
    assert sorted(event["partition"] for event in events(stream)) == [1, 2]
