"""Dimensions -> Prometheus' rules: what is recorded, and whom to tell when.  Pure: knows no files.

A rule holds no threshold: it compares with `session_health_limit`.  Times are counted in rounds of collecting, so
that the rules of an exporter that looks every five minutes wait ten times as long as one's that looks every 30 s.
https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from textwrap import indent
from typing import Any, Final, Literal

import yaml

from exporter.dimension import Advice, Dimension, Limit, Metric, Select, series_of
from exporter.dimensions.coverage import ELIGIBLE
from exporter.schema import SEVERITIES, LimitUnit
from exporter.self_metrics import (
    COLLECTION_ERRORS,
    LAST_SUCCESS,
    LIMIT,
    LIMIT_MIN_SESSIONS,
    MAX_AGE,
    RELOAD_SUCCESSFUL,
    UP,
    VERDICT,
)

PREFIX: Final = "SessionHealth"

Urgency = Literal["critical", "warning", "info", "none"]
"""critical: somebody must act now; warning: within days; info: nobody is told; none: the proof that telling works."""

REMEMBERED: Final = 140
"""Rounds for which a value stands as it was last known while nothing is measured: until not knowing pages by itself."""

LOOK_BACK: Final = 6
"""Rounds for which a value is taken as it was last seen: one scrape that fails neither hides nor resets anything."""

KEEP: Final = 20
"""Rounds for which an alert goes on firing: a number that comes and goes about its limit tells nobody twice."""

SOON: Final = 10
LATER: Final = 120

TAKEN_OVER: Final = 30
"""Rounds in which every alert on data begins: whoever measures for so long in another's place has told all of it."""

PASSING: Final = (
    *("instance", "replica", "prometheus_replica", "service_instance_id"),
    *("pod", "pod_name", "pod_ip", "pod_uid", "kubernetes_pod_name", "k8s_pod_name", "k8s_pod_uid", "uid"),
    *("statefulset_kubernetes_io_pod_name", "apps_kubernetes_io_pod_index"),
    *("pod_template_hash", "controller_revision_hash", "pod_template_generation"),
    *("container_id", "container_name", "task_id", "task_slot", "alloc_id", "instance_id", "ip", "address"),
    *("node", "node_name", "nodename", "kubernetes_node", "kubernetes_io_hostname", "k8s_node_name"),
    *("host", "hostname", "host_name", "host_ip", "host_id"),
    *("availability_zone", "topology_kubernetes_io_zone"),
    *("version", "revision", "image", "image_tag", "service_version", "app_kubernetes_io_version", "helm_sh_chart"),
)
"""Labels of targets that change with a restart, a reschedule or a release, by the usual ways of discovery.

All others (env, cluster, region, namespace, …) say whose data a pipeline's are.
"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where rules are used: the job that scrapes, how often is measured, and where dashboards and runbooks are.

    `config_file` is the path that whoever is told types, `passing` are labels of targets beside those of `PASSING`.
    """

    job: str = "session-health"
    interval: timedelta = timedelta(seconds=30)
    dashboards: str = "https://grafana.example.com"
    runbooks: str = "https://runbooks.example.com"
    config_file: str = "config.yaml"
    passing: tuple[str, ...] = ()

    def select(self, metric: Metric, /, **labels: str) -> str:
        """The series of our job, each as it was last seen."""
        return self.last(LOOK_BACK, metric.full_name, **labels)

    def within(self, count: int) -> Select:
        """How the series of our job are selected, each as it was last seen within so many rounds."""

        def select(metric: Metric, /, **labels: str) -> str:
            return self.last(count, metric.full_name, **labels)

        return select

    def last(self, count: int, name: str, /, **labels: str) -> str:
        """The series of our job, each as it was last seen within so many rounds."""
        return f"last_over_time({self.selector(name, **labels)}[{self.rounds(count)}])"

    def selector(self, name: str, /, **labels: str) -> str:
        """The series of our job, as they are."""
        given = {"job": self.job, **labels}
        return name + "{" + ",".join(f"{label}={json.dumps(value)}" for label, value in given.items()) + "}"

    def but_passing(self, *others: str) -> str:
        """The labels that make no other pipeline of a series, for `without` and `ignoring`."""
        return f"({', '.join(dict.fromkeys((*PASSING, *self.passing, *others)))})"

    def rounds(self, count: int) -> str:
        """So many rounds of collecting, as a duration of Prometheus."""
        milliseconds = round(count * self.interval / timedelta(milliseconds=1))
        for unit, length in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
            if milliseconds % length == 0:
                return f"{milliseconds // length}{unit}"
        return f"{milliseconds}ms"


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
class Group:
    """Rules of one subject, evaluated one after the other."""

    name: str
    rules: tuple[Recording | Alert, ...]


