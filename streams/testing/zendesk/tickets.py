"""The tickets of an account, their changes and their audits. No I/O: time is given, and changes are told to a hook.

Stamps: `updated_at` has whole seconds, as Zendesk shows it, so two changes within one second have the same stamp and a
safe update does not tell them apart. `stamp_step` makes it finer for tests that must not meet this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from streams.core.model import SECOND, Micros
from streams.testing.zendesk.answers import conflict, forbidden, invalid, no_such_record, unusable
from streams.wire import instants

Seconds = float

STATUSES = ("new", "open", "pending", "hold", "solved", "closed")
PRIORITIES = ("low", "normal", "high", "urgent")
TYPES = ("question", "incident", "problem", "task")
FIELDS = (
    "status",
    "priority",
    "type",
    "group_id",
    "assignee_id",
    "brand_id",
    "ticket_form_id",
    "custom_status_id",
    "subject",
)
"""What an update may set, beside tags and custom fields. Members of other names are ignored, as Zendesk does."""
EDITABLE_WHEN_CLOSED = frozenset({"tags", "subject", "priority", "metadata", "safe_update", "updated_stamp"})

_IDS = frozenset(name for name in FIELDS if name.endswith("_id"))
_ALLOWED = {"status": STATUSES, "priority": PRIORITIES, "type": TYPES}


class Ticket(msgspec.Struct, kw_only=True):
    """A ticket. Ids are numbers, times microseconds."""

    id: int
    status: str = "open"
    priority: str | None = None
    type: str | None = None
    group_id: int | None = None
    assignee_id: int | None = 8_447_388_090_494
    brand_id: int | None = 8_447_346_621_310
    ticket_form_id: int | None = None
    custom_status_id: int | None = None
    subject: str = "My router shows a red light"
    tags: list[str] = []
    custom_fields: dict[int, Any] = {}
    created_at: Micros = 0
    updated_at: Micros = 0
    deleted: bool = False
    forbidden: bool = False
    """The service user has no access to this ticket: 403."""

    def snapshot(self) -> dict[str, Any]:
        """Return the members that a change can concern; custom fields as `custom_fields_<id>`."""
        return {
            **{name: getattr(self, name) for name in FIELDS},
            "tags": sorted(self.tags),
            **{f"custom_fields_{id_}": value for id_, value in self.custom_fields.items()},
        }

    def json(self, base: str) -> dict[str, Any]:
        """Return the ticket as the API shows it."""
        return {
            "url": f"{base}/api/v2/tickets/{self.id}.json",
            "id": self.id,
            **{name: getattr(self, name) for name in FIELDS},
            "tags": sorted(self.tags),
            "custom_fields": [{"id": id_, "value": value} for id_, value in sorted(self.custom_fields.items())],
            "created_at": instants.text(self.created_at),
            "updated_at": instants.text(self.updated_at),
            "via": {"channel": "native_messaging", "source": {"from": {}, "to": {}, "rel": None}},
        }


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One update of one ticket: who, when, and from what to what."""

    id: int
    """Grows by one with each change of the account; also the id of the audit."""
    ticket_id: str
    at: Micros
    """When, to the microsecond; the API shows whole seconds."""
    by: str
    """`lapse` for the API's user, else whoever acted, such as `agent`."""
    via: str
    """`api`, `job`, or `screen` for people."""
    before: Mapping[str, Any]
    """The whole snapshot before."""
    after: Mapping[str, Any]
    comment: Mapping[str, Any] | None = None
    """`body` and `public`."""
    metadata: Mapping[str, Any] = {}

    @property
    def command_id(self) -> str | None:
        """The command that asked for it, from the update's metadata."""
        found = self.metadata.get("command_id")
        return found if isinstance(found, str) else None

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """Return value before and after, of the members that differ."""
        names = [*self.before, *(name for name in self.after if name not in self.before)]
        return {
            name: (self.before.get(name), self.after.get(name))
            for name in names
            if self.before.get(name) != self.after.get(name)
        }

    def audit(self) -> dict[str, Any]:
        """Return the change as an audit; what a client sent as `metadata` is in `metadata.custom`."""
        events: list[dict[str, Any]] = [
            {
                "id": self.id * 100 + number,
                "type": "Change",
                "field_name": name.removeprefix("custom_fields_"),
                "value": new,
                "previous_value": old,
            }
            for number, (name, (old, new)) in enumerate(self.changed.items(), start=1)
        ]
        if self.comment is not None:
            events.append({"id": self.id * 100, "type": "Comment", **self.comment})
        return {
            "id": self.id,
            "ticket_id": int(self.ticket_id),
            "created_at": instants.text(self.at - self.at % SECOND),
            "author_id": self.by,
            "via": {"channel": "web" if self.via == "screen" else "api"},
            "metadata": {"custom": dict(self.metadata), "system": {}},
            "events": events,
        }


