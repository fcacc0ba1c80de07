"""What the config does not ask for is never a good number: a record without versions or accepted values."""

import pytest
from conftest import Beginning, Database, care

from exporter.dimensions import DIMENSIONS
from exporter.measure.supervise import collect_once
from exporter.model.standing import Standing
from exporter.present.report.account import report_on
from exporter.present.report.markdown import as_markdown

BEGINNING = Beginning(
    """
    create table visits (id int primary key, status text, started_at timestamptz, completed_at timestamptz,
      done boolean);
    create table scores (id int, visit_id int, revision int);
    insert into visits select n, 'x', '2025-01-01', '2025-01-02', true from generate_series(1, 3) n;
    insert into scores select n, n, 1 from generate_series(1, 3) n;
    """
)
LIMITS = "{outdated_sessions: {critical: 0}, invalid_records: {critical: 0}, sessions_with_gap: {critical: 0}}"


async def report(database: Database, scores: str) -> str:
    [status] = await collect_once([database.plan(care(scores=scores, limits=LIMITS))])
    assert status.snapshot is not None
    return as_markdown(report_on([status], DIMENSIONS, status.last.ended_at if status.last else 0))


@pytest.fixture
async def plain(visits: Database) -> str:
    return await report(visits, "")


async def test_a_report_without_versions_has_no_good_number_about_versions(plain: str) -> None:
    assert f"| Versions | {Standing.NOT_ASKED.sign} | not asked for: set records.scores.version |" in " ".join(
        plain.split("  ")
    )
    assert "outdated scores" not in plain


async def test_limits_on_what_is_not_asked_for_judge_nothing(plain: str) -> None:
    assert "Nothing to judge: `outdated_sessions` of scores, `invalid_records` of scores." in plain


async def test_with_a_version_and_values_both_are_judged(visits: Database) -> None:
    text = await report(visits, "version: {column: revision, current: '1'}, accepted_values: {revision: ['1']}")

    assert "| Versions | ✅ 0 outdated sessions" in text
    assert "Nothing to judge" not in text
