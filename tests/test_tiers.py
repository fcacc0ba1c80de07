"""Slices: their sums are the numbers of a full pass, whatever happens to the database between two rounds."""

import json
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Database
from sweeping import COUNTED, EVERY_ROW, TEXT, Life, Sweeping, assert_same, in_small_slices

from exporter.demo.scenarios import SCENARIOS
from exporter.measure import sliceable, tiers
from exporter.measure.collect import collect
from exporter.measure.elsewhere import open_snapshot
from exporter.measure.rounds import Rounds
from exporter.model.fault import CollectionError, Fault
from exporter.model.ranges import Started
from exporter.plan.plan import Plan
from exporter.state.ledger import Ledger


@pytest.fixture(autouse=True)
def always_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.measure.rounds.STORED_EVERY", 0.0)


@pytest.fixture
async def platform(empty: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    return await in_small_slices(empty, monkeypatch)


@pytest.mark.parametrize(("seed", "text"), [(0, TEXT), (1, TEXT), (2, TEXT), (3, TEXT), (4, EVERY_ROW), (5, COUNTED)])
async def test_after_a_sweep_every_number_is_that_of_a_full_pass(platform: Database, seed: int, text: str) -> None:
    life, sweeping = Life(platform, seed), Sweeping(platform, text)
    for _ in range(40):
        await life.act()
    for _ in range(12):
        await sweeping.round()
        for _ in range(5):
            await life.act()
        await life.pass_by(timedelta(minutes=life.random.choice([1, 3, 30])))

    await assert_same(sweeping.plan, await sweeping.whole())


async def test_the_first_sweep_counts_each_session_once(platform: Database) -> None:
    await platform.execute(SCENARIOS["backfill"].sql.replace("now()", "timestamptz '2026-11-20 12:00+00'"))
    sweeping = Sweeping(platform)

    snapshot = await sweeping.whole()

    assert snapshot.swept is not None
    assert snapshot.swept.is_whole
    await assert_same(sweeping.plan, snapshot)


async def test_without_a_session_the_numbers_of_slices_are_those_of_a_full_pass(platform: Database) -> None:
    sweeping = Sweeping(platform)

    snapshot = await sweeping.whole()

    assert snapshot.readings.numbers["segment_sessions", "<other>", "gap"] == 0
    await assert_same(sweeping.plan, snapshot)


async def test_a_new_gap_and_its_end_are_in_the_next_round(platform: Database) -> None:
    life, sweeping = Life(platform, 1), Sweeping(platform)
    await sweeping.whole()
    session = await platform.connection.fetchval(
        "insert into assessment_sessions values (gen_random_uuid(), 'completed', $1, $1, $1, 240) returning id",
        life.now,
    )

    pending = (await sweeping.round()).readings
    life.now += timedelta(minutes=6)
    await platform.stop_clock(life.now.isoformat())
    gap = (await sweeping.round()).readings
    await platform.execute("insert into profiles values ($1, 'v1.2.1', $2)", session, life.now)
    await platform.execute("insert into fc_scores values ($1, 'v1.2', 'functions', 1, $2)", session, life.now)
    mended = (await sweeping.round()).readings

    states = [
        {state: readings.numbers["eligible_sessions", state] for state in ("pending", "gap", "complete")}
        for readings in (pending, gap, mended)
    ]
    assert states == [
        {"pending": 1, "gap": 0, "complete": 0},
        {"pending": 0, "gap": 1, "complete": 0},
        {"pending": 0, "gap": 0, "complete": 1},
    ]


async def test_with_every_row_the_sweep_finds_a_bad_row_of_a_complete_session(platform: Database) -> None:
    life, sweeping = Life(platform, 1), Sweeping(platform, EVERY_ROW)
    session = await platform.connection.fetchval(
        "insert into assessment_sessions values (gen_random_uuid(), 'completed', $1, $1, $1, 240) returning id",
        life.now - timedelta(hours=1),
    )
    await platform.execute("insert into fc_scores values ($1, 'v1.2', 'functions', 1, $2)", session, life.now)
    await platform.execute("insert into profiles values ($1, 'v1.2.1', $2)", session, life.now)
    complete = (await sweeping.whole()).readings.numbers
    await platform.execute("insert into profiles values ($1, 'v1.2.0', $2)", session, life.now)

    swept = (await sweeping.whole()).readings.numbers
    await platform.execute("delete from profiles where results_version = 'v1.2.0'")
    mended = (await sweeping.round()).readings.numbers

    assert complete["eligible_sessions", "complete"] == 1
    assert swept["gap_sessions", "profiles", "outdated"] == 1
    assert mended["eligible_sessions", "complete"] == 1


async def test_a_sweep_tells_how_many_sessions_it_found_changed(platform: Database) -> None:
    life, sweeping = Life(platform, 2), Sweeping(platform)
    for _ in range(30):
        await life.start()
    life.now += timedelta(hours=1)
    await platform.stop_clock(life.now.isoformat())
    await sweeping.whole()
    await platform.execute(
        "update assessment_sessions set status = 'lost' where id in "
        "(select id from assessment_sessions where created_at > '2025-08-02' and status = 'in_progress' limit 3)"
    )

    found = (await sweeping.whole()).swept

    assert found is not None
    assert found.differences == 3


async def test_the_first_sweep_tells_its_progress_and_what_is_left(
    platform: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await platform.execute(SCENARIOS["healthy"].sql.replace("now()", "timestamptz '2026-11-20 12:00+00'"))
    text = TEXT.replace("mode: auto", "mode: tiered").replace("# allow_superuser: false", "allow_superuser: true")
    measuring, plan = rounds(platform, text.replace("interval: 30s", "interval: 100ms")), platform.plan(text)
    began = datetime(2026, 11, 20, 12, tzinfo=UTC)
    snapshot = await measuring(plan)
    shares = []
    while snapshot.swept is not None and not snapshot.swept.is_whole:
        shares.append(snapshot.swept.share)
        await platform.stop_clock((began + timedelta(minutes=len(shares))).isoformat())
        snapshot = await measuring(plan)

    told = [r for r in caplog.records if r.message.startswith("sweep.")]
    assert [r.message for r in told[:-1]] == ["sweep.progress"] * (len(told) - 1)
    assert "left" not in vars(told[0]), "the first round has no rate"
    assert told[-1].message == "sweep.first_ended"
    assert len({int(share * 10) for share in shares}) == len(told) - 1
    caveat = " ".join(one.message for one in snapshot.judgement.caveats)
    assert "first sweep" not in caveat


def test_what_is_left_of_a_sweep_is_told_at_the_rate_so_far() -> None:
    began = datetime(2026, 11, 20, 12, tzinfo=UTC)
    ledger = Ledger(began.timestamp(), began, (Started(high=began),), {}, 1, 1)

    assert ledger.left(0.25, began.timestamp() + 60) == 180
    assert ledger.left(0.001, began.timestamp() + 60) is None
    assert ledger.left(0.25, began.timestamp()) is None, "the first round"
    assert replace(ledger, starts=()).left(1.0, began.timestamp() + 60) is None


async def test_the_first_rounds_are_no_proof_of_health(platform: Database) -> None:
    await platform.execute(SCENARIOS["healthy"].sql.replace("now()", "timestamptz '2026-11-20 12:00+00'"))
    sweeping = Sweeping(platform)

    first = await sweeping.round()
    last = await sweeping.whole()

    assert {f.limit.name: f.text for f in first.judgement.findings if f.outcome == "critical"} == {}
    assert first.judgement.verdict(is_complete=True) == "unknown"
    assert "the first sweep has measured" in " ".join(caveat.message for caveat in first.judgement.caveats)
    assert last.judgement.verdict(is_complete=True) == (await collect(sweeping.plan)).judgement.verdict(
        is_complete=True
    )


async def test_a_rush_of_sessions_is_cut_into_slices(platform: Database) -> None:
    """More sessions started since the last round than one statement can count."""
    life, sweeping = Life(platform, 5), Sweeping(platform)
    await sweeping.whole()
    for _ in range(40):
        await life.start()
    life.now += timedelta(minutes=3)
    await platform.stop_clock(life.now.isoformat())
    assert sweeping.ledger is not None
    sweeping.ledger = replace(sweeping.ledger, is_behind=True)

    first = await sweeping.round()

    assert first.swept is not None
    assert not first.swept.is_whole
    await assert_same(sweeping.plan, await sweeping.whole())


async def test_slices_that_have_become_too_slow_are_cut_again(
    platform: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cold cache or a busy server: the slices of before do not fit into the time of a statement any more."""
    slow = (
        "create or replace function slow(uuid) returns boolean language plpgsql stable as "
        "$$ begin perform pg_sleep({}); return true; end $$"
    )
    await platform.execute(slow.format(0))
    life = Life(platform, 6)
    for _ in range(120):
        await life.act()
    text = TEXT.replace("status = 'completed' and", "public.slow(id) and status = 'completed' and")
    text = text.replace(
        "accepted_values: {fc_kind", "valid: public.slow(session_id)\n        accepted_values: {fc_kind"
    )
    monkeypatch.setattr(sliceable, "FIRST_SESSIONS", 1000)
    monkeypatch.setattr(sliceable, "FIRST_ROWS", 1000)
    sweeping = Sweeping(platform, text, size=1000)
    before = await sweeping.whole()
    assert sweeping.ledger is not None
    few = len(sweeping.ledger.slices), len(sweeping.ledger.rows)
    monkeypatch.setattr(tiers, "SLICE_TIMEOUT", timedelta(milliseconds=500))
    monkeypatch.setattr(tiers, "_LEAST", 2)
    await platform.execute(slow.format(0.02))
    sweeping.size = None

    after = await sweeping.whole()

    assert len(sweeping.ledger.slices) > few[0]
    assert dict(after.readings.numbers) == dict(before.readings.numbers)


async def test_a_slice_that_a_busy_server_cancels_loses_no_other_slice(
    platform: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    life, sweeping = Life(platform, 9), Sweeping(platform)
    for _ in range(60):
        await life.act()
    await sweeping.whole()
    slices = tiers._slices
    ends = [0.0]

    async def cancelled(*given: Any) -> Any:
        """Only the first transaction of a round succeeds; each round has an end of its own."""
        ends.append(given[3])
        if ends[-1] == ends[-2]:
            raise CollectionError(Fault("recovery_conflict", "cancelled"))
        return await slices(*given)

    monkeypatch.setattr(tiers, "_slices", cancelled)
    sweeping.seconds = 1.0
    await assert_same(sweeping.plan, await sweeping.whole())
    assert len(ends) > len(set(ends))

    async def never(*_given: Any) -> Any:
        raise CollectionError(Fault("recovery_conflict", "cancelled"))

    monkeypatch.setattr(tiers, "_slices", never)
    with pytest.raises(CollectionError):
        await sweeping.round()


async def test_a_cohort_that_is_too_large_is_absent_and_all_else_is_counted(platform: Database) -> None:
    await platform.execute(
        "create function slow(uuid) returns boolean language plpgsql stable as "
        "$$ begin perform pg_sleep(0.01); return true; end $$"
    )
    await platform.execute(
        "insert into assessment_sessions (id, status, created_at, completed_at, finalized_at, completed_questions) "
        "select gen_random_uuid(), 'completed', at, at, at, 240 "
        "from (select timestamptz '2026-11-20 10:00+00' - i * interval '1 minute' from generate_series(1, 80) i) s(at)"
    )
    slow = TEXT.replace("status = 'completed' and", "public.slow(id) and status = 'completed' and")
    sweeping = Sweeping(platform, slow.replace("statement_timeout: 20s", "statement_timeout: 500ms"))

    swept = await sweeping.whole()

    whole = await collect(platform.plan(TEXT))
    of_cohort = {key for key in whole.readings.numbers if "cohort" in str(key) or "delay" in str(key)}
    assert len(of_cohort) > 1
    assert dict(swept.readings.numbers) == {k: v for k, v in whole.readings.numbers.items() if k not in of_cohort}
    [(path, fault)] = swept.part_faults.items()
    assert path == "cohort"
    assert fault.reason == "statement_timeout"
    assert "pipelines.assessments.cohort: too many sessions" in fault.message
    assert "shorten cohort.window" in fault.message


@pytest.mark.parametrize("size", [1, 50])
async def test_a_range_that_is_left_to_cut_again_is_counted_once(platform: Database, size: int) -> None:
    life, sweeping = Life(platform, 7), Sweeping(platform, size=4)
    for _ in range(80):
        await life.act()
    for _ in range(60):
        await life.derive()
    await sweeping.whole()
    ledger = sweeping.ledger
    assert ledger is not None
    assert len(ledger.rows) > 2 * len(ledger.keys), "no record has several slices"
    for one in ledger.slices[:3]:
        ledger = ledger.without_slice(one.part, size)
    for taken in ledger.rows:
        ledger = ledger.without_rows(taken.record, taken.part, size)
    sweeping.ledger, sweeping.size = ledger, size
    assert not ledger.is_whole

    await assert_same(sweeping.plan, await sweeping.whole())


async def test_a_view_is_not_measured_in_slices(platform: Database) -> None:
    await platform.execute("create view every_session as select * from assessment_sessions")

    with pytest.raises(CollectionError) as refused:
        await Sweeping(platform, TEXT.replace("public.assessment_sessions", "public.every_session")).round()

    assert "name the tables behind the view" in refused.value.fault.message


# --- Modes


def rounds(database: Database, text: str) -> Rounds:
    return Rounds(database.config(text).collection)


async def slow_platform(platform: Database, longest: str, max_age: str = "5m", interval: str = "1s") -> str:
    """The config of a platform whose full pass takes 1.5 s."""
    await platform.execute(
        "create function slow(timestamptz) returns boolean language plpgsql stable as "
        "$$ begin perform pg_sleep(0.01); return true; end $$"
    )
    await platform.execute(SCENARIOS["healthy"].sql.replace("now()", "timestamptz '2026-11-20 12:00+00'"))
    text = TEXT.replace("status = 'completed' and", "public.slow(created_at) and status = 'completed' and")
    text = text.replace("statement_timeout: 20s", f"statement_timeout: {longest}").replace(
        "# allow_superuser: false", "allow_superuser: true"
    )
    return text.replace("max_age: 5m", f"max_age: {max_age}").replace("interval: 30s", f"interval: {interval}")


async def test_a_full_pass_that_takes_too_long_is_followed_by_slices(platform: Database) -> None:
    text = await slow_platform(platform, "1s")

    snapshot = await rounds(platform, text)(platform.plan(text))

    assert snapshot.swept is not None
    assert snapshot.swept.share < 1


async def test_a_full_pass_that_duty_forbids_is_cancelled_for_slices(
    platform: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("exporter.measure.rounds.FULL_AT_LEAST", 0.5)
    caplog.set_level(logging.INFO)
    text = await slow_platform(platform, "20s", max_age="2s")

    snapshot = await rounds(platform, text)(platform.plan(text))

    assert snapshot.swept is not None
    messages = [record.message for record in caplog.records]
    assert messages.count("collection.tiered") == 1
    assert messages.count("sweep.progress") == 1
    running = "select count(*) from pg_stat_activity where application_name = 'session-health-exporter'"
    assert await platform.connection.fetchval(running) == 0


async def test_after_a_moment_of_slowness_a_small_table_is_measured_in_full_again(
    platform: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: a full pass that is too slow again stays with slices."""
    monkeypatch.setattr("exporter.measure.rounds.FULL_AT_LEAST", 0.5)
    caplog.set_level(logging.INFO)
    text = await slow_platform(platform, "20s", interval="10s")
    measuring, plan = rounds(platform, text), platform.plan(text)
    measuring._longest = 0.1
    assert (await measuring(plan)).swept is not None
    measuring._longest = 60.0  # as of a max_age of 22 minutes

    snapshots = [await measuring(plan)]
    while len(snapshots) < 30 and snapshots[-1].swept is not None:
        snapshots.append(await measuring(plan))
    snapshots.append(await measuring(plan))

    whole = [one.swept is None for one in snapshots]
    assert any(whole)
    assert whole == sorted(whole)
    assert [record.message for record in caplog.records].count("collection.full") == 1

    measuring._longest = 0.1
    swept = [(await measuring(plan)).swept]
    measuring._longest = 60.0
    while len(swept) < 30 and swept[-1] is not None and not swept[-1].is_whole:
        swept.append((await measuring(plan)).swept)
    swept.append((await measuring(plan)).swept)
    assert all(one is not None and one.is_whole for one in swept[-2:])


async def test_without_indexes_a_slow_full_pass_still_gives_numbers_until_there_are_indexes(platform: Database) -> None:
    text = await slow_platform(platform, "20s", max_age="2s")
    await platform.execute("drop index profiles_session_id_idx")
    measuring, plan = rounds(platform, text), platform.plan(text)

    passes = [await measuring(plan) for _ in range(3)]
    assert [one.swept for one in passes] == [None, None, None]
    assert all(one.readings.numbers for one in passes)

    await platform.execute("create index on profiles (session_id)")
    assert (await measuring(plan)).swept is not None


async def test_without_indexes_the_fault_of_a_full_pass_names_the_indexes(platform: Database) -> None:
    text = await slow_platform(platform, "1s")
    await platform.execute("drop index profiles_session_id_idx")

    with pytest.raises(CollectionError) as refused:
        await rounds(platform, text)(platform.plan(text))

    assert "create index concurrently on public.profiles" in refused.value.fault.message


async def test_slices_need_indexes_and_say_which(platform: Database) -> None:
    await platform.execute("drop index profiles_session_id_idx; drop index assessment_sessions_created_at_idx")

    with pytest.raises(CollectionError) as refused:
        await Sweeping(platform).round()

    message = refused.value.fault.message
    assert refused.value.fault.reason == "statement_timeout"
    for remedy in (
        'create index concurrently on public.assessment_sessions ("created_at")',
        'create index concurrently on public.profiles ("session_id")',
    ):
        assert remedy in message
        await platform.execute(remedy.replace("concurrently ", ""))
    assert (await Sweeping(platform).round()).swept is not None


async def test_an_index_that_is_dropped_later_is_named_and_a_full_pass_goes_on(platform: Database) -> None:
    text = await slow_platform(platform, "1s")
    measuring, plan = rounds(platform, text), platform.plan(text)
    assert (await measuring(plan)).swept is not None
    await platform.execute("drop index profiles_session_id_idx")

    with pytest.raises(CollectionError) as refused:
        await measuring(plan)

    assert "create index concurrently on public.profiles" in refused.value.fault.message
    assert "statement_timeout (1 s)" in refused.value.fault.message
    await platform.execute(
        "create or replace function slow(timestamptz) returns boolean language plpgsql stable as "
        "$$ begin return true; end $$"
    )
    assert (await measuring(plan)).swept is None


async def test_slices_of_a_table_that_was_replaced_are_forgotten(
    platform: Database, caplog: pytest.LogCaptureFixture
) -> None:
    life, sweeping = Life(platform, 10), Sweeping(platform)
    for _ in range(60):
        await life.act()
    await sweeping.whole()
    await platform.execute(
        "alter table profiles rename to former; create table profiles (like former including all); "
        "insert into profiles select * from former limit 3"
    )

    first = await sweeping.round()

    assert first.swept is not None
    assert not first.swept.is_whole
    assert [record.message for record in caplog.records].count("ledger.rebuilt") == 1
    await assert_same(sweeping.plan, await sweeping.whole())


PARTED = """
alter table fc_scores drop constraint if exists fc_scores_session_id_fkey;
alter table assessment_sessions rename to whole;
create table assessment_sessions (like whole including defaults) partition by range (created_at);
create table others partition of assessment_sessions default;
do $$ begin for i in 0..59 loop
  execute format('create table day_%s partition of assessment_sessions for values from (%L) to (%L)', i,
    timestamptz '2026-11-20 00:00+00' - i * interval '1 day', timestamptz '2026-11-21 00:00+00' - i * interval '1 day');
end loop; end $$;
create index on assessment_sessions (id);
create index on assessment_sessions (created_at);
"""


async def test_a_table_in_partitions_is_measured_in_slices(platform: Database) -> None:
    """No unique index of a partitioned table is possible on the key alone: the slices look for repeated keys."""
    await platform.execute(PARTED)
    life, sweeping = Life(platform, 8), Sweeping(platform)
    for _ in range(100):
        await life.act()
        await life.pass_by(timedelta(hours=3))

    await assert_same(sweeping.plan, await sweeping.whole())

    await platform.execute(
        "insert into assessment_sessions (id, status, created_at) "
        "select id, status, created_at - interval '3 days' from day_0 limit 1"
    )
    with pytest.raises(CollectionError) as refused:
        await sweeping.whole()
    assert refused.value.fault.reason == "duplicate_key"


async def test_sessions_that_are_read_again_ask_only_their_partitions(platform: Database) -> None:
    await platform.execute(PARTED)
    await platform.execute(
        "insert into assessment_sessions (id, status, created_at, completed_at, completed_questions) "
        "select gen_random_uuid(), 'completed', at, at, 240 "
        "from (select timestamptz '2026-11-20 10:00+00' - i * interval '1 minute' from generate_series(1, 50) i) s(at)"
    )
    sweeping = Sweeping(platform, size=None)
    await sweeping.whole()
    assert sweeping.ledger is not None
    slices = [one for one in sweeping.ledger.slices if one.keys]
    assert sum(len(one.keys) for one in slices) == 50
    async with open_snapshot(sweeping.plan) as session:
        keys = [tuple(json.loads(key)) for one in slices for key in one.keys]
        region = session.plan.sessions_with(keys, [one.part for one in slices], [])
        statement = session.plan.sessions_in(region, sweeping.ledger.values)
        explained = replace(statement, sql=f"explain {statement.sql}")
        lines = [row[0] for row in await session.run(explained, "here")]

    days = re.findall(r"day_[0-9]+", " ".join(lines))
    assert set(days) == {"day_0"}


async def test_keys_that_no_index_compares_are_not_measured_in_slices(platform: Database) -> None:
    """Two collations: the keys are compared byte by byte, and an index has the order of its own collation."""
    await platform.execute(
        'alter table profiles alter session_id type text collate "C"; '
        "alter table fc_scores drop constraint if exists fc_scores_session_id_fkey; "
        'alter table fc_scores alter session_id type text collate "C"; '
        'alter table assessment_sessions alter id type text collate pg_catalog."POSIX"'
    )

    with pytest.raises(CollectionError) as refused:
        await Sweeping(platform).round()

    assert "compare keys of one type" in refused.value.fault.message


# --- State


def kept(database: Database, directory: Path) -> tuple[Rounds, Plan]:
    text = TEXT.replace("mode: auto", f"mode: tiered\n  state_dir: {directory}").replace(
        "# allow_superuser: false", "allow_superuser: true"
    )
    # A round takes a share of the interval.
    text = text.replace("interval: 30s", "interval: 4s")
    return rounds(database, text), database.plan(text)


async def test_a_restart_goes_on_where_the_last_process_ended(platform: Database, tmp_path: Path) -> None:
    life = Life(platform, 3)
    for _ in range(40):
        await life.act()
    before, plan = kept(platform, tmp_path)
    while not (first := await before(plan)).swept or not first.swept.is_whole:
        pass

    after, plan = kept(platform, tmp_path)
    again = await after(plan)

    assert again.swept is not None
    assert again.swept.is_whole
    await assert_same(plan, again)
    [file] = [*tmp_path.iterdir()]  # noqa: ASYNC240 - a test
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["a byte", "the end", "another config", "another format"])
async def test_a_ledger_that_is_damaged_or_foreign_is_made_anew(
    platform: Database, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(platform, 4)
    for _ in range(40):
        await life.act()
    before, plan = kept(platform, tmp_path)
    for _ in range(3):
        await before(plan)
    [file] = [*tmp_path.iterdir()]  # noqa: ASYNC240 - a test
    head, _, body = file.read_text().partition("\n")
    told = json.loads(head)
    match damage:
        case "a byte":
            body = body.replace("1", "2", 1)
        case "the end":
            body = body[: len(body) // 2]
        case "another config":
            told["bound"]["config"] = "0"
        case _:
            told["format"] = 0
    file.write_text(json.dumps(told) + "\n" + body)

    after, plan = kept(platform, tmp_path)
    snapshots = [await after(plan) for _ in range(2)]

    assert all(snapshot.swept is not None for snapshot in snapshots)
    assert [record.message for record in caplog.records].count("ledger.rebuilt") == 1
