"""The golden cases: read and checked strictly, expanded to records, trigger file and expectations.

A case file holds one section of the contract; `README.md` beside this module describes every key. Nothing here
imports the product: expectations, command ids and time formats are worked out independently, so that a mistake in
the engine cannot hide in its own mirror.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .expectations import Result, complete, differences, rounds_unaccounted
from .notation import CaseError, millis, only, read, rfc3339, trigger_yaml, waits_in_use
from .records import TICKETS, Record, expand_records

HERE = Path(__file__).parent
NOW = "2027-01-01T00:00:00Z"
"""The clock of a case that does not set one: after every timestamp that cases use."""

WAYS = ("backtest", "engine", "driver")

CASE_KEYS = {
    "name", "spec", "ambiguous", "settings", "now", "triggers", "trigger_file", "cycle", "holdout", "limit", "shadow",
    "probes", "records", "until", "restart", "revisions", "ways", "why", "expect",
}  # fmt: skip
REVISION_KEYS = {"at", "publish", "cycle", "holdout", "limit", "effective_from", "rollback", "stop", "resume", "shadow"}
SETTING_KEYS = {"first_inactive", "join_wait", "act_from", "dry_run", "state_ttl", "dead_letter_limit"}

SHADOW_REVISION = 2

CLOCK_TICKET = "the-clock"
"""The ticket whose empty update ends a capture at `until`: offline, only records move stream time."""


@dataclass(frozen=True)
class Restart:
    """The worker is started again, with other triggers, before the first record at or after `at_ms`."""

    at_ms: int
    trigger_file: str


@dataclass(frozen=True)
class Revision:
    """An entry of the rules topic; its number is its place, from 1."""

    at_ms: int | None
    """It becomes known after the records before this instant; None: before the worker starts."""
    kind: str
    trigger_file: str | None = None
    effective_ms: int = 0
    triggers: Any = None


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
    restart: Restart | None = None
    shadow_file: str | None = None
    """The trigger file that is evaluated beside the live one, as revision `SHADOW_REVISION`."""
    revisions: tuple[Revision, ...] = ()
    """With these the rules come from the rules topic, and `trigger_file` counts for nothing."""

    @property
    def id(self) -> str:
        """The name of the case in test reports."""
        return f"{self.file.removesuffix('.yaml')}: {self.name}"

    @property
    def partitions(self) -> list[int]:
        """The partitions that records of the case lie in."""
        return sorted({record.partition for record in self.records}) or [0]

    @property
    def runs_to_its_end(self) -> bool:
        """Whether the case expects anything but being refused or stopped."""
        return not {"refused", "stops"} & set(self.expect)


def load_cases(directory: Path = HERE) -> list[Case]:
    """Read every case of every `*.yaml` beside this module; raise CaseError on anything the format doesn't know."""
    cases: list[Case] = []
    named = read(HERE / "triggers" / "named.yaml")
    for path in sorted(directory.glob("*.yaml")):
        document = read(path)
        only(path.name, document, {"section", "cases"})
        for entry in document["cases"]:
            where = f"{path.name}: {entry.get('name', '?')}"
            try:
                cases.append(make_case(path.name, document["section"], entry, named))
            except (CaseError, KeyError, TypeError, ValueError) as error:
                raise CaseError(f"{where}: {type(error).__name__}: {error}") from error
    names = [case.id for case in cases]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise CaseError(f"two cases of one name: {sorted(repeated)}")
    return cases


def make_case(file: str, section: str, entry: dict[str, Any], named: dict[str, Any]) -> Case:
    """Expand one case; `named` are the trigger sets that it may name. Raises CaseError."""
    only("case", entry, CASE_KEYS)
    for required in ("name", "spec"):
        if not entry.get(required):
            raise CaseError(f"`{required}` is missing")
    if not entry.get("expect") and "probes" not in entry:
        raise CaseError("`expect` is missing")
    settings = entry.get("settings", {})
    only("settings", settings, SETTING_KEYS)
    ways = tuple(entry.get("ways", WAYS))
    if set(ways) - set(WAYS):
        raise CaseError(f"unknown way in {ways}")
    if ways != WAYS and not entry.get("why"):
        raise CaseError("`ways` needs a `why`")
    expect = dict(entry.get("expect", {}))
    trigger_file = _trigger_file(entry, expect, named)
    records = tuple(expand_records(entry.get("records", [])))
    until = millis(entry["until"]) if "until" in entry else None
    if until is not None and any(record.timestamp >= until for record in records):
        raise CaseError("`until` must lie after every record")
    return Case(
        file=file,
        section=section,
        name=entry["name"],
        spec=entry["spec"],
        ambiguous=entry.get("ambiguous"),
        settings=settings,
        now=rfc3339(entry.get("now", NOW)),
        trigger_file=trigger_file,
        records=records,
        until_ms=until,
        ways=ways,
        expect=complete(expect, len(records)),
        restart=_restart(entry, ways, named),
        shadow_file=_shadow(entry, ways, named),
        revisions=_revisions(entry, named),
    )


