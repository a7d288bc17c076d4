"""The golden cases' format: read and checked strictly, expanded to records, and compared with what a run gave.

A case file holds one section of the contract; `README.md` beside this module describes every key. Nothing here
imports the product: expectations, command ids and time formats are worked out independently, so that a mistake in
the engine cannot hide in its own mirror.
"""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
DAY = "2026-03-01"
NOW = "2027-01-01T00:00:00Z"
"""The clock of a case that does not set one: after every timestamp that cases use."""

TICKETS, SESSIONS = "ticket-updates", "session-states"
TOPICS = {"tickets": TICKETS, "sessions": SESSIONS}
WAYS = ("backtest", "engine", "driver")

KINDS = ("opened", "lapsed", "first_seen", "reason_changed", "resumed", "ended", "other")
OUTCOMES = ("commanded", "no_op", "no_match", "unjoined", "cancelled", "closed", "historic", "dry_run")
CODES = ("not_json", "invalid", "missing_key", "key_mismatch", "too_large", "bad_timestamp")

CASE_KEYS = {
    "name", "spec", "ambiguous", "settings", "now", "triggers", "trigger_file", "cycle", "probes", "records", "until",
    "ways", "why", "expect",
}  # fmt: skip
SETTING_KEYS = {
    "first_inactive", "join_wait", "act_from", "dry_run", "state_ttl", "abandonment_reasons", "dead_letter_limit",
}  # fmt: skip
RECORD_KEYS = {
    "at", "ticket", "session", "tombstone", "raw", "raw_hex", "value", "topic", "ticket_id", "key", "event_id",
    "occurred_at", "sequence", "command_id", "reason", "session_id", "channel", "more", "omit", "pad", "timestamp",
    "offset", "partition", "headers", "repeat",
}  # fmt: skip
EXPECT_KEYS = {
    "commands", "records", "transitions", "evaluations", "applied", "stale", "duplicate", "dead_letters", "pending",
    "row", "fired", "refused", "stops",
}  # fmt: skip
TRIGGER_KEYS = {"id", "title", "active", "position", "category", "wait", "all", "any", "do"}
COMMAND_KEYS = {"ticket", "triggers", "titles", "actions", "expected", "issued_at", "wait", "transition"}
TRANSITION_KEYS = {
    "kind", "ticket", "event_id", "occurred_at", "session_id", "from", "to", "reason", "episode", "channel",
}  # fmt: skip
EVALUATION_KEYS = {"outcome", "ticket", "event_id", "occurred_at", "episode", "wait", "triggers", "command_id"}
DEAD_LETTER_KEYS = {
    "code", "path_names", "topic", "offset", "timestamp", "partition", "key", "value", "headers",
    "times",
}  # fmt: skip
LAPSE_KEYS = {"episode", "from", "to", "reason", "occurred_at", "event_id"}

WIRE_TRANSITION = {
    "type", "ticket_id", "event_id", "occurred_at", "session_id", "kind", "from", "to", "reason", "episode", "channel",
}  # fmt: skip
WIRE_EVALUATION = {
    "type", "ticket_id", "event_id", "occurred_at", "episode", "wait_ms", "outcome", "triggers", "command_id",
}  # fmt: skip
WIRE_COMMAND = {
    "command_id", "type", "ticket_id", "issued_at", "transition", "wait_ms", "triggers", "actions", "expected",
    "ruleset",
}  # fmt: skip

CLOCK_TICKET = "the-clock"
"""The ticket whose empty update ends a capture at `until`: offline, only records move stream time."""


class CaseError(Exception):
    """A case that is not written as the format says: the file, the case, what is wrong."""


# --- reading YAML ----------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML as people read it: no sexagesimal numbers, no dates, no yes/no, no repeated keys; and three tags of ours."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("tag:yaml.org,2002:bool", r"^(?:true|false)$", ["t", "f"]),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    ("tag:yaml.org,2002:float", r"^[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    pairs = loader.construct_pairs(node, deep=True)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CaseError(f"{node.start_mark}: a key is written twice")
    return found


