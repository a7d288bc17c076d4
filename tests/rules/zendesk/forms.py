"""Every form that a condition or an action has in Zendesk's exports, each in a trigger of its own.

`carried` says whether Lapse can do it; either way the trigger has to come back from a round trip as it went in.
`back` is how it comes back where the spelling differs and the meaning does not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

LEFT = {"field": "messaging_session_state", "operator": "value", "value": "inactive"}
SOLVE = {"field": "status", "value": "solved"}


class Form(NamedTuple):
    """One form; a condition or an action."""

    what: dict[str, Any]
    carried: bool
    back: dict[str, Any] | None = None

    @property
    def is_action(self) -> bool:
        return "operator" not in self.what and self.what.get("_") != "condition"

    @property
    def name(self) -> str:
        operator = f" {self.what['operator']}" if "operator" in self.what else ""
        return f"{self.what['field']}{operator} {self.what.get('value')!r}"[:70]


def cond(field: str, operator: str, value: Any, carried: bool = True, back: Any = ...) -> Form:
    made = {"field": field, "operator": operator, "value": value}
    return Form(made, carried, None if back is ... else {**made, "value": back})


def act(field: str, value: Any, carried: bool = True, back: Any = ...) -> Form:
    made = {"field": field, "value": value}
    return Form(made, carried, None if back is ... else {**made, "value": back})


FORMS = [
    # status, priority, type: equality, order, change
    *(cond("status", operator, "pending") for operator in ("is", "is_not", "less_than", "greater_than")),
    *(cond("status", op, "solved") for op in ("value", "not_value", "value_previous", "not_value_previous")),
    cond("status", "changed", None),
    cond("status", "not_changed", None),
    cond("priority", "is", "high"),
    cond("priority", "is", ""),
    cond("priority", "less_than_equal", "normal"),
    cond("priority", "greater_than_equal", "high"),
    cond("type", "is", "incident"),
    cond("type", "is_not", ""),
    cond("status", "changed", ""),
    # ids
    cond("group_id", "is", "360000000010"),
    cond("group_id", "is", ""),
    cond("group_id", "value_previous", "360000000010"),
    cond("organization_id", "is_not", "360000000011"),
    cond("assignee_id", "is", "8447388090494"),
    cond("assignee_id", "changed", None),
    cond("requester_id", "is", "8447388090494"),
    cond("brand_id", "is", "8447346621310"),
    cond("ticket_form_id", "is_not", "8646151517822"),
    cond("custom_status_id", "is", "8447320465790"),
    cond("custom_status_id", "includes", ["8447320465790", "8447320465791"]),
    cond("custom_status_id", "not_includes", ["8447320465790"]),
    cond("via_id", "is", "75"),
    cond("via_id", "is_not", 4, back="4"),
    cond("assignee_id", "is", "current_user", carried=False),
    cond("assignee_id", "is", "requester_id", carried=False),
    cond("requester_id", "is_not", "assignee_id", carried=False),
    # tags and texts
    cond("current_tags", "includes", "vip late"),
    cond("current_tags", "not_includes", "spam"),
    cond("current_tags", "is", "vip", carried=False),
    cond("recipient", "is", "help@example.org"),
    cond("satisfaction_score", "is", "good"),
    cond("subject_includes_word", "includes", "refund", carried=False),
    cond("subject_includes_word", "is", "my refund", carried=False),
    cond("comment_includes_word", "not_includes", "thanks", carried=False),
    # numbers
    cond("reopens", "greater_than", "1"),
    cond("replies", "less_than", "3"),
    cond("agent_stations", "is", "2"),
    cond("group_stations", "greater_than", "2"),
    cond("number_of_incidents", "greater_than_equal", "5", carried=False),
    # custom fields
    cond("custom_fields_360000000001", "is", "refund_wanted"),
    cond("custom_fields_360000000001", "is_not", ""),
    cond("custom_fields_360000000001", "present", None),
    cond("custom_fields_360000000001", "not_present", None),
    cond("custom_fields_360000000001", "present", ""),
    cond("custom_fields_360000000002", "includes", ["red", "blue"]),
    cond("custom_fields_360000000002", "not_includes", ["red"]),
    cond("custom_fields_360000000003", "is", True, back="true"),
    cond("custom_fields_360000000003", "is", "true"),
    cond("custom_fields_360000000004", "less_than", "10"),
    cond("custom_fields_360000000005", "within_previous_n_days", "3", carried=False),
    cond("custom_fields_360000000005", "within_next_n_days", 3, carried=False),
    cond("custom_fields_360000000006", "matches", {"all": []}, carried=False),
    # other spellings of values
    cond("via_id", "includes", ["75", "4"]),
    cond("group_id", "is", 360000000010, back="360000000010"),
    cond("priority", "is", None, back=""),
    cond("priority", "is", "__NULL__", back=""),
    cond("status", "is", "OPEN", back="open"),
    cond("current_tags", "includes", ["vip", "late"], back="vip late"),
    cond("current_tags", "includes", "", carried=False),
    cond("custom_fields_360000000002", "includes", "red", back=["red"]),
    cond("custom_fields_360000000004", "is", 1.5, back="1.5"),
    cond("satisfaction_score", "less_than", "good", carried=False),
    cond("satisfaction_score", "value", "good_with_comment"),
    # the update, the clock, the people
    cond("update_type", "is", "Change"),
    cond("update_type", "is", "Create", carried=False),
    cond("comment_is_public", "is", "true", carried=False),
    cond("comment_is_public", "is", True, carried=False),
    cond("comment_is_public", "is", "not_relevant", carried=False),
    cond("ticket_is_public", "is", "public", carried=False),
    cond("current_via_id", "is", "8", carried=False),
    cond("role", "is", "agent", carried=False),
    cond("requester_role", "is", "4", carried=False),
    cond("in_business_hours", "is", "true", carried=False),
    cond("on_holiday", "is", "true", carried=False),
    cond("ticket_due_date", "is", "true", carried=False),
    cond("schedule_id", "is", "360000000099", carried=False),
    cond("within_schedule", "is", "360000000099", carried=False),
    cond("requester_time_zone", "is_not", "Vienna", carried=False),
    cond("locale_id", "is", "1", carried=False),
    cond("cc", "is", None, carried=False),
    cond("attachment", "is", None, carried=False),
    cond("requester.custom_fields.tier", "is", "123", carried=False),
    cond("requester.custom_fields.note", "includes_words", "gold", carried=False),
    cond("user.custom_fields.note", "includes_string", "gold", carried=False),
    cond("organization.custom_fields.size", "greater_than", "10", carried=False),
    # messaging sessions, by the names of a definitions file
    cond("messaging_session_state", "value", "inactive"),
    cond("messaging_session_state", "value_previous", "active"),
    cond("messaging_session_inactive_reason", "is", "user_inactive_or_offline"),
    cond("messaging_session_inactive_reason", "is", "User inactive or offline", back="user_inactive_or_offline"),
    # an operator that is left out is `is`
    Form({"_": "condition", "field": "update_type", "value": "Change"}, True,
         {"field": "update_type", "operator": "is", "value": "Change"}),
    # actions that set
    act("status", "solved"),
    act("custom_status_id", "8447320465790"),
    act("priority", "low"),
    act("type", "question"),
    act("group_id", "360000000020"),
    act("group_id", ""),
    act("assignee_id", "8447388090494"),
    act("assignee_id", ""),
    act("assignee_id", "current_user", carried=False),
    act("assignee_id", "requester_id", carried=False),
    act("brand_id", "8447346621310"),
    act("ticket_form_id", "8646151517822"),
    act("ticket_form_id", "default_ticket_form", carried=False),
    act("routing_channel", "email"),
    act("custom_fields_360000000001", "refund_wanted"),
    act("custom_fields_360000000003", "true"),
    act("custom_fields_360000000003", True, back="true"),
    act("custom_fields_360000000002", ["red", "blue"]),
    act("custom_fields_360000000001", "{{ticket.id}}", carried=False),
    act("custom_fields_360000000001", None, back=""),
    act("group_id", 360000000020, back="360000000020"),
    act("priority", ""),
    # tags
    act("current_tags", "abandoned late"),
    act("remove_tags", "waiting"),
    act("set_tags", "only these"),
    act("set_tags", ""),
    act("current_tags", "", carried=False),
    # what is passed on
    act("notification_user", ["requester_id", "Still there, {{ticket.requester.name}}?", "Write when you can."]),
    act("notification_user", ["8447388090494", "Gone", "Gone."]),
    act("notification_group", ["group_id", "Gone", "Gone."]),
    act("notification_webhook", ["01ABC", "{}"]),
    act("notification_target", [360000000031, "Gone"]),
    act("notification_sms_user", ["requester_id", "+43 1", "Gone"]),
    act("notification_sms_group", ["360000000010", "+43 1", "Gone"]),
    act("notification_zis", ["slack", "general", "Gone"]),
    act("notification_messaging_csat", "true"),
    act("reply_public", ["channel:all", "Still there?"]),
    act("reply_internal", "Left."),
    act("side_conversation_slack", ["general", "Gone"]),
    act("side_conversation_ticket", ["s", "b", "g"]),
    act("end_messaging_session", "true"),
    # what a command has no name for
    act("follower", "current_user", carried=False),
    act("cc", "8447388090494", carried=False),
    act("set_schedule", "360000000099", carried=False),
    act("share_ticket", "123", carried=False),
    act("set_skills", ["a", "b"], carried=False),
    act("add_skills", ["a"], carried=False),
    act("remove_skills", ["a"], carried=False),
]  # fmt: skip


def trigger_of(form: Form, number: int = 1) -> dict[str, Any]:
    """Put a form into a trigger as an export has it."""
    what = {key: value for key, value in form.what.items() if key != "_"}
    return {
        "url": f"https://acme.zendesk.com/api/v2/triggers/{number}.json",
        "id": 1_500_000_000_000 + number,
        "title": f"Form {number}: {form.name}",
        "raw_title": f"Form {number}: {form.name}",
        "description": "Made up" if number % 2 else None,
        "active": number % 3 > 0,
        "default": False,
        "position": number,
        "category_id": "1500000000900",
        "created_at": "2025-05-18T19:00:45Z",
        "updated_at": "2025-12-29T15:49:02Z",
        "conditions": {"all": [LEFT] if form.is_action else [LEFT, what], "any": []},
        "actions": [what] if form.is_action else [SOLVE],
    }


def expected_back(form: Form, number: int = 1) -> dict[str, Any]:
    """The trigger as a round trip gives it: what Zendesk writes itself is left out."""
    sent = trigger_of(form, number)
    if form.back is not None:
        if form.is_action:
            sent["actions"] = [form.back]
        else:
            sent["conditions"]["all"] = [LEFT, form.back]
    kept = ("id", "title", "description", "active", "position", "category_id", "conditions", "actions")
    return {key: sent[key] for key in kept if sent[key] is not None}
