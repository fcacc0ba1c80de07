"""Rules as files: for Prometheus, for the Prometheus Operator, for Grafana, for Sloth."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import yaml

from exporter.dimensions import DIMENSIONS
from exporter.dimensions.coverage import ELIGIBLE
from exporter.model.alert_names import ALERT_PREFIX
from exporter.model.dimension import Dimension
from exporter.rules.groups import groups
from exporter.rules.rule import Alert, RuleGroup
from exporter.rules.settings import OUTAGE_ROUNDS, QUERY, RuleSettings
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


def as_grafana(dimensions: tuple[Dimension, ...], at: RuleSettings) -> str:
    """The alerts as a provisioning file of Grafana's own alerting: without recorded series, and without the heartbeat.

    https://grafana.com/docs/grafana/latest/alerting/set-up/provision-alerting-resources/file-provisioning/
    """
    found = groups(dimensions, replace(at, evaluator="grafana"))
    return _dump(
        {
            "apiVersion": 1,
            "groups": [
                {
                    "orgId": 1,
                    "name": group.name,
                    "folder": "Session health",
                    "interval": f"{_pause(at) // timedelta(seconds=1)}s",
                    "rules": list(_grafana_rules(group, at)),
                }
                for group in found
            ],
        }
    )


def _pause(at: RuleSettings) -> timedelta:
    """The time between evaluations: Grafana takes multiples of 10 s."""
    step = timedelta(seconds=10)
    return -(-at.interval // step) * step


_CONDITION: Final = "B"

_ABSENT: Final = f"{ALERT_PREFIX}ExporterAbsent"
"""The alert that fires also if Grafana cannot query: without the heartbeat, no other alert tells."""


def _grafana_rules(group: RuleGroup, at: RuleSettings) -> Iterator[dict[str, Any]]:
    """The rules of a group.  A title is unique in a folder: of two severities, the second has a longer title."""
    titles: set[str] = set()
    for alert in group.rules:
        if not isinstance(alert, Alert):
            continue
        title = alert.name + (str(alert.severity).capitalize() if alert.name in titles else "")
        titles.add(title)
        times = {"for": alert.hold or "0s", "keepFiringFor": alert.keep}
        missing = {"missing_series_evals_to_resolve": -(-OUTAGE_ROUNDS * at.interval // _pause(at))}
        yield {
            "uid": title.lower(),
            "title": title,
            "condition": _CONDITION,
            "data": list(_grafana_data(alert, at)),
            # Missing data resolves no alert on data.
            "noDataState": "OK" if alert.severity else "KeepLast",
            "execErrState": "Alerting" if alert.name == _ABSENT else "KeepLast",
            **{key: value for key, value in times.items() if value},
            **({} if alert.severity else missing),
            "labels": {"severity": alert.severity} if alert.severity else {},
            "annotations": dict(alert.annotations),
            "isPaused": False,
        }


def _grafana_data(alert: Alert, at: RuleSettings) -> Iterator[dict[str, Any]]:
    """The queries and the condition.  A value below 0 is within the limit; no number of the exporter is below 0."""
    span = {"relativeTimeRange": {"from": 600, "to": 0}}
    for name, expr in {QUERY: alert.expr, **alert.shown}.items():
        source = {"type": "prometheus", "uid": at.datasource}
        model = {"refId": name, "datasource": source, "expr": expr, "instant": True, "range": False}
        yield {"refId": name, **span, "datasourceUid": at.datasource, "model": model}
    model = {
        "refId": _CONDITION,
        "datasource": {"type": "__expr__", "uid": "__expr__"},
        "type": "threshold",
        "expression": QUERY,
        "conditions": [{"evaluator": {"type": "gt", "params": [-1]}}],
    }
    yield {"refId": _CONDITION, **span, "datasourceUid": "__expr__", "model": model}


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

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002
        """Write a shared value each time."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _groups_as_dict(rules: tuple[RuleGroup, ...]) -> dict[str, Any]:
    return {"groups": [{"name": group.name, "rules": [rule.as_dict() for rule in group.rules]} for group in rules]}


def _dump(content: Mapping[str, Any]) -> str:
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


FORMATS: Final[Mapping[str, Format[RuleSettings]]] = {
    "prometheus": Format(lambda at: as_prometheus(groups(DIMENSIONS, at))),
    "operator": Format(lambda at: as_operator(groups(DIMENSIONS, at))),
    "grafana": Format(lambda at: as_grafana(DIMENSIONS, at)),
}
"""The formats of `rules`."""
