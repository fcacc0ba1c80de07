"""Invariants of the rules, each from a published convention."""

import json
import re
import shlex
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from conftest import Database, whole_tour
from prometheus_client.parser import text_string_to_metric_families
from tools import NEWER_SUITE, find_tool
from waiting import at_most

from exporter import cli
from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import initial_status
from exporter.present.exposition import page
from exporter.rules.formats import as_prometheus
from exporter.rules.groups import groups
from exporter.rules.settings import RuleSettings
from exporter.state.board import Board, ReloadStatus
from exporter.state.snapshot import Collection

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "alerts"
GROUPS: list[dict[str, Any]] = yaml.safe_load((ALERTS / "rules.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
OURS = [rule for rule in RULES if "alert" in rule]


def named(rules: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(rule, id=f"{rule['alert']}-{severity_of(rule)}") for rule in rules]


def severity_of(rule: dict[str, Any]) -> str:
    """The severity; of a limit the series have it."""
    return str(rule.get("labels", {}).get("severity", "limit"))


@pytest.mark.prometheus
@pytest.mark.parametrize("suite", [None, NEWER_SUITE], ids=["own", NEWER_SUITE])
def test_promtool_accepts_the_rules_and_lints_them_clean(suite: str | None) -> None:
    """Prometheus' own linter: prometheus.io/docs/prometheus/latest/command-line/promtool."""
    command = [str(find_tool("promtool", suite)), "check", "rules", "--lint=all", "--lint-fatal", "alerts/rules.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=at_most(60))

    assert (done.returncode, f"SUCCESS: {len(RULES)} rules found" in done.stdout) == (0, True), done.stderr


def test_names_are_camel_case_begin_alike_and_groups_are_short() -> None:
    """Mixtool's linter: alert-name-camelcase, alert-name-length, alert-group-rule-count, alert-group-name-length."""
    for rule in OURS:
        assert re.fullmatch(r"SessionHealth([A-Z]+[a-z0-9]+)+", rule["alert"])
        assert len(rule["alert"]) <= 40
    for group in GROUPS:
        assert len(group["rules"]) <= 20
        assert len(group["name"]) <= 40
    assert len({group["name"] for group in GROUPS}) == len(GROUPS)


@pytest.mark.parametrize("rule", named(OURS))
def test_every_alert_says_what_how_urgent_what_to_type_and_where_to_look(rule: dict[str, Any]) -> None:
    """monitoring.mixins.dev, guidelines for alert names, labels and annotations; mixtool's linter."""
    says = rule["annotations"]
    assert severity_of(rule) in ("critical", "warning", "info", "none", "limit")
    assert set(rule.get("labels", {})) <= {"severity"}
    assert re.fullmatch(r"[A-Z][^{}]*\.", says["summary"])
    assert list(says) == ["summary", "description", "command", "runbook_url", "dashboard_url"]
    if severity_of(rule) != "none":
        assert re.search(r"\{\{ \$labels\.\w+ \}\}", says["description"])
    # A number is never shown as it comes.
    assert "$value }}" not in says["description"]


@pytest.mark.parametrize("rule", named([rule for rule in OURS if severity_of(rule) != "none"]))
def test_every_alert_waits_compares_and_looks_at_our_job_alone(rule: dict[str, Any]) -> None:
    """pint: alerts/comparison, alerts/for; monitoring.mixins.dev: a selector of the job in every expression.

    prometheus.io/docs/prometheus/latest/configuration/alerting_rules: keep_firing_for, against what flaps.
    """
    assert rule["for"]
    assert rule.get("keep_firing_for") == ("10m" if "limit=" in rule["expr"] else None)
    # Only broken limits and faults are recorded.
    assert re.search(r"[<>]|==|^absent|\nunless |_value:broken\{|_fault:kept\{", rule["expr"])
    selectors = re.findall(r"\b((?:pipeline:|limit:)?(?:session_health_[a-z0-9_:]+|up))(\{[^}]*\})?", rule["expr"])
    assert selectors
    assert all(matchers.startswith('{job="session-health"') for _, matchers in selectors)
    assert "$value" not in json.dumps(rule.get("labels", {}))


def test_every_threshold_is_a_limit_of_the_config() -> None:
    """prometheus.io/docs/practices/alerting asks for few and simple alerts; ours hold no number to be tuned."""
    of_data = [
        rule for rule in OURS if rule["annotations"]["runbook_url"].partition(".md")[0].endswith("exporter") is False
    ]

    assert len(of_data) == len([limit for dimension in DIMENSIONS for limit in dimension.limits])
    for rule in of_data:
        assert re.fullmatch(r'[a-z_:]+\{job="session-health",limit="\w+"\}', rule["expr"])


def test_every_expression_is_short_enough_to_be_read() -> None:
    """An alert on data is one selector; what all alerts share is recorded in a few lines."""
    passing = RuleSettings().but_passing().strip("()")
    recorded = [rule["expr"].replace(passing, "…") for rule in RULES if "record" in rule]

    for rule in OURS:
        assert len(rule["expr"]) <= (120 if severity_of(rule) == "limit" else 200)
        assert len(rule["expr"].strip().splitlines()) <= 3
    assert all(len(expr) <= 500 and len(expr.strip().splitlines()) <= 9 for expr in recorded)


async def test_every_metric_of_a_rule_is_on_the_page(backfill: Database) -> None:
    """pint: promql/series."""
    text = whole_tour(
        deleted="status = 'deleted'", cohort="{window: 300d, maturity: 1h}", stuck="{where: 'true', after: 1d}"
    )
    plan = backfill.plan(text)
    numbers = await backfill.measure(text)
    status = initial_status(plan, max_age=300).after(Collection(numbers.snapshot, None, 0.1, time.time()), now=0.0)
    board = Board({status.pipeline: status}, ReloadStatus(succeeded=True, last_success=time.time()))
    text = page(board, frozenset(), openmetrics=False).decode()
    there = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}

    for rule in RULES:
        texts = [rule["expr"], *rule.get("annotations", {}).values()]
        used = {name for text in texts for name in re.findall(r"(?<![a-z]:)\bsession_health_[a-z0-9_]+\b(?=\{)", text)}
        assert used <= there


def test_alerts_and_runbooks_are_paired_and_every_link_leads_somewhere() -> None:
    """runbooks.prometheus-operator.dev: one page or section for each alert."""
    folder = ROOT / "docs" / "runbooks"
    sections = {
        f"{path.name}#{heading.lower()}"
        for path in folder.glob("*.md")
        for heading in re.findall(r"^## (\w+)$", path.read_text(), re.MULTILINE)
    }
    links = {rule["annotations"]["runbook_url"].removeprefix("https://runbooks.example.com/") for rule in OURS}

    assert links == sections
    index = (folder / "README.md").read_text()
    assert set(re.findall(r"\]\((\w+\.md#\w+)\)", index)) == sections
    for path in folder.glob("*.md"):
        for alert in re.findall(r"\bSessionHealth\w+", path.read_text()):
            assert alert in {rule["alert"] for rule in OURS}
        for link in re.findall(r"\]\(([\w./-]+\.md)", path.read_text()):
            assert (folder / link).exists()


@pytest.mark.parametrize("rule", named(OURS))
def test_every_command_of_ours_can_be_typed_as_it_is_printed_and_names_the_config(rule: dict[str, Any]) -> None:
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", r"\1_1", rule["annotations"]["command"])
    program, *words = shlex.split(text)
    if program != "session-health-exporter":
        assert program in {"curl", "amtool"}
        return

    options = cli.build_parser().parse_args(words)

    assert callable(options.command)
    assert (options.config_file, "--config.file" in words) == (Path("config.yaml"), True)
    assert "{" not in text


def test_the_operators_rules_are_the_same() -> None:
    """The operator's reference: prometheus-operator.dev/docs/api-reference/api."""
    made = yaml.safe_load((ALERTS / "prometheusrule.yml").read_text())

    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert re.fullmatch(r"[a-z0-9-]+", made["metadata"]["name"])
    assert made["spec"] == {"groups": GROUPS}


SLOTH: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "service", "slos"],
    "properties": {
        "version": {"const": "prometheus/v1"},
        "service": {"type": "string", "minLength": 1},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "slos": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "objective", "sli", "alerting"],
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z0-9-]+$"},
                    "objective": {"type": "number", "exclusiveMinimum": 0, "maximum": 100},
                    "description": {"type": "string"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "sli": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["events"],
                        "properties": {
                            "events": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["error_query", "total_query"],
                                "properties": {
                                    "error_query": {"type": "string", "pattern": r"\[\{\{\.window\}\}\]"},
                                    "total_query": {"type": "string", "pattern": r"\[\{\{\.window\}\}\]"},
                                },
                            }
                        },
                    },
                    "alerting": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["name"],
                        "properties": {
                            "name": {"type": "string"},
                            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
                            "page_alert": {"$ref": "#/$defs/alert"},
                            "ticket_alert": {"$ref": "#/$defs/alert"},
                        },
                    },
                },
            },
        },
    },
    "$defs": {
        "alert": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "disable": {"type": "boolean"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    },
}
"""What Sloth takes, after its specification.  https://sloth.dev/specs/default/"""


