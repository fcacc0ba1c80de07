"""The rules for Grafana's own alerting: the published schema, the alerts of Prometheus, and what the queries find."""

import inspect
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import jsonschema
import pytest
import yaml
from grafana_foundation_sdk.models import alerting, expr, prometheus
from promtool import PIPELINE, ROUND, TARGET, WHOSE, Values, at_round, run_tests, series, written
from test_alerts_on_limits import CLAIMS, Claim, beside
from test_alerts_on_the_exporter import FINE, but
from tools import NEWER_SUITE

from exporter.dimensions import DIMENSIONS
from exporter.rules.formats import as_grafana, as_prometheus
from exporter.rules.groups import groups
from exporter.rules.settings import RuleSettings

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "grafana" / "provisioning" / "alerting" / "session-health.yaml"
MADE: Final[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
RULES: Final[list[dict[str, Any]]] = [rule for group in MADE["groups"] for rule in group["rules"]]
BY_TITLE: Final = {rule["title"]: rule for rule in RULES}
EXAMPLE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "grafana" / "contact-points.example.yaml").read_text())


def test_the_file_is_fresh() -> None:
    """As `make check` says of every generated file."""
    assert FILE.read_text(encoding="utf-8").split("\n", 2)[2] == as_grafana(DIMENSIONS, RuleSettings())


# --- The schema

_TEXTS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_DURATION: Final = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}


def literals(model: type, field: str) -> list[str]:
    """The values that Grafana's published model allows."""
    return list(get_args(get_type_hints(model, vars(alerting))[field]))


SCHEMA: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "groups"],
    "properties": {"apiVersion": {"const": 1}, "groups": {"type": "array", "items": {"$ref": "#/$defs/group"}}},
    "$defs": {
        "group": {
            "type": "object",
            "additionalProperties": False,
            "required": ["orgId", "name", "folder", "interval", "rules"],
            "properties": {
                "orgId": {"type": "integer"},
                "name": {"type": "string"},
                "folder": {"type": "string"},
                "interval": {"type": "string", "pattern": r"^\d*0s$"},
                "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
            },
        },
        "rule": {
            "type": "object",
            "additionalProperties": False,
            "required": ["uid", "title", "condition", "data", "for", "noDataState", "execErrState"],
            "properties": {
                "uid": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,40}$"},
                "title": {"type": "string", "maxLength": 190},
                "condition": {"type": "string"},
                "data": {"type": "array", "items": {"$ref": "#/$defs/query"}},
                "noDataState": {"enum": literals(alerting.Rule, "no_data_state")},
                "execErrState": {"enum": literals(alerting.Rule, "exec_err_state")},
                "for": _DURATION,
                "keepFiringFor": _DURATION,
                "missing_series_evals_to_resolve": {"type": "integer", "minimum": 1},
                "annotations": _TEXTS,
                "labels": _TEXTS,
                "isPaused": {"type": "boolean"},
            },
        },
        "query": {
            "type": "object",
            "additionalProperties": False,
            "required": ["refId", "datasourceUid", "relativeTimeRange", "model"],
            "properties": {
                "refId": {"type": "string"},
                "datasourceUid": {"type": "string"},
                "relativeTimeRange": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"from": {"type": "integer"}, "to": {"type": "integer"}},
                },
                "model": {"type": "object"},
            },
        },
    },
}
"""What Grafana reads from a provisioning file.

https://github.com/grafana/grafana/blob/main/pkg/services/provisioning/alerting/rules_types.go
https://grafana.com/docs/grafana/latest/alerting/set-up/provision-alerting-resources/file-provisioning/
"""


def as_json(value: Any) -> Any:
    """A model of Grafana as data."""
    return json.loads(json.dumps(value, default=lambda model: model.to_json()))


