"""What a case expects, completed and checked, compared with what a run gave; and laws that hold in every run."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .notation import CaseError, actions, duration_ms, millis, only, printed
from .records import SESSIONS, TICKETS, TOPICS, Record

KINDS = ("opened", "lapsed", "first_seen", "reason_changed", "resumed", "ended", "other")
OUTCOMES = (
    "commanded",
    "no_op",
    "no_match",
    "unjoined",
    "cancelled",
    "closed",
    "historic",
    "dry_run",
    "held_out",
    "held",
)
CODES = ("not_json", "invalid", "missing_key", "key_mismatch", "too_large", "bad_timestamp")

EXPECT_KEYS = {
    "commands", "records", "transitions", "evaluations", "applied", "stale", "duplicate", "dead_letters", "pending",
    "row", "fired", "refused", "stops", "same_ruleset_as", "other_ruleset_than", "shadows", "shadow_rounds",
    "activations",
}  # fmt: skip
COMMAND_KEYS = {"ticket", "triggers", "titles", "actions", "expected", "issued_at", "wait", "transition", "revision"}
TRANSITION_KEYS = {
    "kind", "ticket", "event_id", "occurred_at", "session_id", "from", "to", "reason", "episode", "channel",
}  # fmt: skip
EVALUATION_KEYS = {
    "outcome",
    "ticket",
    "event_id",
    "occurred_at",
    "episode",
    "wait",
    "triggers",
    "command_id",
    "held_by",
}
SHADOW_KEYS = {"ticket", "event_id", "occurred_at", "episode", "wait", "after_live", "live", "shadow"}
SHADOW_RESULTS = ("same", "only_live", "only_shadow", "different")
ACTIVATION_KEYS = {"number", "kind", "previous", "stopped", "at", "late", "tickets", "sessions"}
ENTRY_KINDS = ("live", "shadow", "shadow_off", "stop", "resume")
SIDE_KEYS = {"outcome", "triggers", "actions"}
DEAD_LETTER_KEYS = {"code", "path_names", "topic", "offset", "timestamp", "partition", "value", "headers", "times"}
LAPSE_KEYS = {"episode", "from", "to", "reason", "occurred_at", "event_id"}

WIRE_TRANSITION = TRANSITION_KEYS - {"ticket"} | {"type", "ticket_id"}
WIRE_EVALUATION = EVALUATION_KEYS - {"ticket", "wait", "held_by"} | {"type", "ticket_id", "wait_ms"}
WIRE_SHADOW = SHADOW_KEYS - {"ticket", "wait"} | {"type", "ticket_id", "wait_ms", "revision"}
WIRE_ACTIVATION = {
    "type", "partition", "partitions", "number", "kind", "previous", "ruleset", "stopped", "stream_time_us", "offsets",
    "late", "act_from", "author", "reason",
}  # fmt: skip
WIRE = {
    "transition": WIRE_TRANSITION,
    "evaluation": WIRE_EVALUATION,
    "shadow": WIRE_SHADOW,
    "activation": WIRE_ACTIVATION,
}
WIRE_COMMAND = {
    "command_id", "type", "ticket_id", "issued_at", "transition", "wait_ms", "triggers", "actions", "expected",
    "ruleset",
}  # fmt: skip


def complete(expect: dict[str, Any], records: int) -> dict[str, Any]:
    """Check `expect` and fill what it leaves out: no command, no dead letter, nothing stale, nothing pending."""
    only("expect", expect, EXPECT_KEYS)
    expect = copy.deepcopy(expect)
    if "refused" in expect or "stops" in expect:
        return expect
    for key, known, plain in (
        ("transitions", TRANSITION_KEYS, KINDS),
        ("evaluations", EVALUATION_KEYS, OUTCOMES),
        ("records", TRANSITION_KEYS | EVALUATION_KEYS, KINDS + OUTCOMES),
        ("dead_letters", DEAD_LETTER_KEYS, CODES),
        ("commands", COMMAND_KEYS, ()),
        ("shadows", SHADOW_KEYS, ()),
        ("activations", ACTIVATION_KEYS, ()),
    ):
        filled = []
        for one in expect.get(key, []):
            if isinstance(one, str):
                if one not in plain:
                    raise CaseError(f"{key}: {one!r} is none of {plain}")
                name = "code" if key == "dead_letters" else "kind" if one in KINDS else "outcome"
                filled.append({name: one})
            else:
                only(key, one, known)
                if key == "records" and ("kind" in one) == ("outcome" in one):
                    raise CaseError(f"records: {one!r} needs either kind or outcome")
                if "transition" in one:
                    only("transition", one["transition"], LAPSE_KEYS)
                for side in ("live", "shadow"):
                    if one.get(side) is not None:
                        only(side, one[side], SIDE_KEYS)
                times = one.get("times", 1)
                filled += [{name: value for name, value in one.items() if name != "times"}] * times
        if key in expect:
            expect[key] = filled
    if "row" in expect:
        expect.setdefault("commands", [{}])
    if "fired" in expect:  # the triggers of the only round; its command is not looked at unless `commands` is given
        expect["evaluations"] = [{"triggers": expect["fired"]}]
        expect.setdefault("commands", None)
    expect.setdefault("commands", [])
    expect.setdefault("shadows", [])
    expect.setdefault("activations", [])
    if "shadow_rounds" in expect:
        only("shadow_rounds", expect["shadow_rounds"], set(SHADOW_RESULTS))
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
    """Transition, evaluation and shadow records, in the order in which they arose."""
    counts: dict[str, int]
    """applied, stale, duplicate."""
    dead_letter_codes: dict[str, int]
    pending: int
    dead_letters: list[dict[str, Any]] | None = None
    """Where the way shows them: code, path, topic, partition, offset, timestamp, key, value (bytes), headers (None
    where the way has none)."""
    command_headers: list[dict[str, str]] | None = None
    shadow_rounds: dict[str, int] | None = None
    """By result, where the way shows what is counted."""
    refused: str | None = None
    stopped: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)


def differences(expect: dict[str, Any], records: Sequence[Record], result: Result) -> list[str]:
    """Every difference between what is expected and what a run gave, as texts; empty when they agree."""
    if "refused" in expect:
        return _speaks(result.refused, "refusal of the trigger file", expect["refused"])
    if result.refused is not None:
        return [f"refused: {result.refused}"]
    if "stops" in expect:
        return _speaks(result.stopped, "stop", expect["stops"])
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
        wanted = [
            _as_received(records, one, letter) for one, letter in zip(ordered, expect["dead_letters"], strict=False)
        ]
        if len(ordered) == len(wanted) == len(expect["dead_letters"]):
            _each(found, "dead letter", ordered, wanted, _dead_letter_view)
    _same(found, "pending", result.pending, expect["pending"])
    transitions = [one for one in result.records if one["type"] == "transition"]
    evaluations = [one for one in result.records if one["type"] == "evaluation"]
    shadows = [one for one in result.records if one["type"] == "shadow"]
    activations = [one for one in result.records if one["type"] == "activation"]
    live = [one for one in result.records if one["type"] not in ("shadow", "activation")]
    for key, got in (("transitions", transitions), ("evaluations", evaluations), ("records", live)):
        if key in expect:
            _each(found, key, got, expect[key], _record_view)
    _each(found, "shadow", shadows, expect["shadows"], _shadow_view)
    _each(found, "activation", activations, expect["activations"], _activation_view)
    if "shadow_rounds" in expect and result.shadow_rounds is not None:
        _same(found, "shadow rounds", result.shadow_rounds, expect["shadow_rounds"])
    if expect["commands"] is not None:
        _each(found, "command", result.commands, expect["commands"], _command_view)
    if "row" in expect and result.commands:
        told, wanted = result.commands[-1]["expected"], REVEALED | expect["row"]
        _same(found, "row, as `expected` of the last command tells it", told, wanted)
    return found


REVEALED: dict[str, Any] = dict.fromkeys(
    (
        "status", "custom_status_id", "priority", "type", "group_id", "assignee_id", "brand_id", "ticket_form_id",
        "routing_channel", "custom_fields_1", "custom_fields_2", "custom_fields_3",
    )
) | {"tags": []}  # fmt: skip
"""`expected` of the named trigger `reveal` on an empty ticket: it sets all these, so it tells the whole row."""


def _speaks(message: str | None, what: str, word: str) -> list[str]:
    if message is None:
        return [f"expected a {what} that names {word!r}, got none"]
    return [] if word.casefold() in message.casefold() else [f"expected a {what} that names {word!r}, got {message!r}"]


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


def _shadow_view(got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    sides: dict[str, tuple[Any, Any]] = {}
    for side in {"live", "shadow"} & wanted.keys():
        told, should = got[side], wanted[side]
        if told is None or should is None:
            sides[side] = (told, should)
            continue
        if "actions" in should:
            should = should | {"actions": actions(should["actions"])}
        sides |= {f"{side}.{name}": (told.get(name, "<absent>"), value) for name, value in should.items()}
    return _record_view(got, {name: value for name, value in wanted.items() if name not in ("live", "shadow")}) | sides


def _activation_view(got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    offsets = got["offsets"]
    shown = got | {"at": got["stream_time_us"], "tickets": offsets[TICKETS], "sessions": offsets[SESSIONS]}
    return _pick(wanted | ({"at": millis(wanted["at"]) * 1000} if "at" in wanted else {}), shown, {})


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


def _as_received(records: Sequence[Record], got: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Fill what every dead letter must show: the record that lay there, bytes untouched, and its coordinates."""
    place = (got["topic"], got["partition"], got["offset"])
    record = next((one for one in records if (one.topic, one.partition, one.offset) == place), None)
    if record is None:
        return wanted | {"offset": f"one of a record of the case, not {place}"}
    value = wanted.get("value", None if wanted["code"] == "too_large" else "received")
    if value not in (None, "received"):
        raise CaseError(f"a dead letter's value is `received` or null, not {value!r}")
    kept = value == "received"
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
        known = WIRE.get(str(record.get("type")), set()) | ({"held_by"} if record.get("outcome") == "held" else set())
        if set(record) != known:
            yield f"members of a {record.get('type')}: {sorted(set(record) ^ known)} missing or unknown"
            continue
        if "occurred_at" in known and not _PRINTED.match(record["occurred_at"]):
            yield f"time format: {record['occurred_at']!r}"
    evaluations = [one for one in result.records if one["type"] == "evaluation"]
    for one in evaluations:
        computed = command_id(one["ticket_id"], one["event_id"], one["episode"], one["wait_ms"])
        wanted = computed if one["outcome"] in ("commanded", "dry_run", "held_out", "held") else None
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
    yield from _revision_invariants(result)
    if result.summary:
        yield from _summary_invariants(result, evaluations)


