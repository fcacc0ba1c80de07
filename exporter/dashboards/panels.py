"""The kinds of panels in the dashboards, and the texts of every panel.

Built with Grafana's own typed model of its panels.  https://grafana.github.io/grafana-foundation-sdk/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from exporter.dashboards import palette
from exporter.dashboards.links import runbook
from exporter.dashboards.promql import PIPELINE, SHARE_DECIMALS

NOT_MEASURED: Final = "not measured"

COUNT: Final = "locale"
"""The unit of a count: every digit, with the separators of the reader's language.  `short` shows 1 K for 1,251."""
SHARE: Final = "percentunit"
TIME: Final = "dtdhms"
"""The unit of a time with a limit: every second.  `s` shows 2 hours for 90 minutes."""
_DECIMALS: Final = {SHARE: SHARE_DECIMALS}

SOURCE: Final = options.DataSourceRef(type_val="prometheus", uid="${datasource}")
MIN_STEP: Final = "1m"
"""The step of graphs: at least the usual scrape interval."""

Texts = Mapping[int, tuple[str, str]] | Mapping[float, tuple[str, str]]
"""Words in place of numbers: text and colour."""

Panel = stat.Panel | table.Panel | timeseries.Panel | bargauge.Panel | statetimeline.Panel
Kind = TypeVar("Kind", stat.Panel, table.Panel, timeseries.Panel, bargauge.Panel, statetimeline.Panel)


@dataclass(frozen=True, slots=True)
class About:
    """The texts of a panel: `says` explains value, normal value and remedy; `none` replaces a missing value.

    `id` never changes, for links.  `runbook` is the name of an alert without the prefix: the panel links to the
    runbook.  With `none_is_known` a missing value is an answer, not an unknown.
    """

    id: int
    title: str
    says: str
    unit: str
    none: str = NOT_MEASURED
    none_is_known: bool = False
    decimals: int | None = None
    low: float | None = 0
    high: float | None = None
    runbook: str | None = None
    texts: Texts = field(default_factory=dict)
    """Values shown as words: text and colour."""


def framed(panel: Kind, about: About) -> Kind:
    """The panel with the common properties of all panels."""
    panel.id(about.id).title(about.title).description(about.says).datasource(SOURCE)
    panel.unit(about.unit).no_value(about.none).mappings(mappings(about.texts, about.none, known=about.none_is_known))
    if (decimals := _decimals(about.unit, about.decimals)) is not None:
        panel.decimals(decimals)
    if about.low is not None:
        panel.min(about.low)
    if about.high is not None:
        panel.max(about.high)
    if about.runbook is not None:
        panel.links([dashboard.DashboardLink("Runbook").url(runbook(about.runbook)).target_blank(True)])
    return panel


def _decimals(unit: str | None, given: int | None) -> int | None:
    return _DECIMALS.get(unit or "") if given is None else given


def mappings(texts: Texts, none: str, *, known: bool = False) -> list[model.ValueMapping]:
    """Words for numbers, and for a missing number."""
    found: list[model.ValueMapping] = []
    if texts:
        results = {
            f"{value:g}": model.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(texts.items())
        }
        found.append(model.ValueMap(results))
    result = model.ValueMappingResult(text=none, color=palette.NOTHING if known else palette.UNKNOWN, index=len(texts))
    special = model.DashboardSpecialValueMapOptions(model.SpecialValueMatch.NULL_AND_NAN, result)
    return [*found, model.SpecialValueMap(special)]


def property_(name: str, value: object) -> model.DynamicConfigValue:
    """An override for some fields."""
    return model.DynamicConfigValue(id_val=name, value=value)


def fixed(color: str) -> model.DynamicConfigValue:
    """One colour for every value."""
    return property_("color", {"mode": "fixed", "fixedColor": color})


def shades(color: str) -> model.DynamicConfigValue:
    """Shades of one colour, one per series."""
    return property_("color", {"mode": "shades", "fixedColor": color})