def test_grafana_takes_the_file() -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(MADE)

    for known in (title.casefold() for title in ("noDataState", "execErrState", "keepFiringFor", "isPaused")):
        assert known in {name.replace("_", "") for name in inspect.signature(alerting.Rule).parameters}


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["title"]) for rule in RULES])
def test_queries_and_conditions_are_models_of_grafana(rule: dict[str, Any]) -> None:
    *queries, condition = rule["data"]
    for query in queries:
        assert as_json(prometheus.Dataquery.from_json(query["model"])) == query["model"]
        assert query["datasourceUid"] == query["model"]["datasource"]["uid"] == "session-health-prometheus"
        assert query["refId"] == query["model"]["refId"]
        # Grafana alerts on instant queries without a reduction.
        assert (query["model"]["instant"], query["model"]["range"]) == (True, False)
    assert as_json(expr.TypeThreshold.from_json(condition["model"])) == condition["model"]
    assert (condition["datasourceUid"], condition["refId"]) == ("__expr__", rule["condition"])
    assert condition["model"]["expression"] == queries[0]["refId"]


def test_ids_and_titles_are_unique_and_the_folder_is_that_of_the_dashboards() -> None:
    provider = yaml.safe_load((ROOT / "grafana" / "provisioning" / "dashboards" / "session-health.yaml").read_text())
    [source] = yaml.safe_load((ROOT / "grafana" / "provisioning" / "datasources" / "session-health.yaml").read_text())[
        "datasources"
    ]

    assert len({rule["uid"] for rule in RULES}) == len(BY_TITLE) == len(RULES)
    assert {group["folder"] for group in MADE["groups"]} == {provider["providers"][0]["folder"]}
    assert source["uid"] == RuleSettings().datasource
    # Grafana refuses to start with a file that it cannot read.
    assert [path.suffix for path in FILE.parent.iterdir()] == [".yaml"]


# --- The same alerts

_UNQUERIED: Final = re.compile(r"\{\{ with printf .*\{\{ end \}\}(?=\.$)")


def of_prometheus() -> Iterator[tuple[str, dict[str, Any]]]:
    """The alerts of Prometheus, by the title in Grafana."""
    found = yaml.safe_load(as_prometheus(groups(DIMENSIONS, RuleSettings())))["groups"]
    seen: set[str] = set()
    for rule in (rule for group in found for rule in group["rules"] if "alert" in rule):
        yield rule["alert"] + (rule["labels"]["severity"].capitalize() if rule["alert"] in seen else ""), rule
        seen.add(rule["alert"])


def test_every_alert_is_there_with_its_times_labels_and_texts_but_the_heartbeat() -> None:
    expected = dict(of_prometheus())
    assert expected.pop("SessionHealthWatchdog")
    assert BY_TITLE.keys() == expected.keys()
    for title, theirs in expected.items():
        ours = BY_TITLE[title]
        assert ours["for"] == theirs["for"]
        assert ours.get("keepFiringFor") == theirs.get("keep_firing_for")
        assert ours["labels"] == theirs.get("labels", {})
        said, written_there = dict(ours["annotations"]), dict(theirs["annotations"])
        description = said.pop("description").replace("$values.A.Value", "$value")
        # Up to what Prometheus asks for within the text.
        assert description.startswith(written_there.pop("description").partition("{{ with printf")[0])
        assert said == written_there


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["title"]) for rule in RULES])
def test_no_rule_needs_a_ruler_or_a_query_in_a_text(rule: dict[str, Any]) -> None:
    """Grafana evaluates without recorded series, and its templates have no `query`.

    https://grafana.com/docs/grafana/latest/alerting/alerting-rules/templates/reference/
    """
    asked = " ".join(query["model"].get("expr", "") for query in rule["data"])
    texts = " ".join(rule["annotations"].values())

    assert not re.search(r"\bALERTS\b|\b(pipeline|limit):", asked)
    assert not re.search(r"\| query\b|\$value\b|\$externalLabels|\$\{", texts)
    known = {query["refId"] for query in rule["data"]}
    assert set(re.findall(r"\$values\.(\w+)\.Value", texts)) <= known


@pytest.mark.prometheus
def test_the_texts_are_templates(tmp_path: Path) -> None:
    """Grafana's engine is that of Prometheus, with other variables."""
    rules = [
        {
            "alert": rule["title"],
            "expr": fires(rule),
            "annotations": {
                name: re.sub(r"\$values\.\w+\.Value", "$value", text) for name, text in rule["annotations"].items()
            },
        }
        for rule in RULES
    ]

    assert (
        run_tests(tmp_path, json.dumps({"groups": [{"name": "grafana", "rules": rules}]}), [{"input_series": []}]) == ""
    )


