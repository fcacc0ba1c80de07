"""The dashboards: what any of Grafana's must be, by published rules, whatever it is about."""

import json
import re
from collections import Counter
from typing import Any, get_args

import promql_parser
import pytest
from dashboards import FILES, FOLDER, nodes, on_grid, panels, queries, selectors
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from exporter.dashboards import palette
from exporter.dashboards.links import RUNBOOKS
from exporter.dimension import Dashboard as AlertsLeadTo

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UIDS = {f"session-health-{name}" for name in get_args(AlertsLeadTo)}
"""Addresses that people have bookmarked; alerts lead to them."""


def test_every_panel_has_its_place_and_an_address_of_its_own() -> None:
    """`gridPos` in Grafana's JSON model: 24 columns, no panel on another; no hole: Grafana would close it otherwise.

    https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/#panel-size-and-position
    """
    for name in FILES:
        placed = on_grid(name)
        ids = [panel["id"] for panel in placed]
        covered = Counter(
            (x, y)
            for panel in placed
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        )
        height = max(y for _, y in covered) + 1

        assert len(ids) == len(set(ids))
        assert min(ids) > 0
        assert covered == Counter({(x, y): 1 for x in range(24) for y in range(height)}), name


def test_every_panel_says_what_it_shows_in_what_unit_and_what_nothing_means() -> None:
    """panel-title-description-rule, panel-units-rule, panel-datasource-rule and panel-no-targets-rule of the linter.

    https://github.com/grafana/dashboard-linter/blob/main/docs/index.md
    """
    known = {getattr(units, name) for name in dir(units) if not name.startswith("_")}
    for panel in panels():
        content, targets = panel.content, panel.content["targets"]
        defaults = content["fieldConfig"]["defaults"]
        is_over_time = content["type"] in {"timeseries", "state-timeline"}

        assert content["title"]
        assert len(content["description"]) > 40, panel
        assert defaults["unit"] in known, panel
        assert defaults["noValue"], panel
        assert [one["datasource"] for one in [content, *targets]] == [SOURCE] * (1 + len(targets)), panel
        assert [target["refId"] for target in targets] == sorted({target["refId"] for target in targets}), panel
        assert {target["instant"] for target in targets} == {not is_over_time}, panel
        # A hole is news.
        assert defaults.get("custom", {}).get("spanNulls", False) is False, panel


def test_every_query_is_of_what_the_variables_choose() -> None:
    """target-promql-rule, target-job-rule and target-instance-rule of the linter, and the same of our own labels.

    Alerts may be of no instance and no pipeline, so that theirs may be empty; one query asks for no alert of ours.
    https://github.com/grafana/dashboard-linter/blob/main/docs/index.md
    """
    for where, expression in queries():
        for selector in selectors(expression):
            values = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            chosen = {name for name, value in values.items() if value.removesuffix("|") == f"${name}"}
            name = selector.name or values["__name__"]
            is_of_pipeline = name.startswith("session_health_") and not re.search("_exporter_|_config_", name)
            needed = {"job", "instance", *({"database", "pipeline"} if is_of_pipeline else ())}

            if "variable" not in where and values.get("alertname") != "SessionHealthWatchdog":
                assert needed <= chosen, f"{where}: {selector.prettify()}"
            assert "record" not in values or "record" in chosen, f"{where}: {selector.prettify()}"


def test_counters_are_rated_and_gauges_are_not() -> None:
    """target-counter-agg-rule and target-rate-interval-rule of the linter.

    https://github.com/grafana/dashboard-linter/blob/main/docs/index.md
    """
    for where, expression in queries():
        calls = [node for node in nodes(expression) if isinstance(node, promql_parser.Call)]
        rated = [node.args[0].vector_selector.name for node in calls if node.func.name in {"rate", "irate", "increase"}]

        assert rated == [one.name for one in selectors(expression) if (one.name or "").endswith("_total")], where
        assert len(rated) == expression.count("[$__rate_interval]"), where


