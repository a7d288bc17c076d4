"""The one table of what a trigger file may say: condition fields, operators, action fields.

Parsing, lints, the JSON Schema and the documentation all read it; nothing about a field or an operator is written
down a second time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from streams.core.names import CHANNEL_FIELD, REASON_FIELD, STATE_FIELD, UPDATE_FIELD
from streams.core.normal import CUSTOM_FIELD_PREFIX
from streams.core.triggers import (
    CHANGE_FAMILY,
    OPERATOR_ALIASES,
    ORDERING,
    PASSED_ON_PREFIXES,
    PRIORITY_ORDER,
    STATUS_ORDER,
    WITHOUT_VALUE,
    Operator,
)

# --- operators --------------------------------------------------------------------------------------------------------


class Takes(StrEnum):
    """What an operator wants as value."""

    NOTHING = "nothing"
    VALUE = "a value, or a list of which one must fit"
    RANK = "a number, or a value of the field's order"
    WORDS = "words, as a list or separated by spaces"


@dataclass(frozen=True, slots=True)
class OperatorInfo:
    """One operator: its other spellings, its value, its meaning in a sentence, an example."""

    operator: Operator
    label: str
    """As Zendesk's interface calls it."""
    meaning: str
    example: str

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other spellings that a trigger file may use."""
        return tuple(alias for alias, operator in OPERATOR_ALIASES.items() if operator is self.operator)

    @property
    def takes(self) -> Takes:
        """What stands under `value`."""
        if self.operator in WITHOUT_VALUE:
            return Takes.NOTHING
        if self.operator in ORDERING:
            return Takes.RANK
        return Takes.WORDS if self.operator in INCLUDES_FAMILY else Takes.VALUE


INCLUDES_FAMILY = frozenset({Operator.INCLUDES, Operator.NOT_INCLUDES})
EQUALITY = frozenset({Operator.IS, Operator.IS_NOT})
PRESENCE = frozenset({Operator.PRESENT, Operator.NOT_PRESENT})

FAMILIES: dict[str, frozenset[Operator]] = {
    "equality": EQUALITY,
    "order": ORDERING,
    "change": CHANGE_FAMILY,
    "words": INCLUDES_FAMILY,
    "presence": PRESENCE,
}
"""Operators that come and go together: a field suits a whole family or none of it."""

OPERATORS: dict[Operator, OperatorInfo] = {
    info.operator: info
    for info in (
        OperatorInfo(Operator.IS, "Is", "the field has this value now; with a list, one of these", "pending"),
        OperatorInfo(Operator.IS_NOT, "Is not", "the field has another value now, or none", "solved"),
        OperatorInfo(
            Operator.LESS_THAN, "Less than", "the value now comes before this one; no value never does", "pending"
        ),
        OperatorInfo(
            Operator.GREATER_THAN, "Greater than", "the value now comes after this one; no value never does", "normal"
        ),
        OperatorInfo(
            Operator.LESS_THAN_EQUAL,
            "Less than or equal to",
            "the value now is this one or comes before it; no value never does",
            "pending",
        ),
        OperatorInfo(
            Operator.GREATER_THAN_EQUAL,
            "Greater than or equal to",
            "the value now is this one or comes after it; no value never does",
            "normal",
        ),
        OperatorInfo(Operator.CHANGED, "Changed", "the value now is another than before", ""),
        OperatorInfo(Operator.NOT_CHANGED, "Not changed", "the value now is the one before", ""),
        OperatorInfo(Operator.VALUE, "Changed to", "the value changed, and is this one now", "inactive"),
        OperatorInfo(Operator.NOT_VALUE, "Not changed to", "not *changed to*; true also when unchanged", "ended"),
        OperatorInfo(Operator.VALUE_PREVIOUS, "Changed from", "the value changed, and was this one before", "active"),
        OperatorInfo(
            Operator.NOT_VALUE_PREVIOUS,
            "Not changed from",
            "not *changed from*; true also when unchanged",
            "solved",
        ),
        OperatorInfo(
            Operator.INCLUDES, "Contains at least one of the following", "the list holds one of these words", "vip late"
        ),
        OperatorInfo(
            Operator.NOT_INCLUDES, "Contains none of the following", "the list holds none of these words", "spam"
        ),
        OperatorInfo(Operator.PRESENT, "Present", "the field has a value", ""),
        OperatorInfo(Operator.NOT_PRESENT, "Not present", "the field has no value", ""),
    )
}

OPERATOR_NAMES: dict[str, Operator] = {**{operator.value: operator for operator in Operator}, **OPERATOR_ALIASES}
"""Every spelling of every operator."""

OPERATOR_HINTS = {
    "equals": "is",
    "eq": "is",
    "=": "is",
    "==": "is",
    "!=": "is_not",
    "isnt": "is_not",
    "not": "is_not",
    "equal": "is",
    "in": "is` with a list, or `includes",
    "not_in": "is_not` with a list, or `not_includes",
    "contains": "includes",
    "not_contains": "not_includes",
    "has": "includes",
    "includes_any": "includes",
    "contains_at_least_one_of_the_following": "includes",
    "contains_none_of_the_following": "not_includes",
    "does_not_include": "not_includes",
    "does_not_contain": "not_includes",
    "includes_all": "includes` once for each word, each in a condition of its own under `all",
    "contains_all": "includes` once for each word, each in a condition of its own under `all",
    "<": "less_than",
    ">": "greater_than",
    "<=": "less_than_equal",
    ">=": "greater_than_equal",
    "less": "less_than",
    "greater": "greater_than",
    "less_than_or_equal": "less_than_equal",
    "less_than_or_equal_to": "less_than_equal",
    "greater_than_or_equal": "greater_than_equal",
    "greater_than_or_equal_to": "greater_than_equal",
    "exists": "present",
    "not_exists": "not_present",
    "empty": "not_present",
    "is_empty": "not_present",
    "not_empty": "present",
    "blank": "not_present",
    "changes_to": "changed_to",
    "changed_into": "changed_to",
    "includes_words": "includes",
    "not_includes_words": "not_includes",
}
"""What people write who know other rule languages, and what to write here."""


# --- condition fields -------------------------------------------------------------------------------------------------


class Kind(StrEnum):
    """What a field holds, which decides how its values are written and which operators suit it."""

    NAME = "name"
    ID = "id"
    TAGS = "tags"
    TEXT = "text"
    NUMBER = "number"
    FLAG = "true or false"
    UPDATE = "kind of update"
    FREE = "any value"


SUITABLE: dict[Kind, frozenset[Operator]] = {
    Kind.NAME: EQUALITY | CHANGE_FAMILY | PRESENCE,
    Kind.ID: EQUALITY | CHANGE_FAMILY | PRESENCE | INCLUDES_FAMILY,
    Kind.TAGS: INCLUDES_FAMILY | PRESENCE,
    Kind.TEXT: EQUALITY | CHANGE_FAMILY | PRESENCE,
    Kind.NUMBER: EQUALITY | CHANGE_FAMILY | PRESENCE | ORDERING,
    Kind.FLAG: EQUALITY | CHANGE_FAMILY | PRESENCE,
    Kind.UPDATE: EQUALITY | PRESENCE,
    Kind.FREE: frozenset(Operator),
}
"""The operators that make sense on each kind; on TAGS and UPDATE any other is an error, elsewhere advice."""

STRICT_KINDS = frozenset({Kind.TAGS, Kind.UPDATE})


@dataclass(frozen=True, slots=True)
class ConditionField:
    """One field that conditions can look at."""

    name: str
    kind: Kind
    meaning: str
    example: str
    values: tuple[str, ...] = ()
    """Known values; empty: not known."""
    closed: bool = False
    """Whether a value outside `values` is surely a mistake, and not one that Zendesk has since added."""
    order: tuple[str, ...] = ()
    """Names in rising order, for the ordering operators."""
    aliases: tuple[str, ...] = ()

    @property
    def operators(self) -> frozenset[Operator]:
        """The operators that make sense on this field."""
        return SUITABLE[self.kind] | ORDERING if self.order else SUITABLE[self.kind]


TICKET_TYPES = ("question", "incident", "problem", "task")
SESSION_STATES = ("active", "inactive", "ended")
TAGS_FIELD = "current_tags"
KNOWN_CHANNELS = (
    "web", "web_widget", "ios", "android", "native_messaging", "whatsapp", "messenger", "instagram",
)  # fmt: skip
"""Channels that messaging sessions have; an open set, in which a value outside is no mistake by itself."""

ENDED_REASON_FIELD = "messaging_session_ended_reason"
"""Zendesk's third condition on sessions, which records have nothing for."""