@dataclass(frozen=True, slots=True)
class OwnAlert:
    """An alert about the measuring itself: `expr`, and after how many rounds it is of which severity.

    `expr` gets for how many rounds a value counts as it was last seen.  `says` is the description, in Prometheus'
    template language, and `command` is what to type first; options follow its `{config}`.  One that `outlasts` its
    exporter is of a pipeline, and goes on where the exporter is gone and none has taken over.
    """

    name: str
    after: Mapping[Urgency, int]
    expr: Callable[[Surroundings, int], str]
    says: Callable[[Surroundings], str]
    command: str
    advice: Advice
    labels: tuple[str, ...] = ("database", "pipeline")
    outlasts: bool = False


def alert_name(limit: Limit) -> str:
    """The alert of a limit is called as the limit is: gap_sessions, SessionHealthGapSessions."""
    return PREFIX + "".join(map(str.capitalize, limit.name.split("_")))


def runbook_of(limit: Limit, dimension: Dimension) -> str:
    """Where the runbooks speak of its alert."""
    return f"{dimension.name}.md#{alert_name(limit).lower()}"


def subject_label(limit: Limit) -> str | None:
    """The label that names what is judged; None where it is the pipeline."""
    return {"pipeline": None, "record": "record", "part": "check"}[limit.per]


def groups(dimensions: tuple[Dimension, ...], at: Surroundings) -> tuple[Group, ...]:
    """All rules: those of each dimension that has limits, then those of the exporter itself."""
    recorded = [
        Recording(_recorded_name(limit), limit.value.promql(at.select))
        for dimension in dimensions
        for limit in dimension.limits
        if limit.unit == "ratio"
    ]
    return (
        Group("session-health.rules", (Recording(_LOST, _lost(at)), *recorded)),
        *(
            Group(
                f"session-health-{dimension.name}",
                tuple(alert for limit in dimension.limits for alert in _alerts(limit, dimension, at)),
            )
            for dimension in dimensions
            if dimension.limits
        ),
        Group("session-health-exporter", tuple(alert for own in OWN_ALERTS for alert in _own(own, at))),
    )


def as_prometheus(rules: tuple[Group, ...]) -> str:
    """A rule file of Prometheus."""
    return _dump(_groups_as_dict(rules))