def _sequence_of(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _text(loader: _Loader, node: yaml.SequenceNode) -> str:
    word, times = _sequence_of(loader, node)
    return str(word) * times


def _words(loader: _Loader, node: yaml.SequenceNode) -> list[str]:
    prefix, count = _sequence_of(loader, node)
    return [f"{prefix}{i:04d}" for i in range(count)]


def _nested(loader: _Loader, node: yaml.ScalarNode) -> list[Any]:
    inner: list[Any] = []
    for _ in range(int(loader.construct_scalar(node)) - 1):
        inner = [inner]
    return inner


def _members(loader: _Loader, node: yaml.SequenceNode) -> dict[str, str]:
    prefix, count, size = _sequence_of(loader, node)
    return {f"{prefix}{i:04d}": "x" * size for i in range(count)}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("!text", _text)  # !text [word, times]: the word, repeated
_Loader.add_constructor("!words", _words)  # !words [prefix, count]: prefix0000, prefix0001, …
_Loader.add_constructor("!nested", _nested)  # !nested n: n lists, each in the one before
_Loader.add_constructor("!members", _members)  # !members [prefix, count, size]: that many members of `size` bytes


def read(path: Path) -> Any:
    """Read one YAML file with the strict loader."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader subclass


def scalar(text: str) -> Any:
    """Read the value part of a condition written as one line: a YAML scalar or flow list."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506


# --- times -----------------------------------------------------------------------------------------------------------

_CLOCK = re.compile(r"^\d\d:\d\d:\d\d(?:\.\d+)?$")
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def rfc3339(text: str) -> str:
    """Spell a time of a case in full: `10:05:00` is that time of 2026-03-01, UTC; longer forms stay as written."""
    return f"{DAY}T{text}Z" if _CLOCK.match(text) else text


def millis(text: str) -> int:
    """Milliseconds since the epoch of a time in a case, cut, as a producer's record timestamp would have it."""
    whole = rfc3339(text)
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", whole):
        raise CaseError(f"not a time: {text!r}")
    head, fraction, zone = re.fullmatch(r"(.{19})(?:\.(\d+))?(Z|.{6})", whole).groups()  # type: ignore[union-attr]
    moment = dt.datetime.fromisoformat(head + zone.replace("Z", "+00:00"))
    return int(moment.timestamp()) * 1000 + int(((fraction or "") + "000")[:3])


def printed(text: str) -> str:
    """The form in which output shows a time: UTC, Z, milliseconds cut and only when not zero (SPEC 5)."""
    if not _CLOCK.match(text):
        return text  # given in full: compared to the letter
    ms = millis(text)
    moment = dt.datetime.fromtimestamp(ms // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{ms % 1000:03d}Z" if ms % 1000 else f"{moment}Z"


def duration_ms(text: str) -> int:
    """Milliseconds of `500ms`, `30s`, `5m`, `1h`, `30d`."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if not match:
        raise CaseError(f"not a duration: {text!r}")
    return int(match[1]) * _UNITS[match[2]]


# --- cases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """One Kafka record of a case, as its producer wrote it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    def capture_line(self) -> str:
        """The record as a line of a capture file (SPEC 7)."""
        value: Any = None
        if self.value is not None:
            text = self.value.decode()
            try:
                value = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
            except (ValueError, RecursionError):
                value = text
            if not isinstance(value, dict) or json.dumps(value, ensure_ascii=False) != text:
                value = text
        return json.dumps(
            {
                "topic": self.topic,
                "partition": self.partition,
                "offset": self.offset,
                "timestamp": self.timestamp,
                "key": None if self.key is None else self.key.decode(),
                "value": value,
            },
            ensure_ascii=False,
        )


@dataclass(frozen=True)
class Case:
    """One golden case, expanded."""

    file: str
    section: str
    name: str
    spec: str
    ambiguous: str | None
    settings: dict[str, Any]
    now: str
    trigger_file: str
    records: tuple[Record, ...]
    until_ms: int | None
    ways: tuple[str, ...]
    expect: dict[str, Any]

    @property
    def id(self) -> str:
        """The name of the case in test reports."""
        return f"{self.file}: {self.name}"

    @property
    def partitions(self) -> list[int]:
        """The partitions that records of the case lie in."""
        return sorted({record.partition for record in self.records})


def load_cases(directory: Path = HERE) -> list[Case]:
    """Read every case of every `*.yaml` beside this module; raise CaseError on anything the format doesn't know."""
    cases: list[Case] = []
    named = read(HERE / "triggers" / "named.yaml")
    for path in sorted(directory.glob("*.yaml")):
        document = read(path)
        _only(f"{path.name}", document, {"section", "cases"})
        for entry in document["cases"]:
            where = f"{path.name}: {entry.get('name', '?')}"
            try:
                cases.append(_case(path.name, document["section"], entry, named))
            except (CaseError, KeyError, TypeError, ValueError) as error:
                raise CaseError(f"{where}: {type(error).__name__}: {error}") from error
    names = [case.id for case in cases]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise CaseError(f"two cases of one name: {sorted(repeated)}")
    return cases


def _only(where: str, mapping: dict[str, Any], known: set[str]) -> None:
    if not isinstance(mapping, dict):
        raise CaseError(f"{where}: expected a mapping, got {mapping!r}")
    if unknown := set(mapping) - known:
        raise CaseError(f"{where}: unknown keys {sorted(unknown)}; known are {sorted(known)}")


def _case(file: str, section: str, entry: dict[str, Any], named: dict[str, Any]) -> Case:
    _only("case", entry, CASE_KEYS)
    for required in ("name", "spec"):
        if not entry.get(required):
            raise CaseError(f"`{required}` is missing")
    settings = entry.get("settings", {})
    _only("settings", settings, SETTING_KEYS)
    ways = tuple(entry.get("ways", WAYS))
    if set(ways) - set(WAYS):
        raise CaseError(f"unknown way in {ways}")
    if ways != WAYS and not entry.get("why"):
        raise CaseError("`ways` needs a `why`")
    if not entry.get("expect") and "probes" not in entry:
        raise CaseError("`expect` is missing")
    expect = dict(entry.get("expect", {}))
    if sum(key in entry for key in ("triggers", "trigger_file", "probes")) > 1:
        raise CaseError("give one of `triggers`, `trigger_file`, `probes`")
    if "probes" in entry:
        trigger_file = _probes(entry["probes"], expect)
    elif "trigger_file" in entry:
        trigger_file = entry["trigger_file"]
    else:
        body = entry.get("triggers", "off")
        if isinstance(body, str):
            body = named[body]
        trigger_file = trigger_yaml(body, entry.get("cycle"))
    records = tuple(expand_records(entry.get("records", [])))
    until = millis(entry["until"]) if "until" in entry else None
    if until is not None and any(record.timestamp >= until for record in records):
        raise CaseError("`until` must lie after every record")
    expect = _expectation(expect, len(records))
    return Case(
        file=file, section=section, name=entry["name"], spec=entry["spec"], ambiguous=entry.get("ambiguous"),
        settings=settings, now=rfc3339(entry.get("now", NOW)), trigger_file=trigger_file, records=records,
        until_ms=until, ways=ways, expect=expect,
    )  # fmt: skip


# --- triggers --------------------------------------------------------------------------------------------------------


def condition(written: Any) -> dict[str, Any]:
    """Spell out a condition: `lapse`, `status is open`, `current_tags includes [vip, late]`, or a mapping as it is."""
    if isinstance(written, dict):
        return written
    if written == "lapse":
        return {"field": "messaging_session_state", "operator": "changed_to", "value": "inactive"}
    parts = written.split(None, 2)
    if len(parts) < 2:
        raise CaseError(f"not a condition: {written!r}")
    spelled = {"field": parts[0], "operator": parts[1]}
    return spelled | ({"value": scalar(parts[2])} if len(parts) == 3 else {})


def actions(written: Any) -> list[dict[str, Any]]:
    """Spell out actions: a mapping of field to value, or a list of such mappings where a field comes twice."""
    parts = written if isinstance(written, list) else [written]
    return [{"field": name, "value": value} for part in parts for name, value in part.items()]


def trigger(written: dict[str, Any]) -> dict[str, Any]:
    """Spell out one trigger of a case as a trigger file has it."""
    _only("trigger", written, TRIGGER_KEYS)
    spelled = {key: value for key, value in written.items() if key not in ("all", "any", "do")}
    spelled.setdefault("title", f"Title of {written['id']}")
    spelled["conditions"] = {
        group: [condition(one) for one in written.get(group, [])] for group in ("all", "any") if group in written
    }
    spelled["actions"] = actions(written.get("do", {"notification_target": str(written["id"])}))
    return spelled


def trigger_yaml(triggers: list[dict[str, Any]], cycle: str | None = None) -> str:
    """The text of a trigger file with these triggers."""
    body: dict[str, Any] = {} if cycle is None else {"cycle": cycle}
    body["triggers"] = [trigger(one) for one in triggers]
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=1000)


def _probes(probes: list[Any], expect: dict[str, Any]) -> str:
    """A truth table: each probe is a trigger with that one condition, whose passed-on action changes nothing."""
    triggers, true = [], []
    for number, probe in enumerate(probes, 1):
        if not isinstance(probe, dict) or len(probe) != 1:
            raise CaseError(f"a probe is `condition: true` or `condition: false`, not {probe!r}")
        ((text, holds),) = probe.items()
        if not isinstance(holds, bool):
            raise CaseError(f"{text!r}: true or false, not {holds!r}")
        identity = f"{number}: {text}"
        triggers.append({"id": identity, "all": [text], "do": {"notification_target": str(number)}})
        if holds:
            true.append((identity, str(number)))
    if "evaluations" not in expect:
        outcome = "commanded" if true else "no_match"
        expect["evaluations"] = [{"outcome": outcome, "triggers": [identity for identity, _ in true]}]
    if "commands" not in expect:
        expect["commands"] = [{"actions": [{"notification_target": n} for _, n in true]}] if true else []
    return trigger_yaml(triggers)


# --- records ---------------------------------------------------------------------------------------------------------


def expand_records(written: list[dict[str, Any]]) -> Iterator[Record]:
    """Spell out compact records: defaults, `repeat`, and offsets that count up within topic and partition."""
    offsets: dict[tuple[str, int], int] = {}
    for entry in written:
        _only("record", entry, RECORD_KEYS)
        times = entry.get("repeat")
        for n in range(1 if times is None else times):
            one = entry if times is None else _numbered(entry, n)
            record = _record(one, offsets)
            offsets[record.topic, record.partition] = record.offset + 1
            yield record


def _numbered(value: Any, n: int) -> Any:
    if isinstance(value, str):
        return value.replace("{n}", str(n))
    if isinstance(value, list):
        return [_numbered(item, n) for item in value]
    if isinstance(value, dict):
        return {_numbered(key, n): _numbered(item, n) for key, item in value.items()}
    return value


def _record(entry: dict[str, Any], offsets: dict[tuple[str, int], int]) -> Record:
    forms = [key for key in ("ticket", "session", "tombstone", "raw", "raw_hex", "value") if key in entry]
    if len(forms) != 1:
        raise CaseError(f"a record is one of ticket, session, tombstone, raw, raw_hex, value; this one is {forms}")
    (form,) = forms
    if form == "ticket":
        topic = TICKETS
    elif form == "session":
        topic = SESSIONS
    else:
        topic = TOPICS[entry["tombstone"] if form == "tombstone" else entry["topic"]]
    ticket_id = entry.get("ticket_id", "1")
    value: bytes | None
    if form == "tombstone":
        value = None
    elif form == "raw":
        value = entry["raw"].encode()
    elif form == "raw_hex":
        value = bytes.fromhex(entry["raw_hex"])
    else:
        body = entry["value"] if form == "value" else _value(entry, form, ticket_id)
        if "pad" in entry:
            bare = len(json.dumps(body | {"pad": ""}, ensure_ascii=False).encode())
            body = body | {"pad": "x" * (entry["pad"] - bare)}
        value = json.dumps(body, ensure_ascii=False).encode()
    key = entry.get("key", str(ticket_id))
    partition = entry.get("partition", 0)
    return Record(
        topic=topic,
        partition=partition,
        offset=entry.get("offset", offsets.get((topic, partition), 0)),
        timestamp=millis(entry.get("timestamp", entry["at"])),
        key=None if key is None else key.encode(),
        value=value,
        headers=tuple((name, text.encode()) for name, text in entry.get("headers", {}).items()),
    )


def _value(entry: dict[str, Any], form: str, ticket_id: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"ticket_id": ticket_id}
    occurred_at = entry.get("occurred_at", entry["at"])
    value["occurred_at"] = rfc3339(occurred_at) if isinstance(occurred_at, str) else occurred_at
    for member in ("event_id", "sequence", "command_id", "reason", "session_id", "channel"):
        if member in entry:
            value[member] = entry[member]
    value["ticket" if form == "ticket" else "state"] = entry[form]
    value |= entry.get("more", {})
    for member in entry.get("omit", []):
        del value[member]
    return value


def clock_records(case: Case) -> list[Record]:
    """For a capture: the records that bring stream time of each partition to `until` and do nothing else."""
    if case.until_ms is None:
        return []
    made = []
    for partition in case.partitions or [0]:
        last = max((r.offset for r in case.records if r.topic == TICKETS and r.partition == partition), default=-1)
        moment = dt.datetime.fromtimestamp(case.until_ms / 1000, dt.UTC).isoformat()
        value = {"ticket_id": CLOCK_TICKET, "occurred_at": moment, "ticket": {}}
        made.append(
            Record(TICKETS, partition, last + 1, case.until_ms, CLOCK_TICKET.encode(), json.dumps(value).encode())
        )
    return made


# --- expectations ----------------------------------------------------------------------------------------------------


def _expectation(expect: dict[str, Any], records: int) -> dict[str, Any]:
    """Check `expect` and fill what it leaves out: no command, no dead letter, nothing stale, nothing pending."""
    _only("expect", expect, EXPECT_KEYS)
    expect = copy.deepcopy(expect)
    if "refused" in expect or "stops" in expect:
        return expect
    for key, known, plain in (
        ("transitions", TRANSITION_KEYS, KINDS),
        ("evaluations", EVALUATION_KEYS, OUTCOMES),
        ("records", TRANSITION_KEYS | EVALUATION_KEYS, KINDS + OUTCOMES),
        ("dead_letters", DEAD_LETTER_KEYS, CODES),
        ("commands", COMMAND_KEYS, ()),
    ):
        filled = []
        for one in expect.get(key, []):
            if isinstance(one, str):
                if one not in plain:
                    raise CaseError(f"{key}: {one!r} is none of {plain}")
                name = "code" if key == "dead_letters" else "kind" if one in KINDS else "outcome"
                filled.append({name: one})
            else:
                _only(key, one, known)
                if key == "records" and ("kind" in one) == ("outcome" in one):
                    raise CaseError(f"records: {one!r} needs either kind or outcome")
                if "transition" in one:
                    _only("transition", one["transition"], LAPSE_KEYS)
                one = dict(one)
                filled += [one] * (one.pop("times", 1) if key == "dead_letters" else 1)
        if key in expect:
            expect[key] = filled
    if "row" in expect:
        expect.setdefault("commands", [{}])
    if "fired" in expect:  # the triggers of the only round; its command is not looked at unless `commands` is given
        expect["evaluations"] = [{"triggers": expect["fired"]}]
        expect.setdefault("commands", None)
    expect.setdefault("commands", [])
    expect.setdefault("dead_letters", [])
    expect.setdefault("stale", 0)
    expect.setdefault("duplicate", 0)
    expect.setdefault("pending", 0)
    expect.setdefault("applied", records - expect["stale"] - expect["duplicate"] - len(expect["dead_letters"]))
    return expect


@dataclass
class Result:
    """What one way of running a case gave, in the words of the wire."""

    commands: list[dict[str, Any]]
    records: list[dict[str, Any]]
    """Transition and evaluation records, in the order in which they arose."""
    counts: dict[str, int]
    """applied, stale, duplicate."""
    dead_letter_codes: dict[str, int]
    pending: int
    dead_letters: list[dict[str, Any]] | None = None
    """Where the way shows them: code, path, topic, partition, offset, timestamp, key, value (bytes), headers (None
    where the way has none)."""
    command_headers: list[dict[str, str]] | None = None
    refused: str | None = None
    stopped: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)