CONDITION_FIELDS: dict[str, ConditionField] = {
    known.name: known
    for known in (
        ConditionField(
            STATE_FIELD,
            Kind.NAME,
            "state of the messaging session: before and after the transition that the round is about",
            "inactive",
            SESSION_STATES,
        ),
        ConditionField(
            REASON_FIELD,
            Kind.NAME,
            "why the session became inactive",
            "user_inactive_or_offline",
            ("user_inactive_or_offline",),
        ),
        ConditionField(CHANNEL_FIELD, Kind.NAME, "channel of the messaging session", "web", KNOWN_CHANNELS),
        ConditionField(
            "status",
            Kind.NAME,
            "status of the ticket; with custom statuses, its status category",
            "open",
            STATUS_ORDER,
            closed=True,
            order=STATUS_ORDER,
        ),
        ConditionField("custom_status_id", Kind.ID, "custom status of the ticket", "8447320465790"),
        ConditionField(
            "priority",
            Kind.NAME,
            "priority of the ticket",
            "high",
            PRIORITY_ORDER,
            closed=True,
            order=PRIORITY_ORDER,
        ),
        ConditionField("type", Kind.NAME, "type of the ticket", "incident", TICKET_TYPES, closed=True),
        ConditionField(TAGS_FIELD, Kind.TAGS, "tags of the ticket", "vip late", aliases=("tags",)),
        ConditionField("group_id", Kind.ID, "group that the ticket is assigned to", "360000000010"),
        ConditionField("assignee_id", Kind.ID, "agent that the ticket is assigned to", "8447388090494"),
        ConditionField("requester_id", Kind.ID, "customer who asked", "8447388090494"),
        ConditionField("submitter_id", Kind.ID, "who submitted the ticket", "8447388090494"),
        ConditionField("organization_id", Kind.ID, "organization of the requester", "360000000011"),
        ConditionField("brand_id", Kind.ID, "brand of the ticket", "8447346621310"),
        ConditionField("ticket_form_id", Kind.ID, "form of the ticket", "8646151517822"),
        ConditionField("external_id", Kind.ID, "id of the ticket in another system", "order-77"),
        ConditionField("problem_id", Kind.ID, "problem ticket that an incident belongs to", "5001"),
        ConditionField("via_id", Kind.ID, "how the ticket was created, as Zendesk's number", "75"),
        ConditionField("subject", Kind.TEXT, "subject of the ticket, as a whole", "Where is my parcel"),
        ConditionField("description", Kind.TEXT, "first comment of the ticket, as a whole", "chat"),
        ConditionField("recipient", Kind.TEXT, "address that the ticket was sent to", "help@example.org"),
        ConditionField("routing_channel", Kind.TEXT, "channel by which the ticket is routed", "email"),
        ConditionField("satisfaction_score", Kind.TEXT, "satisfaction rating", "good"),
        ConditionField("created_at", Kind.TEXT, "when the ticket was created", "2026-03-01T10:00:00Z"),
        ConditionField("updated_at", Kind.TEXT, "when the ticket was last updated", "2026-03-01T10:00:00Z"),
        ConditionField("due_at", Kind.TEXT, "when the task is due", "2026-03-02T10:00:00Z"),
        ConditionField(
            "is_public", Kind.FLAG, "whether the ticket has public comments", "true", ("true", "false"), closed=True
        ),
        ConditionField("reopens", Kind.NUMBER, "how often the ticket was reopened", "2"),
        ConditionField("replies", Kind.NUMBER, "how many replies agents wrote", "1"),
        ConditionField("agent_stations", Kind.NUMBER, "how many agents the ticket went through", "2"),
        ConditionField("group_stations", Kind.NUMBER, "how many groups the ticket went through", "2"),
        ConditionField(
            UPDATE_FIELD,
            Kind.UPDATE,
            "kind of update; here always `change`, as sessions change on tickets that exist",
            "change",
            ("create", "change"),
            closed=True,
        ),
    )
}
"""Condition fields by name. Any other ticket member may be used too; custom fields go by `custom_fields_<id>`."""

