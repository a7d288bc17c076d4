"""Mapping files: what is read, and that everything wrong is named where it stands."""

from __future__ import annotations

import pytest

from streams.core.errors import Refused
from streams.core.names import Topic
from streams.mapping.envelopes import Encoding, Envelope
from streams.mapping.files import KeyForm, load_mapping, read_mapping


def written(tmp_path, text):
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    return path


def test_a_whole_mapping_is_read(tmp_path):
    topics = load_mapping(
        written(
            tmp_path,
            """
ticket-updates:
  envelope: connect
  encoding: confluent-json
  key: {form: json, ticket_id: id}
  deleted: op == 'd'
  members:
    ticket_id: id
    occurred_at: at
    ticket.status: state
  values:
    ticket.status: {"1": open, "*": null}
""",
        )
    )
    mapping = topics[Topic.TICKETS]
    assert list(topics) == [Topic.TICKETS]
    assert (mapping.envelope, mapping.encoding, mapping.key_form) == (
        Envelope.CONNECT,
        Encoding.CONFLUENT_JSON,
        KeyForm.JSON,
    )
    assert {name: one.text for name, one in mapping.members.items()} == {
        "ticket_id": "id",
        "occurred_at": "at",
        "ticket.status": "state",
    }
    assert mapping.values == {"ticket.status": {"1": "open", "*": None}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: empty: the file is empty"),
        ("- a", "1:1: wrong_type: a mapping file is a mapping"),
        (
            "ticket-update: {}",
            "1:1: unknown_key: a mapping file has no key `ticket-update`; did you mean",
        ),
        ("session-states:\n  key: text", "2:3: no_members: `members` says where"),
        ("session-states:\n  members: {state: 'a.'}", "2:20: bad_expression: `state`: `a.` is no JMESPath"),
        (
            "session-states:\n  members: {stat: a}",
            "2:13: unknown_key: `members` has no key `stat`; did you mean",
        ),
        ("session-states:\n  members: {ticket.status: a}", "2:13: unknown_key"),
        (
            "session-states:\n  envelope: avro\n  members: {state: a}",
            "2:13: bad_choice: `envelope` of",
        ),
        ("session-states:\n  key: {form: text, ticket_id: a}\n  members: {state: a}", "2:21: superfluous_value"),
        ("session-states:\n  members: {state: a}\n  values: {state: AWAY}", "3:19: wrong_type: `state` is a table"),
        ("session-states:\n  members: {state: [a]}", "2:20: wrong_type"),
    ],
)
def test_what_is_wrong_is_named_where_it_stands(tmp_path, text, expected):
    path = written(tmp_path, text)
    problems = [str(problem).removeprefix(f"{path}:") for problem in read_mapping(path).problems]
    assert any(problem.startswith(expected) for problem in problems), problems


def test_everything_wrong_is_said_at_once(tmp_path):
    with pytest.raises(Refused) as refused:
        load_mapping(written(tmp_path, "session-states:\n  key: odd\n  members: {state: 'a.', reason: ']'}\n"))
    assert str(refused.value).count("\n") == 3


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Refused, match=r"nowhere\.yaml:1:1: not_found"):
        load_mapping(tmp_path / "nowhere.yaml")
