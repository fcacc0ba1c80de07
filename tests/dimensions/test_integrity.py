"""Integrity: rows that belong to no session, and whether the database rules them out."""

import pytest
from conftest import Beginning, Database, care

CONFIG = care(scores="")

COMPOSITE = CONFIG.replace("key: id,", "key: [clinic, id],").replace("key: visit_id", "key: [clinic, visit_id]")
CAST = CONFIG.replace("session_key: visit_id", "session_key: {column: visit_id, cast: uuid}")

VISITS = """
create table visits (
  clinic int, id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean,
  unique (clinic, id)
);
insert into visits values (1, 1, 'done', '2025-05-01', '2025-05-01', true), (1, 2, 'old', '1999-01-01', null, false);
"""


BEGINNING = Beginning(VISITS + "create table scores (clinic int, visit_id int, hidden boolean default false)")
"""Visit 1 in the window and visit 2 long before it."""


async def test_orphans_are_seen_and_mended(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 1), (1, 2), (1, 3), (1, 3), (1, 4)")
    broken = await visits.measure(CONFIG)
    await visits.execute("delete from scores where visit_id > 2")

    mended = await visits.measure(CONFIG)

    assert broken.family("orphaned_records") == {("scores",): 3}
    assert broken.family("unlinked_records") == {("scores",): 0}
    assert mended.family("orphaned_records") == {("scores",): 0}


async def test_a_row_of_a_session_outside_the_window_is_no_orphan(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 2)")
    await visits.execute(
        "insert into visits values (1, 5, 'undated', null, null, true); insert into scores values (1, 5)"
    )

    numbers = await visits.measure(CONFIG)

    assert numbers.family("orphaned_records") == {("scores",): 0}


async def test_null_keys_are_unlinked_not_orphaned(visits: Database) -> None:
    await visits.execute("insert into scores values (1, null), (1, null), (1, 9)")

    numbers = await visits.measure(CONFIG)

    assert numbers.family("unlinked_records") == {("scores",): 2}
    assert numbers.family("orphaned_records") == {("scores",): 1}


async def test_a_composite_key_is_null_when_any_part_is(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 1), (2, 1), (1, 9), (null, 1), (1, null), (null, null)")

    numbers = await visits.measure(COMPOSITE)

    assert numbers.family("orphaned_records") == {("scores",): 2}
    assert numbers.family("unlinked_records") == {("scores",): 3}
    assert numbers.positive("record_sessions") == {("scores", "current"): 1}
    assert numbers.positive("record_version_sessions") == {("scores", "<none>", "current"): 1}


async def test_a_session_with_a_null_in_its_key_has_no_rows(visits: Database) -> None:
    await visits.execute(
        """
        insert into visits values (null, 7, 'done', '2025-05-01', '2025-05-01', true);
        insert into scores values (null, 7), (1, 1);
        """
    )

    numbers = await visits.measure(COMPOSITE)

    assert numbers.positive("record_sessions") == {("scores", "current"): 1, ("scores", "missing"): 1}
    assert numbers.family("unlinked_records") == {("scores",): 1}


async def test_a_null_on_either_side_hides_no_orphan_and_no_gap(visits: Database) -> None:
    """With `NOT IN` each of them would make the answer NULL, which reads as: none."""
    await visits.execute(
        """
        alter table visits drop constraint visits_pkey, alter id drop not null, add unique (id);
        insert into visits values (1, null, 'done', '2025-05-01', '2025-05-01', true);
        insert into scores values (1, null), (1, 9);
        """
    )

    numbers = await visits.measure(CONFIG)

    assert numbers.family("orphaned_records") == {("scores",): 1}
    assert numbers.family("unlinked_records") == {("scores",): 1}
    assert numbers.positive("record_sessions") == {("scores", "missing"): 2}


