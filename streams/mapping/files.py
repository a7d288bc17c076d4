"""Mapping files: read, checked whole, and turned into a `TopicMapping` for each topic.

ticket-updates:
  envelope: connect              # none (default), connect, cloudevents
  encoding: json                 # json (default), confluent-json, avro, protobuf
  key: {form: json, ticket_id: id}
  deleted: op == 'd'
  members:
    ticket_id: after.id
    occurred_at: from_millis(ts_ms)
    ticket: after
    ticket.status: after.state
  values:
    ticket.status: {"1": new, "2": open}
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from streams.core.errors import Refused
from streams.core.names import Topic
from streams.documents.problems import Findings, Problem, listed
from streams.documents.reading import read_text
from streams.documents.shape import Members, Shape
from streams.documents.yaml_nodes import MapNode, Node, ScalarNode, compose, kind
from streams.mapping.envelopes import Encoding, Envelope
from streams.mapping.expressions import BadExpression, Expression

TOPIC_KEYS = ("envelope", "encoding", "key", "deleted", "members", "values")
KEY_KEYS = ("form", "ticket_id")
COMMON = ("ticket_id", "occurred_at", "event_id", "sequence")
MEMBERS: Mapping[Topic, tuple[str, ...]] = {
    Topic.TICKETS: (*COMMON, "command_id", "ticket"),
    Topic.SESSIONS: (*COMMON, "state", "reason", "session_id", "channel"),
}
"""Members that can be mapped (SPEC section 2). Beside them, `ticket.<member>` names one member of `ticket`."""

IN_TICKET = "ticket."
OTHERWISE = "*"
"""In a table of values: what a value becomes that the table does not list."""


class KeyForm(StrEnum):
    """What the keys of a topic are."""

    TEXT = "text"
    """The ticket id as UTF-8 text, as in Lapse's own topics."""
    JSON = "json"
    """JSON, out of which an expression takes the ticket id."""
    ANY = "any"
    """Something else than the ticket id. It is not compared, and a tombstone cannot be used."""


class TopicMapping(msgspec.Struct, frozen=True):
    """How records of one topic become records of section 2."""

    members: Mapping[str, Expression]
    values: Mapping[str, Mapping[str, str | None]]
    envelope: Envelope = Envelope.NONE
    encoding: Encoding = Encoding.JSON
    key_form: KeyForm = KeyForm.TEXT
    key: Expression = Expression("@")
    """Takes the ticket id out of a JSON key."""
    deleted: Expression | None = None
    """True of a record that says that its ticket, or session, is gone."""


class MappingFile(msgspec.Struct, frozen=True):
    """What a mapping file says, and what is wrong with it. A topic that it does not name is read as it is."""

    file: str
    topics: Mapping[Topic, TopicMapping]
    problems: list[Problem]


def load_mapping(path: Path) -> Mapping[Topic, TopicMapping]:
    """Return the mappings of a file by topic. Raises `Refused` with everything that is wrong in it."""
    found = read_mapping(path)
    if found.problems:
        raise Refused("The mapping file can't be used:\n" + "\n".join(map(str, found.problems)))
    return found.topics


def read_mapping(path: Path) -> MappingFile:
    """Read a file whole, whatever is wrong with it."""
    findings = Findings(str(path))
    text = read_text(path, findings)
    root = None if text is None else compose(text, findings)
    topics: dict[Topic, TopicMapping] = {}
    if root is not None:
        reader = _Reader(findings)
        named = reader.shape.members(root, [topic.value for topic in Topic], "a mapping file")
        for topic in Topic:
            node = named.get(topic.value) if named else None
            mapping = reader.topic(topic, node) if node is not None else None
            if mapping is not None:
                topics[topic] = mapping
    elif text is not None and not findings.has_errors:
        findings.add(_TOP, "empty", f"the file is empty; it names {listed(topic.value for topic in Topic)}, or one")
    return MappingFile(str(path), topics, findings.sorted())


class _Top:
    line = 1
    column = 1


_TOP = _Top()


