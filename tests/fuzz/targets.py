"""What is given hostile bytes, and what must hold whatever they are.

A target takes bytes and returns. It raises only when there is a fault: an exception that is not ours, or a law that is
broken. What a reader may refuse, and how, stands in its docstring; the target swallows these errors and no others.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.errors import LapseError
from streams.core.model import Micros, Rejection
from streams.core.names import Code, Table, Topic
from streams.core.partition import Partition
from streams.core.plain import PlainTicket
from streams.core.tables import OWN
from streams.core.triggers import Ruleset
from streams.mapping.load import load_mappers
from streams.mapping.records import mapped
from streams.rules.check import CheckReport
from streams.rules.triggers import parse_triggers, read_triggers
from streams.rules.zendesk.command import convert_import
from streams.rules.zendesk.exports import ExportError
from streams.settings.settings import SettingsError, load_settings
from streams.testing.driver import Driver
from streams.web import access
from streams.wire import capture
from streams.wire.capture import CapturedRecord, CaptureLineError
from streams.wire.decode import decode, decode_fully
from streams.wire.rows import UNREADABLE, MsgpackRows, unreadable
from streams.wire.rule_entries import BadEntryError, decode_entry
from streams.zendesk.events import Unusable, receive
from streams.zendesk.signatures import Verdict, sign, verify

Target = Callable[[bytes], None]

AT_MS = 1_772_359_200_000
AT: Micros = AT_MS * 1000
NO_RULES = Rules(Ruleset(()))
SOLVE = parse_triggers(
    "triggers: [{id: solve, conditions: "
    "{all: [{field: messaging_session_state, operator: changed_to, value: inactive}]},"
    " actions: [{field: status, value: solved}]}]"
).ruleset
assert SOLVE is not None
SOLVING = Rules(SOLVE)

_CODES = set(Code)


# --- records ---------------------------------------------------------------------------------------------------------


def records_of(data: bytes) -> list[tuple[Topic, CapturedRecord]]:
    """Cut bytes into records, one a line. The first byte of a line says what is odd about it.

    Bit 0: topic. Bit 1: the key is the ticket id that the value has, else it is `1`. Bits 2 and 3: no key, no value.
    Bit 4: a record timestamp ahead of the clock. Bit 5: with a header.
    """
    found = []
    offsets = dict.fromkeys(Topic, 0)
    for line in data.split(b"\n")[:24]:
        odd, value = line[:1] or b"\x00", line[1:]
        bits = odd[0]
        topic = Topic.SESSIONS if bits & 1 else Topic.TICKETS
        key: bytes | None = _ticket_id(value) if bits & 2 else b"1"
        record = CapturedRecord(
            offsets[topic],
            AT_MS + 1000 * len(found) + (10**9 if bits & 16 else 0),
            None if bits & 4 else key,
            None if bits & 8 else value,
            (("trace", value[:8]), ("lapse.error.code", b"mine")) if bits & 32 else (),
        )
        offsets[topic] += 1
        found.append((topic, record))
    return found


def _ticket_id(value: bytes) -> bytes:
    try:
        found = json.loads(value)
        return str(found["ticket_id"]).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return b"1"


def target_decode(data: bytes) -> None:
    """Both ways of decoding say the same of any record, and a rejection has a known code and plain text."""
    for topic, record in records_of(data):
        for _ in range(2):  # the second time, the shape of the first one is known
            short, long = decode(topic, 0, record, AT), decode_fully(topic, 0, record, AT)
            assert (short.whole() if isinstance(short, PlainTicket) else short) == long
        if isinstance(long, Rejection):
            assert long.code in _CODES
            long.message.encode()
            long.path.encode()


def target_partition(data: bytes) -> None:
    """Every record is either taken or one dead letter, with the key, value and headers that it came with."""
    driver = Driver(SOLVING, now_ms=AT_MS + 60_000)
    records = records_of(data)
    for topic, record in records:
        driver.pipe(topic, record.key, record.value, record.timestamp, headers=record.headers)
    driver.run()
    letters = {}
    for letter in driver.dead_letters():
        headers = dict(letter.headers)
        source = (headers["lapse.source.topic"], headers["lapse.source.offset"])
        assert source not in letters, "one letter for each bad record"
        letters[source] = (letter, headers)
    for topic, record in records:
        found = letters.pop((topic.value.encode(), str(record.offset).encode()), None)
        verdict = decode_fully(topic, 0, record, AT + 60_000_000)
        if isinstance(verdict, Rejection):
            assert found is not None, "a bad record is never lost"
            letter, headers = found
            assert letter.key == record.key
            assert letter.value == (record.value if verdict.keep_value else None)
            assert headers["lapse.error.code"] == verdict.code.encode()
            assert ("trace", headers.get("trace")) in record.headers or not record.headers
        else:
            assert found is None, "a good record is no dead letter"
    assert not letters
    assert {topic: len([1 for of, _ in records if of is topic]) for topic in driver.broker.offsets} == (
        driver.broker.offsets
    )


# --- rows ------------------------------------------------------------------------------------------------------------


def target_rows(data: bytes) -> None:
    """A row of the changelog is read, or refused in a way that the worker explains; it is never half read."""
    codec = MsgpackRows()
    kind, row = data[:1] or b"\x00", data[1:]
    decoders = (codec.decode_ticket, codec.decode_session, codec.decode_rules, codec.decode_shadow)
    decoder = decoders[kind[0] % 4]
    try:
        found = decoder(row)
        if decoder == codec.decode_ticket:
            assert codec.decode_ticket(codec.encode_ticket(found)) == found
        elif decoder == codec.decode_session:
            assert codec.decode_session(codec.encode_session(found)) == found
    except UNREADABLE as error:
        unreadable(error, "changelog").encode("utf-8", "backslashreplace")
    partition = Partition(
        Engine(NO_RULES, EngineSettings()),
        number=0,
        partition_count=1,
        decode=decode,
        rows=codec,
        dead_letter_limit=None,
        clock_grace=0,
    )
    key, _, value = row.partition(b"\n")
    try:
        partition.restore(Table.SESSIONS, [((OWN if kind[0] & 64 else b"") + key, value)])
        partition.restore(Table.TICKETS, [(key[:8], value)])
        partition.start()
    except UNREADABLE as error:
        unreadable(error, "changelog")


def target_rule_entries(data: bytes) -> None:
    """An entry of the rules topic is read, or ignored as a bad one."""
    key, _, value = data.partition(b"\n")
    try:
        decode_entry(key, value)
    except BadEntryError as error:
        str(error).encode()


# --- files -----------------------------------------------------------------------------------------------------------


def target_triggers(data: bytes) -> None:
    """A trigger file gives rules or problems with their place; what gives rules compiles."""
    found = read_triggers(io.BytesIO(data), "t.yaml")
    report = CheckReport((found,), tuple(found.problems), 0)
    report.text().encode()
    json.dumps(report.json())
    assert (found.ruleset is None) == bool(found.errors)
    if found.ruleset is not None:
        Rules(found.ruleset)
        assert len(found.ruleset.digest) == 12


def target_exports(data: bytes) -> None:
    """An export of Zendesk's becomes a trigger file that `lapse check` takes, or is refused as `ExportError`."""
    try:
        converted = convert_import([_file("export.json", data)])
    except ExportError as error:
        str(error).encode()
        return
    problems = parse_triggers(converted.text).errors
    assert not problems or "no trigger" in str(problems[0]), str(problems[0])


