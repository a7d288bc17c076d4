"""Shows the demo with Zendesk: figures of both sides, and a line for each happening."""

from __future__ import annotations

from collections import Counter, deque
from datetime import datetime

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.demo.story import duration

Seconds = float
Line = tuple[Seconds, str, str, str]
"""Time, ticket, word, text."""

_STYLES = {"left": "yellow", "came back": "green", "solved": "bold cyan", "by agent": "magenta"}
_FIGURES_EVERY: Seconds = 5.0
_FRAMES = 4  # two panels


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of both sides at one moment. Delays are in seconds."""

    running: Seconds
    statuses: Counter[str]
    solvers: Counter[str]
    left: int
    back: int
    webhooks: int
    requests: int
    lapses: int
    commands: int
    results: Counter[str]
    """By result, as `lapse apply` counts them."""
    known: int
    """Commands whose id came back in a ticket update: `lapse_commands_applied_total`."""
    delay: tuple[Seconds, Seconds] | None
    """Median and 99th percentile from leaving to solved."""

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, figure and note of each line; those of Zendesk come first."""
        median = "none yet" if self.delay is None else f"{self.delay[0]:.2f} s"
        p99 = "" if self.delay is None else f"median; p99 {self.delay[1]:.2f} s, the trigger's wait included"
        by = _counts(self.solvers)
        return [
            ("tickets", f"{self.statuses.total():,}", _counts(self.statuses) + (f"; solved by {by}" if by else "")),
            ("customers who left", f"{self.left:,}", f"{self.back:,} came back in time"),
            ("webhooks sent", f"{self.webhooks:,}", f"and {self.requests:,} requests to the API"),
            ("lapses", f"{self.lapses:,}", "sessions that the worker saw go inactive"),
            ("commands", f"{self.commands:,}", "made by the worker"),
            ("carried out", f"{self.results['applied']:,}", _counts(self.results)),
            ("known as applied", f"{self.known:,}", "commands that came back in a webhook"),
            ("leaving to solved", median, p99),
        ]


class LoopScreen:
    """A terminal is redrawn in place; other output gets a line for each happening, and the figures now and then."""

    def __init__(self, console: Console, title: str) -> None:
        """Take over the terminal of `console`, if it is one."""
        self._console = console
        self._title = title
        self._note = ""
        self._lines: deque[Line] = deque(maxlen=200)
        self._next = 0.0
        self._live = Live(console=console, screen=True, auto_refresh=False) if console.is_terminal else None
        if self._live is not None:
            self._live.start()
        self.note(title)

    def note(self, text: str) -> None:
        """Show what the demo itself is doing."""
        self._note = text
        if self._live is None:
            self._print(text)
        else:
            self._live.update(Panel(Text(text), title=self._title, title_align="left"), refresh=True)

    def tell(self, line: Line) -> None:
        """Show one more happening."""
        self._lines.append(line)
        if self._live is None:
            at, ticket, word, text = line
            self._print(f"{_clock(at)}  {ticket:>6}  {word:<9}  {text}")

    def refresh(self, figures: Figures) -> None:
        """Show the figures; called several times a second."""
        if self._live is not None:
            self._live.update(self._picture(figures), refresh=True)
        elif figures.running >= self._next:
            self._next = figures.running + _FIGURES_EVERY
            self._print("--- " + ", ".join(f"{name} {figure}" for name, figure, _ in figures.rows()))

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _picture(self, figures: Figures) -> RenderableType:
        table = _table(figures)
        height = max(3, self._console.size.height - len(figures.rows()) - _FRAMES)
        lines = Table.grid(padding=(0, 2))
        for at, ticket, word, text in list(self._lines)[-height:]:
            style = _STYLES[word]
            lines.add_row(Text(_clock(at), "dim"), ticket, Text(word, style), Text(text, style))
        running = duration(figures.running)
        head = Panel(table, title=self._title, title_align="left", subtitle=running, subtitle_align="right")
        return Group(
            head, Panel(lines, title="what happens", title_align="left", subtitle=self._note, height=height + 2)
        )


def summary(figures: Figures) -> RenderableType:
    """Return the summary shown at the end."""
    return _table(figures, f"Lapse demo with Zendesk, {duration(figures.running)}")


def _table(figures: Figures, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    for row in figures.rows():
        table.add_row(*row)
    return table


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items()) if count)


def _clock(at: Seconds) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
