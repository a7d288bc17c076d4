"""Shows a story. A terminal gets figures above the latest events, redrawn in place; other output, plain lines."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.core.model import RoundOutcome
from streams.demo.story import Happening, Story, duration

_WORDS = {
    "left": ("left", "yellow"),
    "back": ("came back", "green"),
    "command": ("command", "bold cyan"),
    "rules": ("rules", "bold"),
    RoundOutcome.HELD: ("held", "bold red"),
    RoundOutcome.CANCELLED: ("cancelled", "magenta"),
    RoundOutcome.UNJOINED: ("unjoined", "dim"),
    RoundOutcome.CLOSED: ("closed", "dim"),
}
"""The label and colour of each kind of happening."""

_FIGURES_EVERY = 5.0
_HEAD_LINES = 9  # seven figures and the frame


class Screen(Protocol):
    """The output of a demo."""

    def note(self, text: str) -> None:
        """Show what the demo itself is doing."""

    def tell(self, happening: Happening) -> None:
        """Show one more happening."""

    def refresh(self, story: Story, now: float) -> None:
        """Update the figures; called several times per second."""

    def close(self) -> None:
        """Restore the terminal."""


def screen_for(console: Console, title: str) -> Screen:
    """Return the screen that suits the console."""
    return LiveScreen(console, title) if console.is_terminal else PlainScreen(console, title)


class PlainScreen:
    """Prints one line per happening, and the figures every few seconds. For logs, pipes and tests."""

    def __init__(self, console: Console, title: str) -> None:
        """Print to `console`."""
        self._console = console
        self._next = 0.0
        self.note(title)

    def note(self, text: str) -> None:
        """Print the note."""
        self._print(text)

    def tell(self, happening: Happening) -> None:
        """Print the happening with its time of day and ticket."""
        word, _ = _WORDS[happening.what]
        self._print(f"{_clock(happening.at)}  {happening.ticket:>6}  {word:<9}  {happening.text}")

    def refresh(self, story: Story, now: float) -> None:
        """Print the figures when the last ones are five seconds old."""
        if now >= self._next:
            self._next = now + _FIGURES_EVERY
            cells = [f"{name} {total:,} ({rate:.1f}/s)" for name, total, rate in _rates(story, now)]
            held = f"held {story.outcomes[RoundOutcome.HELD]:,}; " if story.held else ""
            self._print("--- " + ", ".join(cells) + f"; {held}{_abandonment(story)}")

    def close(self) -> None:
        """Do nothing: there is no terminal to restore."""

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveScreen:
    """Uses the whole terminal, redraws it in place, and restores it at the end."""

    def __init__(self, console: Console, title: str) -> None:
        """Take over the terminal of `console`."""
        self._console = console
        self._title = title
        self._note = ""
        self._last: deque[Happening] = deque(maxlen=200)
        self._live = Live(console=console, screen=True, auto_refresh=False)
        self._live.start()

    def note(self, text: str) -> None:
        """Show the note in the frame's lower edge."""
        self._note = text
        self._live.update(Panel(Text(text), title=self._title, title_align="left"), refresh=True)

    def tell(self, happening: Happening) -> None:
        """Add the happening to the list; the next refresh shows it."""
        self._last.append(happening)

    def refresh(self, story: Story, now: float) -> None:
        """Redraw."""
        self._live.update(self._picture(story, now), refresh=True)

    def close(self) -> None:
        """Leave the alternate screen."""
        self._live.stop()

    def _picture(self, story: Story, now: float) -> RenderableType:
        lines = Table.grid(padding=(0, 2), expand=True)
        for name in ("time", "ticket", "what"):
            lines.add_column(name, no_wrap=True)
        lines.add_column("text", ratio=1, no_wrap=True, overflow="ellipsis")
        height = max(5, self._console.height - _HEAD_LINES - bool(story.held))
        for happening in list(self._last)[2 - height :]:
            word, style = _WORDS[happening.what]
            text = Text(happening.text, style=style)
            lines.add_row(Text(_clock(happening.at), "dim"), happening.ticket, Text(word, style), text)
        running = duration(now - story.started)
        head = Panel(_head(story, now), title=self._title, title_align="left", subtitle=running, subtitle_align="right")
        body = Panel(lines, title="what happens", title_align="left", subtitle=self._note, height=height)
        return Group(head, body)


def summary(story: Story, now: float) -> RenderableType:
    """Return the summary shown at the end."""
    table = Table(
        title=f"Lapse demo, {duration(now - story.started)}", title_justify="left", show_header=False, box=None
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    table.add_row("records fed", f"{story.fed.total:,}", "ticket updates and session states")
    table.add_row("transitions", f"{story.transitions.total:,}", _counts(story.kinds))
    table.add_row("rounds", f"{story.rounds.total:,}", _counts(story.outcomes))
    if story.limited:
        table.add_row("fired", f"{story.fired.total():,}", _counts(story.fired))
    exactly = "each exactly once" if not story.repeated_commands else f"{story.repeated_commands} REPEATED"
    table.add_row("commands", f"{story.commands.total:,}", f"{exactly}; {_counts(story.actions)}")
    if story.limited:
        by = f"by the limits of {_counts(story.held)}; nothing was written for them" if story.held else "by no limit"
        table.add_row("held", f"{story.outcomes[RoundOutcome.HELD]:,}", by)
    table.add_row("applied", f"{story.applied:,}", "commands that the demo's helpdesk wrote back as ticket updates")
    table.add_row("abandonments", f"{story.abandonments:,}", _abandonment(story))
    table.add_row("dead letters", f"{story.dead_letters.total():,}", _counts(story.dead_letters))
    return table


def _head(story: Story, now: float) -> RenderableType:
    grid = Table.grid(padding=(0, 3), expand=True)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", style="green", no_wrap=True)
    grid.add_column(style="dim", ratio=1, no_wrap=True, overflow="ellipsis")
    notes = ["", _counts(story.kinds), _counts(story.outcomes), _counts(story.actions)]
    for (name, total, rate), note in zip(_rates(story, now), notes, strict=True):
        grid.add_row(name, f"{total:,}", f"{rate:.1f}/s", note)
    delay = story.delay()
    seen = (
        ""
        if delay is None
        else f"{delay[0] * 1000:,.0f} ms from event to transition read (90 %: {delay[1] * 1000:,.0f} ms)"
    )
    if story.held:
        grid.add_row("held", Text(f"{story.outcomes[RoundOutcome.HELD]:,}", "bold red"), "", _counts(story.held))
    grid.add_row("abandonments", f"{story.abandonments:,}", "", _abandonment(story))
    grid.add_row("dead letters", f"{story.dead_letters.total():,}", "", _counts(story.dead_letters))
    grid.add_row("delay", "", "", seen)
    return grid


def _rates(story: Story, now: float) -> list[tuple[str, int, float]]:
    named = {
        "records fed": story.fed,
        "transitions": story.transitions,
        "rounds": story.rounds,
        "commands": story.commands,
    }
    return [(name, rate.total, rate.per_second(now)) for name, rate in named.items()]


def _abandonment(story: Story) -> str:
    if not story.sessions:
        return "no sessions yet"
    share = len(story.abandoned_sessions) / len(story.sessions)
    text = f"{len(story.abandoned_sessions):,} of {len(story.sessions):,} sessions abandoned ({share:.0%})"
    if story.abandonments:
        false = story.false_abandonments / story.abandonments
        text += f", {false:.0%} back within {duration(story.false_window)}"
    return text


def _counts(counter: dict[str, int]) -> str:
    named = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in named)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
