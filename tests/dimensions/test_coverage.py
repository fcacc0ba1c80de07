"""Coverage: the state of a record for a session, and what follows from it for the session."""

import pytest
from conftest import Beginning, Database, care

CLOCK = "2025-06-01 12:00:00+00"
"""When every collection here happens; the grace is 10 minutes."""

TABLES = """
create table visits (
  id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean, scored boolean
);
create table scores (visit_id int, version text, kind text, blocks int, created_at timestamptz, deleted_at timestamptz);
create table notes (visit_id int);
"""

CONFIG = care("grace: 10m", scores="version: {column: version, current: v3, accepted: [v2, v1]} KEYS")

WITH_NOTES = CONFIG + "      notes: {table: notes, session_key: visit_id}\n"

LONG_AGO = "'2025-05-01 09:00+00', '2025-05-01 10:00+00'"


def config(keys: str = "", text: str = CONFIG) -> str:
    """The config with more keys for the record `scores`."""
    return text.replace(" KEYS", f", {keys}" if keys else "")


BEGINNING = Beginning(TABLES + f"insert into visits values (1, 'done', {LONG_AGO}, true, true)", clock=CLOCK)
"""One eligible visit, number 1, completed long before the clock."""


CURRENT = "('v3', 'a', 9)"
ACCEPTED = "('v2', 'a', 9)"
OUTDATED = "('v0', 'a', 9)"
INVALID = "('v3', 'a', 0)"
INVALID_ACCEPTED = "('v1', 'a', 0)"
OUTDATED_AND_INVALID = "('v0', 'a', 0)"

STATES = [
    ((), "missing"),
    ((CURRENT,), "current"),
    ((ACCEPTED,), "accepted"),
    ((OUTDATED,), "outdated"),
    (("(null, 'a', 9)",), "outdated"),
    (("('', 'a', 9)",), "outdated"),
    (("('V3', 'a', 9)",), "outdated"),
    (("('v3 ', 'a', 9)",), "outdated"),
    # versions are not ordered: one that looks newer is as unknown as one that looks older
    (("('v4', 'a', 9)",), "outdated"),
    (("('v10', 'a', 9)",), "outdated"),
    (("('v3.1', 'a', 9)",), "outdated"),
    ((INVALID,), "invalid"),
    ((INVALID_ACCEPTED,), "invalid"),
    ((OUTDATED_AND_INVALID,), "outdated"),
    (("('v3', 'a', null::int)",), "invalid"),
    # several rows: the best counts
    ((CURRENT, CURRENT), "current"),
    ((OUTDATED, ACCEPTED, CURRENT), "current"),
    ((CURRENT, INVALID), "current"),
    ((INVALID, ACCEPTED), "accepted"),
    ((OUTDATED, INVALID_ACCEPTED), "invalid"),
    ((OUTDATED, OUTDATED_AND_INVALID), "outdated"),
]


@pytest.mark.parametrize(("rows", "state"), STATES)
async def test_the_state_of_a_session_is_that_of_its_best_row(
    visits: Database, rows: tuple[str, ...], state: str
) -> None:
    for row in rows:
        await visits.execute(f"insert into scores select 1, * from (values {row}) t (version, kind, blocks)")

    strict = await visits.measure(config("valid: blocks > 0, satisfied_by: current_version"))
    lenient = await visits.measure(config("valid: blocks > 0, satisfied_by: any_version"))

    for numbers, unsatisfied in ((strict, {"missing", "outdated", "invalid"}), (lenient, {"missing"})):
        is_gap = state in unsatisfied
        assert numbers.positive("record_sessions") == {("scores", state): 1}
        assert numbers.positive("gap_sessions") == ({("scores", state): 1} if is_gap else {})
        assert numbers.positive("eligible_sessions") == {("gap" if is_gap else "complete",): 1}


WORST = [
    *((rows, state) for rows, state in STATES if len(rows) < 2),
    ((CURRENT, CURRENT), "current"),
    ((CURRENT, ACCEPTED, CURRENT), "accepted"),
    ((OUTDATED, ACCEPTED, CURRENT), "outdated"),
    ((CURRENT, INVALID), "invalid"),
    ((INVALID, ACCEPTED), "invalid"),
    ((CURRENT, "('v3', 'a', null::int)"), "invalid"),
    ((OUTDATED, INVALID_ACCEPTED), "outdated"),
    ((CURRENT, OUTDATED_AND_INVALID), "outdated"),
    ((CURRENT, "(null, 'a', 9)"), "outdated"),
]


