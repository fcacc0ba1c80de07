"""`list`: the sessions or rows that a number counts, one by one, by the conditions of the number."""

from collections import Counter
from typing import Any

import pytest
from conftest import Beginning, Database

from exporter.dimensions import DIMENSIONS
from exporter.measure.collect import collect
from exporter.mend.forms import Row
from exporter.mend.lists import columns_of, count_members, list_members
from exporter.mend.whole import ListNotMeasuredError
from exporter.model.fault import CollectionError
from exporter.model.judging import Limit, Readings
from exporter.model.listing import Members
from exporter.plan.plan import Plan
from exporter.state.snapshot import Snapshot

BEGINNING = Beginning(
    """
    create table visits (
      id int, part text, status text default 'done', started_at timestamptz default '2025-05-30 12:00+00',
      completed_at timestamptz default '2025-05-30 13:00+00', gone boolean default false, fee int default 1,
      primary key (id, part)
    );
    create table scores (
      number serial primary key, visit int, part text, at timestamptz default '2025-05-31 10:00+00', ver text
      default 'v2', kind text default 'a', kept boolean default true
    );
    insert into visits (id, part, status, started_at, completed_at, gone, fee) values
      (1, 'x', default, default, default, default, default), (2, 'x', default, default, default, true, default),
      (3, 'x', default, '2025-05-29', null, default, null), (4, 'y', 'open', '2025-05-28', null, default, default),
      (5, 'y', default, null, null, default, default), (6, 'y', 'open', null, null, default, default),
      (7, 'y', default, '2025-06-20', '2025-06-21', default, default),
      (8, 'z', default, '2025-05-30', '2025-06-01 11:30', default, null),
      (9, 'z', default, '2025-05-27', '2025-05-27', default, null),
      (10, 'z', 'open', '2024-01-01', null, default, default);
    insert into scores (visit, part, at, ver, kind, kept) values
      (1, 'x', '2025-05-31 11:00+00', 'v2', 'a', true), (1, 'x', '2025-05-31 10:00+00', 'v2', 'b', true),
      (2, 'x', default, 'v1', 'a', true), (99, 'x', null, 'v1', null, true), (null, 'x', default, 'v2', 'a', true),
      (1, null, '2025-01-01', 'v1', 'a', true), (98, 'x', default, 'v1', 'b', false),
      (3, 'x', default, 'v2', 'a', null);
    """,
    clock="2025-06-01 12:00:00+00",
)
CONFIG = """
database: {url: "${DATABASE_URL}", allow_superuser: true}
pipelines:
  care:
    window: {last: 90d}
    grace: 1h
    sessions:
      table: visits
      key: [id, part]
      status: status
      started_at: started_at
      completed_at: completed_at
      eligible: status = 'done'
      deleted: gone
      stuck: {statuses: [open], after: 1h}
      checks:
        paid: fee is not null
        named: {sql: "part <> 'z'", grace: 2h}
    records:
      scores:
        table: scores
        session_key: [visit, part]
        created_at: at
        where: kept is not false
        valid: ver <> 'v0' and kept
        accepted_values: {kind: [a, c]}
        unique: [visit, part]
        version: {column: ver, current: v2, current_since: 2025-05-01}
"""
LISTS = {name: members for dimension in DIMENSIONS for name, members in dimension.every_list.items()}
LIMITS = {limit.name: limit for dimension in DIMENSIONS for limit in dimension.limits}


def number(readings: Readings, name: str, subject: str) -> float:
    """The number that a list explains: of its limit, else of the metric with the name."""
    if name in LIMITS:
        value = LIMITS[name].value.read(readings, subject)
        assert isinstance(value, float | int)
        return value
    [metric] = [metric for metric in readings.families if metric.name == name]
    return readings.need(metric)


async def listed(plan: Plan, name: str, subject: str = "") -> list[Row]:
    found: list[Row] = []
    await list_members(plan, name, [subject], found.append)
    return found