@pytest.mark.parametrize("rule", [pytest.param(rule, id=rule["title"]) for rule in RULES])
def test_missing_data_resolves_no_alert_on_data_and_an_unreachable_prometheus_is_told_once(
    rule: dict[str, Any],
) -> None:
    is_on_data = rule["labels"] == {}
    assert rule["noDataState"] == ("KeepLast" if is_on_data else "OK")
    # As long as Prometheus' rules know the last value: 70 minutes.
    assert rule.get("missing_series_evals_to_resolve") == (140 if is_on_data else None)
    assert rule["execErrState"] == ("Alerting" if rule["title"] == "SessionHealthExporterAbsent" else "KeepLast")


@pytest.mark.parametrize(
    ("interval", "paused", "evaluations"),
    [("30s", "30s", 140), ("15s", "20s", 105), ("700ms", "10s", 10), ("5m", "300s", 140), ("1h", "3600s", 140)],
)
def test_evaluations_are_multiples_of_ten_seconds(interval: str, paused: str, evaluations: int) -> None:
    """Grafana's scheduler ticks every 10 s."""
    units = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1), "m": timedelta(minutes=1)}
    number, unit = re.fullmatch(r"(\d+)(\w+)", interval).groups()  # type: ignore[union-attr]
    at = RuleSettings(interval=int(number) * units.get(unit, timedelta(hours=1)))

    found = yaml.safe_load(as_grafana(DIMENSIONS, at))["groups"]

    assert {group["interval"] for group in found} == {paused}
    assert found[0]["rules"][0]["missing_series_evals_to_resolve"] == evaluations


# --- What the queries find


def fires(rule: dict[str, Any]) -> str:
    """PromQL: the series for which the condition of a rule holds."""
    query, *_, condition = rule["data"]
    [check] = condition["model"]["conditions"]
    assert check["evaluator"]["type"] == "gt"
    return f"({query['model']['expr']}) > {check['evaluator']['params'][0]}"


def standby(inputs: list[dict[str, str]]) -> list[dict[str, str]]:
    """The series of the other exporter of a pair."""
    other = TARGET["instance"].replace("exporter", "standby")
    return [{**one, "series": one["series"].replace(TARGET["instance"], other)} for one in inputs]


def pair(inputs: list[dict[str, str]]) -> list[dict[str, str]]:
    """The series of two exporters."""
    return [*inputs, *standby(inputs)]


def asked(name: str, inputs: list[dict[str, str]], *expected: tuple[str, dict[str, float]]) -> dict[str, Any]:
    """A test of promtool: expressions and their answers, ten minutes on."""
    return {
        "name": name,
        "interval": at_round(ROUND),
        "input_series": inputs,
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": at_round(20 * ROUND - 10),
                "exp_samples": [{"labels": labels, "value": value} for labels, value in answer.items()],
            }
            for expression, answer in expected
        ],
    }


EMPTY: Final = json.dumps({"groups": []})
SPAN: Final = 20 * ROUND


def answers(claim: Claim) -> Iterator[dict[str, Any]]:
    """Within the limit, between the thresholds, beyond both, and withdrawn: who fires, with the threshold."""
    rule = BY_TITLE[claim.alert]
    broken = dict(zip(claim.values, ([], ["warning"], ["warning", "critical"]), strict=True))
    bounds = dict(zip(("warning", "critical"), claim.bounds, strict=True))
    labels = {
        severity: series("", {**WHOSE, **claim.about, "limit": claim.limit, "severity": severity})
        for severity in bounds
    }
    threshold = rule["data"][1]["model"]["expr"]
    for value, severities in broken.items():
        inputs = pair(written([([*claim.at(value), *beside(claim)], SPAN)]))
        firing = f"count by (severity) ({fires(rule)})"
        yield asked(
            f"{claim.limit}: {value}",
            inputs,
            (firing, {series("", {"severity": severity}): 1 for severity in severities}),
            # All labels of the alert, and none of an exporter.
            (f"({fires(rule)}) * 0", {labels[severity]: 0 for severity in severities}),
            # The text has the threshold under the same labels.
            (f"({threshold}) and ({fires(rule)})", {labels[severity]: bounds[severity] for severity in severities}),
        )
    gone = written([([*claim.at(claim.values[2]), *beside(claim)], ROUND), (beside(claim, measured=False), SPAN)])
    yield asked(f"{claim.limit}: withdrawn", gone, (fires(rule), {}), (rule["data"][0]["model"]["expr"], {}))