CONDITION_FIELD_ALIASES = {alias: known.name for known in CONDITION_FIELDS.values() for alias in known.aliases}

CUSTOM_FIELD = ConditionField(
    f"{CUSTOM_FIELD_PREFIX}<id>", Kind.FREE, "a custom field of the ticket, by its id", "yes_please"
)
OTHER_MEMBER = ConditionField(
    "<member>", Kind.FREE, "any other member of the ticket, by the name that the records have for it", "gold"
)

CUSTOM_FIELD_NAME = re.compile(rf"{CUSTOM_FIELD_PREFIX}[^\s{{}}<>]+")
SESSION_PREFIX = "messaging_session_"
_LOOKS_LIKE_CUSTOM_FIELD = re.compile(r"(ticket[._])?custom[_ -]?fields?(?![a-z])", re.IGNORECASE)

UPDATE_ONLY_FIELDS = frozenset(
    {
        "attachment",
        "cc",
        "comment_includes_word",
        "comment_is_public",
        "current_via_id",
        "in_business_hours",
        "on_holiday",
        "requester_role",
        "requester_time_zone",
        "role",
        "schedule_id",
        "subject_includes_word",
        "ticket_due_date",
        "ticket_is_public",
        "within_schedule",
    }
)
"""Zendesk conditions on the update, the clock or the account: a ticket's record has no such member."""