def problems(case: Case, result: Result) -> list[str]:
    """Every difference between what the case expects and what a run gave, as texts; empty when they agree."""
    expect = case.expect
    if "refused" in expect:
        return [] if result.refused is not None else ["expected the trigger file or settings to be refused"]
    if result.refused is not None:
        return [f"refused: {result.refused}"]
    if "stops" in expect:
        return [] if result.stopped is not None else [f"expected the run to stop: {expect['stops']}"]
    if result.stopped is not None:
        return [f"stopped: {result.stopped}"]
    found = list(_invariants(result))
    for key in ("applied", "stale", "duplicate"):
        _same(found, key, result.counts.get(key), expect[key])
    codes: dict[str, int] = {}
    for letter in expect["dead_letters"]:
        codes[letter["code"]] = codes.get(letter["code"], 0) + 1
    _same(found, "dead letters by code", {k: v for k, v in result.dead_letter_codes.items() if v}, codes)
    if result.dead_letters is not None:
        ordered = sorted(result.dead_letters, key=lambda one: (one["partition"], one["topic"] == SESSIONS))
        wanted = [_as_received(case, one, letter) for one, letter in zip(ordered, expect["dead_letters"], strict=False)]
        if len(ordered) == len(wanted) == len(expect["dead_letters"]):
            _each(found, "dead letter", ordered, wanted, _dead_letter_view)
    _same(found, "pending", result.pending, expect["pending"])
    transitions = [one for one in result.records if one["type"] == "transition"]
    evaluations = [one for one in result.records if one["type"] == "evaluation"]
    for key, got in (("transitions", transitions), ("evaluations", evaluations), ("records", result.records)):
        if key in expect:
            _each(found, key, got, expect[key], _record_view)
    if expect["commands"] is not None:
        _each(found, "command", result.commands, expect["commands"], _command_view)
    if "row" in expect and result.commands:
        _same(found, "row, as the last command's `expected` tells it", result.commands[-1]["expected"],
              REVEALED | expect["row"])  # fmt: skip
    return found


