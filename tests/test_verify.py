"""The proof that a backfill worked: each session of a worklist measured again, by the predicate of the gauges."""

import asyncio
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import pytest
from conftest import TOUR, Beginning, Database
from test_collect import PAUSED, SELECT_ALL, as_reader, pause_with_the_snapshot, until
from test_gaps import BROKEN, CLOCK, COMPOSITE, CONFIG, DONE, HOSTILE, TABLES, config, plan_for, unmeasured, untold
from tools import NO_ICU

from exporter.mend import verify as room
from exporter.mend.gaps import list_gaps
from exporter.mend.spool import temporary_file
from exporter.mend.verify import STRICT, Allowed, Verification, verify
from exporter.mend.verify_formats import as_blocks, as_json
from exporter.mend.worklist import Author, FilterPart, Worklist, WorklistError
from exporter.model.states import GapReason
from exporter.text.terminal import plain

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


async def listed(
    database: Database,
    text: str,
    record: str | None = None,
    reason: GapReason | None = None,
    identity: str | None = "measured",
    segment: str | None = None,
) -> Worklist:
    """A worklist of what is a gap now."""
    filters = FilterPart(record=record, reason=reason, segment=segment)
    plan, file, body = plan_for(database, text, record), temporary_file(), io.BytesIO()
    author = Author(body, plan, 2)
    listing = await list_gaps(plan, author.take, filters.wanted)
    if identity != "measured":
        object.__setattr__(listing, "identity", identity)
    with file as target:
        author.publish(target, listing, filters)
        target.seek(0)
        return Worklist(io.BytesIO(target.read()))


@dataclass(frozen=True)
class Found:
    """What became of a list, without the zeros; `still` are the sessions that it says are a gap, with reasons."""

    verification: Verification
    still: Mapping[tuple[str, ...], Mapping[str, GapReason]]

    @property
    def sessions(self) -> dict[str, int]:
        return {fate: number for fate, number in self.verification.sessions.items() if number}

    @property
    def records(self) -> dict[str, dict[str, int]]:
        return {name: {f: n for f, n in fates.items() if n} for name, fates in self.verification.records.items()}

    @property
    def new(self) -> dict[str, int]:
        """By record and reason, as one word."""
        of = self.verification.new.items()
        return {f"{name} {reason}": number for name, new in of for reason, number in new.items() if number}

    @property
    def code(self) -> int:
        return self.verification.exit_code(STRICT)


async def verified(database: Database, text: str, worklist: Worklist) -> Found:
    header = worklist.header
    plan = plan_for(database, text, header.filters.record)
    still: dict[tuple[str, ...], Mapping[str, GapReason]] = {}
    found = await verify(plan, worklist, lambda of: still.update({of.session: of.reasons}))
    assert sum(found.sessions.values()) == header.sessions
    assert len(still) == found.sessions["gap"]
    return Found(found, still)


# --- What became of them


async def test_a_list_of_which_nothing_was_done_is_all_gaps_and_none_is_new(three: Database) -> None:
    found = await verified(three, config(), await listed(three, config()))

    assert found.sessions == {"gap": 2}
    assert found.records == {"scores": {"outdated": 1, "missing": 1}, "notes": {"missing": 1}}
    assert found.still == {("2",): {"scores": "outdated"}, ("3",): {"scores": "missing", "notes": "missing"}}
    assert (found.verification.new_sessions, found.new, found.code) == (0, {}, 1)


async def test_what_has_every_record_that_it_lacked_is_fixed(three: Database) -> None:
    worklist = await listed(three, config())
    await three.execute("insert into scores values (2, 'v3', 1), (3, 'v2', 1); insert into notes values (3)")

    found = await verified(three, config(), worklist)

    assert found.sessions == {"fixed": 2}
    assert found.records == {"scores": {"fixed": 2}, "notes": {"fixed": 1}}
    assert (found.still, found.code) == ({}, 0)


async def test_with_every_row_a_session_is_fixed_when_no_bad_row_is_left(three: Database) -> None:
    worklist = await listed(three, config("satisfied_by: every_row"))
    await three.execute(
        "insert into scores values (2, 'v3', 1), (3, 'v2', 1), (1, 'v3', 0); insert into notes values (3)"
    )

    beside = await verified(three, config("satisfied_by: every_row"), worklist)
    await three.execute("delete from scores where version = 'v0'")
    replaced = await verified(three, config("satisfied_by: every_row"), worklist)

    assert (beside.sessions, beside.new) == ({"fixed": 1, "gap": 1}, {"scores invalid": 1})
    assert beside.still == {("2",): {"scores": "outdated"}}
    assert (replaced.sessions, replaced.new, replaced.code) == ({"fixed": 2}, {"scores invalid": 1}, 0)