@pytest.mark.parametrize(("rows", "state"), WORST)
async def test_with_every_row_the_state_is_that_of_the_worst_row(
    visits: Database, rows: tuple[str, ...], state: str
) -> None:
    for row in rows:
        await visits.execute(f"insert into scores select 1, * from (values {row}) t (version, kind, blocks)")

    numbers = await visits.measure(config("valid: blocks > 0, satisfied_by: every_row"))

    is_gap = state in ("missing", "outdated", "invalid")
    assert numbers.positive("record_sessions") == {("scores", state): 1}
    assert numbers.positive("gap_sessions") == ({("scores", state): 1} if is_gap else {})
    assert numbers.positive("eligible_sessions") == {("gap" if is_gap else "complete",): 1}


async def test_with_every_row_only_the_rows_to_measure_of_the_session_count(visits: Database) -> None:
    await visits.execute(
        """
        insert into scores (visit_id, version, blocks, deleted_at) values
          (1, 'v3', 9, null), (1, 'v0', 9, now()), (null, 'v0', 9, null), (7, 'v3', 0, null);
        """
    )

    whole = await visits.measure(config("valid: blocks > 0, satisfied_by: every_row, where: deleted_at is null"))
    broken = await visits.measure(config("valid: blocks > 0, satisfied_by: every_row"))

    assert whole.positive("record_sessions") == {("scores", "current"): 1}
    assert broken.positive("gap_sessions") == {("scores", "outdated"): 1}


async def test_with_every_row_a_unique_index_changes_no_state(visits: Database) -> None:
    await visits.execute(
        f"""
        create unique index on scores (visit_id);
        insert into visits select n, 'done', {LONG_AGO}, true, true from generate_series(2, 4) n;
        insert into scores (visit_id, version, blocks) values (1, 'v3', 9), (2, 'v0', 9), (3, 'v2', 0);
        """
    )

    numbers = await visits.measure(config("valid: blocks > 0, satisfied_by: every_row"))

    assert numbers.positive("record_sessions") == {
        ("scores", state): 1 for state in ("current", "outdated", "invalid", "missing")
    }


async def test_with_every_row_a_bad_row_is_pending_within_the_grace(visits: Database) -> None:
    await visits.execute(
        """
        update visits set completed_at = '2025-06-01 11:55+00';
        insert into scores (visit_id, version) values (1, 'v3'), (1, 'v0');
        """
    )

    numbers = await visits.measure(config("satisfied_by: every_row"))

    assert numbers.positive("record_sessions") == {("scores", "pending"): 1}


async def test_a_gap_is_seen_and_mended(visits: Database) -> None:
    broken = await visits.measure(config())
    await visits.execute("insert into scores values (1, 'v3')")

    mended = await visits.measure(config())

    assert broken.family("eligible_sessions") == {("complete",): 0, ("pending",): 0, ("gap",): 1}
    assert mended.family("eligible_sessions") == {("complete",): 1, ("pending",): 0, ("gap",): 0}


async def test_every_state_and_reason_is_there_for_empty_tables(visits: Database) -> None:
    await visits.execute("truncate visits")

    numbers = await visits.measure(config())

    states = ("current", "accepted", "outdated", "invalid", "missing", "pending", "not_required")
    assert numbers.family("eligible_sessions") == {("complete",): 0, ("pending",): 0, ("gap",): 0}
    assert numbers.family("record_sessions") == {("scores", state): 0 for state in states}
    assert numbers.family("gap_sessions") == {("scores", reason): 0 for reason in ("missing", "outdated", "invalid")}
    assert numbers.family("gap_oldest_timestamp_seconds") == {}


