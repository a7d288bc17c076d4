"""A capture gives back the bytes that went in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.model import Topic
from streams.wire.capture import CapturedRecord, CaptureLineError, line, parse


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
