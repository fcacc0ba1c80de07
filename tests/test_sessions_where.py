"""`sessions.where`: a row for which the SQL is not true is no session, whatever counts sessions."""

import io

import pytest
from conftest import Beginning, Database, care, whole_tour
from sweeping import Life, Sweeping, assert_same, in_small_slices

from exporter.config.read import ConfigError, parse_config
from exporter.mend.forms import Row
from exporter.mend.gaps import count_gaps, list_gaps
from exporter.mend.lists import list_members
from exporter.mend.verify import verify
from exporter.mend.worklist import Author, FilterPart, Worklist
from exporter.model.fault import CollectionError
from exporter.setup.preflight import preflight

CLOCK = "2025-06-01 12:00:00+00"
BEGINNING = Beginning(
    """
    create table visits (
      id int primary key, status text default 'done', started_at timestamptz default '2025-05-31 12:00+00',
      completed_at timestamptz default '2025-05-31 13:00+00', done boolean default true, "Is Test" boolean
    );
    create table scores (visit_id int, created_at timestamptz);
    create table testers (visit_id int);
    """,
    clock=CLOCK,
)
KEYS = "WHERE, completed: done, checks: {odd: id % 2 = 1}, stuck: {where: done, after: 1h}, deleted: not done"
COHORT = "cohort: {window: 30d, maturity: 1h}"


def config(where: str | None = '"Is Test"', more: str = "") -> str:
    """The config with this SQL, or without the key; `more` are keys of the record."""
    key = "" if where is None else ", where: '{}'".format(where.replace("'", "''"))
    return care(COHORT, eligible=KEYS.replace("WHERE", f"done{key}"), scores=f"created_at: created_at{more}")


@pytest.fixture
async def mixed(visits: Database) -> Database:
    """Visits 1 and 2 are sessions, 3 (false) and 4 (NULL) are not; 1 and 3 have a score."""
    await visits.execute(
        """
        insert into visits (id, "Is Test") values (1, true), (2, true), (3, false), (4, null);
        insert into scores values (1, '2025-05-31 14:00+00'), (3, '2025-05-31 15:00+00');
        """
    )
    return visits


async def test_a_row_for_which_the_sql_is_false_or_null_counts_in_no_number_of_sessions(mixed: Database) -> None:
    found = (await mixed.measure(config())).snapshot.readings.numbers
    await mixed.execute("delete from visits where id > 2; delete from scores where visit_id > 2")
    expected = (await mixed.measure(config(None))).snapshot.readings.numbers

    of_rows = {"records", "newest_record_timestamp_seconds"}
    assert {series: n for series, n in found.items() if series[0] not in of_rows} == {
        series: n for series, n in expected.items() if series[0] not in of_rows
    }


async def test_rows_of_a_session_that_is_none_count_as_rows_and_are_no_orphans(mixed: Database) -> None:
    numbers = await mixed.measure(config())

    assert numbers("records", "scores", "<none>", "current") == 2
    assert numbers("orphaned_records", "scores") == 0
    assert numbers("record_version_sessions", "scores", "<none>", "current") == 1


async def test_rows_of_a_deleted_session_that_is_none_are_detached(mixed: Database) -> None:
    await mixed.execute("update visits set done = false where id in (1, 3)")

    assert (await mixed.measure(config()))("detached_records", "scores") == 2


async def test_undated_future_and_newest_sessions_are_sessions(mixed: Database) -> None:
    await mixed.execute(
        """
        update visits set started_at = null where id = 3;
        update visits set started_at = '2025-06-02', completed_at = '2025-06-01 11:00+00' where id = 4;
        """
    )

    numbers = await mixed.measure(config())

    assert (numbers("undated_sessions"), numbers("undated_eligible_sessions"), numbers("future_sessions")) == (0, 0, 0)
    newest = numbers.family("newest_session_timestamp_seconds")
    assert newest == {("started",): 1748692800.0, ("completed",): 1748696400.0}


