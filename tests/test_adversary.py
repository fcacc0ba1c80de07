"""What an adversary of the measuring core tries: each must be told, refused or counted right."""

import re
from contextlib import suppress
from typing import Any

import pytest
from conftest import Database, Numbers, of_orders

from exporter.measure.collect import collect
from exporter.measure.session import Session
from exporter.model.fault import CollectionError
from exporter.plan.statement import Statement

CONFIG = of_orders(
    database="lock_timeout: 3s",
    eligible='"ELIGIBLE", checks: {it: "CHECK"}',
    key="KEY",
    scores="version: {column: version, current: v2}",
)
TABLES = """
create table orders (id int primary key, status text, note text, email text, at timestamptz default '2025-05-01');
create table scores (order_id int, version text); create table notes (order_id int, word text);
insert into orders select n, 'paid', 'hunter2 x', 'A' || n || '@x' from generate_series(1, 10) n;
insert into scores select n, 'v2' from generate_series(1, 10) n; insert into notes values (1, 'hunter2 x');
"""


def config(*, eligible: str = "true", check: str = "true", key: str = "order_id") -> str:
    return CONFIG.replace("ELIGIBLE", eligible).replace("CHECK", check).replace("KEY", key)


@pytest.fixture
async def shop(empty: Database) -> Database:
    await empty.execute(TABLES)
    return empty


# --- No value of a row in a message


@pytest.mark.parametrize(
    "check",
    [
        "to_tsquery('simple', note) is not null",
        "split_part(note, ' ', 1)::regclass is not null",
        "current_setting(split_part(note, ' ', 1)) is not null",
        "exists (select 1 from public.notes n where n.order_id = public.secret()::int)",
    ],
)
async def test_no_message_tells_a_value_of_a_row(shop: Database, check: str) -> None:
    await shop.execute(
        "create function secret() returns text language sql stable as 'select word from public.notes limit 1'"
    )

    [fault] = (await shop.measure(config(check=check))).snapshot.part_faults.values()

    assert "hunter2" not in fault.message


# --- What depends on the statement


@pytest.mark.parametrize(
    ("eligible", "check"),
    [
        ("pg_sleep(0) is not null and exists (select 1 from public.ticking)", "true"),
        ("exists (select 1 from public.ticking)", "pg_sleep(0) is not null"),
        ("exists (select 1 from public.orders tablesample bernoulli (50))", "true"),
        ("at < statement_timestamp()", "true"),
    ],
)
async def test_what_differs_between_statements_is_refused(shop: Database, eligible: str, check: str) -> None:
    await shop.execute("create view ticking as select 1 where random() < 0.5")

    with pytest.raises(CollectionError) as error:
        await shop.measure(config(eligible=eligible, check=check))

    assert error.value.fault.reason == "invalid_sql"


async def test_an_operator_that_the_path_hides_does_not_change_what_equals_what(shop: Database) -> None:
    """A column of citext equals 'a1@x' for everybody who may use the extension's operator."""
    await shop.execute("create extension citext; alter table orders alter email type citext")

    numbers = await shop.measure(config(check="email = 'a1@x'"))

    assert numbers.snapshot.part_faults or numbers("check_sessions", "it", "pass") == 1


@pytest.mark.parametrize(
    "check",
    ["email::text = 'A1@x'", "session.email /* as is */ :: pg_catalog.text = 'A1@x'", "id = 1 and email is not null"],
)
async def test_a_column_that_no_operator_of_its_type_compares_is_taken(shop: Database, check: str) -> None:
    await shop.execute("create extension citext; alter table orders alter email type citext")

    numbers = await shop.measure(config(check=check))

    assert numbers.snapshot.part_faults == {}
    assert numbers("check_sessions", "it", "pass") == 1


# --- One catalog


@pytest.mark.parametrize("title", ["sessions", "rows of scores"])
@pytest.mark.parametrize(
    ("prepare", "change"),
    [
        (
            (
                "create schema app; alter table orders set schema app; alter table scores set schema app; "
                "create schema fresh; create table fresh.orders (like app.orders including all); "
                "create table fresh.scores (like app.scores); insert into fresh.orders select * from app.orders; "
                "insert into fresh.scores select s.* from app.scores s, generate_series(1, 2)"
            ),
            "alter schema app rename to old; alter schema fresh rename to app",
        ),
        (
            "create type ver as enum ('v2', 'v1'); alter table scores alter version type ver using version::ver",
            "alter type ver rename value 'v2' to 'v3'",
        ),
    ],
    ids=["schemas are swapped", "a value of an enum is renamed"],
)
async def test_names_that_change_within_a_round_void_it(
    shop: Database, monkeypatch: pytest.MonkeyPatch, title: str, prepare: str, change: str
) -> None:
    await shop.execute(prepare)
    ask, waiting = Session._ask, [change]

    async def asked(session: Session, statement: Statement) -> list[Any]:
        if statement.title == title and waiting:
            await shop.execute(waiting.pop())
        return await ask(session, statement)

    monkeypatch.setattr(Session, "_ask", asked)
    text = config().replace("public.", "app.") if "schema" in prepare else config()

    with pytest.raises(CollectionError):
        await shop.measure(text)


