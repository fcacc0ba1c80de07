"""Conformance: which versions there are, and whether anything still writes an old one."""

import asyncpg
import pytest
from conftest import Beginning, Database, care

CONFIG = care(
    scores='created_at: created_at,\n        version: {column: version, current: "3", accepted: ["2.10"]SINCE}',
    collection="{max_label_values: 50}",
)

UNVERSIONED = CONFIG.replace(
    ', created_at: created_at,\n        version: {column: version, current: "3", accepted: ["2.10"]SINCE}', ""
)


def config(since: str = "") -> str:
    return CONFIG.replace("SINCE", f", current_since: {since}" if since else "")


KNOWN = {("scores", "3", "current"): 0, ("scores", "2.10", "accepted"): 0}


BEGINNING = Beginning(
    """
    create table visits (
      id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean
    );
    insert into visits values
      (1, 'done', '2025-05-01', '2025-05-01', true), (2, 'done', '2025-05-01', '2025-05-01', true),
      (3, 'open', '2025-05-01', null, false), (4, 'done', '2024-05-01', '2024-05-01', true);
    create table scores (visit_id int, version text, created_at timestamptz default '2025-05-01');
    """,
    timezone="Asia/Tokyo",
)
"""Visits 1 and 2 are eligible, 3 is not, 4 is before the window; the server is not on UTC."""


async def test_known_versions_are_there_for_an_empty_table(visits: Database) -> None:
    numbers = await visits.measure(config("2025-01-01"))

    assert numbers.family("records") == KNOWN
    assert numbers.family("record_version_sessions") == KNOWN
    assert numbers.family("drifted_records") == {("scores",): 0}


async def test_rows_are_counted_whatever_their_session_and_sessions_once_for_each_version(visits: Database) -> None:
    await visits.execute(
        """
        insert into scores values
          (1, '3'), (1, '3'), (1, '2.10'), (1, '1'), (2, '3'),  -- eligible
          (3, '3'), (4, '3'), (99, '3'), (null, '3'),           -- not, too early, no such visit, no visit
          (99, '0')
        """
    )

    numbers = await visits.measure(config())

    assert numbers.family("records") == {
        ("scores", "3", "current"): 7,
        ("scores", "2.10", "accepted"): 1,
        ("scores", "1", "other"): 1,
        ("scores", "0", "other"): 1,
    }
    assert numbers.positive("record_version_sessions") == {
        ("scores", "3", "current"): 2,
        ("scores", "2.10", "accepted"): 1,
        ("scores", "1", "other"): 1,
    }


async def test_odd_versions_keep_labels_apart_and_none_passes_for_a_good_one(visits: Database) -> None:
    versions = [None, "", "3 ", " 3", "3.0", "<null>", "<other>", "<none>", "2.1"]
    await visits.connection.executemany("insert into scores values (1, $1)", [(version,) for version in versions])

    numbers = await visits.measure(config())

    labels = ["<null>", "<empty>", "3 ", " 3", "3.0", "\\<null>", "\\<other>", "<none>", "2.1"]
    assert numbers.family("records") == KNOWN | {("scores", label, "other"): 1 for label in labels}


@pytest.mark.parametrize(
    ("sql_type", "current", "accepted", "other", "label"),
    [
        ("numeric", "3", "2.10", "3.0", "3.0"),
        ("numeric(6, 2)", "3.00", "2.10", "2.1 + 1", "3.10"),
        ("int", "3", "2", "1", "1"),
        ("grade", "high", "mid", "low", "low"),
        ("varchar(9)", "v3", "v2", "v1", "v1"),
        ("char(9)", "v3", "v2", "v1", "v1"),
        ("date", "2025-03-01", "2025-02-01", "2025-01-01", "2025-01-01"),
    ],
)
async def test_versions_of_any_type_are_compared_as_the_text_that_is_shown(
    visits: Database, sql_type: str, current: str, accepted: str, other: str, label: str
) -> None:
    text = config().replace('"3"', f'"{current}"').replace('"2.10"', f'"{accepted}"')
    await visits.execute(
        f"""
        create type grade as enum ('low', 'mid', 'high');
        alter table scores alter version type {sql_type} using null;
        """
    )
    for version in (current, accepted, other):
        value = version if "num" in sql_type else f"'{version}'"
        await visits.execute(f"insert into scores values (1, {value})")

    numbers = await visits.measure(text)

    assert numbers.family("records") == {
        ("scores", current, "current"): 1,
        ("scores", accepted, "accepted"): 1,
        ("scores", label, "other"): 1,
    }
    assert numbers.positive("record_sessions") == {("scores", "current"): 1, ("scores", "missing"): 1}


