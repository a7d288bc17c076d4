"""`python -m deploy.zendesk`: writes the webhook and the triggers that post the state of messaging sessions.

It also writes what `lapse apply` needs: the OAuth client, a request for a token to try it with, and the ticket field.

No event of Zendesk's carries a session's state, but triggers can react to it. So there is one trigger for each state,
and for *inactive* one for each reason, whose only action is a post to the webhook.

The API's names of the conditions differ between accounts, and so may the reasons. With the answer of
`GET /api/v2/triggers/definitions` they are looked up by their titles:

    python -m deploy.zendesk --definitions definitions.json --webhook-id 01J... -o zendesk/
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent

STATE, REASON, ENDED_REASON = (
    "Messaging session state",
    "Messaging session inactive reason",
    "Messaging session ended reason",
)
"""Titles of the three conditions, as Zendesk's screens have them. Not every account has the third one."""

ACTIVE, INACTIVE, ENDED = "Active", "Inactive", "Ended"
"""Titles of the states. They are posted, and not the API's values, which may be anything."""

OAUTH_CLIENT = "lapse"
SCOPES = ("tickets:read", "tickets:write")
"""What `lapse apply` asks for."""

WEBHOOK_ID = "REPLACE_WITH_THE_WEBHOOK_ID"
ENDPOINT = "https://REPLACE_WITH_YOUR_HOST/zendesk"


class Condition(NamedTuple):
    """A condition as an account knows it: the field's name, and (value, title) of each choice."""

    field: str
    values: tuple[tuple[str, str], ...]


PUBLISHED = {
    STATE: Condition("messaging_session_state", (("active", ACTIVE), ("inactive", INACTIVE), ("ended", ENDED))),
    REASON: Condition("messaging_session_inactive_reason", (("user_inactive_or_offline", "User inactive or offline"),)),
}
"""What Zendesk has published; an account's own definitions replace it."""


class Post(NamedTuple):
    """One trigger: the state that it posts, for which reason, and its conditions as (field, operator, value)."""

    state: str
    reason: str | None
    conditions: tuple[tuple[str, str, str], ...]

    @property
    def title(self) -> str:
        """Return the trigger's title."""
        return f"Lapse: session {self.state.lower()}" + ("" if self.reason is None else f" ({self.reason})")


def posts(conditions: dict[str, Condition]) -> Iterator[Post]:
    """Yield a post for each state, and for *inactive* one for each reason.

    Where *ended* is no value of the state, there is one for each reason for which a session has ended.
    """
    states, ended = conditions[STATE], conditions.get(ENDED_REASON)
    for value, title in states.values:
        changed = (states.field, "value", value)
        if title == INACTIVE:
            reasons = conditions[REASON]
            for reason, words in reasons.values:
                yield Post(title, words, (changed, (reasons.field, "is", reason)))
        else:
            yield Post(title, None, (changed,))
    if ended is not None and ENDED not in {title for _, title in states.values}:
        for reason, words in ended.values:
            yield Post(ENDED, words, ((ended.field, "is", reason),))


def body(post: Post) -> dict[str, str]:
    """Return what a trigger posts; Zendesk fills in the placeholders."""
    said = {"ticket_id": "{{ticket.id}}", "state": post.state, "channel": "{{ticket.via}}"}
    return said if post.reason is None else {**said, "reason": post.reason}


def trigger(post: Post, webhook_id: str) -> dict[str, Any]:
    """Return the body of `POST /api/v2/triggers`."""
    wanted = [{"field": field, "operator": operator, "value": value} for field, operator, value in post.conditions]
    text = json.dumps(body(post), ensure_ascii=False)
    return {
        "trigger": {
            "title": post.title,
            "description": "Tells Lapse the state of the messaging session. Made by `python -m deploy.zendesk`.",
            "active": True,
            "conditions": {"all": wanted, "any": []},
            "actions": [{"field": "notification_webhook", "value": [webhook_id, text]}],
        }
    }