def target_captures(data: bytes) -> None:
    """A line of a capture is a record, or a `CaptureLineError`; both ways to read it agree; it can be written again."""
    for line in data.split(b"\n")[:8]:
        capture.rules_line(line)
        try:
            whole = capture.parse(line)
        except CaptureLineError as error:
            str(error).encode("utf-8", "backslashreplace")
            whole = None
        try:
            topic, partition, *rest = capture.entry(line)
        except CaptureLineError:
            assert whole is None
            continue
        assert whole is not None
        assert (topic, partition) == (whole.topic, whole.partition)
        assert capture.record_at(line, *rest) == whole.record
        again = capture.parse(capture.line(topic, partition, whole.record))
        assert again.record.key == whole.record.key
        assert again.record.offset == whole.record.offset


def target_settings(data: bytes) -> None:
    """Settings are taken, or refused with every problem."""
    try:
        load_settings({}, _environment(data), _file("lapse.yaml", data))
    except SettingsError as error:
        str(error).encode("utf-8", "backslashreplace")
        assert error.problems


def target_mappings(data: bytes) -> None:
    """A mapping file is taken, or refused; what it makes of a record is a record or a rejection."""
    path = _file("mapping.yaml", data)
    try:
        mappers = load_mappers(path)
    except LapseError as error:
        str(error).encode("utf-8", "backslashreplace")
        return
    decode_mapped = mapped(decode, mappers)
    for topic in Topic:
        for value in (
            b'{"id": 1, "ticket_id": "1", "a": [1.5, null], "payload": {"after": {"id": 1}}}',
            b"[1]",
            b"",
            None,
        ):
            decode_mapped(topic, 0, CapturedRecord(0, AT_MS, b"1", value), AT)


