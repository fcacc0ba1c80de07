"""The alerts about the exporter itself."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from exporter.model.advice import Advice
from exporter.model.alert_names import ALERT_PREFIX
from exporter.model.metric import Metric
from exporter.rules.pipelines import delivered, delivered_now, with_fault
from exporter.rules.rule import Alert, Urgency, annotations, config_option, listed
from exporter.rules.settings import LOOKBACK_ROUNDS, OUTAGE_ROUNDS, PAGE_ROUNDS, WARN_ROUNDS, RuleSettings
from exporter.state.self_metrics import COLLECTION_ERRORS, RECORD_UP, RELOAD_SUCCESSFUL, UP


@dataclass(frozen=True, slots=True)
class OwnAlert:
    """An alert about the exporter: `expr` for a severity, and the number of rounds before each severity.

    `says` is the description, in Prometheus' template language, and `command` is the first command, with options after
    `{config}`.
    """

    name: str
    after: Mapping[Urgency, int]
    expr: Callable[[RuleSettings, Urgency], str]
    says: Callable[[RuleSettings], str]
    command: str
    advice: Advice
    labels: tuple[str, ...] = ("database", "pipeline")


def own_command(own: OwnAlert, at: RuleSettings) -> str:
    """The command of an alert about the exporter, in Prometheus' template language."""
    return own.command.replace("{config}", config_option(at))


