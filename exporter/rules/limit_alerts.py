"""The alert of a limit.  Rules hold no threshold and compare nothing: the exporter has judged."""

from collections.abc import Mapping
from typing import Final

from exporter.model.alert_names import alert_name, runbook_of, subject_label
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit
from exporter.rules.judgement import broken_value, threshold
from exporter.rules.rule import Alert, annotations, config_option
from exporter.rules.settings import KEEP_FIRING_ROUNDS, LOOKBACK_ROUNDS, THRESHOLD, RuleSettings
from exporter.state.self_metrics import LIMIT
from exporter.text.figures import LimitUnit


def alert_of(limit: Limit, dimension: Dimension, at: RuleSettings) -> Alert:
    """The alert of one limit, for each severity that is broken."""
    return Alert(
        name=alert_name(limit),
        severity=None,
        expr=broken_value(at, limit.name),
        hold=at.rounds(limit.rounds),
        keep=at.rounds(KEEP_FIRING_ROUNDS),
        annotations=annotations(
            limit.advice,
            description=_description(limit, at),
            command=command_of(limit, at),
            runbook=runbook_of(limit, dimension),
            labels=("database", "pipeline", *filter(None, [subject_label(limit)])),
            at=at,
        ),
        shown={} if at.has_recordings else {THRESHOLD: threshold(at, limit.name)},
    )


_SHOWN: Final[Mapping[LimitUnit, str]] = {
    "count": 'printf "%.0f"',
    "ratio": "humanizePercentage",
    "seconds": "humanizeDuration",
}


def _description(limit: Limit, at: RuleSettings) -> str:
    """The subject, the number and the threshold, which a rule of Prometheus does not know: a query reads the metric."""
    shown = _SHOWN[limit.unit]
    bound = (
        _asked(LIMIT.full_name, limit, f"first | value | {shown}", at)
        if at.has_recordings
        else f"{{{{ {at.threshold} | {shown} }}}}"
    )
    what = limit.what[0].lower() + limit.what[1:]
    side = "below" if limit.below else "above"
    subject = {"pipeline": "", "record": "record {{ $labels.record }} of ", "part": "check {{ $labels.check }} of "}
    who = f"{subject[limit.per]}pipeline {{{{ $labels.pipeline }}}} (database {{{{ $labels.database }}}})"
    return (
        f"{who[0].upper()}{who[1:]}: {what}: {{{{ {at.value} | {shown} }}}}; {{{{ $labels.severity }}}} {side} {bound}."
    )


def _asked(metric: str, limit: Limit, shown: str, at: RuleSettings) -> str:
    """Template: the answer to a query for the series of a limit of the alert's pipeline and severity."""
    own = ("job", "database", "pipeline", "severity")
    matchers = [*(f"{label}=%q" for label in own), f'limit="{limit.name}"']
    query = f"last_over_time({metric}{{{','.join(matchers)}}}[{at.rounds(LOOKBACK_ROUNDS)}])"
    arguments = " ".join(f"$labels.{label}" for label in own)
    return f"{{{{ with printf `{query}` {arguments} | query }}}}{{{{ . | {shown} }}}}{{{{ end }}}}"


def command_of(limit: Limit, at: RuleSettings) -> str:
    """The command of the alert for a broken limit, in Prometheus' template language."""
    label = "{{ $labels.%s }}"
    subject = subject_label(limit)
    words = limit.command(label % "pipeline", label % subject if subject else None)
    options = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    return " ".join(["session-health-exporter", *words[:options], config_option(at), *words[options:]])