class Tickets:
    """All tickets, and the record of every change."""

    def __init__(
        self,
        now: Callable[[], Seconds],
        *,
        required_to_solve: Iterable[int] = (),
        stamp_step: Micros = SECOND,
        on_change: Callable[[Ticket, Change], None] | None = None,
    ) -> None:
        """`required_to_solve` are custom fields that a solved ticket must have; `on_change` runs after each change."""
        self._now = now
        self._required = tuple(required_to_solve)
        self._step = stamp_step
        self.on_change = on_change
        self._tickets: dict[str, Ticket] = {}
        self.changes: list[Change] = []
        self._of_ticket: dict[str, list[Change]] = defaultdict(list)

    def __iter__(self) -> Iterator[Ticket]:
        """Every ticket, in the order in which they were made."""
        return iter(self._tickets.values())

    def make(self, ticket_id: int | str, **members: Any) -> Ticket:
        """Make a ticket, or another in its place."""
        at = int(self._now() * SECOND)
        at -= at % self._step
        given = {"created_at": at, "updated_at": at, **members}
        ticket = self._tickets[str(ticket_id)] = Ticket(id=int(ticket_id), **given)
        ticket.tags, ticket.custom_fields = list(ticket.tags), dict(ticket.custom_fields)
        return ticket

    def delete(self, ticket_id: int | str) -> None:
        """Delete a ticket; the API no longer knows it."""
        self.of(ticket_id).deleted = True

    def of(self, ticket_id: int | str) -> Ticket:
        """Return a ticket, deleted ones too. Raises KeyError."""
        return self._tickets[str(ticket_id)]

    def changes_of(self, ticket_id: int | str) -> list[Change]:
        """Return the changes of one ticket, the first one first."""
        return self._of_ticket[str(ticket_id)]

    def seen(self, ticket_id: int | str) -> Ticket:
        """Return a ticket as the API sees it. Raises 404 when it is not known or deleted, 403 without access."""
        ticket = self._tickets.get(str(ticket_id))
        if ticket is None or ticket.deleted:
            raise no_such_record()
        if ticket.forbidden:
            raise forbidden()
        return ticket

    def update(
        self, ticket_id: int | str, asked: Mapping[str, Any], *, by: str, via: str, add_and_remove: bool = False
    ) -> Change:
        """Carry an update out, or raise why not. `asked` is the `ticket` of a request.

        `additional_tags` and `remove_tags` are read only with `add_and_remove`: they are documented for `update_many`
        with `ids`, and nowhere else.
        """
        ticket = self.seen(ticket_id)
        self._check_stamp(ticket, asked)
        if ticket.status == "closed" and not asked.keys() <= EDITABLE_WHEN_CLOSED:
            raise invalid({"status": [{"description": "Status: closed prevents ticket update"}]})
        after = _after(ticket, asked, add_and_remove=add_and_remove)
        self._check_solved(ticket, after)
        comment = _comment(asked.get("comment"))
        metadata = asked.get("metadata")
        before, at = ticket.snapshot(), int(self._now() * SECOND)
        for name in (*FIELDS, "tags", "custom_fields"):
            setattr(ticket, name, getattr(after, name))
        ticket.updated_at = max(at - at % self._step, ticket.updated_at)
        change = Change(
            id=len(self.changes) + 1,
            ticket_id=str(ticket.id),
            at=at,
            by=by,
            via=via,
            before=before,
            after=ticket.snapshot(),
            comment=comment,
            metadata=metadata if isinstance(metadata, Mapping) else {},
        )
        self.changes.append(change)
        self._of_ticket[change.ticket_id].append(change)
        if self.on_change is not None:
            self.on_change(ticket, change)
        return change

    def _check_stamp(self, ticket: Ticket, asked: Mapping[str, Any]) -> None:
        if "safe_update" not in asked:  # its value does not count: `false` is as good as `true`
            return
        stamp = asked.get("updated_stamp")
        read = instants.read(stamp) if isinstance(stamp, str) else None
        if read is None:
            raise unusable("safe_update needs updated_stamp, the ticket's updated_at as it was last seen")
        if ticket.updated_at > read:
            raise conflict()

    def _check_solved(self, ticket: Ticket, after: Ticket) -> None:
        if after.status != "solved" or ticket.status == "solved":
            return
        missing: list[dict[str, Any]] = []
        if after.assignee_id is None:
            missing.append({"description": "Assignee: is required when solving a ticket", "error": "BlankValue"})
        for field in self._required:
            if after.custom_fields.get(field) in (None, ""):
                told = {"description": f"Field {field}: is required when solving a ticket", "error": "BlankValue"}
                missing.append({**told, "ticket_field_id": field, "ticket_field_type": "FieldText"})
        if missing:
            raise invalid({"base": missing})


