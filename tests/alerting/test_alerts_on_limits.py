"""The alerts as Prometheus fires them: not yet, at the limit, beyond it, mended, withdrawn; word for word."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from promtool import ROUND, WHOSE, Phases, Values, at_round, of_groups, run_tests, series, written
from tools import NEWER_SUITE

from exporter.dimensions import DIMENSIONS
from exporter.model.states import STATES

pytestmark = pytest.mark.prometheus

LOOKED_BACK: Final = 6 * ROUND
KEPT: Final = 10 * 60 + LOOKED_BACK
"""Seconds for which an alert goes on once its value is gone: it is kept, and a value is looked back for."""

PAGED_AFTER: Final = 3600
"""Seconds after which it is critical that nobody knows."""

REMEMBERED: Final = 70 * 60
"""Seconds for which a value stands as it was last known."""


OF_PIPELINE: Final = "Pipeline assessments (database main)"


def sessions(**counts: float) -> Values:
    return [("eligible_sessions", {"state": state}, count) for state, count in counts.items()]


def cohort(**counts: float) -> Values:
    return [("cohort_sessions", {"step": step}, count) for step, count in counts.items()]


def of(metric: str, **labels: str) -> Callable[[float], Values]:
    return lambda value: [(metric, labels, value)]


@dataclass(frozen=True)
class Claim:
    """Of one limit: series that are at the warning limit, between the two and beyond both, and what is said of these.

    `shown` is the value beyond both, and both limits, as people read them; `beside` what is said of another limit.
    """

    limit: str
    alert: str
    at: Callable[[float], Values]
    summary: str
    says: str
    command: str
    page: str
    minutes: float = 5
    bounds: tuple[float, float] = (0, 10)
    values: tuple[float, float, float] = (0, 5, 11)
    shown: tuple[str, str, str] = ("11", "0", "10")
    about: Mapping[str, str] = field(default_factory=dict)
    side: Literal["above", "below"] = "above"
    dashboard: str = "overview"
    beside: str = ""

    @property
    def url(self) -> str:
        record = "&var-record=" + self.about["record"] if "record" in self.about else ""
        return (
            f"https://grafana.example.com/d/session-health-{self.dashboard}?var-database=main&var-pipeline=assessments"
            + record
        )

    def alert_of(self, severity: str) -> dict[str, Any]:
        value, *bounds = self.shown
        bound = bounds[severity == "critical"]
        return {
            "exp_labels": {"severity": severity, "limit": self.limit, **WHOSE, **self.about},
            "exp_annotations": {
                "summary": self.summary,
                "description": f"{self.says}: {value}; {severity} {self.side} {bound}.{self.beside}",
                "command": f"session-health-exporter {self.command}",
                "runbook_url": f"https://runbooks.example.com/{self.page}.md#{self.alert.lower()}",
                "dashboard_url": self.url,
            },
        }


GAPS: Final = "gaps --config.file config.yaml --pipeline assessments"
SCORES: Final = {"record": "fc_scores"}
OF_SCORES: Final = "Record fc_scores of pipeline assessments (database main)"

CLAIMS: Final = (
    Claim(
        "sessions_with_gap",
        "SessionHealthSessionsWithGap",
        bounds=(10, 30),
        at=lambda value: sessions(gap=value, complete=118),
        values=(10, 20, 39),
        minutes=15,
        summary="Sessions are missing required records.",
        says=f"{OF_PIPELINE}: sessions with a gap",
        shown=("39", "10", "30"),
        command=GAPS,
        page="coverage",
    ),
    Claim(
        "gap_age",
        "SessionHealthGapAge",
        bounds=(900, 3600),
        # The oldest of all records counts.
        at=lambda age: [
            ("gap_oldest_timestamp_seconds", SCORES, age),
            ("gap_oldest_timestamp_seconds", {"record": "profiles"}, 60),
            *sessions(gap=2),
        ],
        summary="A session has waited too long for a required record.",
        says=f"{OF_PIPELINE}: age of the oldest gap",
        command=GAPS,
        page="coverage",
        minutes=4,
        values=(900, 1800, 4000),
        shown=("1h 6m 40s", "15m 0s", "1h 0m 0s"),
        beside="  Sessions with a gap: 2.",
    ),
    Claim(
        "gap_ratio",
        "SessionHealthGapRatio",
        bounds=(0.01, 0.2),
        at=lambda gap: sessions(gap=gap, complete=100 - gap, pending=1000),
        values=(1, 10, 25),
        minutes=15,
        summary="Too large a share of the sessions is missing required records.",
        says=f"{OF_PIPELINE}: share of sessions with a gap, pending sessions excluded",
        shown=("25%", "1%", "20%"),
        command=GAPS,
        page="coverage",
    ),
    Claim(
        "outdated_sessions",
        "SessionHealthOutdatedSessions",
        at=lambda value: [
            ("record_sessions", {**SCORES, "state": state}, value if state == "outdated" else 0) for state in STATES
        ],
        about=SCORES,
        summary="Sessions have records of an outdated version.",
        says=f"{OF_SCORES}: outdated sessions",
        command=f"{GAPS} --record fc_scores --reason outdated",
        page="coverage",
        dashboard="versions",
    ),
    Claim(
        "segment_gap_ratio",
        "SessionHealthSegmentGapRatio",
        bounds=(0.05, 0.2),
        at=lambda gap: [
            ("segment_sessions", {"segment": segment, "state": state}, value)
            for segment, states in {"acme": (gap, 100 - gap), "globex": (0, 1000)}.items()
            for state, value in zip(("gap", "complete"), states, strict=True)
        ],
        values=(5, 10, 25),
        minutes=15,
        summary="Too large a share of the sessions of a segment is missing required records.",
        says=f"{OF_PIPELINE}: share of sessions with a gap in the worst segment, pending sessions excluded",
        shown=("25%", "5%", "20%"),
        beside="  The worst: acme 25%.",
        command=GAPS,
        page="segments",
    ),
    Claim(
        "drifted_records",
        "SessionHealthDriftedRecords",
        at=of("drifted_records", **SCORES),
        about=SCORES,
        summary="New records are written with an old version.",
        says=f"{OF_SCORES}: rows written with an old version since current_since",
        command="list drifted_records --config.file config.yaml --pipeline assessments --record fc_scores",
        page="conformance",
        dashboard="versions",
    ),
    Claim(
        "invalid_records",
        "SessionHealthInvalidRecords",
        at=of("invalid_records", **SCORES),
        about=SCORES,
        summary="Records have invalid values.",
        says=f"{OF_SCORES}: invalid rows",
        command="list invalid_records --config.file config.yaml --pipeline assessments --record fc_scores",
        page="validity",
    ),
    Claim(
        "failed_checks",
        "SessionHealthFailedChecks",
        at=of("check_sessions", check="finalized", result="fail"),
        about={"check": "finalized"},
        summary="Sessions fail a configured check.",
        says="Check finalized of pipeline assessments (database main): sessions that fail a check",
        command="list failed_checks --config.file config.yaml --pipeline assessments --check finalized",
        page="validity",
    ),
    Claim(
        "duplicate_records",
        "SessionHealthDuplicateRecords",
        at=of("duplicate_records", **SCORES),
        about=SCORES,
        summary="Records are duplicated.",
        says=f"{OF_SCORES}: duplicate rows",
        command="list duplicate_records --config.file config.yaml --pipeline assessments --record fc_scores",
        page="uniqueness",
    ),
    Claim(
        "orphaned_records",
        "SessionHealthOrphanedRecords",
        at=of("orphaned_records", **SCORES),
        about=SCORES,
        summary="Records belong to sessions that do not exist.",
        says=f"{OF_SCORES}: rows whose session does not exist",
        command="list orphaned_records --config.file config.yaml --pipeline assessments --record fc_scores",
        page="integrity",
    ),
    Claim(
        "unlinked_records",
        "SessionHealthUnlinkedRecords",
        at=of("unlinked_records", **SCORES),
        about=SCORES,
        summary="Records have no session: the session key is NULL.",
        says=f"{OF_SCORES}: rows whose session key is NULL",
        command="list unlinked_records --config.file config.yaml --pipeline assessments --record fc_scores",
        page="integrity",
    ),
    Claim(
        "detached_records",
        "SessionHealthDetachedRecords",
        at=of("detached_records", **SCORES),
        about=SCORES,
        summary="Records of deleted sessions still exist.",
        says=f"{OF_SCORES}: rows whose session is soft-deleted",
        command="list detached_records --config.file config.yaml --pipeline assessments --record fc_scores",
        page="detachment",
    ),
    Claim(
        "processing_delay_p95",
        "SessionHealthProcessingDelayP95",
        bounds=(900, 3600),
        at=lambda delay: [
            ("processing_delay_seconds", {**SCORES, "percentile": "95"}, delay),
            ("processing_delay_sessions", SCORES, 100),
        ],
        about=SCORES,
        summary="Records arrive too late after the completion of a session.",
        says=f"{OF_SCORES}: delay that 95 of 100 sessions of the cohort with the record do not exceed",
        command="check --config.file config.yaml",
        page="timeliness",
        dashboard="timeliness",
        values=(900, 1800, 4000),
        shown=("1h 6m 40s", "15m 0s", "1h 0m 0s"),
    ),
    Claim(
        "conversion_ratio",
        "SessionHealthConversionRatio",
        bounds=(0.9, 0.75),
        at=lambda covered: cohort(started=200, completed=100, covered=covered),
        values=(90, 80, 50),
        minutes=5,
        side="below",
        summary="Too few completed sessions get all required records.",
        says=f"{OF_PIPELINE}: share of the cohort's completed sessions with every record",
        shown=("50%", "90%", "75%"),
        command=GAPS,
        page="conversion",
        dashboard="timeliness",
    ),
    Claim(
        "completion_ratio",
        "SessionHealthCompletionRatio",
        bounds=(0.5, 0.25),
        at=lambda completed: cohort(started=100, completed=completed, covered=0),
        values=(50, 30, 20),
        minutes=5,
        side="below",
        summary="Too few started sessions are completed.",
        says=f"{OF_PIPELINE}: share of the cohort's started sessions that completed",
        shown=("20%", "50%", "25%"),
        command="check --config.file config.yaml",
        page="conversion",
        dashboard="timeliness",
    ),
    Claim(
        "stuck_sessions",
        "SessionHealthStuckSessions",
        # All statuses count together.
        at=lambda value: [
            ("stuck_sessions", {"status": "open"}, value),
            ("stuck_sessions", {"status": "waiting"}, 0),
        ],
        summary="Sessions stay in a status for too long.",
        says=f"{OF_PIPELINE}: sessions that stay in a status for too long",
        command="list stuck_sessions --config.file config.yaml --pipeline assessments",
        page="stuck",
    ),
    Claim(
        "newest_session_age",
        "SessionHealthNewestSessionAge",
        bounds=(900, 3600),
        at=lambda age: [
            ("newest_session_timestamp_seconds", {"step": "started"}, age),
            ("newest_session_timestamp_seconds", {"step": "completed"}, age + 9999),
            ("window_start_timestamp_seconds", {}, 90 * 86400),
        ],
        summary="No new sessions arrive.",
        says=f"{OF_PIPELINE}: age of the newest session",
        command="check --config.file config.yaml",
        page="freshness",
        dashboard="timeliness",
        minutes=4,
        values=(900, 1800, 4000),
        shown=("1h 6m 40s", "15m 0s", "1h 0m 0s"),
    ),
    Claim(
        "newest_record_age",
        "SessionHealthNewestRecordAge",
        bounds=(900, 3600),
        at=lambda age: [
            ("newest_record_timestamp_seconds", SCORES, age),
            ("newest_due_timestamp_seconds", SCORES, age - 60),
        ],
        about=SCORES,
        summary="No new records arrive although sessions complete.",
        says=f"{OF_SCORES}: age of the newest record while sessions wait for a newer record",
        command=f"{GAPS} --record fc_scores",
        page="freshness",
        dashboard="timeliness",
        minutes=4,
        values=(900, 1800, 4000),
        shown=("1h 6m 40s", "15m 0s", "1h 0m 0s"),
    ),
)


def beside(claim: Claim, *, measured: bool = True) -> Values:
    """What the page says beside the numbers of a claim; limits stay where nothing is measured."""
    found: Values = [
        ("limit", {"limit": claim.limit, "severity": severity}, bound)
        for severity, bound in zip(("warning", "critical"), claim.bounds, strict=True)
    ]
    clock: Values = [("snapshot_timestamp_seconds", {}, 0)] if measured else []
    return [*found, ("limit_min_sessions", {"limit": claim.limit}, 20), ("up", {}, float(measured)), *clock]


def unit(claim: Claim, name: str, phases: Phases, *expected: tuple[float, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "name": f"{claim.limit}: {name}",
        "interval": at_round(ROUND),
        "input_series": written(
            [([*phase, *beside(claim, measured=bool(phase))], seconds) for phase, seconds in phases]
        ),
        "alert_rule_test": [
            {"eval_time": at_round(seconds), "alertname": claim.alert, "exp_alerts": alerts}
            for seconds, alerts in expected
        ],
    }


def firing_at(claim: Claim, seconds: float, *severities: str) -> dict[str, Any]:
    """That just these fire; without their annotations, for an age goes on while it is told."""
    return {
        "expr": f'count by (severity) (ALERTS{{alertname="{claim.alert}",alertstate="firing"}})',
        "eval_time": at_round(seconds),
        "exp_samples": [{"labels": series("", {"severity": severity}), "value": 1} for severity in severities],
    }


def promises_of(claim: Claim) -> Iterable[dict[str, Any]]:
    within, between, beyond = map(claim.at, claim.values)
    # The judgement is recorded first, and an alert sees the record a round later.
    hold, late = claim.minutes * 60, 2 * ROUND
    long, short, told = hold + 6 * ROUND, hold - 2 * ROUND, hold + 6 * ROUND
    both = [claim.alert_of("warning"), claim.alert_of("critical")]
    yield unit(claim, "at the limit nothing is broken", [(within, long)], (long - ROUND, []))
    yield unit(claim, "not yet, then both", [(beyond, long)], (hold - ROUND, []), (hold + late, both))
    yield {
        **unit(claim, "between the limits it is a warning", [(between, long)]),
        "promql_expr_test": [firing_at(claim, long - ROUND, "warning")],
    }
    yield {
        **unit(claim, "a while beyond the limit is not enough", [(beyond, short), (within, long)]),
        "promql_expr_test": [firing_at(claim, seconds) for seconds in range(0, int(short + long), ROUND)],
    }
    yield {
        **unit(claim, "mended, it ends", [(beyond, told), (within, 2 * KEPT)]),
        "promql_expr_test": [
            firing_at(claim, told + 60, "warning", "critical"),
            firing_at(claim, told + KEPT + late),
        ],
    }
    yield {
        **unit(claim, "withdrawn, it goes on until not knowing pages", [(beyond, told), ([], 2 * PAGED_AFTER)]),
        "promql_expr_test": [
            *(firing_at(claim, told + minutes * 60, "warning", "critical") for minutes in range(1, 66, 4)),
            firing_at(claim, told + REMEMBERED + KEPT + late),
        ],
    }
    # A value counts for as long as it is looked back for.
    seen = max(ROUND, hold - LOOKED_BACK - 2 * ROUND)
    yield {
        **unit(claim, "on what nobody measures none begins", [(beyond, seen), ([], long + 2 * KEPT)]),
        "promql_expr_test": [firing_at(claim, seconds) for seconds in range(0, int(long + 2 * KEPT), 4 * ROUND)],
    }
    yield {
        **unit(claim, "measured again and whole, it ends", [(beyond, told), ([], 1800), (within, 3 * KEPT)]),
        "promql_expr_test": [
            firing_at(claim, told + 1800, "warning", "critical"),
            firing_at(claim, told + 1800 + KEPT + 2 * late),
        ],
    }


PAGES: Final = sorted({claim.page for claim in CLAIMS})


@pytest.mark.parametrize("suite", [None, NEWER_SUITE], ids=["own", NEWER_SUITE])
@pytest.mark.parametrize("page", PAGES)
def test_every_limit_is_told_as_it_is_broken(tmp_path: Path, page: str, suite: str | None) -> None:
    rules = of_groups("session-health.rules", f"session-health-{page}")
    tests = [test for claim in CLAIMS if claim.page == page for test in promises_of(claim)]

    assert run_tests(tmp_path, rules, tests, suite) == ""


def test_every_limit_has_a_claim() -> None:
    assert [claim.limit for claim in CLAIMS] == [limit.name for d in DIMENSIONS for limit in d.limits]
