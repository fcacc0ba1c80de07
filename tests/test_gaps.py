"""The list of gaps: the same sessions as the gauges count, each with every reason, whole or none."""

import asyncio
import csv
import io
import json
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import TOUR, Beginning, Database, care, plan_of
from test_collect import OURS, PAUSED, SELECT_ALL, as_reader, other_transaction, pause_with_the_snapshot, until

from exporter.config.read import parse_config
from exporter.dimensions import DIMENSIONS
from exporter.mend.forms import FORMATS, Document
from exporter.mend.gaps import Gap, columns_of, count_gaps, in_rows, list_gaps
from exporter.mend.spool import SpoolError, temporary_file
from exporter.mend.whole import Listing, ListNotMeasuredError, narrowed
from exporter.model.fault import CollectionError, Fault
from exporter.plan.gaps import EVERY_GAP, GapFilter
from exporter.plan.plan import Plan, compile_plans
from exporter.plan.statement import FETCHED

CLOCK = "2025-06-01 12:00:00+00"
"""When every list here is made; the grace is 10 minutes."""

TABLES = """
create table visits (
  id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean, scored boolean
);
create table scores (visit_id int, version text, blocks int);
create table notes (visit_id int);
"""

CONFIG = care(
    "grace: 10m",
    database="lock_timeout: 200ms, DATABASE",
    scores="version: {column: version, current: v3, accepted: [v2]}, valid: blocks > 0, KEYS",
    notes="",
)

DONE = "'2025-05-01 09:00+00', '2025-05-01 10:00+00', true, true"


def config(scores: str = "", database: str = "", text: str = CONFIG) -> str:
    """The config with more keys for the record `scores` and for the database."""
    text = text.replace(", DATABASE", f", {database}" if database else "")
    return text.replace(", KEYS", f", {scores}" if scores else "")


@dataclass(frozen=True)
class Found:
    """A whole list."""

    gaps: list[Gap]
    listing: Listing

    @property
    def reasons(self) -> dict[str | None, dict[str, str]]:
        """By session, whose key has one column."""
        assert len({gap.session for gap in self.gaps}) == len(self.gaps)
        return {gap.session[0]: dict(gap.reasons) for gap in self.gaps}


def plan_for(database: Database, text: str, record: str | None = None) -> Plan:
    whole = parse_config(text, {"DATABASE_URL": database.dsn})
    [name] = whole.pipelines
    return compile_plans(narrowed(whole, name, [record] if record else None), DIMENSIONS)[name]


async def listed(database: Database, text: str, record: str | None = None, wanted: GapFilter = EVERY_GAP) -> Found:
    """The list, which the count agrees with."""
    plan = plan_for(database, text, record)
    gaps: list[Gap] = []
    listing = await list_gaps(plan, gaps.append, wanted)
    assert listing == await count_gaps(plan, wanted)
    assert listing.count == len(gaps)
    return Found(gaps, listing)


BEGINNING = Beginning(TABLES, clock=CLOCK)
"""No visit yet."""


@pytest.fixture
async def three(visits: Database) -> Database:
    """Three visits: 1 has all, 2 an outdated score, 3 nothing."""
    await visits.execute(
        f"""
        insert into visits select n, 'done', {DONE} from generate_series(1, 3) n;
        insert into scores values (1, 'v3', 1), (2, 'v0', 1);
        insert into notes values (1), (2);
        """
    )
    return visits


THREE: dict[str | None, dict[str, str]] = {"2": {"scores": "outdated"}, "3": {"scores": "missing", "notes": "missing"}}


# --- Which sessions


async def test_every_gap_is_listed_once_with_all_of_its_reasons_and_nothing_else_is(visits: Database) -> None:
    await visits.execute(
        f"""
        insert into visits select n, 'done', {DONE} from generate_series(1, 9) n;
        update visits set done = null where id = 7;
        update visits set started_at = '2024-12-31' where id = 8;
        update visits set completed_at = '2025-06-01 11:55+00' where id = 9;
        insert into scores values
          (1, 'v3', 1), (2, 'v2', 1), (3, 'v0', 1), (4, 'v3', 0), (5, 'v0', 0), (5, 'v2', 0), (9, 'v0', 1);
        insert into notes select n from generate_series(1, 4) n;
        """
    )

    found = await listed(visits, config())
    numbers = await visits.measure(config())

    assert found.reasons == {
        "3": {"scores": "outdated"},
        "4": {"scores": "invalid"},
        "5": {"scores": "invalid", "notes": "missing"},
        "6": {"scores": "missing", "notes": "missing"},
    }
    assert numbers("eligible_sessions", "gap") == found.listing.count == 4
    assert numbers("eligible_sessions", "pending") == 1


