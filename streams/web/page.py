"""The page at `/`: rendered here once with what is known now, kept up to date by `assets/page.js`."""

from __future__ import annotations

from functools import cache
from html import escape
from importlib import resources
from string import Template

from streams.core.model import Topic
from streams.web.views import PartitionView, PositionView, StatusView

UNKNOWN = "–"


def render(status: StatusView) -> str:
    """Return the page as HTML that is complete without its script."""
    blank = PartitionView(0, "", None, None, {topic.value: PositionView(None, None) for topic in Topic})
    return _template().substitute(
        app_id=escape(status.app_id),
        ruleset=escape(status.ruleset.digest or UNKNOWN),
        triggers=f"{status.ruleset.active} of {status.ruleset.triggers}",
        started_at=_instant(status.started_at),
        now=_instant(status.now),
        summary=escape(status.summary),
        working="yes" if status.working else "no",
        abandonment_rate=_percent(status.abandonment_rate),
        false_abandonment_rate=_percent(status.false_abandonment_rate),
        topic_columns="".join(f'<th scope="colgroup" colspan="2">{topic.value}</th>' for topic in Topic),
        position_columns='<th scope="col" class="number">Position</th><th scope="col" class="number">Lag</th>'
        * len(Topic),
        partitions="".join(_row(partition) for partition in status.partitions),
        blank_partition=_row(blank),
        none_hidden="hidden" if status.partitions else "",
        **{name: f"{getattr(status.figures, name):,}" for name in status.figures.__struct_fields__},
    )


def _row(partition: PartitionView) -> str:
    cells = [
        ("state", "", escape(partition.state)),
        *(
            (f"{topic}.{member}", "number", _count(value))
            for topic, at in partition.topics.items()
            for member, value in (("position", at.position), ("lag", at.lag))
        ),
        ("stream_time", "", _instant(partition.stream_time)),
    ]
    return (
        f'<tr data-partition="{partition.partition}" data-state="{escape(partition.state)}">'
        f'<th scope="row" data-cell="partition">{partition.partition}</th>'
        + "".join(f'<td class="{kind}" data-cell="{name}">{text}</td>' for name, kind, text in cells)
        + "</tr>"
    )


def _count(number: int | None) -> str:
    return UNKNOWN if number is None else f"{number:,}"


def _percent(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else f"{100 * ratio:.1f} %"


def _instant(text: str | None) -> str:
    return UNKNOWN if text is None else escape(text.replace("T", " ").replace("Z", " UTC"))


@cache
def _template() -> Template:
    return Template(resources.files("streams.web").joinpath("assets", "page.html").read_text("utf-8"))