TICKET_MEMBERS = frozenset(
    {
        "allow_attachments",
        "allow_channelback",
        "assignee_updated_at",
        "collaborator_ids",
        "email_cc_ids",
        "encoded_id",
        "follower_ids",
        "followup_ids",
        "form_id",
        "forum_topic_id",
        "from_messaging_channel",
        "generated_timestamp",
        "has_incidents",
        "id",
        "locale",
        "locale_id",
        "macro_id",
        "macro_ids",
        "priority_score",
        "raw_subject",
        "requester_updated_at",
        "result_type",
        "sharing_agreement_ids",
        "skills",
        "solved_at",
        "ticket_id",
        "url",
        "via",
        "via_followup_source_id",
    }
)
"""Members that Zendesk's tickets, webhooks and exports have beside those of `CONDITION_FIELDS`."""

SYMBOLIC_IDS = frozenset(
    {
        "all_agents",
        "assignee_id",
        "current_groups",
        "current_user",
        "default_ticket_form",
        "group_id",
        "requester_and_ccs",
        "requester_id",
    }
)
"""What Zendesk lets stand for an id, and resolves itself."""


FIELD_HINTS = {
    "assigned_group": "group_id",
    "assignee": "assignee_id",
    "brand": "brand_id",
    "channel": CHANNEL_FIELD,
    "group": "group_id",
    "inactive_reason": REASON_FIELD,
    "messaging_channel": CHANNEL_FIELD,
    "messaging_inactive_reason": REASON_FIELD,
    "messaging_reason": REASON_FIELD,
    "messaging_session": STATE_FIELD,
    "messaging_state": STATE_FIELD,
    "message_channel": CHANNEL_FIELD,
    "org_id": "organization_id",
    "organisation": "organization_id",
    "organization": "organization_id",
    "requester": "requester_id",
    "reason": REASON_FIELD,
    "session_channel": CHANNEL_FIELD,
    "session_inactive_reason": REASON_FIELD,
    "session_reason": REASON_FIELD,
    "session_state": STATE_FIELD,
    "state": STATE_FIELD,
    "status_category": "status",
}
"""What people write for a field, going by Zendesk's interface, and what it is called."""

VALUE_HINTS: dict[str, dict[str, str]] = {
    "status": {"resolved": "solved", "waiting": "pending"},
    "priority": {"medium": "normal", "critical": "urgent"},
    STATE_FIELD: {"closed": "ended", "idle": "inactive", "offline": "inactive"},
    UPDATE_FIELD: {"created": "create", "updated": "change", "update": "change"},
    "is_public": {"yes": "true", "no": "false", "public": "true", "private": "false"},
}
"""By field, what people write who know the interface or other desks, and what it is called."""


def condition_field(name: str) -> ConditionField:
    """Return what is known about a field by its canonical name; members out of the table can be anything."""
    known = CONDITION_FIELDS.get(name)
    if known is not None:
        return known
    return CUSTOM_FIELD if name.startswith(CUSTOM_FIELD_PREFIX) else OTHER_MEMBER


@lru_cache(maxsize=4096)
def looks_like_custom_field(name: str) -> bool:
    """Whether a name that is no custom field's was meant to be one.

    >>> [looks_like_custom_field(name) for name in ("custom_fields", "custom_field_11", "customer", "custom_status_id")]
    [True, True, False, False]
    """
    return _LOOKS_LIKE_CUSTOM_FIELD.match(name) is not None


# --- actions ----------------------------------------------------------------------------------------------------------


