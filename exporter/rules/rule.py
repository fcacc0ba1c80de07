"""A rule as a value, and the PromQL that alerts on limits and alerts on the exporter share.

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
"""critical: somebody must act now; warning: within days; info: nobody is told; none: the proof that telling works."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A rule that keeps the value of an expression under a name of its own."""

    name: str
    expr: str

    def as_dict(self) -> dict[str, Any]:
        """In the form of the rule file."""
        return {"record": self.name, "expr": self.expr}


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that fires once `expr` has held for `hold`, and for `keep` after: durations of Prometheus, or None."""

    name: str
    severity: Urgency
    expr: str
    hold: str | None
    keep: str | None
    annotations: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """In the form of the rule file."""
        times = {"for": self.hold, "keep_firing_for": self.keep}
        return {
            "alert": self.name,
            "expr": self.expr,
            **{key: value for key, value in times.items() if value is not None},
            "labels": {"severity": self.severity},
            "annotations": dict(self.annotations),
        }


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules of one subject, evaluated one after the other."""

    name: str
    rules: tuple[Recording | Alert, ...]


LOST_PIPELINES: Final = "pipeline:session_health_up:lost"


def lost_pipelines(at: RuleSettings) -> str:
    """PromQL: the pipelines of each exporter, now or lately, for which no exporter measures everything by now.

    For an exporter that takes over has to measure for as long as alerts take to begin.  This is known sooner than
    values end, as rules of other groups read it a round later.
    """
    lately = f"{at.selector(UP.full_name)}[{at.rounds(LOOKBACK_ROUNDS - 2)}]"
    return (
        f"{at.last(OUTAGE_ROUNDS, UP.full_name)}\nunless ignoring {at.but_passing()}\n(\n"
        f"  last_over_time({lately}) == 1\n  and\n"
        f"  last_over_time({lately} offset {at.rounds(TAKEOVER_ROUNDS)}) == 1\n)\n"
    )


def lasting(known: str, remembered: str, alert: tuple[str, str], at: RuleSettings, *lost: str) -> str:
    """PromQL: what is known, and beside it what was last known of an alert that fires, where its pipeline is lost.

    All labels of a series say which alert is meant: there may be another of the same instance and pipeline, elsewhere.
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
    """The annotations of an alert: what it says, and where to look."""
    chosen = "&".join(f"var-{label}={{{{ $labels.{label} | urlquery }}}}" for label in labels if label != "check")
    return {
        "summary": advice.summary,
        "description": description,
        "command": command,
        "runbook_url": f"{at.runbooks}/{runbook}",
        "dashboard_url": f"{at.dashboards}/d/session-health-{advice.dashboard}" + (f"?{chosen}" if chosen else ""),
    }
