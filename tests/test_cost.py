"""Costs that no machine changes: statements, cells, copies of an expression, and plans of the server."""

import re

import pytest
from conftest import Database, of_orders, plan_of

from exporter.measure.guard import open_snapshot

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