HIDING = {
    "a body of standard SQL": (
        "create function seen() returns setof source language sql security definer begin atomic "
        "select set_config('row_security', 'on', true); select * from source; end"
    ),
    "a name that is put together": (
        "create function seen() returns setof source language sql security definer as "
        "$$ select set_config('row_' || 'security', 'on', true); select * from public.source $$"
    ),
}


@pytest.mark.parametrize("how", HIDING)
async def test_strict_sees_that_row_security_was_switched(shop: Database, how: str) -> None:
    name = await shop.connection.fetchval("select current_database()")
    app, reader = f"app_{name}", f"reader_{name}"
    await shop.execute(
        f"create role {app}; create role {reader} login password 'pw'; alter table scores rename to source; "
        f"alter table source enable row level security; create policy own on source to {app} using (order_id <= 5); "
        f"grant usage, create on schema public to {app}; grant select on source to {app}; "
        f"grant select on orders to {reader}; set role {app}; {HIDING[how]}; "
        f"create view scores as select * from public.seen(); grant select on scores to {reader}; reset role"
    )
    dsn = shop.dsn.replace(shop.dsn.partition("//")[2].partition("@")[0], f"{reader}:pw", 1)
    try:
        with pytest.raises(CollectionError) as error:
            await Database(dsn, shop.connection).measure(config())
    finally:
        await shop.execute(f"drop owned by {app}, {reader}; drop role {app}; drop role {reader}")

    assert error.value.fault.reason == "row_security"


# --- Our own SQL


@pytest.mark.parametrize("name", ["name", "text"])
async def test_a_domain_before_the_server_s_own_types_runs_nothing_as_our_role(shop: Database, name: str) -> None:
    await shop.execute(
        f"create schema evil; create table evil.ran (who text); create function evil.trip(anyelement) returns boolean "
        "language plpgsql as $$ begin insert into evil.ran values (current_user); return true; end $$; "
        f"create domain evil.{name} as pg_catalog.{name} check (evil.trip(value))"
    )
    await shop.set("search_path", "evil, pg_catalog, public")

    with suppress(CollectionError):
        numbers = Numbers(await collect(shop.plan(config())))
        assert numbers.positive("eligible_sessions") == {("complete",): 10}

    assert await shop.connection.fetchval("select count(*) from evil.ran") == 0


# --- Keys


async def test_a_value_that_a_domain_refuses_costs_its_record_alone(shop: Database) -> None:
    await shop.execute("create domain small as int check (value < 5); alter table scores alter order_id type text")

    numbers = await shop.measure(config(key="{column: order_id, cast: public.small}"))

    assert [*numbers.snapshot.record_faults] == ["scores"]
    assert numbers.positive("sessions") == {("paid",): 10}


@pytest.mark.parametrize(
    ("kind", "cast", "shift"),
    [("numeric", "public.tenth", "0.04"), ("timestamptz", "public.whole_seconds", "interval '200 milliseconds'")],
)
async def test_a_cast_that_rounds_links_nothing(empty: Database, kind: str, cast: str, shift: str) -> None:
    one = {"numeric": "1.0", "timestamptz": "timestamptz '2025-05-01'"}[kind]
    await empty.execute(
        "create domain tenth as numeric(5, 1); create domain whole_seconds as timestamptz(0); "
        f"{TABLES.partition('insert')[0]} alter table orders drop id; "
        f"alter table orders add id {kind} primary key; alter table scores drop order_id; "
        f"alter table scores add order_id {kind}; insert into orders (status, id) values ('paid', {one}); "
        f"insert into scores (version, order_id) values ('v2', {one} + {shift})"
    )

    numbers = await empty.measure(config(key=f"{{column: order_id, cast: {cast}}}"))

    assert numbers.snapshot.record_faults or numbers("orphaned_records", "scores") == 1


@pytest.mark.parametrize(
    ("own", "theirs", "one", "same"),
    [
        ("bit(3)", "text", "b'101'", "'101'"),
        ("uuid[]", "text", "array[]::uuid[]", "'{}'"),
        ('"My Schema".mood', "text", "'good'", "'good'"),
        ("numeric(9, 2)", "double precision", "1", "1"),
        ("bigint", "double precision", "1000000000000000", "1e15"),
    ],
)
async def test_a_cast_that_is_printed_links_what_is_equal(
    empty: Database, own: str, theirs: str, one: str, same: str
) -> None:
    await empty.execute(
        'create schema "My Schema"; create type "My Schema".mood as enum (\'good\'); '
        f"create table orders (id {own} primary key, status text, at timestamptz default '2025-05-01'); "
        f"create table scores (order_id {theirs}, version text default 'v2'); "
        f"insert into orders values ({one}, 'paid'); insert into scores values ({same})"
    )
    [fault] = (await empty.measure(config())).snapshot.record_faults.values()
    printed = re.search(r"write (\{.*?\})", fault.message)
    if printed is None:
        return

    numbers = await empty.measure(config(key=printed[1]))

    assert numbers.snapshot.record_faults == {}
    assert numbers("orphaned_records", "scores") == 0
