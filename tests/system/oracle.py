"""What SPEC.md says must come out, worked out slowly from what went in.

This is the other side of every system test, so it shares nothing with `streams`: dicts, lists and if-else, written
from the contract's sentences, one record after the other, no index, no cache, no bytes kept. It knows the part of the
contract that `triggers.yaml` beside it uses; anything else in a trigger file it refuses instead of guessing.

Instants are integer microseconds since the epoch, timestamps of records integer milliseconds (Kafka's).
"""

from __future__ import annotations

import heapq
import itertools
import json
import re
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

TICKETS, SESSIONS = "ticket-updates", "session-states"
SECOND = 1_000_000
FOREVER = 1 << 62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMES = {"status", "priority", "type", "state", "reason", "channel"}
_STATUS = ["new", "open", "pending", "hold", "solved", "closed"]
_PRIORITY = ["low", "normal", "high", "urgent"]
_PASSED_ON = ("notification_", "reply_", "side_conversation_", "end_messaging_session")


@dataclass(frozen=True)
class Record:
    """One record as it lies in an input topic; `topic` without prefix."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass
class Expected:
    """What the output topics must hold, as parsed JSON; `dead_letters` by (topic, partition, offset) to code."""

    commands: dict[str, dict[str, Any]] = field(default_factory=dict)
    transitions: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: dict[tuple[str, int, int], str] = field(default_factory=dict)
    results: Counter[str] = field(default_factory=Counter)
    pending: int = 0


def expect(
    records: Iterable[Record],
    triggers: Mapping[str, Any],
    *,
    join_wait: float = 30,
    act_from: int | None = None,
    until: int | None = FOREVER,
) -> Expected:
    """Everything that must come out for `records` (of any number of partitions) under a trigger file.

    Rounds that are due at `until` (microseconds) or before are run at the end, by default all: a worker's wall clock
    gets there. With None they stay pending unless the last record's time makes them due, as in a backtest.
    """
    rules = _read_rules(triggers)
    expected = Expected()
    partitions: dict[int, dict[str, list[Record]]] = {}
    for record in records:
        partitions.setdefault(record.partition, {TICKETS: [], SESSIONS: []})[record.topic].append(record)
    for _, topics in sorted(partitions.items()):
        _Partition(rules, expected, int(join_wait * SECOND), act_from).run(topics, until)
    return expected


# --- one partition ---------------------------------------------------------------------------------------------------


class _Partition:
    def __init__(self, rules: _Rules, out: Expected, join_wait: int, act_from: int | None) -> None:
        self.rules, self.out, self.join_wait, self.act_from = rules, out, join_wait, act_from
        self.now = -FOREVER  # stream time
        self.count = itertools.count()
        self.tickets: dict[str, dict[str, Any]] = {}  # id -> {"row": fields or None, "order": {...}}
        self.sessions: dict[str, dict[str, Any]] = {}  # id -> {"state", "reason", "session_id", "channel", ...}
        # Rounds that have not ended: {"ticket", "lapse", "wait", "due", "parked_until" or None}, by ticket, and when
        # each moves on by itself. An entry of the second whose round is not in the first any more is out of date.
        self.pending: dict[str, list[dict[str, Any]]] = {}
        self.moves: list[tuple[int, int, str, int, dict[str, Any]]] = []

    def run(self, topics: dict[str, list[Record]], until: int | None) -> None:
        queues = {name: deque(sorted(records, key=lambda r: r.offset)) for name, records in topics.items()}
        while True:
            # Bad records are taken as soon as they are at the head of their topic.
            for queue in queues.values():
                while queue and (code := _bad(queue[0])) is not None:
                    bad = queue.popleft()
                    self.out.dead_letters[bad.topic, bad.partition, bad.offset] = code
                    self.out.results["dead_letter"] += 1
            heads = [queues[name] for name in (TICKETS, SESSIONS) if queues[name]]
            if not heads:
                break
            # The lower timestamp goes first; min() keeps the ticket topic on a tie.
            self.take(min(heads, key=lambda queue: queue[0].timestamp).popleft())
        if until is not None:
            self.advance(until)
        self.out.pending += sum(map(len, self.pending.values()))

    def take(self, record: Record) -> None:
        """Handle one good record: first what its time makes due, then itself."""
        self.advance(record.timestamp * 1000)
        body = None if record.value is None else json.loads(record.value)
        ticket_id = record.key.decode()
        if record.topic == TICKETS:
            result = self.take_ticket(ticket_id, body, record)
        else:
            result = self.take_session(ticket_id, body, record)
        self.out.results[result] += 1
        self.run_due()  # what was due already when it was made

    def advance(self, instant: int) -> None:
        self.now = max(self.now, instant)
        self.run_due()

    def run_due(self) -> None:
        """Run what is due, in the order (due, wait, ticket id); the end of a parking counts as due at its end."""
        while self.moves and self.moves[0][0] <= self.now:
            *_, each = heapq.heappop(self.moves)
            if not any(other is each for other in self.pending.get(each["ticket"], ())):
                continue
            self.end(each)
            if each["parked_until"] is not None:
                self.evaluated(each, "unjoined")
            elif self.row_of(each["ticket"]) is None:
                self.park(each)
            else:
                self.evaluate(each, None)

    def wait_for(self, each: dict[str, Any], instant: int) -> None:
        self.pending.setdefault(each["ticket"], []).append(each)
        heapq.heappush(self.moves, (instant, each["wait"], each["ticket"], next(self.count), each))

    def park(self, each: dict[str, Any]) -> None:
        end = each["due"] + self.join_wait
        self.wait_for({**each, "parked_until": end}, end)

    def end(self, each: dict[str, Any]) -> None:
        mine = self.pending[each["ticket"]]
        self.pending[each["ticket"]] = [other for other in mine if other is not each]

    def row_of(self, ticket_id: str) -> dict[str, Any] | None:
        return self.tickets.get(ticket_id, {}).get("row")

    # --- the ticket side

    def take_ticket(self, ticket_id: str, body: dict[str, Any] | None, record: Record) -> str:
        entry = self.tickets.setdefault(ticket_id, {"row": None, "order": {}})
        if body is None:
            self.cancel(ticket_id)
            entry["row"] = None
            _delete(entry["order"], record)
            return "applied"
        if (result := _order(entry["order"], body, record)) != "applied":
            return result
        entry["row"] = _merge(entry["row"] or {}, body["ticket"])
        parked = [r for r in self.pending.get(ticket_id, ()) if r["parked_until"] is not None]
        for each in sorted(parked, key=lambda r: r["wait"]):
            self.end(each)
            self.evaluate(each, _instant(body["occurred_at"]))
        return "applied"

    # --- the session side: SPEC section 3

    def take_session(self, ticket_id: str, body: dict[str, Any] | None, record: Record) -> str:
        stored = self.sessions.setdefault(
            ticket_id, {"state": None, "reason": None, "session_id": None, "channel": None, "episode": 0, "order": {}}
        )
        if body is None:
            self.cancel(ticket_id)
            stored.update(state=None, reason=None, session_id=None, channel=None)
            _delete(stored["order"], record)
            return "applied"
        if (result := _order(stored["order"], body, record)) != "applied":
            return result

        state, reason = _name(body["state"]), _name(body.get("reason"))
        state = "active" if state == "open" else state
        session_id, channel = _id(body.get("session_id")), _name(body.get("channel"))
        if session_id and stored["session_id"] and session_id != stored["session_id"]:
            self.cancel(ticket_id)
            stored.update(state=None, reason=None, channel=None)
        before = {name: stored[name] for name in ("state", "reason", "channel")}
        was = before["state"]
        stored["session_id"] = session_id or stored["session_id"]
        stored["channel"] = channel or stored["channel"]

        kind, lapse, cancels = _transition(was, state, reason == before["reason"])
        if cancels:
            self.cancel(ticket_id)
        if not (was == "ended" and state == "inactive"):
            stored["state"] = state
            stored["reason"] = reason if state == "inactive" else None
        if lapse:
            self.cancel(ticket_id)
            stored["episode"] += 1
        if kind is not None:
            self.out.transitions.append(
                {
                    "type": "transition",
                    "ticket_id": ticket_id,
                    "event_id": _event_id(body, record),
                    "occurred_at": _print(_instant(body["occurred_at"])),
                    "session_id": stored["session_id"],
                    "kind": kind,
                    "from": was,
                    "to": state,
                    "reason": reason,
                    "episode": stored["episode"],
                    "channel": stored["channel"],
                }
            )
        if lapse:
            self.lapse(ticket_id, body, record, before, stored)
        return "applied"

    # --- rounds: SPEC section 4

    def lapse(
        self, ticket_id: str, body: dict[str, Any], record: Record, before: dict[str, Any], stored: dict[str, Any]
    ) -> None:
        occurred_at = _instant(body["occurred_at"])
        lapse = {
            "ticket": ticket_id,
            "event_id": _event_id(body, record),
            "occurred_at": occurred_at,
            "episode": stored["episode"],
            "before": before,
            "reason": stored["reason"],
            "channel": stored["channel"],
        }
        start = max(occurred_at, record.timestamp * 1000)
        for wait in self.rules.waits:
            each = {"ticket": ticket_id, "lapse": lapse, "wait": wait, "due": start + wait, "parked_until": None}
            if self.act_from is not None and occurred_at < self.act_from:
                self.evaluated(each, "historic")
            elif wait == 0 and self.row_of(ticket_id) is None:
                self.park(each)
            elif wait == 0:
                self.evaluate(each, None)
            else:
                self.wait_for(each, each["due"])

    def cancel(self, ticket_id: str) -> None:
        for each in sorted(self.pending.pop(ticket_id, ()), key=lambda r: (r["due"], r["wait"])):
            self.evaluated(each, "cancelled")

    def evaluated(
        self, each: dict[str, Any], outcome: str, fired: Iterable[str] = (), command: str | None = None
    ) -> None:
        lapse = each["lapse"]
        self.out.evaluations.append(
            {
                "type": "evaluation",
                "ticket_id": each["ticket"],
                "event_id": lapse["event_id"],
                "occurred_at": _print(lapse["occurred_at"]),
                "episode": lapse["episode"],
                "wait_ms": each["wait"] // 1000,
                "outcome": outcome,
                "triggers": list(fired),
                "command_id": command,
            }
        )

    def evaluate(self, each: dict[str, Any], joined_at: int | None) -> None:
        """Run one round against the ticket as it is; `joined_at` is the time of the update that ended its parking."""
        lapse, row = each["lapse"], self.row_of(each["ticket"])
        assert row is not None
        if row.get("status") == "closed":
            self.evaluated(each, "closed")
            return
        fired, after, set_order, used_set_tags, passed_on = self.rules.fire(each["wait"], row, lapse)
        if not fired:
            self.evaluated(each, "no_match")
            return
        ids = [rule["id"] for rule in fired]

        actions, expected = [], {}
        for name in set_order:
            if after.get(name) != row.get(name):
                actions.append({"field": name, "value": after.get(name)})
                expected[name] = row.get(name)
        was, now = _tags(row.get("tags")), _tags(after.get("tags"))
        if was != now and used_set_tags:
            actions.append({"field": "set_tags", "value": sorted(now)})
            expected["tags"] = sorted(was)
        elif was != now:
            if now - was:
                actions.append({"field": "add_tags", "value": sorted(now - was)})
            if was - now:
                actions.append({"field": "remove_tags", "value": sorted(was - now)})
        actions += passed_on
        if not actions:
            self.evaluated(each, "no_op", ids)
            return
        if row.get("updated_at") is not None:
            expected["updated_at"] = row["updated_at"]

        issued_at = lapse["occurred_at"] if each["wait"] == 0 else each["due"]
        if joined_at is not None:
            issued_at = max(issued_at, joined_at)
        name = json.dumps(
            ["lapse", each["ticket"], lapse["event_id"], lapse["episode"], each["wait"] // 1000],
            separators=(",", ":"),
            ensure_ascii=False,
        )
        command_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        assert command_id not in self.out.commands, "one round, one command"
        self.out.commands[command_id] = {
            "command_id": command_id,
            "type": "ticket.update",
            "ticket_id": each["ticket"],
            "issued_at": _print(issued_at),
            "transition": {
                "episode": lapse["episode"],
                "from": lapse["before"]["state"],
                "to": "inactive",
                "reason": lapse["reason"],
                "occurred_at": _print(lapse["occurred_at"]),
                "event_id": lapse["event_id"],
            },
            "wait_ms": each["wait"] // 1000,
            "triggers": [{"id": rule["id"], "title": rule["title"]} for rule in fired],
            "actions": actions,
            "expected": expected,
        }
        self.evaluated(each, "commanded", ids, command_id)


def _transition(was: str | None, state: str, same_reason: bool) -> tuple[str | None, bool, bool]:
    """The table of section 3, from the top: (kind or None, is it a lapse, does it cancel what waits)."""
    table = [
        (was is None and state == "inactive", "lapsed", True, False),  # first_inactive = lapse
        (was not in ("active", "inactive") and state == "active", "opened", False, False),
        (was == "inactive" and state == "inactive" and same_reason, None, False, False),
        (was == "inactive" and state == "inactive", "reason_changed", False, False),
        (was == "inactive" and state == "active", "resumed", False, True),
        (was == "active" and state == "active", None, False, False),
        (was == "ended" and state == "inactive", "other", False, False),
        (state == "inactive", "lapsed", True, False),
        (was != "ended" and state == "ended", "ended", False, True),
        (was == state, None, False, False),
        (True, "other", False, was == "inactive"),
    ]
    _, kind, lapse, cancels = next(row for row in table if row[0])
    return kind, lapse, cancels


# --- rules -----------------------------------------------------------------------------------------------------------


class _Rules:
    def __init__(self, rules: list[dict[str, Any]]) -> None:
        self.rules = rules
        self.waits = sorted({rule["wait"] for rule in rules})

    def fire(
        self, wait: int, row: dict[str, Any], lapse: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any], list[str], bool, list[dict[str, Any]]]:
        """One round: (rules fired, the working copy after, fields in the order first set, set_tags used, passed on)."""
        working, fired, set_order, passed_on = dict(row), [], [], []
        used_set_tags, again = False, True
        while again:
            again = False
            for rule in self.rules:
                if rule["wait"] != wait or rule in fired or not self.matches(rule, row, working, lapse):
                    continue
                fired.append(rule)
                before = (dict(working), _tags(working.get("tags")))
                for action in rule["actions"]:
                    name, value = action["field"], action["value"]
                    if name.startswith(_PASSED_ON):
                        passed_on.append(action)
                    elif name in ("add_tags", "remove_tags", "set_tags"):
                        used_set_tags |= name == "set_tags"
                        have = _tags(working.get("tags"))
                        working["tags"] = {
                            "add_tags": have | value,
                            "remove_tags": have - value,
                            "set_tags": set(value),
                        }[name]
                    else:
                        working[name] = value
                        if name not in set_order:
                            set_order.append(name)
                changed = {k: v for k, v in working.items() if k != "tags" and v != before[0].get(k)}
                if changed or _tags(working.get("tags")) != before[1]:
                    again = True  # cycle: restart, from the top without those that fired
                    break
        return fired, working, set_order, used_set_tags, passed_on

    def matches(
        self, rule: dict[str, Any], row: dict[str, Any], working: dict[str, Any], lapse: dict[str, Any]
    ) -> bool:
        def holds(condition: dict[str, Any]) -> bool:
            before, now = _seen(condition["field"], row, working, lapse)
            return _holds(condition["field"], condition["operator"], condition.get("value"), before, now)

        every = all(holds(condition) for condition in rule["all"])
        return every and (not rule["any"] or any(holds(condition) for condition in rule["any"]))


def _seen(name: str, row: dict[str, Any], working: dict[str, Any], lapse: dict[str, Any]) -> tuple[Any, Any]:
    """The value of a field before and now, in a round."""
    if name == "messaging_session_state":
        return lapse["before"]["state"], "inactive"
    if name == "messaging_session_inactive_reason":
        return lapse["before"]["reason"], lapse["reason"]
    if name == "messaging_session_channel":
        return lapse["before"]["channel"], lapse["channel"]
    if name in ("tags", "current_tags"):
        return _tags(row.get("tags")), _tags(working.get("tags"))
    return row.get(name), working.get(name)


def _holds(name: str, operator: str, value: Any, before: Any, now: Any) -> bool:
    if operator in ("includes", "not_includes"):
        return bool(_tags(value) & _tags(now)) == (operator == "includes")
    if operator in ("present", "not_present"):
        return (now is not None and now != set()) == (operator == "present")
    if operator in ("is", "is_not"):
        wanted = [_rule_value(name, v) for v in (value if isinstance(value, list) else [value])]
        return (_text(now) in [_text(v) for v in wanted]) == (operator == "is")
    if operator == "changed_to":
        return _text(before) != _text(now) and _text(now) == _text(_rule_value(name, value))
    if operator == "value_previous":
        return _text(before) != _text(now) and _text(before) == _text(_rule_value(name, value))
    if operator == "less_than":
        order = {"status": _STATUS, "priority": _PRIORITY}[name]
        return now in order and order.index(now) < order.index(_name(value))
    raise ValueError(f"The oracle does not know the operator {operator!r}.")


def _rule_value(name: str, value: Any) -> Any:
    if name in _NAMES or name in (
        "messaging_session_state",
        "messaging_session_inactive_reason",
        "messaging_session_channel",
    ):
        return _name(value)
    return _id(value) if name.endswith("_id") else _plain(value)


def _read_rules(triggers: Mapping[str, Any]) -> _Rules:
    if triggers.get("cycle", "restart") != "restart":
        raise ValueError("The oracle only knows the restarting cycle.")
    rules = []
    for place, trigger in enumerate(triggers["triggers"]):
        if "category" in trigger:
            raise ValueError("The oracle does not know categories.")
        if not trigger.get("active", True):
            continue
        conditions = trigger["conditions"]
        rules.append(
            {
                "id": trigger["id"],
                "title": trigger["title"],
                "wait": _duration(trigger.get("wait", "0s")),
                "order": (trigger.get("position", place + 1), place),
                "all": conditions.get("all", []),
                "any": conditions.get("any", []),
                "actions": [_read_action(action) for action in trigger["actions"]],
            }
        )
    return _Rules(sorted(rules, key=lambda rule: rule["order"]))


def _read_action(action: Mapping[str, Any]) -> dict[str, Any]:
    name, value = action["field"], action["value"]
    if name.startswith(_PASSED_ON):
        return {"field": name, "value": value}
    if name in ("current_tags", "add_tags", "remove_tags", "set_tags"):
        return {"field": "add_tags" if name == "current_tags" else name, "value": _tags(value)}
    return {"field": name, "value": _rule_value(name, value)}


def _duration(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text).groups()
    return int(number) * {"ms": 1000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}[unit]


# --- records ---------------------------------------------------------------------------------------------------------


def _bad(record: Record) -> str | None:
    """The dead-letter code of a bad record, None for a good one: the first of the list in section 2 that applies."""
    value, arrived = record.value, record.timestamp * 1000
    if value is not None and (len(value) > 1 << 20 or _depth(value) > 64):
        return "too_large"
    if record.key is None:
        return "missing_key"
    if value is None:
        return None
    try:
        body = json.loads(value)
    except ValueError:
        return "not_json"
    side, kind = ("ticket", dict) if record.topic == TICKETS else ("state", str)
    if not isinstance(body, dict) or not isinstance(body.get(side), kind):
        return "invalid"
    ticket_id = body.get("ticket_id")
    if isinstance(ticket_id, bool) or not isinstance(ticket_id, str | int):
        return "invalid"
    event_id = body.get("event_id")
    if isinstance(event_id, bool) or not isinstance(event_id, str | int | None):
        return "invalid"
    try:
        occurred_at = _instant(body["occurred_at"])
    except (KeyError, TypeError, ValueError):
        return "invalid"
    if str(ticket_id).encode() != record.key:
        return "key_mismatch"
    # The traffic's wrong times are a day ahead, so the clock may be as far from the record's time as it likes.
    if occurred_at > arrived + 300 * SECOND:
        return "bad_timestamp"
    return None


def _depth(value: bytes) -> int:
    """Nesting of brackets outside strings."""
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", value, flags=re.DOTALL)
    deepest = depth = 0
    for byte in outside:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _delete(order: dict[str, Any], record: Record) -> None:
    """Section 2, *Tombstone*: it happens at its record timestamp."""
    order["deleted_at"] = max(order.get("deleted_at", 0), record.timestamp * 1000)


def _order(order: dict[str, Any], body: dict[str, Any], record: Record) -> str:
    """Section 2, *Order*: `applied`, `stale` or `duplicate`; what was applied is noted in `order`."""
    occurred_at, sequence, event_id = _instant(body["occurred_at"]), body.get("sequence"), _event_id(body, record)
    if occurred_at < order.get("deleted_at", occurred_at):
        return "stale"
    last, highest = order.get("occurred_at"), order.get("sequence")
    if sequence is not None and highest is not None:
        if sequence < highest:
            return "stale"
        if sequence == highest:
            return "duplicate"
    elif last is not None:
        if occurred_at < last:
            return "stale"
        if occurred_at == last and event_id in order["seen"]:
            return "duplicate"
    if last is None or occurred_at > last:
        order["occurred_at"], order["seen"] = occurred_at, []
    if occurred_at == order["occurred_at"]:
        order["seen"] = [*order["seen"], event_id][-64:]
    if sequence is not None:
        order["sequence"] = sequence
    return "applied"


def _merge(row: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The row after an update; custom fields lie flat as `custom_fields_<id>`; no value is no entry."""
    after = dict(row)
    for name, value in changes.items():
        if name == "custom_fields":
            if value is None:
                after = {k: v for k, v in after.items() if not k.startswith("custom_fields_")}
                continue
            pairs = value.items() if isinstance(value, dict) else [(each["id"], each["value"]) for each in value]
            for key, each in pairs:
                after[f"custom_fields_{key}"] = _plain(each)
        elif name == "tags":
            after["tags"] = _plain(value)
        elif name in _NAMES:
            after[name] = _name(value)
        elif name.endswith("_id"):
            after[name] = _id(value)
        elif not isinstance(value, dict):
            after[name] = _plain(value)
    return {k: v for k, v in after.items() if v is not None}


