"""Verbs for operating an installation: dead letters and the stored state of a ticket."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.root import UsageError, app
from streams.cli.setting_flags import BROKER, takes_settings
from streams.cli.shared import PATIENCE, counting
from streams.core.errors import Failed, LapseError
from streams.core.escaping import json_text, one_line
from streams.core.names import Code, Table, Topic
from streams.settings.settings import Settings
from streams.wire import instants

if TYPE_CHECKING:
    from streams.core.revisions import InUse
    from streams.core.triggers import Holdout
    from streams.kafka.config import KafkaConfig
    from streams.operate.dead_letters import Letter, State
    from streams.operate.replay_ledger import Place

dead_letters = typer.Typer(no_args_is_help=True, help="Records that could not be used, and why.")
app.add_typer(dead_letters, name="dead-letters")

OnlyCode = Annotated[list[Code] | None, typer.Option("--code", help="Only letters with this code; may be repeated.")]
OnlySource = Annotated[Topic | None, typer.Option("--source", help="Only letters from this input (default name).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]


@dead_letters.command("list")
@takes_settings(*BROKER)
def list_dead_letters(
    settings: Settings,
    code: OnlyCode = None,
    source: OnlySource = None,
    values: Annotated[bool, typer.Option("--values", help="Show values too; they may hold personal data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print every dead letter with its state, oldest first in its partition, and how many there are by code."""
    from streams.assembly import runtime_config
    from streams.operate.dead_letters import read_dead_letters

    config = runtime_config(settings, patience=PATIENCE)
    is_chosen = _chosen(code, source, config)
    by_code: Counter[str] = Counter()
    by_state: Counter[str] = Counter()

    def show(letter: Letter, state: State) -> None:
        if is_chosen is None or is_chosen(letter):
            by_code[letter.code or "unknown"] += 1
            by_state[state.value] += 1
            shown = _json(_as_json(letter, state, values)) if as_json else _line(letter, state, values)
            typer.echo(shown)

    asyncio.run(read_dead_letters(config, show))
    if not as_json:
        typer.echo(f"{sum(by_code.values())} dead letters{_by(by_code)}{_by(by_state)}", err=True)


@dead_letters.command("replay")
@takes_settings(*BROKER)
def replay_dead_letters(
    settings: Settings,
    code: OnlyCode = None,
    source: OnlySource = None,
    offset: Annotated[
        list[str] | None,
        typer.Option(
            "--offset",
            metavar="PARTITION/OFFSET",
            help="This letter, even if it was sent back before or died again; may be repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; say what would be sent.")] = False,
) -> None:
    """Send dead letters back to the topic and partition they came from, each once.

    Letters that were already sent back, and new letters of records that died again, are skipped unless --offset names
    them. Replays are recorded in the topic <app id>-replays, which the first replay creates.
    """
    from streams.assembly import runtime_config
    from streams.operate.dead_letters import replay

    if offset and (code or source):
        raise UsageError("--offset names letters one by one; leave out --code and --source.")
    config = runtime_config(settings, patience=PATIENCE)
    chosen = _chosen(code, source, config)
    places = [_place(text) for text in offset or ()]
    done = asyncio.run(replay(config, chosen=chosen, places=places, dry_run=dry_run))
    typer.echo(f"{sum(done.sent.values())} {'would be ' if dry_run else ''}sent back{_by(done.sent)}")
    for why, count in done.kept.items():
        typer.echo(f"{count} not sent back: a letter that {one_line(why)}")
    if done.sent_before:
        typer.echo(f"{done.sent_before} not sent back: sent back before")
    if done.died_again:
        typer.echo(f"{done.died_again} not sent back: died again after a replay")
    if done.passed_over:
        typer.echo(f"{done.passed_over} passed over")