PAGES: Final = sorted({claim.page for claim in CLAIMS})


@pytest.mark.prometheus
@pytest.mark.parametrize("suite", [None, NEWER_SUITE], ids=["own", NEWER_SUITE])
@pytest.mark.parametrize("page", PAGES)
def test_a_rule_fires_exactly_where_its_limit_is_broken(tmp_path: Path, page: str, suite: str | None) -> None:
    tests = [test for claim in CLAIMS if claim.page == page for test in answers(claim)]

    assert run_tests(tmp_path, EMPTY, tests, suite) == ""


@pytest.mark.prometheus
def test_the_number_in_the_text_is_the_judged_value_and_within_a_limit_it_is_below_all_numbers(tmp_path: Path) -> None:
    [claim] = [claim for claim in CLAIMS if claim.limit == "sessions_with_gap"]
    own = {**WHOSE, "limit": claim.limit}
    query = BY_TITLE[claim.alert]["data"][0]["model"]["expr"]
    tests = [
        asked(
            f"{value}",
            pair(written([([*claim.at(value), *beside(claim)], SPAN)])),
            (query, {series("", {**own, "severity": name}): number for name, number in shown.items()}),
        )
        for value, shown in ((20, {"warning": 20, "critical": -1}), (39, {"warning": 39, "critical": 39}))
    ]

    assert run_tests(tmp_path, EMPTY, tests) == ""


@pytest.mark.prometheus
def test_the_labels_of_a_pipeline_are_labels_of_the_alert_and_the_text_keeps_its_threshold(tmp_path: Path) -> None:
    [claim] = [claim for claim in CLAIMS if claim.limit == "outdated_sessions"]
    rule = BY_TITLE[claim.alert]
    inputs = [
        {
            **one,
            "series": re.sub(
                r"^(session_health_limit(?:_value|_broken)?\{)", r'\1owner="data",tier="gold",', one["series"]
            ),
        }
        for one in written([([*claim.at(claim.values[2]), *beside(claim)], SPAN)])
    ]
    own = {**WHOSE, **claim.about, "limit": claim.limit, "owner": "data", "tier": "gold"}
    labels = [series("", {**own, "severity": severity}) for severity in ("warning", "critical")]
    threshold = rule["data"][1]["model"]["expr"]
    test = asked(
        "owned",
        pair(inputs),
        (f"({fires(rule)}) * 0", dict.fromkeys(labels, 0)),
        (threshold, dict(zip(labels, claim.bounds, strict=True))),
    )

    assert run_tests(tmp_path, EMPTY, [test]) == ""


UP: Final = {"series": series("up", TARGET), "values": "1x40"}
RELOADED: Final = {"series": series("session_health_config_last_reload_successful", TARGET), "values": "1x40"}


def verdict(name: str, *, up: float = 1) -> Values:
    return but(("verdict", {"verdict": name}, 1), ("verdict", {"verdict": "healthy"}, 0), ("up", {}, up))


SITUATIONS: Final[dict[str, tuple[list[dict[str, str]], set[str]]]] = {
    "all is fine": ([UP, RELOADED, *written([(FINE, SPAN)])], set()),
    "judged as unknown": ([UP, RELOADED, *written([(verdict("unknown"), SPAN)])], {"Unknown", "UnknownCritical"}),
    "a failing collection is one cause": (
        [UP, RELOADED, *written([(verdict("unknown", up=0), SPAN)])],
        {"CollectionFailing", "CollectionFailingCritical"},
    ),
    "one exporter of a pair fails": (
        [*pair([UP, RELOADED]), *written([(FINE, SPAN)]), *standby(written([(but(("up", {}, 0)), SPAN)]))],
        {"CollectionFailing", "CollectionFailingCritical"},
    ),
    "stale": (
        [UP, RELOADED, *written([(but(("last_success_timestamp_seconds", {}, 400)), SPAN)])],
        {"ValuesStale"},
    ),
    "no data": ([UP, RELOADED, *written([(verdict("no_data"), SPAN)])], {"NoData"}),
    "a target is down": (
        [{**UP, "values": "0x40"}, *pair([RELOADED, *written([(FINE, SPAN)])])],
        {"TargetDown"},
    ),
    "scrapes fail": (
        [{**UP, "values": "1 0 " * 11}, RELOADED, *written([(FINE, SPAN)])],
        {"ScrapesFailing"},
    ),
    "no exporter": ([UP], {"ExporterAbsent"}),
    "a rejected config": ([UP, {**RELOADED, "values": "0x40"}, *written([(FINE, SPAN)])], {"ConfigReloadFailed"}),
    "a pipeline leaves": (
        [
            UP,
            RELOADED,
            *written([(FINE, SPAN)]),
            {
                "series": series("session_health_collection_interval_seconds", {**PIPELINE, "pipeline": "orders"}),
                "values": "30x5 stale",
            },
        ],
        {"PipelineAbsent", "PipelineAbsentCritical"},
    ),
}


