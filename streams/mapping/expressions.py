"""The expressions of a mapping file: JMESPath, with a few functions for times and for the record around the value.

JMESPath gives null for a member that is absent and for one that is null. For a ticket the two differ: an absent member
stays as it is, null clears it. So a plain path (`ticket.status`) is followed by hand, and tells them apart; any other
expression that gives null counts as absent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jmespath
from jmespath import exceptions, functions
from jmespath.parser import ParsedResult

from streams.core.inputs import RawRecord

ABSENT: Final[Any] = object()
"""What an expression gives when there is nothing where it looks."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadExpression(ValueError):
    """The text is no JMESPath expression; the message says what is wrong with it."""


class ExpressionFailed(ValueError):
    """The expression can't be evaluated on this value; the message says why."""


class _Functions(functions.Functions):
    """JMESPath's own functions and ours. `record` is the Kafka record that is being mapped."""

    record: RawRecord | None = None

    @functions.signature({"types": ["number"]})
    def _func_from_seconds(self, number: float) -> str:
        return _instant(number * 1_000_000)

    @functions.signature({"types": ["number"]})
    def _func_from_millis(self, number: float) -> str:
        return _instant(number * 1_000)

    @functions.signature({"types": ["number"]})
    def _func_from_micros(self, number: float) -> str:
        return _instant(number)

    @functions.signature()
    def _func_record_timestamp(self) -> str:
        assert self.record is not None  # noqa: S101 -- set by `Expression.find`
        return _instant(self.record.timestamp * 1_000)

    @functions.signature()
    def _func_record_key(self) -> str | None:
        assert self.record is not None  # noqa: S101 -- set by `Expression.find`
        return None if self.record.key is None else self.record.key.decode(errors="replace")

    @functions.signature({"types": ["string"]})
    def _func_record_header(self, name: str) -> str | None:
        assert self.record is not None  # noqa: S101 -- set by `Expression.find`
        values = [value for header, value in self.record.headers or () if header == name and value is not None]
        return values[-1].decode(errors="replace") if values else None


FUNCTIONS: dict[str, str] = {
    "from_seconds(number)": "the instant that many seconds after 1970",
    "from_millis(number)": "the instant that many milliseconds after 1970",
    "from_micros(number)": "the instant that many microseconds after 1970",
    "record_timestamp()": "the timestamp of the Kafka record",
    "record_key()": "the key of the Kafka record, as text",
    "record_header('name')": "a header of the Kafka record, as text; the last one of that name",
}
"""Our functions beside JMESPath's, for the documentation."""


class Expression:
    """A compiled expression.

    >>> Expression("ticket.status").find({"ticket": {"status": None}}) is None
    True
    >>> Expression("ticket.status").find({"ticket": {}}) is ABSENT
    True
    >>> Expression("from_millis(at)").find({"at": 1772359500000})
    '2026-03-01T10:05:00Z'
    """

    def __init__(self, text: str) -> None:
        """Compile `text`. Raises `BadExpression`."""
        self.text = text
        self._functions = _Functions()
        self._options = jmespath.Options(custom_functions=self._functions)
        try:
            self._compiled: ParsedResult = jmespath.compile(text)
        except exceptions.JMESPathError as error:
            raise BadExpression(_one_line(error)) from None
        self._path = _plain_path(self._compiled.parsed)
        for name, count in _calls(self._compiled.parsed):
            self._check_call(name, count)

    def _check_call(self, name: str, arguments: int) -> None:
        known = self._functions.FUNCTION_TABLE
        if name not in known:
            raise BadExpression(f"there is no function `{name}`")
        signature = known[name]["signature"]
        variadic = bool(signature) and signature[-1].get("variadic")
        if arguments < len(signature) or (arguments > len(signature) and not variadic):
            raise BadExpression(f"`{name}` takes {len(signature)} arguments, and is given {arguments}")

    def find(self, value: Any, record: RawRecord | None = None) -> Any:
        """Return what the expression finds in `value`, `ABSENT` when there is nothing. Raises `ExpressionFailed`."""
        if self._path is not None:
            for name in self._path:
                if not isinstance(value, dict) or name not in value:
                    return ABSENT
                value = value[name]
            return value
        self._functions.record = record
        try:
            found = self._compiled.search(value, options=self._options)
        except (exceptions.JMESPathError, ArithmeticError, ValueError, TypeError) as error:
            raise ExpressionFailed(_one_line(error)) from None
        return ABSENT if found is None else found


def _plain_path(node: Any) -> tuple[str, ...] | None:
    """Return the member names of an expression that only steps into members; None of any other."""
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] == "current":
        return ()
    if node["type"] == "subexpression":
        parts = [_plain_path(child) for child in node["children"]]
        if all(part is not None for part in parts):
            return tuple(name for part in parts if part is not None for name in part)
    return None


def _calls(node: Any) -> list[tuple[str, int]]:
    """Return (name, number of arguments) of every function that is called in a parsed expression."""
    if not isinstance(node, dict):
        return []
    own = [(node["value"], len(node["children"]))] if node["type"] == "function_expression" else []
    return own + [call for child in node.get("children", ()) for call in _calls(child)]


def _instant(micros: float) -> str:
    try:
        instant = _EPOCH + timedelta(microseconds=int(micros))
    except (OverflowError, ValueError):
        raise ExpressionFailed(f"{micros:.0f} µs after 1970 is outside the calendar") from None
    text = instant.isoformat(timespec="microseconds" if instant.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
