"""The tables of `lapse fields` and `lapse operators`, as wide as the terminal, within 60 to 120 columns."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence

import typer

from streams.rules.reference_pages import ActionEntry, ConditionEntry, OperatorEntry, families_in_words

NARROWEST, WIDEST = 60, 120
NAMES = 36
"""Width in columns of the longest name, `messaging_session_inactive_reason`, and a gap."""


def print_fields(conditions: Sequence[ConditionEntry], actions: Sequence[ActionEntry]) -> None:
    """Print the fields that conditions can check and actions can write."""
    if conditions:
        _heading("CONDITION FIELD", "HOLDS")
        for condition in conditions:
            holds = _holds(condition.holds, condition.values, closed=condition.closed)
            operators = f"operators: {', '.join(condition.families)}"
            _entry(condition.field, condition.aliases, holds, (condition.meaning, operators), condition.example)
        for family, names in families_in_words():
            typer.echo("\n".join(_wrapped(f"{family}: {names}", "", "    ")))
    if conditions and actions:
        typer.echo()
    if actions:
        _heading("ACTION FIELD", "DOES")
        for action in actions:
            does = _holds(action.does, action.values, closed=True)
            _entry(action.field, action.aliases, does, (action.meaning,), action.example)


def print_operators(entries: Sequence[OperatorEntry]) -> None:
    """Print the operators of conditions."""
    _heading("OPERATOR", "TAKES")
    for entry in entries:
        label = f"Zendesk's interface calls it “{entry.label}”"
        _entry(entry.operator, entry.aliases, entry.takes, (f"true when {entry.meaning}", label), entry.example)


def _entry(name: str, aliases: Sequence[str], about: str, lines: Sequence[str], example: str) -> None:
    """Print one name with its aliases and description beside it, then its meaning, then an example to copy."""
    names = ", ".join((name, *aliases))
    first, *rest = _wrapped(about, " " * NAMES, " " * NAMES)
    if len(names) < NAMES:
        typer.echo(typer.style(names, bold=True) + first[len(names) :])
    else:
        typer.echo(typer.style(names, bold=True))
        rest = [first, *rest]
    for line in (*rest, *_joined(lines)):
        typer.echo(line)
    typer.echo("\n".join(typer.style(line, fg="cyan") for line in _wrapped(example, "    ", "      ")))


def _joined(lines: Sequence[str]) -> Iterator[str]:
    """Yield the description of a name, joined into as few lines as possible."""
    together = "; ".join(lines)
    if len(together) <= _width() - 4:
        yield f"    {together}"
    else:
        for line in lines:
            yield from _wrapped(line, "    ", "      ")


def _heading(left: str, right: str) -> None:
    typer.echo(typer.style(f"{left:<{NAMES}}{right}", bold=True))


def _holds(kind: str, values: Sequence[str], *, closed: bool) -> str:
    if not values or kind == " or ".join(values):
        return kind
    return f"{kind}: {', '.join(values)}{'' if closed else ', …'}"


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        text, _width(), initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )


def _width() -> int:
    return max(NARROWEST, min(shutil.get_terminal_size().columns, WIDEST))