def as_operator(rules: tuple[Group, ...]) -> str:
    """The same as an object of the Prometheus Operator.

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


def as_sloth(at: Surroundings) -> str:
    """The coverage as an objective for Sloth: good sessions are complete ones, all are those whose fate is settled.

    A pair of exporters counts every session twice, above and below the line.
    https://sloth.dev/specs/default/
    """
    job = json.dumps(at.job)
    gap, settled = (
        f"{ELIGIBLE.full_name}{{job={job},{states}}}" for states in ('state="gap"', 'state=~"complete|gap"')
    )
    told = {
        "runbook_url": f"{at.runbooks}/coverage.md#{PREFIX.lower()}gapratio",
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
                    "description": "Eligible sessions have every record that they must have.",
                    "sli": {
                        "events": {
                            "error_query": f"sum(avg_over_time({gap}[{{{{.window}}}}]))",
                            "total_query": f"sum(avg_over_time({settled}[{{{{.window}}}}]))",
                        }
                    },
                    "alerting": {
                        "name": f"{PREFIX}CoverageBudget",
                        "annotations": {
                            "summary": "Sessions lack records so often that the objective will be missed.",
                            **told,
                        },
                        "page_alert": {"labels": {"severity": "critical"}},
                        "ticket_alert": {"labels": {"severity": "warning"}},
                    },
                }
            ],
        }
    )


def _recorded_name(limit: Limit) -> str:
    return f"pipeline:session_health_{limit.name.removesuffix('_ratio')}:ratio"


def _alerts(limit: Limit, dimension: Dimension, at: Surroundings) -> Iterator[Alert]:
    for severity in reversed(SEVERITIES):
        yield Alert(
            name=alert_name(limit),
            severity=severity,
            expr=_broken(limit, severity, at),
            hold=at.rounds(limit.rounds),
            keep=at.rounds(KEEP),
            annotations=_annotations(
                limit.advice,
                description=_description(limit, severity, at),
                command=command_of(limit, at),
                runbook=runbook_of(limit, dimension),
                labels=("database", "pipeline", *filter(None, [subject_label(limit)])),
                at=at,
            ),
        )


_LOST: Final = "pipeline:session_health_up:lost"


def _lost(at: Surroundings) -> str:
    """PromQL: the pipelines of each exporter, now or lately, for which no exporter measures everything by now.

    For an exporter that takes over has to measure for as long as alerts take to begin.  This is known sooner than
    values end, as rules of other groups read it a round later.
    """
    lately = f"{at.selector(UP.full_name)}[{at.rounds(LOOK_BACK - 2)}]"
    return (
        f"{at.last(REMEMBERED, UP.full_name)}\nunless ignoring {at.but_passing()}\n(\n"
        f"  last_over_time({lately}) == 1\n  and\n"
        f"  last_over_time({lately} offset {at.rounds(TAKEN_OVER)}) == 1\n)\n"
    )


def _lasting(known: str, remembered: str, alert: tuple[str, str], at: Surroundings, *lost: str) -> str:
    """PromQL: what is known, and beside it what was last known of an alert that fires, where its pipeline is lost.

    All labels of a series say which alert is meant: there may be another of the same instance and pipeline, elsewhere.
    """
    name, severity = alert
    firing = at.last(LOOK_BACK, "ALERTS", alertname=name, alertstate="firing", severity=severity)
    return (
        f"(\n{indent(known, '  ')}\n)\nor\n(\n  (\n{indent(remembered, '    ')}\n  )\n"
        f"  and ignoring (alertname, alertstate, severity)\n  {firing}\n"
        + "".join(f"  {line}\n" for line in lost)
        + ")\n"
    )


def _broken(limit: Limit, severity: str, at: Surroundings) -> str:
    """PromQL: the value where it is beyond the limit of that severity.

    An alert that fires goes on while nobody measures everything, by the value as it was last known: what was not mended
    does not end, and none begins on what nobody measured.
    """
    known, remembered = (_compared(limit, severity, at, within) for within in (LOOK_BACK, REMEMBERED))
    subject = subject_label(limit)
    lost = f"and{f' ignoring ({subject})' if subject else ''} {at.selector(_LOST)}"
    return _lasting(known, remembered, (alert_name(limit), severity), at, lost)


def _compared(limit: Limit, severity: str, at: Surroundings, within: int) -> str:
    """PromQL: the value as it was last seen within so many rounds, where it is beyond the limit as it was then."""
    select = at.within(within)
    subject, sign = subject_label(limit), "<" if limit.below else ">"
    side = f"{sign} ignoring ({', '.join(filter(None, (subject, 'limit', 'severity')))})"
    matching = f"{side} group_left ()" if subject else side
    bound = select(LIMIT, limit=limit.name, severity=severity)
    if limit.value.rests_on is None:
        return f"(\n{indent(limit.value.promql(select), '  ')}\n)\n  {matching}\n{bound}"
    recorded = at.last(within, _recorded_name(limit))
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


def _description(limit: Limit, severity: str, at: Surroundings) -> str:
    """Whose number it is, the number, and the limit that it broke: asked for, as a rule knows its own value only."""
    bound = _asked(
        LIMIT.full_name, {"limit": limit.name, "severity": severity}, f"first | value | {_SHOWN[limit.unit]}", at
    )
    what = limit.what[0].lower() + limit.what[1:]
    side = "below" if limit.below else "above"
    subject = {"pipeline": "", "record": "record {{ $labels.record }} of ", "part": "check {{ $labels.check }} of "}
    who = f"{subject[limit.per]}pipeline {{{{ $labels.pipeline }}}} (database {{{{ $labels.database }}}})"
    return f"{who[0].upper()}{who[1:]}: {what}: {{{{ $value | {_SHOWN[limit.unit]} }}}}; {severity} {side} {bound}."


def _asked(metric: str, labels: Mapping[str, str], shown: str, at: Surroundings) -> str:
    """Template: what a query for a series of the alert's own pipeline answers."""
    own = ("job", "instance", "database", "pipeline")
    matchers = [f"{label}=%q" for label in own] + [f"{label}={json.dumps(value)}" for label, value in labels.items()]
    query = f"last_over_time({metric}{{{','.join(matchers)}}}[{at.rounds(LOOK_BACK)}])"
    arguments = " ".join(f"$labels.{label}" for label in own)
    return f"{{{{ with printf `{query}` {arguments} | query }}}}{{{{ . | {shown} }}}}{{{{ end }}}}"