@dataclass(frozen=True, slots=True)
class Query:
    """An expression and the names of the series.

    `color` is for all series, `dashed` for a threshold in a graph, `texts` for words in place of numbers; `over_time`
    asks for the time range where a panel shows the last number.
    """

    expr: str
    legend: str = "__auto"
    color: str | None = None
    dashed: bool = False
    over_time: bool = False
    texts: Texts = field(default_factory=dict)

    @property
    def properties(self) -> list[model.DynamicConfigValue]:
        """The overrides for the series."""
        found = [fixed(self.color)] if self.color is not None else []
        if self.dashed:
            found.append(property_("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}))
            found += [property_("custom.fillOpacity", 0), property_("custom.lineWidth", 1)]
        if self.texts:
            found += [property_("unit", "none"), property_("mappings", mappings(self.texts, ""))]
        return found


def _target(ref: str, query: Query, *, as_table: bool = False, over_time: bool = False) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(ref).expr(query.expr).legend_format(query.legend).datasource(SOURCE)
    target = target.range() if over_time else target.instant()
    return target.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES)


def _asks(panel: Kind, queries: Sequence[Query], *, over_time: bool = False) -> Kind:
    for ref, query in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", queries, strict=False):
        panel.with_target(_target(ref, query, over_time=over_time or query.over_time))
        if query.properties:
            panel.override_by_query(ref, query.properties)
    return panel


def _last(*, also_nan: bool = False) -> common.ReduceDataOptions:
    """The last number; with `also_nan` an unknown last number does not show the number before."""
    return common.ReduceDataOptions().calcs(["last" if also_nan else "lastNotNull"]).fields("").values(False)


def _color(color: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(color)


def number(
    about: About,
    *queries: Query,
    fill: bool = False,
    alarm: str | None = None,
    words: Mapping[str, tuple[str, str]] | None = None,
) -> stat.Panel:
    """A number or a word per query.

    With `fill` the background has the colour; `alarm` is the colour above 0; `words` are the text and the colour for a
    series of a name.  A query over time has a line of the time range below the number.
    """
    over_time = any(query.over_time for query in queries)
    panel = framed(stat.Panel(), about).reduce_options(_last(also_nan=over_time))
    panel.graph_mode(options.BigValueGraphMode.AREA if over_time else options.BigValueGraphMode.NONE)
    panel.color_mode(options.BigValueColorMode.BACKGROUND_SOLID if fill else options.BigValueColorMode.VALUE)
    panel.text_mode(options.BigValueTextMode.VALUE_AND_NAME if words else options.BigValueTextMode.VALUE)
    for name, (word, color) in (words or {}).items():
        panel.override_by_name(name, [property_("displayName", word), fixed(color)])
    if words:
        panel.text(common.VizTextDisplayOptions().title_size(13))
    panel.justify_mode(options.BigValueJustifyMode.CENTER)
    panel.orientation(options.VizOrientation.AUTO).wide_layout(True).color_scheme(_color(palette.PLAIN))
    if alarm is not None:
        steps = [model.Threshold(value=None, color=palette.GOOD), model.Threshold(value=1e-9, color=alarm)]
        panel.thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps))
        panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    return _asks(panel, queries)


def trend(
    about: About,
    *queries: Query,
    colors: Mapping[str, str] | None = None,
    stacked: bool = False,
    with_table: bool = False,
) -> timeseries.Panel:
    """Values over time; `colors` gives shades of one colour to all matching series.  Interruptions stay visible."""
    panel = framed(timeseries.Panel(), about).interval(MIN_STEP)
    panel.draw_style(options.GraphDrawStyle.LINE).line_width(2).fill_opacity(60 if stacked else 8)
    panel.line_interpolation(options.LineInterpolation.STEP_AFTER).show_points(options.VisibilityMode.NEVER)
    panel.span_nulls(False).axis_soft_min(0)
    if about.unit == COUNT:
        panel.axis_soft_max(5)  # Nothing but zeros is drawn at the bottom of a scale of counts.
    mode = options.StackingMode.NORMAL if stacked else options.StackingMode.NONE
    panel.stacking(common.StackingConfig().mode(mode).group("A"))
    legend = common.VizLegendOptions().show_legend(True)
    if with_table:
        legend.display_mode(options.LegendDisplayMode.TABLE).placement(options.LegendPlacement.RIGHT)
        legend.calcs(["lastNotNull", "max"])
    else:
        legend.display_mode(options.LegendDisplayMode.LIST).placement(options.LegendPlacement.BOTTOM).calcs([])
    panel.legend(legend)
    panel.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    for pattern, color in (colors or {}).items():
        panel.override_by_regexp(pattern, [shades(color)])
    return _asks(panel, queries, over_time=True)


def timeline(about: About, *queries: Query) -> statetimeline.Panel:
    """States over time, one lane per series."""
    panel = framed(statetimeline.Panel(), about).interval(MIN_STEP)
    panel.show_value(options.VisibilityMode.AUTO).align_value(options.TimelineValueAlignment.LEFT).row_height(0.85)
    panel.merge_values(True).fill_opacity(80).line_width(0)
    panel.legend(common.VizLegendOptions().show_legend(False))
    panel.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.SINGLE).sort(options.SortOrder.NONE))
    panel.color_scheme(_color(palette.PLAIN))
    return _asks(panel, queries, over_time=True)


