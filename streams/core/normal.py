"""Normalisation of values, the same for records and for trigger values (SPEC section 2, *Normalised*)."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

from streams.core.model import Value
from streams.core.names import CHANNEL_FIELD, REASON_FIELD, STATE_FIELD, UPDATE_FIELD

NAMES = frozenset({"status", "priority", "type", "state", "reason", "channel"})
"""Members whose values are names: written in lower case with single underscores."""

SESSION_FIELDS = {
    STATE_FIELD: "state",
    REASON_FIELD: "reason",
    CHANNEL_FIELD: "channel",
}
"""Condition fields that concern the session, and the session member that each one reads."""

TAG_FIELDS = frozenset({"tags", "current_tags"})
CUSTOM_FIELD_PREFIX = "custom_fields_"
NO_VALUES = frozenset({"", "__NULL__"})

EXACT_FLOAT = 2.0**53
"""Below this every whole number has its own float; from here on several whole numbers share one."""

_NOT_LETTER_OR_DIGIT = re.compile(r"[\W_]+")
_DOTTED_I = "i\u0307"
"""The Turkish capital `İ` after case folding."""

_STATUS_LABELS = {"on_hold": "hold"}
"""Zendesk's user interface has a different name for one status than its API."""


@lru_cache(maxsize=4096)
def name(text: str) -> str | None:
    """Normalise a state, reason, priority or similar as a name; None when no letter or digit is left.

    >>> name("User inactive or offline"), name("İNACTİVE"), name("निष्क्रिय")
    ('user_inactive_or_offline', 'inactive', 'निष्क्रिय')
    >>> name(" -- ") is None
    True
    """
    if not text.isascii():
        return _name_beyond_ascii(text)
    return _NOT_LETTER_OR_DIGIT.sub("_", text.casefold()).strip("_") or None


def _name_beyond_ascii(text: str) -> str | None:
    """Normalise a name with NFKC and case folding; combining marks stay with the letter or digit before them."""
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    folded = unicodedata.normalize("NFKC", folded.replace(_DOTTED_I, "i"))
    spelled: list[str] = []
    follows_letter = False
    for character in folded:
        follows_letter = character.isalnum() or (follows_letter and unicodedata.category(character).startswith("M"))
        if follows_letter:
            spelled.append(character)
        elif spelled and spelled[-1] != "_":
            spelled.append("_")
    return "".join(spelled).rstrip("_") or None


def member_name(member: str, text: str) -> str | None:
    """Normalise the value of a member in `NAMES` as a name.

    >>> member_name("status", "On-hold"), member_name("type", "On-hold")
    ('hold', 'on_hold')
    """
    spelled = name(text)
    return _STATUS_LABELS.get(spelled, spelled) if member == "status" and spelled is not None else spelled


def text(value: Any) -> str:
    """Return a scalar as its JSON text without quotes, the form that `is` compares.

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
    """Return tags, given as text or as a list, as a list of words without repeats, in the order given.

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


def id_text(value: Any) -> str:
    """Return an id as text; a JSON number with a zero fraction becomes an integer.

    >>> id_text(360), id_text(360.0), id_text("360.0"), id_text(1.5)
    ('360', '360', '360.0', '1.5')
    """
    if type(value) is float and value.is_integer() and abs(value) < EXACT_FLOAT:
        return str(int(value))
    return text(value)


def is_id(member: str) -> bool:
    """Whether a member holds an id, which becomes a string also when it was written as a number."""
    return member.endswith("_id")


def member_value(member: str, value: Value) -> Value:
    """Normalise the value of one ticket member (not tags, not custom fields).

    >>> member_value("status", "On-Hold"), member_value("group_id", 360.0), member_value("priority", "__NULL__")
    ('hold', '360', None)
    """
    if value is None or (isinstance(value, str) and value in NO_VALUES):
        return None
    if member in NAMES and not isinstance(value, list):
        return member_name(member, text(value))
    if is_id(member):
        return [id_text(item) for item in value if item is not None] if isinstance(value, list) else id_text(value)
    return value


def custom_field_value(value: Value) -> Value:
    """Normalise a custom field's value: the spellings of *no value* become None, all else is kept as written."""
    return None if isinstance(value, str) and value in NO_VALUES else value


def field_value(field: str, value: Value) -> Value:
    """Normalise a scalar that a trigger gives for `field`: the same rules, selected by the condition's field name.

    >>> field_value("messaging_session_inactive_reason", "User inactive or offline")
    'user_inactive_or_offline'
    """
    if field.startswith(CUSTOM_FIELD_PREFIX) or field in TAG_FIELDS:
        return custom_field_value(value)
    if field == UPDATE_FIELD and isinstance(value, str):
        return name(value)  # Zendesk's own exports write `Change`
    return member_value(SESSION_FIELDS.get(field, field), value)