def test_the_objective_is_one_that_sloth_takes() -> None:
    made = yaml.safe_load((ALERTS / "slo" / "sloth.yml").read_text())

    jsonschema.Draft202012Validator(SLOTH).validate(made)


@pytest.mark.prometheus
def test_the_queries_of_the_objective_are_the_share_of_gaps(tmp_path: Path) -> None:
    [slo] = yaml.safe_load((ALERTS / "slo" / "sloth.yml").read_text())["slos"]
    events = slo["sli"]["events"]
    ratio = f"({events['error_query']}) / ({events['total_query']})".replace("{{.window}}", "1h")
    own = 'job="session-health",pipeline="assessments"'
    test = {
        "input_series": [
            {"series": f'session_health_eligible_sessions{{{own},state="{state}"}}', "values": f"{count}x120"}
            for state, count in (("gap", 39), ("complete", 117), ("pending", 1000))
        ],
        "promql_expr_test": [{"expr": ratio, "eval_time": "1h", "exp_samples": [{"labels": "{}", "value": 0.25}]}],
    }
    (tmp_path / "tests.yml").write_text(json.dumps({"tests": [test]}))
    command = [str(find_tool("promtool")), "test", "rules", "tests.yml"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=at_most(60))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("interval", "ten"),
    [("30s", "5m"), ("15s", "150s"), ("1h", "10h"), ("700ms", "7s"), ("123ms", "1230ms"), ("90d", "21600h")],
)
def test_times_are_counted_in_rounds(interval: str, ten: str) -> None:
    units = {"ms": 0.001, "s": 1, "h": 3600, "d": 86400}
    number, unit = re.fullmatch(r"(\d+)(\w+)", interval).groups()  # type: ignore[union-attr]

    at = RuleSettings(interval=timedelta(seconds=int(number) * units[unit]))

    assert at.rounds(10) == ten
    assert f"for: {ten}\n" in as_prometheus(groups(DIMENSIONS, at))