def _revisions(entry: dict[str, Any], named: dict[str, Any]) -> tuple[Revision, ...]:
    if "revisions" not in entry:
        return ()
    if {"triggers", "trigger_file", "probes", "shadow", "restart", "cycle", "holdout", "limit"} & set(entry):
        raise CaseError("with `revisions` the rules, the shadow too, are in the entries")
    made: list[Revision] = []
    for written in entry["revisions"]:
        only("revision", written, REVISION_KEYS)
        kinds = [kind for kind in ("publish", "rollback", "stop", "resume", "shadow") if kind in written]
        if len(kinds) != 1:
            raise CaseError(f"an entry is one of publish, rollback, stop, resume, shadow; this one is {kinds}")
        (kind,) = kinds
        at = millis(written["at"]) if "at" in written else None
        if kind in ("stop", "resume"):
            made.append(Revision(at, kind, triggers=written[kind]))
        elif kind == "rollback":
            made.append(Revision(at, "live", made[written[kind] - 1].trigger_file))
        elif written[kind] == "none":
            made.append(Revision(at, "shadow_off"))
        else:
            body = {key: value for key, value in written.items() if key in ("cycle", "holdout", "limit")}
            file = _trigger_file({"triggers": written[kind], **body}, {}, named)
            effective = millis(written["effective_from"]) if "effective_from" in written else at or 0
            made.append(Revision(at, "live" if kind == "publish" else kind, file, effective))
    known_at = [one.at_ms or 0 for one in made]
    if known_at != sorted(known_at):
        raise CaseError("entries must stand in the order of their `at`")
    return tuple(made)


def _shadow(entry: dict[str, Any], ways: tuple[str, ...], named: dict[str, Any]) -> str | None:
    if "shadow" not in entry:
        return None
    only("shadow", entry["shadow"], {"triggers", "cycle", "holdout", "limit"})
    if "backtest" in ways:
        raise CaseError("a backtest has no shadow: give `ways` without it")
    return _trigger_file(entry["shadow"], {}, named)


def _restart(entry: dict[str, Any], ways: tuple[str, ...], named: dict[str, Any]) -> Restart | None:
    if "restart" not in entry:
        return None
    only("restart", entry["restart"], {"at", "triggers"})
    if ways != ("engine",):
        raise CaseError("a restart with other triggers needs `ways: [engine]`")
    return Restart(millis(entry["restart"]["at"]), _trigger_file({"triggers": entry["restart"]["triggers"]}, {}, named))


def _trigger_file(entry: dict[str, Any], expect: dict[str, Any], named: dict[str, Any]) -> str:
    if sum(key in entry for key in ("triggers", "trigger_file", "probes")) > 1:
        raise CaseError("give one of `triggers`, `trigger_file`, `probes`")
    if "probes" in entry:
        return _probes(entry["probes"], expect)
    if "trigger_file" in entry:
        return str(entry["trigger_file"])
    body = entry.get("triggers", "off")
    triggers = named[body] if isinstance(body, str) else body
    return trigger_yaml(triggers, entry.get("cycle"), entry.get("holdout"), entry.get("limit"))


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


def clock_records(case: Case) -> list[Record]:
    """For a capture: the records that bring stream time of each partition to `until` and do nothing else."""
    if case.until_ms is None:
        return []
    made = []
    for partition in case.partitions:
        last = max((r.offset for r in case.records if r.topic == TICKETS and r.partition == partition), default=-1)
        moment = dt.datetime.fromtimestamp(case.until_ms / 1000, dt.UTC).isoformat()
        value = {"ticket_id": CLOCK_TICKET, "occurred_at": moment, "ticket": {}}
        made.append(
            Record(TICKETS, partition, last + 1, case.until_ms, CLOCK_TICKET.encode(), json.dumps(value).encode())
        )
    return made


def problems(case: Case, result: Result) -> list[str]:
    """Every difference between what the case expects and what a run gave, as texts; empty when they agree."""
    found = differences(case.expect, case.records, result)
    if case.runs_to_its_end and case.restart is None and not case.revisions:
        found += rounds_unaccounted(waits_in_use(case.trigger_file), result)
    return found