REVEALED: dict[str, Any] = dict.fromkeys(
    (
        "status", "custom_status_id", "priority", "type", "group_id", "assignee_id", "brand_id", "ticket_form_id",
        "routing_channel", "custom_fields_1", "custom_fields_2", "custom_fields_3",
    )
) | {"tags": []}  # fmt: skip
"""`expected` of the named trigger `reveal` on an empty ticket: it sets all these, so it tells the whole row."""


def _same(found: list[str], what: str, got: Any, expected: Any) -> None:
    if got != expected or type(got) is not type(expected):
        found.append(f"{what}: got {got!r}, expected {expected!r}")


def _each(found: list[str], what: str, got: list[Any], expected: list[Any], view: Any) -> None:
    if len(got) != len(expected):
        found.append(f"{what}: got {len(got)}, expected {len(expected)}; got {[_brief(one) for one in got]}")
        return
    for number, (one, wanted) in enumerate(zip(got, expected, strict=True)):
        for name, (seen, should) in view(one, wanted).items():
            _same(found, f"{what} {number}, {name}", seen, should)


def _brief(one: dict[str, Any]) -> Any:
    return one.get("kind") or one.get("outcome") or one.get("code") or one.get("actions")


def _pick(wanted: dict[str, Any], got: dict[str, Any], names: dict[str, str]) -> dict[str, tuple[Any, Any]]:
    return {name: (got.get(names.get(name, name), "<absent>"), wanted[name]) for name in wanted}