class _Reader:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.shape = Shape(findings)

    def topic(self, topic: Topic, node: Node) -> TopicMapping | None:
        what = f"`{topic.value}`"
        found = self.shape.members(node, TOPIC_KEYS, what)
        if found is None:
            return None
        key_form, key = self._key(found.get("key"), what)
        deleted = found.get("deleted")
        members = self._members(topic, found)
        return TopicMapping(
            members=members,
            values=self._values(topic, found.get("values")),
            envelope=Envelope(self._choice(found.get("envelope"), Envelope, Envelope.NONE, f"`envelope` of {what}")),
            encoding=Encoding(self._choice(found.get("encoding"), Encoding, Encoding.JSON, f"`encoding` of {what}")),
            key_form=key_form,
            key=key,
            deleted=None if deleted is None else self._expression(deleted, "`deleted`"),
        )

    def _key(self, node: Node | None, what: str) -> tuple[KeyForm, Expression]:
        whole = Expression("@")
        if node is None or isinstance(node, ScalarNode):
            return KeyForm(self._choice(node, KeyForm, KeyForm.TEXT, f"`key` of {what}")), whole
        found = self.shape.members(node, KEY_KEYS, "`key`")
        if found is None:
            return KeyForm.TEXT, whole
        form = KeyForm(self._choice(found.get("form"), KeyForm, KeyForm.JSON, "`form`"))
        expression = found.get("ticket_id")
        if expression is not None and form is not KeyForm.JSON:
            self.findings.add(
                found.place_of("ticket_id"),
                "superfluous_value",
                f"an expression is for keys of the form `json`, and this is `{form}`",
            )
        read = None if expression is None else self._expression(expression, "`ticket_id` of `key`")
        return form, read or whole

    def _members(self, topic: Topic, found: Members) -> dict[str, Expression]:
        node = found.get("members")
        known = MEMBERS[topic]
        if node is None or (isinstance(node, ScalarNode) and node.value is None):
            self.findings.add(found.place, "no_members", f"`members` says where {listed(known)} are found; it is empty")
            return {}
        if isinstance(node, MapNode) and topic is Topic.TICKETS:
            # Members of a ticket are an open set: any name may stand behind the point.
            known = (*known, *(name for name in node.entries if name.startswith(IN_TICKET) and name != IN_TICKET))
        members = self.shape.members(node, known, "`members`")
        expressions: dict[str, Expression] = {}
        for name in known if members is not None else ():
            entry = members.get(name) if members is not None else None
            read = None if entry is None else self._expression(entry, f"`{name}`")
            if read is not None:
                expressions[name] = read
        return expressions

    def _values(self, topic: Topic, node: Node | None) -> dict[str, dict[str, str | None]]:
        if node is None:
            return {}
        known: tuple[str, ...] = tuple(name for name in MEMBERS[topic] if name != "ticket")
        if isinstance(node, MapNode) and topic is Topic.TICKETS:
            known = (*known, *(name for name in node.entries if name.startswith(IN_TICKET) and name != IN_TICKET))
        members = self.shape.members(node, known, "`values`")
        tables: dict[str, dict[str, str | None]] = {}
        for name in known if members is not None else ():
            entry = members.get(name) if members is not None else None
            if entry is None:
                continue
            if not isinstance(entry, MapNode):
                message = f"`{name}` is a table such as `{{AWAY: inactive}}`, and this is {kind(entry)}"
                self.findings.add(entry, "wrong_type", message)
                continue
            tables[name] = {word: self._word(becomes, name) for word, (_, becomes) in entry.entries.items()}
        return tables

    def _word(self, node: Node, name: str) -> str | None:
        if isinstance(node, ScalarNode) and node.value is None:
            return None
        return self.shape.text(node, f"what a value of `{name}` becomes")

    def _expression(self, node: Node, what: str) -> Expression | None:
        text = self.shape.text(node, f"the expression of {what}")
        if text is None:
            return None
        try:
            return Expression(text)
        except BadExpression as error:
            self.findings.add(node, "bad_expression", f"{what}: `{text}` is no JMESPath expression: {error}")
            return None

    def _choice(self, node: Node | None, choices: type[StrEnum], default: StrEnum, what: str) -> str:
        if node is None:
            return default
        text = self.shape.text(node, what)
        if text is not None and text not in list(choices):
            self.findings.add(node, "bad_choice", f"{what} is one of {listed(choices)}, and this is `{text}`")
            return default
        return text or default
