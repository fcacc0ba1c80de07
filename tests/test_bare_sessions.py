"""A table of sessions without a column of the status: `sessions.status` is optional."""

import pytest
from conftest import Beginning, Database, care, whole_tour
from sweeping import Life, Sweeping, assert_same, in_small_slices
from test_sessions_where import worklist

from exporter.config.read import ConfigError, parse_config
from exporter.mend.forms import Row
from exporter.mend.lists import list_members
from exporter.setup.preflight import preflight

BEGINNING = Beginning(
    """
    create table visits (id int primary key, started_at timestamptz, completed_at timestamptz, done boolean);
    create table scores (visit_id int);
    insert into visits values
      (1, '2025-05-31', '2025-05-31', true), (2, '2025-05-31', '2025-05-31', true), (3, '2025-05-31', null, false);
    insert into scores values (1);
    """,
    clock="2025-06-01 12:00:00+00",
)


def config(more: str = "", *lines: str) -> str:
    return care(*lines, eligible=f"done{more and ', '}{more}", scores="").replace("status: status, ", "")


async def test_sessions_without_a_status_are_one_number(visits: Database) -> None:
    numbers = await visits.measure(config())

    assert numbers.family("sessions") == {("<none>",): 3}
    assert numbers.positive("eligible_sessions") == {("complete",): 1, ("gap",): 1}
    assert [one.session for one in (await worklist(visits, config())).sessions()] == [("2",)]


async def test_an_empty_window_has_no_series_as_with_a_status(visits: Database) -> None:
    await visits.execute("truncate visits")

    assert (await visits.measure(config())).family("sessions") == {}


async def test_stuck_sessions_are_found_by_sql_alone(visits: Database) -> None:
    numbers = await visits.measure(config("stuck: {where: not done, after: 2h}"))

    assert numbers.family("stuck_sessions") == {("<none>",): 1}


async def test_the_list_of_stuck_sessions_has_no_status(visits: Database) -> None:
    text = config("stuck: {where: not done, after: 2h}", "limits: {stuck_sessions: {warning: 0}}")
    found: list[Row] = []

    await list_members(visits.plan(text), "stuck_sessions", [""], found.append)

    assert [(row["session"], row["status"]) for row in found] == [("3", None)]


async def test_the_check_of_the_config_asks_for_no_column(visits: Database) -> None:
    found = [f for group in await preflight(visits.config(config())) for f in group.findings]

    assert [finding for finding in found if finding.severity == "error"] == []


async def test_the_report_has_no_line_about_a_status(visits: Database) -> None:
    snapshot = (await visits.measure(config())).snapshot
    texts = [line.text for d in visits.plan(config()).dimensions for line in d.lines(snapshot.readings)]

    assert "Sessions in the window, eligible or not" in texts
    assert not [text for text in texts if "status" in text and "stay in a status" not in text]


def test_statuses_that_must_not_last_need_the_column() -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(config("stuck: {statuses: [open], after: 2h}"), {"DATABASE_URL": "postgresql://nowhere"})

    assert [(problem.path, problem.message) for problem in error.value.problems] == [
        ("pipelines.care.sessions.stuck.statuses", "needs sessions.status: name the column, or write where (SQL)")
    ]


@pytest.fixture
async def platform(empty: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    return await in_small_slices(empty, monkeypatch)


async def test_slices_count_what_a_full_pass_counts(platform: Database) -> None:
    text = whole_tour(deleted="deleted_at is not null", statement_timeout="20s", stuck="{where: 'true', after: 2h}")
    life, sweeping = Life(platform, 7), Sweeping(platform, text.replace("      status: status\n", ""))
    assert sweeping.plan.pipeline.sessions.status is None
    for _ in range(80):
        await life.act()

    swept = await sweeping.whole()

    await assert_same(sweeping.plan, swept)
    assert swept.readings.numbers["sessions", "<none>"] > 0
