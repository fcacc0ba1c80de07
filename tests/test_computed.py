"""`computed`: columns that are SQL over the table; other keys name them as if the table had them."""

import pytest
from conftest import Beginning, Database, whole_tour
from sweeping import Life, Sweeping, assert_same, in_small_slices
from test_sessions_where import worklist

from exporter.config.read import ConfigError
from exporter.measure.sliceable import UnsliceableError
from exporter.mend.forms import Row
from exporter.mend.gaps import Gap, list_gaps
from exporter.mend.lists import list_members
from exporter.mend.verify import verify
from exporter.model.fault import CollectionError
from exporter.setup.preflight import preflight

BEGINNING = Beginning(
    """
    create table visits (body jsonb, began bigint, ended bigint, code int);
    create table scores (link text, written bigint, kept boolean default true);
    create table opening_hours (day date primary key, opens timestamptz);
    insert into opening_hours values ('2025-06-02', '2025-06-02 08:00+00'), ('2025-06-01', '2025-06-01 02:00+00');
    insert into visits
    select jsonb_build_object('id', n), extract(epoch from timestamptz '2025-05-30 08:00+00') + n * 3600,
      extract(epoch from timestamptz '2025-05-30 08:30+00') + n * 3600, n % 2
    from generate_series(1, 50) n;
    insert into scores
    select 'visit/' || n, extract(epoch from timestamptz '2025-05-30 08:31+00') + n * 3600
    from generate_series(1, 40) n;
    """,
    clock="2025-06-01 12:00:00+00",
)
DUE = (
    "(select min(h.opens) from public.opening_hours h where h.opens >= to_timestamp(visits.ended) and visits.code = 1)"
)
CONFIG = f"""
database: {{url: "${{DATABASE_URL}}", allow_superuser: true}}
pipelines:
  care:
    window: {{last: 90d}}
    grace: 1h
    sessions:
      table: visits
      computed:
        id: (body ->> 'id')::bigint
        started: to_timestamp(began)
        completed: to_timestamp(session.ended)
        due: "{DUE}"
        state: case code when 1 then 'done' else 'open' end
      key: id
      status: state
      started_at: started
      completed_at: completed
      due_at: due
      eligible: state = 'done' and started is not null
      checks: {{computed: session.id > 3}}
    records:
      scores:
        table: scores
        computed: {{visit: "split_part(link, '/', 2)::bigint", at: to_timestamp(written)}}
        session_key: visit
        created_at: at
        where: kept and visit > 0
        unique: visit
    limits: {{sessions_with_gap: {{warning: 0}}}}
"""
VIEWS = f"""
create view v_visits as
select *, (body ->> 'id')::bigint as id, to_timestamp(began) as started, to_timestamp(ended) as completed,
  {DUE} as due, case code when 1 then 'done' else 'open' end as state
from visits;
create view v_scores as
select *, split_part(link, '/', 2)::bigint as visit, to_timestamp(written) as at from scores;
"""


def of_views() -> str:
    """The same config on views."""
    lines = CONFIG.splitlines()
    kept = [line for line in lines if not line.startswith(" " * 8) or line.lstrip().startswith(KEPT)]
    text = "\n".join(line for line in kept if "computed:" not in line or "checks" in line)
    return text.replace("table: visits", "table: v_visits").replace("table: scores", "table: v_scores")


KEPT = ("table", "session_key", "created_at", "where", "unique")


async def test_times_as_numbers_keys_in_json_and_due_times_of_another_table_are_measured(visits: Database) -> None:
    await visits.execute(VIEWS)

    computed = await visits.measure(CONFIG)
    viewed = await visits.measure(of_views())

    assert computed.snapshot.readings.numbers == viewed.snapshot.readings.numbers
    assert computed("eligible_sessions", "complete") == 20
    assert computed("eligible_sessions", "gap") == 1
    assert computed("eligible_sessions", "pending") == 4
    assert computed("sessions", "done") == computed("sessions", "open") == 25
    assert computed("check_sessions", "computed", "fail") == 2
    assert computed("newest_record_timestamp_seconds", "scores") is not None