def _event_id(body: dict[str, Any], record: Record) -> str:
    if (event_id := _id(body.get("event_id"))) is not None:
        return event_id
    for name, value in record.headers:
        if name == "ce_id":
            return value.decode()
    return f"{record.topic}/{record.partition}/{record.offset}"


# --- values ----------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    return None if value in ("", "__NULL__") else value


def _name(value: Any) -> str | None:
    if _plain(value) is None:
        return None
    return re.sub(r"[\W_]+", "_", str(value).casefold()).strip("_") or None


def _id(value: Any) -> str | None:
    return None if _plain(value) is None else str(value)


def _tags(value: Any) -> set[str]:
    return set(value.split() if isinstance(value, str) else value or ())


def _text(value: Any) -> str | None:
    """A scalar as JSON text without quotes; None is no value."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _instant(text: str) -> int:
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError("no offset")
    return (parsed - _EPOCH) // timedelta(microseconds=1)


def _print(instant: int) -> str:
    millis = instant // 1000
    whole = (_EPOCH + timedelta(seconds=millis // 1000)).strftime("%Y-%m-%dT%H:%M:%S")
    return whole + (f".{millis % 1000:03}Z" if millis % 1000 else "Z")


def load_rules(path: Any) -> dict[str, Any]:
    """A trigger file as `expect` takes it."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)
