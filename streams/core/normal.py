"""One spelling for each value, in records and in trigger values alike (SPEC section 2, *Normalised*)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from streams.core.model import Value
from streams.core.names import CHANNEL_FIELD, REASON_FIELD, STATE_FIELD, UPDATE_FIELD

NAMES = frozenset({"status", "priority", "type", "state", "reason", "channel"})
"""Members whose values are names: spelled in lower case with single underscores."""

SESSION_FIELDS = {
    STATE_FIELD: "state",
    REASON_FIELD: "reason",
    CHANNEL_FIELD: "channel",
}
"""Condition fields that speak of the session, and the session member each one reads."""

TAG_FIELDS = frozenset({"tags", "current_tags"})
CUSTOM_FIELD_PREFIX = "custom_fields_"
NO_VALUES = frozenset({"", "__NULL__"})

_NOT_LETTER_OR_DIGIT = re.compile(r"[\W_]+")


@lru_cache(maxsize=4096)
def name(text: str) -> str | None:
    """Spell a state, reason, status and the like as a name; None when no letter or digit is left.

    >>> name("User inactive or offline")
    'user_inactive_or_offline'
    >>> name(" -- ") is None
    True
    """
    return _NOT_LETTER_OR_DIGIT.sub("_", text.casefold()).strip("_") or None


def text(value: Any) -> str:
    """Return a scalar as its JSON text without quotes, the form in which `is` compares.

    >>> text(True), text(360), text("360"), text(1.5)
    ('true', '360', '360', '1.5')
    """
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    return repr(value)


def words(value: Value) -> list[str]:
    """Return tags, however they were written, as a list of words without repeats, in the order given.

    >>> words("vip  late vip"), words(["vip", 7, None]), words(None)
    (['vip', 'late'], ['vip', '7'], [])
    """
    if value is None:
        return []
    if isinstance(value, str):
        return list(dict.fromkeys(value.split()))
    if isinstance(value, list):
        return list(dict.fromkeys(text(word) for word in value if word is not None and word != ""))
    return [text(value)]


def is_id(member: str) -> bool:
    """Whether a member holds an id, which is a string whatever it was written as."""
    return member.endswith("_id")


def member_value(member: str, value: Value) -> Value:
    """Normalise the value of one ticket member (not tags, not custom fields).

    >>> member_value("status", "On-Hold"), member_value("group_id", 360), member_value("priority", "__NULL__")
    ('on_hold', '360', None)
    """
    if value is None or (isinstance(value, str) and value in NO_VALUES):
        return None
    if member in NAMES and not isinstance(value, list):
        return name(text(value))
    if is_id(member):
        return [text(item) for item in value if item is not None] if isinstance(value, list) else text(value)
    return value


def custom_field_value(value: Value) -> Value:
    """Normalise a custom field's value: kept as written, save that the spellings of *no value* are None."""
    return None if isinstance(value, str) and value in NO_VALUES else value


def field_value(field: str, value: Value) -> Value:
    """Normalise a scalar that a trigger names for `field`: the same rules, found by the condition's field name.

    >>> field_value("messaging_session_inactive_reason", "User inactive or offline")
    'user_inactive_or_offline'
    """
    if field.startswith(CUSTOM_FIELD_PREFIX) or field in TAG_FIELDS:
        return custom_field_value(value)
    if field == UPDATE_FIELD and isinstance(value, str):
        return name(value)  # Zendesk's own exports write `Change`
    return member_value(SESSION_FIELDS.get(field, field), value)