async def test_a_session_with_too_few_or_too_many_rows_is_fixed_by_the_right_number(three: Database) -> None:
    text = config("rows: {at_least: 2, at_most: 3}")
    await three.execute("insert into scores select 3, 'v3', 1 from generate_series(1, 4); insert into notes values (3)")
    worklist = await listed(three, text)
    [scores, notes] = worklist.header.records
    await three.execute("insert into scores values (1, 'v2', 1), (2, 'v3', 1)")

    found = await verified(three, text, worklist)
    await three.execute("insert into scores values (2, 'v3', 1); delete from scores where visit_id = 3")
    again = await verified(three, text, worklist)

    assert {one.session: dict(one.reasons) for one in worklist.sessions()} == {
        ("1",): {"scores": "too_few"},
        ("2",): {"scores": "outdated"},
        ("3",): {"scores": "too_many"},
    }
    assert (scores.at_least, scores.at_most, notes.at_least, notes.at_most) == (2, 3, 1, None)
    assert (scores.changes.create, scores.changes.derive_anew) == (0, 1)
    assert (scores.changes.add, scores.changes.remove) == (1, 1)
    assert found.records["scores"] == {"fixed": 1, "too_few": 1, "too_many": 1}
    assert again.records["scores"] == {"fixed": 2, "missing": 1}
    assert again.still == {("3",): {"scores": "missing"}}


async def test_a_session_is_fixed_only_when_all_of_its_records_are(three: Database) -> None:
    worklist = await listed(three, config())
    await three.execute("insert into scores values (2, 'v3', 1), (3, 'v2', 1)")

    found = await verified(three, config(), worklist)

    assert found.sessions == {"fixed": 1, "gap": 1}
    assert found.records == {"scores": {"fixed": 2}, "notes": {"missing": 1}}
    assert found.still == {("3",): {"notes": "missing"}}
    assert found.code == 1


async def test_a_row_that_does_not_satisfy_is_another_reason_and_no_fix(three: Database) -> None:
    worklist = await listed(three, config())
    await three.execute("insert into scores values (2, 'v3', 0), (3, 'v0', 1)")

    found = await verified(three, config(), worklist)

    assert found.records["scores"] == {"invalid": 1, "outdated": 1}
    assert (found.new, found.code) == ({}, 1)


async def test_what_vanished_is_told_apart_and_is_not_fixed(visits: Database) -> None:
    await visits.execute(f"insert into visits select n, 'done', {DONE} from generate_series(1, 7) n")
    worklist = await listed(visits, config())
    await visits.execute(
        """
        delete from visits where id = 1;
        update visits set done = null where id = 2;
        update visits set started_at = '2024-12-31' where id = 3;
        update visits set started_at = null where id = 4;
        update visits set id = 50 where id = 5;
        insert into scores values (6, 'v3', 1), (7, 'v3', 1); insert into notes values (6), (7);
        """
    )

    found = await verified(visits, config(), worklist)

    assert found.sessions == {"fixed": 2, "gone": 2, "not_eligible": 1, "left_window": 2}
    assert found.records["notes"] == found.sessions
    assert found.verification.vanished == 5
    assert found.new == {"scores missing": 1, "notes missing": 1}
    assert (found.code, found.verification.exit_code(Allowed(vanished=True))) == (1, 0)


async def test_what_waits_for_a_record_again_is_pending_and_not_fixed(three: Database) -> None:
    worklist = await listed(three, config())
    await three.execute("update visits set completed_at = '2025-06-01 11:55+00' where id = 3")

    found = await verified(three, config(), worklist)

    assert found.sessions == {"gap": 1, "pending": 1}
    assert found.records == {"scores": {"outdated": 1, "pending": 1}, "notes": {"pending": 1}}
    assert (found.code, found.verification.exit_code(Allowed(vanished=True))) == (1, 1)


async def test_a_record_that_is_not_needed_any_more_is_fixed(three: Database) -> None:
    worklist = await listed(three, config("required_when: scored"))
    await three.execute("update visits set scored = false")

    found = await verified(three, config("required_when: scored"), worklist)

    assert found.records["scores"] == {"fixed": 2}


async def test_new_gaps_are_counted_and_make_nothing_unfixed(three: Database) -> None:
    worklist = await listed(three, config())
    await three.execute(
        f"""
        insert into scores values (2, 'v3', 1), (3, 'v2', 1); insert into notes values (3);
        insert into visits select n, 'done', {DONE} from generate_series(4, 6) n;
        insert into scores values (4, 'v3', 1), (5, 'v0', 1); insert into notes values (5);
        """
    )

    found = await verified(three, config(), worklist)

    assert (found.sessions, found.code) == ({"fixed": 2}, 0)
    assert found.verification.new_sessions == 3
    assert found.new == {"notes missing": 2, "scores missing": 1, "scores outdated": 1}


