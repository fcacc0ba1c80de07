"""The dashboards: what any of Grafana's must be, by published rules, whatever it is about."""

import json
import re
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any, get_args

import promql_parser
import pytest
from dashboards import FILES, FOLDER, Panel, filled, nodes, on_grid, panels, queries, selectors
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard
from promtool import run_tests
from promtool import series as written_series

from exporter.dashboards import judged, palette
from exporter.dashboards.links import RUNBOOKS
from exporter.dashboards.promql import rounded_down, rounded_up
from exporter.model.advice import Dashboard as AlertsLeadTo
from exporter.text.figures import LimitUnit

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
        # A number may draw the time range below itself.
        has_line = content["type"] == "stat" and content["options"]["graphMode"] == "area"
        assert {target["instant"] for target in targets} <= {not is_over_time, not has_line}, panel
        # A hole is news.
        assert defaults.get("custom", {}).get("spanNulls", False) is False, panel


def fields_of(panel: Panel) -> list[tuple[str, str, int | None]]:
    """Of each field that has a unit of its own, and of all others: the name, the unit and the decimals."""
    config = panel.content["fieldConfig"]
    defaults = config["defaults"]
    found = [("", defaults["unit"], defaults.get("decimals"))]
    for override in config["overrides"]:
        own = {one["id"]: one["value"] for one in override["properties"]}
        unit = own.get("unit", defaults["unit"])
        inherited = None if "unit" in own else defaults.get("decimals")
        found.append((override["matcher"]["options"], unit, own.get("decimals", inherited)))
    return found


WORDS = {"none", "dateTimeAsIso", "dateTimeFromNow"}
EVERY_DIGIT = {"locale", "dtdhms"}
"""Counts with all digits, and times to the second: Grafana shortens neither, whatever the decimals."""
FREE_OF_LIMITS = {
    *("Done in", "Migration done in", "Took", "Replica lag", "Scrape duration", "Duration against interval"),
}
"""Estimates and costs, which no limit judges: a rounded time is read more easily."""


def test_every_count_shows_all_its_digits_and_no_view_takes_a_threshold_for_its_value() -> None:
    """`short` writes 1 K for 1,251; `s` writes 2 hours for 90 minutes, and 1.50 days where there is room for 1.5.

    https://grafana.com/docs/grafana/latest/panels-visualizations/configure-standard-options/#unit
    """
    for panel in panels():
        for name, unit, decimals in fields_of(panel):
            where = f"{panel}: {name or 'all fields'}"
            is_free = {name, panel.content["title"]} & FREE_OF_LIMITS

            assert unit in WORDS | EVERY_DIGIT | {"percentunit"} | ({"s"} if is_free else set()), where
            if unit == "percentunit":
                assert decimals == 3, where
            if unit == "locale":
                rates = "rate(" in panel.expressions[0] or "increase(" in panel.expressions[0]
                assert decimals is None or rates or "per hour" in where, where


def test_a_share_is_rounded_to_the_side_on_which_its_limit_is_broken() -> None:
    """Else 0.899996 stands as 90.000 % beside a limit of 90 %, and 0.999999 as the whole."""
    for panel in panels():
        units_of = {name: unit for name, unit, _ in fields_of(panel)}
        renamed = {
            field.removeprefix("Value #"): name
            for one in panel.content.get("transformations", [])
            for field, name in one["options"].get("renameByName", {}).items()
        }
        of_shares = [
            target["expr"]
            for target in panel.content["targets"]
            if units_of.get(renamed.get(target["refId"], ""), units_of[""]) == "percentunit"
        ]

        for expression in of_shares:
            is_reckoned = re.search(r"\s/\s", expression)
            assert not is_reckoned or re.search(r"\b(floor|ceil)\(", expression), panel


def column_of(panel: Panel, name: str) -> float:
    overrides = panel.content["fieldConfig"]["overrides"]
    properties = next(one["properties"] for one in overrides if one["matcher"]["options"] == name)
    return next(one["value"] for one in properties if one["id"] == "custom.width")  # type: ignore[no-any-return]


def test_the_columns_of_limits_hold_the_longest_text_of_their_unit() -> None:
    """A text that does not fit is cut on the left: `36 hours` reads `6 hours`."""
    longest = {"locale": "12,510", "percentunit": "100.000%", "dtdhms": "484 d 23:59:59"}
    tables = [panel for panel in panels() if str(panel).startswith("overview: Limits on ")]

    assert len(tables) == 3
    for panel in tables:
        text = longest[panel.content["fieldConfig"]["defaults"]["unit"]]
        for name in ("Worst", "Warning", "Critical"):
            # Of a threshold: days have two digits at most before they are weeks to whoever sets them.
            letters = len(text) - (name != "Worst" and text.startswith("484"))
            assert column_of(panel, name) >= 6.4 * letters + 16, f"{panel}: {name}"