def _timed(wanted: dict[str, Any], *names: str) -> dict[str, Any]:
    return {
        name: printed(value) if name in names and isinstance(value, str) else value for name, value in wanted.items()
    }


def _record_view(got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    wanted = _timed(wanted, "occurred_at")
    if "wait" in wanted:
        wanted["wait"] = duration_ms(wanted["wait"])
    return _pick(wanted, got, {"ticket": "ticket_id", "wait": "wait_ms"})


def _command_view(got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    wanted = _timed(wanted, "issued_at")
    if "wait" in wanted:
        wanted["wait"] = duration_ms(wanted["wait"])
    lapse = _timed(wanted.pop("transition", {}), "occurred_at")
    if "actions" in wanted:
        wanted["actions"] = actions(wanted["actions"])
    shown = got | {"titles": [t.get("title") for t in got["triggers"]], "triggers": [t["id"] for t in got["triggers"]]}
    view = _pick(wanted, shown, {"ticket": "ticket_id", "wait": "wait_ms"})
    return view | {f"transition.{name}": (got["transition"].get(name, "<absent>"), lapse[name]) for name in lapse}


def _as_received(case: Case, got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Fill what every dead letter must show: the record that lay there, bytes untouched, and its coordinates."""
    place = (got["topic"], got["partition"], got["offset"])
    record = next((one for one in case.records if (one.topic, one.partition, one.offset) == place), None)
    if record is None:
        return wanted | {"offset": f"one of a record of the case, not {place}"}
    kept = wanted.get("value", None if wanted["code"] == "too_large" else "received") == "received"
    told = {
        "lapse.error.code": wanted["code"],
        "lapse.source.topic": record.topic,
        "lapse.source.partition": str(record.partition),
        "lapse.source.offset": str(record.offset),
        "lapse.source.timestamp": str(record.timestamp),
    } | {name: text.decode() for name, text in record.headers}
    if not kept and record.value is not None:
        told["lapse.source.size"] = str(len(record.value))
        told["lapse.source.sha256"] = hashlib.sha256(record.value).hexdigest()
    return wanted | {
        "key": record.key,
        "value": record.value if kept else None,
        "headers": told | wanted.get("headers", {}),
    }


def _dead_letter_view(got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    wanted = dict(wanted)
    view: dict[str, tuple[Any, Any]] = {}
    if "path_names" in wanted:
        name = wanted.pop("path_names")
        view["path"] = (name in got["path"] or got["path"], True)
    headers = wanted.pop("headers")
    if got["headers"] is not None:
        for name in ("lapse.error.path", "lapse.error.message"):
            view[f"header {name}"] = (name in got["headers"], True)
        view |= {f"header {name}": (got["headers"].get(name, "<absent>"), value) for name, value in headers.items()}
    if "timestamp" in wanted:
        wanted["timestamp"] = millis(wanted["timestamp"])
    if "topic" in wanted:
        wanted["topic"] = TOPICS[wanted["topic"]]
    return view | _pick(wanted, got, {})


# --- what holds in every case ----------------------------------------------------------------------------------------

_PRINTED = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.(?!000)\d{3})?Z$")


def command_id(ticket_id: str, event_id: str, episode: int, wait_ms: int) -> str:
    """SPEC 5: UUIDv5 in the URL namespace of the compact JSON array."""
    name = json.dumps(["lapse", ticket_id, event_id, episode, wait_ms], separators=(",", ":"), ensure_ascii=False)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def _invariants(result: Result) -> Iterator[str]:
    """Laws that every output obeys, whatever the case is about."""
    for record in result.records:
        known = WIRE_TRANSITION if record.get("type") == "transition" else WIRE_EVALUATION
        if set(record) != known:
            yield f"members of a {record.get('type')}: {sorted(set(record) ^ known)} missing or unknown"
            continue
        if not _PRINTED.match(record["occurred_at"]):
            yield f"time format: {record['occurred_at']!r}"
    evaluations = [one for one in result.records if one["type"] == "evaluation"]
    for one in evaluations:
        computed = command_id(one["ticket_id"], one["event_id"], one["episode"], one["wait_ms"])
        wanted = computed if one["outcome"] in ("commanded", "dry_run") else None
        if one["command_id"] != wanted:
            yield f"command_id of a {one['outcome']} evaluation: {one['command_id']!r}, expected {wanted!r}"
        if one["outcome"] in ("no_match", "unjoined", "cancelled", "closed", "historic") and one["triggers"]:
            yield f"a {one['outcome']} round names triggers: {one['triggers']}"
    commanded = [one["command_id"] for one in evaluations if one["outcome"] == "commanded"]
    if commanded != [one["command_id"] for one in result.commands]:
        yield "commands are not those of the evaluations with outcome `commanded`, in their order"
    by_id = {one["command_id"]: one for one in evaluations if one["outcome"] == "commanded"}
    for command in result.commands:
        yield from _command_invariants(command, by_id)
    for command, headers in zip(result.commands, result.command_headers or [], strict=False):
        wanted_headers = {
            "ce_specversion": "1.0", "ce_id": command["command_id"], "ce_type": "lapse.action-command.v1",
            "ce_source": "lapse", "ce_subject": command["ticket_id"], "ce_time": command["issued_at"],
            "content-type": "application/json",
        }  # fmt: skip
        if headers != wanted_headers:
            yield f"command headers: got {headers}, expected {wanted_headers}"
    if result.summary:
        yield from _summary_invariants(result, evaluations)


def _command_invariants(command: dict[str, Any], by_id: dict[str, dict[str, Any]]) -> Iterator[str]:
    if set(command) != WIRE_COMMAND:
        yield f"members of a command: {sorted(set(command) ^ WIRE_COMMAND)} missing or unknown"
        return
    lapse = command["transition"]
    if set(lapse) != LAPSE_KEYS:
        yield f"members of a command's transition: {sorted(set(lapse) ^ LAPSE_KEYS)} missing or unknown"
        return
    computed = command_id(command["ticket_id"], lapse["event_id"], lapse["episode"], command["wait_ms"])
    if command["command_id"] != computed:
        yield f"command_id: got {command['command_id']!r}, expected {computed!r}"
    if command["type"] != "ticket.update" or lapse["to"] != "inactive":
        yield f"type {command['type']!r}, to {lapse['to']!r}"
    if not re.fullmatch("[0-9a-f]{12}", command["ruleset"]):
        yield f"ruleset: {command['ruleset']!r}"
    for time in (command["issued_at"], lapse["occurred_at"]):
        if not _PRINTED.match(time):
            yield f"time format: {time!r}"
    if any(set(one) != {"field", "value"} for one in command["actions"]) or not command["actions"]:
        yield f"actions: {command['actions']!r}"
    if any(set(one) != {"id", "title"} for one in command["triggers"]):
        yield f"triggers: {command['triggers']!r}"
    evaluation = by_id.get(command["command_id"])
    if evaluation is None:
        return
    told = (evaluation["ticket_id"], evaluation["event_id"], evaluation["episode"], evaluation["occurred_at"])
    if told != (command["ticket_id"], lapse["event_id"], lapse["episode"], lapse["occurred_at"]):
        yield f"the evaluation of the command speaks of {told}"
    if evaluation["triggers"] != [one["id"] for one in command["triggers"]]:
        yield f"triggers of command and evaluation differ: {evaluation['triggers']!r}"


def _summary_invariants(result: Result, evaluations: list[dict[str, Any]]) -> Iterator[str]:
    """`--json` of the backtest tells the same as its files, and counts that are 0 are 0."""
    summary = result.summary
    members = {
        "records", "applied", "stale", "duplicate", "dead_letters", "transitions", "rounds", "commands", "pending",
        "triggers",
    }  # fmt: skip
    if missing := members - set(summary):
        yield f"--json lacks {sorted(missing)}"
        return
    kinds, outcomes, fired = dict.fromkeys(KINDS, 0), dict.fromkeys(OUTCOMES, 0), dict.fromkeys(summary["triggers"], 0)
    for record in result.records:
        if record["type"] == "transition":
            kinds[record["kind"]] += 1
    for one in evaluations:
        outcomes[one["outcome"]] += 1
        for identity in one["triggers"]:
            fired[identity] = fired.get(identity, 0) + 1
    told = {
        "transitions": kinds, "rounds": outcomes, "triggers": fired, "commands": len(result.commands),
    }  # fmt: skip
    for name, wanted in told.items():
        if summary[name] != wanted:
            yield f"--json {name}: got {summary[name]!r}, the files say {wanted!r}"
    if set(summary["dead_letters"]) != set(CODES):
        yield f"--json dead_letters: codes {sorted(summary['dead_letters'])}, expected {sorted(CODES)}"
    total = summary["applied"] + summary["stale"] + summary["duplicate"] + sum(summary["dead_letters"].values())
    if summary["records"] != total:
        yield f"--json records: {summary['records']}, but applied + stale + duplicate + dead letters = {total}"