async def test_a_session_that_lacks_another_record_now_is_no_new_session_and_not_fixed(three: Database) -> None:
    worklist = await listed(three, config())
    await three.execute("insert into scores values (2, 'v3', 1); delete from notes where visit_id = 2")

    found = await verified(three, config(), worklist)

    assert found.sessions == {"gap": 2}
    assert found.records["scores"] == {"fixed": 1, "missing": 1}
    assert (found.verification.new_sessions, found.new) == (0, {"notes missing": 1})
    assert found.still[("2",)] == {"notes": "missing"}


async def test_a_narrowed_list_is_fixed_by_nothing_but_a_satisfied_record(three: Database) -> None:
    """And knows no other: of session 2, `scores` was outdated before; of 3, `notes` is none of its."""
    worklist = await listed(three, config(), record="scores", reason="missing")
    before = await verified(three, config(), worklist)
    await three.execute(f"insert into scores values (3, 'v0', 1); insert into visits values (4, 'done', {DONE})")

    after = await verified(three, config(), worklist)
    await three.execute("insert into scores values (3, 'v3', 1)")
    fixed = await verified(three, config(), worklist)

    assert (before.sessions, before.records, before.new) == ({"gap": 1}, {"scores": {"missing": 1}}, {})
    assert (after.sessions, after.records) == ({"gap": 1}, {"scores": {"outdated": 1}})
    assert (after.new, after.verification.new_sessions) == ({"scores missing": 1}, 1)
    assert (fixed.sessions, fixed.code, fixed.verification.new_sessions) == ({"fixed": 1}, 0, 1)


async def test_a_record_that_the_config_got_since_is_none_of_the_list(three: Database) -> None:
    lacking = config().replace("      notes: {table: notes, session_key: visit_id}\n", "")
    worklist = await listed(three, lacking)
    await three.execute("insert into scores values (2, 'v3', 1), (3, 'v2', 1)")

    found = await verified(three, lacking, worklist)

    assert (found.sessions, found.new) == ({"fixed": 2}, {})


async def test_an_empty_list_is_all_fixed_and_tells_of_new_gaps(visits: Database) -> None:
    worklist = await listed(visits, config())
    await visits.execute(f"insert into visits values (1, 'done', {DONE})")

    found = await verified(visits, config(), worklist)

    assert (found.sessions, found.code, found.verification.new_sessions) == ({}, 0, 1)


async def test_a_gap_that_no_list_can_name_is_neither_listed_nor_new(empty: Database) -> None:
    await empty.execute(COMPOSITE)
    text = (
        config().replace("key: id", "key: [the part, id]").replace("session_key: visit_id", "session_key: [part, id]")
    )
    text = text.replace("[part, id]}\n", "[part, visit_id]}\n")
    worklist = await listed(empty, text, record="notes")
    await empty.execute("""insert into visits values (null, null, '', '2025-05-01', null, true);
        insert into notes select "the part", id from visits where id = 10""")

    found = await verified(empty, text, worklist)

    assert found.sessions == {"fixed": 1, "gap": 1}
    assert (found.still, found.new) == ({("ä", "9"): {"notes": "missing"}}, {})
    assert (found.verification.new_sessions, found.verification.unnamed) == (0, 2)


async def test_every_text_is_found_again_as_it_is(empty: Database) -> None:
    await empty.execute(
        """
        create table visits (id text unique, status text, started_at date, completed_at date, done boolean);
        create table scores (visit_id text, version text, blocks int); create table notes (visit_id text);
        """
    )
    await empty.execute(
        "insert into visits select id, '', '2025-05-01', '2025-05-01', true from unnest($1::text[]) id", HOSTILE
    )
    worklist = await listed(empty, config(), record="notes")
    await empty.execute("insert into notes select id from visits where id <> 'ä'")

    found = await verified(empty, config(), worklist)

    assert found.sessions == {"fixed": len(HOSTILE) - 1, "gap": 1}
    assert found.still == {("ä",): {"notes": "missing"}}


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("numeric", "1.0", "2.50"),
        ("date", "2025-05-01", "0044-03-15 BC"),
        ("timestamptz", "2025-05-01 10:00:00.000001+05:45", "infinity"),
        ("bytea", r"\\xdeadbeef", ""),
        ("float8", "0.1", "1e-300"),
        ("interval", "1 mon", "2 days 00:00:01"),
        ("char(5)", "a", "b"),
        ("inet", "::1", "10.0.0.0/8"),
        ('text collate "POSIX"', "a", "b"),
    ],
)
async def test_a_key_of_any_type_is_found_again(empty: Database, kind: str, one: str, other: str) -> None:
    await empty.execute(
        f"""
        create table visits (id {kind} unique, status text, started_at date, completed_at date, done boolean);
        create table notes (visit_id {kind});
        insert into visits select id::{kind}, '', '2025-05-01', '2025-05-01', true
        from unnest(array['{one}', '{other}']) id;
        """
    )
    await empty.set("datestyle", "'SQL, DMY'")
    worklist = await listed(empty, config(), record="notes")
    await empty.execute(f"insert into notes values ('{one}')")

    found = await verified(empty, config(), worklist)

    assert (found.sessions, found.verification.new_sessions) == ({"fixed": 1, "gap": 1}, 0)