async def test_the_backfill_scenario_lists_39_sessions_for_13_28_and_11_reasons(backfill: Database) -> None:
    found = await listed(backfill, TOUR.read_text())

    assert found.listing.count == 39
    assert Counter(reason for gap in found.gaps for reason in gap.reasons.items()) == {
        ("profiles", "missing"): 13,
        ("fc_scores", "missing"): 28,
        ("fc_scores", "outdated"): 11,
    }


async def test_a_filter_keeps_sessions_that_have_such_a_row_and_only_those_rows(visits: Database) -> None:
    await visits.execute(
        f"""
        insert into visits select n, 'done', {DONE} from generate_series(1, 4) n;
        insert into scores values (1, 'v0', 1), (2, 'v3', 0);
        insert into notes values (4);
        """
    )
    numbers = await visits.measure(config())

    missing = await listed(visits, config(), wanted=GapFilter(["missing"]))
    scores = await listed(visits, config(), record="scores")
    both = await listed(visits, config(), record="scores", wanted=GapFilter(["outdated"]))

    assert missing.reasons == {
        "1": {"notes": "missing"},
        "2": {"notes": "missing"},
        "3": {"scores": "missing", "notes": "missing"},
        "4": {"scores": "missing"},
    }
    assert scores.reasons == {
        "1": {"scores": "outdated"},
        "2": {"scores": "invalid"},
        "3": {"scores": "missing"},
        "4": {"scores": "missing"},
    }
    assert both.reasons == {"1": {"scores": "outdated"}}
    assert numbers("gap_sessions", "scores", "outdated") == both.listing.count


async def test_any_version_lists_only_what_has_no_row(three: Database) -> None:
    found = await listed(three, config("satisfied_by: any_version"))
    outdated = await listed(three, config("satisfied_by: any_version"), wanted=GapFilter(["outdated"]))

    assert found.reasons == {"3": {"scores": "missing", "notes": "missing"}}
    assert outdated.gaps == []


async def test_with_every_row_a_new_row_beside_a_bad_row_mends_nothing(three: Database) -> None:
    await three.execute("insert into scores values (1, 'v2', 1), (2, 'v3', 1), (3, 'v3', 0), (3, 'v3', 1)")

    found = await listed(three, config("satisfied_by: every_row"))
    numbers = await three.measure(config("satisfied_by: every_row"))

    assert found.reasons == {"2": {"scores": "outdated"}, "3": {"scores": "invalid", "notes": "missing"}}
    assert numbers.positive("gap_sessions") == {
        ("scores", "outdated"): 1,
        ("scores", "invalid"): 1,
        ("notes", "missing"): 1,
    }


async def test_too_few_and_too_many_rows_are_reasons_of_their_own(three: Database) -> None:
    await three.execute("insert into scores select 3, 'v3', 1 from generate_series(1, 3)")
    text = config("rows: 2")

    every = await listed(three, text)
    few = await listed(three, text, wanted=GapFilter(["too_few"]))
    many = await listed(three, text, record="scores", wanted=GapFilter(["too_many", "invalid"]))
    any_version = await listed(three, config("rows: 2, satisfied_by: any_version"))

    assert every.reasons == {
        "1": {"scores": "too_few"},
        "2": {"scores": "outdated"},
        "3": {"scores": "too_many", "notes": "missing"},
    }
    assert few.reasons == {"1": {"scores": "too_few"}}
    assert many.reasons == {"3": {"scores": "too_many"}}
    assert any_version.reasons["2"] == {"scores": "too_few"}


async def test_a_record_that_a_session_does_not_need_is_no_reason(three: Database) -> None:
    await three.execute("update visits set scored = null where id = 3; update visits set scored = false where id = 2")

    found = await listed(three, config("required_when: scored"))

    assert found.reasons == {"3": {"notes": "missing"}}


async def test_an_undated_session_is_in_no_window_and_in_no_list(three: Database) -> None:
    await three.execute("update visits set started_at = null where id = 2")

    assert (await listed(three, config())).reasons == {"3": THREE["3"]}


