"""A round: all its numbers are of one snapshot and one catalog, and nothing that a policy hides passes for whole."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from asyncpg.prepared_stmt import PreparedStatement
from conftest import Database, Numbers, of_orders
from waiting import at_most

from exporter.measure.collect import collect
from exporter.measure.session import Session
from exporter.mend.gaps import count_gaps
from exporter.model.fault import CollectionError
from exporter.plan.statement import Statement
from exporter.setup.preflight import preflight

CONFIG = of_orders(database="MORE", eligible='"ELIGIBLE"', scores="version: {column: version, current: v2}")
TABLES = """
create table orders (id int primary key, status text, at timestamptz default '2025-05-01');
create table scores (order_id int, version text) partition by list (version);
create table old_scores partition of scores for values in ('v1');
create table new_scores (like scores);
create table heirless (order_id int, version text); create table heir (like heirless);
create function fine(int) returns boolean language sql stable as 'select true';
insert into orders select n, 'paid' from generate_series(1, 10) n;
insert into old_scores select n, 'v1' from generate_series(1, 10) n;
insert into new_scores select n, 'v2' from generate_series(1, 10) n;
insert into heirless select * from old_scores; insert into heir select * from new_scores;
"""


def config(more: str = "", eligible: str = "true", scores: str = "scores") -> str:
    text = CONFIG.replace(", MORE", f", {more}" if more else "").replace("ELIGIBLE", eligible)
    return text.replace("public.scores", f"public.{scores}")


@pytest.fixture
async def shop(empty: Database) -> Database:
    await empty.execute(TABLES)
    return empty


Meanwhile = Callable[[Database, str, str], None]


@pytest.fixture
async def meanwhile(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Meanwhile]:
    """Somebody runs SQL before our statement of a title, once; what waits for us goes on beside."""
    running: list[asyncio.Task[None]] = []

    async def run(dsn: str, sql: str) -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    def before(database: Database, title: str, sql: str) -> None:
        ask: Callable[[Session, Statement], Awaitable[list[Any]]] = Session._ask
        waiting = [sql]

        async def asked(session: Session, statement: Statement) -> list[Any]:
            if statement.title == title and waiting:
                running.append(asyncio.create_task(run(database.dsn, waiting.pop())))
                # DETACH CONCURRENTLY commits its first half, and waits for whoever reads.
                await asyncio.wait(running, timeout=0.5)
            return await ask(session, statement)

        monkeypatch.setattr(Session, "_ask", asked)

    yield before
    await asyncio.gather(*running)


CHANGES = {
    "a partition is attached": ("alter table scores attach partition new_scores for values in ('v2')", "scores"),
    "a partition is detached": ("alter table scores detach partition old_scores concurrently", "scores"),
    "a table inherits": ("alter table heir inherit heirless", "heirless"),
    "a function is replaced": (
        "create or replace function fine(int) returns boolean language sql stable as 'select false'",
        "scores",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("title", ["sessions", "rows of scores", "what was read"])
async def test_a_catalog_that_changes_within_a_round_voids_it(
    shop: Database, meanwhile: Meanwhile, change: str, title: str
) -> None:
    sql, scores = CHANGES[change]
    text = config(eligible="public.fine(id)", scores=scores)
    meanwhile(shop, title, sql)

    with pytest.raises(CollectionError) as error:
        await shop.measure(text)
    after = await shop.measure(text)

    assert error.value.fault.reason in ("catalog_change", "table_rewrite")
    assert "the exporter retries at the next interval" in error.value.fault.message
    assert after.snapshot.record_faults == {}


async def test_a_list_of_gaps_is_void_as_well(shop: Database, meanwhile: Meanwhile) -> None:
    meanwhile(shop, "count of gaps", CHANGES["a function is replaced"][0])

    with pytest.raises(CollectionError, match="a function was replaced"):
        await count_gaps(shop.plan(config(eligible="public.fine(id)")))


@pytest.mark.parametrize(
    "sql",
    [
        "create table other (like scores); create index on orders (status); analyze orders",
        "create function pg_temp.theirs() returns int language sql as 'select 1'",
        "vacuum orders",
    ],
)
async def test_what_changes_nothing_of_ours_disturbs_nobody(shop: Database, meanwhile: Meanwhile, sql: str) -> None:
    for part in sql.split(";"):
        meanwhile(shop, "rows of scores", part)

        assert (await shop.measure(config())).positive("eligible_sessions") == {("gap",): 10}


# --- Rows that a policy hides from whoever reads for us

SWITCHES = {
    "by a setting": "set row_security = on as 'select * from public.source'",
    "by a call": ("as $$ select set_config('row_security', 'on', true); select * from public.source $$"),
}


async def hidden(database: Database, how: str, *, definer: bool = True) -> str:
    """A view over a function that turns policies on again; returns the url of a role that may read the view."""
    name = await database.connection.fetchval("select current_database()")
    app, reader = f"app_{name}", f"reader_{name}"
    await database.execute(
        f"""
        create role {app}; create role {reader} login password 'pw-{name}';
        alter table scores rename to source; alter table source enable row level security;
        create policy own on source to {app}, {reader} using (order_id <= 5);
        grant usage, create on schema public to {app}; grant select on source, orders to {app}, {reader};
        set role {app};
        create function seen() returns setof source language sql
        {"security definer" if definer else ""} {SWITCHES[how]};
        create view scores as select * from public.seen(); grant select on scores to {reader}; reset role
        """
    )
    return database.dsn.replace(database.dsn.partition("//")[2].partition("@")[0], f"{reader}:pw-{name}", 1)


@pytest.mark.parametrize("how", SWITCHES)
@pytest.mark.parametrize("definer", [True, False])
async def test_strict_refuses_what_a_function_hides(shop: Database, how: str, definer: bool) -> None:
    dsn = await hidden(shop, how, definer=definer)
    reader = Database(dsn, shop.connection)

    with pytest.raises(CollectionError) as error:
        await reader.measure(config())
    allowed = await reader.measure(config("row_security: allow"))
    checked = await preflight(reader.config(config()))

    assert error.value.fault.reason == "row_security"
    assert "public.seen switches row_security on" in error.value.fault.message
    assert "public.source" in allowed.snapshot.restricted
    assert any(f.severity == "error" and "row" in f.message for group in checked for f in group.findings)


async def test_strict_believes_a_view_of_the_table_s_owner_beside_a_function_that_asks(shop: Database) -> None:
    """Policies, and functions that say nothing of row_security, are no reason to refuse a role that sees all."""
    await shop.execute(
        "alter table scores enable row level security; create function other() returns int security definer "
        "language sql as 'select 1'"
    )

    assert (await shop.measure(config())).snapshot.record_faults == {}


# --- Time-outs of the role

ROLE = ("transaction_timeout = '300ms'", "statement_timeout = '400ms'", "lock_timeout = '1ms'")


@pytest.mark.parametrize("setting", ROLE)
async def test_a_time_out_of_the_role_ends_no_collection(shop: Database, setting: str) -> None:
    if setting.startswith("transaction") and shop.connection.get_server_version().major < 17:
        pytest.skip("before PostgreSQL 17 there is no transaction_timeout")
    await shop.set(*setting.split(" = "))

    numbers = await shop.measure(config(eligible="pg_sleep(0.05) is not null"))

    assert numbers.positive("eligible_sessions") == {("gap",): 10}


# --- What is asked for apart

SLOW = """
create function slow(int) returns boolean language plpgsql stable as $$
begin perform pg_sleep(0.02); return true; end $$
"""


async def test_what_is_refused_costs_one_more_statement_timeout_at_most(shop: Database) -> None:
    await shop.execute(SLOW)
    slow = ", ".join(f'c{n}: "public.slow(id)"' for n in range(1, 9))
    text = config("statement_timeout: 1s").replace(
        "status: status", f'status: status, checks: {{c0: "status::int > 0", {slow}}}'
    )

    async with asyncio.timeout(at_most(30)):
        numbers = await shop.measure(text)

    faults = {path.removeprefix("sessions.checks."): fault for path, fault in numbers.snapshot.part_faults.items()}
    assert faults["c0"].reason == "type"
    late = {name for name, fault in faults.items() if fault.reason == "statement_timeout"}
    assert late
    assert late < {f"c{n}" for n in range(1, 9)}
    assert all("took longer than half of statement_timeout" in faults[name].message for name in late)
    assert numbers.positive("sessions") == {("paid",): 10}


# --- Time zones


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Etc/GMT-2", "GMT", "EST5EDT", "Japan"])
async def test_a_name_of_the_zone_database_is_taken(shop: Database, zone: str) -> None:
    text = config().replace("status: status", f"status: status, timezone: {zone}")

    assert (await shop.measure(text)).positive("eligible_sessions") == {("gap",): 10}


async def test_an_abbreviation_that_only_the_server_knows_is_refused_in_the_round(shop: Database) -> None:
    """Some servers have abbreviations of their own: timezonesets of India, Australia, or of the operator's."""
    plan = shop.plan(config())
    sessions = plan.pipeline.sessions.model_copy(update={"timezone": "ist"})
    with pytest.raises(CollectionError) as error:
        await collect(plan.about(plan.pipeline.model_copy(update={"sessions": sessions})))

    assert error.value.fault.reason == "type"
    assert "sessions.timezone: an abbreviation" in error.value.fault.message


async def test_a_row_that_was_committed_before_the_time_of_the_snapshot_is_in_it(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a slow network, beside a platform that commits all the time."""
    fetch = PreparedStatement.fetch

    async def slowly(self: PreparedStatement, *arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(0.05)
        return await fetch(self, *arguments, **options)

    committed: list[float] = []

    async def write() -> None:
        connection = await asyncpg.connect(shop.dsn)
        try:
            for number in itertools.count(11):
                await connection.execute("insert into orders values ($1, 'paid')", number)
                committed.append((await connection.fetchval("select clock_timestamp()")).timestamp())
        finally:
            await connection.close()

    writing = asyncio.create_task(write())
    plan = shop.plan(config())
    monkeypatch.setattr(PreparedStatement, "fetch", slowly)
    snapshots = [await collect(plan) for _ in range(3)]
    writing.cancel()
    await asyncio.wait([writing])

    for snapshot in snapshots:
        seen = Numbers(snapshot).positive("sessions")["paid",]
        before = sum(moment < snapshot.taken_at for moment in committed)
        # The writer has a row that is committed, and whose time is not read yet.  A server without a free core may stop
        # between snapshot and clock; with the clock a message later half of the rows were missing.
        assert abs(seen - 10 - before) <= max(5, before // 10)