@pytest.mark.prometheus
def test_what_breaks_a_limit_by_a_hair_is_shown_beyond_the_limit(tmp_path: Path) -> None:
    """0.899996 beside 0.9, 1 h 30 m and a bit beside 90 m; what is at the limit stays there."""
    judged_values = {"conversion_ratio": 0.899996, "gap_ratio": 0.010004, "processing_delay_p95": 5400.2}
    own = {"job": "j", "instance": "i", "database": "d", "pipeline": "p"}
    inputs = [
        {"series": written_series("session_health_limit_value", {**own, "limit": name}), "values": f"{value}x20"}
        for name, value in judged_values.items()
    ]
    shown = {"conversion_ratio": 0.89999, "gap_ratio": 0.01001, "processing_delay_p95": 5401}
    asked: list[dict[str, Any]] = [
        {"expr": f"max ({filled(expr)})", "eval_time": "5m", "exp_samples": [{"value": value}]}
        for name, value in shown.items()
        for expr in (judged.worst(name), judged.values(name))
    ]
    ratios = [name for name in shown if name.endswith("_ratio")]
    asked.append(
        {
            "expr": filled(judged.all_values("ratio")),
            "eval_time": "5m",
            "exp_samples": [
                {
                    "labels": written_series("", {"database": "d", "limit": name, "pipeline": "p"}),
                    "value": shown[name],
                }
                for name in ratios
            ],
        }
    )
    asked += [
        {
            "expr": f"abs({rounded(f'vector({value})')} - {value}) < bool 1e-12",
            "eval_time": "5m",
            "exp_samples": [{"value": 1}],
        }
        for value in (0.0, 0.29, 0.57, 0.9, 0.99999, 1.0, -1.0)
        for rounded in (rounded_down, rounded_up)
    ]

    test = {"interval": "30s", "input_series": inputs, "promql_expr_test": asked}
    assert run_tests(tmp_path, "groups: []", [test]) == ""


@pytest.mark.prometheus
def test_the_last_healthy_moment_is_of_all_chosen_pipelines(tmp_path: Path) -> None:
    [asked] = next(one.expressions for one in panels() if str(one) == "overview: Last healthy")
    own = {"job": "j", "instance": "i", "database": "d", "verdict": "healthy"}
    states = {"ends": "1x10 0x20", "begins": "0x4 1x26"}
    inputs = [
        {"series": written_series("session_health_verdict", {**own, "pipeline": name}), "values": values}
        for name, values in states.items()
    ]
    moments = {"4m": None, "7m": 7, "10m": 10, "25m": 10}
    expected = [
        {
            "expr": filled(asked),
            "eval_time": now,
            "exp_samples": [] if minute is None else [{"value": 1000 * 60 * minute}],
        }
        for now, minute in moments.items()
    ]

    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": expected}
    assert run_tests(tmp_path, "groups: []", [test]) == ""


def test_every_limit_is_in_the_table_of_its_unit() -> None:
    """The tables choose limits by the ends of their names."""
    chosen = {
        unit: re.search(r'limit=~"([^"]+)"', judged.all_standings(unit))[1]  # type: ignore[index]
        for unit in get_args(LimitUnit)
    }

    for limit in judged.LIMITS:
        assert [unit for unit, pattern in chosen.items() if re.fullmatch(pattern, limit.name)] == [limit.unit]


def test_queries_are_short_enough_for_a_reader_and_a_proxy() -> None:
    """A GET of 8,000 bytes is refused by many proxies, and a file of 262,144 bytes by `kubectl apply`.

    https://kubernetes.io/docs/tasks/manage-kubernetes-objects/declarative-config/
    """
    for name in FILES:
        lengths = [len(one) for panel in panels() if panel.dashboard == name for one in panel.expressions]

        assert median(lengths) <= 200, name
        assert max(lengths) <= 700, name
        assert sum(lengths) <= 17_500, name
        assert (FOLDER / f"{name}.json").stat().st_size <= 200_000, name


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
            if anchor == "${__data.fields.Alert}":
                assert {*re.findall(r'<a id="(\w+)">', text)} == {*re.findall(r"\[(SessionHealth\w+)\]", text)}
                continue
            assert anchor in {"", *(heading.lower() for heading in re.findall(r"^## (\w+)", text, re.MULTILINE))}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_canonical_and_of_grafanas_own_model(name: str) -> None:
    """Dashboards as code are generated, reviewed as text, and valid: Grafana's maturity model, and its typed model.

    https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/best-practices/
    https://grafana.github.io/grafana-foundation-sdk/
    """
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    again = json.loads(json.dumps(Dashboard.from_json(FILES[name]), cls=JSONEncoder))

    assert text == json.dumps(FILES[name], indent=1, sort_keys=True, ensure_ascii=False) + "\n"
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
