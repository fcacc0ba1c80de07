"""A rule as a value, and the common annotations of alerts on limits and alerts on the exporter.

https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/

"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from exporter.model.advice import Advice
from exporter.rules.settings import RuleSettings

Urgency = Literal["critical", "warning", "info", "none"]
"""critical: act now; warning: act within days; info: no notification; none: the heartbeat."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A rule that records the value of an expression under a name, with further labels."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The rule as in the rule file."""
        labels = {"labels": dict(self.labels)} if self.labels else {}
        return {"record": self.name, "expr": self.expr, **labels}


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that fires after `expr` holds for `hold`, and for `keep` longer: Prometheus durations, or None.

    `severity` None: an alert on data, and the series have the label.  Only Grafana asks the queries of `shown`: the
    description shows their values, by name.
    """

    name: str
    severity: Urgency | None
    expr: str
    hold: str | None
    keep: str | None
    annotations: Mapping[str, str]
    shown: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The rule as in the rule file."""
        times = {"for": self.hold, "keep_firing_for": self.keep}
        return {
            "alert": self.name,
            "expr": self.expr,
            **{key: value for key, value in times.items() if value is not None},
            **({"labels": {"severity": self.severity}} if self.severity else {}),
            "annotations": dict(self.annotations),
        }


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules of one subject, evaluated in order."""

    name: str
    rules: tuple[Recording | Alert, ...]


def config_option(at: RuleSettings) -> str:
    """The option that names the config in a command."""
    return f"--config.file {shlex.quote(at.config_file)}"


def annotations(
    advice: Advice, *, description: str, command: str, runbook: str, labels: tuple[str, ...], at: RuleSettings
) -> dict[str, str]:
    """The annotations of an alert: texts, command and links."""
    chosen = "&".join(f"var-{label}={{{{ $labels.{label} | urlquery }}}}" for label in labels if label != "check")
    return {
        "summary": advice.summary,
        "description": description,
        "command": command,
        "runbook_url": f"{at.runbooks}/{runbook}",
        "dashboard_url": f"{at.dashboards}/d/session-health-{advice.dashboard}" + (f"?{chosen}" if chosen else ""),
    }


def listed(each: str) -> str:
    """Template: a text about each answer of a query, with commas."""
    return f"{{{{ range $place, $one := . }}}}{{{{ if $place }}}}, {{{{ end }}}}{each}{{{{ end }}}}"