def _config_option(at: Surroundings) -> str:
    return f"--config.file {shlex.quote(at.config_file)}"


def own_command(own: OwnAlert, at: Surroundings) -> str:
    """What to type first when the measuring itself is in doubt, in Prometheus' template language."""
    return own.command.replace("{config}", _config_option(at))


def command_of(limit: Limit, at: Surroundings) -> str:
    """What to type when a limit is broken, in Prometheus' template language."""
    if limit.advice.gaps is None:
        return f"session-health-exporter check {_config_option(at)}"
    record = ["--record {{ $labels.record }}"] if limit.per == "record" else []
    return " ".join(
        filter(
            None,
            [
                f"session-health-exporter gaps {_config_option(at)} --pipeline {{{{ $labels.pipeline }}}}",
                *record,
                limit.advice.gaps,
            ],
        )
    )


def _annotations(
    advice: Advice, *, description: str, command: str, runbook: str, labels: tuple[str, ...], at: Surroundings
) -> dict[str, str]:
    chosen = "&".join(f"var-{label}={{{{ $labels.{label} | urlquery }}}}" for label in labels if label != "check")
    return {
        "summary": advice.summary,
        "description": description,
        "command": command,
        "runbook_url": f"{at.runbooks}/{runbook}",
        "dashboard_url": f"{at.dashboards}/d/session-health-{advice.dashboard}" + (f"?{chosen}" if chosen else ""),
    }


def _own(own: OwnAlert, at: Surroundings) -> Iterator[Alert]:
    for severity, rounds in own.after.items():
        yield Alert(
            name=PREFIX + own.name,
            severity=severity,
            expr=_own_expr(own, severity, at),
            hold=at.rounds(rounds) if rounds else None,
            keep=None,
            annotations=_annotations(
                own.advice,
                description=own.says(at),
                command=own_command(own, at),
                runbook=f"exporter.md#{PREFIX.lower()}{own.name.lower()}",
                labels=own.labels,
                at=at,
            ),
        )


def _own_expr(own: OwnAlert, severity: str, at: Surroundings) -> str:
    known = own.expr(at, LOOK_BACK)
    if not own.outlasts:
        return known + "\n"
    gone = (f"and {at.selector(_LOST)}", f"unless {at.select(UP)}")
    return _lasting(known, own.expr(at, REMEMBERED), (PREFIX + own.name, severity), at, *gone)


_PIPELINE: Final = "Pipeline {{ $labels.pipeline }} (database {{ $labels.database }})"


