"""The alerts of a limit, one per severity.  Rules hold no threshold, but compare with `session_health_limit`."""

import json
from collections.abc import Iterator, Mapping
from textwrap import indent
from typing import Final

from exporter.model.alert_names import alert_name, runbook_of, subject_label
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit
from exporter.model.sections import SEVERITIES
from exporter.rules.rule import LOST_PIPELINES, Alert, annotations, config_option, lasting
from exporter.rules.settings import KEEP_FIRING_ROUNDS, LOOKBACK_ROUNDS, OUTAGE_ROUNDS, RuleSettings
from exporter.state.self_metrics import (
    LIMIT,
    LIMIT_MIN_SESSIONS,
)
from exporter.text.figures import LimitUnit


def recorded_name(limit: Limit) -> str:
    """The name under which a rule records a ratio."""
    return f"pipeline:session_health_{limit.name.removesuffix('_ratio')}:ratio"


def alerts_of(limit: Limit, dimension: Dimension, at: RuleSettings) -> Iterator[Alert]:
    """The alerts of one limit, the most severe first."""
    for severity in reversed(SEVERITIES):
        yield Alert(
            name=alert_name(limit),
            severity=severity,
            expr=_broken(limit, severity, at),
            hold=at.rounds(limit.rounds),
            keep=at.rounds(KEEP_FIRING_ROUNDS),
            annotations=annotations(
                limit.advice,
                description=_description(limit, severity, at),
                command=command_of(limit, at),
                runbook=runbook_of(limit, dimension),
                labels=("database", "pipeline", *filter(None, [subject_label(limit)])),
                at=at,
            ),
        )


def _broken(limit: Limit, severity: str, at: RuleSettings) -> str:
    """PromQL: the value, if beyond the threshold of the severity.

    Without a complete measurement, a firing alert continues with the last known value, and no alert starts.
    """
    known, remembered = (_compared(limit, severity, at, within) for within in (LOOKBACK_ROUNDS, OUTAGE_ROUNDS))
    subject = subject_label(limit)
    lost = f"and{f' ignoring ({subject})' if subject else ''} {at.selector(LOST_PIPELINES)}"
    return lasting(known, remembered, (alert_name(limit), severity), at, lost)


def _compared(limit: Limit, severity: str, at: RuleSettings, within: int) -> str:
    """PromQL: the last value within `within` rounds, if beyond the last threshold."""
    select = at.within(within)
    subject, sign = subject_label(limit), "<" if limit.below else ">"
    side = f"{sign} ignoring ({', '.join(filter(None, (subject, 'limit', 'severity')))})"
    matching = f"{side} group_left ()" if subject else side
    bound = select(LIMIT, limit=limit.name, severity=severity)
    if limit.value.rests_on is None:
        return f"(\n{indent(limit.value.promql(select), '  ')}\n)\n  {matching}\n{bound}"
    recorded = at.last(within, recorded_name(limit))
    sessions, fewest = limit.value.rests_on(select), select(LIMIT_MIN_SESSIONS, limit=limit.name)
    return (
        f"(\n  {recorded}\n    {matching}\n  {bound}\n)\nand\n"
        f"(\n{indent(sessions, '  ')}\n    >= ignoring (limit)\n  {fewest}\n)"
    )


_SHOWN: Final[Mapping[LimitUnit, str]] = {
    "count": 'printf "%.0f"',
    "ratio": "humanizePercentage",
    "seconds": "humanizeDuration",
}


def _description(limit: Limit, severity: str, at: RuleSettings) -> str:
    """The subject, the number and the threshold; a query reads the threshold, because a rule knows only the value."""
    bound = _asked(
        LIMIT.full_name, {"limit": limit.name, "severity": severity}, f"first | value | {_SHOWN[limit.unit]}", at
    )
    what = limit.what[0].lower() + limit.what[1:]
    side = "below" if limit.below else "above"
    subject = {"pipeline": "", "record": "record {{ $labels.record }} of ", "part": "check {{ $labels.check }} of "}
    who = f"{subject[limit.per]}pipeline {{{{ $labels.pipeline }}}} (database {{{{ $labels.database }}}})"
    return f"{who[0].upper()}{who[1:]}: {what}: {{{{ $value | {_SHOWN[limit.unit]} }}}}; {severity} {side} {bound}."


def _asked(metric: str, labels: Mapping[str, str], shown: str, at: RuleSettings) -> str:
    """Template: the answer to a query for a series of the alert's pipeline."""
    own = ("job", "instance", "database", "pipeline")
    matchers = [f"{label}=%q" for label in own] + [f"{label}={json.dumps(value)}" for label, value in labels.items()]
    query = f"last_over_time({metric}{{{','.join(matchers)}}}[{at.rounds(LOOKBACK_ROUNDS)}])"
    arguments = " ".join(f"$labels.{label}" for label in own)
    return f"{{{{ with printf `{query}` {arguments} | query }}}}{{{{ . | {shown} }}}}{{{{ end }}}}"


def command_of(limit: Limit, at: RuleSettings) -> str:
    """The command of the alert for a broken limit, in Prometheus' template language."""
    label = "{{ $labels.%s }}"
    command, *options = limit.command(label % "pipeline", label % "record" if limit.per == "record" else None)
    return " ".join(["session-health-exporter", command, config_option(at), *options])
