"""Costs that no machine changes: statements, cells, copies of an expression, and plans of the server."""

import json
import re
from collections.abc import Awaitable, Callable

import pytest
from conftest import Database, of_orders, plan_of
from sweeping import nothing
from test_collect import OURS, until

from exporter.demo.scenarios import SCHEMA
from exporter.measure.collect import collect
from exporter.measure.elsewhere import open_snapshot
from exporter.measure.records import RowCount, count_rows
from exporter.measure.tiers import sweep
from exporter.model.ranges import Keyed

SHOP = """
create table orders (id int primary key, status text, at timestamptz default '2025-05-01', {columns});
create table scores (order_id int, version text);
create table answers (order_id int, text text);
create index on answers (order_id);
"""
RECORDS = 12


def of_records(*lines: str) -> str:
    text = of_orders(**{f"r{n}": f"required_when: c{n}" for n in range(RECORDS)})
    return text if not lines else text + "\n".join(lines)


async def test_independent_records_do_not_multiply_the_cells(empty: Database) -> None:
    """With 12 records 4,096 combinations occur; what the database sends grows with the records alone."""
    columns = ", ".join(f"c{n} boolean" for n in range(RECORDS))
    await empty.execute(SHOP.format(columns=columns))
    bits = ", ".join(f"(n >> {n}) & 1 = 1" for n in range(RECORDS))
    await empty.execute(f"insert into orders select n, 'paid', '2025-05-01', {bits} from generate_series(1, 4095) n")
    for n in range(RECORDS):
        await empty.execute(f"create table r{n} (order_id int)")
    plan = empty.plan(of_records())

    async with open_snapshot(plan) as session:
        statement = session.plan.sessions(tuple(plan.pipeline.records), plan.parts)
        rows = await session.run(statement, "it")

    assert len(rows) < 10 * RECORDS
    assert sum(row[statement.columns.index("sessions")] for row in rows if row[0] is None) == 4095


def test_every_expression_stands_once_in_a_statement() -> None:
    """However many records and checks there are."""
    checks = ", ".join(f"c{n}: amount > {n}" for n in range(20))
    text = of_orders(
        eligible=f'"exists (select 1 from answers a where a.order_id = session.id)", checks: {{{checks}}}',
        **{f"r{n}": "valid: amount > 5" for n in range(10)},
    )
    plan = plan_of(text, "postgresql://nowhere")

    statement = plan.sessions(tuple(plan.pipeline.records), plan.parts)

    assert statement.sql.count("from answers a") == 1
    assert all(len(re.findall(rf"amount > {n}\b", statement.sql)) == 1 for n in range(20) if n != 5)


@pytest.mark.parametrize(
    "eligible",
    [
        "id in (select order_id from answers)",
        "exists (select 1 from answers a where a.order_id = session.id)",
    ],
)
async def test_a_sub_query_of_the_config_is_planned_as_it_would_be_by_itself(empty: Database, eligible: str) -> None:
    """A list of 300,000 numbers is larger than work_mem; a search of the list per session would take minutes."""
    await empty.execute(SHOP.format(columns="amount int"))
    await empty.execute(
        "insert into orders select n from generate_series(1, 20000) n; "
        "insert into answers select n % 20000 from generate_series(1, 300000) n; analyze"
    )
    await empty.set("work_mem", "'4MB'")
    plan = empty.plan(of_orders(eligible=f'"{eligible}"', scores="where: version is not null"))

    async with open_snapshot(plan) as session:
        statement = session.plan.sessions(("scores",), plan.parts)
        lines = await session.connection.fetch(
            f"explain (costs off) {statement.sql}", *statement.arguments(session.clock)
        )

    text = "\n".join(line[0] for line in lines)
    assert "hashed SubPlan" in text or "using answers_order_id_idx" in text


async def test_the_end_of_a_slice_writes_one_key_as_text(empty: Database) -> None:
    """A slice has up to 100,000 rows: as text, their keys would cost more than the count of the rows."""
    await empty.execute(SHOP.format(columns="amount int") + "create index on scores (order_id)")

    async with open_snapshot(empty.plan(of_orders(scores=""))) as session:
        statement = session.plan.later_key("scores", Keyed(), 5)
        [[found]] = await session.connection.fetch(
            f"explain (verbose, costs off, format json) {statement.sql}", *statement.arguments(session.clock)
        )

    [top] = [one["Plan"] for one in json.loads(found)]
    [limit] = top["Plans"]
    assert (top["Output"], limit["Node Type"]) == (["(later.key)::text"], "Limit")
    assert limit["Output"] == ["scores.order_id"]


