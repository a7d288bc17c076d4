"""The ways in which a golden case is run: a backtest over a capture, the partition's loop, the driver of whole workers.

They share the engine but little around it: what is read and how, what is written and how, where a step ends.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from streams.core.batch import Batch
from streams.core.cycle import Rules
from streams.core.engine import Engine, EngineSettings
from streams.core.inputs import DeadLetterLimitExceeded
from streams.core.model import MILLISECOND, SHADOW_ROUND
from streams.core.names import Topic
from streams.core.partition import Partition
from streams.core.pipeline import BATCH_RECORDS, Pipeline
from streams.core.revisions import Entry, EntryKind, Rulebook
from streams.core.rounds import RoundPolicy
from streams.core.shadow import Candidate
from streams.core.triggers import Ruleset
from streams.documents.durations import parse as parse_duration
from streams.offline.command import BacktestError, Wanted, backtest
from streams.offline.run import settled
from streams.rules.source import compile_source
from streams.rules.triggers import parse_triggers
from streams.settings.settings import load_settings
from streams.testing.driver import Driver
from streams.wire import capture, encode
from streams.wire.capture import CapturedRecord
from streams.wire.decode import decode
from streams.wire.rows import MsgpackRows
from streams.wire.rule_entries import encode_entry

from .expectations import Result
from .harness import SHADOW_REVISION, Case, clock_records
from .notation import millis
from .records import Record


class RefusedError(Exception):
    """The case's trigger file has errors."""


def run(way: str, case: Case, directory: Path) -> Result:
    """Run a case in one of `harness.WAYS`; `directory` is for files."""
    try:
        return {"backtest": _backtest, "engine": _engine, "driver": _driver}[way](case, directory)
    except RefusedError as error:
        return _nothing(refused=str(error))
    except DeadLetterLimitExceeded as error:
        return _nothing(stopped=str(error))


def _nothing(**why: str) -> Result:
    return Result(commands=[], records=[], counts={}, dead_letter_codes={}, pending=0, **why)


def ruleset_of(trigger_file: str) -> Ruleset:
    """Read the text of a trigger file. Raises RefusedError."""
    found = parse_triggers(trigger_file)
    if found.ruleset is None:
        raise RefusedError("; ".join(str(problem) for problem in found.errors))
    return found.ruleset


def shadow_of(case: Case) -> Candidate | None:
    """The case's shadow."""
    return None if case.shadow_file is None else Candidate(SHADOW_REVISION, Rules(ruleset_of(case.shadow_file)))


def entries_of(case: Case) -> list[Entry]:
    """The entries of the case's rules topic."""
    made = []
    for number, one in enumerate(case.revisions, 1):
        triggers = one.triggers if one.triggers is None or one.triggers == "all" else tuple(one.triggers)
        made.append(
            Entry(
                number=number,
                kind=EntryKind(one.kind),
                published_at=(one.at_ms or 0) * MILLISECOND,
                ruleset=None if one.trigger_file is None else ruleset_of(one.trigger_file).digest,
                source=one.trigger_file,
                effective_from=one.effective_ms * MILLISECOND if one.kind == "live" else None,
                triggers=triggers,
            )
        )
    return made


def book_of(case: Case) -> Rulebook | None:
    """What a worker knows of the rules topic when it starts; None when the rules come from a file."""
    if not case.revisions:
        return None
    book = Rulebook(compile_source)
    for entry, one in zip(entries_of(case), case.revisions, strict=True):
        if one.at_ms is None:
            book.add(entry)
    return book


def chapters(case: Case, number: int) -> list[tuple[list[Entry], list[Record]]]:
    """What becomes known of the rules topic, and the records of a partition that are taken after it."""
    records = [record for record in case.records if record.partition == number]
    begins = sorted({one.at_ms for one in case.revisions if one.at_ms is not None})
    made: list[tuple[list[Entry], list[Record]]] = []
    for begin, end in zip([None, *begins], [*begins, None], strict=True):
        entries = [
            entry for entry, one in zip(entries_of(case), case.revisions, strict=True) if begin and one.at_ms == begin
        ]
        within = [
            one for one in records if (begin is None or one.timestamp >= begin) and (end is None or one.timestamp < end)
        ]
        made.append((entries, within))
    return made