def _after(ticket: Ticket, asked: Mapping[str, Any], *, add_and_remove: bool) -> Ticket:
    """Return a copy of the ticket with the update in it. Raises 422."""
    after = msgspec.structs.replace(ticket, custom_fields=dict(ticket.custom_fields))
    for name in FIELDS:
        if name in asked:
            setattr(after, name, _value(name, asked[name]))
    if after.status == "new" and ticket.status != "new":
        raise invalid({"status": [{"description": "Status: cannot return to new"}]})
    if after.status == "new" and after.assignee_id != ticket.assignee_id and after.assignee_id is not None:
        after.status = "open"  # a native rule: assigning a new ticket opens it
    if "tags" in asked:
        after.tags = read_tags(asked["tags"])
    if add_and_remove:
        tags = (set(after.tags) | set(read_tags(asked.get("additional_tags")))) - set(
            read_tags(asked.get("remove_tags"))
        )
        after.tags = sorted(tags)
    for field in asked.get("custom_fields") or ():
        after.custom_fields[int(field["id"])] = field["value"]
    return after


def _value(name: str, value: Any) -> Any:
    if value in (None, ""):
        if name in ("status", "subject"):
            raise invalid({name: [{"description": f"{name.capitalize()}: cannot be blank"}]})
        return None
    if name in _ALLOWED and value not in _ALLOWED[name]:
        raise invalid({name: [{"description": f"{name.capitalize()}: {value} is not valid"}]})
    if name in _IDS:
        try:
            return int(value)
        except (TypeError, ValueError):
            raise invalid({name: [{"description": f"{name}: {value} is not an id"}]}) from None
    return value


def read_tags(value: Any) -> list[str]:
    """Read tags, which are a list, or a text with spaces between them."""
    words = value.split() if isinstance(value, str) else value or ()
    return sorted({str(word) for word in words})


def _comment(asked: Any) -> Mapping[str, Any] | None:
    if not isinstance(asked, Mapping):
        return None
    body = asked.get("body") or asked.get("html_body")
    if not body:
        raise invalid({"comment": [{"description": "Comment: cannot be blank"}]})
    return {"body": body, "public": asked.get("public", True) is not False}