async def test_many_rows_of_many_versions_count_no_session_twice(visits: Database) -> None:
    await visits.execute(
        f"""
        insert into visits select n, 'done', {LONG_AGO}, true, true from generate_series(2, 50) n;
        insert into scores select id, 'v' || v, 'a', v from visits, generate_series(0, 9) v, generate_series(1, 3);
        insert into notes select id from visits, generate_series(1, 7) where id > 10;
        """
    )

    numbers = await visits.measure(config(text=WITH_NOTES))

    assert numbers.positive("record_sessions") == {
        ("scores", "current"): 50,
        ("notes", "current"): 40,
        ("notes", "missing"): 10,
    }
    assert numbers.positive("eligible_sessions") == {("complete",): 40, ("gap",): 10}
    assert numbers.positive("sessions") == {("done",): 50}


# --- The grace: 10 minutes before and after the clock, 12:00


@pytest.mark.parametrize(
    ("completed_at", "state"),
    [
        ("'2025-06-01 11:50:00+00'", "missing"),  # exactly the grace ago
        ("'2025-06-01 11:50:00.000001+00'", "pending"),
        ("'2025-06-01 12:00:00+00'", "pending"),
        ("'2025-06-01 12:10:00+00'", "pending"),  # exactly the grace ahead
        ("'2025-06-01 12:10:00.000001+00'", "missing"),
        ("'2999-01-01'", "missing"),
        ("null", "missing"),
        ("'infinity'", "missing"),
        ("'-infinity'", "missing"),
    ],
)
async def test_only_a_completion_within_the_grace_excuses(visits: Database, completed_at: str, state: str) -> None:
    await visits.execute(f"update visits set started_at = '2025-06-01 11:00+00', completed_at = {completed_at}")

    strict = await visits.measure(config("satisfied_by: current_version"))
    lenient = await visits.measure(config("satisfied_by: any_version"))

    for numbers in (strict, lenient):
        assert numbers.positive("record_sessions") == {("scores", state): 1}
        assert numbers.positive("eligible_sessions") == {("pending" if state == "pending" else "gap",): 1}


@pytest.mark.parametrize("row", [OUTDATED, INVALID])
async def test_within_the_grace_a_bad_row_is_pending_only_where_it_does_not_satisfy(visits: Database, row: str) -> None:
    await visits.execute(
        f"""
        update visits set completed_at = '2025-06-01 11:59+00';
        insert into scores select 1, * from (values {row}) t (version, kind, blocks);
        """
    )

    strict = await visits.measure(config("valid: blocks > 0, satisfied_by: current_version"))
    lenient = await visits.measure(config("valid: blocks > 0, satisfied_by: any_version"))

    assert strict.positive("record_sessions") == {("scores", "pending"): 1}
    assert lenient.positive("record_sessions") == {("scores", "outdated" if row == OUTDATED else "invalid"): 1}


async def test_a_satisfied_session_is_never_pending(visits: Database) -> None:
    await visits.execute("update visits set completed_at = '2025-06-01 11:59+00'; insert into scores values (1, 'v3')")

    numbers = await visits.measure(config())

    assert numbers.positive("record_sessions") == {("scores", "current"): 1}
    assert numbers.positive("eligible_sessions") == {("complete",): 1}


async def test_a_record_may_have_a_grace_of_its_own(visits: Database) -> None:
    await visits.execute("update visits set completed_at = '2025-06-01 11:45+00'")

    numbers = await visits.measure(config("grace: 16m", WITH_NOTES))

    assert numbers.positive("record_sessions") == {("scores", "pending"): 1, ("notes", "missing"): 1}
    assert numbers.positive("eligible_sessions") == {("gap",): 1}


async def test_no_grace_means_a_gap_at_once(visits: Database) -> None:
    await visits.execute("update visits set completed_at = '2025-06-01 12:00+00'")

    numbers = await visits.measure(config("grace: 0s"))

    assert numbers.positive("record_sessions") == {("scores", "missing"): 1}


async def test_a_session_is_pending_when_one_record_is_and_none_is_a_gap(visits: Database) -> None:
    await visits.execute("update visits set completed_at = '2025-06-01 11:55+00'; insert into notes values (1)")

    numbers = await visits.measure(config(text=WITH_NOTES))

    assert numbers.positive("record_sessions") == {("scores", "pending"): 1, ("notes", "current"): 1}
    assert numbers.positive("eligible_sessions") == {("pending",): 1}


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
async def test_the_grace_of_a_naive_time_is_reckoned_in_utc(visits: Database, zone: str) -> None:
    await visits.set("timezone", f"'{zone}'")
    await visits.execute(
        """
        alter table visits alter completed_at type timestamp;
        update visits set completed_at = '2025-06-01 11:55';
        """
    )

    numbers = await visits.measure(config())

    assert numbers.positive("record_sessions") == {("scores", "pending"): 1}


