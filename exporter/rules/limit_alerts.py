"""The alert of a limit.  Rules hold no threshold and compare nothing: the exporter has judged."""

from collections.abc import Mapping, Sequence
from typing import Final

from exporter.model.alert_names import alert_name, runbook_of, subject_label
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit
from exporter.model.metric import Metric
from exporter.rules.judgement import VALUE_KEPT, broken_value, threshold
from exporter.rules.rule import Alert, annotations, config_option, listed
from exporter.rules.settings import KEEP_FIRING_ROUNDS, LOOKBACK_ROUNDS, THRESHOLD, RuleSettings
from exporter.state.self_metrics import LIMIT, LIMIT_MIN_SESSIONS
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
            description=_description(limit, dimension, at),
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


def _description(limit: Limit, dimension: Dimension, at: RuleSettings) -> str:
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
    beside = [one for one in dimension.limits if one.name == limit.beside] if at.has_recordings else []
    others = "".join(_also(one, at) for one in beside)
    if limit.worst_of is not None and at.has_recordings:
        others += _worst(limit, limit.worst_of, at)
    value = f"{{{{ {at.value} | {shown} }}}}"
    return f"{who[0].upper()}{who[1:]}: {what}: {value}; {{{{ $labels.severity }}}} {side} {bound}.{others}"


def _also(limit: Limit, at: RuleSettings) -> str:
    """The last known value of another limit of the pipeline, as a sentence."""
    number = f"{{{{ . | first | value | {_SHOWN[limit.unit]} }}}}"
    return _queried(VALUE_KEPT, limit, ("job", "database", "pipeline"), f"  {limit.what}: {number}.", at)


WORST: Final = 3
"""Names with the largest shares that an alert lists, at most."""


def _worst(limit: Limit, metric: Metric, at: RuleSettings) -> str:
    """The names with the largest shares of gaps, among those with enough sessions, as a sentence."""
    name, since = metric.labels[0], at.rounds(LOOKBACK_ROUNDS)
    own = "job=%[1]q,database=%[2]q,pipeline=%[3]q"

    def sessions(states: str) -> str:
        return f"sum by ({name}) (last_over_time({metric.full_name}{{{own},{states}}}[{since}]))"

    gap, settled = sessions('state="gap"'), sessions('state=~"gap|complete"')
    least = f'last_over_time({LIMIT_MIN_SESSIONS.full_name}{{{own},limit="{limit.name}"}}[{since}])'
    query = f"sort_desc(topk({WORST}, {gap} / {settled} > 0 and {settled} >= on () group_left () max({least})))"
    each = listed(f"{{{{ .Labels.{name} }}}} {{{{ .Value | {_SHOWN[limit.unit]} }}}}")
    arguments = "$labels.job $labels.database $labels.pipeline"
    return f"{{{{ with printf `{query}` {arguments} | query }}}}  The worst: {each}.{{{{ end }}}}"


def _asked(metric: str, limit: Limit, shown: str, at: RuleSettings) -> str:
    """Template: the answer to a query for the series of a limit of the alert's pipeline and severity."""
    own = ("job", "database", "pipeline", "severity")
    return _queried(metric, limit, own, f"{{{{ . | {shown} }}}}", at)


def _queried(metric: str, limit: Limit, own: Sequence[str], text: str, at: RuleSettings) -> str:
    """Template: a text about the answer to a query for a limit with the labels `own` of the alert, if there is one."""
    matchers = [*(f"{label}=%q" for label in own), f'limit="{limit.name}"']
    query = f"last_over_time({metric}{{{','.join(matchers)}}}[{at.rounds(LOOKBACK_ROUNDS)}])"
    arguments = " ".join(f"$labels.{label}" for label in own)
    return f"{{{{ with printf `{query}` {arguments} | query }}}}{text}{{{{ end }}}}"


def command_of(limit: Limit, at: RuleSettings) -> str:
    """The command of the alert for a broken limit, in Prometheus' template language."""
    label = "{{ $labels.%s }}"
    subject = subject_label(limit)
    words = limit.command(label % "pipeline", label % subject if subject else None)
    options = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    return " ".join(["session-health-exporter", *words[:options], config_option(at), *words[options:]])