async def assert_explained(plan: Plan, snapshot: Snapshot) -> dict[str, int]:
    """Each list counts what the number counts, and has so many rows; gives the numbers by list."""
    numbers: dict[str, int] = {}
    for name, members in plan.lists.items():
        subjects = members.subjects(plan.pipeline)
        if not subjects:
            continue
        expected = {subject: int(number(snapshot.readings, name, subject)) for subject in subjects}
        rows: list[Row] = []
        found = await list_members(plan, name, subjects, rows.append)

        assert found.count == sum(expected.values()), name
        assert (await count_members(plan, name, subjects)).count == found.count, name
        if name != "duplicate_records":
            assert Counter(row.get(members.label or "", "") for row in rows) == +Counter(expected), name
        assert {tuple(row) for row in rows} <= {columns_of(plan, name, subjects[0])}
        numbers[name] = found.count
    return numbers


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_every_count_with_a_limit_is_listed_by_a_command(limit: Limit) -> None:
    command, *_ = limit.command("shop", None)

    assert command == ("list" if limit.members else "gaps" if limit.advice.gaps is not None else "check")
    assert limit.unit != "count" or command != "check"


async def test_every_list_has_as_many_as_the_number_says(visits: Database) -> None:
    plan = visits.plan(CONFIG)

    numbers = await assert_explained(plan, await collect(plan))

    assert numbers.keys() == LISTS.keys()
    assert all(numbers.values()), numbers


SESSION = {"x": {"part": "x"}, "y": {"part": "y"}, "z": {"part": "z"}}


def visit(number: int | None, part: str | None) -> dict[str, str | None]:
    return {"id": None if number is None else str(number), "part": part}


def row(number: str, session: dict[str, str | None], at: str | None, **more: Any) -> dict[str, Any]:
    return {"session": session, "record": "scores", "row": number, "created_at": at, **more}


TEN, ELEVEN = "2025-05-31T10:00:00Z", "2025-05-31T11:00:00Z"
ROWS = {
    "orphaned_records": [row("4", visit(99, "x"), None)],
    "unlinked_records": [row("6", visit(1, None), "2025-01-01T00:00:00Z"), row("5", visit(None, "x"), TEN)],
    "detached_records": [row("3", visit(2, "x"), TEN)],
    "invalid_records": [
        row("2", visit(1, "x"), TEN, values={"kind": "b"}, fails_valid="false"),
        row("8", visit(3, "x"), TEN, values={}, fails_valid="true"),
        row("4", visit(99, "x"), None, values={"kind": None}, fails_valid="false"),
    ],
    "drifted_records": [row("3", visit(2, "x"), TEN, version="v1"), row("4", visit(99, "x"), None, version="v1")],
    "duplicate_records": [
        row("2", visit(1, "x"), TEN, values={"visit": "1", "part": "x"}, copy="1", copies="2"),
        row("1", visit(1, "x"), ELEVEN, values={"visit": "1", "part": "x"}, copy="2", copies="2"),
    ],
}


@pytest.mark.parametrize("name", ROWS)
async def test_a_row_has_its_primary_key_its_session_and_why_it_counts(visits: Database, name: str) -> None:
    assert await listed(visits.plan(CONFIG), name, "scores") == ROWS[name]


async def test_a_session_has_its_status_and_its_times(visits: Database) -> None:
    plan = visits.plan(CONFIG)

    assert await listed(plan, "failed_checks", "paid") == [
        {
            "session": visit(9, "z"),
            "check": "paid",
            "status": "done",
            "started_at": "2025-05-27T00:00:00Z",
            "completed_at": "2025-05-27T00:00:00Z",
        },
        {
            "session": visit(3, "x"),
            "check": "paid",
            "status": "done",
            "started_at": "2025-05-29T00:00:00Z",
            "completed_at": None,
        },
    ]
    assert [row["session"] for row in await listed(plan, "failed_checks", "named")] == [visit(9, "z")]
    assert [row["session"] for row in await listed(plan, "stuck_sessions")] == [visit(4, "y")]
    assert [row["session"] for row in await listed(plan, "undated_sessions")] == [visit(5, "y"), visit(6, "y")]
    assert [row["session"] for row in await listed(plan, "undated_eligible_sessions")] == [visit(5, "y")]
    assert [row["session"] for row in await listed(plan, "future_sessions")] == [visit(7, "y")]
    assert [*(await listed(plan, "stuck_sessions"))[0]] == ["session", "status", "started_at", "completed_at"]