def webhook() -> dict[str, Any]:
    """Return the body of `POST /api/v2/webhooks`, which takes ticket events and the triggers' posts alike."""
    return {
        "webhook": {
            "name": "Lapse",
            "description": "Ticket events, and the triggers whose titles begin with Lapse.",
            "endpoint": ENDPOINT,
            "http_method": "POST",
            "request_format": "json",
            "status": "active",
            "subscriptions": ["conditional_ticket_events"],
        }
    }


def events() -> dict[str, Any]:
    """Return the body of `POST /api/v2/webhooks` for ticket events, which need a webhook of their own."""
    made = webhook()
    return {
        "webhook": {
            **made["webhook"],
            "name": "Lapse: ticket events",
            "description": "Snapshots of tickets, and custom fields one by one.",
            "subscriptions": ["zen:event-type:ticket.*"],
        }
    }


def oauth_client() -> dict[str, Any]:
    """Return the body of `POST /api/v2/oauth/clients`. What the client may do is asked for with each token."""
    return {
        "client": {
            "name": "Lapse",
            "identifier": OAUTH_CLIENT,
            "kind": "confidential",
            "description": "Reads and updates tickets: `lapse apply`.",
        }
    }


def oauth_token() -> dict[str, Any]:
    """Return the body of `POST /oauth/tokens` as `lapse apply` sends it."""
    return {
        "grant_type": "client_credentials",
        "client_id": OAUTH_CLIENT,
        "client_secret": "REPLACE_WITH_THE_SECRET",
        "scope": " ".join(SCOPES),
    }


def command_field() -> dict[str, Any]:
    """Return the body of `POST /api/v2/ticket_fields`: agents see the field, customers do not."""
    return {
        "ticket_field": {
            "type": "text",
            "title": "Lapse command",
            "description": "Id of the command that Lapse carried out last on this ticket.",
            "required": False,
            "visible_in_portal": False,
            "editable_in_portal": False,
        }
    }


def conditions_of(definitions: Any) -> dict[str, Condition]:
    """Look the conditions up by their titles. Raises `ValueError` when one is not there."""
    every = definitions.get("definitions", {}).get("conditions_all", [])
    found = {}
    for title in (STATE, REASON, ENDED_REASON):
        known = next((one for one in every if one["title"].rpartition("> ")[2] == title), None)
        if known is None:
            if title == ENDED_REASON:
                continue
            raise ValueError(f"the definitions have no condition with the title {title!r}; does the plan include it?")
        values = tuple((one["value"], one["title"]) for one in known.get("values", []) if one.get("enabled", True))
        found[title] = Condition(known["subject"], values)
    return found


def files(conditions: dict[str, Condition], webhook_id: str = WEBHOOK_ID) -> dict[str, str]:
    """Return what each file is to hold."""
    made: dict[str, Any] = {
        "webhook-sessions.json": webhook(),
        "webhook-events.json": events(),
        "oauth-client.json": oauth_client(),
        "oauth-token.json": oauth_token(),
        "command-field.json": command_field(),
        "triggers.json": [trigger(post, webhook_id) for post in posts(conditions)],
    }
    return {name: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for name, value in made.items()}


def main(arguments: list[str]) -> int:
    """Write the files; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.zendesk", description="Makes the webhooks, triggers and OAuth client."
    )
    parser.add_argument("--definitions", type=Path, help="the answer of GET /api/v2/triggers/definitions")
    parser.add_argument("--webhook-id", default=WEBHOOK_ID, help="of the webhook that was made from the first file")
    parser.add_argument("-o", type=Path, default=FOLDER, dest="folder", help="where to write (default: deploy/zendesk)")
    given = parser.parse_args(arguments)
    conditions = PUBLISHED
    if given.definitions is not None:
        try:
            conditions = conditions_of(json.loads(given.definitions.read_text("utf-8")))
        except (OSError, ValueError) as error:
            print(f"{given.definitions}: {error}", file=sys.stderr)
            return 1
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, text in files(conditions, given.webhook_id).items():
        (given.folder / name).write_text(text, "utf-8")
        print(given.folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
