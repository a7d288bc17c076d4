"""The four recipes of `deploy/triggers/recipes.yaml`, all of them active, written by hand in Zendesk's cycle.

Knows nothing of this project, so that Quix Streams can have it in an environment of its own.
"""

from __future__ import annotations

from typing import Any

_TAG = "abandoned_conversation"
_RECIPES = (
    ("solve-abandoned", lambda ticket: ticket.get("status") == "open", {"status": "solved"}, True),
    (
        "email-follow-up",
        lambda ticket: True,
        {"routing_channel": "email", "group_id": "360000000010", "priority": "normal"},
        False,
    ),
    (
        "second-queue",
        lambda ticket: ticket.get("priority") == "high",
        {"priority": "low", "group_id": "360000000020"},
        False,
    ),
    ("tag-abandoned", lambda ticket: True, {}, True),
)


def merged(row: dict[str, Any] | None, changes: dict[str, Any]) -> dict[str, Any]:
    """A ticket's row after an update: members present replace, members absent stay, custom fields merge by id."""
    if row is None:
        return changes
    custom = {**(row.get("custom_fields") or {}), **(changes.get("custom_fields") or {})}
    return {**row, **changes, "custom_fields": custom}


def take_session(
    ticket_id: str, row: dict[str, Any] | None, event: dict[str, Any], ticket: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The session's row after an event, and the command when it was a lapse that asks for one."""
    before, episode = (None, 0) if row is None else (row["state"], row["episode"])
    state = event["state"].lower()
    reason = event["reason"] and event["reason"].lower().replace(" ", "_")
    lapsed = state == "inactive" and before not in ("inactive", "ended")
    row = {
        "state": state,
        "reason": reason,
        "session_id": event["session_id"],
        "channel": event["channel"],
        "occurred_at": event["occurred_at"],
        "episode": episode + lapsed,
    }
    if not lapsed or ticket is None or (decided := decide(ticket, reason)) is None:
        return row, None
    triggers, actions = decided
    return row, {
        "ticket_id": ticket_id,
        "transition": {"episode": row["episode"], "event_id": event["event_id"]},
        "triggers": [{"id": each} for each in triggers],
        "actions": actions,
    }


def decide(ticket: dict[str, Any], reason: str | None) -> tuple[list[str], list[dict[str, Any]]] | None:
    """The triggers that fired and their net actions, None when nothing would change."""
    if reason != "user_inactive_or_offline" or ticket.get("status") == "closed":
        return None
    has_tag = _TAG in (ticket.get("tags") or ())
    now, tagged, left, fired, order = dict(ticket), has_tag, list(_RECIPES), [], []
    place = 0
    while place < len(left):
        name, holds, changes, tags = left[place]
        if not holds(now):
            place += 1
            continue
        del left[place]
        fired.append(name)
        changed = (tags and not tagged) or any(now.get(field) != value for field, value in changes.items())
        tagged |= tags
        now.update(changes)
        order += [field for field in changes if field not in order]
        if changed:
            place = 0
    actions: list[dict[str, Any]] = [
        {"field": field, "value": now[field]} for field in order if now[field] != ticket.get(field)
    ]
    if tagged and not has_tag:
        actions.append({"field": "add_tags", "value": [_TAG]})
    return (fired, actions) if actions else None