async def test_a_cohort_changes_no_list(three: Database) -> None:
    """Sessions before the window are read for its sake."""
    cohort = "    cohort: {window: 3000d, maturity: 0s}\n"
    await three.execute(f"insert into visits values (4, 'done', {DONE}); update visits set started_at = '2024-01-01'")
    await three.execute("update visits set started_at = '2025-05-01' where id < 4")

    assert (await listed(three, config() + cohort)).reasons == THREE


async def test_without_a_gap_the_list_is_empty(three: Database) -> None:
    await three.execute("insert into scores values (2, 'v3', 1), (3, 'v2', 1); insert into notes values (3)")

    assert (await listed(three, config())).gaps == []


# --- In which order


async def test_the_oldest_completion_else_start_comes_first_and_then_the_key(visits: Database) -> None:
    await visits.execute(
        """
        insert into visits (id, done, started_at, completed_at) values
          (10, true, '2025-02-01', '2025-05-03'), (9, true, '2025-02-01', '2025-05-03'),
          (1, true, '2025-05-02', null), (2, true, '2025-05-02', 'infinity'),
          (3, true, '2025-02-01', '2025-05-01'), (4, true, '2025-05-20', '2024-05-01')
        """
    )

    found = await listed(visits, config())

    assert [gap.session for gap in found.gaps] == [("4",), ("3",), ("1",), ("2",), ("9",), ("10",)]
    assert [gap.completed_at for gap in found.gaps[1:4]] == ["2025-05-01T00:00:00Z", None, None]


@pytest.mark.parametrize("number", [FETCHED - 1, FETCHED, FETCHED + 1, 3 * FETCHED])
async def test_none_is_lost_or_told_twice_from_one_fetch_to_the_next(visits: Database, number: int) -> None:
    await visits.execute(f"insert into visits select n, 'done', {DONE} from generate_series(1, {number}) n")

    found = await listed(visits, config())

    assert [gap.session for gap in found.gaps] == [(str(n),) for n in range(1, number + 1)]


# --- How they are written


ALL = ("csv", "ndjson", "json")


def document(plan: Plan, gaps: Sequence[Gap], name: str, *, on_terminal: bool = False) -> str:
    file = io.BytesIO()
    written, rows = Document(file, columns_of(plan), FORMATS[name], on_terminal=on_terminal), in_rows(plan)
    for gap in gaps:
        written.take(*rows(gap))
    written.end()
    return file.getvalue().decode()


def read(text: str, name: str) -> list[dict[str, Any]]:
    """As a program would, by nothing of ours."""
    match name:
        case "csv":
            return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        case "ndjson":
            assert text == "" or text.endswith("\n")
            return [json.loads(line) for line in text.split("\n")[:-1]]
        case _:
            rows: list[dict[str, Any]] = json.loads(text)
            return rows


@pytest.mark.parametrize("name", ALL)
async def test_a_session_is_a_row_for_each_record_that_it_lacks(three: Database, name: str) -> None:
    found = await listed(three, config())

    rows = read(document(three.plan(config()), found.gaps, name), name)

    at = "2025-05-01T10:00:00Z"
    assert rows == [
        {"session": "2", "record": "scores", "reason": "outdated", "completed_at": at},
        {"session": "3", "record": "scores", "reason": "missing", "completed_at": at},
        {"session": "3", "record": "notes", "reason": "missing", "completed_at": at},
    ]


@pytest.mark.parametrize(
    ("name", "text"), [("csv", "session,record,reason,completed_at\n"), ("ndjson", ""), ("json", "[\n]\n")]
)
async def test_an_empty_list_is_a_whole_document(empty: Database, name: str, text: str) -> None:
    assert document(empty.plan(config()), [], name) == text
    assert read(text, name) == []


async def test_a_json_document_is_none_until_it_is_ended(three: Database) -> None:
    file = io.BytesIO()
    plan = three.plan(config())
    written = Document(file, columns_of(plan), FORMATS["json"])
    for gap in (await listed(three, config())).gaps:
        with pytest.raises(json.JSONDecodeError):
            json.loads(file.getvalue())
        written.take(*in_rows(plan)(gap))
    with pytest.raises(json.JSONDecodeError):
        json.loads(file.getvalue())

    written.end()

    assert len(json.loads(file.getvalue())) == 3


HOSTILE = [
    "two\nlines",
    "\r",
    "\r\n",
    "a,b",
    'say "hi"',
    "'",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\x7f",
    "=HYPERLINK(1)",
    "@a",
    "-1",
    " a ",
    "\t",
    "\u2028",
    "\x85",
    "\u202e",
    "ä",
    "null",
    "\\N",
    "[",
    "]",
]


