"""The plots of a backtest's page, as SVG with colours taken from the page's style sheet."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from streams.core.model import SECOND, Micros
from streams.documents.durations import render
from streams.offline.abandonments import Abandonments
from streams.offline.waits import ENOUGH, Suggestion
from streams.wire.instants import in_zone

# Matplotlib writes these into the SVG; `_svg` replaces them with the page's variables.
_INK, _MUTED, _LINE, _MAIN, _SECOND, _PAPER = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    _MAIN: "var(--main)",
    _SECOND: "var(--second)",
    _PAPER: "var(--paper)",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lapse",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _LINE,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.frameon": False,
}

_WIDTHS: tuple[Micros, ...] = tuple(
    minutes * 60 * SECOND for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440, 10_080)
)
_MOST_BARS = 72
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_AWAY_TICKS = (5, 15, 30, 60, 120, 300, 600, 1800, 3600, 21_600, 86_400)


def bucket_width(first: Micros, last: Micros) -> Micros:
    """Return the shortest standard bar width that keeps the number of bars for a time span readable.

    >>> bucket_width(0, 3_600 * SECOND) // SECOND, bucket_width(0, 86_400 * SECOND) // SECOND
    (60, 1800)
    """
    return next((width for width in _WIDTHS if (last - first) // width < _MOST_BARS), _WIDTHS[-1])


def by_weekday_and_hour(instants: Iterable[Micros], zone: tzinfo) -> list[list[int]]:
    """Count instants by weekday (Monday first) and hour in a time zone: seven rows of 24."""
    counts = [[0] * 24 for _ in _DAYS]
    for instant in instants:
        when = in_zone(instant, zone)
        counts[when.weekday()][when.hour] += 1
    return counts


def over_time(abandonments: Abandonments, zone: tzinfo) -> str:
    """Draw abandonments over time, with the false ones (customers who soon returned) stacked on top."""
    first, last = abandonments.first or 0, abandonments.last or 0
    width = bucket_width(first, last)
    stand: dict[int, int] = {}
    false: dict[int, int] = {}
    for one in abandonments:
        side = false if abandonments.is_false(one) else stand
        place = one.occurred_at // width
        side[place] = side.get(place, 0) + 1
    places = range(first // width, last // width + 1)
    starts = [_day_number(place * width, zone) for place in places]
    bar = 0.86 * width / (86_400 * SECOND)  # in days, Matplotlib's unit for dates
    below = [stand.get(place, 0) for place in places]

    def draw(axes: Axes) -> None:
        axes.bar(starts, below, bar, align="edge", color=_MAIN, label="stayed away")
        above = [false.get(place, 0) for place in places]
        soon = f"back within {render(abandonments.false_window)} (false)"
        axes.bar(starts, above, bar, bottom=below, align="edge", color=_SECOND, label=soon)
        locator = AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
        axes.xaxis_date(zone)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.set_ylabel(f"per {render(width)}")
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2, borderaxespad=0)

    return _svg(draw, 9.6, 2.9)


def by_reason(lapses: dict[str, int], abandonment_reasons: Iterable[str]) -> str:
    """Draw lapses by reason. Reasons that count as abandonments have the main colour."""
    ranked = sorted(lapses.items(), key=lambda entry: (-entry[1], entry[0]))
    if len(ranked) > 12:
        ranked = [*ranked[:11], (f"{len(ranked) - 11} other reasons", sum(count for _, count in ranked[11:]))]
    names, counts = [name for name, _ in ranked], [count for _, count in ranked]
    reasons = set(abandonment_reasons)

    def draw(axes: Axes) -> None:
        bars = axes.barh(names, counts, color=[_MAIN if name in reasons else _MUTED for name in names], height=0.7)
        axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=4, color=_INK)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0, labelcolor=_INK)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.12)

    return _svg(draw, 9.6, 0.55 + 0.32 * len(names))


def heat(counts: list[list[int]]) -> str:
    """Draw abandonments by weekday and hour; darker means more."""
    most = max(max(row) for row in counts) or 1

    def draw(axes: Axes) -> None:
        for day, row in enumerate(counts):
            for hour, count in enumerate(row):
                axes.bar(hour, 0.9, 0.92, bottom=day - 0.45, color=_MAIN, alpha=0.06 + 0.94 * count / most)
                if count:
                    dark = count > 0.55 * most
                    axes.text(hour, day, f"{count}", ha="center", va="center", size=7, color=_PAPER if dark else _INK)
        axes.set_yticks(range(7), _DAYS)
        axes.set_xticks(range(0, 24, 3), [f"{hour:02}:00" for hour in range(0, 24, 3)])
        axes.set_xlim(-0.5, 23.5)
        axes.set_ylim(6.5, -0.5)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return _svg(draw, 9.6, 2.9)


def time_to_return(returns: Sequence[Micros], abandonments: int, false_window: Micros) -> str:
    """Draw the cumulative share of abandonments with a return, over a logarithmic time axis."""
    seconds = [max(away / SECOND, 1.0) for away in returns]
    shares = [place / abandonments for place in range(1, len(seconds) + 1)]
    end = max([86_400.0 if seconds and seconds[-1] > 3_600 else 3_600.0, *seconds[-1:]])

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.axvspan(1, false_window / SECOND, color=_SECOND, alpha=0.13, lw=0)
        axes.step([1.0, *seconds, end], [0.0, *shares, shares[-1] if shares else 0.0], where="post", color=_MAIN, lw=2)
        axes.set_xlim(4, end)
        axes.set_ylim(0, None)
        axes.xaxis.set_major_locator(FixedLocator([tick for tick in _AWAY_TICKS if tick <= end]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: render(int(tick) * SECOND)))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("of abandonments back")

    return _svg(draw, 9.6, 2.9)


def waits(suggestion: Suggestion) -> str:
    """Draw for each wait the share of false abandonments that it would have avoided."""
    names = [render(one.wait) for one in suggestion.waits]
    shares = [one.share or 0.0 for one in suggestion.waits]
    colours = [_SECOND if one is suggestion.enough else _MAIN for one in suggestion.waits]

    def draw(axes: Axes) -> None:
        bars = axes.bar(names, shares, color=colours, width=0.72)
        axes.bar_label(bars, labels=[f"{share:.0%}" for share in shares], padding=3, color=_INK)
        axes.axhline(ENOUGH, color=_MUTED, lw=1, ls=(0, (4, 3)))
        axes.set_ylim(0, 1.12)
        axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylabel("false ones avoided")

    return _svg(draw, 9.6, 2.9)


def _day_number(instant: Micros, zone: tzinfo) -> float:
    return float(date2num(in_zone(instant, zone)))  # type: ignore[no-untyped-call]


def _svg(draw: Callable[[Axes], None], width: float, height: float) -> str:
    """Return an `<svg>` element of that size in inches, which scales to its container."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.add_subplot())
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', text)
    text = re.sub(r"font: ([0-9.]+px)[^;\"]*", r"font: \1 inherit", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text