def _environment(data: bytes) -> dict[str, str]:
    """Take lines of the form `NAME=VALUE` as variables."""
    lines = data.decode("utf-8", "surrogateescape").splitlines()
    return {f"LAPSE_{name}": value for name, sign_, value in (one.partition("=") for one in lines) if sign_ and name}


_FOLDER = Path(tempfile.mkdtemp(prefix="lapse-fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))


def _file(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


# --- HTTP ------------------------------------------------------------------------------------------------------------


def target_http(data: bytes) -> None:
    """A request is answered, or refused with a status; a signed body gives records, or is `Unusable`."""
    head, _, body = data.partition(b"\n\n")
    lines = head.decode("utf-8", "surrogateescape").splitlines()
    headers = {name: value for name, found, value in (one.partition(": ") for one in lines[:8]) if found and name}
    timestamp = headers.get("Timestamp", "2026-03-01T10:00:00Z")
    for signature in (headers.get("Signature"), sign(b"secret", "2026-03-01T10:00:00Z", body)):
        verdict = verify(signature, timestamp, body, [b"secret", b"another"], now=AT, max_age=3_600_000_000)
        assert isinstance(verdict, Verdict)
    try:
        received = receive(body, signature="c2ln", signed_at="2026-03-01T10:00:00Z", arrived_at=AT, command_field="7")
        if received.record is not None and received.record.value is not None:
            record = CapturedRecord(0, AT_MS, received.record.key, received.record.value)
            assert not isinstance(decode_fully(received.record.topic, 0, record, AT), Rejection)
    except Unusable as why:
        assert why.code in _CODES
        str(why).encode("utf-8", "backslashreplace")
    authorization = headers.get("Authorization", "")
    if authorization.startswith("Bearer "):
        assert access._carries(authorization, "the token") == (authorization[7:].strip() == "the token")
    else:
        access._carries(authorization, "the token")
    for token in (None, "the token"):
        request: Any = SimpleNamespace(
            headers=headers, match_info=SimpleNamespace(route=SimpleNamespace(resource=None))
        )
        status = _answer(access.guard(token)(request, _ok))
        assert status in (200, 401 if token else 403)


async def _ok(_: web.Request) -> web.StreamResponse:
    return web.Response()


def _answer(handling: Any) -> int:
    coroutine: Coroutine[Any, Any, web.StreamResponse] = handling
    try:
        coroutine.send(None)
    except StopIteration as done:
        return int(done.value.status)
    except web.HTTPException as refused:
        return refused.status
    raise AssertionError("the guard waits for something")


TARGETS: dict[str, Target] = {
    name.removeprefix("target_"): found for name, found in list(globals().items()) if name.startswith("target_")
}
