"""Logs: one handler on standard error for our events and for those of Faust, mode and aiokafka.

For every logger, the handler does three things: it keeps record bodies out (bytes and records are reduced to their size
or place, tracebacks show no local variables), it limits repeated warnings and errors, and it drops the libraries'
chatter. Our own code logs with `logging.getLogger(__name__)`. Values in `extra` become members of the event, and
`extra={"limit": "some key"}` limits an event to once a minute.
"""

from __future__ import annotations

import asyncio
import json
import logging
import logging.config
import os
import sys
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypeAlias

import msgspec
import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from streams.core import escaping

Format: TypeAlias = Literal["text", "json", "auto"]

LIBRARIES = ("aiohttp", "aiokafka", "asyncio", "faust", "mode")

_MINUTE = 60.0
_BURST = 5
_LIBRARY_BURST = 1
"""One is enough: the libraries repeat the message with each of their retries."""
_KEYS = 1_024
_DEPTH = 4

_STAMPS: tuple[Processor, ...] = (
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
)


def configure_logging(level: str = "info", format: Format = "auto", stream: TextIO | None = None) -> None:
    """Set up structlog and the standard library's logging for this process; may be called repeatedly.

    `auto` is text on a terminal and JSON elsewhere; `stream` is standard error unless given.
    """
    logging.config.dictConfig(logging_config(level, format, stream))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *_STAMPS,
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def logging_config(level: str = "info", format: Format = "auto", stream: TextIO | None = None) -> dict[str, Any]:
    """Return the configuration that `configure_logging` passes to `logging.config.dictConfig`.

    Faust's worker replaces the existing logging setup with its own when it starts. With this as the Faust setting
    `logging_config`, it applies this configuration instead.
    """
    stream = stream if stream is not None else sys.stderr
    text = _is_text(format, stream)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "lapse": {
                "()": _formatter,
                "text": text,
                "colors": stream.isatty() and "NO_COLOR" not in os.environ,
            }
        },
        "filters": {
            "chatter": {"()": WithoutServiceChatter},
            "expected": {"()": WithoutExpected},
            "bodies": {"()": WithoutBodies},
            "repeats": {"()": RateLimit},
        },
        "handlers": {
            "lapse": {
                "class": "logging.StreamHandler",
                "stream": stream,
                "formatter": "lapse",
                "filters": ["chatter", "expected", "bodies", "repeats"],
            }
        },
        "root": {"level": level.upper(), "handlers": ["lapse"]},
        "loggers": {library: {"level": _library_level(level)} for library in LIBRARIES},
    }


def say(message: str, format: Format = "auto", *, level: str = "error", stream: TextIO | None = None) -> None:
    """Write one message about the process itself, such as why it ends: as text after `lapse:`, or as a log line.

    It bypasses logging, so that it also works before logging is set up, and in a signal handler.
    """
    stream = stream if stream is not None else sys.stderr
    if _is_text(format, stream):
        line = escaping.lines(f"lapse: {message}")
    else:
        at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        line = json.dumps({"ts": at, "level": level, "event": message, "logger": "lapse"})
    stream.write(line + "\n")
    stream.flush()


def _is_text(format: Format, stream: TextIO) -> bool:
    return format == "text" or (format == "auto" and stream.isatty())


def _library_level(level: str) -> str:
    # At debug level, aiokafka logs whole requests, including record bodies, so it is never enabled.
    return {"DEBUG": "INFO", "INFO": "WARNING"}.get(level.upper(), level.upper())


def _formatter(text: bool, colors: bool) -> ProcessorFormatter:
    # Plain tracebacks: structlog's and rich's defaults print local variables, which contain records.
    render: list[Processor] = (
        [
            _escaped,
            structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="ts", exception_formatter=_plain_traceback),
        ]
        if text
        else [structlog.processors.format_exc_info, _in_reading_order, structlog.processors.JSONRenderer()]
    )
    return ProcessorFormatter(
        processors=[ProcessorFormatter.remove_processors_meta, *render],
        foreign_pre_chain=[*_STAMPS, _extras],
    )


_all_extras = structlog.stdlib.ExtraAdder()
_own_extras = structlog.stdlib.ExtraAdder(allow=["repeated"])


