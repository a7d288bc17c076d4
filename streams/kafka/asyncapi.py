"""One AsyncAPI document for all topics, generated from the topic table and the record types.

`python -m streams.kafka.asyncapi` writes `schemas/asyncapi.json`. With `--check` nothing is written, and the exit code
is 1 when the file differs from what would be written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from streams.core.names import Output, Table, Topic
from streams.kafka.config import KafkaConfig
from streams.kafka.topics import Wanted, wanted_topics
from streams.wire import contracts
from streams.wire.encode import COMMAND_TYPE

FILE = Path("schemas") / "asyncapi.json"
_CONFIG = KafkaConfig()
_KEY = {"type": "string", "description": "Ticket id, UTF-8 text. It decides the partition, by murmur2."}
_JSON = "application/json"


def document() -> dict[str, Any]:
    """Return the document."""
    topics = wanted_topics(_CONFIG)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Lapse",
            "version": contracts.VERSION,
            "description": (
                "The topics of an installation with default names. `topic_prefix` goes before every address, `app_id` "
                "is `lapse` in those of the changelogs. All topics have the same number of partitions; a record of "
                "partition p only ever causes records in partition p. What is written is written in transactions: "
                "read it with `isolation.level=read_committed`."
            ),
        },
        "defaultContentType": _JSON,
        "channels": {_channel_name(topic.name): _channel(topic) for topic in topics},
        "operations": {
            _operation_name(topic.name, action): _operation(topic.name, action)
            for topic in topics
            for action in _actions(topic.name)
        },
        "components": {
            "messages": {name: _message(name) for name in _SUMMARIES},
            "schemas": contracts.components("#/components/schemas/{name}", _RECORDS),
        },
    }


def rendered() -> str:
    """Return the text of the file."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


_TOPIC_RECORDS: dict[str, tuple[str, ...]] = {
    Topic.TICKETS: ("ticket-update", "deleted"),
    Topic.SESSIONS: ("session-state", "deleted"),
    Output.COMMANDS: ("action-command",),
    Output.TRANSITIONS: ("transition", "evaluation", "shadow", "activation"),
    Output.HELD_COMMANDS: ("action-command", "held-command-marker"),
    Output.RESULTS: ("apply-result",),
    Output.APPLY_DEAD_LETTERS: ("apply-dead-letter",),
    Output.DEAD_LETTERS: ("dead-letter",),
    _CONFIG.changelog(Table.TICKETS): ("table-row", "deleted"),
    _CONFIG.changelog(Table.SESSIONS): ("table-row", "deleted"),
}
"""The messages of each topic."""

_TOPIC_MEANINGS: dict[str, str] = {
    Topic.TICKETS: "What is known of tickets, written by you.",
    Topic.SESSIONS: "States of messaging sessions, written by you.",
    Output.COMMANDS: "What should happen to a ticket: one record a round that fired, exactly once.",
    Output.TRANSITIONS: "Every change of a session's state, how every round ended, where a shadow differs, and "
    "which entries of the rules topic a partition took up.",
    Output.HELD_COMMANDS: "Commands that a `limit` holds, and what became of them. Only where a trigger has a limit.",
    Output.RESULTS: "How commands ended at Zendesk's API, written by `lapse apply`: one record a command.",
    Output.APPLY_DEAD_LETTERS: "Commands that Zendesk does not take, untouched; its answer stands in headers.",
    Output.DEAD_LETTERS: "Records that could not be used, untouched; why stands in headers.",
    _CONFIG.changelog(Table.TICKETS): "The table of tickets. Internal: its rows may change their form.",
    _CONFIG.changelog(Table.SESSIONS): "The table of sessions. Internal: its rows may change their form.",
}

_SUMMARIES: dict[str, str] = {
    "ticket-update": "A ticket was made or changed.",
    "session-state": "A session has this state now.",
    "deleted": "A null value: the ticket was deleted, or its session forgotten.",
    "action-command": "What to do to a ticket, for a consumer that does it.",
    "transition": "A session changed its state.",
    "evaluation": "A round of triggers ended.",
    "shadow": "A shadow, a candidate evaluated beside the live rules, would have done something else in a round.",
    "activation": "A partition took a revision, a stop or another entry of the rules topic up.",
    "rule-entry": "A revision of the rules, a shadow, a stop or a resume.",
    "held-command-marker": "A held command was withdrawn, released or discarded.",
    "apply-result": "A command was carried out at Zendesk's API, or will not be.",
    "apply-dead-letter": "A command that Zendesk refused, or a record that is none.",
    "dead-letter": "A record that could not be used.",
    "table-row": "A row of a table, in MessagePack.",
}