async def test_gaps_and_lists_name_the_computed_key(visits: Database) -> None:
    await visits.execute("insert into scores values ('visit/999', 1748800000), ('visit/1', 1748800000)")
    gaps: list[Gap] = []
    orphans: list[Row] = []
    duplicates: list[Row] = []
    plan = visits.plan(CONFIG)

    await list_gaps(plan, gaps.append)
    await list_members(plan, "orphaned_records", ["scores"], orphans.append)
    await list_members(plan, "duplicate_records", ["scores"], duplicates.append)

    assert [gap.session for gap in gaps] == [("41",)]
    assert [row["session"] for row in orphans] == ["999"]
    assert [row["session"] for row in duplicates] == ["1", "1"]


async def test_a_worklist_is_verified_by_the_computed_key(visits: Database) -> None:
    """Session 41 leaves the window, session 43 has a score: each is found again by the key, in or out of the window."""
    await visits.execute("delete from opening_hours")
    plan = visits.plan(CONFIG)
    listed = await worklist(visits, CONFIG)
    await visits.execute(
        "update visits set began = 0 where body ->> 'id' = '41'; insert into scores values ('visit/43', 1748800000)"
    )

    found = (await verify(plan, listed)).sessions

    assert found["left_window"] == found["fixed"] == 1
    assert found["gone"] == 0


async def test_the_check_of_the_config_asks_for_no_column_and_has_no_error(visits: Database) -> None:
    found = [f for group in await preflight(visits.config(CONFIG)) for f in group.findings]

    assert [finding for finding in found if finding.severity == "error"] == []
    assert not [finding for finding in found if finding.remedy and '"id"' in finding.remedy]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (("to_timestamp(began)", "to_timestamp(begann)"), "sessions.computed.started"),
        (("to_timestamp(began)", "max(to_timestamp(began)) over ()"), "sessions.computed.started"),
        (("to_timestamp(began)", "to_timestamp(began + random())"), "sessions.computed.started"),
        (("to_timestamp(began)", "to_timestamp(began)) as a, (select 1"), "sessions.computed.started"),
        (("started: to_timestamp(began)", "started: now(), began: now()"), "sessions.computed.began"),
    ],
)
async def test_a_column_that_the_server_refuses_is_named(visits: Database, change: tuple[str, str], path: str) -> None:
    text = CONFIG.replace(*change)
    if "began: now()" in text:
        text = CONFIG.replace("      computed:\n        id", "      computed:\n        began: now()\n        id")
        text = text.replace("started_at: started", "started_at: began")

    with pytest.raises(CollectionError) as error:
        await visits.measure(text)
    found = [f for group in await preflight(visits.config(text)) for f in group.findings if f.severity == "error"]

    assert "pipelines.care.sessions" in error.value.fault.message
    assert f"pipelines.care.{path}" in {finding.path for finding in found}


async def test_a_column_of_a_record_that_the_server_refuses_is_the_fault_of_the_record(visits: Database) -> None:
    other = "      notes: {table: scores, computed: {of: lnk}, session_key: of}\n    limits:"
    snapshot = (await visits.measure(CONFIG.replace("    limits:", other))).snapshot

    assert snapshot.record_faults.keys() == {"notes"}
    assert snapshot.record_faults["notes"].message.startswith("pipelines.care.records.notes.computed.of")
    assert snapshot.readings.numbers["record_sessions", "scores", "current"] == 20


