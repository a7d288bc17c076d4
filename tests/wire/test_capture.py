"""A capture gives back the bytes that went in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.names import Topic
from streams.wire.capture import CapturedRecord, CaptureLineError, entry, line, parse, record_at


@given(
    st.sampled_from(list(Topic)),
    st.none() | st.binary(max_size=30),
    st.none()
    | st.binary(max_size=80)
    | st.dictionaries(st.text(), st.integers()).map(lambda v: json.dumps(v).encode()),
)
@settings(max_examples=500, deadline=None)
def test_bytes_survive_a_capture(topic: Topic, key: bytes | None, value: bytes | None) -> None:
    written = line(topic, 2, CapturedRecord(5, 1000, key, value))
    assert written.count(b"\n") == 1
    found = parse(written.strip())
    assert (found.topic, found.partition, found.record.offset, found.record.timestamp) == (topic, 2, 5, 1000)
    assert found.record.key == key
    if value is not None and value.strip().startswith(b"{"):
        assert found.record.value == value or json.loads(found.record.value or b"") == json.loads(value)
    else:
        assert found.record.value == value


def test_an_object_over_several_lines_takes_one_line() -> None:
    written = line(Topic.TICKETS, 0, CapturedRecord(0, 0, b"1", b'{\n "a": 1\r\n}'))
    assert json.loads(written)["value"] == {"a": 1}
    assert written.count(b"\n") == 1


def test_an_event_id_in_a_header_travels_along() -> None:
    record = CapturedRecord(0, 0, b"1", b"{}", (("ce_id", b"e-1"), ("other", b"x")))
    assert parse(line(Topic.TICKETS, 0, record)).record.headers == (("ce_id", b"e-1"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"garbage", "malformed"),
        (b"{}", "topic"),
        (b'{"topic":"other","partition":0,"offset":0,"timestamp":0,"key":null,"value":null}', "`topic` is 'other'"),
        (b'{"topic":"ticket-updates","partition":-1,"offset":0,"timestamp":0,"key":null,"value":null}', "negative"),
        (b'{"topic":"ticket-updates","partition":0,"offset":0,"timestamp":0,"key":null,"value":5}', "$.value"),
        (b'{"topic":"ticket-updates","partition":0,"offset":0,"timestamp":0,"key":null}', "value"),
    ],
)
def test_a_line_that_is_none_says_why(text: bytes, says: str) -> None:
    with pytest.raises(CaptureLineError) as caught:
        parse(text)
    assert says in str(caught.value)


MEMBERS = [
    '"topic":"session-states"',
    '"partition":3',
    '"offset":7',
    '"timestamp":1000',
    '"key":"51"',
    '"value":{"a":"x"}',
]


@pytest.mark.parametrize(
    "text",
    [
        "{" + ",".join(MEMBERS) + "}",
        "{" + ",".join(reversed(MEMBERS)) + "}",
        "{" + ", ".join(MEMBERS) + "}",
        "{" + ",".join(MEMBERS) + "} ",
        "{" + ",".join(MEMBERS) + "}\r",
        "{" + ",".join([*MEMBERS, '"value":{"a":"y"}']) + "}",
        "{" + ",".join([*MEMBERS, '"key":"52","value":{"a":"x"}']) + "}",
        "{" + ",".join([*MEMBERS[:4], '"key":"5\\u0031"', MEMBERS[5]]) + "}",
        "{" + ",".join([*MEMBERS[:4], '"key":"é"', MEMBERS[5]]) + "}",
        "{" + ",".join([*MEMBERS[:4], '"key":null', MEMBERS[5]]) + "}",
        "{" + ",".join([*MEMBERS[:4], '"key":""', MEMBERS[5]]) + "}",
        "{" + ",".join([*MEMBERS[:5], '"value":null']) + "}",
        "{" + ",".join([*MEMBERS[:5], '"value": {"a":"x"}']) + "}",
        "{" + ",".join([*MEMBERS[:5], '"value":"{"']) + "}",
        "{" + ",".join([*MEMBERS[:5], '"value":{"k":"\\"key\\":\\"51\\",\\"value\\":{}"}']) + "}",
        "{" + ",".join([*MEMBERS, '"headers":{"ce_id":"e-1"}']) + "}",
        "{" + ",".join(['"more":{"key":"51","value":{"a":"x"}}', *MEMBERS]) + "}",
    ],
)
def test_an_index_entry_leads_to_the_record_that_the_whole_line_holds(text: str) -> None:
    whole = parse(text.encode())
    topic, partition, offset, timestamp, value_at, key_length = entry(text.encode())
    assert (topic, partition) == (whole.topic, whole.partition)
    assert record_at(text.encode(), offset, timestamp, value_at, key_length) == whole.record


def test_what_lapse_capture_writes_is_found_without_parsing_it_again() -> None:
    written = line(Topic.TICKETS, 2, CapturedRecord(5, 1000, b"51", b'{"ticket_id":"51"}')).rstrip()
    assert entry(written)[4:] == (written.index(b'{"ticket_id"'), 2)


def test_a_header_without_a_value_is_captured_as_none() -> None:
    record = CapturedRecord(0, 0, b"1", b'{"a":1}', (("ce_id", None), ("ce_id", b"e-1"), ("trace", None)))  # type: ignore[arg-type]
    assert parse(line(Topic.TICKETS, 0, record)).record.headers == (("ce_id", b"e-1"),)
    record = CapturedRecord(0, 0, b"1", b'{"a":1}', (("ce_id", None),))  # type: ignore[arg-type]
    assert parse(line(Topic.TICKETS, 0, record)).record.headers == ()


def test_a_header_that_is_not_utf_8_comes_back_as_it_was() -> None:
    record = CapturedRecord(0, 0, b"1", b'{"a":1}', (("ce_id", b"\xff\xfe"),))
    assert parse(line(Topic.TICKETS, 0, record)).record.headers == (("ce_id", b"\xff\xfe"),)


@pytest.mark.parametrize("key", [b"1", b"\xff", None])
def test_a_value_with_half_a_surrogate_pair_is_captured_as_the_object_it_is(key: bytes | None) -> None:
    value = rb'{"subject":"parcel \ud83d","big":1e400,"id":9007199254740993.0}'
    written = line(Topic.TICKETS, 0, CapturedRecord(0, 0, key, value))
    assert value in written
    found = parse(written).record
    assert (found.key, found.value) == (key, value)
