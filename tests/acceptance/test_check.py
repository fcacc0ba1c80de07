"""`check`: what a person and a CI job are told, and the exit code by which the job goes on or stops."""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import TOUR, Database
from junitparser import JUnitXml
from processes import run

SMALL = """
database: {url: "${DATABASE_URL}"}
pipelines:
  care:
    window: {since: 2025-08-01}
    sessions: {table: assessment_sessions, key: id, status: status, started_at: created_at,
      completed_at: completed_at, eligible: status = 'completed' and completed_questions > 0}
    records:
      fc_scores: {table: fc_scores, session_key: session_id, version: {column: version, current: v1.2}}
      profiles: {table: profiles, session_key: session_id}
LIMITS
"""


def check(text: str, dsn: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    path = folder / "config.yaml"
    path.write_text(text)
    return run("check", "--config.file", str(path), *flags, DATABASE_URL=dsn)


def small(**limits: str) -> str:
    lines = [f"      {name}: {{{threshold}}}" for name, threshold in limits.items()]
    return SMALL.replace("LIMITS", "\n".join(["    limits:", *lines]) if lines else "")


def as_json(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


async def test_the_tour_on_a_healthy_platform_is_healthy_and_every_limit_has_a_line(
    healthy: Database, tmp_path: Path
) -> None:
    done = check(TOUR.read_text(), healthy.dsn, tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    head, *lines, space, last = done.stdout.splitlines()
    assert head.startswith("assessments: healthy, measured at ")
    assert (space, last) == ("", f"1 pipeline: 1 healthy; 0 of {len(lines)} numbers broken; exit code 0")
    assert [line.split() for line in lines if "gap_" in line or "with_gap" in line] == [
        ["not", "judged", "gap_age", "no", "session", "has", "a", "gap"],
        ["within", "sessions_with_gap", "0", "≤", "0"],
        ["within", "gap_ratio", "0%", "of", "157", "sessions", "≤", "1%"],
    ]
    assert {line.split()[0] for line in lines} <= {"within", "not"}
    assert {line.split()[2] for line in lines if "outdated_sessions" in line} == {"profiles", "fc_scores"}


async def test_39_gaps_break_a_critical_limit(backfill: Database, tmp_path: Path) -> None:
    done = check(TOUR.read_text(), backfill.dsn, tmp_path)

    assert done.returncode == 1
    head, first, *_ = done.stdout.splitlines()
    assert head.startswith("assessments: unhealthy")
    assert first.split() == ["critical", "sessions_with_gap", "39", ">", "0"]


async def test_the_worst_pipeline_comes_first_and_the_totals_last(backfill: Database, tmp_path: Path) -> None:
    fine = small(sessions_with_gap="critical: 39")
    text = fine + small(sessions_with_gap="critical: 38").partition("pipelines:\n")[2].replace("care:", "worse:")

    done = check(text, backfill.dsn, tmp_path)
    short = check(text, backfill.dsn, tmp_path, "--only-broken")

    totals = "2 pipelines: 1 unhealthy, 1 healthy; 1 of 2 numbers broken; exit code 1"
    heads = [line.partition(",")[0] for line in done.stdout.splitlines() if "measured at" in line]
    assert heads == ["worse: unhealthy", "care: healthy"]
    assert done.stdout.splitlines()[-1] == short.stdout.splitlines()[-1] == totals
    assert "care" not in short.stdout


async def test_with_only_broken_what_is_within_its_limit_is_left_out(backfill: Database, tmp_path: Path) -> None:
    done = check(TOUR.read_text(), backfill.dsn, tmp_path, "--only-broken")
    refused = check(TOUR.read_text(), backfill.dsn, tmp_path, "--only-broken", "--format", "json")

    assert done.returncode == 1
    _, *lines, _, last = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"critical", "warning"}
    assert re.fullmatch(r"1 pipeline: 1 unhealthy; [1-9] of \d\d numbers broken; exit code 1", last)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--only-broken needs --format text" in refused.stderr


@pytest.mark.parametrize(
    ("limits", "flags", "code", "verdict"),
    [
        ({"sessions_with_gap": "critical: 39"}, (), 0, "healthy"),
        ({"sessions_with_gap": "critical: 38"}, (), 1, "unhealthy"),
        ({"sessions_with_gap": "critical: 38"}, ("--fail-on", "critical"), 1, "unhealthy"),
        ({"sessions_with_gap": "warning: 38"}, (), 1, "degraded"),
        ({"sessions_with_gap": "warning: 38"}, ("--fail-on", "critical"), 0, "degraded"),
        ({"sessions_with_gap": "warning: 38, critical: 39"}, (), 1, "degraded"),
        ({"gap_ratio": "critical: 0.25"}, (), 0, "healthy"),
        ({"gap_ratio": "critical: 0.24"}, (), 1, "unhealthy"),
        ({"gap_ratio": "critical: 0.24, min_sessions: 157"}, (), 1, "unhealthy"),
        ({"gap_ratio": "critical: 0.24, min_sessions: 158"}, (), 3, "unknown"),
        ({"gap_ratio": "critical: 0.24, min_sessions: 158", "sessions_with_gap": "critical: 39"}, (), 0, "healthy"),
        ({"gap_age": "critical: 3650d"}, (), 0, "healthy"),
        ({"outdated_sessions": "critical: 10, warning: 5", "sessions_with_gap": "warning: 100"}, (), 1, "unhealthy"),
        ({"orphaned_records": "critical: 0"}, (), 3, "unknown"),
        ({}, (), 3, "unknown"),
    ],
)
async def test_exit_codes_follow_the_limits(
    backfill: Database, tmp_path: Path, limits: dict[str, str], flags: tuple[str, ...], code: int, verdict: str
) -> None:
    done = check(small(**limits), backfill.dsn, tmp_path, "--format", "json", *flags)

    assert done.returncode == code, done.stdout
    found = as_json(done)
    assert (found["verdict"], found["exit_code"]) == (verdict, code)
    assert found["pipelines"][0]["verdict"] == verdict


async def test_gaps_without_a_limit_on_them_are_never_healthy(backfill: Database, tmp_path: Path) -> None:
    done = check(small(), backfill.dsn, tmp_path)

    assert done.returncode == 3
    assert "unknown: 39 sessions have a gap, and no limit judges gaps: set one of sessions_with_gap" in done.stdout
    assert "no limits are set" in done.stdout


async def test_gaps_among_too_few_sessions_for_their_ratio_are_never_healthy(
    backfill: Database, tmp_path: Path
) -> None:
    done = check(small(gap_ratio="critical: 0.24, min_sessions: 158"), backfill.dsn, tmp_path)

    assert "not judged    gap_ratio                       only 157 sessions, and min_sessions is 158" in done.stdout
    assert "39 sessions have a gap, and no limit judges gaps: set one of sessions_with_gap, gap_age\n" in done.stdout


async def test_gaps_that_lie_in_the_future_are_never_healthy_for_being_young(healthy: Database, tmp_path: Path) -> None:
    one = "(select session_id from profiles limit 1)"
    await healthy.execute(
        f"update assessment_sessions set completed_at = now() + interval '1 year' where id = {one}; "
        f"delete from profiles where session_id = {one}"
    )
    young = check(small(gap_age="critical: 1h"), healthy.dsn, tmp_path)
    counted = check(small(gap_age="critical: 1h", sessions_with_gap="critical: 0"), healthy.dsn, tmp_path)

    assert (young.returncode, counted.returncode) == (3, 1)
    assert "1 sessions have a gap, and no limit judges gaps: set one of sessions_with_gap, gap_ratio" in young.stdout


async def test_no_eligible_session_is_no_data_whatever_else_is_well(tables: Database, tmp_path: Path) -> None:
    done = check(TOUR.read_text(), tables.dsn, tmp_path)
    strict = check(small(orphaned_records="warning: 0"), tables.dsn, tmp_path)

    assert (done.returncode, strict.returncode) == (4, 4)
    assert done.stdout.startswith("assessments: no_data")
    assert "no eligible session in the window" in done.stdout


async def test_what_is_not_measured_is_named_and_comes_after_a_broken_critical_limit(
    backfill: Database, tmp_path: Path
) -> None:
    await backfill.execute("drop table profiles")

    unknown = check(small(sessions_with_gap="critical: 0"), backfill.dsn, tmp_path)
    broken = check(small(outdated_sessions="critical: 0"), backfill.dsn, tmp_path)

    assert unknown.returncode == 3
    assert "records.profiles" in unknown.stdout
    assert "not measured" in unknown.stdout
    assert broken.returncode == 1


async def test_a_dead_database_beside_a_healthy_one_is_unknown_and_hides_nothing(
    healthy: Database, tmp_path: Path
) -> None:
    text = small(sessions_with_gap="critical: 0").replace(
        'database: {url: "${DATABASE_URL}"}',
        'databases: {main: {url: "${DATABASE_URL}"}, gone: {url: "postgresql://nobody:geheim@127.0.0.1:1/x"}}',
    )
    [_, pipeline] = text.split("pipelines:\n")
    other = pipeline.replace("  care:", "  cure:\n    database: gone")
    text = text.replace("  care:", "  care:\n    database: main") + other

    done = check(text, healthy.dsn, tmp_path, "--format", "json")

    assert done.returncode == 3
    assert {p["pipeline"]: p["verdict"] for p in as_json(done)["pipelines"]} == {"care": "healthy", "cure": "unknown"}
    assert as_json(done)["pipelines"][1]["faults"][0]["reason"] == "connect"
    assert "geheim" not in done.stdout + done.stderr


async def test_json_has_every_finding_in_base_units(backfill: Database, tmp_path: Path) -> None:
    done = check(TOUR.read_text(), backfill.dsn, tmp_path, "--format", "json")

    [pipeline] = as_json(done)["pipelines"]
    findings = {(finding["limit"], finding["subject"]): finding for finding in pipeline["findings"]}
    assert findings["gap_age", None]["critical"] == 3600
    assert findings["gap_age", None]["value"] > 3600
    assert findings["gap_ratio", None] == {
        "limit": "gap_ratio",
        "subject": None,
        "outcome": "warning",
        "value": 39 / 157,
        "unit": "ratio",
        "warning": 0.01,
        "critical": None,
        "sessions": 157,
        "meaning": "Share of sessions with a gap, pending sessions excluded",
        "words": "",
    }
    assert findings["outdated_sessions", "fc_scores"]["value"] == 11
    assert findings["failed_checks", "finalized"]["outcome"] == "within"


def test_a_config_that_cannot_be_read_is_a_mistake_of_usage(tmp_path: Path) -> None:
    assert check("pipelines: {}", "", tmp_path).returncode == 2


def junit(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Every case by its name, and how it ended; read by somebody else's parser."""
    cases = {}
    for suite in JUnitXml.fromstring(done.stdout.encode()):
        for case in suite:
            kinds = [type(result).__name__.lower() for result in case.result]
            cases[case.name] = kinds[0] if kinds else "passed"
    return cases


async def test_junit_has_a_case_for_each_judged_line(backfill: Database) -> None:
    done = run("check", "--format", "junit", "--config.file", str(TOUR), DATABASE_URL=backfill.dsn)

    assert done.returncode == 1
    cases = junit(done)
    assert cases["sessions_with_gap"] == "failure"
    assert cases["outdated_sessions fc_scores"] == "failure"
    assert cases["drifted_records profiles"] == "passed"
    assert cases["failed_checks finalized"] == "passed"
    assert cases["completion_ratio"] == "skipped"
    assert "Sessions with a gap: 39 &gt; 0" in done.stdout
    [suite] = JUnitXml.fromstring(done.stdout.encode())
    counted = Counter(cases.values())
    assert (suite.tests, suite.failures, suite.skipped) == (len(cases), counted["failure"], counted["skipped"])
    critical = run(
        "check", "--format", "junit", "--fail-on", "critical", "--config.file", str(TOUR), DATABASE_URL=backfill.dsn
    )
    assert junit(critical)["outdated_sessions fc_scores"] == "passed"


async def test_junit_has_an_error_for_what_was_not_measured(backfill: Database) -> None:
    await backfill.execute("drop table fc_scores")

    done = run("check", "--format", "junit", "--config.file", str(TOUR), DATABASE_URL=backfill.dsn)

    assert done.returncode == 3
    cases = junit(done)
    assert cases["measured: missing_object"] == "error"
    assert cases["sessions_with_gap"] == "error"


async def test_a_workflow_of_github_is_annotated_on_the_other_stream(backfill: Database) -> None:
    arguments = ("check", "--format", "json", "--config.file", str(TOUR))
    done = run(*arguments, DATABASE_URL=backfill.dsn, GITHUB_ACTIONS="true")

    assert json.loads(done.stdout)["verdict"] == "unhealthy"
    lines = [line for line in done.stderr.splitlines() if line.startswith("::")]
    assert "::error title=assessments%3A sessions_with_gap::Sessions with a gap: 39 > 0" in lines
    share = "Share of sessions with a gap, pending sessions excluded: 24.84%25 of 157 sessions > 1%25"
    assert f"::error title=assessments%3A gap_ratio::{share}" in lines
    assert "::" not in run(*arguments, DATABASE_URL=backfill.dsn).stderr
