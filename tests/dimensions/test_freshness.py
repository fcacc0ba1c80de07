"""Freshness: the newest session and the newest record, and when their age means anything."""

from conftest import Beginning, Database, care

CONFIG = care(
    "grace: 10m",
    window="{last: 48h}",
    scores="created_at: created_at, required_when: scored",
    limits="{newest_session_age: {warning: 1h}, newest_record_age: {warning: 1h, critical: 12h}}",
)

NOON = 1748779200.0
"""2025-06-01 12:00 UTC, when every collection here happens."""


BEGINNING = Beginning(
    """
    create table visits (
      id int generated always as identity primary key, status text, started_at timestamptz,
      completed_at timestamptz, done boolean default true, scored boolean default true
    );
    create table scores (visit_id int, created_at timestamptz);
    """,
    clock="2025-06-01 12:00:00+00",
)


async def visit(database: Database, started: str, completed: str | None = None, *, scored: bool = True) -> None:
    await database.execute(
        "insert into visits (started_at, completed_at, scored) "
        "values ($1::text::timestamptz, $2::text::timestamptz, $3)",
        started,
        completed,
        scored,
    )


async def score(database: Database, written: str | None) -> None:
    await database.execute("insert into scores values (1, $1::text::timestamptz)", written)


async def findings(database: Database) -> dict[str, tuple[str, float | None]]:
    judged = (await database.measure(CONFIG)).snapshot.judgement.findings
    return {finding.limit.name: (finding.outcome, finding.value) for finding in judged if "age" in finding.limit.name}


async def test_the_newest_are_told_by_step_and_the_future_is_not(visits: Database) -> None:
    await visit(visits, "2025-06-01 09:00+00", "2025-06-01 10:00+00")
    await visit(visits, "2025-06-01 11:00+00", "2025-06-01 13:00+00")
    await visit(visits, "2025-06-01 12:00:00.000001+00")
    await visit(visits, "infinity", "infinity")
    for written in ("2025-06-01 11:30+00", "2025-06-01 12:00:01+00", "infinity", None):
        await score(visits, written)

    numbers = await visits.measure(CONFIG)

    assert numbers.family("newest_session_timestamp_seconds") == {
        ("started",): NOON - 3600,
        ("completed",): NOON - 7200,
    }
    assert numbers.family("newest_record_timestamp_seconds") == {("scores",): NOON - 1800}


async def test_empty_tables_have_no_newest(visits: Database) -> None:
    numbers = await visits.measure(CONFIG)

    assert numbers.family("newest_session_timestamp_seconds") == {}
    assert numbers.family("newest_record_timestamp_seconds") == {}
    assert numbers.family("newest_due_timestamp_seconds") == {}


async def test_without_created_at_nothing_is_said_of_the_record(visits: Database) -> None:
    text = CONFIG.replace(" created_at: created_at,", "")
    text = text.replace(", newest_record_age: {warning: 1h, critical: 12h}", "")
    await score(visits, "2025-06-01 11:30+00")
    await visit(visits, "2025-06-01 09:00+00", "2025-06-01 10:00+00", scored=False)

    numbers = await visits.measure(text)

    assert numbers.family("newest_record_timestamp_seconds") == {}
    assert numbers.family("newest_due_timestamp_seconds") == {}


async def test_sessions_that_stop_coming_are_seen_and_mended(visits: Database) -> None:
    await visit(visits, "2025-06-01 10:59:59+00")
    broken = await findings(visits)
    await visit(visits, "2025-06-01 11:00:00+00")

    mended = await findings(visits)

    found = [state["newest_session_age"] for state in (broken, mended)]
    assert found == [("warning", 3601), ("within", 3600)]


async def test_no_session_in_the_whole_window_is_at_least_as_old_as_the_window(visits: Database) -> None:
    await visit(visits, "2025-05-01 09:00+00", "2025-05-01 10:00+00")

    assert (await findings(visits))["newest_session_age"] == ("warning", 48 * 3600)


async def test_a_record_is_late_only_while_sessions_wait_for_it(visits: Database) -> None:
    await visit(visits, "2025-05-31 20:00+00", "2025-05-31 21:00+00")
    await score(visits, "2025-05-31 21:00:05+00")
    idle = await findings(visits)
    await visit(visits, "2025-06-01 11:00+00", "2025-06-01 11:50:00.000001+00")
    within_grace = await findings(visits)
    await visit(visits, "2025-06-01 11:00+00", "2025-06-01 11:49+00", scored=False)
    not_needed = await findings(visits)
    await visit(visits, "2025-06-01 11:00+00", "2025-06-01 11:50+00")
    due = await findings(visits)
    await score(visits, "2025-06-01 11:51+00")

    mended = await findings(visits)

    found = [state["newest_record_age"] for state in (idle, within_grace, not_needed, due, mended)]
    nothing = ("not_judged", None)
    assert found == [nothing, nothing, nothing, ("critical", 15 * 3600 - 5), nothing]


async def test_a_record_table_that_stays_empty_is_late_as_soon_as_a_session_is_due(visits: Database) -> None:
    await visit(visits, "2025-06-01 09:00+00", "2025-06-01 10:00+00")

    assert (await findings(visits))["newest_record_age"] == ("warning", 7200)