@pytest.mark.parametrize(
    ("clock", "completed_at", "state"),
    [
        # The clocks of Berlin go from 02:00 to 03:00 at 01:00 UTC.
        ("2025-03-30 01:05+00", "2025-03-30 03:01", "pending"),
        ("2025-03-30 01:05+00", "2025-03-30 01:56", "pending"),
        ("2025-03-30 01:05+00", "2025-03-30 01:54", "missing"),
        # No clock shows 02:56 then: PostgreSQL takes it for 03:56, which lies too far ahead to excuse.
        ("2025-03-30 01:05+00", "2025-03-30 02:56", "missing"),
        # They go from 03:00 to 02:00 at 01:00 UTC: 02:01 is there twice, and the later one is meant.
        ("2025-10-26 01:05+00", "2025-10-26 02:01", "pending"),
        ("2025-10-26 00:05+00", "2025-10-26 02:01", "missing"),
        ("2025-10-26 01:05+00", "2025-10-26 01:59", "missing"),
    ],
)
async def test_the_grace_of_a_declared_zone_knows_when_its_clocks_change(
    visits: Database, clock: str, completed_at: str, state: str
) -> None:
    await visits.stop_clock(clock)
    await visits.execute(
        f"""
        alter table visits alter started_at type timestamp, alter completed_at type timestamp;
        update visits set started_at = '2025-03-01', completed_at = '{completed_at}';
        """
    )

    numbers = await visits.measure(config().replace("eligible: done", "eligible: done, timezone: Europe/Berlin"))

    assert numbers.positive("record_sessions") == {("scores", state): 1}


# --- Who needs the record


@pytest.mark.parametrize(("done", "analysed"), [("true", 1), ("false", 0), ("null", 0)])
async def test_only_a_session_that_is_surely_eligible_is_analysed(visits: Database, done: str, analysed: int) -> None:
    await visits.execute(f"update visits set done = {done}")

    numbers = await visits.measure(config())

    assert sum(numbers.family("eligible_sessions").values()) == analysed
    assert sum(numbers.family("record_sessions").values()) == analysed
    assert numbers.positive("sessions") == {("done",): 1}


@pytest.mark.parametrize("started_at", ["null", "'infinity'", "'-infinity'", "'2024-12-31 23:59:59.999999+00'"])
async def test_a_session_outside_the_window_is_not_analysed(visits: Database, started_at: str) -> None:
    await visits.execute(f"update visits set started_at = {started_at}")

    numbers = await visits.measure(config())

    assert numbers.positive("eligible_sessions") == {}
    assert numbers.positive("record_sessions") == {}


@pytest.mark.parametrize(
    ("scored", "state"), [("true", "missing"), ("false", "not_required"), ("null", "not_required")]
)
async def test_a_record_is_required_only_where_that_is_surely_so(visits: Database, scored: str, state: str) -> None:
    await visits.execute(f"update visits set scored = {scored}")

    numbers = await visits.measure(config("required_when: scored"))

    assert numbers.positive("record_sessions") == {("scores", state): 1}
    assert numbers.positive("eligible_sessions") == {("gap" if state == "missing" else "complete",): 1}


async def test_a_record_that_is_not_required_is_not_required_even_when_it_is_there(visits: Database) -> None:
    await visits.execute("update visits set scored = false; insert into scores values (1, 'v0')")

    numbers = await visits.measure(config("required_when: scored"))

    assert numbers.positive("record_sessions") == {("scores", "not_required"): 1}


# --- Which rows count


@pytest.mark.parametrize(
    ("kind", "state"),
    [("'a'", "current"), ("'b'", "current"), ("'c'", "invalid"), ("''", "invalid"), ("null", "invalid")],
)
async def test_a_value_that_is_not_on_the_list_makes_the_row_invalid(visits: Database, kind: str, state: str) -> None:
    await visits.execute(f"insert into scores values (1, 'v3', {kind})")

    numbers = await visits.measure(config("accepted_values: {kind: [a, b]}"))

    assert numbers.positive("record_sessions") == {("scores", state): 1}