_RECORDS = (
    "ticket-update",
    "session-state",
    "action-command",
    "transition",
    "evaluation",
    "shadow",
    "activation",
    "rule-entry",
    "held-command-marker",
    "apply-result",
    "apply-dead-letter-headers",
    "dead-letter-headers",
)

_TRACE: dict[str, Any] = {
    "type": "string",
    "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    "description": "W3C trace context. That of the record that was the lapse goes on to its commands.",
}
_COMMAND_HEADERS: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0 in binary mode.",
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string", "description": "The command id."},
        "ce_type": {"type": "string", "const": COMMAND_TYPE},
        "ce_source": {"type": "string", "description": "The app id."},
        "ce_subject": {"type": "string", "description": "The ticket id."},
        "ce_time": {"type": "string", "format": "date-time", "description": "`issued_at` of the command."},
        "content-type": {"type": "string", "const": _JSON},
        "traceparent": _TRACE,
        "lapse.released_at": {
            "type": "string",
            "format": "date-time",
            "description": "When `lapse held release` released it; only on commands that were held.",
        },
    },
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "content-type"],
}
_INPUT_HEADERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "ce_id": {"type": "string", "description": "Names the event when its body does not."},
        "traceparent": _TRACE,
    },
}


def _channel(topic: Wanted) -> dict[str, Any]:
    policies = ["delete", "compact"] if topic.cleanup == "any" else [topic.cleanup]
    return {
        "address": topic.name,
        "description": _TOPIC_MEANINGS[topic.name],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _TOPIC_RECORDS[topic.name]},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "topicConfiguration": {"cleanup.policy": policies, "max.message.bytes": topic.max_message_bytes},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _actions(topic: str) -> tuple[str, ...]:
    if topic in tuple(Topic):
        return ("receive",)
    return ("send",) if topic in tuple(Output) else ("send", "receive")


def _operation(topic: str, action: str) -> dict[str, Any]:
    operation: dict[str, Any] = {"action": action, "channel": {"$ref": f"#/channels/{_channel_name(topic)}"}}
    if topic in tuple(Topic):
        group = {"type": "string", "enum": [_CONFIG.group]}
        operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": "0.5.0"}}
    return operation


def _operation_name(topic: str, action: str) -> str:
    return f"{action}-{topic}"


def _channel_name(topic: str) -> str:
    return topic


def _message(name: str) -> dict[str, Any]:
    """Return one message. Its key is a ticket's key; a dead letter keeps whatever key it came with."""
    message: dict[str, Any] = {"name": name, "title": name, "summary": _SUMMARIES[name]}
    key: dict[str, Any] = _KEY
    match name:
        case "ticket-update" | "session-state":
            message |= {"headers": _INPUT_HEADERS, "payload": _schema(name)}
        case "action-command":
            message |= {"headers": _COMMAND_HEADERS, "payload": _schema(name)}
        case (
            "transition"
            | "evaluation"
            | "shadow"
            | "activation"
            | "rule-entry"
            | "held-command-marker"
            | "apply-result"
        ):
            message["payload"] = _schema(name)
        case "deleted":
            message["payload"] = {"type": "null"}
        case "dead-letter" | "apply-dead-letter":
            key = {"description": "As it was received."}
            message |= {"contentType": "application/octet-stream", "headers": _schema(f"{name}-headers")}
        case _:
            message["contentType"] = "application/msgpack"
    return message | {"bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}}}


def _schema(record: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{contracts.RECORDS[record].__name__}"}


def main(arguments: list[str]) -> int:
    """Write or compare the file; return the exit code."""
    if "--check" not in arguments:
        FILE.write_text(rendered(), "utf-8")
    elif not FILE.exists() or FILE.read_text("utf-8") != rendered():
        print(f"{FILE} is not what the code says; run python -m streams.kafka.asyncapi", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
