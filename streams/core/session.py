"""The session's transition table: SPEC section 3.

A row of the table is looked up by the stored state and the event's state. States other than `active`, `inactive` and
`ended` are stored as they are and appear here as UNKNOWN; no stored session, or another session, appears as NOTHING.
"""

from __future__ import annotations

from enum import StrEnum, auto

import msgspec

from streams.core.model import Kind, SessionRow, SessionUpdate

ACTIVE, INACTIVE, ENDED = "active", "inactive", "ended"


class Stored(StrEnum):
    """The stored state, as used in the table. A StrEnum, because hashing other enumerations is slow."""

    NOTHING = auto()
    ACTIVE = auto()
    INACTIVE = auto()
    ENDED = auto()
    UNKNOWN = auto()


class Reported(StrEnum):
    """The event's state, as used in the table."""

    ACTIVE = auto()
    INACTIVE = auto()
    ENDED = auto()
    UNKNOWN = auto()


TABLE: dict[tuple[Stored, Reported], Kind | None] = {
    (Stored.NOTHING, Reported.INACTIVE): Kind.LAPSED,  # or FIRST_SEEN, depending on the setting `first_inactive`
    (Stored.NOTHING, Reported.ACTIVE): Kind.OPENED,
    (Stored.NOTHING, Reported.ENDED): Kind.ENDED,
    (Stored.NOTHING, Reported.UNKNOWN): Kind.OTHER,
    (Stored.ACTIVE, Reported.INACTIVE): Kind.LAPSED,
    (Stored.ACTIVE, Reported.ACTIVE): None,
    (Stored.ACTIVE, Reported.ENDED): Kind.ENDED,
    (Stored.ACTIVE, Reported.UNKNOWN): Kind.OTHER,
    (Stored.INACTIVE, Reported.INACTIVE): Kind.REASON_CHANGED,  # none when the reason is the same
    (Stored.INACTIVE, Reported.ACTIVE): Kind.RESUMED,
    (Stored.INACTIVE, Reported.ENDED): Kind.ENDED,
    (Stored.INACTIVE, Reported.UNKNOWN): Kind.OTHER,
    (Stored.ENDED, Reported.INACTIVE): Kind.OTHER,  # ending a session makes it inactive; the state stays `ended`
    (Stored.ENDED, Reported.ACTIVE): Kind.OPENED,
    (Stored.ENDED, Reported.ENDED): None,
    (Stored.ENDED, Reported.UNKNOWN): Kind.OTHER,
    (Stored.UNKNOWN, Reported.INACTIVE): Kind.LAPSED,
    (Stored.UNKNOWN, Reported.ACTIVE): Kind.OPENED,
    (Stored.UNKNOWN, Reported.ENDED): Kind.ENDED,
    (Stored.UNKNOWN, Reported.UNKNOWN): Kind.OTHER,  # none when the state is the same
}

_STORED = {None: Stored.NOTHING, ACTIVE: Stored.ACTIVE, INACTIVE: Stored.INACTIVE, ENDED: Stored.ENDED}
_TOLD = {ACTIVE: Reported.ACTIVE, INACTIVE: Reported.INACTIVE, ENDED: Reported.ENDED}


class Change(msgspec.Struct, frozen=True, gc=False):
    """The effect of one session event on the session row."""

    kind: Kind | None
    """None for a repeat: the event is applied, but there is no transition."""
    new_session: bool
    """Whether no session, or another session, was stored."""
    other_session: bool
    before_state: str | None
    before_reason: str | None
    before_channel: str | None
    state: str
    reason: str | None
    session_id: str | None
    channel: str | None

    @property
    def lapsed(self) -> bool:
        """Whether this is a lapse: a new episode that starts rounds."""
        return self.kind is Kind.LAPSED

    @property
    def ends_waiting(self) -> bool:
        """Whether pending rounds are cancelled: the session left `inactive`, it ended, or a new episode begins."""
        return self.kind is Kind.ENDED or self.lapsed or (self.before_state == INACTIVE and self.state != INACTIVE)


def change(row: SessionRow | None, event: SessionUpdate, *, first_inactive_lapses: bool) -> Change:
    """Look up the effect of `event` on the stored session row; `event.state` must not be None."""
    assert event.state is not None, "tombstones do not reach the transition table"  # noqa: S101 -- narrows the type
    if row is None or row.state is None:
        other = False
        known = None
    else:
        other = row.session_id is not None and event.session_id is not None and row.session_id != event.session_id
        known = None if other else row

    told = _TOLD.get(event.state, Reported.UNKNOWN)
    if known is None:
        kind = TABLE[Stored.NOTHING, told]
        if kind is Kind.LAPSED and not first_inactive_lapses:
            kind = Kind.FIRST_SEEN
        return Change(
            kind=kind,
            new_session=True,
            other_session=other,
            before_state=None,
            before_reason=None,
            before_channel=None,
            state=event.state,
            reason=event.reason if told is Reported.INACTIVE else None,
            session_id=event.session_id,
            channel=event.channel,
        )

    stored = _STORED.get(known.state, Stored.UNKNOWN)
    kind = TABLE[stored, told]
    if (kind is Kind.REASON_CHANGED and known.reason == event.reason) or (
        kind is Kind.OTHER and known.state == event.state
    ):
        kind = None
    stays_ended = stored is Stored.ENDED and told is Reported.INACTIVE
    return Change(
        kind=kind,
        new_session=False,
        other_session=False,
        before_state=known.state,
        before_reason=known.reason,
        before_channel=known.channel,
        state=ENDED if stays_ended else event.state,
        reason=event.reason if told is Reported.INACTIVE and not stays_ended else None,
        session_id=event.session_id if event.session_id is not None else known.session_id,
        channel=event.channel if event.channel is not None else known.channel,
    )