@pytest.mark.parametrize(
    ("session", "record"),
    [("int", "bigint"), ("bigint", "smallint"), ("varchar(9)", "text"), ("text", "char(9)"), ("numeric(6, 2)", "int")],
)
async def test_keys_of_kindred_types_meet_without_a_cast(visits: Database, session: str, record: str) -> None:
    await visits.execute(
        f"""
        alter table visits alter id type {session} using id::text::{session};
        alter table scores alter visit_id type {record} using null;
        insert into scores values (1, '1'), (1, '9'), (1, null);
        """
    )

    numbers = await visits.measure(CONFIG)

    assert numbers.positive("record_sessions") == {("scores", "current"): 1}
    assert numbers.family("orphaned_records") == {("scores",): 1}
    assert numbers.family("unlinked_records") == {("scores",): 1}


async def test_keys_of_another_type_meet_by_a_cast(visits: Database) -> None:
    await visits.execute(
        """
        alter table visits alter id type uuid using md5(id::text)::uuid;
        alter table scores alter visit_id type text;
        insert into scores values (1, upper(md5('1'))), (1, md5('9')), (1, null);
        """
    )

    numbers = await visits.measure(CAST)

    assert numbers.positive("record_sessions") == {("scores", "current"): 1}
    assert numbers.family("orphaned_records") == {("scores",): 1}
    assert numbers.family("unlinked_records") == {("scores",): 1}
    assert numbers.family("foreign_key_enforced") == {("scores",): 0}


async def test_bigint_keys_beyond_the_integers_are_told_apart(visits: Database) -> None:
    await visits.execute(
        """
        alter table visits alter id type bigint;
        alter table scores alter visit_id type bigint;
        update visits set id = 9223372036854775807 where id = 1;
        insert into scores values (1, 9223372036854775807), (1, 9223372036854775806);
        """
    )

    numbers = await visits.measure(CONFIG)

    assert numbers.positive("record_sessions") == {("scores", "current"): 1}
    assert numbers.family("orphaned_records") == {("scores",): 1}


async def test_hidden_rows_are_neither_orphans_nor_unlinked(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 9, true), (1, null, true)")

    numbers = await visits.measure(CONFIG.replace("visit_id}", "visit_id, where: not hidden}"))

    assert numbers.family("orphaned_records") == {("scores",): 0}
    assert numbers.family("unlinked_records") == {("scores",): 0}


# --- The proof by a foreign key

SINGLE = "alter table scores add foreign key (visit_id) references visits (id)"
PAIR = "alter table scores add foreign key (clinic, visit_id) references visits (clinic, id)"
TURNED = "alter table scores add foreign key (visit_id, clinic) references visits (id, clinic)"
OTHER = (
    "alter table visits add unique (clinic); alter table scores add foreign key (visit_id) references visits (clinic)"
)
AS_VIEW = "alter table scores rename to rows; create view scores as select * from rows"
ELSEWHERE = "create table people (id int primary key); alter table scores add foreign key (visit_id) references people"


@pytest.mark.parametrize(
    ("link", "text", "enforced"),
    [
        ("select", CONFIG, 0),
        (SINGLE, CONFIG, 1),
        (SINGLE + ";" + SINGLE, CONFIG, 1),
        (SINGLE + " on delete cascade deferrable initially deferred", CONFIG, 1),
        (SINGLE + " not valid", CONFIG, 0),
        (SINGLE + " not valid; alter table scores validate constraint scores_visit_id_fkey", CONFIG, 1),
        (SINGLE + " not enforced", CONFIG, 0),
        (SINGLE + "; alter table scores alter constraint scores_visit_id_fkey not enforced", CONFIG, 0),
        (SINGLE + "; alter table scores disable trigger all", CONFIG, 0),
        (SINGLE + "; create table heirs () inherits (scores)", CONFIG, 0),
        (SINGLE, COMPOSITE, 0),
        (PAIR, COMPOSITE, 1),
        (TURNED, COMPOSITE, 1),
        (PAIR, CONFIG, 0),
        (PAIR.replace("(clinic, visit_id)", "(visit_id, clinic)"), COMPOSITE, 0),
        ("delete from visits where id = 2; " + OTHER, CONFIG, 0),
        (ELSEWHERE, CONFIG, 0),
        (SINGLE + ";" + AS_VIEW, CONFIG, 0),
        (SINGLE, CONFIG.replace("table: scores", "table: public.scores").replace("visits", "public.visits"), 1),
        (SINGLE, CONFIG.replace("table: scores", "table: '\"public.scores\"'"), None),
    ],
)
async def test_only_a_validated_foreign_key_on_these_very_columns_proves_the_link(
    visits: Database, link: str, text: str, enforced: int | None
) -> None:
    if "not enforced" in link and visits.connection.get_server_version().major < 18:
        pytest.skip("constraints that are not enforced exist from PostgreSQL 18 on")
    await visits.execute(link)

    numbers = await visits.measure(text)

    assert numbers("foreign_key_enforced", "scores") == enforced