@pytest.fixture
async def hostile(empty: Database) -> Database:
    """Visits whose keys some program or terminal gives a meaning to."""
    await empty.execute(
        """
        create table visits (id text unique, status text, started_at date, completed_at date, done boolean);
        create table scores (visit_id text, version text, blocks int); create table notes (visit_id text);
        """
    )
    await empty.execute(
        "insert into visits select id, '', '2025-05-01', '2025-05-01', true from unnest($1::text[]) id", HOSTILE
    )
    return empty


@pytest.mark.parametrize("name", ALL)
async def test_a_program_gets_every_key_back_as_it_is(hostile: Database, name: str) -> None:
    found = await listed(hostile, config(), record="notes")

    rows = read(document(hostile.plan(config()), found.gaps, name), name)

    assert sorted(row["session"] for row in rows) == sorted(HOSTILE)


@pytest.mark.parametrize("name", ALL)
async def test_no_key_tells_a_terminal_what_to_do(hostile: Database, name: str) -> None:
    found = await listed(hostile, config(), record="notes")

    text = document(hostile.plan(config()), found.gaps, name, on_terminal=True)

    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == len(HOSTILE) + {"csv": 1, "ndjson": 0, "json": 2}[name]
    if name != "csv":
        assert sorted(row["session"] for row in read(text, name)) == sorted(HOSTILE)


@pytest.mark.parametrize(("name", "null"), [("csv", ""), ("ndjson", None), ("json", None)])
async def test_a_key_that_is_null_is_a_gap_and_told(hostile: Database, name: str, null: object) -> None:
    await hostile.execute("truncate visits; insert into visits values (null, '', '2025-05-01', null, true)")
    found = await listed(hostile, config(), record="notes")

    [row] = read(document(hostile.plan(config()), found.gaps, name), name)

    assert row == {"session": null, "record": "notes", "reason": "missing", "completed_at": null}


COMPOSITE = """
create table visits (
  "the part" text, id bigint, status text, started_at date, completed_at date, done boolean, unique ("the part", id)
);
create table notes (part text, visit_id bigint);
insert into visits values
  (E'a,"b"\\n', 10, '', '2025-05-01', '2025-05-01', true), ('ä', 9, '', '2025-05-01', '2025-05-01', true),
  ('c', null, '', '2025-05-01', '2025-05-02', true), ('d', 1, '', '2025-05-01', '2025-05-02', true);
insert into notes values ('d', 1), ('c', null);
"""


@pytest.mark.parametrize("name", ALL)
async def test_a_key_of_several_columns_is_an_object_by_column_and_in_csv_its_json(empty: Database, name: str) -> None:
    await empty.execute(COMPOSITE)
    text = (
        config().replace("key: id", "key: [the part, id]").replace("session_key: visit_id", "session_key: [part, id]")
    )
    text = text.replace("[part, id]}\n", "[part, visit_id]}\n")
    found = await listed(empty, text, record="notes")

    rows = read(document(plan_for(empty, text, "notes"), found.gaps, name), name)

    keys = [json.loads(row["session"]) if name == "csv" else row["session"] for row in rows]
    assert sorted(keys, key=lambda key: str(key["the part"])) == [
        {"the part": 'a,"b"\n', "id": "10"},
        {"the part": "c", "id": None},
        {"the part": "ä", "id": "9"},
    ]


@pytest.mark.parametrize(
    ("completed_at", "text"),
    [
        ("'2025-05-01 10:00+02'", "2025-05-01T08:00:00Z"),
        ("'2025-05-01 10:00:00.5+00'", "2025-05-01T10:00:00.5Z"),
        ("'2025-05-01 10:00:00.000001+00'", "2025-05-01T10:00:00.000001Z"),
        ("'20250-05-01'", "20250-05-01T00:00:00Z"),
        ("'0044-03-15 BC'", "0044-03-15T00:00:00Z BC"),
        ("null", None),
        ("'infinity'", None),
        ("'-infinity'", None),
    ],
)
async def test_a_completion_is_in_iso_8601_and_utc_whatever_the_server_prefers(
    visits: Database, completed_at: str, text: str | None
) -> None:
    await visits.set("timezone", "'Asia/Kathmandu'")
    await visits.set("datestyle", "'SQL, DMY'")
    await visits.execute("set timezone = 'UTC'")
    await visits.execute(f"insert into visits values (1, 'done', '2025-05-01', {completed_at}, true, true)")

    [gap] = (await listed(visits, config())).gaps

    assert gap.completed_at == text


