"""Panels and dashboards with what all of ours have in common: one datasource, units, descriptions, colours."""

from __future__ import annotations

from collections.abc import Iterable

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from deploy.grafana.queries import series

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

_TRIGGERS_CHANGED = (
    f"count by (ruleset) ({series('lapse_ruleset_info')}) unless "
    f"count by (ruleset) (count_over_time({series('lapse_ruleset_info')}[10m] offset 5m))"
)
"""True for five minutes, so that no step of the graph misses it, and not after a restart that takes less than ten."""

Queries = dict[str, str]
"""PromQL by legend; a legend can name labels, as in `{{channel}}`."""


Part = builders.Row | stat.Panel | timeseries.Panel | bargauge.Panel


def dashboard(
    uid: str, title: str, description: str, *, since: str, parts: Iterable[Part], variables: Iterable[str] = ()
) -> builders.Dashboard:
    """Make a dashboard of these parts; `variables` are labels to filter by, each as `metric.label`."""
    made = (
        builders.Dashboard(f"Lapse / {title}")
        .uid(uid)
        .description(description)
        .tags(["lapse"])
        .readonly()
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("Lapse")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["lapse"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_labels("job", "Job", "lapse_build_info", ""))
        .with_variable(_labels("instance", "Worker", "lapse_build_info", 'job=~"$job"'))
    )
    made = made.annotation(
        builders.AnnotationQuery()
        .name("Triggers changed")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("purple")
        .expr(_TRIGGERS_CHANGED)
    )
    for variable in variables:
        metric, label = variable.split(".")
        made = made.with_variable(_labels(label, label.capitalize(), metric, 'job=~"$job"'))
    for number, part in enumerate(parts, 1):
        part.id(number)
        made = made.with_row(part) if isinstance(part, builders.Row) else made.with_panel(part)
    return made


def number(
    title: str,
    description: str,
    unit: str,
    queries: Queries,
    *,
    width: int = 4,
    limits: tuple[float, float] | None = None,
    low_is_bad: bool = False,
    decimals: int | None = None,
) -> stat.Panel:
    """One figure, the latest; beyond the first limit it is yellow, beyond the second red."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(DATASOURCE)
        .span(width)
        .height(4)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("–")
        .thresholds(_thresholds(limits, low_is_bad))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    for place, (legend, expression) in enumerate(queries.items()):
        panel = panel.with_target(_query(place, legend, expression).instant())
    return panel


def graph(
    title: str,
    description: str,
    unit: str,
    queries: Queries,
    *,
    width: int = 12,
    stacked: bool = False,
    hourly: bool = False,
    at_most: float | None = None,
) -> timeseries.Panel:
    """Lines over time; `stacked` areas where the sum means something, `hourly` figures where traffic is thin.

    Hourly ones are bars only where they are stacked: Grafana draws bars of one instant over each other.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(DATASOURCE)
        .span(width)
        .height(8)
        .min(0)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .fill_opacity(30 if stacked else 0)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL if stacked else StackingMode.NONE))
    )
    if hourly:
        panel = panel.interval("1h")
        if stacked:
            panel = panel.draw_style(GraphDrawStyle.BARS)
        else:
            panel = panel.show_points(VisibilityMode.ALWAYS)
    if at_most is not None:
        panel = panel.max(at_most)
    for place, (legend, expression) in enumerate(queries.items()):
        panel = panel.with_target(_query(place, legend, expression).range())
    return panel


def ranking(title: str, description: str, unit: str, queries: Queries, *, width: int = 12) -> bargauge.Panel:
    """Bars, one a label value, the largest first."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(DATASOURCE)
        .span(width)
        .height(8)
        .min(0)
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for place, (legend, expression) in enumerate(queries.items()):
        panel = panel.with_target(_query(place, legend, expression).instant())
    return panel


def row(title: str) -> builders.Row:
    """Begin a section."""
    return builders.Row(title)


def _query(place: int, legend: str, expression: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + place))
        .datasource(DATASOURCE)
        .expr(expression)
        .legend_format(legend)
    )


def _labels(name: str, label: str, metric: str, matchers: str) -> builders.QueryVariable:
    selector = f"{metric}{{{matchers}}}" if matchers else metric
    everything = VariableOption(selected=True, text="All", value="$__all")
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(f"label_values({selector}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(everything)
    )


def _thresholds(limits: tuple[float, float] | None, low_is_bad: bool) -> builders.ThresholdsConfig:
    colours = ["red", "yellow", "green"] if low_is_bad else ["green", "yellow", "red"]
    steps = [Threshold(value=None, color="text" if limits is None else colours[0])]
    if limits is not None:
        steps += [Threshold(value=limit, color=colour) for limit, colour in zip(limits, colours[1:], strict=True)]
    return builders.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
