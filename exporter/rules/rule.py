"""A rule as a value, and the common PromQL of alerts on limits and alerts on the exporter.

https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/

"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import indent
from typing import Any, Final, Literal

from exporter.model.advice import Advice
from exporter.rules.settings import LOOKBACK_ROUNDS, OUTAGE_ROUNDS, TAKEOVER_ROUNDS, RuleSettings
from exporter.state.self_metrics import (
    UP,
)

Urgency = Literal["critical", "warning", "info", "none"]
"""critical: act now; warning: act within days; info: no notification; none: the heartbeat."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A rule that records the value of an expression under a name."""

    name: str
    expr: str

    def as_dict(self) -> dict[str, Any]:
        """The rule as in the rule file."""
        return {"record": self.name, "expr": self.expr}


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that fires after `expr` holds for `hold`, and for `keep` longer: Prometheus durations, or None.

    `severity` None: the series have the label.
    """

    name: str
    severity: Urgency | None
    expr: str
    hold: str | None
    keep: str | None
    annotations: Mapping[str, str]

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


LOST_PIPELINES: Final = "pipeline:session_health_up:lost"


def lost_pipelines(at: RuleSettings) -> str:
    """PromQL: the pipelines of each exporter, now or recently, that no exporter measures completely now.

    An exporter that takes over must measure for as long as alerts take to start.  The look-back is shorter than the
    look-back of values: rules of other groups read the recorded value one collection later.
    """
    lately = f"{at.selector(UP.full_name)}[{at.rounds(LOOKBACK_ROUNDS - 2)}]"
    return (
        f"{at.last(OUTAGE_ROUNDS, UP.full_name)}\nunless ignoring {at.but_passing()}\n(\n"
        f"  last_over_time({lately}) == 1\n  and\n"
        f"  last_over_time({lately} offset {at.rounds(TAKEOVER_ROUNDS)}) == 1\n)\n"
    )


def lasting(known: str, remembered: str, alert: tuple[str, str], at: RuleSettings, *lost: str) -> str:
    """PromQL: the known value, or for a firing alert of a lost pipeline the last known value.

    All labels of a series identify the alert: another environment can have the same instance and pipeline.
    """
    name, severity = alert
    firing = at.last(LOOKBACK_ROUNDS, "ALERTS", alertname=name, alertstate="firing", severity=severity)
    return (
        f"(\n{indent(known, '  ')}\n)\nor\n(\n  (\n{indent(remembered, '    ')}\n  )\n"
        f"  and ignoring (alertname, alertstate, severity)\n  {firing}\n"
        + "".join(f"  {line}\n" for line in lost)
        + ")\n"
    )


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