async def plan_of_sessions(database: Database) -> str:
    """The server's plan of the statement about sessions, with the settings of a collection."""
    plan = database.plan()
    async with open_snapshot(plan) as session:
        counted = {name: await count_rows(session, session.plan, name) for name in plan.pipeline.records}
        values = {name: one.values for name, one in counted.items() if isinstance(one, RowCount)}
        statement = session.plan.sessions(tuple(plan.pipeline.records), plan.parts, values)
        lines = await session.connection.fetch(
            f"explain (costs off) {statement.sql}", *statement.arguments(session.clock)
        )
    return "\n".join(line[0] for line in lines)


MANY = """
insert into assessment_sessions
select gen_random_uuid(), case when n % 4 > 0 then 'completed' else 'in_progress' end, started,
  case when n % 4 > 0 then started + interval '20 minutes' end,
  case when n % 4 > 0 then started + interval '21 minutes' end, 240
from (
  select n, timestamptz '2025-08-01' + n * interval '3 minutes' as started from generate_series(1, 200000) n
) s;
insert into profiles select id, 'v1.2.1', completed_at from assessment_sessions where completed_at is not null;
insert into fc_scores
select id, version, 'functions', 30, completed_at
from assessment_sessions cross join (values ('v1.1'), ('v1.2')) v(version)
where completed_at is not null;
"""
KEYS = "select sum(pg_relation_size(indexrelid))::bigint from pg_index where indisprimary and indrelid >= 16384"
USED = "select blks_hit + blks_read as pages, temp_bytes from pg_stat_database where datname = current_database()"


async def used(database: Database, work: Callable[[], Awaitable[object]]) -> tuple[int, int]:
    """Pages and bytes of temporary files that some work uses, on connections of its own."""
    # The server reports what a connection used a second later: the work before this work is not to be counted.
    await database.execute("select pg_stat_force_next_flush()")
    [before] = await database.connection.fetch(USED)
    await work()
    await until(database, f"count(*) = 0 {OURS}")
    [after] = await database.connection.fetch(USED)
    return after["pages"] - before["pages"], after["temp_bytes"] - before["temp_bytes"]


async def test_a_measurement_reads_a_few_times_the_tables_and_writes_about_as_much_as_the_keys(empty: Database) -> None:
    """200,000 sessions: more than work_mem holds."""
    await empty.execute(SCHEMA + MANY)
    for table in ("assessment_sessions", "profiles", "fc_scores"):
        await empty.execute(f"alter table {table} set (autovacuum_enabled = false)")
    await empty.execute("vacuum analyze")
    await empty.set("work_mem", "'4MB'")
    plan, keys = empty.plan(), await empty.connection.fetchval(KEYS)
    tables = await empty.connection.fetchval(
        "select sum(relpages)::bigint from pg_class where relname in ('assessment_sessions', 'profiles', 'fc_scores')"
    )

    async def sweep_all() -> None:
        ledger = None
        while ledger is None or not ledger.is_whole:
            ledger = (await sweep(plan, ledger, 0.5, nothing)).ledger

    pages, temporary = await used(empty, lambda: collect(plan))
    # Seen: 2.8 times the pages, and 0.8 (PostgreSQL 15) to 1.0 times (18) the keys.
    assert pages <= 4 * tables
    assert temporary <= 1.5 * keys
    pages, temporary = await used(empty, sweep_all)
    # Seen: 24 pages for a session, and 0.13 times the keys.
    assert pages <= 40 * 200_000
    assert temporary <= 0.5 * keys


COVERING = """
create index of_profiles on profiles (session_id) include (results_version, created_at);
create index of_scores on fc_scores (session_id) include (version, fc_kind, created_at);
vacuum analyze;
"""


async def test_covering_indexes_spare_the_hashing_of_the_records(empty: Database) -> None:
    await empty.execute(SCHEMA + MANY)
    await empty.execute("analyze")
    await empty.set("work_mem", "'4MB'")
    before, hashing = await collect(empty.plan()), await plan_of_sessions(empty)

    for statement in COVERING.split(";")[:-1]:
        await empty.execute(statement)
    after, merging = await collect(empty.plan()), await plan_of_sessions(empty)

    assert "Merge" not in hashing
    assert "Merge Full Join" in merging
    assert "Index Only Scan using of_profiles" in merging
    assert "Index Only Scan using of_scores" in merging
    assert after.readings.numbers == before.readings.numbers