def settings_of(case: Case) -> EngineSettings:
    """The case's settings, as the engine takes them."""
    given = case.settings
    act_from = given.get("act_from", "beginning")
    instant = None if act_from == "beginning" else round(datetime.fromisoformat(act_from).timestamp() * 1_000_000)
    policy: dict[str, Any] = {"act_from": instant, "dry_run": given.get("dry_run", False)}
    if "join_wait" in given:
        policy["join_wait"] = parse_duration(given["join_wait"])
    settings: dict[str, Any] = {"rounds": RoundPolicy(**policy)}
    if "first_inactive" in given:
        settings["first_inactive_lapses"] = given["first_inactive"] == "lapse"
    if "state_ttl" in given:
        settings["state_ttl"] = parse_duration(given["state_ttl"])
    return EngineSettings(**settings)


def dead_letter_limit_of(case: Case) -> float | None:
    """The share of bad records at which a worker stops; none where a backtest is to agree, which never stops."""
    return None if "backtest" in case.ways else float(case.settings.get("dead_letter_limit", 0.5))


def _end_ms(case: Case) -> int | None:
    """Where time ends for every partition: the case's `until`, else, with several partitions, its last record."""
    if case.until_ms is None and len(case.partitions) > 1:
        return max(record.timestamp for record in case.records)
    return case.until_ms


# --- backtest --------------------------------------------------------------------------------------------------------


def write_capture(case: Case, directory: Path) -> Path:
    """Write the case as a capture file, with a last record that brings time to `until`."""
    file = directory / "capture.jsonl"
    lines = [record.capture_line().encode() + b"\n" for record in (*case.records, *clock_records(case))]
    if case.revisions:
        lines += _rules_lines(case)
    file.write_bytes(b"".join(lines))
    return file


def _rules_lines(case: Case) -> list[bytes]:
    """The rules topic, and the activations of a worker, as `lapse capture` takes them along."""
    lines = []
    for offset, entry in enumerate(entries_of(case)):
        lines.append(capture.line(capture.RULES, 0, CapturedRecord(offset, 0, *encode_entry(entry))))
    for number, driver in zip(case.partitions, drivers(case), strict=True):
        finish(case, driver)
        for offset, write in enumerate(driver.read("session-transitions")):
            if (write.key or b"").startswith(b"rules/"):
                record = CapturedRecord(offset, 0, write.key, write.value)
                lines.append(capture.line(capture.ACTIVATIONS, number, record))
    return lines


def environment(case: Case) -> dict[str, str]:
    """The case's settings as environment variables."""
    return {f"LAPSE_{name.upper()}": _spelt(value) for name, value in case.settings.items()}


