"""Verbs for rules that change while workers run: SPEC section 10, *Commands*."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from streams.cli.root import UsageError, app
from streams.cli.setting_flags import BROKER, instant, takes_settings
from streams.cli.shared import PATIENCE
from streams.core.errors import Failed, Refused
from streams.core.escaping import json_text, one_line
from streams.core.model import SECOND, Micros
from streams.core.revisions import Entry, EntryKind, Rulebook
from streams.documents.durations import parse
from streams.settings.settings import Settings
from streams.wire import instants

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.core.triggers import Ruleset

rules = typer.Typer(no_args_is_help=True, help="Rules that change while workers run.")
app.add_typer(rules, name="rules")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Author = Annotated[str | None, typer.Option(help="Who publishes.", show_default="this system's user")]
Reason = Annotated[str | None, typer.Option(help="Why, for those who look later.", show_default=False)]
_AT_ONCE: Micros = 0
"""An instant that every partition has passed: such a revision is taken up at once, like a stop."""


@rules.command()
@takes_settings(*BROKER)
def publish(
    *,
    settings: Settings,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Trigger file; - is standard input.", show_default=False)
    ],
    effective_from: Annotated[
        Micros | None,
        typer.Option(parser=instant, metavar="TIME", help="Stream time from which it holds.", show_default="now"),
    ] = None,
    author: Author = None,
    reason: Reason = None,
    if_revision: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only if N is the latest live revision; 0: none.", show_default=False),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Into a topic made anew: number on after the highest one in use.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a trigger file, run its tests, and publish it as the next live revision."""
    source, ruleset = _checked(file)

    def make(book: Rulebook) -> Entry:
        latest = _latest(book)
        if if_revision is not None and (latest or 0) != if_revision:
            has = "there is none" if latest is None else f"it is {latest}"
            raise Failed(f"The latest live revision is not {if_revision}: {has}. Nothing was published.")
        return _entry(
            book, EntryKind.LIVE, author, reason,
            ruleset=ruleset.digest, source=source, based_on=latest, effective_from=effective_from,
        )  # fmt: skip

    entry = _publish(settings, make, go_on=go_on)
    _say_published(entry, as_json, f"published revision {entry.number} ({entry.ruleset})")


@rules.command("list")
@takes_settings(*BROKER)
def list_(settings: Settings, as_json: AsJson = False) -> None:
    """List all entries of the rules topic, and what the partitions have in use."""
    from streams.operate.rules_topic import read_in_use, read_rules

    config = _config(settings)

    async def read() -> tuple[Rulebook, Any]:
        return await read_rules(config, _compile()), await read_in_use(config)

    book, in_use = asyncio.run(read())
    by_revision: dict[int, list[int]] = {}
    for number, row in sorted(in_use.items()):
        by_revision.setdefault(row.revision, []).append(number)
    if as_json:
        told = {
            "entries": [_as_json(entry, book) for entry in book.after(0)],
            "ignored": book.ignored,
            "in_use": {number: {"revision": row.revision, "stopped": row.stops.shown, "shadow": row.shadow}
                       for number, row in sorted(in_use.items())},
        }  # fmt: skip
        typer.echo(json_text(json.dumps(told, ensure_ascii=False)))
        return
    for entry in book.after(0):
        typer.echo(one_line(_line(entry, book, by_revision.get(entry.number, []))))
    typer.echo(f"{len(book.entries)} entries, {book.ignored} ignored", err=True)


