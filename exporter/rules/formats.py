"""Rules as files: for Prometheus, for the Prometheus Operator, for Sloth."""

import json
from collections.abc import Mapping
from typing import Any, Final

import yaml

from exporter.dimensions.coverage import ELIGIBLE
from exporter.model.alert_names import ALERT_PREFIX
from exporter.rules.rule import RuleGroup
from exporter.rules.settings import RuleSettings
from exporter.text.format import Format


def as_prometheus(rules: tuple[RuleGroup, ...]) -> str:
    """A rule file of Prometheus."""
    return _dump(_groups_as_dict(rules))


def as_operator(rules: tuple[RuleGroup, ...]) -> str:
    """The rules as an object of the Prometheus Operator.

    https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.PrometheusRule
    """
    return _dump(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {
                "name": "session-health",
                "labels": {"app.kubernetes.io/name": "session-health-exporter", "role": "alert-rules"},
            },
            "spec": _groups_as_dict(rules),
        }
    )


def as_sloth(at: RuleSettings) -> str:
    """The coverage as an objective for Sloth: complete sessions divided by sessions that are complete or have a gap.

    A pair of exporters counts every session twice, in both numbers.
    https://sloth.dev/specs/default/
    """
    job = json.dumps(at.job)
    gap, settled = (
        f"{ELIGIBLE.full_name}{{job={job},{states}}}" for states in ('state="gap"', 'state=~"complete|gap"')
    )
    told = {
        "runbook_url": f"{at.runbooks}/coverage.md#{ALERT_PREFIX.lower()}gapratio",
        "dashboard_url": f"{at.dashboards}/d/session-health-overview",
    }
    return _dump(
        {
            "version": "prometheus/v1",
            "service": "session-health",
            "slos": [
                {
                    "name": "coverage",
                    "objective": 99.5,
                    "description": "Eligible sessions have every required record.",
                    "sli": {
                        "events": {
                            "error_query": f"sum(avg_over_time({gap}[{{{{.window}}}}]))",
                            "total_query": f"sum(avg_over_time({settled}[{{{{.window}}}}]))",
                        }
                    },
                    "alerting": {
                        "name": f"{ALERT_PREFIX}CoverageBudget",
                        "annotations": {
                            "summary": "Too many sessions are missing required records: the objective is at risk.",
                            **told,
                        },
                        "page_alert": {"labels": {"severity": "critical"}},
                        "ticket_alert": {"labels": {"severity": "warning"}},
                    },
                }
            ],
        }
    )


class _Dumper(yaml.SafeDumper):
    """Readable YAML: block style for texts of several lines, indented lists."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _groups_as_dict(rules: tuple[RuleGroup, ...]) -> dict[str, Any]:
    return {"groups": [{"name": group.name, "rules": [rule.as_dict() for rule in group.rules]} for group in rules]}


def _dump(content: Mapping[str, Any]) -> str:
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


FORMATS: Final[Mapping[str, Format[tuple[RuleGroup, ...]]]] = {
    "prometheus": Format(as_prometheus),
    "operator": Format(as_operator),
}
"""The formats of `rules`."""