@app.command()
@takes_settings(*BROKER, "triggers")
def state(
    settings: Settings,
    ticket: Annotated[str, typer.Argument(metavar="TICKET", help="Ticket id.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Print what the tables hold of a ticket, as a worker would read it after a restart.

    `holdout` is the ticket's group by the rules in use, or by the file of `triggers`, where they have a holdout.
    """
    from streams.assembly import runtime_config
    from streams.operate.state import read_state
    from streams.wire.state import holdout_state, session_state, ticket_state

    config = runtime_config(settings, patience=PATIENCE)
    with counting("read") as progress:
        found = asyncio.run(read_state(config, ticket, progress))
    if not found:
        typer.echo(
            f"lapse: no row of ticket {one_line(ticket)} in {' or '.join(map(config.changelog, TABLES))}", err=True
        )
        raise typer.Exit(1)
    holdouts = _holdouts(settings, config, [rows.in_use for rows in found])
    for rows, (holdout, revision) in zip(found, holdouts, strict=True):
        told = {
            "ticket_id": ticket,
            "partition": rows.partition,
            "ticket": None if rows.ticket is None else ticket_state(rows.ticket),
            "session": None if rows.session is None else session_state(rows.session),
            "holdout": None if holdout is None else holdout_state(holdout, ticket, revision),
        }
        typer.echo(_json(told) if as_json else "\n".join(map(one_line, _outline(told))))
        if rows.partition != rows.expected_partition:
            typer.echo(
                f"lapse: murmur2 puts key {one_line(ticket)} into partition {rows.expected_partition}: a producer uses "
                "another partitioner, and the two sides of a ticket may miss each other",
                err=True,
            )


def _holdouts(
    settings: Settings, config: KafkaConfig, in_use: list[InUse | None]
) -> list[tuple[Holdout | None, int | None]]:
    """Return the holdout of the rules that each partition uses, and their revision. What is not known is said."""
    from streams.operate.rules_topic import read_rules
    from streams.rules.source import compile_source
    from streams.rules.triggers import load_triggers

    nothing: list[tuple[Holdout | None, int | None]] = [(None, None) for _ in in_use]
    try:
        if settings.rules == "file":
            if settings.triggers is None:
                return nothing
            ruleset = load_triggers(settings.triggers).ruleset
            if ruleset is None:
                raise Failed(f"{settings.triggers} has errors: see `lapse check {settings.triggers}`.")
            return [(ruleset.holdout, None) for _ in in_use]
        if not any(in_use):
            return nothing
        book = asyncio.run(read_rules(config, compile_source))
    except (LapseError, OSError) as error:
        typer.echo(f"lapse: whether a holdout is set is not known: {one_line(str(error))}", err=True)
        return nothing
    made = []
    for row in in_use:
        ruleset = None if row is None else book.ruleset(row.revision)
        made.append((None if ruleset is None else ruleset.holdout, None if row is None else row.revision))
    return made


TABLES = tuple(table.value for table in Table)


def _chosen(codes: list[Code] | None, source: Topic | None, config: KafkaConfig) -> Callable[[Letter], bool] | None:
    if not codes and source is None:
        return None
    topic = None if source is None else config.topic(source.value)

    def is_chosen(letter: Letter) -> bool:
        return (not codes or letter.code in codes) and (topic is None or letter.source_topic == topic)

    return is_chosen


def _place(text: str) -> Place:
    from streams.operate.replay_ledger import Place

    partition, _, offset = text.partition("/")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise UsageError(f"--offset {text}: write PARTITION/OFFSET as `dead-letters list` shows it, such as 3/1042.")
    return Place(int(partition), int(offset))


def _by(counts: Counter[str]) -> str:
    return f" ({', '.join(f'{one_line(name)} {count}' for name, count in counts.most_common())})" if counts else ""


def _line(letter: Letter, state: State, values: bool) -> str:
    key = "no key" if letter.key is None else f"key {letter.key.decode(errors='backslashreplace')}"
    where = f"{letter.source_topic}/{letter.source_partition}/{letter.source_offset}"
    again = "" if letter.earlier is None else f" (was {letter.earlier})"
    what = f"{letter.code}  {letter.path}: {letter.message}"
    shown = one_line(f"{letter.place}  {state.value}{again}  {instants.text(letter.at)}  {where}  {key}  {what}")
    if values:
        shown += "\n  " + ("null" if letter.value is None else one_line(letter.value.decode(errors="backslashreplace")))
    return shown


def _json(value: Any) -> str:
    return json_text(json.dumps(value, ensure_ascii=False))


def _as_json(letter: Letter, state: State, values: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "partition": letter.partition,
        "offset": letter.offset,
        "at": instants.text(letter.at),
        "state": state.value,
        "replayed_from": letter.replayed_from,
        "code": letter.code,
        "path": letter.path,
        "message": letter.message,
        "source": {
            "topic": letter.source_topic,
            "partition": letter.source_partition,
            "offset": letter.source_offset,
            "timestamp": letter.source_timestamp,
        },
        "key": None if letter.key is None else letter.key.decode(errors="backslashreplace"),
        "headers": {
            name: None if value is None else value.decode(errors="backslashreplace") for name, value in letter.headers
        },
    }
    if values:
        told["value"] = None if letter.value is None else letter.value.decode(errors="backslashreplace")
    return told


def _outline(value: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Yield nested members as indented lines."""
    width = max(map(len, value), default=0)
    for name, member in value.items():
        if isinstance(member, dict) and member:
            yield f"{indent}{name}"
            yield from _outline(member, indent + "  ")
        elif isinstance(member, list) and member and isinstance(member[0], dict):
            yield f"{indent}{name}"
            for entry in member:
                yield f"{indent}  - {', '.join(f'{key} {_shown(item)}' for key, item in entry.items())}"
        else:
            yield f"{indent}{name:<{width}}  {_shown(member)}"


def _shown(value: Any) -> str:
    if value is None or value in ([], {}):
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