async def test_no_other_sql_is_computed_for_a_row_that_is_no_session(mixed: Database) -> None:
    await mixed.execute("update visits set status = case when id < 3 then '1' else 'x' end")
    text = config(more=", required_when: status::int > 0").replace("completed: done", "completed: status::int = 1")

    numbers = await mixed.measure(text)

    assert not numbers.snapshot.record_faults
    assert not numbers.snapshot.part_faults
    assert numbers("cohort_sessions", "completed") == 2
    assert (await count_gaps(mixed.plan(text))).count == 1


@pytest.mark.parametrize(
    "sql",
    [
        "not exists (select 1 from public.testers t where t.visit_id = session.id)",
        "visits.id not in (select visit_id from public.testers)",
        "(select count(*) from testers t where t.visit_id = session.id) = 0 -- no tester",
    ],
)
async def test_a_sub_query_may_decide(mixed: Database, sql: str) -> None:
    await mixed.execute("insert into testers values (3), (4)")

    numbers = await mixed.measure(config(sql))

    assert numbers("eligible_sessions", "gap") == 1
    assert numbers("eligible_sessions", "complete") == 1


async def test_sql_that_is_never_true_leaves_no_session(mixed: Database) -> None:
    numbers = await mixed.measure(config("null::boolean"))

    assert numbers.family("sessions") == {}
    assert sum(numbers.family("eligible_sessions").values()) == 0
    assert numbers.snapshot.judgement.verdict(is_complete=True) == "no_data"


async def test_values_beyond_what_one_statement_tells_apart_are_of_sessions_alone(mixed: Database) -> None:
    await mixed.execute(
        """
        alter table scores add version text;
        insert into scores select 1 + n % 4, now(), 'v' || n from generate_series(1, 80) n;
        """
    )
    text = config(more=", version: {column: version, current: v1}")

    found = (await mixed.measure(text)).family("record_version_sessions")

    assert sum(found.values()) == 41


# --- Lists


async def worklist(database: Database, text: str) -> Worklist:
    plan, body, published = database.plan(text), io.BytesIO(), io.BytesIO()
    author = Author(body, plan, 3)
    listing = await list_gaps(plan, author.take)
    author.publish(published, listing, FilterPart(record=None, reason=None))
    published.seek(0)
    return Worklist(io.BytesIO(published.read()))


async def test_only_sessions_are_listed(mixed: Database) -> None:
    assert [one.session for one in (await worklist(mixed, config())).sessions()] == [("2",)]
    assert (await count_gaps(mixed.plan(config()))).count == 1


@pytest.mark.parametrize(("limit", "subject"), [("stuck_sessions", ""), ("failed_checks", "odd")])
async def test_the_list_of_a_limit_has_sessions_alone(mixed: Database, limit: str, subject: str) -> None:
    found: list[Row] = []

    await list_members(mixed.plan(config()), limit, [subject], found.append)

    assert {row["session"] for row in found} == ({"1", "2"} if limit == "stuck_sessions" else {"2"})


async def test_a_listed_session_that_is_none_any_more_is_no_longer_eligible(mixed: Database) -> None:
    was = await worklist(mixed, config())
    await mixed.execute('update visits set "Is Test" = null where id = 2')

    fates = (await verify(mixed.plan(config()), was)).sessions

    assert {fate: number for fate, number in fates.items() if number} == {"not_eligible": 1}


async def test_a_listed_session_before_the_window_has_left_the_window(mixed: Database) -> None:
    was = await worklist(mixed, config())
    await mixed.execute("update visits set \"Is Test\" = false, started_at = '2024-01-01' where id = 2")

    fates = (await verify(mixed.plan(config()), was)).sessions

    assert {fate: number for fate, number in fates.items() if number} == {"left_window": 1}


async def test_another_where_is_a_changed_key_of_a_worklist(mixed: Database) -> None:
    was = await worklist(mixed, config())

    assert (await verify(mixed.plan(config("id <> 2")), was)).changed == ("sessions.where",)


