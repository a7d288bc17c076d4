"""Triggers as values: the content of a trigger file with aliases, defaults and durations resolved."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import msgspec

from streams.core.model import Micros


class Operator(StrEnum):
    """Condition operators by their Zendesk API names; the aliases live in `OPERATOR_ALIASES`."""

    IS = "is"
    IS_NOT = "is_not"
    LESS_THAN = "less_than"
    GREATER_THAN = "greater_than"
    LESS_THAN_EQUAL = "less_than_equal"
    GREATER_THAN_EQUAL = "greater_than_equal"
    CHANGED = "changed"
    NOT_CHANGED = "not_changed"
    VALUE = "value"
    NOT_VALUE = "not_value"
    VALUE_PREVIOUS = "value_previous"
    NOT_VALUE_PREVIOUS = "not_value_previous"
    INCLUDES = "includes"
    NOT_INCLUDES = "not_includes"
    PRESENT = "present"
    NOT_PRESENT = "not_present"


OPERATOR_ALIASES = {
    "changed_to": Operator.VALUE,
    "not_changed_to": Operator.NOT_VALUE,
    "changed_from": Operator.VALUE_PREVIOUS,
    "not_changed_from": Operator.NOT_VALUE_PREVIOUS,
}

ORDERING = frozenset({Operator.LESS_THAN, Operator.GREATER_THAN, Operator.LESS_THAN_EQUAL, Operator.GREATER_THAN_EQUAL})
CHANGE_FAMILY = frozenset(
    {
        Operator.CHANGED,
        Operator.NOT_CHANGED,
        Operator.VALUE,
        Operator.NOT_VALUE,
        Operator.VALUE_PREVIOUS,
        Operator.NOT_VALUE_PREVIOUS,
    }
)
WITHOUT_VALUE = frozenset({Operator.CHANGED, Operator.NOT_CHANGED, Operator.PRESENT, Operator.NOT_PRESENT})

STATUS_ORDER = ("new", "open", "pending", "hold", "solved", "closed")
PRIORITY_ORDER = ("low", "normal", "high", "urgent")

SET_FIELDS = frozenset(
    {
        "status",
        "custom_status_id",
        "priority",
        "type",
        "group_id",
        "assignee_id",
        "brand_id",
        "ticket_form_id",
        "routing_channel",
    }
)
"""Action fields that set a ticket member; `custom_fields_<id>` is another."""

TAG_ACTIONS = frozenset({"add_tags", "remove_tags", "set_tags"})
"""Action fields on tags; `current_tags` is another spelling of `add_tags`."""

PASSED_ON_PREFIXES = ("notification_", "reply_", "side_conversation_")
PASSED_ON = frozenset({"end_messaging_session"})
"""Action fields that a command carries unchanged and that have no effect on the working copy."""

Cycle: TypeAlias = Literal["restart", "single_pass"]


class Condition(msgspec.Struct, frozen=True):
    """One condition; `value` is normalised for `field` (`normal.field_value`); a list means membership."""

    field: str
    operator: Operator
    value: Any = None


class Action(msgspec.Struct, frozen=True):
    """One action; `field` is canonical (`add_tags`, not `current_tags`).

    `value` is normalised for set fields (None clears), a list of words for tag actions, and otherwise as written.
    """

    field: str
    value: Any = None


HIGHEST_COUNT = 10_000
"""The highest count of a limit."""


class Limit(msgspec.Struct, frozen=True):
    """How often a trigger may fire before its commands are held: SPEC section 10, *Rate guard*."""

    count: int
    """Firings in all partitions together, from 1 to `HIGHEST_COUNT`."""
    per: Micros
    """The length of the span in which they are counted."""


class Trigger(msgspec.Struct, frozen=True):
    """One trigger. `position` defaults to its place in the file, from 1; no category sorts as position 0."""

    id: str
    title: str
    position: float
    actions: tuple[Action, ...]
    all: tuple[Condition, ...] = ()
    any: tuple[Condition, ...] = ()
    active: bool = True
    category_position: float = 0
    wait: Micros = 0
    limit: Limit | None = None


PPM = 1_000_000
"""Parts per million in the whole."""


class Holdout(msgspec.Struct, frozen=True):
    """Which tickets get no command, so that they can be compared with the others: SPEC section 10, *Holdout*."""

    share_ppm: int
    """Share of the tickets in parts per million, from 0 to 1,000,000."""
    salt: str
    """Another salt chooses other tickets."""

    def holds_out(self, ticket_id: str) -> bool:
        """Whether a ticket is held out; always the same for the same ticket, salt and share.

        A ticket that a share holds out is also held out by every larger share with the same salt.
        """
        digest = hashlib.sha256(f"{self.salt}/{ticket_id}".encode()).digest()
        return int.from_bytes(digest[:8], "big") * PPM < self.share_ppm << 64


class Ruleset(msgspec.Struct, frozen=True):
    """All triggers of a file in file order, the cycle setting, and the 12 hex digits that identify this ruleset."""

    triggers: tuple[Trigger, ...]
    cycle: Cycle = "restart"
    digest: str = ""
    holdout: Holdout | None = None
    limit: Limit | None = None
    """The limit of every trigger that has none of its own."""