# --- Whole or none


async def untold(listing: Awaitable[object]) -> tuple[Fault, ...]:
    with pytest.raises(ListNotMeasuredError) as error:
        await listing
    assert str(error.value) == "\n".join(fault.message for fault in error.value.faults)
    return error.value.faults


async def unmeasured(listing: Awaitable[object]) -> Fault:
    with pytest.raises(CollectionError) as error:
        await listing
    return error.value.fault


BROKEN = {
    "dropped": ("drop table scores", "", "missing_object", '"public.scores" does not exist'),
    "revoked": ("revoke select on scores from ROLE", "", "permission", 'GRANT SELECT ON "public"."scores" TO <role>'),
    "hidden": ("alter table scores enable row level security", "", "row_security", "ALTER ROLE <role> BYPASSRLS"),
    "no such column": ("alter table scores drop column version", "", "missing_object", "create it, or correct"),
    "another type": ("alter table scores alter visit_id type text", "", "type", "cast: integer"),
    "a value that does not fit": ("select", "required_when: 1 / (id - 3) < 0", "type", "check casts and expressions"),
    "a value of a row that does not fit": ("select", "where: 1 / (blocks - 1) > 0", "type", "check casts"),
    "no SQL": (
        "select",
        "where: blocks >",
        "invalid_sql",
        "correct the SQL in the config; `queries` prints the whole statement",
    ),
}
"""What was done, keys of the record, the reason, and part of the message."""


@pytest.mark.parametrize("how", BROKEN)
async def test_a_record_that_cannot_be_read_is_named_and_nothing_is_listed(three: Database, how: str) -> None:
    sql, keys, reason, message = BROKEN[how]
    reader = await as_reader(three, SELECT_ALL)
    await three.execute(sql.replace("ROLE", urlsplit(reader.dsn).username or ""))
    text = config(keys).replace("table: scores", "table: public.scores").replace("valid: blocks > 0, ", "")
    plan = plan_for(reader, text)
    given: list[Gap] = []

    faults = [await untold(list_gaps(plan, given.append)), await untold(count_gaps(plan))]
    others = await listed(reader, text, record="notes")

    for [fault] in faults:
        assert fault.reason == reason
        assert fault.message.startswith("pipelines.care.records.scores")
        assert message in fault.message
    assert given == []
    assert others.reasons == {"3": {"notes": "missing"}}


async def test_every_record_that_cannot_be_read_is_named(three: Database) -> None:
    await three.execute("drop table scores, notes")

    faults = await untold(count_gaps(three.plan(config())))

    assert [fault.message.partition(":")[0] for fault in faults] == [
        "pipelines.care.records.scores",
        "pipelines.care.records.notes",
    ]


async def test_a_locked_record_is_no_empty_one_and_another_can_be_asked_for(three: Database) -> None:
    async with other_transaction(three, "lock table scores in access exclusive mode"):
        [fault] = await untold(count_gaps(three.plan(config())))
        others = await listed(three, config(), record="notes")

    assert fault.reason == "lock_timeout"
    assert fault.message.startswith("pipelines.care.records.scores")
    assert others.reasons == {"3": {"notes": "missing"}}


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("drop table visits", "missing_object"),
        ("alter table visits drop column completed_at", "missing_object"),
        ("alter table visits enable row level security", "row_security"),
        ("alter table visits drop constraint visits_pkey; insert into visits select * from visits", "duplicate_key"),
    ],
)
async def test_without_the_sessions_there_is_no_list(three: Database, sql: str, reason: str) -> None:
    reader = await as_reader(three, SELECT_ALL)
    await three.execute(sql)

    for listing in (list_gaps(reader.plan(config()), list[Gap]().append), count_gaps(reader.plan(config()))):
        fault = await unmeasured(listing)

        assert fault.reason == reason
        assert fault.message.startswith("pipelines.care.sessions")


async def test_a_list_that_takes_too_long_is_ended(three: Database) -> None:
    slow = config("required_when: pg_sleep(1) is not null", "statement_timeout: 300ms")

    for listing in (list_gaps(three.plan(slow), list[Gap]().append), count_gaps(three.plan(slow))):
        assert (await unmeasured(listing)).reason == "statement_timeout"