async def test_a_version_of_a_megabyte_is_cut_and_its_sessions_count_once(visits: Database) -> None:
    await visits.execute(
        "insert into scores values (1, repeat('x', 1000000)), (1, repeat('x', 256) || 'y'), (1, repeat('x', 256))"
    )

    numbers = await visits.measure(config())

    assert numbers.positive("records") == {("scores", "x" * 256, "other"): 3}
    assert numbers.positive("record_version_sessions") == {("scores", "x" * 256, "other"): 1}


async def test_a_long_current_version_is_compared_whole(visits: Database) -> None:
    text = config().replace('"3"', '"' + "x" * 300 + '"')
    await visits.execute("insert into scores values (1, repeat('x', 300)), (2, repeat('x', 299))")

    numbers = await visits.measure(text)

    assert numbers.positive("records") == {
        ("scores", "x" * 256, "current"): 1,
        ("scores", "x" * 256, "other"): 1,
    }
    assert numbers.positive("record_sessions") == {("scores", "current"): 1, ("scores", "outdated"): 1}


async def test_a_record_without_versions_has_one_of_class_current(visits: Database) -> None:
    await visits.execute("alter table scores drop column version; insert into scores values (1), (1), (99)")

    numbers = await visits.measure(UNVERSIONED)

    assert numbers.family("records") == {("scores", "<none>", "current"): 3}
    assert numbers.family("record_version_sessions") == {("scores", "<none>", "current"): 1}
    assert numbers.family("drifted_records") == {}


async def test_records_with_and_without_versions_stand_side_by_side(visits: Database) -> None:
    text = config("2025-01-01") + "      notes: {table: notes, session_key: visit_id}\n"
    await visits.execute(
        "create table notes (visit_id int); insert into notes values (1); insert into scores values (1, '1')"
    )

    numbers = await visits.measure(text)

    assert numbers.positive("records") == {("scores", "1", "other"): 1, ("notes", "<none>", "current"): 1}
    assert numbers.family("drifted_records") == {("scores",): 1}


async def test_beyond_the_cap_known_versions_stay_and_the_total_is_right(visits: Database) -> None:
    await visits.execute(
        """
        insert into scores select 1, 'noise ' || n from generate_series(1, 12000) n, generate_series(1, 3);
        insert into scores values (1, '3'), (2, '3'), (99, '3'), (2, '2.10');
        """
    )

    numbers = await visits.measure(config())

    rows = numbers.family("records")
    assert rows["scores", "3", "current"] == 3
    assert rows["scores", "2.10", "accepted"] == 1
    assert sum(rows.values()) == 36004
    assert len(rows) == 51
    assert numbers("record_version_sessions", "scores", "3", "current") == 2
    assert numbers("record_version_sessions", "scores", "2.10", "accepted") == 1
    assert numbers("orphaned_records", "scores") == 1


# --- Drift


@pytest.mark.parametrize(
    ("created_at", "version", "drifted"),
    [
        ("'2025-03-01 00:00:00+00'", "'1'", 1),  # exactly since
        ("'2025-02-28 23:59:59.999999+00'", "'1'", 0),
        ("'2999-01-01'", "'1'", 1),
        ("null", "'1'", 1),
        ("'infinity'", "'1'", 1),
        ("'-infinity'", "'1'", 1),
        ("'2025-04-01'", "null", 1),
        ("'2025-04-01'", "''", 1),
        ("'2025-04-01'", "'2.10'", 0),
        ("'2025-04-01'", "'3'", 0),
        ("null", "'3'", 0),
    ],
)
async def test_a_bad_version_written_since_the_current_one_is_drift_whatever_its_session(
    visits: Database, created_at: str, version: str, drifted: int
) -> None:
    await visits.execute(
        f"insert into scores select visit, {version}, {created_at} from unnest(array[1, 99, null]) visit"
    )

    numbers = await visits.measure(config("2025-03-01"))

    assert numbers.family("drifted_records") == {("scores",): 3 * drifted}