def _extras(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    # The libraries' `extra` values are meant for their own handlers.
    ours = event["_record"].name.startswith("streams")
    extras = (_all_extras if ours else _own_extras)(logger, method, {"_record": event["_record"]})
    del extras["_record"]
    return {**event, **_without_bodies(extras)}


def _escaped(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape terminal control characters. JSON output escapes them anyway."""
    shown: EventDict = {}
    for key, value in event.items():
        escape = escaping.lines if key in {"exception", "stack"} else escaping.one_line
        shown[key] = escape(value) if isinstance(value, str) else value
    return shown


def _plain_traceback(stream: TextIO, exc_info: Any) -> None:
    """Write a traceback with each message on one line: messages may contain text from a record."""
    for part in traceback.TracebackException(*exc_info).format():
        own = part.startswith((" ", "\n", "Traceback"))
        stream.write(escaping.lines(part) if own else f"{escaping.one_line(part.rstrip())}\n")


def _in_reading_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    first = {key: event[key] for key in ("ts", "level", "event", "logger") if key in event}
    return {**first, **event}


class WithoutServiceChatter(logging.Filter):
    """Drops mode's log events about the start and stop of every service.

    mode logs under the name of the module that defines the service, including ours, so a logger's level can't silence
    it. Its messages are recognized by the service's place in the tree, in brackets.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        chatter = record.levelno < logging.WARNING and isinstance(record.msg, str) and record.msg.startswith("[^")
        return not chatter or logging.root.level <= logging.DEBUG


class WithoutExpected(logging.Filter):
    """Drops library warnings and errors that are normal in every stop, rebalance or first start.

    The worker logs what such an event means for it. At debug level all of them are shown.
    `tests/contracts/test_log_texts.py` provokes each of these messages from the libraries.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        return not _is_expected(record) or logging.root.level <= logging.DEBUG


_EXPECTED = {
    "aiokafka": (
        # A member learns of a rebalance from its heartbeat; the supervisor logs the new assignment.
        "Heartbeat failed for group %s because it is rebalancing",
        "Heartbeat failed for group %s: generation id is not  current.",
    ),
    # Faust's sensors are disabled, and it complains about their missing state.
    "faust": ("Missing sensor state for rebalance",),
}
"""Beginnings of message templates, before values are filled in, by library."""


def _is_expected(record: logging.LogRecord) -> bool:
    text, library = record.msg, record.name.partition(".")[0]
    if not isinstance(text, str):
        return False
    if text.startswith("[^"):  # a mode service: its place in the tree comes first, and the logger is that of any module
        text, library = text.partition("]: ")[2], "faust"
    if text.startswith("Crashed reason="):
        # A service that is cancelled at a stop or a rebalance reports that as a crash.
        return isinstance(record.args, tuple) and any(isinstance(arg, asyncio.CancelledError) for arg in record.args)
    return text.startswith(_EXPECTED.get(library, ()))


class WithoutBodies(logging.Filter):
    """Reduces bytes, Kafka records and our own structs in log events to their size, place or type."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's values where needed; always returns True."""
        if isinstance(record.msg, dict):
            record.msg = _without_bodies(record.msg)
        elif record.args:
            record.args = _without_bodies(record.args)
        return True


def _without_bodies(value: Any, depth: int = _DEPTH) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, str | int | float | bool | BaseException) or value is None or depth == 0:
        return value
    if isinstance(value, msgspec.Struct):
        return f"<{type(value).__name__}>"
    record = getattr(value, "message", value)  # a Faust event holds the Kafka record as its message
    if hasattr(record, "offset") and hasattr(record, "value"):
        place = (getattr(record, part, "?") for part in ("topic", "partition", "offset"))
        return f"<record {'/'.join(map(str, place))}>"
    if isinstance(value, Mapping):
        return {key: _without_bodies(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        items = [_without_bodies(item, depth - 1) for item in value]
        unchanged = all(new is old for new, old in zip(items, value, strict=True))
        return value if unchanged else tuple(items)
    return value


class RateLimit(logging.Filter):
    """Passes the first few equal warnings and errors per minute. The next one to pass reports how many were dropped.

    Events are equal when logger, level and message template are the same. Of our own events five a minute pass, of
    the libraries' one. An event logged with `limit="some key"`, in `extra` or to structlog, passes once a minute for
    that key. Critical events always pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds."""
        super().__init__()
        self._clock = clock
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be written."""
        event = record.msg if isinstance(record.msg, dict) else None
        limit = (event if event is not None else vars(record)).pop("limit", None)
        if limit is None and not logging.WARNING <= record.levelno < logging.CRITICAL:
            return True
        text = limit if limit is not None else record.msg if event is None else event.get("event")
        usual = _LIBRARY_BURST if record.name.partition(".")[0] in LIBRARIES else _BURST
        key = (record.name, f"{record.levelname} {text}" if limit is None else str(limit))
        window = self._window(key, burst=usual if limit is None else 1)
        if window.left == 0:
            window.hidden += 1
            return False
        window.left -= 1
        if window.hidden:
            (event if event is not None else vars(record))["repeated"] = window.hidden
        window.hidden = 0
        return True

    def _window(self, key: tuple[str, str], burst: int) -> _Window:
        now = self._clock()
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(until=now + _MINUTE, left=burst)
            if len(self._windows) > _KEYS:  # messages that contain values: drop the oldest instead of growing
                self._windows.popitem(last=False)
        elif now >= window.until:
            window.until, window.left = now + _MINUTE, burst
        return window


class _Window(msgspec.Struct):
    until: float
    left: int
    hidden: int = 0
