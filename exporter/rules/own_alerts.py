"""The alerts about the exporter itself."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from exporter.model.advice import Advice
from exporter.model.alert_names import ALERT_PREFIX
from exporter.model.judging import series_of
from exporter.rules.rule import LOST_PIPELINES, Alert, Urgency, annotations, config_option, lasting
from exporter.rules.settings import LOOKBACK_ROUNDS, OUTAGE_ROUNDS, PAGE_ROUNDS, WARN_ROUNDS, RuleSettings
from exporter.state.self_metrics import (
    COLLECTION_ERRORS,
    LAST_SUCCESS,
    MAX_AGE,
    RELOAD_SUCCESSFUL,
    UP,
    VERDICT,
)


@dataclass(frozen=True, slots=True)
class OwnAlert:
    """An alert about the measuring itself: `expr`, and after how many rounds it is of which severity.

    `expr` gets for how many rounds a value counts as it was last seen.  `says` is the description, in Prometheus'
    template language, and `command` is what to type first; options follow its `{config}`.  One that `outlasts` its
    exporter is of a pipeline, and goes on where the exporter is gone and none has taken over.
    """

    name: str
    after: Mapping[Urgency, int]
    expr: Callable[[RuleSettings, int], str]
    says: Callable[[RuleSettings], str]
    command: str
    advice: Advice
    labels: tuple[str, ...] = ("database", "pipeline")
    outlasts: bool = False


def own_command(own: OwnAlert, at: RuleSettings) -> str:
    """What to type first when the measuring itself is in doubt, in Prometheus' template language."""
    return own.command.replace("{config}", config_option(at))


def own_alerts_of(own: OwnAlert, at: RuleSettings) -> Iterator[Alert]:
    """The alerts of one own alert, one for each severity."""
    for severity, rounds in own.after.items():
        yield Alert(
            name=ALERT_PREFIX + own.name,
            severity=severity,
            expr=_own_expr(own, severity, at),
            hold=at.rounds(rounds) if rounds else None,
            keep=None,
            annotations=annotations(
                own.advice,
                description=own.says(at),
                command=own_command(own, at),
                runbook=f"exporter.md#{ALERT_PREFIX.lower()}{own.name.lower()}",
                labels=own.labels,
                at=at,
            ),
        )


def _own_expr(own: OwnAlert, severity: str, at: RuleSettings) -> str:
    known = own.expr(at, LOOKBACK_ROUNDS)
    if not own.outlasts:
        return known + "\n"
    gone = (f"and {at.selector(LOST_PIPELINES)}", f"unless {at.select(UP)}")
    return lasting(known, own.expr(at, OUTAGE_ROUNDS), (ALERT_PREFIX + own.name, severity), at, *gone)


_PIPELINE: Final = "Pipeline {{ $labels.pipeline }} (database {{ $labels.database }})"


def _verdict(verdict: str) -> Callable[[RuleSettings, int], str]:
    return lambda at, within: f"{series_of(VERDICT, verdict=verdict)(at.within(within))} == 1"


def _failing(at: RuleSettings, within: int) -> str:
    """PromQL: nothing whole was measured; or now and then only, so that it never fails for long."""
    often = f"avg_over_time({at.selector(UP.full_name)}[{at.rounds(max(within, 2 * WARN_ROUNDS))}]) < 0.9"
    return f"{at.last(within, UP.full_name)} == 0\nor\n{often}"


def _stale(at: RuleSettings, within: int) -> str:
    select = at.within(within)
    return f"time() - {select(LAST_SUCCESS)}\n  >\n{select(MAX_AGE)}"


def _absent(at: RuleSettings, within: int) -> str:
    """PromQL: the pipelines that were delivered, with all labels that say whose they are, and are not any more."""
    passing = at.but_passing()
    return (
        f"max without {passing} (\n  {at.last(OUTAGE_ROUNDS * 6, UP.full_name)}\n)\n"
        f"unless\nmax without {passing} (\n  {at.last(within, UP.full_name)}\n)"
    )


def _why(at: RuleSettings) -> str:
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
        after={"warning": WARN_ROUNDS, "critical": PAGE_ROUNDS},
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
        after={"warning": WARN_ROUNDS, "critical": PAGE_ROUNDS},
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
        after={"warning": WARN_ROUNDS},
        expr=lambda at, _within: f"max_over_time({at.selector('up')}[{at.rounds(LOOKBACK_ROUNDS)}]) == 0",
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
        after={"warning": WARN_ROUNDS},
        expr=lambda at, _within: (
            f"avg_over_time({at.selector('up')}[{at.rounds(2 * WARN_ROUNDS)}]) < 0.9\n"
            f"unless\nmax_over_time({at.selector('up')}[{at.rounds(LOOKBACK_ROUNDS)}]) == 0"
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
        after={"warning": WARN_ROUNDS, "critical": PAGE_ROUNDS},
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
        after={"warning": WARN_ROUNDS},
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
