"""What an account of Zendesk gets is what `lapse ingest` and `lapse apply` understand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.zendesk.__main__ import FOLDER, INACTIVE, PUBLISHED, conditions_of, files, main, posts
from streams.core.model import SECOND
from streams.testing.zendesk.tokens import READ, WRITE, Client, Tokens
from streams.zendesk.apply.client import SCOPES
from streams.zendesk.events import Kind, receive

SAMPLE = Path(FOLDER).parent / "samples" / "zendesk-definitions.json"


def definitions(**changes: Any) -> Any:
    found = json.loads(SAMPLE.read_text("utf-8"))
    found["definitions"]["conditions_all"] += changes.get("more", [])
    return found


def test_the_files_are_those_of_the_table() -> None:
    for name, text in files(PUBLISHED).items():
        assert (FOLDER / name).read_text("utf-8") == text, "run `python -m deploy.zendesk`"


@pytest.mark.parametrize("conditions", [PUBLISHED, conditions_of(definitions())], ids=["published", "an account's"])
def test_every_trigger_posts_a_body_that_ingest_takes(conditions: Any) -> None:
    triggers = json.loads(files(conditions, "01J")["triggers.json"])
    states = set()
    for made in triggers:
        (action,) = made["trigger"]["actions"]
        webhook, text = action["value"]
        assert (action["field"], webhook) == ("notification_webhook", "01J")
        body = text.replace("{{ticket.id}}", "5158").replace("{{ticket.via}}", "Web Messaging").encode()
        found = receive(body, signature="s", signed_at="2026-03-01T10:00:00Z", arrived_at=1_772_359_200 * SECOND)
        assert found.kind is Kind.SESSION
        assert found.record is not None
        record = json.loads(found.record.value or b"")
        assert record["channel"] == "web_messaging"
        assert (record["state"] == INACTIVE.lower()) == ("reason" in record)
        states.add((record["state"], record.get("reason")))
    assert len(states) == len(triggers), "one trigger for each state and reason"
    assert {("active", None), ("inactive", "user_inactive_or_offline")} <= states


def test_an_account_without_the_state_ended_gets_a_trigger_for_each_reason_of_an_end() -> None:
    ended = {
        "title": "Ticket > Messaging session ended reason",
        "subject": "ended_reason_x",
        "values": [
            {"value": "7", "title": "Ended by agent", "enabled": True},
            {"value": "8", "title": "x", "enabled": False},
        ],
    }
    made = list(posts(conditions_of(definitions(more=[ended]))))
    assert [(post.state, post.reason, post.conditions) for post in made if post.state == "Ended"] == [
        ("Ended", "Ended by agent", (("ended_reason_x", "is", "7"),))
    ]


def test_definitions_without_messaging_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "definitions.json"
    file.write_text('{"definitions": {"conditions_all": []}}')
    assert main(["--definitions", str(file), "-o", str(tmp_path)]) == 1
    assert "no condition with the title 'Messaging session state'" in capsys.readouterr().err
    assert main(["--definitions", str(SAMPLE), "--webhook-id", "01J", "-o", str(tmp_path / "made")]) == 0
    assert "messaging_session_state_v2" in (tmp_path / "made" / "triggers.json").read_text("utf-8")


def test_a_token_by_hand_may_do_what_apply_asks_for_and_no_more() -> None:
    client = json.loads((FOLDER / "oauth-client.json").read_text("utf-8"))["client"]
    asked = json.loads((FOLDER / "oauth-token.json").read_text("utf-8"))
    assert client["kind"] == "confidential"
    assert asked["client_id"] == client["identifier"]
    assert tuple(asked["scope"].split()) == SCOPES
    tokens = Tokens((Client(client["identifier"], asked["client_secret"], "a service user"),), 1_800)
    answer = tokens.issue(asked, 0.0)
    assert (answer.status, answer.json["token_type"]) == (200, "bearer")
    for needed in (READ, WRITE):
        assert tokens.user_of(f"Bearer {answer.json['access_token']}", needed, 1.0) == "a service user"
