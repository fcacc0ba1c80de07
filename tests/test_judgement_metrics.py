"""The metrics of the judgement say what the judge found."""

from dataclasses import replace

import pytest
from conftest import Database
from prometheus_client.parser import text_string_to_metric_families as parse

from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.dimensions import DIMENSIONS
from exporter.model.fault import Fault
from exporter.present.exposition import page
from exporter.state.board import Board, PipelineStatus, ReloadStatus
from exporter.state.judge import Finding, judge
from exporter.state.snapshot import Collection, Snapshot

Series = dict[tuple[str, str], float]
"""By limit, and by record or check (empty for the pipeline)."""


def served(snapshot: Snapshot, fault: Fault | None = None) -> PipelineStatus:
    """The status after a collection, and after a failed one if there is a fault."""
    status = PipelineStatus(snapshot.readings.pipeline, max_age=300)
    status = status.after(Collection(snapshot, None, 0.25, 1_700_000_001.0), now=10.0)
    return status if fault is None else status.after(Collection(None, fault, 0.25, 1_700_000_031.0), now=40.0)


def told(status: PipelineStatus, metric: str, severity: str | None = None) -> Series:
    """The series of a metric on the page, with one severity if given."""
    board = Board({status.pipeline: status}, ReloadStatus(succeeded=True, last_success=1_690_000_000.0))
    return {
        (sample.labels["limit"], sample.labels["record"] or sample.labels["check"]): sample.value
        for family in parse(page(board, frozenset(), openmetrics=False).decode())
        for sample in family.samples
        if sample.name == f"session_health_limit_{metric}" and sample.labels.get("severity") == severity
    }


def named(finding: Finding) -> tuple[str, str]:
    return finding.limit.name, finding.subject or ""


FEW = """
insert into assessment_sessions
select gen_random_uuid(), 'completed', at, at, at, 240
from (select now() - interval '3 hours' from generate_series(1, 3)) s(at)
"""


@pytest.mark.parametrize("sql", [*(one.sql for one in SCENARIOS.values()), "", FEW], ids=[*SCENARIOS, "no data", "few"])
async def test_the_page_has_the_standing_of_every_finding(empty: Database, sql: str) -> None:
    await empty.execute(SCHEMA + sql)
    snapshot = (await empty.measure()).snapshot
    findings = snapshot.judgement.findings
    status = served(snapshot)

    assert len(findings) > 10
    assert sql != FEW or any(f.outcome == "too_few" for f in findings)
    assert {key: value for key, value in told(status, "value").items() if key in map(named, findings)} == {
        named(f): f.value for f in findings if f.value is not None
    }
    assert told(status, "level") == {named(f): f.standing.level for f in findings}
    beyond = {"critical": ("critical",), "warning": ("critical", "warning")}
    for severity, outcomes in beyond.items():
        known = {
            named(f): float(f.outcome in outcomes)
            for f in findings
            if f.outcome not in ("too_few", "not_measured") and severity in f.thresholds
        }
        assert told(status, "broken", severity) == known


async def test_what_is_not_known_has_no_standing(empty: Database) -> None:
    """A record that is not measured, and rows that prove nothing; a broken limit stays broken."""
    await empty.execute(SCHEMA + SCENARIOS["backfill"].sql)
    await empty.execute("drop table profiles")
    snapshot = (await empty.measure()).snapshot
    lost = {named(f) for f in snapshot.judgement.findings if f.outcome == "not_measured"}

    assert lost
    assert lost.isdisjoint(told(served(snapshot), "value"))
    assert {told(served(snapshot), "level")[key] for key in lost} == {4}
    assert lost.isdisjoint(told(served(snapshot), "broken", "critical") | told(served(snapshot), "broken", "warning"))


async def test_rows_that_policies_may_hide_prove_nothing_and_break_what_they_break(empty: Database) -> None:
    await empty.execute(SCHEMA + SCENARIOS["backfill"].sql)
    snapshot = (await empty.measure()).snapshot
    seen = judge(DIMENSIONS, snapshot.readings, frozenset(), frozenset(), ("public.profiles",))
    whole, partly = served(snapshot), served(replace(snapshot, judgement=seen))
    within = {named(f) for f in snapshot.judgement.findings if f.outcome == "within"}

    assert within
    for severity in ("warning", "critical"):
        standing = told(whole, "broken", severity)
        assert told(partly, "broken", severity) == {
            key: is_one for key, is_one in standing.items() if key not in within
        }


async def test_a_failed_collection_keeps_the_judgement_until_it_is_withdrawn(empty: Database) -> None:
    await empty.execute(SCHEMA + SCENARIOS["backfill"].sql)
    snapshot = (await empty.measure()).snapshot

    failed = served(snapshot, Fault("connect", "connection refused"))

    assert told(failed, "broken", "critical") == told(served(snapshot), "broken", "critical")
    assert told(failed, "broken", "critical")["sessions_with_gap", ""] == 1
    assert told(replace(failed, snapshot=None), "broken", "critical") == {}
    assert told(replace(failed, snapshot=None), "value") == {}
    assert told(replace(failed, snapshot=None), "level") == {
        (name, ""): 4 for name in snapshot.readings.pipeline.limits.given
    }


async def test_a_limit_without_a_threshold_has_a_value_and_no_standing(empty: Database) -> None:
    await empty.execute(SCHEMA + SCENARIOS["backfill"].sql)
    everything = (await empty.measure()).snapshot
    pipeline = everything.readings.pipeline
    kept = {**dict.fromkeys(pipeline.limits.given), "sessions_with_gap": pipeline.limits.of("sessions_with_gap")}
    unset = pipeline.model_copy(update={"limits": pipeline.limits.model_copy(update=kept)})
    readings = replace(everything.readings, pipeline=unset)
    judged = judge(DIMENSIONS, readings, frozenset(), frozenset(), ())
    status = served(replace(everything, readings=readings, judgement=judged))

    assert told(status, "value") == told(served(everything), "value")
    assert told(status, "level") == {("sessions_with_gap", ""): 5}
    assert told(status, "broken", "critical") == {("sessions_with_gap", ""): 1}
