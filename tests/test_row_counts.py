"""Coverage: how many good rows a session needs (`rows`)."""

import pytest
from conftest import Beginning, Database, care

from exporter.dimensions.coverage import COVERAGE
from exporter.measure.collect import collect

CLOCK = "2025-06-01 12:00:00+00"
LONG_AGO = "'2025-05-01 09:00+00', '2025-05-01 10:00+00'"
COLUMN = 'Expected "Rows"'
TABLES = f"""
create table visits (
  id int, status text, started_at timestamptz, completed_at timestamptz, done boolean default true,
  "{COLUMN.replace('"', '""')}" int
);
create table scores (visit_id int, version text default 'v3', blocks int default 9, created_at timestamptz);
"""
CONFIG = care(
    "grace: 10m",
    "cohort: {window: 90d, maturity: 1h}",
    scores="created_at: created_at, version: {column: version, current: v3, accepted: [v2]}, valid: blocks > 0, KEYS",
)
BEGINNING = Beginning(TABLES, clock=CLOCK)
INDEX = "create unique index on scores (visit_id)"

GOOD, ACCEPTED, OUTDATED, INVALID = "('v3', 9)", "('v2', 9)", "('v0', 9)", "('v3', 0)"


def config(keys: str) -> str:
    return CONFIG.replace("KEYS", keys)


async def visit(database: Database, number: int | None, *rows: str, expected: int | None = None) -> None:
    """A completed visit with rows (version and blocks), and the number that it says it needs."""
    await database.execute(f"insert into visits values ($1, 'done', {LONG_AGO}, true, $2)", number, expected)
    for row in rows:
        await database.execute(f"insert into scores select $1, * from (values {row}) t (version, blocks)", number)


STATES = [
    ("3", (), "missing"),
    ("3", (GOOD, GOOD), "too_few"),
    ("3", (GOOD, ACCEPTED, GOOD), "current"),
    ("3", (ACCEPTED, ACCEPTED, ACCEPTED), "accepted"),
    ("3", (GOOD,) * 4, "too_many"),
    # only good rows are counted
    ("3", (GOOD, GOOD, OUTDATED, INVALID), "too_few"),
    ("1", (GOOD, OUTDATED, INVALID), "current"),
    ("3", (OUTDATED, OUTDATED, OUTDATED), "outdated"),
    ("3", (INVALID, INVALID, OUTDATED), "invalid"),
    ("{at_least: 2}", (GOOD,), "too_few"),
    ("{at_least: 2}", (GOOD,) * 5, "current"),
    ("{at_most: 2}", (), "missing"),
    ("{at_most: 2}", (GOOD,), "current"),
    ("{at_most: 2}", (GOOD,) * 3, "too_many"),
    ("{at_least: 2, at_most: 3}", (GOOD,) * 3, "current"),
    ("{at_least: 2, at_most: 3}", (GOOD,) * 4, "too_many"),
    ("2, satisfied_by: any_version", (OUTDATED, INVALID), "invalid"),
    ("2, satisfied_by: any_version", (OUTDATED,), "too_few"),
    ("2, satisfied_by: any_version", (OUTDATED, GOOD, GOOD), "too_many"),
    ("2, satisfied_by: any_version", (), "missing"),
    ("2, satisfied_by: every_row", (GOOD, ACCEPTED), "accepted"),
    ("2, satisfied_by: every_row", (GOOD, GOOD, OUTDATED), "outdated"),
    ("2, satisfied_by: every_row", (GOOD, GOOD, GOOD), "too_many"),
]


@pytest.mark.parametrize(("rows", "there", "state"), STATES)
async def test_good_rows_are_counted_against_the_number(
    visits: Database, rows: str, there: tuple[str, ...], state: str
) -> None:
    await visit(visits, 1, *there)
    # Rows without a session, and a session without a key.
    await visit(visits, None, expected=1)
    await visits.execute("insert into scores values (null), (null), (77)")

    numbers = await visits.measure(config(f"rows: {rows}"))

    is_gap = state not in ("current", "accepted") and not ("any_version" in rows and state == "invalid")
    found = dict(numbers.positive("record_sessions"))
    assert found.pop(("scores", "missing")) == (2 if state == "missing" else 1)
    assert found == ({} if state == "missing" else {("scores", state): 1})
    assert numbers("eligible_sessions", "gap") == 1 + is_gap
    assert numbers("cohort_sessions", "covered") == 1 - is_gap


async def test_only_a_record_with_a_number_has_the_states_and_only_those_that_can_be(visits: Database) -> None:
    def labels(family: dict[tuple[str, ...], float]) -> set[str]:
        return {state for _, state in family} & {"too_few", "too_many"}

    for rows, expected in {
        "grace: 1h": set[str](),
        "rows: 1": {"too_many"},
        "rows: 2": {"too_few", "too_many"},
        "rows: {at_least: 2}": {"too_few"},
        "rows: {at_most: 2}": {"too_many"},
    }.items():
        numbers = await visits.measure(config(rows))
        assert labels(numbers.family("record_sessions")) == expected
        assert labels(numbers.family("gap_sessions")) == expected


async def test_a_wrong_number_is_pending_within_the_grace(visits: Database) -> None:
    await visit(visits, 1, GOOD)
    await visit(visits, 2, GOOD, GOOD, GOOD)
    await visits.execute("update visits set completed_at = '2025-06-01 11:55+00'")

    numbers = await visits.measure(config("rows: 2"))

    assert numbers.positive("record_sessions") == {("scores", "pending"): 2}


