"""Records that are due at a time of their own: `due_at`."""

import pytest
from conftest import Database
from test_collect import refused

CONFIG = """
database: {url: "${DATABASE_URL}"}
pipelines:
  orders:
    window: {since: 2025-01-01}
    grace: 1h
    sessions: {table: orders, key: id, started_at: at, completed_at: paid_at, due_at: deliver_by,
      eligible: paid_at is not null,
      checks: {packed: {sql: packed, grace: 0}}}
    records:
      parcels: {table: parcels, session_key: order_id}
      invoices: {table: invoices, session_key: order_id, grace: 0}
    limits: {sessions_with_gap: {critical: 0}}
"""


@pytest.fixture
async def orders(empty: Database) -> Database:
    """Paid a day ago; due in two days, half an hour ago, two hours ago, never, and without a due time."""
    await empty.execute(
        """
        create table orders (
          id int primary key, at timestamptz, paid_at timestamptz, deliver_by timestamptz, packed bool
        );
        create table parcels (order_id int);
        create table invoices (order_id int);
        insert into orders
        select n, now() - interval '1 day', now() - interval '1 day',
          (array[
            now() + interval '2 days', now() - interval '30 minutes', now() - interval '2 hours', 'infinity', null
          ])[n],
          false
        from generate_series(1, 5) n;
        insert into invoices select id from orders;
        """
    )
    return empty


async def test_the_grace_period_counts_from_the_due_time_else_from_completion(orders: Database) -> None:
    found = await orders.measure(CONFIG)

    # 1 and 2 have time left; 3 is late, and so are 4 and 5 by their completion.
    assert found.family("eligible_sessions") == {("complete",): 0, ("pending",): 2, ("gap",): 3}


async def test_without_a_grace_period_a_record_is_due_at_the_due_time(orders: Database) -> None:
    await orders.execute("truncate invoices; insert into parcels select id from orders")

    states = (await orders.measure(CONFIG)).family("record_sessions")

    assert states["invoices", "pending"] == 1
    assert states["invoices", "missing"] == 4


async def test_a_check_is_due_at_the_due_time_too(orders: Database) -> None:
    assert (await orders.measure(CONFIG)).positive("check_sessions") == {
        ("packed", "pending"): 1,
        ("packed", "fail"): 4,
    }


async def test_a_gap_begins_when_the_due_time_has_passed_and_ends_with_the_record(orders: Database) -> None:
    await orders.execute("update orders set deliver_by = now() - interval '59 minutes 59 seconds' where id = 2")
    before = await orders.measure(CONFIG)
    await orders.execute("update orders set deliver_by = now() - interval '60 minutes 1 second' where id = 2")
    after = await orders.measure(CONFIG)
    await orders.execute("insert into parcels values (2)")

    assert (before.family("eligible_sessions")["gap",], after.family("eligible_sessions")["gap",]) == (3, 4)
    assert (await orders.measure(CONFIG)).family("eligible_sessions")["gap",] == 3


async def test_a_column_that_is_not_there_is_named(orders: Database) -> None:
    await orders.execute("alter table orders rename deliver_by to promised")

    fault = await refused(orders, CONFIG)

    assert "deliver_by" in fault.message
