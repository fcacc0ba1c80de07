"""`rules`: the committed rules, or those for another job, interval and place."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from processes import run
from tools import find_tool
from waiting import at_most

from exporter.dimensions import DIMENSIONS

ALERTS = Path(__file__).parents[2] / "alerts"


def test_rules_prints_the_committed_file_unless_asked_for_others() -> None:
    done = run("rules")

    assert (done.returncode, done.stderr) == (0, "")
    assert yaml.safe_load(done.stdout) == yaml.safe_load((ALERTS / "rules.yml").read_text())
    operator = run("rules", "--format", "operator").stdout
    assert yaml.safe_load(operator) == yaml.safe_load((ALERTS / "prometheusrule.yml").read_text())


def test_rules_prints_a_provisioning_file_of_grafana_for_a_data_source() -> None:
    committed = (ALERTS.parent / "grafana" / "provisioning" / "alerting" / "session-health.yaml").read_text()
    done = run("rules", "--format", "grafana")
    other = run(
        "rules", "--format", "grafana", "--datasource-uid", "P1809F7CD0C75ACF3", "--job", "data", "--interval", "5m"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert committed.endswith(f"--help\n{done.stdout}")
    [group, *_] = yaml.safe_load(other.stdout)["groups"]
    [rule, *_] = group["rules"]
    assert (group["interval"], rule["for"], rule["keepFiringFor"]) == ("300s", "150m", "100m")
    assert {query["datasourceUid"] for query in rule["data"]} == {"P1809F7CD0C75ACF3", "__expr__"}
    assert 'job="data"' in rule["data"][0]["model"]["expr"]


@pytest.mark.prometheus
def test_rules_for_other_surroundings_are_as_good(tmp_path: Path) -> None:
    job = 'health "of" \\ everything'
    addresses = ("--dashboard-url", "https://g.example/grafana/", "--runbook-url", "http://wiki.example/runs")
    done = run("rules", "--job", job, "--interval", "5m", *addresses)

    assert done.returncode == 0, done.stderr
    found = [rule for group in yaml.safe_load(done.stdout)["groups"] for rule in group["rules"]]
    gap = next(rule for rule in found if rule.get("alert") == "SessionHealthSessionsWithGap")
    assert (gap["for"], gap["keep_firing_for"]) == ("150m", "100m")
    assert gap["annotations"]["dashboard_url"].startswith("https://g.example/grafana/d/session-health-overview?")
    assert gap["annotations"]["runbook_url"] == "http://wiki.example/runs/coverage.md#sessionhealthsessionswithgap"
    kept = next(rule for rule in found if rule.get("record") == "limit:session_health_limit_broken:kept")
    assert "[30m]" in kept["expr"]
    assert all(f"job={json.dumps(job)}" in rule["expr"] for rule in found if rule.get("labels") != {"severity": "none"})
    (tmp_path / "rules.yml").write_text(done.stdout)
    promtool = [str(find_tool("promtool")), "check", "rules", "rules.yml"]
    checked = subprocess.run(promtool, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=at_most(60))
    assert checked.returncode == 0, checked.stderr


def test_rules_names_the_config_as_it_is_called_and_passes_over_labels() -> None:
    done = run(
        "rules", "--config.file", "/etc/our health/config.yaml", "--passing-label", "zone", "--passing-label", "slot"
    )

    assert done.returncode == 0, done.stderr
    found = [rule for group in yaml.safe_load(done.stdout)["groups"] for rule in group["rules"]]
    commands = {rule["annotations"]["command"] for rule in found if "alert" in rule}
    ours = [command for command in commands if command.startswith("session-health-exporter")]
    assert all("--config.file '/etc/our health/config.yaml'" in command for command in ours)
    assert {command.split(" --config.file")[0].removeprefix("session-health-exporter ") for command in ours} == {
        "gaps",
        "check",
        "config check",
        "config check --connect",
        *(f"list {limit.name}" for dimension in DIMENSIONS for limit in dimension.limits if limit.members),
    }
    by_name = {rule.get("alert", rule.get("record")): rule["expr"] for rule in found}
    for name in ("pipeline:session_health_up:max", "limit:session_health_limit_broken:max"):
        assert "(instance, " in by_name[name]
        assert ", zone, slot)" in by_name[name]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("--interval", "30"), "write a whole number with a unit"),
        (("--interval", "0s"), "is 0: write a duration such as 30s"),
        (("--dashboard-url", "grafana"), "write https://host/path"),
        (("--runbook-url", "https://x/{{ y }}"), "write https://host/path"),
        (("--config.file", "{{ y }}.yaml"), "write a path without braces"),
        (("--passing-label", "k8s.pod"), "write a name of letters, digits and _, such as alloc_id"),
        (("--passing-label", "pipeline"), "and not job, database or pipeline"),
        (("--datasource-uid", "my prometheus"), "write up to 40 letters, digits, _ and -"),
    ],
)
def test_rules_refuses_what_would_make_no_rule(arguments: tuple[str, str], remedy: str) -> None:
    done = run("rules", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert remedy in done.stderr
