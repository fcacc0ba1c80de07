"""Panels -> a dashboard as canonical JSON: the places of panels, and the common parts of all dashboards.

The classic model (schema 42): every Grafana from 10 on imports and provisions the file unchanged.
https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from exporter.dashboards import palette
from exporter.dashboards.links import ALL_RUNBOOKS, TAG
from exporter.dashboards.panels import SOURCE, Panel
from exporter.dashboards.promql import latest
from exporter.model.alert_names import ALERT_PREFIX
from exporter.state.self_metrics import BUILD_INFO, RECORD_UP, RELOAD_SUCCESS_TIME, UP

COLUMNS: Final = 24
"""Columns of the grid of panels; a row of the grid is 38 pixels high."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A panel and the size on the grid."""

    panel: Panel
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Section:
    """Panels below a heading with the id `id`; the first section of a page has no heading.

    With `repeat` the section is repeated for each value of the variable.  A `folded` section opens with a click.
    """

    tiles: Sequence[Tile]
    title: str | None = None
    id: int = 0
    repeat: str | None = None
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A dashboard: the address, the questions, and the sections from top to bottom."""

    uid: str
    subject: str
    answers: str
    sections: Sequence[Section]

    @property
    def text(self) -> str:
        """The file: sorted keys, two spaces, a line end."""
        return json.dumps(self._content(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def _content(self) -> dict[str, Any]:
        built = (
            dashboard.Dashboard(f"Session health / {self.subject}")
            .uid(self.uid)
            .description(self.answers)
            .tags([TAG, self.subject.split()[0].lower()])
            .readonly()
            .timezone("browser")
            .time("now-6h", "now")
            .refresh("1m")
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .variables(_variables())
            .annotations(_annotations())
            .links(_links())
            .build()
        )
        content: dict[str, Any] = json.loads(json.dumps(built, cls=JSONEncoder))
        for link in content["links"]:
            del link["placement"]  # The model's only one folds the link away.
        for variable in content["templating"]["list"]:
            for name in ("auto", "auto_min", "auto_count"):  # Of variables that are intervals.
                del variable[name]
        return content | {"panels": _placed(self.sections)}


def _placed(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """The panels with places: each as far up, then as far left, as possible below the heading."""
    placed: list[dict[str, Any]] = []
    top = 0
    for section in sections:
        inner: list[dict[str, Any]] = []
        if section.title is not None:
            place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
            folded = {"collapsed": section.folded, "panels": inner if section.folded else []}
            heading = {"type": "row", "id": section.id, "title": section.title, **folded}
            repeat = {"repeat": section.repeat} if section.repeat else {}
            placed.append({**heading, **repeat, "gridPos": place})
            top += 1
        heights = [top] * COLUMNS
        for tile in section.tiles:
            starts = range(COLUMNS - tile.width + 1)
            y, x = min((max(heights[start : start + tile.width]), start) for start in starts)
            heights[x : x + tile.width] = [y + tile.height] * tile.width
            panel = json.loads(json.dumps(tile.panel.build(), cls=JSONEncoder))
            panel["options"].pop("footer", None)  # Of tables before Grafana 12.
            row = inner if section.folded else placed
            row.append(panel | {"gridPos": {"x": x, "y": y, "w": tile.width, "h": tile.height}})
        top = max(heights)
    return placed


def _variables() -> list[Builder[model.VariableModel]]:
    """The choice of a variable is limited by the variables before."""
    metrics = {"job": BUILD_INFO, "instance": BUILD_INFO, "database": UP, "pipeline": UP, "record": RECORD_UP}
    chosen: list[str] = []
    asked = {}
    for name, metric in metrics.items():
        series = f"{metric.full_name}{{{', '.join(chosen)}}}" if chosen else metric.full_name
        asked[name] = f"label_values({series}, {name})"
        chosen.append(f'{name}=~"${name}"')
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        *(
            dashboard.QueryVariable(name)
            .label(name.capitalize())
            .datasource(SOURCE)
            .query(query)
            .definition(query)
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".+")
            .current(model.VariableOption(selected=True, text="All", value="$__all"))
            for name, query in asked.items()
        ),
    ]


ALERTS: Final = (
    'job=~"$job|", instance=~"$instance|", database=~"$database|", pipeline=~"$pipeline|", '
    f'alertname=~"{ALERT_PREFIX}.+", alertname!="{ALERT_PREFIX}Watchdog"'
)
"""The alerts about the chosen targets and pipelines; some alerts have no pipeline."""

WATCHDOG: Final = f'ALERTS{{alertname="{ALERT_PREFIX}Watchdog", alertstate="firing"}}'
"""Always fires if the rules are loaded."""


def _annotations() -> list[Builder[model.AnnotationQuery]]:
    """The starts of alerts, and the reads of the config.  Grafana draws the last on top: critical over warning."""

    def firing(severity: str, offset: str = "") -> str:
        alerts = f'ALERTS{{{ALERTS}, alertstate="firing", severity="{severity}"}}{offset}'
        return f"max by (alertname, database, pipeline, record, check) ({alerts})"

    began: list[Builder[model.AnnotationQuery]] = [
        dashboard.AnnotationQuery()
        .name(f"Alerts: {severity}")
        .datasource(SOURCE)
        .enable(True)
        .icon_color(color)
        .expr(f"{firing(severity)} unless {firing(severity, ' offset 1m')}")
        .title_format("{{alertname}}")
        .text_format("{{pipeline}} {{record}}{{check}}")
        .tag_keys("database,pipeline")
        .step("60s")
        for severity, color in reversed(palette.SEVERITIES.items())
    ]
    started = (
        dashboard.AnnotationQuery()
        .name("Config read")
        .datasource(SOURCE)
        .enable(False)
        .icon_color(palette.GOOD)
        .expr(f"1000 * {latest(RELOAD_SUCCESS_TIME)}")
        .title_format("The exporter read the config")
        .text_format("at the start or at a reload")
        .use_value_for_time(True)
        .step("60s")
    )
    return [*began, started]


def _links() -> list[Builder[model.DashboardLink]]:
    return [
        dashboard.DashboardLink("Session health")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True),
        dashboard.DashboardLink("Runbooks")
        .type(model.DashboardLinkType.LINK)
        .icon("doc")
        .url(ALL_RUNBOOKS)
        .target_blank(True),
    ]