# --- Faults


@pytest.mark.parametrize(
    ("sql", "reason", "said"),
    [
        ("no_such_column", "missing_object", 'column "no_such_column" does not exist'),
        ("id + 1", "type", "boolean"),
        ("count(*) > 1", "invalid_sql", "aggregate functions are not allowed"),
        ("random() < 2", "invalid_sql", "volatile"),
        ("exists (select 1 from nowhere)", "missing_object", "nowhere"),
    ],
)
async def test_a_fault_is_of_the_whole_pipeline_and_names_the_key(
    mixed: Database, sql: str, reason: str, said: str
) -> None:
    with pytest.raises(CollectionError) as error:
        await mixed.measure(config(sql))
    checked = [finding for group in await preflight(mixed.config(config(sql))) for finding in group.findings]

    assert error.value.fault.reason == reason
    assert error.value.fault.message.startswith("pipelines.care.sessions.where: ")
    assert said in error.value.fault.message
    assert [finding.path for finding in checked if finding.severity == "error"] == ["pipelines.care.sessions.where"]


async def test_a_fault_of_a_row_is_of_the_whole_pipeline(mixed: Database) -> None:
    with pytest.raises(CollectionError, match="check casts and expressions"):
        await mixed.measure(config("1 / (id - 3) < 9"))


async def test_a_sub_query_that_is_about_no_session_gets_a_note(mixed: Database) -> None:
    await mixed.execute("insert into testers values (9)")
    found = [f for g in await preflight(mixed.config(config("exists (select 1 from testers)"))) for f in g.findings]

    noted = [finding.message for finding in found if finding.path == "pipelines.care.sessions.where"]

    assert any("every session gets the same value" in message for message in noted)
    assert any("without a schema" in message for message in noted)


def test_the_sql_is_one_expression() -> None:
    with pytest.raises(ConfigError, match=r"sessions\.where: must be one SQL expression"):
        parse_config(config("done;"), {"DATABASE_URL": "postgresql://nowhere"})


# --- Slices


@pytest.fixture
async def platform(empty: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    return await in_small_slices(empty, monkeypatch)


@pytest.mark.parametrize(
    "sql",
    [
        "nullif(completed_questions, 0) > 0",
        "not exists (select 1 from public.profiles p where p.session_id = session.id and p.results_version is null)",
    ],
)
async def test_slices_count_what_a_full_pass_counts(platform: Database, sql: str) -> None:
    text = whole_tour(deleted="deleted_at is not null", statement_timeout="20s")
    text = text.replace("      status: status\n", f"      status: status\n      where: {sql}\n")
    life, sweeping = Life(platform, 5), Sweeping(platform, text)
    for _ in range(80):
        await life.act()
    assert sweeping.plan.pipeline.sessions.where == sql
    await assert_same(sweeping.plan, await sweeping.whole())
    for _ in range(60):
        await life.act()

    swept = await sweeping.whole()

    await assert_same(sweeping.plan, swept)
    left_out = (
        f"select count(*) from assessment_sessions session where ({sql}) is not true and created_at > '2025-08-01'"
    )
    assert await platform.connection.fetchval(left_out) > 0


async def test_a_session_that_is_none_any_more_is_no_gap_in_the_next_round(platform: Database) -> None:
    text = whole_tour().replace("      status: status\n", "      status: status\n      where: status <> 'test'\n")
    sweeping = Sweeping(platform, text)
    await platform.execute(
        "insert into assessment_sessions (id, status, created_at, completed_at, finalized_at, completed_questions) "
        "values (gen_random_uuid(), 'completed', '2026-11-01', '2026-11-01', '2026-11-01', 240)"
    )
    before = await sweeping.whole()
    await platform.execute("update assessment_sessions set status = 'test'")

    after = await sweeping.round()

    assert before.readings.numbers["eligible_sessions", "gap"] == 1
    assert after.readings.numbers["eligible_sessions", "gap"] == 0
