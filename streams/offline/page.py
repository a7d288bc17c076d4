"""A backtest as one self-contained HTML page: figures, plots, tables; no scripts, no external resources."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from streams.core.model import SECOND, Micros
from streams.documents.durations import render
from streams.offline import plots
from streams.offline.abandonments import Abandonments
from streams.offline.report import Findings, delay_in_all, side_by_side, verdict
from streams.telemetry.definitions import DEFINITIONS
from streams.wire import instants


def html_page(
    findings: Findings,
    abandonments: Abandonments,
    *,
    captures: Sequence[Path],
    triggers: Path,
    against: Path | None,
    zone: tzinfo,
) -> bytes:
    """Return the page in UTF-8. Hours, weekdays and times are in the time zone `zone`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"n": lambda number: f"{number:,}", "share": _share, "wait": render, "delay": delay_in_all}
    template = environment.from_string(files("streams.offline").joinpath("page.html").read_text(encoding="utf-8"))
    suggestion = findings.suggestion
    return template.render(
        captures=[str(path) for path in captures],
        triggers=str(triggers),
        against_name=None if against is None else str(against),
        findings=findings,
        report=findings.report,
        span=_span(abandonments, zone),
        zone=str(zone),
        abandonments=len(abandonments),
        sessions=len(abandonments.sessions),
        tiles=_tiles(findings, abandonments),
        definitions=DEFINITIONS,
        lapses=sorted(abandonments.lapses.items(), key=lambda entry: (-entry[1], entry[0])),
        suggestion=suggestion,
        verdict=None if suggestion is None else verdict(suggestion),
        differing=[]
        if findings.against is None
        else [side_by_side(one) for one in findings.against.comparison.commands],
        plots=_plots(findings, abandonments, zone),
    ).encode()


def _tiles(findings: Findings, abandonments: Abandonments) -> list[tuple[str, str, str]]:
    """Return (figure, name, definition) for the figures at the top of the page."""
    suggestion = findings.suggestion
    false = 0 if suggestion is None else suggestion.false_abandonments
    returns = abandonments.returns()
    middle = returns[len(returns) // 2] if returns else None
    return [
        (f"{len(abandonments.sessions):,}", "sessions", DEFINITIONS["session"]),
        (f"{len(abandonments):,}", "abandonments", DEFINITIONS["abandonment"]),
        (_share(false, len(abandonments)), "of them false", DEFINITIONS["false abandonment rate"]),
        ("–" if middle is None else _spoken(middle), "median time to return", DEFINITIONS["time to return"]),
        (f"{findings.report.commands:,}", "commands", "Commands that these triggers would have sent."),
    ]


def _plots(findings: Findings, abandonments: Abandonments, zone: tzinfo) -> dict[str, Markup]:
    if not len(abandonments) or findings.suggestion is None:
        return {}
    reasons = {one.reason for one in abandonments}
    counts = plots.by_weekday_and_hour((one.occurred_at for one in abandonments), zone)
    drawn: dict[str, Any] = {
        "over_time": plots.over_time(abandonments, zone),
        "by_reason": plots.by_reason(abandonments.lapses, reasons),
        "heat": plots.heat(counts),
    }
    if findings.suggestion.returned:
        drawn["returns"] = plots.time_to_return(abandonments.returns(), len(abandonments), abandonments.false_window)
    if findings.suggestion.false_abandonments:
        drawn["waits"] = plots.waits(findings.suggestion)
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704 -- drawn by us, texts escaped by Matplotlib


def _span(abandonments: Abandonments, zone: tzinfo) -> str:
    if abandonments.first is None or abandonments.last is None:
        return "no session in it"
    first, last = (
        instants.in_zone(at, zone).strftime("%Y-%m-%d %H:%M") for at in (abandonments.first, abandonments.last)
    )
    return f"{first} to {last} {'UTC' if zone is UTC else zone}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _spoken(duration: Micros) -> str:
    seconds = duration / SECOND
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