@rules.command()
@takes_settings(*BROKER)
def show(
    settings: Settings,
    number: Annotated[int, typer.Argument(metavar="N", help="Its number.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Print an entry; of a revision, its trigger file as it was published."""
    book = _read(settings)
    entry = _known(book, number)
    if as_json:
        told = {**_as_json(entry, book), **({} if entry.source is None else {"source": entry.source})}
        typer.echo(json_text(json.dumps(told, ensure_ascii=False)))
        return
    typer.echo(one_line(_line(entry, book, [])), err=entry.source is not None)
    if entry.source is not None:
        typer.echo(entry.source, nl=not entry.source.endswith("\n"))


@rules.command()
@takes_settings(*BROKER)
def diff(
    settings: Settings,
    before: Annotated[int, typer.Argument(metavar="N", help="A revision.", show_default=False)],
    after: Annotated[int, typer.Argument(metavar="M", help="Another one.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Tell which triggers M has that N has not, which it lacks, and which it changes."""
    from streams.rules.difference import rules_difference

    book = _read(settings)
    found = rules_difference(_ruleset(book, before), _ruleset(book, after))
    if as_json:
        typer.echo(json_text(msgspec.json.encode(found).decode()))
        return
    lines = [
        *(f"added    {id}" for id in found.added),
        *(f"removed  {id}" for id in found.removed),
        *(f"changed  {one.id}: {', '.join(one.members)}" for one in found.changed),
        *(f"changed  {name}" for name in found.head),
    ]
    for line in lines or ["no difference"]:
        typer.echo(one_line(line))


@rules.command()
@takes_settings(*BROKER)
def rollback(
    settings: Settings,
    number: Annotated[int, typer.Argument(metavar="N", help="The revision to go back to.", show_default=False)],
    author: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Publish the source of revision N as a new revision, which every partition takes up at once."""

    def make(book: Rulebook) -> Entry:
        old = _known(book, number)
        ruleset = _ruleset(book, number)
        return _entry(
            book, EntryKind.LIVE, author, reason or f"rollback to {number}",
            ruleset=ruleset.digest, source=old.source, based_on=number, effective_from=_AT_ONCE,
        )  # fmt: skip

    entry = _publish(settings, make)
    _say_published(entry, as_json, f"published revision {entry.number}, the rules of revision {number} again")


Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="Trigger ids.", show_default="all")]


@rules.command()
@takes_settings(*BROKER)
def stop(
    settings: Settings,
    ids: Ids = None,
    author: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Stop triggers, or everything, at once: no partition commands anything for them until they are resumed.

    Without ids every partition goes on deciding, as in a dry run.
    """
    if not reason:
        raise UsageError("Say why, with --reason: whoever finds the rules stopped will ask.")
    _stop_or_resume(settings, EntryKind.STOP, ids=ids, author=author, reason=reason, as_json=as_json)


@rules.command()
@takes_settings(*BROKER)
def resume(
    settings: Settings,
    ids: Ids = None,
    author: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Resume triggers that were stopped; without ids everything, single triggers too."""
    _stop_or_resume(settings, EntryKind.RESUME, ids=ids, author=author, reason=reason, as_json=as_json)


def _stop_or_resume(
    settings: Settings, kind: EntryKind, *, ids: list[str] | None, author: str | None, reason: str | None, as_json: bool
) -> None:
    def make(book: Rulebook) -> Entry:
        # Any usable revision may be in use somewhere, and a stop of everything asks for none.
        usable = [ruleset for entry in book.after(0) if (ruleset := book.ruleset(entry.number)) is not None]
        known = {trigger.id for ruleset in usable for trigger in ruleset.triggers}
        unknown = [id for id in ids or () if id not in known]
        if unknown:
            raise Refused(
                f"{', '.join(map(one_line, unknown))}: no trigger of any revision has that id. "
                f"They have {', '.join(sorted(known)) or 'none'}."
            )
        return _entry(book, kind, author, reason, triggers=tuple(dict.fromkeys(ids)) if ids else "all")

    entry = _publish(settings, make)
    what = "everything" if entry.triggers == "all" else ", ".join(entry.triggers or ())
    done = "stopped" if kind is EntryKind.STOP else "resumed"
    _say_published(entry, as_json, f"entry {entry.number}: {done} {one_line(what)}")


@rules.command()
@takes_settings(*BROKER)
def wait(
    settings: Settings,
    number: Annotated[int, typer.Argument(metavar="N", help="Its number.", show_default=False)],
    timeout: Annotated[str, typer.Option(help="How long to wait.")] = "60s",
    as_json: AsJson = False,
) -> None:
    """Wait until every partition has revision N or a newer one in use; exit 1 after the timeout.

    Where entry N is a stop, a resume or a shadow, wait until every partition has taken it up.
    """
    from streams.operate.rules_topic import count_partitions, read_in_use, read_rules

    config = _config(settings)
    try:
        seconds = parse(timeout) / SECOND
    except ValueError as error:
        raise UsageError(f"--timeout {timeout}: {error}") from None

    async def waited() -> tuple[dict[int, int | None], list[int], bool, int]:
        deadline = time.monotonic() + seconds
        book = await read_rules(config, _compile())
        partitions = await count_partitions(config)
        while True:
            if number > book.last:  # it may be published yet
                book = await read_rules(config, _compile())
            is_live = number not in book.entries or book.entries[number].kind is EntryKind.LIVE
            in_use = await read_in_use(config)
            found = {one: in_use[one].revision if one in in_use else None for one in range(partitions)}
            reached = {one: row.revision if is_live else row.entry for one, row in in_use.items()}
            late = [one for one in found if reached.get(one, 0) < number]
            if not late or time.monotonic() > deadline:
                return found, late, is_live, book.last
            await asyncio.sleep(0.5)

    found, late, is_live, last = asyncio.run(waited())
    if as_json:
        typer.echo(json.dumps({"number": number, "in_use": not late, "partitions": found}))
    if late:
        named = ", ".join(f"{one} ({found[one] or 'none'})" for one in late)
        missing = f" The rules topic has no entry {number}; the last one is {last}." if number > last else ""
        raise Failed(f"Not in use after {timeout}: partition {named}.{missing}")
    if not as_json:
        what = f"revision {number} or a newer one in use" if is_live else f"taken entry {number} up"
        typer.echo(f"every partition has {what}")


@rules.command()
@takes_settings(*BROKER)
def shadow(
    *,
    settings: Settings,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Candidate; - is standard input.", show_default=False)
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="End the shadow.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Tell what the shadow would have done differently, from its records.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only records written since: 09:00 (UTC, the last one that has passed), or RFC 3339.",
            show_default="all there are",
        ),
    ] = None,
    revision: Annotated[
        int | None, typer.Option(metavar="N", help="That of the shadow.", show_default="the newest that differed")
    ] = None,
    author: Author = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a candidate beside the live rules, end that, or tell what it would have done differently.

    Samples name the ticket and the event of the lapse: `lapse explain --ticket ID --event EVENT_ID` shows each trigger
    and condition of it, with either trigger file, over a capture.
    """
    from streams.assembly import runtime_config
    from streams.operate.shadow_report import ShadowReport, as_lines, as_object, begin_of, read_shadow_reports

    if (file is not None) + off + report != 1:
        raise UsageError("Say one of: FILE publishes a shadow, --off ends it, --report tells what it would have done.")
    if file is not None:
        source, ruleset = _checked(file)
        entry = _publish(
            settings,
            lambda book: _entry(
                book, EntryKind.SHADOW, author, reason,
                ruleset=ruleset.digest, source=source, based_on=_latest(book),
            ),
        )  # fmt: skip
        _say_published(entry, as_json, f"published revision {entry.number} ({entry.ruleset}) as a shadow")
        return
    if off:
        entry = _publish(settings, lambda book: _entry(book, EntryKind.SHADOW_OFF, author, reason))
        _say_published(entry, as_json, f"entry {entry.number}: the shadow ends")
        return
    try:
        begin = None if since is None else begin_of(since, int(time.time() * SECOND))
    except ValueError as error:
        raise UsageError(f"--since {error}.") from None
    config = runtime_config(settings, patience=PATIENCE)
    found = asyncio.run(read_shadow_reports(config, begin)).of(revision)
    if as_json:
        typer.echo(json_text(json.dumps(as_object(found or ShadowReport(revision)), ensure_ascii=False)))
    elif found is None:
        which = "No shadow" if revision is None else f"Revision {revision}, as a shadow, never"
        when = "" if since is None else f" since {one_line(since)}"
        typer.echo(f"{which} differed from the live rules{when}.")
    else:
        for line in as_lines(found):
            typer.echo(line)


# --- shared ----------------------------------------------------------------------------------------------------------


def _config(settings: Settings) -> Any:
    from streams.assembly import runtime_config

    return runtime_config(settings, patience=PATIENCE)


def _compile() -> Callable[[str], Ruleset]:
    from streams.rules.source import compile_source

    return compile_source


def _read(settings: Settings) -> Rulebook:
    from streams.operate.rules_topic import read_rules

    return asyncio.run(read_rules(_config(settings), _compile()))


def _publish(settings: Settings, make: Callable[[Rulebook], Entry], *, go_on: bool = False) -> Entry:
    from streams.operate.rules_topic import publish as publish_entry

    return asyncio.run(publish_entry(_config(settings), _compile(), make, go_on=go_on))


def _checked(file: Path) -> tuple[str, Ruleset]:
    """Return text and rules of a file that `lapse check` finds no error in; else print its report and exit with 1."""
    from streams.offline.inline_tests import run_tests
    from streams.rules.check import CheckReport
    from streams.rules.triggers import parse_triggers

    try:
        data = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Failed(f"{file}: it is not UTF-8 text: {error}. Nothing was published.") from None
    parsed = parse_triggers(text, "<stdin>" if file == Path("-") else str(file))
    runs = [] if parsed.ruleset is None else list(run_tests(parsed))
    problems = (*parsed.problems, *(run.problem for run in runs if run.problem is not None))
    report = CheckReport((parsed,), problems, len(runs))
    if report.exit_code() or parsed.ruleset is None:
        typer.echo(report.text(), err=True)
        raise Failed("The file has errors. Nothing was published.")
    return text, parsed.ruleset


def _entry(book: Rulebook, kind: EntryKind, author: str | None, reason: str | None, **members: Any) -> Entry:
    from streams.operate.rules_topic import default_author, now

    at = now()
    if kind is EntryKind.LIVE and members.get("effective_from") is None:
        members["effective_from"] = at
    return Entry(
        number=book.last + 1,
        kind=kind,
        published_at=at,
        author=author or default_author(),
        reason=reason,
        **members,
    )


def _latest(book: Rulebook) -> int | None:
    """Return the latest live revision, usable or not; one that is ignored does not count."""
    live = (entry.number for entry in book.after(0) if entry.kind is EntryKind.LIVE)
    return max((number for number in live if number not in book.disowned), default=None)


def _known(book: Rulebook, number: int) -> Entry:
    entry = book.entries.get(number)
    if entry is None:
        raise Failed(f"The rules topic has no entry {number}; the last one is {book.last}.")
    return entry


def _ruleset(book: Rulebook, number: int) -> Ruleset:
    entry = _known(book, number)
    found = book.ruleset(number)
    if found is None:
        why = book.refused.get(number, f"entry {number} is a {entry.kind}, and has no rules")
        raise Failed(f"Revision {number} can't be used: {why}.")
    return found


def _as_json(entry: Entry, book: Rulebook) -> dict[str, Any]:
    told: dict[str, Any] = {
        "number": entry.number,
        "kind": entry.kind.value,
        "published_at": instants.text(entry.published_at),
        "author": entry.author,
        "reason": entry.reason,
    }
    if entry.source is not None:
        told |= {"ruleset": entry.ruleset, "based_on": entry.based_on}
    if entry.effective_from is not None:
        told["effective_from"] = instants.text(entry.effective_from)
    if entry.triggers is not None:
        told["triggers"] = entry.triggers
    if entry.number in book.refused:
        told["refused"] = book.refused[entry.number]
    return told


def _line(entry: Entry, book: Rulebook, used_by: list[int]) -> str:
    parts = [f"{entry.number:>4}", f"{entry.kind:<10}", instants.text(entry.published_at), entry.author or "-"]
    if entry.ruleset is not None:
        parts.append(entry.ruleset)
    if entry.effective_from is not None and entry.effective_from != entry.published_at:
        when = "at once" if entry.effective_from == _AT_ONCE else f"from {instants.text(entry.effective_from)}"
        parts.append(when)
    if entry.triggers is not None:
        parts.append("all" if entry.triggers == "all" else ",".join(entry.triggers))
    if entry.number in book.refused:
        parts.append("refused by this version")
    if used_by:
        parts.append(f"in use by partition {', '.join(map(str, used_by))}")
    return "  ".join([*parts, *([f"({entry.reason})"] if entry.reason else [])])


def _say_published(entry: Entry, as_json: bool, text: str) -> None:
    typer.echo(json_text(json.dumps(_as_json(entry, Rulebook(_compile())), ensure_ascii=False)) if as_json else text)
