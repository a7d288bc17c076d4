"""What a command asks of the API: SPEC section 11, *lapse apply*."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streams.wire import instants
from streams.zendesk.apply.plan import NotACommandError, Send, age_counts_from, decode_command, plan
from streams.zendesk.apply.results import Ending, Result, Source, letter_writes, result_write
from tests.zendesk.commands import command

TICKET: dict[str, Any] = {
    "id": 1,
    "status": "open",
    "priority": None,
    "group_id": 360,
    "tags": ["b", "a"],
    "custom_fields": [{"id": 11, "value": "x"}, {"id": 12, "value": ""}],
    "updated_at": "2026-03-01T10:00:00Z",
}


def made(*actions: tuple[str, Any], expected: dict[str, Any] | None = None, **options: Any) -> Any:
    given = command(
        actions=[{"field": field, "value": value} for field, value in actions],
        expected={} if expected is None else expected,
    )
    return plan(decode_command(msgspec.json.encode(given)), options.pop("ticket", TICKET), **options)


@pytest.mark.parametrize(
    ("expected", "overtaken"),
    [
        ({"status": "open"}, False),
        ({"status": "pending"}, True),
        ({"group_id": "360"}, False),
        ({"group_id": "361"}, True),
        ({"group_id": None}, True),
        ({"priority": None}, False),
        ({"priority": "high"}, True),
        ({"tags": ["a", "b"]}, False),
        ({"tags": ["a"]}, True),
        ({"custom_fields_11": "x"}, False),
        ({"custom_fields_11": "y"}, True),
        ({"custom_fields_12": None}, False),
        ({"custom_fields_13": None}, False),
        ({"updated_at": "2020-01-01T00:00:00Z"}, False),
        ({"routing_channel": "messaging"}, False),
    ],
)
def test_another_expected_value_than_updated_at_overtakes_a_command(expected: dict[str, Any], overtaken: bool) -> None:
    found = made(("priority", "low"), expected=expected)
    assert isinstance(found, Ending) == overtaken
    if overtaken:
        assert found.result is Result.OVERTAKEN
        assert next(iter(expected)) in found.why


@pytest.mark.parametrize("status", ["closed", "deleted"])
def test_a_closed_or_deleted_ticket_is_gone(status: str) -> None:
    assert made(("status", "solved"), ticket=TICKET | {"status": status}).result is Result.GONE


def test_one_update_has_fields_custom_fields_by_id_all_tags_and_the_stamp_that_was_read() -> None:
    found = made(
        ("status", "solved"),
        ("group_id", "361"),
        ("assignee_id", None),
        ("custom_fields_11", "z"),
        ("add_tags", ["c"]),
        ("remove_tags", ["a"]),
    )
    given = decode_command(msgspec.json.encode(command()))
    assert found == Send(
        ticket={
            "status": "solved",
            "group_id": 361,
            "assignee_id": None,
            "custom_fields": [{"id": 11, "value": "z"}],
            "tags": ["b", "c"],
            "metadata": {"command_id": given.command_id},
            "safe_update": True,
            "updated_stamp": "2026-03-01T10:00:00Z",
        },
        stamp="2026-03-01T10:00:00Z",
    )


def test_tags_that_are_set_replace_those_that_were_read() -> None:
    assert made(("set_tags", ["c"])).ticket["tags"] == ["c"]
    assert made(("set_tags", [])).ticket["tags"] == []
    assert "tags" not in made(("status", "solved")).ticket


def test_the_commands_id_goes_into_the_field_that_is_configured() -> None:
    found = made(("status", "solved"), command_field="77")
    assert found.ticket["custom_fields"] == [{"id": 77, "value": found.ticket["metadata"]["command_id"]}]


def test_a_public_reply_is_a_comment_and_what_the_api_lacks_is_named() -> None:
    found = made(
        ("status", "solved"),
        ("reply_public", "See you."),
        ("notification_user", ["requester_id", "Subject", "Text"]),
        ("end_messaging_session", True),
        ("routing_channel", "email"),
    )
    assert found.ticket["comment"] == {"body": "See you.", "public": True}
    assert found.not_done == ("notification_user", "end_messaging_session", "routing_channel")


def test_a_command_of_which_nothing_can_be_done_is_refused() -> None:
    found = made(("end_messaging_session", True))
    assert (found.result, found.not_done) == (Result.REFUSED, ("end_messaging_session",))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "truncated"),
        (b"[]", "object"),
        (b'{"command_id": "c"}', "missing"),
        (msgspec.json.encode(command("1/../2")), "whole numbers"),
        (msgspec.json.encode(command() | {"issued_at": "yesterday"}), "RFC 3339"),
    ],
)
def test_what_is_no_command_says_why(value: bytes | None, why: str) -> None:
    with pytest.raises(NotACommandError, match=why):
        decode_command(value)


def test_a_member_that_a_newer_version_adds_does_no_harm() -> None:
    assert decode_command(msgspec.json.encode(command() | {"new": 1})).ticket_id == "1"


def test_the_age_of_a_held_command_counts_from_its_release() -> None:
    given = decode_command(msgspec.json.encode(command(issued_at=1_000_000)))
    assert age_counts_from(given, []) == 1_000_000
    released = instants.text(9_000_000).encode()
    assert age_counts_from(given, [("lapse.released_at", released)]) == 9_000_000
    assert age_counts_from(given, [("lapse.released_at", b"soon")]) == 1_000_000


def test_a_result_names_what_was_not_done_only_where_there_is_any() -> None:
    ending = Ending(Result.APPLIED, 200)
    write = result_write(b"1", "c", "1", ending, 0)
    assert msgspec.json.decode(write.value or b"") == {
        "command_id": "c",
        "result": "applied",
        "status": 200,
        "at": "1970-01-01T00:00:00Z",
        "ticket_id": "1",
    }
    less = result_write(b"1", "c", "1", Ending(Result.APPLIED, 200, not_done=("notification_user",)), 0)
    assert msgspec.json.decode(less.value or b"")["not_done"] == ["notification_user"]


def test_a_letter_carries_the_command_and_the_answer_or_less_of_it_where_it_does_not_fit() -> None:
    source = Source("action-commands", 2, 7, 5, b"1", b"{}", (("ce_id", b"c"),))
    whole, without_answer, without_headers, least = letter_writes(source, "refused", "because", 422, "no" * 5_000)
    headers = dict(whole.headers)
    assert (whole.key, whole.value, headers["ce_id"], headers["lapse.apply.status"]) == (b"1", b"{}", b"c", b"422")
    assert len(headers["lapse.apply.answer"] or b"") == 4_096
    assert headers["lapse.source.topic"] == b"action-commands"
    assert "lapse.apply.answer" not in dict(without_answer.headers)
    assert "ce_id" not in dict(without_headers.headers)
    assert (without_headers.value, least.value) == (b"{}", None)