@pytest.mark.parametrize("name", FILES)
def test_every_dashboard_has_the_same_chained_variables(name: str) -> None:
    """template-datasource-rule, -job-rule, -instance-rule and -on-time-change-reload-rule of the linter.

    https://github.com/grafana/dashboard-linter/blob/main/docs/index.md
    """
    source, *asked = FILES[name]["templating"]["list"]
    names = [variable["name"] for variable in asked]

    assert (source["name"], source["label"], source["query"]) == ("datasource", "Data source", "prometheus")
    assert names == ["job", "instance", "database", "pipeline", "record"]
    for position, variable in enumerate(asked):
        assert variable["label"] == variable["name"].capitalize()
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".+")
        assert (variable["refresh"], variable["datasource"]) == (2, SOURCE)
        assert re.findall(r"\$(\w+)", variable["query"]) == names[:position]


def _links(content: Any) -> list[str]:
    """Every address in a dashboard, wherever it is."""
    if isinstance(content, dict):
        own = [content["url"]] if isinstance(content.get("url"), str) else []
        return own + [url for value in content.values() for url in _links(value)]
    return [url for value in content for url in _links(value)] if isinstance(content, list) else []


@pytest.mark.parametrize("name", FILES)
def test_addresses_are_stable_and_links_lead_somewhere(name: str) -> None:
    """Stable uids, one tag, links that keep variables and time: kubernetes-mixin's conventions; uneditable-dashboard.

    https://github.com/kubernetes-monitoring/kubernetes-mixin/blob/master/config.libsonnet
    https://github.com/grafana/dashboard-linter/blob/main/docs/index.md
    """
    content = FILES[name]
    by_tag, *_ = content["links"]
    variables = {variable["name"] for variable in content["templating"]["list"]}

    assert content["uid"] == f"session-health-{name}"
    assert {one["uid"] for one in FILES.values()} == UIDS
    assert content["title"].startswith("Session health / ")
    assert content["tags"] == ["session-health", name]
    assert (by_tag["tags"], by_tag["includeVars"], by_tag["keepTime"]) == (["session-health"], True, True)
    assert (content["editable"], content["timezone"], "id" in content) == (False, "browser", False)
    for url in _links(content):
        if url.startswith("/d/"):
            uid, _, query = url.removeprefix("/d/").partition("?")
            assert uid in UIDS
            assert "${__url_time_range}" in query
            assert {*re.findall(r"\$\{(\w+):queryparam\}", query), *re.findall(r"var-(\w+)=", query)} <= variables
        else:
            page, _, anchor = url.removeprefix(f"{RUNBOOKS}/").partition("#")
            text = (FOLDER.parents[1] / "docs" / "runbooks" / page).read_text(encoding="utf-8")
            assert anchor in {"", *(heading.lower() for heading in re.findall(r"^## (\w+)", text, re.MULTILINE))}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_canonical_and_of_grafanas_own_model(name: str) -> None:
    """Dashboards as code are generated, reviewed as text, and valid: Grafana's maturity model, and its typed model.

    https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/best-practices/
    https://grafana.github.io/grafana-foundation-sdk/
    """
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    again = json.loads(json.dumps(Dashboard.from_json(FILES[name]), cls=JSONEncoder))

    assert text == json.dumps(FILES[name], indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert _lost(FILES[name], again) == []


def _lost(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """The keys that Grafana's model does not know."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        gone = [f"{path}.{key}" for key in ours.keys() - theirs.keys()]
        return gone + [
            one for key in ours.keys() & theirs.keys() for one in _lost(ours[key], theirs[key], f"{path}.{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [one for index, pair in pairs for one in _lost(*pair, f"{path}[{index}]")]
    return []


def test_no_state_is_told_by_green_against_red() -> None:
    """Grafana's best practices: blue means good, red means bad, for those who cannot tell green from red.

    https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/best-practices/
    """
    colors = {
        color
        for panel in panels()
        for color in re.findall(r'"(?:color|fixedColor)": "([^"]+)"', json.dumps(panel.content))
    }

    assert {re.sub(r"^(semi-dark|dark|light|super-light)-", "", color) for color in colors} == {
        palette.NOTHING,
        palette.UNKNOWN_GROUND,
        "blue",
        "orange",
        "purple",
        "red",
        "text",
        "yellow",
    }
    assert not [panel for panel in panels() if "palette" in json.dumps(panel.content)]
