"""The schemas in the repository say what the code does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from streams.core.model import Rejection
from streams.core.names import Topic
from streams.testing.driver import Driver
from streams.wire import contracts
from streams.wire.capture import CapturedRecord, CaptureLineError, parse
from streams.wire.decode import decode
from tests.core.stories import RULES, SETTINGS, START_MS, records

ROOT = Path(__file__).parents[2] / "schemas"
NOW = 1_790_000_000_000_000
INPUTS = {"ticket-update": Topic.TICKETS, "session-state": Topic.SESSIONS}
VALIDATORS = {
    name: Draft202012Validator(contracts.schema(name), format_checker=FormatChecker()) for name in contracts.RECORDS
}


def _examples(kind: str) -> list[Any]:
    found = sorted((ROOT / "examples" / kind).glob("*/*.json"))
    return [pytest.param(path.parent.name, path, id=f"{path.parent.name}/{path.stem}") for path in found]


def _decoded(name: str, value: bytes) -> Any:
    ticket = msgspec.json.decode(value).get("ticket_id", "")
    return decode(INPUTS[name], 0, CapturedRecord(0, 0, str(ticket).encode(), value), NOW)


@pytest.mark.parametrize("name", contracts.RECORDS)
def test_the_committed_schema_is_the_one_made_from_the_types(name: str) -> None:
    assert (ROOT / f"{name}.schema.json").read_text() == contracts.rendered(name)
    Draft202012Validator.check_schema(contracts.schema(name))


@pytest.mark.parametrize("name", contracts.RECORDS)
def test_every_record_has_examples_of_both_kinds(name: str) -> None:
    for kind in ("valid", "invalid"):
        assert list((ROOT / "examples" / kind / name).glob("*.json"))


@pytest.mark.parametrize(("name", "path"), _examples("valid"))
def test_a_valid_example_validates_and_is_read(name: str, path: Path) -> None:
    VALIDATORS[name].validate(json.loads(path.read_text()))
    if name in INPUTS:
        assert not isinstance(_decoded(name, path.read_bytes()), Rejection)
    elif name == "capture-line":
        parse(path.read_bytes().replace(b"\n", b""))
    elif not name.endswith("dead-letter-headers"):
        msgspec.json.decode(path.read_bytes(), type=contracts.RECORDS[name])


@pytest.mark.parametrize(("name", "path"), _examples("invalid"))
def test_an_invalid_example_is_refused_by_schema_and_code(name: str, path: Path) -> None:
    assert not VALIDATORS[name].is_valid(json.loads(path.read_text()))
    if name in INPUTS:
        assert isinstance(_decoded(name, path.read_bytes()), Rejection)
    elif name == "capture-line":
        with pytest.raises(CaptureLineError):
            parse(path.read_bytes().replace(b"\n", b""))


_json = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.integers(0, 3), max_size=2)
_members = st.sampled_from("ticket_id event_id sequence command_id state reason session_id channel".split())


@given(st.sampled_from(sorted(INPUTS)), st.dictionaries(_members, _json, max_size=3))
@settings(max_examples=400, deadline=None)
def test_schema_and_decoder_agree_on_inputs(name: str, members: dict[str, Any]) -> None:
    """Apart from values that are text by type and still no value (`""`): those only the decoder knows."""
    record = {"ticket_id": "1", "occurred_at": "2026-03-01T10:00:00Z", "ticket": {}, "state": "active"} | members
    if any(isinstance(record.get(key), str) and not str(record[key]).strip("_ ") for key in ("ticket_id", "state")):
        return
    rejection = _decoded(name, json.dumps(record).encode())
    rejected = isinstance(rejection, Rejection) and rejection.code not in ("key_mismatch", "missing_key")
    if VALIDATORS[name].is_valid(record) and rejected:
        assert rejection.path == "$.state", "a name that nothing is left of"
        return
    assert VALIDATORS[name].is_valid(record) != rejected


_instants = st.sampled_from(
    """
    2026-03-01T10:00:00Z 2026-03-01t10:00:00z 2026-03-01T10:00:00.123456789Z 2026-03-01T10:00:60Z
    2026-03-01T10:00:00-00:00 2026-03-01T10:00:00+23:59 2026-03-01T10:00:00+24:00 2026-03-01T10:00:00+0100
    2026-03-01_10:00:00Z 2026-03-01T10:00:00 2026-03-01T10:00:61Z 2026-03-01T24:00:00Z 2026-03-01T10:00:00,5Z
    2026-03-01T10:00:00.Z 2026-13-01T10:00:00Z 0000-03-01T10:00:00Z 20260301T100000Z 2026-03-01T10:00Z
    """.split()
)
_numbers = st.sampled_from([360.0, 1.5, -1.0, 1e3, 2**70, True])


@given(
    st.sampled_from(sorted(INPUTS)),
    _instants | _instants.map(lambda text: text.replace("T", " ")),
    st.dictionaries(st.sampled_from("ticket_id event_id sequence command_id session_id".split()), _numbers, max_size=2),
    _json | st.lists(_json, max_size=2),
    st.none() | st.lists(st.fixed_dictionaries({"id": _numbers | st.just("") | st.just("7")}), max_size=2),
)
@settings(max_examples=400, deadline=None)
def test_schema_and_decoder_agree_on_every_spelling(
    name: str, instant: str, members: dict[str, Any], tags: Any, custom_fields: Any
) -> None:
    ticket = {"tags": tags, "custom_fields": custom_fields}
    record = {"ticket_id": "1", "occurred_at": instant, "ticket": ticket, "state": "active"} | members
    rejection = _decoded(name, json.dumps(record).encode())
    rejected = isinstance(rejection, Rejection) and rejection.code not in ("key_mismatch", "bad_timestamp")
    assert VALIDATORS[name].is_valid(record) != rejected


@given(records())
@settings(max_examples=60, deadline=None)
def test_everything_that_is_written_validates(story: list[tuple[str, str | None, Any, int]]) -> None:
    driver = Driver(RULES, SETTINGS)
    for topic, key, value, timestamp in story:
        driver.pipe(topic, key, value, timestamp)
    driver.advance(START_MS + 3_600_000)
    for command in driver.commands():
        VALIDATORS["action-command"].validate(command)
    for record in driver.records():
        VALIDATORS[record["type"]].validate(record)
    for letter in driver.dead_letters():
        headers = {name: value.decode() for name, value in letter.headers if name.startswith("lapse.")}
        VALIDATORS["dead-letter-headers"].validate(headers)


def test_the_command_finds_what_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts, "FOLDER", tmp_path)
    assert contracts.main(["--check"]) == 1
    assert contracts.main([]) == 0
    assert contracts.main(["--check"]) == 0
    (tmp_path / "transition.schema.json").write_text("{}")
    assert contracts.main(["--check"]) == 1