def _spelt(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _backtest(case: Case, directory: Path) -> Result:
    """As `lapse backtest` does it: capture, trigger file and settings are read, JSON and two files are written."""
    triggers, commands, transitions = (directory / name for name in ("triggers.yaml", "commands", "transitions"))
    triggers.write_text(case.trigger_file, encoding="utf-8")
    printed, complaints = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(complaints):
            backtest(
                events=[write_capture(case, directory)],
                triggers=None if case.revisions else triggers,
                settings=load_settings({}, environment(case), None),
                now=millis(case.now) * MILLISECOND,
                wanted=Wanted(commands=commands, transitions=transitions, as_json=True, strict=True),
            )
    except BacktestError as error:
        raise RefusedError(f"{error} {complaints.getvalue()}") from error
    summary = json.loads(printed.buffer.getvalue())  # type: ignore[attr-defined]
    return backtest_result(case, summary, commands.read_bytes(), transitions.read_bytes())


def command_line(case: Case, directory: Path) -> Result:
    """As a user calls it: `lapse backtest` in a process of its own, settings as flags."""
    triggers, commands, transitions = (directory / name for name in ("triggers.yaml", "commands", "transitions"))
    triggers.write_text(case.trigger_file, encoding="utf-8")
    call = [sys.executable, "-m", "streams", "backtest", "--json", "--now", case.now]
    for flag, path in (("events", write_capture(case, directory)), ("triggers", triggers)):
        call += [f"--{flag}", str(path)]
    for flag, path in (("commands", commands), ("transitions", transitions)):
        call += [f"--{flag}", str(path)]
    for name, value in case.settings.items():
        flag = name.replace("_", "-")
        call += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    ran = subprocess.run(call, capture_output=True, timeout=60, check=False)
    if ran.returncode == 1 and not ran.stdout:
        return _nothing(refused=ran.stderr.decode())
    if ran.returncode:
        raise AssertionError(f"exit code {ran.returncode}: {ran.stderr.decode()}")
    return backtest_result(case, json.loads(ran.stdout), commands.read_bytes(), transitions.read_bytes())


def backtest_result(case: Case, summary: dict[str, Any], commands: bytes, transitions: bytes) -> Result:
    """Read what a backtest printed and wrote, without the records that only brought time to `until`."""
    clocks = len(clock_records(case))
    return Result(
        commands=[json.loads(line) for line in commands.splitlines()],
        records=[json.loads(line) for line in transitions.splitlines()],
        counts={
            "applied": summary["applied"] - clocks,
            "stale": summary["stale"],
            "duplicate": summary["duplicate"],
        },
        dead_letter_codes=summary["dead_letters"],
        pending=summary["pending"],
        summary=summary,
    )


# --- engine ----------------------------------------------------------------------------------------------------------


def _engine(case: Case, _: Path) -> Result:
    """The pipeline over records decoded beforehand, each batch one record, nothing encoded but rows."""
    result = _nothing()
    result.counts = dict.fromkeys(("applied", "stale", "duplicate"), 0)
    result.dead_letters = []
    result.shadow_rounds = {}
    for number in case.partitions:
        _engine_partition(case, number, result)
    result.dead_letter_codes = dict(Counter(letter["code"] for letter in result.dead_letters))
    return result


def _engine_partition(case: Case, number: int, result: Result) -> None:
    now = millis(case.now) * MILLISECOND
    captured = {
        id(record): (Topic(record.topic), _captured(record)) for record in case.records if record.partition == number
    }
    raw = list(captured.values())
    decoded = {id(record): decode(topic, number, record, now) for topic, record in raw}

    def opened(trigger_file: str, stream_time: int) -> Partition:
        return Partition(
            Engine(Rules(ruleset_of(trigger_file)), settings_of(case)),
            number=number,
            partition_count=None,
            decode=lambda _topic, _number, record, _now: decoded[id(record)],
            rows=MsgpackRows(),
            dead_letter_limit=dead_letter_limit_of(case),
            clock_grace=0,
            stream_time=stream_time,
        )

    book = book_of(case)

    def feed(pipeline: Pipeline, records: list[tuple[Topic, CapturedRecord]]) -> None:
        for topic, record in records:
            pipeline.feed(topic, [record], 0)
        took_all = False
        while not took_all:
            took_all = pipeline.slice(now, dict.fromkeys(Topic, 0))
            settle(pipeline)

    def settle(pipeline: Pipeline) -> None:
        for batch in settled(pipeline):
            for table, rows in (("tickets", batch.ticket_rows), ("sessions", batch.session_rows)):
                changelogs[table] += [(key.encode(), row) for key, row in rows.items()]
            changelogs["sessions"] += batch.own_rows.items()
            _note(pipeline.partition.number, batch, result)

    changelogs: dict[str, list[tuple[bytes, bytes | None]]] = {"tickets": [], "sessions": []}
    first = opened(case.trigger_file, 0)
    first.follow_with(shadow_of(case))
    if book is not None and (why := first.adopt(book, now, {})) is not None:
        raise AssertionError(why)
    pipeline = Pipeline(first, slice_records=1)
    if case.restart is not None:
        before = [entry for entry in raw if entry[1].timestamp < case.restart.at_ms]
        feed(pipeline, before)
        partition = opened(case.restart.trigger_file, pipeline.partition.stream_time)
        for table, rows in changelogs.items():
            partition.restore(table, list(rows))
        partition.follow_with(shadow_of(case))
        partition.start()
        pipeline = Pipeline(partition, slice_records=1)
        raw = [entry for entry in raw if entry[1].timestamp >= case.restart.at_ms]
    if book is None:
        feed(pipeline, raw)
    else:
        for entries, records in chapters(case, number):
            for entry in entries:
                book.add(entry)
            feed(pipeline, [captured[id(record)] for record in records])
    end = _end_ms(case)
    if end is not None:
        pipeline.advance(end * MILLISECOND)
        settle(pipeline)
    result.pending += pipeline.partition.pending_rounds


def _captured(record: Record) -> CapturedRecord:
    return CapturedRecord(record.offset, record.timestamp, record.key, record.value, record.headers)


def _note(number: int, batch: Batch, result: Result) -> None:
    result.commands += [msgspec.to_builtins(encode.command_record(command)) for command in batch.commands]
    result.records += [msgspec.to_builtins(encode.output_record(record)) for record in batch.records]
    for fact in batch.facts:
        if fact.name == SHADOW_ROUND and result.shadow_rounds is not None:
            result.shadow_rounds[fact.labels[0]] = result.shadow_rounds.get(fact.labels[0], 0) + 1
    for (_, name), count in batch.counts.items():
        if name != "dead_letter":
            result.counts[name] += count
    for letter in batch.dead_letters:
        result.dead_letters.append(  # type: ignore[union-attr]
            {
                "code": str(letter.rejection.code),
                "path": letter.rejection.path,
                "topic": str(letter.topic),
                "partition": number,
                "offset": letter.record.offset,
                "timestamp": letter.record.timestamp,
                "key": letter.record.key,
                "value": letter.record.value if letter.rejection.keep_value else None,
                "headers": None,
            }
        )


# --- driver ----------------------------------------------------------------------------------------------------------


def drivers(case: Case, *, batch_records: int = BATCH_RECORDS) -> list[Driver]:
    """A worker for every partition of the case, its records piped in and not yet taken.

    With `revisions`, `finish` pipes them in, between the entries of the rules topic.
    """
    rules, settings = Rules(ruleset_of(case.trigger_file)), settings_of(case)
    made = []
    for number in case.partitions:
        driver = Driver(
            rules,
            settings,
            partition=number,
            now_ms=millis(case.now),
            dead_letter_limit=dead_letter_limit_of(case),
            slice_records=max(1, batch_records // 2),
            batch_records=batch_records,
            shadow=shadow_of(case),
            book=book_of(case),
        )
        if not case.revisions:
            _pipe(driver, [record for record in case.records if record.partition == number])
        made.append(driver)
    return made


def _pipe(driver: Driver, records: list[Record]) -> None:
    for one in records:
        driver.pipe(one.topic, one.key, one.value, one.timestamp, offset=one.offset, headers=one.headers)


def finish(case: Case, driver: Driver) -> None:
    """Take all records and let time reach the case's end."""
    if case.revisions:
        for entries, records in chapters(case, driver.partition):
            for entry in entries:
                driver.learn(entry)
            _pipe(driver, records)
    driver.run()
    end = _end_ms(case)
    if end is not None:
        driver.advance(end)


def outputs(driver: Driver) -> dict[str, Any]:
    """All that readers of the output topics see."""
    return {topic: driver.read(topic) for topic in driver.broker.outputs}


def _driver(case: Case, _: Path) -> Result:
    result = _nothing()
    result.command_headers = []
    letters = result.dead_letters = []
    rounds: Counter[str] = Counter()
    taken = 0
    for driver in drivers(case):
        finish(case, driver)
        rounds.update({fact[1]: count for fact, count in driver.facts.items() if fact[0] == SHADOW_ROUND})
        result.commands += driver.commands()
        result.records += driver.records()
        for written in driver.read("action-commands"):
            result.command_headers.append({name: value.decode() for name, value in written.headers})
            if written.key != json.loads(written.value or b"{}")["ticket_id"].encode():
                raise AssertionError(f"a command's key is {written.key!r}")
        for written in driver.read("session-transitions"):
            told = json.loads(written.value or b"{}")
            if written.key != (told.get("ticket_id") or f"rules/{told.get('partition')}").encode():
                raise AssertionError(f"a record's key is {written.key!r}")
        letters += [_letter(written) for written in driver.dead_letters()]
        result.pending += driver.pending_rounds
        taken += sum(len(log) for log in driver.broker.inputs.values())
    result.shadow_rounds = dict(rounds)
    result.dead_letter_codes = dict(Counter(letter["code"] for letter in letters))
    # The driver shows what a reader of the output topics sees; how many were stale is not written anywhere.
    expect = case.expect
    if "applied" in expect:
        result.counts = {name: expect[name] for name in ("applied", "stale", "duplicate")}
        if sum(result.counts.values()) + len(letters) != taken:
            raise AssertionError(f"{taken} records, {len(letters)} dead letters, expected {result.counts}")
    return result


def _letter(written: Any) -> dict[str, Any]:
    headers = {name: value.decode() for name, value in written.headers}
    return {
        "code": headers["lapse.error.code"],
        "path": headers["lapse.error.path"],
        "topic": headers["lapse.source.topic"],
        "partition": int(headers["lapse.source.partition"]),
        "offset": int(headers["lapse.source.offset"]),
        "timestamp": int(headers["lapse.source.timestamp"]),
        "key": written.key,
        "value": written.value,
        "headers": headers,
    }
