"""Stuck: sessions that stay in a status for longer than is normal."""

import pytest
from conftest import Database, plan_of

from exporter.config.read import ConfigError

CONFIG = """
database: {url: "${DATABASE_URL}"}
pipelines:
  care:
    window: {since: 2025-01-01}
    sessions: {table: visits, key: id, status: status, started_at: started_at, completed_at: completed_at,
      eligible: status = 'done', stuck: {statuses: [open, waiting], after: 2h}}
    records:
      scores: {table: scores, session_key: visit_id, grace: 1d}
    limits: {stuck_sessions: {warning: 0}, sessions_with_gap: {critical: 0}}
"""
BY_SQL = CONFIG.replace("statuses: [open, waiting]", "where: \"status in ('open', 'waiting')\"")


@pytest.fixture
async def visits(empty: Database) -> Database:
    """Two sessions are stuck: open and waiting; others are young, done, in another status, or before the window."""
    await empty.execute(
        """
        create table visits (
          id int primary key, status text, started_at timestamptz, completed_at timestamptz, changed_at timestamptz
        );
        create table scores (visit_id int);
        insert into visits values
          (1, 'open', now() - interval '3 hours', null, now() - interval '1 hour'),
          (2, 'waiting', now() - interval '3 hours', null, now() - interval '3 hours'),
          (3, 'open', now() - interval '1 hour', null, now()),
          (4, 'done', now() - interval '3 hours', now(), now()),
          (5, 'paused', now() - interval '3 hours', null, now()),
          (6, 'open', '2024-05-01', null, now()),
          (7, 'open', null, null, null);
        insert into scores values (4);
        """
    )
    return empty


@pytest.mark.parametrize("text", [CONFIG, BY_SQL], ids=["statuses", "where"])
async def test_stuck_sessions_are_seen_and_leave_the_number_when_they_move_on(visits: Database, text: str) -> None:
    broken = await visits.measure(text)
    await visits.execute("update visits set status = 'done', completed_at = now() where id in (1, 2)")

    moved = await visits.measure(text)

    assert broken.positive("stuck_sessions") == {("open",): 1, ("waiting",): 1}
    assert broken.snapshot.judgement.verdict(is_complete=True) == "degraded"
    assert moved.positive("stuck_sessions") == {}
    assert sum(moved.family("stuck_sessions").values()) == 0
    assert moved.snapshot.judgement.findings[-1].outcome == "within"


async def test_the_time_counts_from_the_column_since(visits: Database) -> None:
    found = await visits.measure(CONFIG.replace("after: 2h", "after: 2h, since: changed_at"))

    assert found.family("stuck_sessions") == {("open",): 0, ("waiting",): 1}


async def test_a_session_without_the_time_is_not_stuck(visits: Database) -> None:
    await visits.execute("update visits set changed_at = null")

    found = await visits.measure(CONFIG.replace("after: 2h", "after: 2h, since: changed_at"))

    assert found.family("stuck_sessions") == {("open",): 0, ("waiting",): 0}


async def test_a_null_is_not_stuck(visits: Database) -> None:
    await visits.execute("update visits set status = null")

    assert sum((await visits.measure(CONFIG)).family("stuck_sessions").values()) == 0
    assert sum((await visits.measure(BY_SQL)).family("stuck_sessions").values()) == 0


async def test_empty_tables_have_a_zero_and_a_config_without_the_key_has_no_number(visits: Database) -> None:
    text = CONFIG.replace(", stuck: {statuses: [open, waiting], after: 2h}", "")
    without = await visits.measure(text.replace("stuck_sessions: {warning: 0},", ""))
    await visits.execute("truncate visits, scores")

    assert without.family("stuck_sessions") == {}
    assert (await visits.measure(CONFIG)).family("stuck_sessions") == {("open",): 0, ("waiting",): 0}
    assert (await visits.measure(BY_SQL)).family("stuck_sessions") == {("<none>",): 0}


async def test_a_condition_that_the_server_refuses_loses_the_number_alone(visits: Database) -> None:
    numbers = await visits.measure(BY_SQL.replace("status in", "no_such_column = 1 or status in"))

    assert list(numbers.snapshot.part_faults) == ["sessions.stuck.where"]
    assert "no_such_column" in numbers.snapshot.part_faults["sessions.stuck.where"].message
    assert numbers.family("stuck_sessions") == {}
    assert numbers("eligible_sessions", "complete") == 1
    [stuck] = [one for one in numbers.snapshot.judgement.findings if one.limit.name == "stuck_sessions"]
    assert stuck.outcome == "not_measured"
    assert numbers.snapshot.judgement.verdict(is_complete=False) == "unknown"


@pytest.mark.parametrize(
    "given", ["after: 2h", "after: 2h, statuses: [open], where: completed_at is null", "after: 2h, statuses: []"]
)
def test_one_condition_is_needed_and_one_alone(given: str) -> None:
    text = CONFIG.replace("statuses: [open, waiting], after: 2h", given)

    with pytest.raises(ConfigError) as error:
        plan_of(text, "postgresql://nowhere")

    assert [(one.path, one.message) for one in error.value.problems] == [
        ("pipelines.care.sessions.stuck", "needs exactly one of statuses (a list of texts) and where (SQL)")
    ]


def test_a_time_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        plan_of(CONFIG.replace("after: 2h", "after: 0"), "postgresql://nowhere")

    assert [one.path for one in error.value.problems] == ["pipelines.care.sessions.stuck.after"]