def own_alerts_of(own: OwnAlert, at: RuleSettings) -> Iterator[Alert]:
    """The rules of an alert about the exporter, one per severity."""
    for severity, rounds in own.after.items():
        yield Alert(
            name=ALERT_PREFIX + own.name,
            severity=severity,
            expr=own.expr(at, severity) + "\n",
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


_PIPELINE: Final = "Pipeline {{ $labels.pipeline }} (database {{ $labels.database }})"


def _fault(fault: str) -> Callable[[RuleSettings, Urgency], str]:
    return lambda at, severity: with_fault(at, fault, severity).rstrip()


def _absent(at: RuleSettings, _severity: Urgency) -> str:
    """PromQL: the pipelines that were delivered, with all identifying labels, and are no longer delivered."""
    return f"{delivered(at, OUTAGE_ROUNDS * 6)}\nunless {delivered_now(at)}"


def _errors(at: RuleSettings) -> str:
    """Template: the reasons counted in the last rounds, with the number of times."""
    since = at.rounds(30)
    query = f"sum by (reason) (increase({_of_alert(COLLECTION_ERRORS)}[{since}])) > 0"
    each = '{{ .Labels.reason }} {{ .Value | printf "%.0f" }} times'
    return _asked(at, query, f"; errors in the last {since}: {listed(each)}")


def _unmeasured(at: RuleSettings) -> str:
    """Template: the records without a measurement; `everything` if the records are not the cause."""
    query = f"max by (record) (last_over_time({_of_alert(RECORD_UP)}[{at.rounds(LOOKBACK_ROUNDS)}])) == 0"
    return _asked(at, query, listed("{{ .Labels.record }}"), otherwise="everything")


def _of_alert(metric: Metric) -> str:
    return f"{metric.full_name}{{job=%q,database=%q,pipeline=%q}}"


def _asked(at: RuleSettings, query: str, said: str, otherwise: str = "") -> str:
    """Template: a text about the answer to a query for the alert's pipeline; Grafana has no queries in texts."""
    if not at.has_recordings:
        return otherwise
    arguments = "$labels.job $labels.database $labels.pipeline"
    other = f"{{{{ else }}}}{otherwise}" if otherwise else ""
    return f"{{{{ with printf `{query}` {arguments} | query }}}}{said}{other}{{{{ end }}}}"


_LOG: Final = "The exporter's log has one line per failure, with the remedy."

OWN_ALERTS: Final[tuple[OwnAlert, ...]] = (
    OwnAlert(
        name="Unknown",
        after={"warning": WARN_ROUNDS, "critical": PAGE_ROUNDS},
        expr=_fault("unknown"),
        says=lambda _at: f"{_PIPELINE}: data completeness is unknown.  `check` names the cause.",
        command="session-health-exporter check {config}",
        advice=Advice(
            "Data completeness is unknown: the exporter cannot judge this pipeline.",
            "The verdict is `unknown` although the exporter reads all data: policies may hide rows, no limit judges "
            "the gaps, eligible sessions have no start time, or the first sweep has not ended.  Meanwhile every other "
            "alert of the pipeline is unreliable.  The alert becomes critical with time.  While "
            "SessionHealthCollectionFailing or SessionHealthValuesStale applies, this alert is silent: one cause, one "
            "alert.",
            (
                "The config sets no limit on gaps: `check` names the limits to set.",
                "`row_security: allow` is set, and a policy applies to the exporter's role.",
            ),
            (
                f"Run the command of the alert: `check` lists everything without a measurement or limit.  {_LOG}",
                "Apply the printed remedies.",
            ),
            dashboard="exporter",
        ),
    ),
    OwnAlert(
        name="CollectionFailing",
        after={"warning": WARN_ROUNDS, "critical": PAGE_ROUNDS},
        expr=_fault("failing"),
        says=lambda at: f"{_PIPELINE}: the exporter does not measure {_unmeasured(at)}{_errors(at)}.",
        command="session-health-exporter config check --connect {config}",
        advice=Advice(
            "The exporter fails to read some or all of the pipeline's data.",
            "Recent collections did not measure everything.  `session_health_collection_errors_total` counts the "
            "causes by `reason`, and `session_health_record_up` is 0 for each record without a measurement.  With a "
            "snapshot, the exporter measures everything else.  Without a snapshot, the exporter serves the last "
            "snapshot until `max_age`.",
            (
                "The database is down, unreachable or refuses the password: `connect`, `authentication`.",
                "A migration renamed or replaced a table or column: `missing_object`, `invalid_sql`, `type`.",
                "A grant or a policy changed: `permission`, `row_security`.",
                "The database is slow, or a lock blocks the exporter: `statement_timeout`, `lock_timeout`.",
            ),
            (
                f"Run the command of the alert: the output lists every fault with the SQL of the remedy.  {_LOG}",
                "Look up each reason in [operations](../operations.md#when-something-cannot-be-measured).",
            ),
            dashboard="exporter",
        ),
    ),
    OwnAlert(
        name="ValuesStale",
        after={"warning": 4},
        expr=_fault("stale"),
        says=lambda at: f"{_PIPELINE}: the last complete measurement was {{{{ {at.value} | humanizeDuration }}}} ago.",
        command="session-health-exporter config check --connect {config}",
        advice=Advice(
            "The last complete measurement is older than the allowed age (max_age).",
            "The last collection without a fault is older than `collection.max_age`.  The exporter withdraws the "
            "values of a snapshot beyond `max_age`.  Alerts on withdrawn values end after a while, although the cause "
            "remains.",
            (
                "Collections fail: SessionHealthCollectionFailing names the reason.",
                "A collection and the pause afterwards exceed `max_age`: the log says `collection.slow`.",
            ),
            (
                "Remove the cause of failing collections.",
                (
                    "If collections are slow: shorten the window, or raise `max_age`; see "
                    "[what it does](../operations.md#what-it-does-to-your-database)."
                ),
            ),
            dashboard="exporter",
        ),
    ),
    OwnAlert(
        name="TargetDown",
        # As late as the alert on the last exporter, which mutes this alert.
        after={"warning": 2 * WARN_ROUNDS},
        expr=lambda at, _severity: f"max_over_time({at.selector('up')}[{at.rounds(LOOKBACK_ROUNDS)}]) == 0",
        says=lambda _at: "{{ $labels.instance }} does not answer.",
        command="curl -sS http://{{ $labels.instance }}/-/healthy",
        advice=Advice(
            "An exporter does not answer Prometheus.",
            "All scrapes of this instance fail, and Prometheus gets no measurement from the instance.  If a second "
            "exporter measures the same database, the second exporter continues.",
            (
                "The exporter does not run: stopped, killed for memory, or the host is gone.",
                "The network, TLS or the password of the scrape changed.",
            ),
            (
                "Look at the state and the log of the exporter.",
                "From the host of Prometheus, request the health page: the command of the alert.",
            ),
            dashboard="exporter",
        ),
        labels=(),
    ),
    OwnAlert(
        name="ScrapesFailing",
        after={"warning": WARN_ROUNDS},
        expr=lambda at, _severity: (
            f"avg_over_time({at.selector('up')}[{at.rounds(2 * WARN_ROUNDS)}]) < 0.9\n"
            f"unless max_over_time({at.selector('up')}[{at.rounds(LOOKBACK_ROUNDS)}]) == 0"
        ),
        says=lambda at: f"{{{{ $labels.instance }}}} answers {{{{ {at.value} | humanizePercentage }}}} of the scrapes.",
        command="curl -sS http://{{ $labels.instance }}/-/healthy",
        advice=Advice(
            "An exporter answers only some scrapes of Prometheus.",
            "Some scrapes of this instance fail, and numbers arrive late.  Alerts continue with the last value of each "
            "series.",
            (
                "The network or a proxy between Prometheus and the exporter loses connections.",
                "The exporter's host is overloaded, or the exporter restarts often.",
            ),
            ("In Prometheus, look at `scrape_duration_seconds` and at the last error in the list of targets.",),
            dashboard="exporter",
        ),
        labels=(),
    ),
    OwnAlert(
        name="PipelineAbsent",
        # Later than the alert on the exporter: a dead exporter is one page, and no ticket for each pipeline.
        after={"warning": 2 * WARN_ROUNDS, "critical": PAGE_ROUNDS},
        expr=_absent,
        says=lambda _at: (
            f"{_PIPELINE} was measured until recently.  No exporter delivers the pipeline with the same labels now."
        ),
        command="session-health-exporter check {config}",
        advice=Advice(
            "A pipeline is no longer measured.",
            "An exporter delivered this pipeline within the last hours, and no exporter delivers the pipeline now.  "
            "The alert compares all labels of a target except labels that change with a restart or a reschedule: the "
            "same pipeline in another environment or cluster is a different pipeline.  Firing alerts on the "
            "pipeline's data continue for a while with the last numbers, then end without a repair.",
            (
                "The exporter of the pipeline is down: SessionHealthTargetDown names the instance.",
                "Service discovery lost the target: the target is missing in the list of targets in Prometheus.",
                "The pipeline was renamed or removed in the config, on purpose or by a wrong file.",
                "A label of the target was renamed: an exporter delivers the same pipeline with other labels.",
            ),
            (
                "If the exporter is down, start the exporter.",
                (
                    "If the pipeline left the config or the targets by mistake, restore the pipeline.  After a removal "
                    "or rename on purpose: silence the alert.  The alert ends 840 collections (7 h by default) after "
                    "the last delivery."
                ),
                (
                    "If a label changes with each deploy, print the rules again: "
                    "`session-health-exporter rules --passing-label NAME`."
                ),
            ),
            dashboard="exporter",
        ),
    ),
    OwnAlert(
        name="ExporterAbsent",
        after={"critical": 2 * WARN_ROUNDS},
        expr=lambda at, _severity: f"absent_over_time({at.selector(UP.full_name)}[{at.rounds(LOOKBACK_ROUNDS)}])",
        says=lambda _at: "No exporter of job {{ $labels.job }} delivers data: no pipeline is monitored.",
        command="session-health-exporter check {config}",
        advice=Advice(
            "No exporter delivers data: no pipeline is monitored.",
            "Prometheus has no series of this job: no exporter runs, Prometheus scrapes no exporter, or the job has "
            "another name.  Every other alert is silent, and the silence proves nothing.",
            (
                "The last exporter is down: SessionHealthTargetDown names the instance.",
                "The scrape job was removed or renamed, or discovery finds no target.",
            ),
            (
                "In Prometheus, look at `up` of the job and at the list of targets.",
                "Until an exporter is back, run the command of the alert by hand.",
                "If the job has another name, print new rules: `session-health-exporter rules --job NAME`.",
            ),
            dashboard="exporter",
        ),
        labels=(),
    ),
    OwnAlert(
        name="ConfigReloadFailed",
        after={"warning": WARN_ROUNDS},
        expr=lambda at, _severity: f"{at.last(LOOKBACK_ROUNDS, RELOAD_SUCCESSFUL.full_name)} == 0",
        says=lambda _at: "{{ $labels.instance }} rejected the changed config and runs with the previous config.",
        command="session-health-exporter config check {config}",
        advice=Advice(
            "An exporter rejected the changed config and runs with the previous config.",
            "The config file has mistakes.  The exporter continues with the previous config, but would not start "
            "again after a restart.",
            ("A key, a name or a value is wrong: the log lists all mistakes.",),
            ("Run the command of the alert on the file, correct the file, and reload.",),
            dashboard="exporter",
        ),
        labels=(),
    ),
    OwnAlert(
        name="NoData",
        after={"warning": 20},
        expr=_fault("no_data"),
        says=lambda _at: f"{_PIPELINE} has no eligible session in its window.",
        command="session-health-exporter check {config}",
        advice=Advice(
            "The pipeline has no eligible session to judge.",
            "The exporter measured everything, and no session in the window is eligible.  An empty pipeline is neither "
            "complete nor incomplete.  Set `newest_session_age` to get an alert when sessions stop arriving.",
            (
                "The platform is new or unused.",
                "`eligible` or `window` excludes every session, for example after a status was renamed.",
            ),
            ("Compare `session_health_sessions` by status with the SQL of `eligible`.",),
        ),
    ),
    OwnAlert(
        name="Watchdog",
        after={"none": 0},
        expr=lambda _at, _severity: "vector(1)",
        says=lambda _at: "Prometheus evaluates rules and reaches Alertmanager.  This alert always fires.",
        command="amtool alert query alertname=SessionHealthWatchdog --alertmanager.url=http://localhost:9093",
        advice=Advice(
            "Heartbeat: this alert always fires and proves that alerts arrive.",
            "The alert goes to a dead man's switch: a service that raises an alarm when the heartbeat stops.",
            (
                "A firing heartbeat is the normal state.",
                "If the heartbeat is missing: Prometheus or Alertmanager is down.",
            ),
            ("If the dead man's switch raises an alarm, check Prometheus and Alertmanager.",),
            dashboard="exporter",
        ),
        labels=(),
    ),
)
