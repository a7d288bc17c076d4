"""Names that several packages share: topics, tables, dead-letter codes, condition fields, results.

Each name is defined here and nowhere else in the code. All of them are part of the contract (SPEC sections 1, 2, 4 and
7), so none of them may change.
"""

from __future__ import annotations

from enum import StrEnum


class Topic(StrEnum):
    """The two input topics, by the default names that records, captures and metrics use."""

    TICKETS = "ticket-updates"
    SESSIONS = "session-states"


class Output(StrEnum):
    """The output topics, by their default names."""

    COMMANDS = "action-commands"
    TRANSITIONS = "session-transitions"
    DEAD_LETTERS = "dead-letters"
    HELD_COMMANDS = "held-commands"
    RESULTS = "action-results"
    APPLY_DEAD_LETTERS = "apply-dead-letters"


class Table(StrEnum):
    """The two tables of a partition; each has a changelog."""

    TICKETS = "tickets"
    SESSIONS = "sessions"


class Code(StrEnum):
    """Dead-letter codes in the order in which they are checked: a record gets the first that applies."""

    TOO_LARGE = "too_large"
    MISSING_KEY = "missing_key"
    NOT_JSON = "not_json"
    INVALID = "invalid"
    KEY_MISMATCH = "key_mismatch"
    BAD_TIMESTAMP = "bad_timestamp"


class Result(StrEnum):
    """The result of a record, or of a timer that stream time has reached."""

    APPLIED = "applied"
    STALE = "stale"
    DUPLICATE = "duplicate"
    DEAD_LETTER = "dead_letter"
    DUE = "due"


STATE_FIELD = "messaging_session_state"
REASON_FIELD = "messaging_session_inactive_reason"
CHANNEL_FIELD = "messaging_session_channel"
UPDATE_FIELD = "update_type"
"""Condition fields that concern the session event, not the ticket."""