async def test_a_row_must_be_valid_in_all_its_values(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'v3', 'a', 0)")

    broken = await visits.measure(config('accepted_values: {kind: [a], blocks: ["3"]}, valid: blocks < 9'))
    await visits.execute("update scores set blocks = 3")
    mended = await visits.measure(config('accepted_values: {kind: [a], blocks: ["3"]}, valid: blocks < 9'))

    assert broken.positive("record_sessions") == {("scores", "invalid"): 1}
    assert mended.positive("record_sessions") == {("scores", "current"): 1}


@pytest.mark.parametrize("blocks", ["0", "null"])
async def test_without_versions_a_row_is_current_or_invalid(visits: Database, blocks: str) -> None:
    text = config().replace("version: {column: version, current: v3, accepted: [v2, v1]}", "valid: blocks > 0")
    await visits.execute(f"insert into scores values (1, null, null, {blocks})")

    broken = await visits.measure(text)
    await visits.execute("update scores set blocks = 1")
    mended = await visits.measure(text)

    assert broken.positive("record_sessions") == {("scores", "invalid"): 1}
    assert mended.positive("record_sessions") == {("scores", "current"): 1}


async def test_rows_hidden_by_where_do_not_exist(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'v3', 'a', 9, null, '2025-05-02')")

    hidden = await visits.measure(config("where: deleted_at is null"))
    shown = await visits.measure(config("where: deleted_at is null or blocks = 9"))

    assert hidden.positive("record_sessions") == {("scores", "missing"): 1}
    assert hidden.positive("records") == {}
    assert shown.positive("record_sessions") == {("scores", "current"): 1}


async def test_where_that_is_null_hides_the_row(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'v3', 'a', null)")

    numbers = await visits.measure(config("where: blocks > 0"))

    assert numbers.positive("record_sessions") == {("scores", "missing"): 1}


# --- Nobody to judge


@pytest.mark.parametrize(
    "change", ["truncate visits", "update visits set started_at = '2024-05-01'", "update visits set done = null"]
)
async def test_a_window_without_an_eligible_session_is_no_data_and_never_healthy(visits: Database, change: str) -> None:
    limits = "    limits: {sessions_with_gap: {critical: 0}, gap_ratio: {critical: 0}, gap_age: {critical: 0s}}\n"
    await visits.execute(change)

    numbers = await visits.measure(config() + limits)

    assert numbers.family("eligible_sessions") == {("complete",): 0, ("pending",): 0, ("gap",): 0}
    assert numbers.snapshot.judgement.verdict(is_complete=True) == "no_data"
    assert {f.limit.name: (f.outcome, f.value) for f in numbers.snapshot.judgement.findings} == {
        "sessions_with_gap": ("not_judged", 0),
        "gap_ratio": ("not_judged", None),
        "gap_age": ("not_judged", None),
    }


async def test_a_share_of_gaps_rests_on_sessions_whose_fate_is_settled(visits: Database) -> None:
    text = config() + "    limits: {gap_ratio: {critical: 0.5, min_sessions: 2}}\n"
    found = []
    for change in (
        "update visits set completed_at = '2025-06-01 11:59+00'",  # pending: neither a gap nor complete
        f"insert into visits values (2, 'done', {LONG_AGO}, true)",
        f"insert into visits values (3, 'done', {LONG_AGO}, true)",
        f"insert into visits values (4, 'done', {LONG_AGO}, true); insert into scores values (2, 'v3'), (3, 'v3')",
    ):
        await visits.execute(change)
        [finding] = (await visits.measure(text)).snapshot.judgement.findings
        found.append((finding.outcome, finding.value, finding.sessions))

    assert found == [("not_judged", None, None), ("too_few", 1, 1), ("critical", 1, 2), ("within", 1 / 3, 3)]


# --- The oldest gap, and the sums