async def test_a_column_of_the_session_has_the_number(visits: Database) -> None:
    await visit(visits, 1, GOOD, GOOD, expected=2)
    await visit(visits, 2, GOOD, expected=2)
    await visit(visits, 3, GOOD, GOOD, GOOD, expected=2)
    await visit(visits, 4, expected=2)
    await visit(visits, 5, OUTDATED, expected=1)

    numbers = await visits.measure(config(f"rows: {COLUMN!r}"))

    assert numbers.positive("record_sessions") == {
        ("scores", state): 1 for state in ("current", "too_few", "too_many", "missing", "outdated")
    }
    assert numbers("cohort_sessions", "covered") == 1


async def test_a_number_that_is_null_is_never_reached_and_none_is_not_required(visits: Database) -> None:
    await visit(visits, 1, GOOD)
    await visit(visits, 2)
    await visit(visits, 3, expected=0)
    await visit(visits, 4, GOOD, expected=0)
    await visit(visits, 5, expected=-1)

    exactly = await visits.measure(config(f"rows: {COLUMN!r}"))
    at_most = await visits.measure(config(f"rows: {{at_most: {COLUMN!r}}}"))
    not_done = await visits.measure(config(f"rows: {COLUMN!r}, required_when: not done"))

    assert exactly.positive("record_sessions") == {
        ("scores", "too_few"): 1,
        ("scores", "missing"): 1,
        ("scores", "not_required"): 3,
    }
    assert at_most.positive("record_sessions") == {
        ("scores", "too_many"): 1,
        ("scores", "missing"): 1,
        ("scores", "not_required"): 3,
    }
    assert not_done.positive("record_sessions") == {("scores", "not_required"): 5}


@pytest.mark.parametrize("kind", ["smallint", "bigint", "numeric", "double precision", "whole"])
async def test_the_number_may_be_of_any_type_of_numbers(visits: Database, kind: str) -> None:
    name = COLUMN.replace('"', '""')
    await visits.execute(f'create domain whole as int; alter table visits alter "{name}" type {kind}')
    await visit(visits, 1, GOOD, GOOD, expected=2)

    assert (await visits.measure(config(f"rows: {COLUMN!r}")))("record_sessions", "scores", "current") == 1


@pytest.mark.parametrize(("column", "reason"), [("absent", "missing_object"), ("status", "type")])
async def test_a_column_that_is_missing_or_no_number_costs_its_record_alone(
    visits: Database, column: str, reason: str
) -> None:
    await visit(visits, 1, GOOD)

    snapshot = await collect(visits.plan(config(f"rows: {column}")))

    assert {name: fault.reason for name, fault in snapshot.record_faults.items()} == {"scores": reason}


async def test_a_unique_index_changes_no_count(visits: Database) -> None:
    await visits.execute(INDEX)
    await visit(visits, 1, GOOD, expected=1)
    await visit(visits, 2, GOOD, expected=2)
    await visit(visits, 3, INVALID, expected=1)
    await visit(visits, 4, expected=1)

    exactly = await visits.measure(config(f"rows: {COLUMN!r}"))
    two = await visits.measure(config("rows: {at_least: 2}, satisfied_by: any_version"))

    assert exactly.positive("record_sessions") == {
        ("scores", state): 1 for state in ("current", "too_few", "invalid", "missing")
    }
    assert two.positive("record_sessions") == {("scores", "too_few"): 3, ("scores", "missing"): 1}


async def test_the_delay_is_that_of_the_last_good_row_of_a_satisfied_session(visits: Database) -> None:
    for number in (1, 2):
        await visit(visits, number)
        await visits.execute(
            f"""
            insert into scores select {number}, version, 9, completed_at + after from visits,
              (values ('v3', interval '5 s'), ('v2', '20 s'), ('v0', '90 s')) t (version, after) where id = {number}
            """
        )
    await visits.execute("insert into scores values (2, 'v3', 9, '2025-05-31')")

    numbers = await visits.measure(config("rows: 2"))

    assert numbers("processing_delay_sessions", "scores") == 1
    assert numbers("processing_delay_seconds", "scores", "50") == 20


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("1", "1 row of scores of v3 or v2"),
        ("2", "2 rows of scores of v3 or v2"),
        ("{at_least: 2}", "2 or more rows of scores of v3 or v2"),
        ("{at_most: 4}, satisfied_by: every_row", "1 to 4 rows of scores, all of v3 or v2"),
        (f"{COLUMN!r}, satisfied_by: any_version", f"{COLUMN} rows of scores"),
    ],
)
async def test_the_report_tells_the_number(visits: Database, rows: str, words: str) -> None:
    await visit(visits, 1, GOOD, GOOD, GOOD, GOOD, GOOD, expected=1)

    readings = (await collect(visits.plan(config(f"rows: {rows}")))).readings

    told = {line.text: line.value for line in COVERAGE.lines(readings)}
    lacking = 0 if "at_least" in rows else 1
    assert told[f"Sessions without {words}"] == lacking
    assert told[f"Sessions with {words}"] == 1 - lacking
    assert told.get("… too many rows", 0) == lacking


async def test_several_records_count_for_themselves(visits: Database) -> None:
    await visits.execute("create table notes (visit_id int)")
    await visit(visits, 1, GOOD, GOOD, expected=3)
    await visits.execute("insert into notes values (1), (1), (1)")
    text = config("rows: 2") + f"      notes: {{table: notes, session_key: visit_id, rows: {COLUMN!r}}}\n"

    numbers = await visits.measure(text)

    assert numbers.positive("record_sessions") == {("scores", "current"): 1, ("notes", "current"): 1}
