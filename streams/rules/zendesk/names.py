"""This account's names for the fields whose API names Zendesk does not publish.

*Messaging session state*, *Messaging session inactive reason* and *Set routing channel* are found by their titles in
`GET /api/v2/triggers/definitions.json`: an entry's `subject` is the API name. Without a definitions file, Zendesk's
names are assumed to be the same as Lapse's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streams.core import normal
from streams.core.names import REASON_FIELD, STATE_FIELD
from streams.rules.reference import ENDED_REASON_FIELD

ROUTING_ACTION, END_ACTION = "routing_channel", "end_messaging_session"

_CONDITION_TITLES = {
    "messaging_session_state": STATE_FIELD,
    "messaging_session_inactive_reason": REASON_FIELD,
    "messaging_session_inactive_reasons": REASON_FIELD,
    "messaging_session_ended_reason": ENDED_REASON_FIELD,
    "messaging_session_ended_reasons": ENDED_REASON_FIELD,
    "routing_channel": ROUTING_ACTION,
}
_SESSION_TITLES = {
    STATE_FIELD: "Messaging session state",
    REASON_FIELD: "Messaging session inactive reason",
}
_ACTION_TITLES = {
    "set_routing_channel": ROUTING_ACTION,
    "routing_channel": ROUTING_ACTION,
    "end_messaging_session": END_ACTION,
    "end_session": END_ACTION,
}
"""Titles as names, without the prefix (`Ticket > `)."""


@dataclass
class Names:
    """Maps names between Zendesk and Lapse in both directions; a name that is not listed is the same on both sides."""

    conditions: dict[str, str] = field(default_factory=dict)
    """From Zendesk's condition field to Lapse's."""
    actions: dict[str, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    """By Lapse's field: from Zendesk's value to the name in records, which is derived from the value's title."""
    known: bool = False
    """Whether there was a definitions file."""
    missing: tuple[str, ...] = ()
    """Titles that are missing from a definitions file because it is in another language."""
    likely: dict[str, str] = field(default_factory=dict)
    """If titles are missing: Zendesk's names of conditions that look like session fields, and their titles."""

    def condition(self, field: str) -> str:
        """Return Lapse's name of a condition field."""
        return self.conditions.get(field, field)

    def action(self, field: str) -> str:
        """Return Lapse's name of an action field."""
        return self.actions.get(field, field)

    def value(self, field: str, value: Any) -> Any:
        """Return the value that records carry for Zendesk's value of one of Lapse's fields."""
        if value is None or isinstance(value, bool | list | dict):
            return value
        return self.values.get(field, {}).get(str(value), value)

    def unlisted(self, field: str, value: Any) -> bool:
        """Whether the definitions list the values of a session field, and this value is not among them."""
        listed = self.values.get(field, {})
        known = {*listed, *listed.values()}
        return bool(listed) and isinstance(value, str | int) and str(value) not in known

    def zendesk_condition(self, field: str) -> str:
        """Return Zendesk's name of a condition field."""
        return next((theirs for theirs, ours in self.conditions.items() if ours == field), field)

    def zendesk_action(self, field: str) -> str:
        """Return Zendesk's name of an action field."""
        return next((theirs for theirs, ours in self.actions.items() if ours == field), field)

    def zendesk_value(self, field: str, value: Any) -> Any:
        """Return Zendesk's value for a value in records."""
        if not isinstance(value, str):
            return value
        return next((theirs for theirs, ours in self.values.get(field, {}).items() if ours == value), value)


def names_of(definitions: dict[str, Any] | None) -> Names:
    """Find the names in a definitions response; without one, all names are the same on both sides."""
    names = Names(known=definitions is not None)
    if definitions is None:
        return names
    for key in ("conditions_all", "conditions_any"):
        for entry in _entries(definitions, key):
            ours = _CONDITION_TITLES.get(_title(entry))
            if ours is not None:
                names.conditions.setdefault(str(entry["subject"]), ours)
                names.values.setdefault(ours, {}).update(_values(entry))
    for entry in _entries(definitions, "actions"):
        ours = _ACTION_TITLES.get(_title(entry))
        if ours is not None:
            names.actions.setdefault(str(entry["subject"]), ours)
            names.values.setdefault(ours, {}).update(_values(entry))
    found = names.conditions.values()
    names.missing = tuple(title for ours, title in _SESSION_TITLES.items() if ours not in found)
    if names.missing:
        names.likely = {
            str(entry["subject"]): str(entry.get("title", ""))
            for entry in _entries(definitions, "conditions_all")
            if looks_like_sessions(str(entry["subject"])) and str(entry["subject"]) not in names.conditions
        }
    return names


def looks_like_sessions(field: str) -> bool:
    """Whether Zendesk's name of a field looks like a messaging session field."""
    return "messaging" in field.lower() or "session" in field.lower()


def _entries(definitions: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = definitions.get(key)
    return [entry for entry in found or [] if isinstance(entry, dict) and entry.get("subject")]


def _title(entry: dict[str, Any]) -> str:
    """Return an entry's title as a name: `Ticket > Messaging session state` is `messaging_session_state`."""
    last = str(entry.get("title", "")).replace("›", ">").rsplit(">", 1)[-1].rsplit(": ", 1)[-1]
    return normal.name(last) or ""


def _values(entry: dict[str, Any]) -> dict[str, str]:
    found = {}
    for value in entry.get("values") or []:
        if isinstance(value, dict) and value.get("value") not in (None, "", "__NULL__"):
            title = normal.name(str(value.get("title", "")))
            if title:
                found[str(value["value"])] = title
    return found
