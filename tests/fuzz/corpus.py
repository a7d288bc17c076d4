"""Where the fuzzer starts: sound inputs of the golden cases and the samples, and words that readers look for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from streams.wire import capture
from tests.cases.harness import Case, load_cases
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
_KEPT = 400
"""Seeds of a target, at most: the fuzzer makes more of them by itself."""
_LONGEST = 4_000

WORDS = (
    *("null", "true", "false", "1e999", "-0", "0.0", "18446744073709551616", '"\\ud800"', "\\u0000", "__NULL__", "NaN"),
    *("2026-03-01T10:00:60Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999+23:59", "[[[[[[[[", "{{{{", '{"a":'),
    *('"ticket_id"', '"occurred_at"', '"sequence"', '"custom_fields"', '"tags"', '"state"', '"ticket": null', "closed"),
    *("&a [*a, *a]", "!!python/object:x", "<<: *a", "? ", "|-", "---", "%YAML 1.1", "'", '"', "#", "\u2028", "\ufeff"),
    *("changed_to", "value_previous", "includes", "wait: 99999d", "holdout: {share: 5%}", "limit: {count: 1, per: 1s}"),
    *("Authorization: Bearer the token", "Authorization: Basic Og==", "Host: [::1", "custom_fields_", "is_not"),
)


def seeds(target: str, *, golden: bool = False) -> list[bytes]:
    """Return sound inputs of a target, each at most `_LONGEST` bytes; with golden cases, which take seconds to load."""
    found = [*_SEEDS[target](), *(_GOLDEN[target]() if golden and target in _GOLDEN else [])]
    return [seed for seed in found if len(seed) <= _LONGEST][:_KEPT]


def _records() -> Iterator[bytes]:
    with gzip.open(ROOT / "deploy/samples/support-week.jsonl.gz") as lines:
        week = [capture.parse(next(lines).strip()) for _ in range(60)]
    for start in range(0, 60, 3):
        yield b"\n".join(
            bytes([2 | (line.topic.value == "session-states")]) + (line.record.value or b"")
            for line in week[start : start + 3]
        )


@cache
def _cases() -> list[Case]:
    return load_cases()


def _golden_records() -> Iterator[bytes]:
    for case in _cases():
        yield b"\n".join(
            bytes([2 | (record.topic == "session-states")]) + record.value
            for record in case.records[:12]
            if record.value is not None and b"\n" not in record.value
        )


def _golden_triggers() -> Iterator[bytes]:
    yield from (case.trigger_file.encode() for case in _cases())


def _capture_lines() -> Iterator[bytes]:
    with gzip.open(ROOT / "deploy/samples/support-week.jsonl.gz") as lines:
        yield from (next(lines).strip() for _ in range(20))
    yield b'{"topic":"ticket-updates","partition":0,"offset":1,"timestamp":2,"key":null,"value":"no json \\ud83d"}'
    yield b'{"topic":"session-states","partition":0,"offset":1,"timestamp":2,"key":"1","value":null,"headers":{"a":""}}'


def _trigger_files() -> Iterator[bytes]:
    for path in (*sorted((ROOT / "deploy/triggers").glob("*.yaml")), ROOT / "streams/demo/triggers.yaml"):
        text = path.read_text()
        yield text.encode()
        for trigger in yaml.safe_load(text)["triggers"]:
            yield yaml.safe_dump({"triggers": [trigger]}).encode()
    yield b"holdout: {share: 5%, salt: a}\nlimit: {count: 2, per: 10m}\ncycle: single_pass\ntriggers: []\n"


def _exports() -> Iterator[bytes]:
    for trigger in json.loads((ROOT / "deploy/samples/zendesk-triggers.json").read_text())["triggers"]:
        yield json.dumps({"triggers": [trigger], "next_page": None, "count": 1}).encode()


def _rows() -> Iterator[bytes]:
    kinds = {"ticket": 0, "session": 1, "rules": 2, "shadow": 3, "limit": 64}
    for row in json.loads((ROOT / "tests/wire/rows_of_older_versions.json").read_text()):
        yield bytes([kinds[row["kind"]]]) + bytes.fromhex(row["row"])
        yield b"\x40" + bytes.fromhex(row.get("key", "ff"))[1:] + b"\n" + bytes.fromhex(row["row"])


def _rule_entries() -> Iterator[bytes]:
    at = "2026-03-01T10:00:00Z"
    live = {"ruleset": "9f2c41d0a7be", "source": "triggers: []", "based_on": None, "effective_from": at}
    for number, (kind, more) in enumerate(
        [("live", live), ("shadow", live), ("stop", {"triggers": ["a"]}), ("resume", {"triggers": "all"})], 1
    ):
        entry = {"number": number, "kind": kind, "published_at": at, "author": "a", "reason": None, **more}
        yield b"%d\n%b" % (number, json.dumps(entry).encode())


def _settings() -> Iterator[bytes]:
    yield (ROOT / "deploy/systemd/lapse.yaml").read_bytes()
    yield b"brokers: 127.0.0.1:9092\nsecurity_protocol: SASL_SSL\nsasl_username: a\nsasl_password: b\n"
    yield b"join_wait: 30s\nact_from: now\nweb_host: 0.0.0.0\nweb_token: x\ndead_letter_limit: 50%\nweb_port: 70000\n"
    yield b"BROKERS=a:1,b:2\nJOIN_WAIT=9d\nLOG_LEVEL=loud\n"


def _mappings() -> Iterator[bytes]:
    yield from (path.read_bytes() for path in sorted((ROOT / "deploy/mappings").glob("*.yaml")))


def _requests() -> Iterator[bytes]:
    yield b'Authorization: Bearer the token\nHost: localhost\n\n{"ticket_id":"1","state":"inactive","reason":"x"}'
    yield b"Authorization: Basic eDp0aGUgdG9rZW4=\nHost: [::1]:80\nSignature: YQ==\nTimestamp: 2026\n\n{}"
    for path in sorted((ROOT / "streams/testing").rglob("*.json")):
        yield b"Host: 127.0.0.1\n\n" + path.read_bytes()
    yield (
        b'Host: a\n\n{"type":"zen:event-type:ticket.status_changed","time":"2026-03-01T10:00:00Z","id":"e","detail":'
        b'{"id":"5158","status":"OPEN","priority":"HIGH","group_id":"1","tags":["a"],"updated_at":"2026-03-01T10:00:00Z"},'
        b'"event":{"current":"OPEN","previous":"NEW"}}'
    )


_SEEDS = {
    "decode": _records,
    "partition": _records,
    "rows": _rows,
    "rule_entries": _rule_entries,
    "triggers": _trigger_files,
    "exports": _exports,
    "captures": _capture_lines,
    "settings": _settings,
    "mappings": _mappings,
    "http": _requests,
}
_GOLDEN = {"decode": _golden_records, "partition": _golden_records, "triggers": _golden_triggers}
assert _SEEDS.keys() == TARGETS.keys()