def _verdict(verdict: str) -> Callable[[Surroundings, int], str]:
    return lambda at, within: f"{series_of(VERDICT, verdict=verdict)(at.within(within))} == 1"


def _failing(at: Surroundings, within: int) -> str:
    """PromQL: nothing whole was measured; or now and then only, so that it never fails for long."""
    often = f"avg_over_time({at.selector(UP.full_name)}[{at.rounds(max(within, 2 * SOON))}]) < 0.9"
    return f"{at.last(within, UP.full_name)} == 0\nor\n{often}"


def _stale(at: Surroundings, within: int) -> str:
    select = at.within(within)
    return f"time() - {select(LAST_SUCCESS)}\n  >\n{select(MAX_AGE)}"


def _absent(at: Surroundings, within: int) -> str:
    """PromQL: the pipelines that were delivered, with all labels that say whose they are, and are not any more."""
    passing = at.but_passing()
    return (
        f"max without {passing} (\n  {at.last(REMEMBERED * 6, UP.full_name)}\n)\n"
        f"unless\nmax without {passing} (\n  {at.last(within, UP.full_name)}\n)"
    )


def _why(at: Surroundings) -> str:
    """Template: which reasons were counted of late, and how often."""
    own = ("job", "instance", "database", "pipeline")
    query = (
        f"increase({COLLECTION_ERRORS.full_name}{{{','.join(f'{label}=%q' for label in own)}}}[{at.rounds(30)}]) > 0"
    )
    arguments = " ".join(f"$labels.{label}" for label in own)
    each = '{{ range . }}, {{ .Labels.reason }} {{ .Value | printf "%.0f" }} times{{ end }}'
    return f"{{{{ with printf `{query}` {arguments} | query }}}}{each}{{{{ end }}}}"


_LOG: Final = "The exporter's log has one line for each thing that it cannot measure, with its remedy."