async def test_keys_of_types_that_do_not_compare_are_refused_with_the_remedy(visits: Database) -> None:
    snapshot = await visits.measure(CONFIG.replace("split_part(link, '/', 2)::bigint", "split_part(link, '/', 2)"))
    [fault] = snapshot.snapshot.record_faults.values()
    assert "write {column: visit, cast: bigint}" in fault.message

    text = CONFIG.replace("split_part(link, '/', 2)::bigint", "split_part(link, '/', 2)")
    text = text.replace("session_key: visit", "session_key: {column: visit, cast: bigint}").replace("visit > 0", "true")
    assert (await visits.measure(text))("eligible_sessions", "gap") == 1


async def test_a_function_without_a_schema_is_found_once(visits: Database) -> None:
    await visits.execute(
        "create function as_time(bigint) returns timestamptz language sql stable as 'select to_timestamp($1)'"
    )
    text = CONFIG.replace("to_timestamp(began)", "as_time(began)").replace("to_timestamp(written)", "as_time(written)")

    bare = await visits.measure(text)
    searched = await visits.measure(
        text.replace("allow_superuser: true", "allow_superuser: true, search_path: [public]")
    )
    notes = [f.message for g in await preflight(visits.config(text)) for f in g.findings if "computed" in f.path]

    assert bare("eligible_sessions", "gap") == searched("eligible_sessions", "gap") == 1
    assert any("public.as_time(began)" in note.replace('"', "") for note in notes)


def test_a_condition_in_place_of_a_table_has_no_columns(visits: Database) -> None:
    text = CONFIG.replace("    limits:", "      paid: {exists: code = 1, computed: {a: b}}\n    limits:")

    with pytest.raises(ConfigError) as error:
        visits.config(text)

    assert [problem.path for problem in error.value.problems] == ["pipelines.care.records.paid.computed"]


# --- In slices


@pytest.fixture
async def platform(empty: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    return await in_small_slices(empty, monkeypatch)


def tour(computed: str, *replaced: tuple[str, str]) -> str:
    text = whole_tour(deleted="deleted_at is not null", statement_timeout="20s")
    text = text.replace("      status: status\n", f"      status: status\n      computed: {computed}\n")
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    return text


async def test_slices_count_what_a_full_pass_counts(platform: Database) -> None:
    text = tour(
        "{state: upper(status), done_at: completed_at + interval '1 s'}",
        ("status: status", "status: state"),
        ("completed_at: completed_at", "completed_at: done_at"),
        ("eligible: status = 'completed'", "eligible: state = 'COMPLETED'"),
    )
    life, sweeping = Life(platform, 11), Sweeping(platform, text)
    for _ in range(80):
        await life.act()

    swept = await sweeping.whole()

    await assert_same(sweeping.plan, swept)
    assert swept.readings.numbers["sessions", "COMPLETED"] > 0


@pytest.mark.parametrize("key", ["started_at: created_at", "key: id"])
async def test_slices_need_columns_of_the_table_and_say_so(platform: Database, key: str) -> None:
    name, column = key.split(": ")
    sweeping = Sweeping(platform, tour(f"{{own: {column}}}", (key, f"{name}: own")))

    with pytest.raises(UnsliceableError) as error:
        await sweeping.round()

    assert "not computed columns, as keys and as started_at" in str(error.value.fault.message)


async def test_an_index_on_a_column_of_the_table_still_finds_the_window(visits: Database) -> None:
    await visits.execute(
        "alter table visits add at timestamptz; update visits set at = to_timestamp(began);"
        "insert into visits select jsonb_build_object('id', 1000 + n), 0, 0, 0, '2001-01-01'"
        " from generate_series(1, 20000) n;"
        "create index on visits (at); analyze visits"
    )
    plan = visits.plan(CONFIG.replace("started_at: started", "started_at: at").replace(" and started is not null", ""))
    statement = plan.gap_count(("scores",))

    arguments = statement.arguments(await visits.connection.fetchval("select now()"))
    lines = [line[0] for line in await visits.connection.fetch(f"explain {statement.sql}", *arguments)]

    assert any("visits_at_idx" in line for line in lines), lines