@pytest.mark.prometheus
@pytest.mark.parametrize("suite", [None, NEWER_SUITE], ids=["own", NEWER_SUITE])
def test_the_alerts_about_the_exporter_find_their_cause_and_no_other(tmp_path: Path, suite: str | None) -> None:
    own = {title: rule for title, rule in BY_TITLE.items() if rule["labels"]}
    tests = [
        asked(
            name,
            inputs,
            *(
                (f"count({fires(rule)})", {"{}": 1.0} if title.removeprefix("SessionHealth") in found else {})
                for title, rule in own.items()
            ),
        )
        for name, (inputs, found) in SITUATIONS.items()
    ]

    assert run_tests(tmp_path, EMPTY, tests, suite) == ""
    told = set().union(*(found for _, found in SITUATIONS.values()))
    assert {f"SessionHealth{name}" for name in told} == own.keys()


# --- Who is told


def test_the_example_of_contact_points_is_one_that_grafana_takes() -> None:
    """https://github.com/grafana/grafana/blob/main/pkg/services/provisioning/alerting/contact_point_types.go."""
    assert EXAMPLE.keys() == {"apiVersion", "contactPoints", "policies"}
    for point in EXAMPLE["contactPoints"]:
        assert point.keys() == {"orgId", "name", "receivers"}
        for receiver in point["receivers"]:
            model = alerting.ContactPoint.from_json(receiver)
            assert as_json(model) == receiver
            assert model.type_val in literals(alerting.ContactPoint, "type_val")
    for policy in EXAMPLE["policies"]:
        tree = {name: value for name, value in policy.items() if name != "orgId"}
        assert as_json(alerting.NotificationPolicy.from_json(tree)) == tree


def test_the_example_has_no_address_and_no_key() -> None:
    secret = ("integrationKey", "url", "addresses")
    settings = [receiver["settings"] for point in EXAMPLE["contactPoints"] for receiver in point["receivers"]]

    found = [value for one in settings for name, value in one.items() if name in secret]
    assert len(found) == len(settings)
    assert all(re.fullmatch(r"\$SESSION_HEALTH_[A-Z_]+", value) for value in found)
    # Elsewhere a $ would be read as a variable of the environment.
    others = [value for one in settings for name, value in one.items() if name not in secret]
    assert not [value for value in others if "$" in value]


def test_who_is_told_when_is_as_in_alertmanager() -> None:
    routes = yaml.safe_load((ROOT / "alerts" / "alertmanager.yml").read_text())["route"]["routes"]
    [ours] = EXAMPLE["policies"][0]["routes"]
    [critical] = ours["routes"]
    times = ("group_wait", "group_interval", "repeat_interval")
    theirs = {route["receiver"]: {name: route.get(name) for name in times} for route in routes[0]["routes"]}

    assert ours["group_by"] == routes[0]["group_by"]
    assert {name: ours[name] for name in times} == theirs["tickets"]
    assert {name: critical[name] for name in times} == theirs["pager"]
    names = {point["name"] for point in EXAMPLE["contactPoints"]}
    assert {ours["receiver"], critical["receiver"], EXAMPLE["policies"][0]["receiver"]} == names
    assert [*ours["object_matchers"], *critical["object_matchers"]] == [
        ["grafana_folder", "=", MADE["groups"][0]["folder"]],
        ["severity", "=", "critical"],
    ]