async def test_a_session_has_its_segment(visits: Database) -> None:
    plan = visits.plan(CONFIG.replace("deleted: gone", "deleted: gone\n      segment: {columns: part}"))

    assert [row["segment"] for row in await listed(plan, "failed_checks", "paid")] == ["z", "x"]
    assert columns_of(plan, "failed_checks", "paid")[-1] == "segment"


async def test_a_list_of_several_subjects_is_of_one_snapshot(visits: Database) -> None:
    found: list[Row] = []

    listing = await list_members(visits.plan(CONFIG), "failed_checks", ["paid", "named"], found.append)

    assert listing.count == 3
    assert [row["check"] for row in found] == ["paid", "paid", "named"]


# --- Names and values of the platform


COMPUTED = ("numbered", "session_1", "created", "valid", "linked", "values", "r")


@pytest.mark.parametrize("name", COMPUTED)
async def test_a_column_or_a_table_with_the_name_of_a_computed_one_changes_nothing(visits: Database, name: str) -> None:
    await visits.execute(
        f'alter table visits rename gone to "{name}"; alter table scores rename kept to "{name}";'
        f'create table if not exists "{name}" (); insert into "{name}" default values'
    )
    text = CONFIG.replace("deleted: gone", f'deleted: \'"{name}" and exists (select from public."{name}")\'')
    text = text.replace("where: kept", f'where: \'"{name}"').replace("is not false", "is not false'")
    text = text.replace("and kept", f'and "{name}"').replace("unique: [visit, part]", f"unique: [visit, '{name}']")
    plan = visits.plan(text)

    numbers = await assert_explained(plan, await collect(plan))

    assert numbers["detached_records"] == numbers["orphaned_records"] == 1
    assert numbers["duplicate_records"] == 2


async def test_a_hostile_value_is_listed_as_it_is(visits: Database) -> None:
    hostile = "'; drop table visits; --\n\t\"\\ é 🙂"
    await visits.connection.execute("update scores set kind = $1, part = $1, visit = 77 where number = 2", hostile)
    plan = visits.plan(CONFIG)

    [orphan, _] = await listed(plan, "orphaned_records", "scores")
    invalid = [row for row in await listed(plan, "invalid_records", "scores") if row["row"] == "2"]

    assert orphan["session"] == visit(77, hostile)
    assert [row["values"] for row in invalid] == [{"kind": hostile}]


async def test_keys_compare_as_in_the_numbers(visits: Database) -> None:
    await visits.execute("alter table scores alter part type char(6), alter visit type text")
    text = CONFIG.replace("[visit, part]\n        created", "[{column: visit, cast: int}, part]\n        created")
    plan = visits.plan(text)

    numbers = await assert_explained(plan, await collect(plan))

    assert (numbers["orphaned_records"], numbers["unlinked_records"]) == (1, 2)


@pytest.mark.parametrize("change", ["alter table scores drop number", "alter table scores drop constraint scores_pkey"])
async def test_without_a_primary_key_the_row_is_empty(visits: Database, change: str) -> None:
    await visits.execute(change)

    assert [row["row"] for row in await listed(visits.plan(CONFIG), "orphaned_records", "scores")] == [None]


async def test_a_primary_key_of_several_columns_is_an_object(visits: Database) -> None:
    await visits.execute(
        "alter table scores drop constraint scores_pkey; alter table scores add primary key (ver, number)"
    )

    [orphan] = await listed(visits.plan(CONFIG), "orphaned_records", "scores")

    assert orphan["row"] == {"ver": "v1", "number": "4"}