async def test_a_foreign_key_of_a_table_of_the_same_name_elsewhere_proves_nothing(visits: Database) -> None:
    await visits.execute(SINGLE + "; create schema other; create table other.scores (visit_id int)")

    ours = await visits.measure(CONFIG.replace("table: scores", "table: public.scores"))
    other = await visits.measure(CONFIG.replace("table: scores", "table: other.scores"))

    assert ours("foreign_key_enforced", "scores") == 1
    assert other("foreign_key_enforced", "scores") == 0


PERIODS = """
create table stays (id int4range, valid_at daterange, status text, started_at timestamptz, completed_at timestamptz,
  done boolean, primary key (id, valid_at without overlaps));
create table notes (
  stay_id int4range, valid_at daterange, foreign key (stay_id, period valid_at) references stays (id, period valid_at)
);
insert into stays values
  ('[1,1]', '[2025-01-01,2025-02-01)', 'done', '2025-05-01', '2025-05-01', true),
  ('[1,1]', '[2025-02-01,2025-03-01)', 'done', '2025-05-01', '2025-05-01', true);
insert into notes values ('[1,1]', '[2025-01-01,2025-03-01)');
"""
BY_PERIOD = (
    CONFIG.replace("visits", "stays")
    .replace("table: scores, session_key: visit_id", "table: notes, session_key: [stay_id, valid_at]")
    .replace("key: id,", "key: [id, valid_at],")
)


async def test_a_foreign_key_over_a_period_proves_no_link(empty: Database) -> None:
    """Two stays together cover the period of the note, which is the database's demand, and the note has neither key."""
    if empty.connection.get_server_version().major < 18:
        pytest.skip("foreign keys over periods exist from PostgreSQL 18 on")
    await empty.execute(PERIODS)

    numbers = await empty.measure(BY_PERIOD)

    assert numbers("orphaned_records", "scores") == 1
    assert numbers("foreign_key_enforced", "scores") == 0


async def test_a_partitioned_table_proves_its_link(visits: Database) -> None:
    await visits.execute(
        """
        drop table scores;
        create table scores (visit_id int references visits (id)) partition by range (visit_id);
        create table scores_1 partition of scores for values from (0) to (10);
        insert into scores values (1);
        """
    )

    numbers = await visits.measure(CONFIG)

    assert numbers("foreign_key_enforced", "scores") == 1
    assert numbers.positive("record_sessions") == {("scores", "current"): 1}


async def test_the_proof_comes_and_goes_with_the_constraint(visits: Database) -> None:
    await visits.execute(SINGLE)
    proved = await visits.measure(CONFIG)
    await visits.execute("alter table scores drop constraint scores_visit_id_fkey; insert into scores values (1, 9)")

    unproved = await visits.measure(CONFIG)

    assert (proved("foreign_key_enforced", "scores"), proved("orphaned_records", "scores")) == (1, 0)
    assert (unproved("foreign_key_enforced", "scores"), unproved("orphaned_records", "scores")) == (0, 1)