async def test_a_key_is_found_by_its_very_letters_whatever_its_collation_calls_equal(empty: Database) -> None:
    try:
        await empty.execute(
            "create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except asyncpg.FeatureNotSupportedError:
        pytest.skip(NO_ICU)
    await empty.execute(
        """
        create table visits (
          id text collate blind unique, status text, started_at date, completed_at date, done boolean
        );
        create table notes (visit_id text collate blind);
        insert into visits values ('a', '', '2025-05-01', '2025-05-01', true);
        """
    )
    worklist = await listed(empty, config(), record="notes")
    await empty.execute("update visits set id = 'A'")

    assert (await verified(empty, config(), worklist)).sessions == {"gone": 1}


@pytest.mark.parametrize("portion", [1, 2, 3, 4, 5, 100])
async def test_none_is_lost_or_told_twice_from_one_portion_to_the_next(
    visits: Database, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await visits.execute(f"insert into visits select n, 'done', {DONE} from generate_series(1, 9) n")
    worklist = await listed(visits, config())
    await visits.execute(
        """
        delete from visits where id in (2, 9); update visits set started_at = '2024-01-01' where id in (3, 7);
        insert into scores values (4, 'v3', 1), (6, 'v3', 1); insert into notes values (4), (5);
        """
    )
    monkeypatch.setattr(room, "PORTION", portion)
    on_progress: list[int] = []

    found = await verified(visits, config(), worklist)
    await verify(plan_for(visits, config()), worklist, on_progress=on_progress.append)

    assert found.sessions == {"gap": 4, "fixed": 1, "gone": 2, "left_window": 2}
    assert [*found.still] == [("1",), ("5",), ("6",), ("8",)]
    assert on_progress == [*range(portion, 9, portion), 9]


async def test_a_session_that_grew_older_than_the_window_is_still_judged(visits: Database) -> None:
    """`last` moves on while a backfill runs: the session is as much mended, or broken, as before."""
    text = config().replace("window: {since: 2025-01-01}", "window: {last: 30d}")
    assert text != config()
    await visits.stop_clock("2025-07-01 12:00+00")
    await visits.execute(
        "insert into visits select n, 'done', started, started + interval '1 hour', true from (values "
        "(1, timestamptz '2025-06-01 13:00+00'), (2, '2025-06-01 14:00+00'), (3, '2025-06-20')) v(n, started)"
    )
    worklist = await listed(visits, text)
    await visits.stop_clock("2025-07-03 12:00+00")
    await visits.execute("insert into scores values (1, 'v3', 1), (3, 'v3', 1); insert into notes values (1), (3)")

    found = await verified(visits, text, worklist)

    assert found.sessions == {"fixed": 2, "gap": 1}
    assert found.still == {("2",): {"scores": "missing", "notes": "missing"}}
    assert (found.verification.new_sessions, found.verification.changed) == (0, ())


async def test_the_list_of_what_remains_keeps_the_window_of_the_first_list(visits: Database) -> None:
    text = config().replace("window: {since: 2025-01-01}", "window: {last: 30d}")
    await visits.stop_clock("2025-07-01 12:00+00")
    await visits.execute("insert into visits values (1, 'done', '2025-06-01 13:00+00', '2025-06-01 14:00+00', true)")
    first = await listed(visits, text)
    await visits.stop_clock("2025-07-03 12:00+00")
    # A list of an earlier version has no `since`.
    first.header = first.header.model_copy(update={"since": None})
    plan, body, file = plan_for(visits, text), io.BytesIO(), io.BytesIO()
    author = Author(body, plan, 2)
    again = await verify(plan, first, author.add)
    author.publish(file, again.listing, first.header.filters, first.header.start)

    found = await verified(visits, text, Worklist(io.BytesIO(file.getvalue())))

    assert found.sessions == {"gap": 1}


async def test_a_list_of_a_segment_needs_the_segments_of_the_config(visits: Database) -> None:
    await visits.execute(f"insert into visits values (1, 'done', {DONE})")
    with_segments = config().replace("eligible: done", "eligible: done, segment: {columns: status}")
    worklist = await listed(visits, with_segments, segment="done")

    with pytest.raises(WorklistError, match="the config has no sessions"):
        await verified(visits, config(), worklist)


async def test_a_cohort_brings_no_session_into_the_window(visits: Database) -> None:
    """Sessions before the window are read for its sake."""
    text = config() + "    cohort: {window: 3000d, maturity: 0s}\n"
    await visits.execute(f"insert into visits values (1, 'done', {DONE})")
    worklist = await listed(visits, text)
    await visits.execute("update visits set started_at = '2024-01-01'")

    assert (await verified(visits, text, worklist)).sessions == {"left_window": 1}


async def test_the_scenario_of_the_tour_is_mended_record_by_record(backfill: Database) -> None:
    text = TOUR.read_text()
    worklist = await listed(backfill, text)
    changes = {part.record: (part.changes.create, part.changes.derive_anew) for part in worklist.header.records}
    await backfill.execute(
        """
        insert into profiles
        select id, 'v1.2.1', now() from assessment_sessions s where status = 'completed' and completed_questions > 0
          and not exists (select 1 from profiles where session_id = s.id)
        """
    )

    found = await verified(backfill, text, worklist)

    assert (worklist.header.sessions, changes) == (39, {"profiles": (13, 0), "fc_scores": (28, 11)})
    assert found.records["profiles"] == {"fixed": 13}
    assert found.records["fc_scores"] == {"missing": 28, "outdated": 11}


# --- Of which database


async def test_another_database_is_refused_and_one_that_says_nothing_is_not(three: Database) -> None:
    own, other = await listed(three, config()), await listed(three, config(), identity="5f")
    nameless = await listed(three, config(), identity=None)

    with pytest.raises(WorklistError, match="the worklist was made from another database than main now is"):
        await verified(three, config(), other)
    assert (await verified(three, config(), nameless)).sessions == {"gap": 2}
    reader = await as_reader(three, SELECT_ALL)
    await three.execute("revoke execute on function pg_control_system() from public")
    silent = await verified(reader, config(), own)
    assert silent.verification.listing.identity is None
    assert silent.sessions == {"gap": 2}
    assert (await verified(reader, config(), other)).sessions == {"gap": 2}


async def test_a_copy_of_a_database_is_another_one(backfill: Database, healthy: Database) -> None:
    worklist = await listed(backfill, TOUR.read_text())

    with pytest.raises(WorklistError, match="another database"):
        await verified(healthy, TOUR.read_text(), worklist)


# --- All or nothing


@pytest.mark.parametrize("how", BROKEN)
async def test_a_record_that_cannot_be_read_is_named_and_nothing_is_verified(three: Database, how: str) -> None:
    sql, keys, reason, message = BROKEN[how]
    worklist = await listed(three, config())
    reader = await as_reader(three, SELECT_ALL)
    await three.execute(sql.replace("ROLE", urlsplit(reader.dsn).username or ""))
    text = config(keys).replace("table: scores", "table: public.scores").replace("valid: blocks > 0, ", "")

    [fault] = await untold(verify(plan_for(reader, text), worklist))

    assert fault.reason == reason
    assert fault.message.startswith("pipelines.care.records.scores")
    assert message in fault.message


async def test_without_the_sessions_nothing_is_verified(three: Database) -> None:
    worklist = await listed(three, config())
    await three.execute("drop table visits")

    fault = await unmeasured(verify(plan_for(three, config()), worklist))

    assert (fault.reason, fault.message.partition(":")[0]) == ("missing_object", "pipelines.care.sessions")


async def test_what_is_rewritten_while_we_read_proves_nothing(three: Database) -> None:
    """A table of a sub-query looks empty: every session would be a gap again."""
    await three.execute("create table scored as select 1 as id; insert into scored values (2), (3)")
    text = config("where: exists (select 1 from scored where id = visit_id)")
    worklist = await listed(three, text)
    await pause_with_the_snapshot(three)
    task = asyncio.create_task(unmeasured(verify(plan_for(three, text), worklist)))
    await until(three, PAUSED)
    await three.execute("truncate scored")

    fault = await task

    assert fault.reason == "table_rewrite"


async def test_where_policies_may_hide_rows_it_says_so(three: Database) -> None:
    worklist = await listed(three, config())
    reader = await as_reader(three, SELECT_ALL)
    await three.execute("alter table visits enable row level security; create policy own on visits using (id <> 2)")

    found = await verified(reader, config(database="row_security: allow"), worklist)

    assert found.sessions == {"gone": 1, "gap": 1}
    assert found.verification.listing.restricted == ("public.visits",)


@pytest.mark.parametrize("name", ["listed", "present", "place", "session_1", "stated", "found"])
async def test_no_name_of_ours_hides_a_table_or_column_of_the_platform(three: Database, name: str) -> None:
    await three.execute(f'alter table visits rename to "{name}"; alter table "{name}" add "{name}" text default 1')
    text = config().replace("table: visits", f"table: '{name}'")
    worklist = await listed(three, text)
    await three.execute(f'delete from "{name}" where id = 3')

    assert (await verified(three, text, worklist)).sessions == {"gap": 1, "gone": 1}


# --- How it is said


EXPECTED = """\
care: not all fixed: 1 of 4 sessions fixed, measured at 2025-06-01T12:00:00Z; l.jsonl was made at 2025-06-01T12:00:00Z
            listed   fixed  still a gap  pending  vanished  new since
  sessions       4  1 of 4            1        0         2          1
  scores         4  1 of 4            1        0         2          1
  notes          3  1 of 3            0        0         2          1
  still a gap: scores 1 outdated
  vanished: 1 gone, 1 no longer eligible
  new since: scores 1 missing; notes 1 missing
"""


async def test_it_is_said_in_a_line_a_table_and_what_is_behind_it(three: Database) -> None:
    await three.execute(f"insert into visits select n, 'done', {DONE} from generate_series(4, 5) n")
    worklist = await listed(three, config())
    await three.execute(
        f"""
        delete from visits where id = 3; update visits set done = false where id = 4;
        insert into scores values (5, 'v3', 1); insert into notes values (5);
        insert into visits values (6, 'done', {DONE})
        """
    )

    found = await verified(three, config(), worklist)

    text = plain(as_blocks(found.verification, "l.jsonl"))
    assert text == EXPECTED
    document = json.loads(as_json(found.verification))
    assert document["exit_code"] == 1
    assert document["sessions"] == {
        "listed": 4,
        "fixed": 1,
        "gap": 1,
        "pending": 0,
        "gone": 1,
        "left_window": 0,
        "not_eligible": 1,
        "new": 1,
        "unnamed": 0,
    }
    assert document["records"][0] == {
        "record": "scores",
        "listed": 4,
        "fixed": 1,
        "missing": 0,
        "outdated": 1,
        "invalid": 0,
        "too_few": 0,
        "too_many": 0,
        "pending": 0,
        "gone": 1,
        "left_window": 0,
        "not_eligible": 1,
        "new": {"missing": 1, "outdated": 0, "invalid": 0, "too_few": 0, "too_many": 0},
    }


# --- By which config


@dataclass(frozen=True)
class Loosened:
    """A config by which what is a gap looks mended: the keys of then and of now, and what of `names` tells of it.

    `sql` makes gaps by the config of then, for every row of `scores` is good before.  `fate` is what the sessions of
    the list look like by the config of now.
    """

    names: tuple[str, ...]
    then: tuple[str, str] = ("", "")
    now: tuple[str, str] = ("", "")
    sql: str = ""
    fate: str = "fixed"


SCORES = ", KEYS"
"""Where more keys of the record go."""
EVERY = "update scores set "
LOOSENED = {
    "required_when": Loosened(
        ("records.scores.required_when",), now=(SCORES, ", required_when: 'false'"), sql="delete from scores"
    ),
    "valid": Loosened(("records.scores.valid",), now=("blocks > 0", "blocks >= 0"), sql=f"{EVERY} blocks = 0"),
    "where": Loosened(("records.scores.where",), then=(SCORES, ", where: blocks > 5")),
    "accepted_values": Loosened(
        ("records.scores.accepted_values",),
        then=(SCORES, ", accepted_values: {blocks: ['7']}"),
        now=(SCORES, ", accepted_values: {blocks: ['7', '1']}"),
    ),
    "satisfied_by": Loosened(
        ("records.scores.satisfied_by",), now=(SCORES, ", satisfied_by: any_version"), sql=f"{EVERY} version = 'v0'"
    ),
    "not every row": Loosened(
        ("records.scores.satisfied_by",),
        then=(SCORES, ", satisfied_by: every_row"),
        sql="insert into scores select id, 'v0' from visits",
    ),
    "rows": Loosened(("records.scores.rows.exactly",), then=(SCORES, ", rows: 2"), now=(SCORES, "")),
    "fewer rows": Loosened(
        ("records.scores.rows.exactly", "records.scores.rows.at_least"),
        then=(SCORES, ", rows: 2"),
        now=(SCORES, ", rows: {at_least: 1}"),
    ),
    "current": Loosened(
        ("records.scores.version.current",), now=("current: v3", "current: v0"), sql=f"{EVERY} version = 'v0'"
    ),
    "accepted": Loosened(
        ("records.scores.version.accepted",), now=("accepted: [v2]", "accepted: [v2, v0]"), sql=f"{EVERY} version='v0'"
    ),
    "version": Loosened(
        ("records.scores.version.column", "records.scores.version.current", "records.scores.version.accepted"),
        now=(" version: {column: version, current: v3, accepted: [v2]},", ""),
        sql=f"{EVERY} version = 'v0'",
    ),
    "version.column": Loosened(
        ("records.scores.version.column",),
        now=("{column: version", "{column: other"),
        sql=f"alter table scores add other text default 'v3'; {EVERY} version = 'v0'",
    ),
    "the table of a record": Loosened(
        ("records.scores.table",),
        now=("table: scores", "table: others"),
        sql="create table others as table scores; delete from scores",
    ),
    "session_key": Loosened(
        ("records.scores.session_key",),
        now=("session_key: visit_id, version", "session_key: other, version"),
        sql=f"alter table scores add other int; {EVERY} other = visit_id; {EVERY} visit_id = null",
    ),
    "cast": Loosened(
        ("records.scores.session_key",),
        then=("session_key: visit_id, version", "session_key: {column: code, cast: int}, version"),
        now=("session_key: visit_id, version", "session_key: {column: code, cast: smallint}, version"),
        sql=f"alter table scores add code text default '9'; {EVERY} version = 'v0'",
        fate="gap",
    ),
    "grace": Loosened(
        ("grace",), now=("grace: 10m", "grace: 365d"), sql="delete from scores; delete from notes", fate="pending"
    ),
    "the grace of a record": Loosened(
        ("records.scores.grace",), now=(SCORES, ", grace: 365d"), sql="delete from scores", fate="pending"
    ),
    "no grace for a record": Loosened(
        ("records.scores.grace",),
        then=(SCORES, ", grace: 0s"),
        sql="delete from scores; update visits set completed_at = '2025-06-01 11:55+00'",
        fate="pending",
    ),
    "eligible": Loosened(
        ("sessions.eligible",),
        now=("eligible: done", "eligible: done and not scored"),
        sql="delete from scores",
        fate="not_eligible",
    ),
    "where of the sessions": Loosened(
        ("sessions.where",),
        now=("eligible: done", "where: not scored, eligible: done"),
        sql="delete from scores",
        fate="not_eligible",
    ),
    "the table of sessions": Loosened(
        ("sessions.table",),
        now=("table: visits", "table: others"),
        sql="create table others as table visits; alter table others add unique (id); update others set done = false; "
        "delete from scores",
        fate="not_eligible",
    ),
    "started_at": Loosened(
        ("sessions.started_at",),
        now=("started_at: started_at", "started_at: other"),
        sql="alter table visits add other timestamptz; delete from scores",
        fate="left_window",
    ),
    "completed_at": Loosened(
        ("sessions.completed_at",),
        now=("completed_at: completed_at", "completed_at: other"),
        sql="alter table visits add other timestamptz default '2025-06-01 11:55+00'; delete from scores",
        fate="pending",
    ),
    "timezone": Loosened(
        ("sessions.timezone",),
        now=("      eligible: done", "      timezone: America/Sao_Paulo, eligible: done"),
        sql="alter table visits alter completed_at type timestamp using '2025-06-01 08:55'; delete from scores",
        fate="pending",
    ),
    "cohort": Loosened(
        ("cohort.window", "cohort.maturity"),
        now=("    records:", "    cohort: {window: 24h, maturity: 1h}\n    records:"),
        sql="delete from scores",
        fate="gap",
    ),
    "deleted": Loosened(
        ("sessions.deleted",),
        now=("      eligible: done", "      deleted: scored, eligible: done"),
        sql="delete from scores",
        fate="gap",
    ),
    "row_security": Loosened(
        ("databases.main.row_security",), now=(", DATABASE", ", row_security: allow"), sql="delete from scores",
        fate="gap",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", LOOSENED)
async def test_another_config_proves_nothing_unless_its_key_is_allowed_by_name(visits: Database, how: str) -> None:
    case = LOOSENED[how]
    await visits.execute(
        f"""
        insert into visits select n, 'done', {DONE} from generate_series(1, 3) n;
        insert into scores select n, 'v3', 1 from generate_series(1, 3) n;
        insert into notes select n from generate_series(1, 3) n;
        {case.sql}
        """
    )
    assert case.then[0] in CONFIG
    assert case.now[0] in CONFIG
    then, now = (config(text=CONFIG.replace(*change)) if any(change) else config() for change in (case.then, case.now))
    worklist = await listed(visits, then)
    assert worklist.header.sessions == 3

    same, other = await verified(visits, then, worklist), await verified(visits, now, worklist)
    back = await verified(visits, then, await listed(visits, now))

    assert (same.verification.changed, same.code) == ((), 1)
    assert other.sessions == {case.fate: 3}
    assert (set(other.verification.changed), other.code) == (set(case.names), 1)
    allowed = Allowed(vanished=True, keys=frozenset(case.names))
    assert other.verification.exit_code(allowed) == (1 if case.fate in ("gap", "pending") else 0)
    for name in case.names:
        fewer = Allowed(vanished=True, keys=allowed.keys - {name})
        assert other.verification.exit_code(fewer) == 1
    assert (set(back.verification.changed), back.code) == (set(case.names), 1)


@pytest.mark.parametrize(
    "change",
    [
        (
            "\n  care:\n",
            "\n  care:  # of the clinic\n    interval: 7s\n    limits: {sessions_with_gap: {critical: 5}}\n",
        ),
        ("lock_timeout: 200ms", "statement_timeout: 20s, lock_timeout: 300ms"),
        ("grace: 10m", "grace: 600s"),
        ("key: id, status: status,", "status: status, key: [id],"),
        ("eligible: done}", "eligible: 'done'}\n    # Another order.\n    limits: {}"),
        (", KEYS", ", grace: 10m, satisfied_by: current_version"),
    ],
    ids=lambda change: change[1].strip(),
)
async def test_a_config_that_measures_the_same_proves_a_list(three: Database, change: tuple[str, str]) -> None:
    assert change[0] in CONFIG
    worklist = await listed(three, config())
    await three.execute("insert into scores values (2, 'v3', 1), (3, 'v2', 1); insert into notes values (3)")

    found = await verified(three, config(text=CONFIG.replace(*change)), worklist)

    assert (found.verification.changed, found.sessions, found.code) == ((), {"fixed": 2}, 0)


async def test_records_in_another_order_prove_a_list(three: Database) -> None:
    lines = CONFIG.splitlines(keepends=True)
    turned = config(text="".join([*lines[:-2], lines[-1], lines[-2]]))
    assert turned.index("notes:") < turned.index("scores:")
    worklist = await listed(three, config())
    await three.execute("insert into scores values (2, 'v3', 1), (3, 'v2', 1); insert into notes values (3)")

    assert (await verified(three, turned, worklist)).code == 0


async def test_an_empty_list_is_proved_by_no_other_config(visits: Database) -> None:
    worklist = await listed(visits, config())

    found = await verified(visits, config("required_when: 'false'"), worklist)

    assert found.code == 1
    [first, *_] = plain(as_blocks(found.verification, "l")).splitlines()
    assert first.startswith(
        "care: not proved: the worklist is empty: nothing to fix, but the config has changed since the worklist, "
    )


async def test_what_changed_is_said_by_name_in_the_text_and_in_the_json(three: Database) -> None:
    worklist = await listed(three, config(), record="scores")
    text = config("required_when: 'false'").replace("current: v3", "current: v4")
    keys = ["records.scores.version.current", "records.scores.required_when"]

    found = await verified(three, text, worklist)

    some = Allowed(keys=frozenset(keys[:1]))
    shown = plain(as_blocks(found.verification, "l", some))
    assert shown.startswith(
        "care: not proved: 2 of 2 sessions fixed, but the config has changed since the worklist, measured"
    )
    assert f"  changed in the config since the worklist: {keys[1]}\n" in shown
    assert f"  changed in the config since the worklist, and allowed: {keys[0]}\n" in shown
    document = json.loads(as_json(found.verification, some))
    assert document["exit_code"] == 1
    assert document["changed"] == [{"key": keys[0], "allowed": True}, {"key": keys[1], "allowed": False}]
    assert plain(as_blocks(found.verification, "l", Allowed(keys=frozenset(keys)))).startswith(
        "care: 2 of 2 sessions f"
    )


@pytest.mark.parametrize("name", ["a\x1b[31m\x7f\u202e", "x" * 100_000])
def test_a_name_of_a_file_controls_no_terminal(name: str) -> None:
    message = str(WorklistError(f"the worklist has the pipeline {name}, not in the config"))

    assert message.isprintable()
    assert len(message) < 3000