class Does(StrEnum):
    """What an action does to the ticket."""

    SETS = "sets a field"
    TAGS = "changes tags"
    PASSES = "is passed on to the consumer as it is"


@dataclass(frozen=True, slots=True)
class ActionField:
    """One field that actions can write; `prefix` says that any name which begins so is meant."""

    name: str
    does: Does
    meaning: str
    example: str
    values: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    prefix: bool = False
    needs_value: bool = True


ACTION_FIELDS: dict[str, ActionField] = {
    known.name: known
    for known in (
        ActionField("status", Does.SETS, "status of the ticket", "solved", STATUS_ORDER[1:]),
        ActionField("custom_status_id", Does.SETS, "custom status of the ticket", "8447320465790"),
        ActionField("priority", Does.SETS, "priority of the ticket", "low", PRIORITY_ORDER),
        ActionField("type", Does.SETS, "type of the ticket", "question", TICKET_TYPES),
        ActionField("group_id", Does.SETS, "group that the ticket is assigned to", "360000000010"),
        ActionField("assignee_id", Does.SETS, "agent that the ticket is assigned to; empty unassigns", "8447388090494"),
        ActionField("brand_id", Does.SETS, "brand of the ticket", "8447346621310"),
        ActionField("ticket_form_id", Does.SETS, "form of the ticket", "8646151517822"),
        ActionField("routing_channel", Does.SETS, "channel by which the ticket is routed", "email"),
        ActionField(
            CUSTOM_FIELD_PREFIX, Does.SETS, "a custom field of the ticket, by its id", "yes_please", prefix=True
        ),
        ActionField("add_tags", Does.TAGS, "adds tags", "abandoned_conversation", aliases=("current_tags",)),
        ActionField("remove_tags", Does.TAGS, "removes tags", "waiting"),
        ActionField("set_tags", Does.TAGS, "replaces all tags; empty removes them", "abandoned_conversation"),
        *(
            ActionField(prefix, Does.PASSES, meaning, example, prefix=True)
            for prefix, meaning, example in zip(
                PASSED_ON_PREFIXES,
                (
                    "a notification, such as `notification_user`",
                    "a reply, such as `reply_public`",
                    "a side conversation",
                ),
                ("[requester_id, Subject, Text]", "We are here when you come back.", "[channel, Text]"),
                strict=True,
            )
        ),
        ActionField(
            "end_messaging_session", Does.PASSES, "asks for the end of the messaging session", "true", needs_value=False
        ),
    )
}
"""Action fields by name, or by the prefix of their names."""

ACTION_FIELD_ALIASES = {alias: known.name for known in ACTION_FIELDS.values() for alias in known.aliases}
ACTION_PREFIXES = tuple(known for known in ACTION_FIELDS.values() if known.prefix)

ACTION_HINTS = {
    "tags": "add_tags",
    "tag": "add_tags",
    "set_status": "status",
    "set_priority": "priority",
    "group": "group_id",
    "assignee": "assignee_id",
    "set_routing_channel": "routing_channel",
    "custom_fields": f"{CUSTOM_FIELD_PREFIX}<id>",
    "brand": "brand_id",
    "comment": "reply_public",
    "email_user": "notification_user",
    "end_session": "end_messaging_session",
    "form": "ticket_form_id",
    STATE_FIELD: "end_messaging_session",
    "notification": "notification_user",
    "notification_": "notification_user",
    "notify_group": "notification_group",
    "notify_user": "notification_user",
    "notify_webhook": "notification_webhook",
    "reply": "reply_public",
    "webhook": "notification_webhook",
}
"""What people write for an action field, and what it is called."""


def action_field(name: str) -> ActionField | None:
    """Return what is known about an action by its canonical name; None when there is no such action."""
    known = ACTION_FIELDS.get(name)
    if known is not None and not known.prefix:
        return known
    if name.startswith(CUSTOM_FIELD_PREFIX):
        return ACTION_FIELDS[CUSTOM_FIELD_PREFIX] if CUSTOM_FIELD_NAME.fullmatch(name) else None
    return next((known for known in ACTION_PREFIXES if name.startswith(known.name) and name != known.name), None)


def plain_action_names() -> Iterable[str]:
    """Return every full name of an action, aliases too, without those that are prefixes."""
    return [*(name for name, known in ACTION_FIELDS.items() if not known.prefix), *ACTION_FIELD_ALIASES]