async def test_a_server_that_waits_for_us_too_long_says_so(visits: Database) -> None:
    """As when the process is stopped: the list is cut, and must not look whole."""
    await visits.execute(f"insert into visits select n, 'done', {DONE} from generate_series(1, {FETCHED + 1}) n")
    given: list[Gap] = []

    def take(gap: Gap) -> None:
        if not given:
            time.sleep(2.5)
        given.append(gap)

    fault = await unmeasured(list_gaps(visits.plan(config(database="statement_timeout: 1s")), take))

    assert fault.reason == "statement_timeout"
    assert "check that the exporter gets CPU time and was not paused" in fault.message
    assert len(given) == FETCHED


async def test_what_is_rewritten_while_we_read_makes_the_list_worthless(three: Database) -> None:
    """A table of a sub-query is not held before the snapshot, and looks empty: all of its sessions would be a gap."""
    await three.execute("create table scored as select 1 as id; insert into scored values (2), (3)")
    text = config("where: exists (select 1 from scored where id = visit_id)")
    await pause_with_the_snapshot(three)
    for listing in (list_gaps(three.plan(text), list[Gap]().append), count_gaps(three.plan(text))):
        task = asyncio.create_task(unmeasured(listing))
        await until(three, PAUSED)
        await three.execute("truncate scored")

        fault = await task

        assert fault.reason == "table_rewrite"
        assert "public.scored" in fault.message


async def test_what_is_written_while_we_read_changes_no_list(visits: Database) -> None:
    await visits.execute(f"insert into visits select n, 'done', {DONE} from generate_series(1, {2 * FETCHED}) n")
    given: list[Gap] = []

    def take(gap: Gap) -> None:
        if not given:
            mending.append(asyncio.create_task(visits.execute("insert into notes select id from visits")))
        given.append(gap)

    mending: list[asyncio.Task[None]] = []
    await list_gaps(visits.plan(config()), take)
    await asyncio.gather(*mending)

    assert len(given) == 2 * FETCHED
    assert {tuple(gap.reasons.items()) for gap in given} == {(("scores", "missing"), ("notes", "missing"))}


async def test_a_cancelled_list_leaves_nothing_running_on_the_server(three: Database) -> None:
    slow = config("required_when: pg_sleep(60) is not null")
    for listing in (list_gaps(three.plan(slow), list[Gap]().append), count_gaps(three.plan(slow))):
        task = asyncio.create_task(listing)
        await until(three, f"exists (select {OURS} and wait_event = 'PgSleep')")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await until(three, f"not exists (select {OURS})")


async def test_where_policies_may_hide_rows_the_list_says_so(three: Database) -> None:
    reader = await as_reader(three, SELECT_ALL)
    await three.execute("alter table visits enable row level security; create policy own on visits using (id <> 2)")

    found = await listed(reader, config(database="row_security: allow"))

    assert found.reasons == {"3": THREE["3"]}
    assert found.listing.restricted == ("public.visits",)


# --- What it asks the server


@pytest.mark.parametrize("name", ["gaps", "stated", "judged", "s", "rows", "key_1", "reason_1", "since"])
async def test_no_name_of_ours_hides_a_table_or_column_of_the_platform(three: Database, name: str) -> None:
    await three.execute(f'alter table visits rename to "{name}"; alter table "{name}" add "{name}" text default 1')

    assert (await listed(three, config().replace("table: visits", f"table: '{name}'"))).reasons == THREE


async def test_a_record_that_is_not_asked_for_is_not_even_locked(three: Database) -> None:
    plan = plan_for(three, TOUR.read_text(), "profiles")

    sql = "\n".join(statement.sql for statement in [*plan.statements(), plan.gaps(("profiles",)).open])

    assert "profiles" in sql
    assert "fc_scores" not in sql


def test_a_file_system_that_is_full_is_said_with_its_remedy() -> None:
    plan = plan_of(config(), "postgresql://nowhere")
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(SpoolError) as error:
        Document(full, columns_of(plan), FORMATS["csv"])

    assert "TMPDIR" in str(error.value)
    assert "No space left" in str(error.value)


def test_a_kept_list_has_no_name_that_others_could_open() -> None:
    with temporary_file() as file:
        file.write(b"x" * (2 << 20))
        file.seek(0)

        assert file.read(3) == b"xxx"
        assert isinstance(file.name, int)
