"""Encodes the engine's results as Kafka records: commands, transition and evaluation records, dead letters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import UNSET

from streams.core.inputs import DeadLetter
from streams.core.model import MILLISECOND, Command, Difference, Evaluation, Micros, Side, Transition, Withdrawal
from streams.core.names import Topic
from streams.core.revisions import Activation
from streams.wire import instants
from streams.wire.shapes import (
    ActionOfCommand,
    ActivationRecord,
    CommandRecord,
    EvaluationRecord,
    FiredTrigger,
    HeldMarker,
    HeldState,
    OffsetsOfActivation,
    ShadowRecord,
    SideOfShadow,
    TransitionOfCommand,
    TransitionRecord,
)

COMMAND_TYPE = "lapse.action-command.v1"


class Encoded(NamedTuple):
    """One Kafka record to write, without partition and timestamp."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


_encode = msgspec.json.Encoder().encode


def command_record(command: Command) -> CommandRecord:
    """Return a command in the form shown in SPEC section 5."""
    lapse = command.lapse
    return CommandRecord(
        command_id=command.command_id,
        ticket_id=command.ticket_id,
        issued_at=instants.text(command.issued_at),
        transition=TransitionOfCommand(
            episode=lapse.episode,
            before=lapse.before_state,
            reason=lapse.reason,
            occurred_at=instants.text(lapse.occurred_at),
            event_id=lapse.event_id,
        ),
        wait_ms=_millis(command.wait),
        triggers=[FiredTrigger(trigger, title) for trigger, title in command.triggers],
        actions=[ActionOfCommand(action.field, action.value) for action in command.actions],
        expected=dict(command.expected),
        ruleset=command.ruleset,
        revision=UNSET if command.revision is None else command.revision,
    )


Output: TypeAlias = Transition | Evaluation | Difference | Activation
"""What goes to `session-transitions`."""


def output_record(record: Output) -> TransitionRecord | EvaluationRecord | ShadowRecord | ActivationRecord:
    """Return a record of `session-transitions` in the form shown in SPEC sections 3, 4 and 10."""
    if isinstance(record, Transition):
        return TransitionRecord(
            ticket_id=record.ticket_id,
            event_id=record.event_id,
            occurred_at=instants.text(record.occurred_at),
            session_id=record.session_id,
            kind=record.kind.value,
            before=record.before,
            after=record.after,
            reason=record.reason,
            episode=record.episode,
            channel=record.channel,
        )
    if isinstance(record, Difference):
        return ShadowRecord(
            ticket_id=record.ticket_id,
            event_id=record.event_id,
            occurred_at=instants.text(record.occurred_at),
            episode=record.episode,
            wait_ms=_millis(record.wait),
            revision=record.revision,
            after_live=record.after_live,
            live=_side(record.live),
            shadow=_side(record.shadow),
        )
    if isinstance(record, Activation):
        return _activation_record(record)
    return EvaluationRecord(
        ticket_id=record.ticket_id,
        event_id=record.event_id,
        occurred_at=instants.text(record.occurred_at),
        episode=record.episode,
        wait_ms=_millis(record.wait),
        outcome=record.outcome.value,
        triggers=list(record.triggers),
        command_id=record.command_id,
        held_by=list(record.held_by) or UNSET,
    )


def _activation_record(record: Activation) -> ActivationRecord:
    offsets = dict(record.offsets)
    return ActivationRecord(
        partition=record.partition,
        partitions=record.partitions,
        number=record.number,
        kind=record.kind.value,
        previous=record.previous,
        ruleset=record.ruleset,
        stopped="all" if record.stopped == "all" else list(record.stopped),
        stream_time_us=record.stream_time,
        offsets=OffsetsOfActivation(tickets=offsets[Topic.TICKETS], sessions=offsets[Topic.SESSIONS]),
        late=record.late,
        # A worker has the year 1 for the beginning.
        act_from=None if record.act_from is None or record.act_from < 0 else instants.text(record.act_from),
        author=record.author,
        reason=record.reason,
    )


def _side(side: Side | None) -> SideOfShadow | None:
    if side is None:
        return None
    actions = [ActionOfCommand(action.field, action.value) for action in side.actions]
    return SideOfShadow(outcome=side.outcome.value, triggers=list(side.triggers), actions=actions)


def command(command: Command, source: str) -> Encoded:
    """Encode a command in CloudEvents binary mode; `source` is the app id.

    The trace context of the lapse's record is passed on, so that a consumer's spans belong to the same trace.
    """
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", command.command_id.encode()),
        ("ce_type", COMMAND_TYPE.encode()),
        ("ce_source", source.encode()),
        ("ce_subject", command.ticket_id.encode()),
        ("ce_time", instants.text(command.issued_at).encode()),
        ("content-type", b"application/json"),
    ]
    if command.lapse.traceparent is not None:
        headers.append(("traceparent", command.lapse.traceparent.encode()))
    return Encoded(command.ticket_id.encode(), _encode(command_record(command)), headers)


def held(held: Command | Withdrawal, source: str) -> Encoded:
    """Encode a record for `held-commands`: the command itself, or the marker that withdraws one."""
    return withdrawn(held) if isinstance(held, Withdrawal) else command(held, source)


def withdrawn(withdrawal: Withdrawal) -> Encoded:
    """Encode the marker that withdraws a held command."""
    return marker(withdrawal.ticket_id.encode(), withdrawal.command_id, "withdrawn")


def marker(key: bytes, command_id: str, state: HeldState) -> Encoded:
    """Encode what became of a held command; `key` is that of the command."""
    return Encoded(key, _encode(HeldMarker(command_id=command_id, state=state)), [])


def record(record: Output) -> Encoded:
    """Encode a record for `session-transitions`."""
    key = f"rules/{record.partition}" if isinstance(record, Activation) else record.ticket_id
    return Encoded(key.encode(), _encode(output_record(record)), [])


def dead_letter(
    letter: DeadLetter,
    partition: int,
    topic: str | None = None,
    fits: Callable[[Encoded], bool] = lambda _: True,
) -> Encoded:
    """Encode a dead letter: key and value unchanged, the record's own headers first, then headers with the reason.

    `topic` is the input's name on the broker, when it is not the default name. A value that is too large is replaced by
    null; its size and SHA-256 are in headers. If the record is still too large, its own headers are left out, then its
    key; `lapse.source.omitted` names what was left out.
    """
    source, why = letter.record, letter.rejection
    own = list(source.headers or ())
    said = [
        ("lapse.error.code", why.code.encode()),
        ("lapse.error.path", why.path.encode()),
        ("lapse.error.message", why.message.encode()),
        ("lapse.source.topic", (topic or letter.topic.value).encode()),
        ("lapse.source.partition", str(partition).encode()),
        ("lapse.source.offset", str(source.offset).encode()),
        ("lapse.source.timestamp", str(source.timestamp).encode()),
    ]
    value = source.value
    if why.keep_value or value is None:
        whole = Encoded(source.key, value, [*own, *said])
        if fits(whole):
            return whole
    if value is not None:
        said += [
            ("lapse.source.size", str(len(value)).encode()),
            ("lapse.source.sha256", hashlib.sha256(value).hexdigest().encode()),
        ]
    without_value = Encoded(source.key, None, [*own, *said])
    if fits(without_value):
        return without_value
    without_headers = Encoded(source.key, None, [*said, ("lapse.source.omitted", b"headers")])
    if fits(without_headers):
        return without_headers
    return Encoded(None, None, [*said, ("lapse.source.omitted", b"headers,key")])


def _millis(duration: Micros) -> int:
    return duration // MILLISECOND