def bars(about: About, *queries: Query) -> bargauge.Panel:
    """One bar per series."""
    panel = framed(bargauge.Panel(), about).reduce_options(_last()).orientation(options.VizOrientation.HORIZONTAL)
    panel.display_mode(options.BarGaugeDisplayMode.BASIC).value_mode(options.BarGaugeValueMode.COLOR)
    panel.name_placement(options.BarGaugeNamePlacement.LEFT).show_unfilled(True)
    panel.sizing(options.BarGaugeSizing.MANUAL).min_viz_height(14).max_viz_height(24).min_viz_width(8)
    panel.legend(common.VizLegendOptions().show_legend(False))
    panel.color_scheme(_color(palette.GOOD))
    return _asks(panel, queries)


@dataclass(frozen=True, slots=True)
class PanelColumn:
    """A column of a table: the name and the overrides.

    `alarm` is the colour of a number above 0, `link` the target of a click, `width` the width in pixels, `bar` draws a
    bar from 0 to 1.
    """

    name: str
    unit: str | None = None
    decimals: int | None = None
    width: int | None = None
    alarm: str | None = None
    none: str = "?"
    known: bool = False
    texts: Texts = field(default_factory=dict)
    words: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    bar: bool = False
    fill: bool = False
    hidden: bool = False
    link: tuple[str, str] | None = None

    @property
    def properties(self) -> list[model.DynamicConfigValue]:
        """The overrides of the field."""
        found = [property_("unit", self.unit)] if self.unit else []
        decimals = _decimals(self.unit, self.decimals)
        found += [property_("decimals", decimals)] if decimals is not None else []
        found += [property_("custom.width", self.width)] if self.width else []
        if self.alarm:
            steps = [{"color": palette.PLAIN, "value": None}, {"color": self.alarm, "value": 1e-9}]
            found.append(property_("thresholds", {"mode": "absolute", "steps": steps}))
            found.append(property_("color", {"mode": "thresholds"}))
        if self.bar:
            found += [property_("min", 0), property_("max", 1), fixed(palette.GOOD)]
            found.append(
                property_("custom.cellOptions", {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"})
            )
        elif not self.link:
            if not self.alarm:
                found.append(fixed(palette.PLAIN))
            kind = {"type": "color-background", "mode": "basic"} if self.fill else {"type": "color-text"}
            found.append(property_("custom.cellOptions", kind))
        found.append(property_("mappings", self._mappings()))
        found.append(property_("noValue", self.none))
        if self.link:
            title, url = self.link
            found.append(property_("links", [{"title": title, "url": url, "targetBlank": False}]))
        return found

    def _mappings(self) -> list[model.ValueMapping]:
        found = mappings(self.texts, self.none, known=self.known)
        if self.words:
            words = {
                word: model.ValueMappingResult(text=text, color=color, index=index)
                for index, (word, (text, color)) in enumerate(self.words.items())
            }
            found.insert(0, model.ValueMap(words))
        return found


def grid(
    about: About,
    keys: Mapping[str, PanelColumn],
    values: Sequence[tuple[PanelColumn, str]],
    *,
    sort: str | None = None,
    descending: bool = False,
) -> table.Panel:
    """A table: one row per set of the labels `keys`, one column per label and per expression."""
    panel = framed(table.Panel(), about).show_header(True).cell_height(options.TableCellHeight.SM)
    panel.align(options.FieldTextAlignment.AUTO).inspect(False).filterable(False).min_width(60)
    panel.cell_options(options.TableAutoCellOptions())
    refs = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(values)]
    for ref, (_column, expr) in zip(refs, values, strict=True):
        panel.with_target(_target(ref, Query(expr), as_table=True))
    fields = ["Value"] if len(values) == 1 else [f"Value #{ref}" for ref in refs]
    shown = {label: column.name for label, column in keys.items()}
    shown |= {name: column.name for name, (column, _expr) in zip(fields, values, strict=True) if not column.hidden}
    hidden = [name for name in ("Time", "job", *PIPELINE, *fields) if name not in shown]
    panel.with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        model.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(hidden, True),
                "indexByName": {name: index for index, name in enumerate(shown)},
                "renameByName": shown,
            },
        )
    )
    for column in [*keys.values(), *(column for column, _expr in values if not column.hidden)]:
        panel.override_by_name(column.name, column.properties)
    if sort is not None:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(descending)])
    return panel