OWN_ALERTS: Final[tuple[OwnAlert, ...]] = (
    OwnAlert(
        name="Unknown",
        after={"warning": SOON, "critical": LATER},
        expr=_verdict("unknown"),
        outlasts=True,
        says=lambda at: f"{_PIPELINE}: whether its data are whole is unknown{_why(at)}.",
        command="session-health-exporter check {config}",
        advice=Advice(
            "Nobody knows whether the data are whole.",
            "Something was not measured, or was not judged, so that the verdict is `unknown`: the last collection "
            "failed in whole or in part, its values were withdrawn, policies may hide rows, there are gaps and no "
            "limit on them, or eligible sessions have no start time.  While this lasts, no other alert of the "
            "pipeline can be relied on.  If it lasts, it becomes critical.",
            (
                "The database cannot be reached, or refuses: SessionHealthCollectionFailing says why.",
                "The config judges no gaps: `check` says so, and what to set.",
                "`row_security: allow` met a policy.",
            ),
            (f"Run the command of the alert: it names what is not measured or judged.  {_LOG}", "Do what it says."),
            dashboard="exporter",
        ),
    ),
    OwnAlert(
        name="CollectionFailing",
        after={"warning": SOON, "critical": LATER},
        expr=_failing,
        outlasts=True,
        says=lambda at: f"{_PIPELINE} is not measured, or not whole{_why(at)}.",
        command="session-health-exporter config check --connect {config}",
        advice=Advice(
            "Collections fail, in whole or in part.",
            "The last collections did not measure everything.  `session_health_collection_errors_total` counts why, by "
            "`reason`; `session_health_record_up` says which records are concerned.  If a snapshot can be taken, "
            "everything else is measured on; if none can, the last one is served until it is `max_age` old.",
            (
                "The database is down, unreachable or refuses the password: `connect`, `authentication`.",
                "A migration renamed or replaced a table or column: `missing_object`, `invalid_sql`, `type`.",
                "A grant or a policy changed: `permission`, `row_security`.",
                "It has become slow or is locked: `statement_timeout`, `lock_timeout`.",
            ),
            (
                f"Run the command of the alert: it says every mistake with the SQL that mends it.  {_LOG}",
                "What each reason asks for: [operations](../operations.md#when-something-cannot-be-measured).",
            ),
            dashboard="exporter",
        ),
    ),
    OwnAlert(
        name="ValuesStale",
        after={"warning": 4},
        expr=_stale,
        outlasts=True,
        says=lambda _at: f"{_PIPELINE} was last measured whole {{{{ $value | humanizeDuration }}}} ago.",
        command="session-health-exporter config check --connect {config}",
        advice=Advice(
            "Nothing has been measured whole for longer than max_age.",
            "The last collection that measured everything is older than `collection.max_age`: the values of a snapshot "
            "of that age are withdrawn, and alerts on them end by and by without anything having been mended.",
            (
                "Collections fail: SessionHealthCollectionFailing says why.",
                "A collection and the rest after it take longer than `max_age`: the log says `collection.slow`.",
            ),
            (
                "Mend what makes collections fail.",
                (
                    "If they are slow: shorten the window, or raise `max_age`; see "
                    "[what it does](../operations.md#what-it-does-to-your-database)."
                ),
            ),
            dashboard="exporter",
        ),
    ),
    OwnAlert(
        name="TargetDown",
        after={"warning": SOON},
        expr=lambda at, _within: f"max_over_time({at.selector('up')}[{at.rounds(LOOK_BACK)}]) == 0",
        says=lambda _at: "{{ $labels.instance }} does not answer.",
        command="curl -sS http://{{ $labels.instance }}/-/healthy",
        advice=Advice(
            "An exporter does not answer Prometheus.",
            "Scrapes of this instance fail, so nothing that it measures arrives.  Where two exporters look at the same "
            "database, the other one goes on.",
            (
                "It does not run: it was stopped, killed for memory, or its host is gone.",
                "Network, TLS or the password of the scrape changed.",
            ),
            ("See its state and its log.", "Ask it by hand, from where Prometheus runs: the command of the alert."),
            dashboard="exporter",
        ),
        labels=(),
    ),
    OwnAlert(
        name="ScrapesFailing",
        after={"warning": SOON},
        expr=lambda at, _within: (
            f"avg_over_time({at.selector('up')}[{at.rounds(2 * SOON)}]) < 0.9\n"
            f"unless\nmax_over_time({at.selector('up')}[{at.rounds(LOOK_BACK)}]) == 0"
        ),
        says=lambda _at: "{{ $labels.instance }} answers {{ $value | humanizePercentage }} of the scrapes.",
        command="curl -sS http://{{ $labels.instance }}/-/healthy",
        advice=Advice(
            "An exporter answers Prometheus only now and then.",
            "Some scrapes of this instance fail, so its numbers come late.  Alerts on them go on: a value counts as "
            "it was last seen.",
            (
                "The network between them, or a proxy, loses connections.",
                "Its host is overloaded, or it restarts often.",
            ),
            ("See `scrape_duration_seconds` and the list of targets in Prometheus: the last error is there.",),
            dashboard="exporter",
        ),
        labels=(),
    ),
    OwnAlert(
        name="PipelineAbsent",
        after={"warning": SOON, "critical": LATER},
        expr=_absent,
        says=lambda _at: (
            f"{_PIPELINE} was measured until lately, and no exporter with the same labels delivers it any more."
        ),
        command="session-health-exporter check {config}",
        advice=Advice(
            "A pipeline that was measured is not any more.",
            "An exporter delivered this pipeline within the last hours, and none does now, though others of the job "
            "go on.  All labels of a target count, but those that change with a restart or a reschedule: the same "
            "pipeline of another environment or cluster is another one.  Alerts on its data that fired go on for a "
            "while by the last numbers, and end then, and nothing was mended.",
            (
                "The exporter that measures it is down: SessionHealthTargetDown says which.",
                "Discovery does not find its target any more: the list of targets in Prometheus lacks the target.",
                "It was renamed or left out of the config, on purpose or by a wrong file.",
                "A label of its target was renamed: an exporter delivers the same pipeline with other labels.",
            ),
            (
                "If it is down, get it going.",
                (
                    "If it left the config or the targets by mistake, put it back.  On purpose, or renamed: silence "
                    "this until it ends by itself, 840 rounds (7 h by default) after the pipeline was last delivered."
                ),
                (
                    "If a label changes with each deploy, print the rules anew: "
                    "`session-health-exporter rules --passing-label NAME`."
                ),
            ),
            dashboard="exporter",
        ),
    ),
    OwnAlert(
        name="ExporterAbsent",
        after={"critical": 20},
        expr=lambda at, within: f"absent_over_time({at.selector(UP.full_name)}[{at.rounds(within)}])",
        says=lambda _at: "No exporter of job {{ $labels.job }} delivers anything: nobody is looking at the data.",
        command="session-health-exporter check {config}",
        advice=Advice(
            "No exporter delivers anything, so nobody looks at the data.",
            "Prometheus has no series of this job: no exporter runs, none is scraped, or the job is called otherwise.  "
            "Every other alert is silent, which means nothing.",
            (
                "The last exporter is down: SessionHealthTargetDown says which.",
                "The scrape job was removed or renamed, or discovery finds no target.",
            ),
            (
                "See `up` of the job in Prometheus, and its list of targets.",
                "Until it is back, look yourself: the command of the alert, once.",
                "If the job has another name, print the rules for it: `session-health-exporter rules --job NAME`.",
            ),
            dashboard="exporter",
        ),
        labels=(),
    ),
    OwnAlert(
        name="ConfigReloadFailed",
        after={"warning": SOON},
        expr=lambda at, within: f"{at.within(within)(RELOAD_SUCCESSFUL)} == 0",
        says=lambda _at: (
            "{{ $labels.instance }} goes on with the config that it read before: the new one has mistakes."
        ),
        command="session-health-exporter config check {config}",
        advice=Advice(
            "The config was changed and could not be read.",
            "The file has mistakes, so the exporter goes on with the config from before.  A restart would end it.",
            ("A key, a name or a value is wrong: all of them are in the log.",),
            ("Run the command of the alert on the file, correct it, and reload again.",),
            dashboard="exporter",
        ),
        labels=(),
    ),
    OwnAlert(
        name="NoData",
        after={"warning": 20},
        expr=_verdict("no_data"),
        outlasts=True,
        says=lambda _at: f"{_PIPELINE} has no eligible session in its window.",
        command="session-health-exporter check {config}",
        advice=Advice(
            "There is no eligible session to judge.",
            "Everything was measured, and no session in the window is eligible: there is nothing that could be whole "
            "or not.  Set `newest_session_age` to be told when sessions stop to come.",
            (
                "The platform is new, or nobody uses it.",
                "`eligible` or `window` leaves everything out: a renamed status, say.",
            ),
            ("Compare `session_health_sessions` by status with the SQL of `eligible`.",),
        ),
    ),
    OwnAlert(
        name="Watchdog",
        after={"none": 0},
        expr=lambda _at, _within: "vector(1)",
        says=lambda _at: "Prometheus evaluates rules and reaches Alertmanager.  This alert always fires.",
        command="amtool alert query alertname=SessionHealthWatchdog --alertmanager.url=http://localhost:9093",
        advice=Advice(
            "This alert always fires, to prove that alerts arrive.",
            "It goes to a dead man's switch: a service that raises an alarm when this alert stops to arrive.",
            ("Nothing is wrong while it fires.", "If it is missing: Prometheus or Alertmanager is down."),
            ("If the dead man's switch calls, see to Prometheus and Alertmanager.",),
            dashboard="exporter",
        ),
        labels=(),
    ),
)


class _Dumper(yaml.SafeDumper):
    """YAML for people: text of several lines as it is, the indent of lists seen."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _groups_as_dict(rules: tuple[Group, ...]) -> dict[str, Any]:
    return {"groups": [{"name": group.name, "rules": [rule.as_dict() for rule in group.rules]} for group in rules]}


def _dump(content: Mapping[str, Any]) -> str:
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