@pytest.mark.parametrize(
    ("sql_type", "first", "before"),
    [("timestamp", "2025-03-01 00:00:00", "2025-02-28 23:59:59.9"), ("date", "2025-03-01", "2025-02-28")],
)
async def test_drift_of_naive_times_is_reckoned_in_utc(
    visits: Database, sql_type: str, first: str, before: str
) -> None:
    await visits.execute(
        f"""
        alter table scores alter created_at type {sql_type};
        insert into scores values (1, '1', '{first}'), (1, '1', '{before}'), (1, '1', 'infinity');
        """
    )

    numbers = await visits.measure(config("2025-03-01"))

    assert numbers.family("drifted_records") == {("scores",): 2}


async def test_drift_is_seen_and_mended(visits: Database) -> None:
    await visits.execute("insert into scores select 1, '1' from generate_series(1, 5)")
    broken = await visits.measure(config("2025-03-01"))
    await visits.execute("update scores set version = '3'")

    mended = await visits.measure(config("2025-03-01"))

    assert broken.family("drifted_records") == {("scores",): 5}
    assert mended.family("drifted_records") == {("scores",): 0}


async def test_without_current_since_drift_is_not_measured(visits: Database) -> None:
    await visits.execute("insert into scores values (1, '1')")

    numbers = await visits.measure(config())

    assert numbers.family("drifted_records") == {}


async def test_drift_leaves_out_what_where_hides(visits: Database) -> None:
    text = config("2025-03-01").replace("created_at: created_at,", "created_at: created_at, where: visit_id < 9,")
    await visits.execute("insert into scores values (1, '1'), (99, '1')")

    numbers = await visits.measure(text)

    assert numbers.family("drifted_records") == {("scores",): 1}
    assert numbers.positive("records") == {("scores", "1", "other"): 1}


CASE_BLIND = "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"


@pytest.mark.parametrize("kind", ["citext", "text collate ci"])
async def test_versions_and_values_are_texts_whatever_their_collation(empty: Database, kind: str) -> None:
    try:
        await empty.execute("create extension citext" if kind == "citext" else CASE_BLIND)
    except asyncpg.PostgresError:
        pytest.skip("the server has no ICU")
    await empty.execute(
        f"""
        create table orders (id int primary key, status {kind}, at timestamptz default '2025-05-01');
        create table scores (order_id int, version {kind}, kind {kind});
        insert into orders values (1, 'paid'), (2, 'PAID'), (3, 'Paid');
        insert into scores values (1, 'v2', 'functions'), (2, 'V2', 'FUNCTIONS'), (3, 'v1', 'x')
        """
    )

    numbers = await empty.measure(
        """
        database: {url: "${DATABASE_URL}"}
        pipelines:
          shop:
            window: {since: 2025-01-01}
            sessions: {table: public.orders, key: id, status: status, started_at: at, completed_at: at,
              eligible: "true"}
            records:
              scores: {table: public.scores, session_key: order_id, version: {column: version, current: v2},
                accepted_values: {kind: [functions]}}
        """
    )

    assert numbers.positive("sessions") == {("paid",): 1, ("PAID",): 1, ("Paid",): 1}
    assert numbers.positive("eligible_sessions") == {("complete",): 1, ("gap",): 2}
    assert numbers.positive("record_value_rows") == {
        ("scores", "kind", "functions", "accepted"): 1,
        ("scores", "kind", "FUNCTIONS", "invalid"): 1,
        ("scores", "kind", "x", "invalid"): 1,
    }
    assert numbers.positive("records") == {
        ("scores", "v2", "current"): 1,
        ("scores", "V2", "other"): 1,
        ("scores", "v1", "other"): 1,
    }
