"""`lapse doctor`."""

# ruff: noqa: PLC0415 - Faust, aiokafka and rich take longer to import than `lapse check` takes to run

from __future__ import annotations

import asyncio
import json
import shutil
import textwrap
import time
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.root import app
from streams.cli.setting_flags import BROKER, takes_settings
from streams.cli.shared import PATIENCE
from streams.core.escaping import json_text, one_line
from streams.settings.settings import Settings

if TYPE_CHECKING:
    from streams.operate.doctor import Finding

_WIDEST = 110


@app.command()
@takes_settings(*BROKER)
def doctor(
    settings: Settings,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Examine brokers, topics, rights, keys, timestamps, transactions and lag; exit 1 when something is wrong.

    Run it with the worker's settings and login. It changes nothing in topics, offsets or groups.
    """
    from streams.assembly import runtime_config
    from streams.operate.doctor import Level, judge
    from streams.operate.survey import survey

    config = runtime_config(settings, patience=PATIENCE)
    seen = asyncio.run(survey(config))
    findings = judge(seen, config, time.time_ns() // 1_000_000)
    levels = {level: sum(one.level is level for one in findings) for level in Level}
    if as_json:
        typer.echo(
            json_text(
                json.dumps(
                    {
                        "healthy": not levels[Level.PROBLEM],
                        "findings": [
                            {
                                "check": one.check,
                                "level": one.level.value,
                                "text": one.text,
                                "advice": one.advice or None,
                            }
                            for one in findings
                        ],
                    },
                    ensure_ascii=False,
                )
            )
        )
    else:
        width = min(_WIDEST, shutil.get_terminal_size().columns)
        for one in findings:
            typer.echo(_lines(one, width))
        counts = [
            f"{count} {_plural(level.value, count)}"
            for level, count in levels.items()
            if count and level is not Level.OK
        ]
        typer.echo(f"{config.group} at {', '.join(config.brokers)}: {', '.join(counts) or 'all is well'}")
    if levels[Level.PROBLEM]:
        raise typer.Exit(1)


def _lines(one: Finding, width: int) -> str:
    head = f"{one.level.value:<8} {one.check:<12} "
    text = one_line(f"{one.text} {one.advice}".strip())
    return textwrap.fill(
        text, width, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _plural(word: str, count: int) -> str:
    return word if count == 1 or word == "unknown" else f"{word}s"
