"""Locks: a migration is never ended because we measure, whatever the order in which it takes its locks.

https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-DEADLOCKS
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest
from conftest import Database, of_orders
from waiting import at_most

from exporter.model.fault import CollectionError

TABLES = """
create table orders (id int primary key, status text, at timestamptz default '2025-05-01');
create table scores (order_id int); create table notes (order_id int);
insert into orders values (1, 'paid'), (2, 'paid');
insert into scores values (1), (2); insert into notes values (1), (2);
"""
CONFIG = of_orders(database="lock_timeout: WAIT", scores="", notes="")


def config(wait: str = "1s") -> str:
    return CONFIG.replace("WAIT", wait)


@pytest.fixture
async def shop(empty: Database) -> Database:
    await empty.execute(TABLES)
    return empty


@asynccontextmanager
async def other(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def until_waiting(connection: asyncpg.Connection, table: str, *, ours: bool) -> None:
    """Wait until somebody waits for a lock of a table: we, or whoever else; fails after 10 s."""
    waits = (
        "select exists (select 1 from pg_locks l join pg_stat_activity a using (pid) where not l.granted "
        f"and l.relation = '{table}'::regclass and (a.application_name = 'session-health-exporter') = {ours})"
    )
    async with asyncio.timeout(at_most(10)):
        while not await connection.fetchval(waits):  # noqa: ASYNC110 - a database has no events
            await asyncio.sleep(0.01)


async def test_while_we_hold_a_lock_nobody_who_needs_it_waits_for_the_deadlock_detector(shop: Database) -> None:
    """A migration that has our second table and wants our first, whose detector would look at once."""
    async with other(shop) as watch, other(shop) as migration:
        await migration.execute("set deadlock_timeout = '400ms'; begin; lock table notes in access exclusive mode")
        task = asyncio.create_task(shop.measure(config("30s")))
        await until_waiting(watch, "notes", ours=True)

        await migration.execute("lock table orders in access exclusive mode; commit")
        numbers = await task

    assert numbers.snapshot.record_faults == {}
    assert numbers.positive("eligible_sessions") == {("complete",): 2}


async def test_a_view_is_not_held_while_a_table_beneath_it_is_waited_for(shop: Database) -> None:
    await shop.execute("create view seen as select o.* from orders o join scores s on s.order_id = o.id")
    async with other(shop) as watch, other(shop) as migration:
        await migration.execute("set deadlock_timeout = '400ms'; begin; lock table scores in access exclusive mode")
        task = asyncio.create_task(shop.measure(config("30s").replace("public.orders", "public.seen")))
        await until_waiting(watch, "scores", ours=True)

        await migration.execute("lock table seen in access exclusive mode; commit")
        with suppress(CollectionError):
            await task

    assert (await shop.measure(config())).positive("eligible_sessions") == {("complete",): 2}


async def test_migrations_that_lock_children_first_all_end_well(shop: Database) -> None:
    died, rounds = 0, 0
    stop = asyncio.Event()

    async def migrate(table: str) -> None:
        nonlocal died
        async with other(shop) as connection:
            while not stop.is_set():
                try:
                    async with connection.transaction():
                        for name in (table, "orders"):
                            await connection.execute(f"lock table {name} in access exclusive mode")
                            await asyncio.sleep(0.005)
                except asyncpg.DeadlockDetectedError:
                    died += 1
                await asyncio.sleep(0.01)

    # Only one kind at a time, for two that lock in another order end each other.
    for table in ("notes", "scores"):
        stop.clear()
        task = asyncio.create_task(migrate(table))
        for _ in range(15):
            # Where a table is locked when its turn comes the round may fail, and must do no harm.
            with suppress(CollectionError):
                await shop.measure(config())
                rounds += 1
        stop.set()
        await task

    assert died == 0
    assert rounds > 0


async def test_a_table_that_is_locked_is_waited_for_with_nothing_in_our_hands(shop: Database) -> None:
    async with other(shop) as watch, other(shop) as migration:
        await migration.execute("begin; lock table notes in access exclusive mode")
        task = asyncio.create_task(shop.measure(config("30s")))
        await until_waiting(watch, "notes", ours=True)
        async with asyncio.timeout(at_most(10)):
            # Held for a moment in the first try, and let go for good in the second.
            while await watch.fetchval(f"select {HELD}"):  # noqa: ASYNC110 - a database has no events
                await asyncio.sleep(0.01)
        await until_waiting(watch, "notes", ours=True)
        await migration.execute("commit")
        numbers = await task

    assert numbers.snapshot.record_faults == {}


HELD = (
    "exists (select 1 from pg_locks l join pg_stat_activity a using (pid) where l.granted and l.locktype = 'relation' "
    "and l.relation = 'orders'::regclass and a.application_name = 'session-health-exporter')"
)


async def test_a_record_that_stays_locked_is_lost_alone(shop: Database) -> None:
    async with other(shop) as migration:
        await migration.execute("begin; lock table notes in access exclusive mode")
        numbers = await shop.measure(config("300ms"))

    [(record, fault)] = numbers.snapshot.record_faults.items()
    assert (record, fault.reason) == ("notes", "lock_timeout")
    assert numbers.positive("record_sessions") == {("scores", "current"): 2}


async def test_many_locked_records_are_waited_for_little_longer_than_one(shop: Database) -> None:
    names = [f"more_{number}" for number in range(6)]
    text = config("2s") + "".join(f"      {name}: {{table: public.{name}, session_key: order_id}}\n" for name in names)
    async with other(shop) as migration:
        await migration.execute("".join(f"create table {name} (order_id int);" for name in names))
        await migration.execute("begin; lock table " + ", ".join(names) + " in access exclusive mode")
        began = time.monotonic()
        numbers = await shop.measure(text)
        waits = (time.monotonic() - began) / 2

    assert {name: fault.reason for name, fault in numbers.snapshot.record_faults.items()} == dict.fromkeys(
        names, "lock_timeout"
    )
    assert waits < len(names) - 1


async def test_a_deadlock_has_a_reason_of_its_own(shop: Database) -> None:
    await shop.execute(
        "create function stuck(int) returns boolean language plpgsql stable as "
        "$$ begin raise 'x' using errcode = 'deadlock_detected'; end $$"
    )

    with pytest.raises(CollectionError) as error:
        await shop.measure(config().replace('eligible: "true"', "eligible: public.stuck(id)"))

    assert error.value.fault.reason == "deadlock"


PARTED = """
create table parted (order_id int, day int) partition by range (day);
insert into orders select n, 'paid' from generate_series(3, 10) n;
"""


async def test_partitions_are_not_locked_before_they_are_read(shop: Database) -> None:
    await shop.execute(PARTED)
    for day in range(5):
        await shop.execute(f"create table parted_{day} partition of parted for values from ({day}) to ({day + 1})")
    await shop.execute("insert into parted select id, id % 5 from orders")
    text = config().replace("public.notes", "public.parted")
    plan = shop.plan(text)

    numbers = await shop.measure(text)

    assert numbers.positive("record_sessions")["notes", "current"] == 10
    assert all(" only " in lock.sql for lock in (plan.lock_sessions, *plan.lock_records.values()))


async def test_more_locks_than_the_server_can_spare_are_not_taken(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.execute(PARTED)
    for day in range(20):
        await shop.execute(f"create table parted_{day} partition of parted for values from ({day}) to ({day + 1})")
    text = config().replace("public.notes", "public.parted")
    monkeypatch.setattr("exporter.measure.guard.LOCKS_SHARE", 0.003)

    with pytest.raises(CollectionError) as error:
        await shop.measure(text)

    assert error.value.fault.reason == "internal"
    assert "needs about 24 locks" in error.value.fault.message
    assert "raise max_locks_per_transaction" in error.value.fault.message


async def test_a_full_table_of_locks_is_named_with_the_setting(shop: Database) -> None:
    await shop.execute(
        "create function full_of_locks(int) returns boolean language plpgsql stable as $$ begin "
        "raise 'out of shared memory' using errcode = '53200', "
        "hint = 'You might need to increase \"max_locks_per_transaction\".'; end $$"
    )

    with pytest.raises(CollectionError, match="raise max_locks_per_transaction"):
        await shop.measure(config().replace('eligible: "true"', "eligible: public.full_of_locks(id)"))
