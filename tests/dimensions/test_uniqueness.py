"""Uniqueness: rows that are there more than once."""

import pytest
from conftest import Beginning, Database, care

CONFIG = care(scores="version: {column: version, current: v3}, UNIQUE accepted_values: {kind: [a]}")


def config(unique: str = "unique: [visit_id, version]") -> str:
    return CONFIG.replace("UNIQUE", f"{unique}," if unique else "")


BEGINNING = Beginning("""
    create table visits (
      id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean
    );
    create table scores (visit_id int, version text, kind text default 'a', "Odd ""name" text);
    insert into visits values (1, 'done', '2025-05-01', '2025-05-01', true);
    """)


async def test_duplicates_are_seen_and_mended(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'v3'), (1, 'v3'), (1, 'v3'), (1, 'v2'), (2, 'v3'), (2, 'v3')")
    broken = await visits.measure(config())
    await visits.execute("delete from scores; insert into scores values (1, 'v3'), (1, 'v2'), (2, 'v3')")

    mended = await visits.measure(config())

    assert broken.family("duplicate_records") == {("scores",): 3}
    assert mended.family("duplicate_records") == {("scores",): 0}


async def test_a_null_in_the_key_makes_no_duplicate(visits: Database) -> None:
    await visits.execute("insert into scores values (1, null), (1, null), (null, 'v3'), (null, 'v3'), (null, null)")

    numbers = await visits.measure(config())

    assert numbers.family("duplicate_records") == {("scores",): 0}


@pytest.mark.parametrize(
    ("unique", "excess"),
    [("unique: visit_id", 3), ("unique: [kind]", 3), ("unique: [kind, version]", 1), ("unique: 'Odd \"name'", 1)],
)
async def test_the_key_is_what_the_config_names(visits: Database, unique: str, excess: int) -> None:
    await visits.execute(
        """
        insert into scores values (1, 'v1', 'a', 'x'), (1, 'v1', 'a', 'x'), (1, 'v2', 'a', null), (1, 'v3', 'a', null)
        """
    )

    numbers = await visits.measure(config(unique))

    assert numbers.family("duplicate_records") == {("scores",): excess}


async def test_without_unique_nothing_is_said(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'v3'), (1, 'v3')")

    assert (await visits.measure(config(""))).family("duplicate_records") == {}


async def test_duplicates_change_no_other_number(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'v3'), (1, 'v3'), (1, 'v2'), (null, 'v3'), (99, 'v3')")

    without, with_unique = await visits.measure(config("")), await visits.measure(config())

    others = {k: n for k, n in with_unique.snapshot.readings.numbers.items() if k[0] != "duplicate_records"}
    assert others == without.snapshot.readings.numbers


async def test_a_column_that_is_not_there_loses_the_record(visits: Database) -> None:
    numbers = await visits.measure(config("unique: [visit_id, nowhere]"))

    assert numbers.snapshot.record_faults["scores"].reason == "missing_object"
    assert numbers.family("duplicate_records") == {}