async def test_rows_of_a_view_are_listed(visits: Database) -> None:
    await visits.execute("alter table scores rename to source; create view scores as select * from source")
    plan = visits.plan(CONFIG)

    await assert_explained(plan, await collect(plan))
    assert [row["row"] for row in await listed(plan, "orphaned_records", "scores")] == [None]


@pytest.mark.parametrize("zone", ["sessions", "record"])
async def test_times_without_a_zone_are_in_that_of_the_config(visits: Database, zone: str) -> None:
    await visits.execute(
        "alter table visits alter started_at type timestamp; alter table scores alter at type timestamp"
    )
    at = {"sessions": "      deleted: gone", "record": "        unique: [visit, part]"}[zone]
    plan = visits.plan(CONFIG.replace(at, f"{at}\n{' ' * (len(at) - len(at.lstrip()))}timezone: Europe/Berlin"))

    await assert_explained(plan, await collect(plan))

    [detached] = await listed(plan, "detached_records", "scores")
    assert detached["created_at"] == {"sessions": TEN, "record": "2025-05-31T08:00:00Z"}[zone]


# --- Whole or nothing


async def test_a_row_that_cannot_be_computed_leaves_no_list(visits: Database) -> None:
    text = CONFIG.replace("ver <> 'v0' and kept", "1 / (number - 8) is not null")

    with pytest.raises(ListNotMeasuredError) as error:
        await listed(visits.plan(text), "invalid_records", "scores")

    [fault] = error.value.faults
    assert fault.message.startswith("pipelines.care.records.scores")
    assert "DivisionByZeroError" in fault.message


@pytest.mark.parametrize("sql", ["1 / (fee - 1) is not null", "fee_was is not null"])
async def test_a_check_that_cannot_be_computed_leaves_no_list_of_it_alone(visits: Database, sql: str) -> None:
    """A value that does not fit, and SQL that the server refuses."""
    plan = visits.plan(CONFIG.replace("fee is not null", sql))

    with pytest.raises(ListNotMeasuredError) as error:
        await listed(plan, "failed_checks", "paid")

    assert error.value.faults[0].message.startswith("pipelines.care.sessions.checks.paid")
    assert len(await listed(plan, "failed_checks", "named")) == 1
    assert len(await listed(plan, "stuck_sessions")) == 1


async def test_sessions_that_cannot_be_computed_are_no_fault_of_the_check(visits: Database) -> None:
    plan = visits.plan(CONFIG.replace("eligible: status = 'done'", "eligible: 1 / (id - 3) is not null"))

    with pytest.raises(CollectionError) as error:
        await listed(plan, "failed_checks", "paid")

    assert error.value.fault.message.startswith("pipelines.care.sessions")


async def test_a_refused_record_leaves_no_list(visits: Database) -> None:
    await visits.execute("alter table scores drop ver")

    with pytest.raises(ListNotMeasuredError) as error:
        await listed(visits.plan(CONFIG), "orphaned_records", "scores")

    assert error.value.faults[0].message.startswith("pipelines.care.records.scores")


async def test_nothing_is_listed_where_nothing_is_counted(visits: Database) -> None:
    bare = CONFIG
    for key in ("deleted: gone", "stuck: {statuses: [open], after: 1h}", "unique: [visit, part]"):
        bare = bare.replace(key, "")
    bare = bare.replace(", current_since: 2025-05-01", "")
    bare = bare.replace("accepted_values: {kind: [a, c]}", "").replace("valid: ver <> 'v0' and kept", "")
    lists: dict[str, Members] = visits.plan(bare).lists

    empty = {name for name, members in lists.items() if not members.subjects(visits.plan(bare).pipeline)}

    assert empty == {"detached_records", "stuck_sessions", "duplicate_records", "drifted_records", "invalid_records"}
    assert all(lists[name].needs for name in empty)
