"""How cases are written: strict YAML, times of day, durations, one-line conditions."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import yaml

DAY = "2026-03-01"


class CaseError(Exception):
    """A case that is not written as the format says: the file, the case, what is wrong."""


def only(where: str, mapping: Any, known: set[str]) -> None:
    """Refuse what is no mapping, and keys that are not known: a misspelt expectation must not pass in silence."""
    if not isinstance(mapping, dict):
        raise CaseError(f"{where}: expected a mapping, got {mapping!r}")
    if unknown := set(mapping) - known:
        raise CaseError(f"{where}: unknown keys {sorted(unknown)}; known are {sorted(known)}")


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
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)


def scalar(text: str) -> Any:
    """Read the value part of a condition written as one line: a YAML scalar or flow list."""
    return yaml.load(text, Loader=_Loader)


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


# --- triggers --------------------------------------------------------------------------------------------------------


TRIGGER_KEYS = {"id", "title", "active", "position", "category", "wait", "limit", "all", "any", "do"}


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
    only("trigger", written, TRIGGER_KEYS)
    spelled = {key: value for key, value in written.items() if key not in ("all", "any", "do")}
    spelled.setdefault("title", f"Title of {written['id']}")
    spelled["conditions"] = {
        group: [condition(one) for one in written.get(group, [])] for group in ("all", "any") if group in written
    }
    spelled["actions"] = actions(written.get("do", {"notification_target": str(written["id"])}))
    return spelled


def trigger_yaml(
    triggers: list[dict[str, Any]],
    cycle: str | None = None,
    holdout: dict[str, Any] | None = None,
    limit: dict[str, Any] | None = None,
) -> str:
    """The text of a trigger file with these triggers."""
    body: dict[str, Any] = {} if cycle is None else {"cycle": cycle}
    if holdout is not None:
        body["holdout"] = holdout
    if limit is not None:
        body["limit"] = limit
    body["triggers"] = [trigger(one) for one in triggers]
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=1000)


def waits_in_use(trigger_file: str) -> set[int]:
    """The waits of the active triggers of a trigger file, in milliseconds."""
    triggers = yaml.load(trigger_file, Loader=_Loader)["triggers"]
    return {duration_ms(str(one.get("wait", "0s"))) for one in triggers if one.get("active", True)}
