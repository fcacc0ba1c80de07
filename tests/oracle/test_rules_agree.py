"""The rules against the judge: on random databases Prometheus fires what `check` calls broken, and nothing else."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cases import Case, Lacking, cases, limits
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from promtool import run_tests, series
from test_oracle import Laboratory, laboratory, on_random_databases

from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import initial_status
from exporter.model.alert_names import alert_name, subject_label
from exporter.present.exposition import page
from exporter.rules.formats import as_prometheus
from exporter.rules.groups import groups
from exporter.rules.settings import RuleSettings
from exporter.state.board import Board, PipelineStatus, ReloadStatus
from exporter.state.snapshot import Collection

__all__ = ["laboratory"]

pytestmark = pytest.mark.prometheus

FEW: Final = 30
ROUND: Final = timedelta(minutes=1)
STEP: Final = timedelta(minutes=5)
STEPS: Final = 8
"""The rules are looked at in longer steps than rounds, since each takes time, but not so long that a recorded ratio is
forgotten between two; in all for more rounds than any alert on data waits for, and for fewer than after which an
unknown verdict becomes critical."""

TARGET: Final = {"job": "session-health", "instance": "one"}


@st.composite
def judged(draw: st.DrawFn, lacks: Lacking) -> Case:
    """A case in which everything has a limit that can have one."""
    case = draw(cases(lacks=lacks))
    pipeline = {**case.world.pipeline, **draw(limits(case.world.pipeline, every=True))}
    return replace(case, world=replace(case.world, pipeline=pipeline))


def status_of(laboratory: Laboratory, case: Case) -> PipelineStatus:
    ended = Collection(laboratory.snapshot(case), None, 0.1, case.world.clock.timestamp())
    return initial_status(laboratory.database.plan(case.config()), max_age=3600).after(ended, now=0.0)


def input_series(status: PipelineStatus, clock: float) -> list[dict[str, str]]:
    """The page, the same in all rounds, and always as of now: its times move on with the clock."""
    board = Board({status.pipeline: status}, ReloadStatus(succeeded=True, last_success=clock))
    found = []
    for family in text_string_to_metric_families(page(board, frozenset(), openmetrics=False).decode()):
        for sample in family.samples:
            is_time = sample.name.endswith("_timestamp_seconds")
            first, step = (sample.value - clock, STEP.total_seconds()) if is_time else (sample.value, 0.0)
            values = f"{first!r}+{step!r}x{STEPS}"
            found.append({"series": series(sample.name, {**sample.labels, **TARGET}), "values": values})
    return found


def expected_alerts(status: PipelineStatus) -> set[tuple[tuple[str, str], ...]]:
    """Labels of everything that the judge calls broken, for each severity."""
    own = {"database": status.database, "pipeline": status.pipeline, "job": TARGET["job"]}
    alerts = [{"alertname": "SessionHealthWatchdog", "severity": "none"}]
    if status.verdict == "unknown":
        alerts.append({"alertname": "SessionHealthUnknown", "severity": "warning", "fault": "unknown", **own})
    if status.verdict == "no_data":
        alerts.append({"alertname": "SessionHealthNoData", "severity": "warning", "fault": "no_data", **own})
    for finding in status.findings:
        if finding.outcome not in ("warning", "critical") or finding.value is None:
            continue
        label = subject_label(finding.limit)
        about = {label: finding.subject} if label and finding.subject else {}
        for severity, bound in finding.thresholds.items():
            if finding.value < bound if finding.limit.below else finding.value > bound:
                limit = {"alertname": alert_name(finding.limit), "limit": finding.limit.name, "severity": severity}
                alerts.append({**limit, **own, **about})
    return {tuple(sorted(labels.items())) for labels in alerts}


def test_the_rules_fire_what_the_judge_calls_broken(laboratory: Laboratory, tmp_path: Path) -> None:
    tests: list[dict[str, Any]] = []
    reached: set[str] = set()

    def write_test(case: Case) -> None:
        status = status_of(laboratory, case)
        alerts = expected_alerts(status)
        reached.update(dict(labels)["alertname"] for labels in alerts)
        firing = [
            {"labels": series("ALERTS", {**dict(labels), "alertstate": "firing"}), "value": 1} for labels in alerts
        ]
        tests.append(
            {
                "name": f"case {len(tests)}, {status.verdict}",
                "interval": f"{STEP.total_seconds():.0f}s",
                "input_series": input_series(status, case.world.clock.timestamp()),
                "promql_expr_test": [
                    {
                        "expr": 'ALERTS{alertstate="firing"}',
                        "eval_time": f"{(STEPS * STEP).total_seconds():.0f}s",
                        "exp_samples": firing,
                    }
                ],
            }
        )

    limits_of_all = {alert_name(limit) for dimension in DIMENSIONS for limit in dimension.limits}
    on_random_databases(FEW, write_test, judged(laboratory.lacks), lambda: limits_of_all - reached)

    rules = as_prometheus(groups(DIMENSIONS, RuleSettings(interval=ROUND)))
    assert run_tests(tmp_path, rules, tests, evaluation_interval=round(STEP.total_seconds())) == ""