def _revision_invariants(result: Result) -> Iterator[str]:
    """SPEC 10: commands carry `revision` with rules from the topic, and only then; activations follow one another."""
    activations = [one for one in result.records if one["type"] == "activation"]
    live = {one["number"]: one["ruleset"] for one in activations if one["kind"] == "live"}
    for command in result.commands:
        number = command.get("revision")
        if ("revision" in command) != bool(activations) or (activations and live.get(number) != command["ruleset"]):
            yield f"revision of a command: {number!r}, with the ruleset {command['ruleset']}; live were {live}"
    by_partition: dict[int, int | None] = {}
    for one in activations:
        if one["previous"] != by_partition.get(one["partition"]):
            yield f"activation {one['number']}: previous is {one['previous']!r}, not {by_partition[one['partition']]!r}"
        by_partition[one["partition"]] = one["number"]


def rounds_unaccounted(waits: set[int], result: Result) -> list[str]:
    """SPEC 4: a lapse starts one round for each wait in use, and every round emits one evaluation or is pending."""
    lapses = [(one["ticket_id"], one["event_id"]) for one in result.records if one.get("kind") == "lapsed"]
    started = [(*lapse, wait) for lapse in lapses for wait in waits]
    ended = [(one["ticket_id"], one["event_id"], one["wait_ms"]) for one in result.records if "outcome" in one]
    if set(ended) <= set(started) and len(set(ended)) == len(ended) == len(started) - result.pending:
        return []
    return [f"rounds started: {started}; ended: {ended}; pending: {result.pending}"]


def _command_invariants(command: dict[str, Any], by_id: dict[str, dict[str, Any]]) -> Iterator[str]:
    if set(command) - {"revision"} != WIRE_COMMAND:
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
