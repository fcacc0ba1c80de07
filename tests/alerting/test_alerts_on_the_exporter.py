"""The alerts about the measuring itself, and what all alerts do when something is missing; word for word."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from promtool import (
    PIPELINE,
    ROUND,
    RULES,
    TARGET,
    WHOSE,
    Phases,
    Values,
    at_round,
    of_alerts,
    run_tests,
    series,
    with_judgement,
    written,
)
from tools import NEWER_SUITE

pytestmark = pytest.mark.prometheus

MINUTES: Final = 60
HOUR: Final = 3600
WHO: Final = "Pipeline assessments (database main)"
DASHBOARD: Final = "https://grafana.example.com/d/session-health-exporter"
OF_PIPELINE: Final = "?var-database=main&var-pipeline=assessments"

UP: Final[dict[str, str]] = {"series": series("up", TARGET), "values": "1x400"}
FINE: Final[Values] = [
    ("up", {}, 1),
    ("snapshot_timestamp_seconds", {}, 10),
    ("max_age_seconds", {}, 300),
    ("collection_interval_seconds", {}, 30),
    ("last_success_timestamp_seconds", {}, 10),
    *(("verdict", {"verdict": name}, float(name == "healthy")) for name in ("healthy", "unknown", "no_data")),
    ("eligible_sessions", {"state": "gap"}, 0),
    ("eligible_sessions", {"state": "complete"}, 157),
    ("limit", {"limit": "sessions_with_gap", "severity": "critical"}, 0),
    ("limit_min_sessions", {"limit": "gap_ratio"}, 20),
    ("limit", {"limit": "gap_ratio", "severity": "warning"}, 0.01),
]
RELOADED: Final = {"series": series("session_health_config_last_reload_successful", TARGET), "values": "1x400"}


def but(*others: tuple[str, Mapping[str, str], float], without: tuple[str, ...] = ()) -> Values:
    """All is fine, but for these series, and without those of some metrics."""
    replaced = {(name, tuple(labels.items())) for name, labels, _ in others}
    kept = [one for one in FINE if (one[0], tuple(one[1].items())) not in replaced and one[0] not in without]
    return [*kept, *others]


UNKNOWN: Final = but(("verdict", {"verdict": "unknown"}, 1), ("verdict", {"verdict": "healthy"}, 0), ("up", {}, 0))


def alert(
    severity: str, labels: Mapping[str, str], summary: str, description: str, command: str, name: str, chosen: str = ""
) -> dict[str, Any]:
    return {
        "exp_labels": {"severity": severity, **labels},
        "exp_annotations": {
            "summary": summary,
            "description": description,
            "command": command,
            "runbook_url": f"https://runbooks.example.com/exporter.md#{name.lower()}",
            "dashboard_url": DASHBOARD + chosen,
        },
    }


def told(name: str, seconds: float, *alerts: dict[str, Any]) -> dict[str, Any]:
    return {"alertname": name, "eval_time": at_round(seconds), "exp_alerts": list(alerts)}


def firing(seconds: float, *names: str) -> dict[str, Any]:
    """That just these alerts fire, of whatever severity, and the watchdog."""
    return {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing",alertname!="SessionHealthWatchdog"})',
        "eval_time": at_round(seconds),
        "exp_samples": [
            {"labels": series("", {"alertname": f"SessionHealth{name}"}), "value": names.count(name)}
            for name in dict.fromkeys(names)
        ],
    }


@pytest.fixture(params=[None, NEWER_SUITE], ids=["own", NEWER_SUITE])
def suite(request: pytest.FixtureRequest) -> str | None:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def expect(tmp_path: Path, suite: str | None) -> Any:
    """What must hold of the rules over some input."""

    def holds(inputs: list[dict[str, str]], *expected: dict[str, Any]) -> None:
        test = {
            "interval": at_round(ROUND),
            "input_series": inputs,
            "alert_rule_test": [one for one in expected if "alertname" in one],
            "promql_expr_test": [one for one in expected if "expr" in one],
        }
        asks_for_all = test["promql_expr_test"]
        rules = RULES.read_text() if asks_for_all else of_alerts(*(one["alertname"] for one in expected))
        assert run_tests(tmp_path, rules, [test], suite) == ""

    return holds


def page(*phases: tuple[Values, float]) -> list[dict[str, str]]:
    given: Phases = list(phases)
    return [UP, RELOADED, *written(given)]


def test_nothing_fires_where_all_is_fine_but_the_watchdog(expect: Any) -> None:
    watchdog = alert(
        "none",
        {},
        "Heartbeat: this alert always fires and proves that alerts arrive.",
        "Prometheus evaluates rules and reaches Alertmanager.  This alert always fires.",
        "amtool alert query alertname=SessionHealthWatchdog --alertmanager.url=http://localhost:9093",
        "SessionHealthWatchdog",
    )

    expect(page((FINE, HOUR)), told("SessionHealthWatchdog", 0, watchdog), firing(HOUR - ROUND))


def test_an_unknown_verdict_is_a_warning_then_critical_and_ends(expect: Any) -> None:
    def unknown(severity: str) -> dict[str, Any]:
        return alert(
            severity,
            {**WHOSE, "fault": "unknown"},
            "Data completeness is unknown: the exporter cannot judge this pipeline.",
            f"{WHO}: data completeness is unknown.  `check` names the cause.",
            "session-health-exporter check --config.file config.yaml",
            "SessionHealthUnknown",
            OF_PIPELINE,
        )

    # As with rows that a policy hides: everything is read, and proves nothing.
    hidden = but(("verdict", {"verdict": "unknown"}, 1), ("verdict", {"verdict": "healthy"}, 0))

    expect(
        page((FINE, 10 * MINUTES), (hidden, 2 * HOUR), (FINE, 10 * MINUTES)),
        told("SessionHealthUnknown", 15 * MINUTES - ROUND),
        told("SessionHealthUnknown", 15 * MINUTES + ROUND, unknown("warning")),
        told("SessionHealthUnknown", 70 * MINUTES - ROUND, unknown("warning")),
        told("SessionHealthUnknown", 70 * MINUTES + ROUND, unknown("warning"), unknown("critical")),
        told("SessionHealthUnknown", 2 * HOUR + 15 * MINUTES),
    )


def test_the_cause_is_told_once(expect: Any) -> None:
    """A database that is gone fails, has old values and an unknown verdict: one alert, also of two exporters."""
    gone = but(
        *(one for one in UNKNOWN if one[0] not in ("eligible_sessions", "snapshot_timestamp_seconds")),
        ("last_success_timestamp_seconds", {}, 4000),
        without=("eligible_sessions", "snapshot_timestamp_seconds", "last_success_timestamp_seconds"),
    )
    inputs = page((gone, HOUR))
    pair = [{**one, "series": one["series"].replace("exporter:10157", "other:10157")} for one in inputs]

    expect([*inputs, *pair], *(firing(m * MINUTES, "CollectionFailing") for m in (6, 10, 30, 59)))


def test_one_exporter_of_a_pair_that_fails_is_told(expect: Any) -> None:
    failing = [
        {**one, "series": one["series"].replace("exporter:10157", "other:10157")}
        for one in page((but(("up", {}, 0)), HOUR))
    ]

    expect([*page((FINE, HOUR)), *failing], firing(30 * MINUTES, "CollectionFailing"))


def test_failing_collections_are_told_with_their_reasons(expect: Any) -> None:
    errors = {
        "series": series("session_health_collection_errors_total", {**PIPELINE, "reason": "permission"}),
        "values": "7x19 8+1x200",
    }
    others = {
        "series": series("session_health_collection_errors_total", {**PIPELINE, "reason": "connect"}),
        "values": "3x240",
    }

    def failing(severity: str, times: int) -> dict[str, Any]:
        return alert(
            severity,
            {**WHOSE, "fault": "failing"},
            "The exporter fails to read some or all of the pipeline's data.",
            f"{WHO}: the exporter does not measure everything; errors in the last 15m: permission {times} times.",
            "session-health-exporter config check --connect --config.file config.yaml",
            "SessionHealthCollectionFailing",
            OF_PIPELINE,
        )

    expect(
        [errors, others, *page((FINE, 10 * MINUTES), (but(("up", {}, 0)), 70 * MINUTES), (FINE, 20 * MINUTES))],
        told("SessionHealthCollectionFailing", 15 * MINUTES - ROUND),
        told("SessionHealthCollectionFailing", 15 * MINUTES + ROUND, failing("warning", 12)),
        told("SessionHealthCollectionFailing", 71 * MINUTES, failing("warning", 30), failing("critical", 30)),
        told("SessionHealthCollectionFailing", 91 * MINUTES),
    )


def test_collections_that_fail_every_other_time_are_told(expect: Any) -> None:
    phases = [(FINE, ROUND), (but(("up", {}, 0)), ROUND)] * 60

    expect(page(*phases), *(firing(m * MINUTES, "CollectionFailing") for m in range(8, 59)))


def test_what_was_not_measured_for_longer_than_max_age_is_stale(expect: Any) -> None:
    # From the sixth minute on: five of them are allowed, and two more pass until it is told.
    last_success = {
        "series": series("session_health_last_success_timestamp_seconds", PIPELINE),
        "values": "60x60 1800+30x20",
    }
    stale = alert(
        "warning",
        {**WHOSE, "fault": "stale"},
        "The last complete measurement is older than the allowed age (max_age).",
        f"{WHO}: the last complete measurement was 7m 30s ago.",
        "session-health-exporter config check --connect --config.file config.yaml",
        "SessionHealthValuesStale",
        OF_PIPELINE,
    )

    expect(
        [last_success, *page((but(without=("last_success_timestamp_seconds",)), HOUR))],
        told("SessionHealthValuesStale", 8 * MINUTES),
        told("SessionHealthValuesStale", 8 * MINUTES + ROUND, stale),
        told("SessionHealthValuesStale", 33 * MINUTES),
    )


def up(instance: str, values: str) -> dict[str, str]:
    return {"series": series("up", {"job": "session-health", "instance": instance}), "values": values}


def test_a_target_that_does_not_answer_is_down_and_one_scrape_that_fails_is_nothing(expect: Any) -> None:
    down = alert(
        "warning",
        {"job": "session-health", "instance": "dead:1"},
        "An exporter does not answer Prometheus.",
        "dead:1 does not answer.",
        "curl -sS http://dead:1/-/healthy",
        "SessionHealthTargetDown",
    )

    expect(
        [*page((FINE, HOUR)), up("dead:1", "1x19 0x39 1x40"), up("blinked:3", "1x19 0 1x60")],
        told("SessionHealthTargetDown", 22 * MINUTES),
        told("SessionHealthTargetDown", 24 * MINUTES, down),
        told("SessionHealthTargetDown", 31 * MINUTES),
    )


def test_a_target_that_answers_every_other_time_is_told_by_an_alert_that_mutes_nothing(expect: Any) -> None:
    expect(
        [*page((FINE, HOUR)), up("flaps:2", "1 0 " * 60), up("lossy:3", "1 1 1 1 1 0 " * 20)],
        *(firing(m * MINUTES, "ScrapesFailing", "ScrapesFailing") for m in range(20, 55)),
    )


def absent() -> dict[str, Any]:
    return alert(
        "critical",
        {"job": "session-health"},
        "No exporter delivers data: no pipeline is monitored.",
        "No exporter of job session-health delivers data: no pipeline is monitored.",
        "session-health-exporter check --config.file config.yaml",
        "SessionHealthExporterAbsent",
    )


def test_without_any_exporter_it_is_absent_and_nothing_else_is_said(expect: Any) -> None:
    expect(
        [],
        told("SessionHealthExporterAbsent", 10 * MINUTES - ROUND),
        told("SessionHealthExporterAbsent", 10 * MINUTES + ROUND, absent()),
        firing(3 * HOUR, "ExporterAbsent"),
    )


def test_the_last_exporter_that_dies_is_absent_and_one_of_two_is_not(expect: Any) -> None:
    other = {"series": series("session_health_up", {**PIPELINE, "instance": "other:1"}), "values": "1x59 stale"}
    dead = [{**UP, "values": "1x19 0x200"}, *written([(FINE, 10 * MINUTES), ([], 50 * MINUTES)])]

    expect(
        [*dead, other],
        told("SessionHealthExporterAbsent", 30 * MINUTES),
        told("SessionHealthExporterAbsent", 44 * MINUTES, absent()),
        firing(44 * MINUTES, "ExporterAbsent", "TargetDown", "PipelineAbsent"),
    )


def test_a_pipeline_that_nobody_delivers_any_more_is_told_though_others_go_on(expect: Any) -> None:
    def lost(severity: str) -> dict[str, Any]:
        labels = WHOSE | {"pipeline": "lost"}
        return alert(
            severity,
            labels,
            "A pipeline is no longer measured.",
            "Pipeline lost (database main) was measured until recently.  No exporter delivers the pipeline with the "
            "same labels now.",
            "session-health-exporter check --config.file config.yaml",
            "SessionHealthPipelineAbsent",
            "?var-database=main&var-pipeline=lost",
        )

    def delivers(instance: str, pipeline: str, values: str) -> dict[str, str]:
        labels = {**PIPELINE, "instance": instance, "pipeline": pipeline}
        return {"series": series("session_health_collection_interval_seconds", labels), "values": values}

    expect(
        [
            *page((FINE, 10 * HOUR)),
            delivers("two:2", "lost", "1x19 stale _x1200"),
            # One of a pair goes on.
            delivers("two:2", "paired", "1x19 stale _x1200"),
            delivers("three:3", "paired", "1x1200"),
        ],
        told("SessionHealthPipelineAbsent", 22 * MINUTES),
        told("SessionHealthPipelineAbsent", 24 * MINUTES, lost("warning")),
        told("SessionHealthPipelineAbsent", 2 * HOUR, lost("warning"), lost("critical")),
        told("SessionHealthPipelineAbsent", 8 * HOUR),
    )


def test_a_config_that_could_not_be_read_is_told_of_the_instance(expect: Any) -> None:
    failed = alert(
        "warning",
        TARGET,
        "An exporter rejected the changed config and runs with the previous config.",
        "exporter:10157 rejected the changed config and runs with the previous config.",
        "session-health-exporter config check --config.file config.yaml",
        "SessionHealthConfigReloadFailed",
    )

    expect(
        [UP, {**RELOADED, "values": "1x9 0x19 1x40"}, *written([(FINE, HOUR)])],
        told("SessionHealthConfigReloadFailed", 10 * MINUTES - ROUND),
        told("SessionHealthConfigReloadFailed", 10 * MINUTES + ROUND, failed),
        told("SessionHealthConfigReloadFailed", 20 * MINUTES),
    )


def test_no_data_is_a_warning(expect: Any) -> None:
    empty = but(("verdict", {"verdict": "no_data"}, 1), ("verdict", {"verdict": "healthy"}, 0))
    no_data = alert(
        "warning",
        {**WHOSE, "fault": "no_data"},
        "The pipeline has no eligible session to judge.",
        f"{WHO} has no eligible session in its window.",
        "session-health-exporter check --config.file config.yaml",
        "SessionHealthNoData",
        OF_PIPELINE,
    )
    no_data["exp_annotations"]["dashboard_url"] = "https://grafana.example.com/d/session-health-overview" + OF_PIPELINE

    expect(
        page((empty, HOUR)),
        told("SessionHealthNoData", 9 * MINUTES),
        told("SessionHealthNoData", 11 * MINUTES, no_data),
    )


GAP: Final = but(
    ("eligible_sessions", {"state": "gap"}, 39),
    ("verdict", {"verdict": "unhealthy"}, 1),
    ("verdict", {"verdict": "healthy"}, 0),
)


def test_a_scrape_that_fails_now_and_then_delays_no_alert_and_ends_none(expect: Any) -> None:
    phases = [(GAP, 4 * MINUTES), ([], ROUND)] * 20

    expect(
        page(*phases),
        firing(15 * MINUTES - ROUND),
        firing(15 * MINUTES + 2 * ROUND, "SessionsWithGap", "GapRatio"),
        *(firing(16 * MINUTES + n * ROUND, "SessionsWithGap", "GapRatio") for n in range(60)),
    )


def test_a_database_that_goes_away_ends_no_alert_before_not_knowing_pages_by_itself(expect: Any) -> None:
    """A broken critical limit stays unhealthy until the values are withdrawn, and only then the verdict is unknown."""
    lost = but(("up", {}, 0), ("eligible_sessions", {"state": "gap"}, 39), ("verdict", {"verdict": "healthy"}, 0))
    gone = ("eligible_sessions", "snapshot_timestamp_seconds")
    withdrawn = but(*(one for one in UNKNOWN if one[0] not in gone), without=gone)
    data = ("SessionsWithGap", "GapRatio")
    timeline = [(GAP, 20 * MINUTES), (lost, 5 * MINUTES), (withdrawn, 3 * HOUR)]

    expect(
        page(*timeline),
        firing(20 * MINUTES, *data),
        firing(26 * MINUTES, *data, "CollectionFailing"),
        firing(31 * MINUTES, *data, "CollectionFailing"),
        firing(82 * MINUTES, *data, "CollectionFailing", "CollectionFailing"),
        firing(3 * HOUR, "CollectionFailing", "CollectionFailing"),
    )


def test_a_total_that_cannot_be_told_ends_no_page_though_another_limit_is_broken(expect: Any) -> None:
    """Then the verdict is unhealthy all along, and never unknown."""
    part = but(
        ("up", {}, 0),
        ("verdict", {"verdict": "unhealthy"}, 1),
        ("verdict", {"verdict": "healthy"}, 0),
        without=("eligible_sessions",),
    )

    expect(
        page((GAP, 20 * MINUTES), (part, HOUR + 20 * MINUTES)),
        firing(40 * MINUTES, "SessionsWithGap", "GapRatio", "CollectionFailing"),
        firing(82 * MINUTES, "SessionsWithGap", "GapRatio", "CollectionFailing", "CollectionFailing"),
    )


def test_ages_stand_still_while_nothing_is_measured_and_a_mended_gap_has_none(expect: Any) -> None:
    limits: Values = [
        ("limit", {"limit": name, "severity": "critical"}, 900) for name in ("gap_age", "newest_session_age")
    ]
    before: Values = [
        ("gap_oldest_timestamp_seconds", {"record": "profiles"}, 850),
        ("newest_session_timestamp_seconds", {"step": "started"}, 850),
        ("eligible_sessions", {"state": "gap"}, 1),
        ("limit", {"limit": "sessions_with_gap", "severity": "critical"}, 100),
        ("limit", {"limit": "gap_ratio", "severity": "warning"}, 1),
    ]
    # Served on for five minutes: each time is what it was, and so is the snapshot's.
    served: Phases = []
    for late in range(ROUND, 5 * MINUTES + ROUND, ROUND):
        aged = [
            (name, labels, value + late) if name.endswith("_timestamp_seconds") else (name, labels, value)
            for name, labels, value in [*before, ("snapshot_timestamp_seconds", {}, 10.0)]
        ]
        served.append((but(*limits, *aged, ("up", {}, 0)), ROUND))
    withdrawn = but(*limits, ("up", {}, 0), without=("eligible_sessions", "snapshot_timestamp_seconds"))
    outage = page((but(*limits, *before), 6 * MINUTES), *served, (withdrawn, 20 * MINUTES))

    expect(outage, *(firing(m * MINUTES, "CollectionFailing") for m in range(12, 30)))


def test_a_gap_that_was_mended_ends_though_its_database_is_lost_soon_after(expect: Any) -> None:
    limits: Values = [
        ("limit", {"limit": "gap_age", "severity": "critical"}, 900),
        ("limit", {"limit": "sessions_with_gap", "severity": "critical"}, 100),
        ("limit", {"limit": "gap_ratio", "severity": "warning"}, 1),
    ]
    gap: Values = [
        ("eligible_sessions", {"state": "gap"}, 1),
        ("gap_oldest_timestamp_seconds", {"record": "profiles"}, 2000),
    ]
    lost = but(*limits, ("up", {}, 0), without=("eligible_sessions", "snapshot_timestamp_seconds"))

    expect(
        page((but(*limits, *gap), 10 * MINUTES), (but(*limits), 2 * MINUTES), (lost, 40 * MINUTES)),
        firing(11 * MINUTES, "GapAge"),
        *(firing(m * MINUTES, "CollectionFailing") for m in range(27, 50)),
    )


def test_a_gap_that_was_mended_before_its_limit_pages_nobody(expect: Any) -> None:
    limit = ("limit", {"limit": "gap_age", "severity": "critical"}, 900)
    tolerated = ("limit", {"limit": "sessions_with_gap", "severity": "critical"}, 100)
    ageing: Phases = [
        (
            but(
                limit,
                tolerated,
                ("eligible_sessions", {"state": "gap"}, 1),
                ("gap_oldest_timestamp_seconds", {"record": "profiles"}, 600 + n * ROUND),
            ),
            ROUND,
        )
        for n in range(9)
    ]

    expect(page(*ageing, (but(limit, tolerated), HOUR)), *(firing(m * MINUTES) for m in range(60)))


def test_a_ratio_of_a_few_says_nothing_and_one_of_none_neither(expect: Any) -> None:
    few = but(("eligible_sessions", {"state": "gap"}, 9), ("eligible_sessions", {"state": "complete"}, 10))
    none = but(("eligible_sessions", {"state": "gap"}, 0), ("eligible_sessions", {"state": "complete"}, 0))

    expect(
        page((few, HOUR), (none, HOUR)),
        firing(HOUR - ROUND, "SessionsWithGap"),
        firing(2 * HOUR - ROUND),
    )


def test_the_newest_session_is_the_start_of_the_window_where_there_is_none(expect: Any) -> None:
    limit = ("limit", {"limit": "newest_session_age", "severity": "warning"}, 6 * 3600)
    newest = ("newest_session_timestamp_seconds", {"step": "started"}, 60)

    expect(
        page((but(limit), 10 * MINUTES), (but(limit, newest), HOUR)),
        firing(10 * MINUTES - ROUND, "NewestSessionAge"),
        firing(HOUR),
    )


@pytest.mark.parametrize(
    ("newest", "due", "late"),
    [
        pytest.param(7200, 60, True, id="a session waits for a newer one"),
        pytest.param(None, 7200, True, id="a session waits for the first"),
        pytest.param(7200, 7200, False, id="the newest answers the last session"),
        pytest.param(7200, 9000, False, id="no session since"),
        pytest.param(7200, None, False, id="no session is due"),
        pytest.param(None, None, False, id="neither session nor record"),
    ],
)
def test_a_record_is_late_only_while_a_session_waits(
    expect: Any, newest: float | None, due: float | None, late: bool
) -> None:
    record = {"record": "profiles"}
    given: Values = [("limit", {"limit": "newest_record_age", "severity": "warning"}, 3600)]
    given += [("newest_record_timestamp_seconds", record, newest)] if newest is not None else []
    given += [("newest_due_timestamp_seconds", record, due)] if due is not None else []

    expect(page((but(*given), 20 * MINUTES)), firing(15 * MINUTES, *["NewestRecordAge"] * late))


def test_a_pair_of_exporters_tells_once_with_the_labels_that_identify_the_pipeline(expect: Any) -> None:
    own = {"job": "session-health", "database": "main", "pipeline": "assessments", "cluster": "east"}
    inputs = [
        {"series": series(f"session_health_{name}", {**own, "instance": instance, **labels}), "values": f"{value}x60"}
        for instance in ("one:1", "two:2")
        for name, labels, value in with_judgement(
            [
                ("up", {}, 1),
                ("eligible_sessions", {"state": "gap"}, 2),
                ("limit", {"limit": "sessions_with_gap", "severity": "critical"}, 1),
            ]
        )
    ]

    expect(
        inputs,
        {
            "expr": "count by (alertname, cluster, instance) (ALERTS{alertstate='firing',cluster='east'})",
            "eval_time": "20m",
            "exp_samples": [
                {
                    "labels": series("", {"alertname": "SessionHealthSessionsWithGap", "cluster": "east"}),
                    "value": 1,
                }
            ],
        },
    )


def test_an_alert_has_the_owner_of_its_pipeline_and_a_new_owner_makes_no_pipeline_absent(expect: Any) -> None:
    def owned(owner: str, values: Values) -> Values:
        of_alerts_ = ("up", "verdict", "max_age_seconds", "last_success_timestamp_seconds")
        alerting = (*of_alerts_, "limit", "limit_value", "limit_broken")
        return [
            (name, {**labels, "owner": owner} if name in alerting else labels, value) for name, labels, value in values
        ]

    def firing_for(seconds: float, *owners: str) -> dict[str, Any]:
        return {
            "expr": 'count by (owner, alertname) (ALERTS{alertstate="firing",alertname!="SessionHealthWatchdog"})',
            "eval_time": at_round(seconds),
            "exp_samples": [
                {"labels": series("", {"alertname": f"SessionHealth{name}", "owner": owner}), "value": 1}
                for owner in owners
                for name in ("GapRatio", "SessionsWithGap")
            ],
        }

    gap = with_judgement(GAP)
    phases: Phases = [(owned("data", gap), 30 * MINUTES), (owned("web", gap), 3 * HOUR)]

    expect(
        [UP, RELOADED, *written(phases, is_judged=True)],
        firing_for(25 * MINUTES, "data"),
        firing_for(50 * MINUTES, "data", "web"),
        firing_for(2 * HOUR, "web"),
    )


def test_no_critical_page_starts_for_a_fault_that_nobody_measures_any_more(expect: Any) -> None:
    """The exporter vanishes after the warning: its absence pages, and not the fault as well."""
    failing = but(("up", {}, 0))
    kept = {
        "series": series("session_health_up", {**PIPELINE, "instance": "o:1", "pipeline": "other"}),
        "values": "1x400",
    }

    expect(
        [*page((failing, 12 * MINUTES), ([], 2 * HOUR)), kept],
        firing(11 * MINUTES, "CollectionFailing"),
        firing(60 * MINUTES, "CollectionFailing", "PipelineAbsent"),
        firing(100 * MINUTES, "PipelineAbsent", "PipelineAbsent"),
    )


def test_a_warning_of_a_former_owner_turns_into_no_page(expect: Any) -> None:
    """Nobody can tell a new owner from a pipeline that is gone: the warning stays as long as without a measurement."""

    def owned(owner: str, values: Values) -> Values:
        return [
            (name, {**labels, "owner": owner} if name in ("up", "verdict") else labels, value)
            for name, labels, value in values
        ]

    phases: Phases = [(owned("data", but(("up", {}, 0))), 12 * MINUTES), (owned("web", FINE), 3 * HOUR)]

    expect(
        [UP, RELOADED, *written(phases, is_judged=True)],
        firing(11 * MINUTES, "CollectionFailing"),
        firing(30 * MINUTES, "CollectionFailing"),
        firing(80 * MINUTES, "CollectionFailing"),
        firing(100 * MINUTES),
    )


def test_rows_that_a_policy_hides_end_no_page(expect: Any) -> None:
    """A value within the limit then proves nothing, and has no standing."""
    hidden = [
        one
        for one in with_judgement(but(("verdict", {"verdict": "unknown"}, 1), ("verdict", {"verdict": "healthy"}, 0)))
        if one[0] != "limit_broken"
    ]
    phases: Phases = [(with_judgement(GAP), 20 * MINUTES), (hidden, HOUR), (with_judgement(FINE), HOUR)]

    expect(
        [UP, RELOADED, *written(phases, is_judged=True)],
        firing(19 * MINUTES, "SessionsWithGap", "GapRatio"),
        firing(50 * MINUTES, "SessionsWithGap", "GapRatio", "Unknown"),
        firing(100 * MINUTES),
    )


def test_of_two_exporters_an_alert_has_the_worse_number(expect: Any) -> None:
    def of(instance: str, covered: float) -> list[dict[str, str]]:
        values: Values = [
            ("up", {}, 1),
            ("cohort_sessions", {"step": "completed"}, 100),
            ("cohort_sessions", {"step": "covered"}, covered),
            ("limit", {"limit": "conversion_ratio", "severity": "critical"}, 0.75),
        ]
        return [
            {**one, "series": one["series"].replace("exporter:10157", instance)}
            for one in written([(values, 30 * MINUTES)])
        ]

    expect(
        [*of("one:1", 50), *of("two:2", 99)],
        {
            "expr": 'limit:session_health_limit_value:broken{limit="conversion_ratio"}',
            "eval_time": "20m",
            "exp_samples": [
                {
                    "labels": series(
                        "limit:session_health_limit_value:broken",
                        {**WHOSE, "limit": "conversion_ratio", "severity": "critical"},
                    ),
                    "value": 0.5,
                }
            ],
        },
    )
