"""The harm to the database is bounded: connections, time, and what an operator or the database itself forbids."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from conftest import Beginning, Database, another_clock, care
from waiting import at_most, eventually

from exporter.measure.collect import collect
from exporter.measure.pause import unless_paused
from exporter.measure.query_faults import Circumstances, query_fault
from exporter.measure.supervise import collect_once, initial_status, measure, report_changes, supervise
from exporter.measure.turns import Turn, Turns
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import CollectionSettings
from exporter.plan.plan import Plan
from exporter.state.board import Latest
from exporter.state.snapshot import Snapshot

BEGINNING = Beginning(
    """
    create table visits (id int primary key, status text, started_at timestamptz, completed_at timestamptz,
      done boolean);
    create table scores (id int, visit_id int);
    insert into visits select n, 'x', '2025-01-01', '2025-01-02', true from generate_series(1, 3) n;
    insert into scores select n, n from generate_series(1, 3) n;
    """
)
OURS = "select count(*) from pg_stat_activity where application_name = 'session-health-exporter'"


async def ours(database: Database) -> int:
    return int(await database.connection.fetchval(OURS))


async def test_a_database_has_at_most_its_connections(visits: Database) -> None:
    plan = visits.plan(care(database="max_connections: 2", scores="valid: pg_sleep(0.05) is not null"))
    plans = [plan.about(plan.pipeline.model_copy(update={"name": f"care{n}"})) for n in range(8)]
    most = 0

    async def look() -> None:
        nonlocal most
        while True:
            most = max(most, await ours(visits))
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look())
    statuses = await collect_once(plans)
    looking.cancel()

    assert most == 2
    assert [status.last.fault for status in statuses if status.last] == [None] * 8


async def is_full(turn: Turn) -> bool:
    """Whether a further collection waits."""

    async def take() -> None:
        async with turn:
            pass

    further = asyncio.create_task(take())
    for _ in range(10):
        await asyncio.sleep(0)
    is_waiting = not further.done()
    further.cancel()
    await asyncio.gather(further, return_exceptions=True)
    return is_waiting


def of_databases(plan: Plan, database: str, *others: str, most: int = 1) -> Plan:
    """A plan of this database, with records in the others."""
    section = plan.database.model_copy(update={"max_connections": most})
    pipeline = plan.pipeline.model_copy(update={"database": database})
    return replace(plan, pipeline=pipeline, database=section, others=dict.fromkeys(others, section))


async def test_two_databases_do_not_wait_for_each_other(visits: Database) -> None:
    turns, plan = Turns(), visits.plan(care(scores=""))
    one, other = turns.of(of_databases(plan, "one")), turns.of(of_databases(plan, "other"))

    async with asyncio.timeout(at_most(1)), one, other:
        assert await is_full(one)


async def test_a_changed_number_of_connections_counts(visits: Database) -> None:
    turns, plan = Turns(), visits.plan(care(scores=""))

    async with turns.of(of_databases(plan, "main")):
        more = turns.of(of_databases(plan, "main", most=2))
        async with more, more:
            assert await is_full(more)


async def test_collections_that_need_the_same_databases_in_another_order_do_not_wait_for_ever(visits: Database) -> None:
    turns, plan = Turns(), visits.plan(care(scores=""))
    there, back = turns.of(of_databases(plan, "one", "other")), turns.of(of_databases(plan, "other", "one"))

    async def take(turn: Turn) -> None:
        for _ in range(20):
            async with turn:
                await asyncio.sleep(0)

    async with asyncio.timeout(at_most(1)):
        await asyncio.gather(take(there), take(back))
    # A collection that was cancelled while it waited for the second database holds nothing.
    async with turns.of(of_databases(plan, "other")):
        assert await is_full(there)
    assert not await is_full(there)


async def test_a_collection_with_all_its_attempts_has_one_deadline(visits: Database) -> None:
    plan = visits.plan(care(scores="valid: pg_sleep(0.3) is not null"))

    collection = await measure(plan, collect, longest=0.5)

    assert collection.fault is not None
    assert collection.fault.reason == "collection_timeout"
    assert "longer than max_age" in collection.fault.message
    assert await eventually_none(visits)


async def eventually_none(database: Database) -> bool:
    """Whether no connection of the exporter is left soon."""
    async with asyncio.timeout(at_most(2)):
        while await ours(database):  # noqa: ASYNC110 - the server tells no event
            await asyncio.sleep(0.01)
    return True


@asynccontextmanager
async def supervised(plan: Plan, pause_file: Path) -> AsyncIterator[Latest]:
    """A supervisor with a pause switch."""
    plan = plan.about(plan.pipeline.model_copy(update={"interval": plan.database.lock_timeout / 5}))
    latest = Latest([initial_status(plan, 300.0)], time.time())
    settings = CollectionSettings(pause_file=str(pause_file), duty=1.0)
    task = asyncio.create_task(supervise(plan, latest, settings, asyncio.Semaphore(1), unattended))
    yield latest
    task.cancel()
    await asyncio.wait([task])


async def unattended(plan: Plan) -> Snapshot:
    return await collect(plan, unattended=True)


async def test_an_operator_pauses_the_exporter_and_ends_the_pause(visits: Database, tmp_path: Path) -> None:
    plan = visits.plan(care(database="allow_superuser: true", scores=""))
    file = tmp_path / "pause"
    file.touch()
    async with supervised(plan, file) as latest:
        assert await eventually(lambda: latest.board.statuses["care"].errors["paused"] >= 3)
        status = latest.board.statuses["care"]
        assert status.snapshot is None
        assert status.last is not None
        assert status.last.fault is not None
        assert status.last.fault.message.endswith("exists: remove the file to measure again")
        assert str(tmp_path) not in status.last.fault.message
        assert await ours(visits) == 0

        file.unlink()
        assert await eventually(lambda: latest.board.statuses["care"].results["success"])


async def test_the_pause_ends_a_statement_that_runs(visits: Database, tmp_path: Path) -> None:
    plan = visits.plan(care(database="allow_superuser: true", scores="valid: pg_sleep(20) is not null"))
    file = tmp_path / "pause"
    async with supervised(plan, file) as latest:
        async with asyncio.timeout(at_most(10)):
            while not await ours(visits):  # noqa: ASYNC110 - the server tells no event
                await asyncio.sleep(0.02)
        file.touch()

        assert await eventually_none(visits)
        assert await eventually(lambda: latest.board.statuses["care"].errors["paused"])


async def test_a_collection_that_fails_in_the_pause_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, unhandled: list[object]
) -> None:
    """The collection ends with an error while the exporter looks for the file, and while it is cancelled."""
    ends = asyncio.Event()

    async def fails() -> None:
        try:
            await ends.wait()
        finally:
            raise OSError("the connection is lost")

    async def found(_file: str) -> Fault | None:
        answers.append(1)
        if len(answers) == 2:
            ends.set()
            await asyncio.sleep(0)
        return Fault("paused", "the file exists") if len(answers) > 1 else None

    monkeypatch.setattr("exporter.measure.pause._pause", found)
    monkeypatch.setattr("exporter.measure.pause.LOOKS_EVERY", 0.01)
    answers: list[int] = []

    with pytest.raises(CollectionError, match="the file exists"):
        await unless_paused(fails, "a file")

    gc.collect()
    await asyncio.sleep(0)
    assert unhandled == []


async def test_a_switch_that_cannot_be_seen_is_a_pause(visits: Database, tmp_path: Path) -> None:
    collection = await measure(visits.plan(care(scores="")), collect, pause_file=str(tmp_path / ("x" * 300)))

    assert collection.fault is not None
    assert collection.fault.reason == "paused"
    assert collection.fault.message == (
        "collection.pause_file cannot be looked up (File name too long): correct the path"
    )


@pytest.mark.parametrize(("sql", "is_busy"), [("true", True), ("1 > 2", False), ("null", False)])
async def test_a_busy_database_is_left_alone(visits: Database, sql: str, is_busy: bool) -> None:
    plan = visits.plan(care(database=f'allow_superuser: true, busy_when: "{sql}"', scores=""))

    if is_busy:
        with pytest.raises(CollectionError, match=r"databases\.main\.busy_when is true") as refused:
            await collect(plan, unattended=True)
        assert refused.value.fault.reason == "busy"
    else:
        await collect(plan, unattended=True)
    # The commands of an operator measure all the same.
    await collect(plan)


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("nonsense", "missing_object"),
        ("true) or (true", "invalid_sql"),
        ("1", "type"),
        ("pg_sleep(9) is null", "statement_timeout"),
        ("(select count(*) from secrets) > 0", "missing_object"),
    ],
)
async def test_a_guard_that_cannot_be_read_is_a_fault_with_its_place(visits: Database, sql: str, reason: str) -> None:
    plan = visits.plan(care(database=f'allow_superuser: true, statement_timeout: 300ms, busy_when: "{sql}"', scores=""))

    with pytest.raises(CollectionError, match=r"databases\.main\.busy_when") as refused:
        await collect(plan, unattended=True)

    assert refused.value.fault.reason == reason


async def test_the_age_of_the_numbers_counts_from_the_start_of_the_collection(visits: Database) -> None:
    plan = visits.plan(care(scores="valid: pg_sleep(0.1) is not null"))

    collection = await measure(plan, collect)
    status = initial_status(plan, max_age=1.0).after(collection, now=100.0)

    assert collection.age > 0.2
    assert status.is_withdrawn(101.0)
    assert not status.is_withdrawn(100.0)


async def test_the_lag_of_a_replica_is_part_of_the_age(visits: Database) -> None:
    whole = await collect(visits.plan(care(scores="")))

    async def of_a_replica(_plan: Plan) -> Snapshot:
        return replace(whole, replica_lag=40.0)

    collection = await measure(visits.plan(care(scores="")), of_a_replica)

    assert 40 <= collection.age < 50


async def test_clocks_that_differ_are_measured_and_logged_once(
    visits: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    plan = visits.plan(care(scores=""))
    assert abs((await collect(plan)).clock_offset) < at_most(1)

    await visits.execute(another_clock("select pg_catalog.real_clock_timestamp() + interval '1 hour'"))

    first = initial_status(plan, max_age=60.0)
    second = first.after(await measure(plan, collect), now=1.0)
    third = second.after(await measure(plan, collect), now=1.0)
    report_changes(first, second)
    report_changes(second, third)
    assert third.snapshot is not None
    assert abs(third.snapshot.clock_offset - 3600) < at_most(1)
    [told] = [record for record in caplog.records if record.msg == "clock.differs"]
    assert 3590 < vars(told)["seconds"] < 3610


def test_a_time_out_of_the_role_is_told_as_one_of_the_role() -> None:
    fault = query_fault(asyncpg.QueryCanceledError(), "begin", None, Circumstances(statement_timeout=30))

    assert fault.reason == "statement_timeout"
    assert "ALTER ROLE <role> SET statement_timeout = '30s'" in fault.message
