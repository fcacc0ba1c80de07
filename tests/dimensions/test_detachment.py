"""Detachment: records that a soft deletion left behind."""

import pytest
from conftest import Beginning, Database, care

CONFIG = care(
    eligible="deleted_at is null, deleted: deleted_at is not null",
    scores="",
    limits="{detached_records: {warning: 0}}",
)


BEGINNING = Beginning("""
    create table visits (
      id int primary key, status text, started_at timestamptz, completed_at timestamptz, deleted_at timestamptz
    );
    create table scores (visit_id int);
    insert into visits values (1, 'done', '2025-05-01', '2025-05-01', null),
      (2, 'done', '2025-05-01', '2025-05-01', '2025-06-01'), (3, 'done', '2024-05-01', '2024-05-01', '2025-06-01');
    insert into scores values (1), (2), (2), (3);
    """)
"""A visit, one that was deleted, and one that was deleted before the window; all with a score."""


async def test_records_of_deleted_sessions_are_seen_and_mended(visits: Database) -> None:
    broken = await visits.measure(CONFIG)
    await visits.execute("delete from scores where visit_id > 1")

    mended = await visits.measure(CONFIG)

    assert broken.family("detached_records") == {("scores",): 3}
    assert broken.snapshot.judgement.verdict(is_complete=True) == "degraded"
    assert mended.family("detached_records") == {("scores",): 0}
    assert mended.snapshot.judgement.verdict(is_complete=True) == "healthy"


async def test_orphans_and_unlinked_rows_are_not_detached(visits: Database) -> None:
    await visits.execute("truncate scores; insert into scores values (99), (null)")

    assert (await visits.measure(CONFIG)).family("detached_records") == {("scores",): 0}


async def test_a_null_is_not_deleted(visits: Database) -> None:
    text = CONFIG.replace("deleted: deleted_at is not null", "deleted: deleted_at > '2025-01-01'")

    assert (await visits.measure(text)).family("detached_records") == {("scores",): 3}


async def test_empty_tables_have_a_zero_and_a_config_without_the_key_says_nothing(visits: Database) -> None:
    text = CONFIG.replace(", deleted: deleted_at is not null", "").partition("    limits:")[0]
    without = await visits.measure(text)
    await visits.execute("truncate visits, scores")

    assert without.family("detached_records") == {}
    assert (await visits.measure(CONFIG)).family("detached_records") == {("scores",): 0}


@pytest.mark.parametrize("beside", ["", "drop table notes"])
async def test_a_key_that_the_server_refuses_loses_only_what_it_is_about(visits: Database, beside: str) -> None:
    await visits.execute("create table notes (visit_id int); " + beside)
    text = CONFIG.replace("deleted: deleted_at", "deleted: removed_at")
    text = text.replace("    limits:", "      notes: {table: notes, session_key: visit_id}\n    limits:")

    numbers = await visits.measure(text)

    assert list(numbers.snapshot.part_faults) == ["sessions.deleted"]
    assert list(numbers.snapshot.record_faults) == (["notes"] if beside else [])
    assert numbers.family("detached_records") == {}
    assert numbers("orphaned_records", "scores") == 0
    assert {f.outcome for f in numbers.snapshot.judgement.findings} == {"not_measured"}


async def test_a_broken_record_leaves_what_is_known_of_the_others(visits: Database) -> None:
    text = CONFIG.replace("    limits:", "      notes: {table: nowhere, session_key: visit_id}\n    limits:")

    assert (await visits.measure(text)).family("detached_records") == {("scores",): 3}