async def test_the_oldest_gap_is_dated_by_completion_else_start(visits: Database) -> None:
    await visits.execute(
        """
        truncate visits;
        insert into visits values
          (1, 'done', '2025-03-01 00:00+00', '2025-05-01 00:00+00', true),   -- a gap, completed late
          (2, 'done', '2025-04-01 00:00+00', null, true),                    -- the oldest: dated by its start
          (3, 'done', '2025-02-01 00:00+00', '2025-02-01 00:00+00', true),   -- not a gap
          (4, 'done', '2025-01-02 00:00+00', '2025-01-02 00:00+00', false),  -- not eligible
          (5, 'done', '2025-02-01 00:00+00', '2025-06-01 11:59+00', true);   -- pending
        insert into scores values (3, 'v3'), (1, 'v0');
        """
    )

    broken = await visits.measure(config())
    await visits.execute("insert into scores values (2, 'v3')")
    better = await visits.measure(config())
    await visits.execute("insert into scores values (1, 'v3')")
    mended = await visits.measure(config())

    assert broken("gap_oldest_timestamp_seconds", "scores") == 1743465600  # 2025-04-01
    assert better("gap_oldest_timestamp_seconds", "scores") == 1746057600  # 2025-05-01
    assert mended.family("gap_oldest_timestamp_seconds") == {}
    assert mended("record_sessions", "scores", "pending") == 1


async def test_an_infinite_completion_does_not_date_the_gap(visits: Database) -> None:
    await visits.execute("update visits set started_at = '2025-04-01 00:00+00', completed_at = '-infinity'")

    numbers = await visits.measure(config())

    assert numbers("gap_oldest_timestamp_seconds", "scores") == 1743465600


async def test_an_outdated_row_is_no_gap_where_any_version_satisfies(visits: Database) -> None:
    await visits.execute("insert into scores values (1, 'v0')")

    numbers = await visits.measure(config("satisfied_by: any_version"))

    assert numbers.positive("record_sessions") == {("scores", "outdated"): 1}
    assert numbers.family("gap_sessions") == {("scores", reason): 0 for reason in ("missing", "outdated", "invalid")}
    assert numbers.family("gap_oldest_timestamp_seconds") == {}
    assert numbers.positive("eligible_sessions") == {("complete",): 1}


async def test_a_session_with_two_gaps_is_one_gap_and_all_sums_agree(visits: Database) -> None:
    await visits.execute(
        f"""
        insert into visits select n, 'done', {LONG_AGO}, true, n % 5 <> 0 from generate_series(2, 60) n;
        update visits set completed_at = '2025-06-01 11:55+00' where id % 7 = 0;
        insert into scores select id, 'v' || id % 4, 'a', id % 3 from visits where id % 2 = 0;
        insert into notes select id from visits where id % 3 = 0;
        """
    )
    text = config("required_when: scored, valid: blocks > 0", WITH_NOTES)

    numbers = await visits.measure(text)

    [(gaps, pending, complete)] = await visits.connection.fetch(
        """
        with judged as (
          select scored and not (id % 2 = 0 and id % 4 > 0 and id % 3 > 0) as lacks_scores,
                 id % 3 <> 0 as lacks_notes, id % 7 = 0 as young
          from visits
        )
        select count(*) filter (where (lacks_scores or lacks_notes) and not young),
               count(*) filter (where (lacks_scores or lacks_notes) and young),
               count(*) filter (where not (lacks_scores or lacks_notes))
        from judged
        """
    )
    assert numbers.family("eligible_sessions") == {("gap",): gaps, ("pending",): pending, ("complete",): complete}
    assert min(gaps, pending, complete) > 0
    for record in ("scores", "notes"):
        assert sum(n for labels, n in numbers.family("record_sessions").items() if labels[0] == record) == 60
    assert sum(numbers.family("gap_sessions").values()) > gaps


async def test_each_pipeline_counts_its_own_sessions(visits: Database) -> None:
    await visits.execute(f"insert into visits values (2, 'done', {LONG_AGO}, false), (3, 'done', {LONG_AGO}, false)")
    other = (
        CONFIG.partition("pipelines:\n")[2].replace("care:", "rest:").replace("eligible: done", "eligible: not done")
    )
    text = config(text=CONFIG + other)

    care, rest = await visits.measure(text, "care"), await visits.measure(text, "rest")

    assert care.positive("eligible_sessions") == {("gap",): 1}
    assert rest.positive("eligible_sessions") == {("gap",): 2}
