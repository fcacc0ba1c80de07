"""The SQL of a config: whatever cannot mean one thing in each statement is refused by each command, unread."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from conftest import Database, of_orders, plan_of

from exporter.config.read import ConfigError
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.mend.gaps import count_gaps, list_gaps
from exporter.mend.whole import ListNotMeasuredError
from exporter.model.fault import CollectionError
from exporter.model.sql import lexemes
from exporter.plan.expressions import called, expressions, planned, qualified, unfound, written
from exporter.plan.plan import Plan
from exporter.setup.preflight import preflight

TABLES = """
create table orders (id int primary key, status text, email text, amount int, at timestamptz default '2025-05-01');
create table scores (order_id int, amount int);
create table payments (order_id int, amount int);
insert into orders values (1, 'paid', 'a@x', 5), (2, 'paid', 'a@x', 5), (3, 'open', 'b@x', 5);
insert into scores values (1, 5), (2, 5), (3, 5);
insert into payments values (1, 3), (1, 2), (2, 4);
"""
CONFIG = of_orders(
    "cohort: {window: 30d, maturity: 1h}",
    eligible='"ELIGIBLE", where: "COUNTED", checks: {it: "CHECK"}, completed: "COMPLETED", deleted: "DELETED"',
    scores='valid: "VALID", where: "WHERE", required_when: "NEEDED"',
)
KEYS = ("ELIGIBLE", "COUNTED", "CHECK", "COMPLETED", "DELETED", "VALID", "WHERE", "NEEDED")


def config(**sql: str) -> str:
    text = CONFIG
    for key in KEYS:
        text = text.replace(key, sql.get(key.lower(), "true"))
    return text


@pytest.fixture
async def shop(empty: Database) -> Database:
    await empty.execute(TABLES)
    return empty


IN_A_SUB_QUERY = "for one row at a time: write the aggregate or window function in a sub-query"
REFUSED = {
    "a window function": (
        "count(*) over (partition by amount) = 1",
        IN_A_SUB_QUERY,
    ),
    "a row number": ("row_number() over () = 1", "window functions are not allowed"),
    "an aggregate of nothing": ("count(*) = 1", "aggregate functions are not allowed"),
    "an aggregate of a column": ("max(amount) = 5", IN_A_SUB_QUERY),
    "a set": ("generate_series(1, 2) = 1", "set-returning functions are not allowed"),
    "chance": ("random() < 0.5", "volatile"),
    "a clock": ("clock_timestamp() > now()", "volatile"),
    "a new key": ("gen_random_uuid() is not null", "volatile"),
    "chance in a sub-query": ("exists (select 1 from public.payments where random() < 0.5)", "volatile"),
    "a function that nobody declared": ("public.coin(amount)", "volatile"),
    "a view with a clock": ("exists (select 1 from public.ticking)", "volatile"),
    "chance beside a pause": ("pg_sleep(0) is not null and random() < 0.5", "volatile"),
}
PLACES = {
    "eligible": None,
    "counted": None,
    "check": "sessions.checks.it",
    "completed": "sessions.completed",
    "deleted": "sessions.deleted",
    "valid": "scores",
    "where": "scores",
    "needed": "scores",
}
"""Where an expression may stand, and what is lost with it: a part, a record, or (None) everything."""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", REFUSED)
async def test_what_depends_on_the_statement_is_refused_wherever_it_stands(
    shop: Database, what: str, place: str
) -> None:
    await shop.execute(
        "create function coin(int) returns boolean language sql as 'select true'; "
        "create view ticking as select clock_timestamp() as now"
    )
    sql, words = REFUSED[what]
    text = config(**{place: sql})

    lost = PLACES[place]
    if lost is None:
        with pytest.raises(CollectionError) as error:
            await shop.measure(text)
        fault = error.value.fault
    else:
        snapshot = (await shop.measure(text)).snapshot
        [(name, fault)] = {**snapshot.record_faults, **snapshot.part_faults}.items()
        assert name == lost

    assert fault.reason == "invalid_sql"
    assert words in fault.message
    path = {"needed": "records.scores.required_when", "valid": "records.scores.valid", "where": "records.scores.where"}
    path["counted"] = "sessions.where"
    assert fault.message.startswith(f"pipelines.shop.{path.get(place) or lost or 'sessions.eligible'}: ")


Command = Callable[[Plan], Coroutine[Any, Any, object]]
COMMANDS: dict[str, Command] = {
    "collect": collect,
    "gaps": lambda plan: list_gaps(plan, lambda _: None),
    "gaps --count": count_gaps,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("what", ["a window function", "chance", "an aggregate of a column"])
async def test_every_command_refuses_it_in_the_words_of_the_check_of_the_config(
    shop: Database, what: str, command: str
) -> None:
    sql, words = REFUSED[what]
    plan = plan_of(config(eligible=sql), shop.dsn)

    with pytest.raises((CollectionError, ListNotMeasuredError), match=words) as refused:
        await COMMANDS[command](plan)
    checked = await preflight(shop.config(config(eligible=sql)))

    message = str(refused.value).removeprefix("pipelines.shop.sessions.eligible: ")
    assert message in [finding.message for group in checked for finding in group.findings]


ACCEPTED = {
    "a pause, which has no value": "pg_sleep(0) is not null",
    "an aggregate in a sub-query": "(select sum(p.amount) from public.payments p where p.order_id = session.id) = 5",
    "a window function in a sub-query": (
        "1 = any (select row_number() over () from public.payments p where p.order_id = session.id)"
    ),
    "the time of the transaction": "at < now()",
    "a stable function": "public.is_first(session.id)",
    "values": "id in (values (1), (9))",
}


PASSING = {"a pause, which has no value": 3, "the time of the transaction": 3, "a window function in a sub-query": 2}


@pytest.mark.parametrize("what", ACCEPTED)
async def test_what_means_one_thing_everywhere_is_computed(shop: Database, what: str) -> None:
    await shop.execute(
        "create function is_first(int) returns boolean language plpgsql stable as $$ begin return $1 = 1; end $$"
    )

    numbers = await shop.measure(config(check=ACCEPTED[what]))

    assert numbers.snapshot.part_faults == {}
    assert numbers("check_sessions", "it", "pass") == PASSING.get(what, 1)


async def test_an_expression_is_computed_once_for_a_session(shop: Database, server: EmbeddedPostgres) -> None:
    """With two checks, a cohort and a record there are many places where `eligible` counts."""
    await shop.execute(
        "insert into orders select n, 'paid', null, 5 from generate_series(4, 100) n; create sequence calls; "
        "create function seen(int) returns boolean language plpgsql stable as "
        "$$ begin raise log 'seen %', $1; return true; end $$"
    )
    plan = plan_of(config(eligible="public.seen(id)", check="amount = 5"), shop.dsn)

    await collect(plan)

    seen = [int(n) for n in re.findall(r"LOG:  seen (\d+)", server.log_file.read_text())]
    assert sorted(seen) == [n for (n,) in await shop.connection.fetch("select id from orders order by 1")]


# --- The row that an expression is about


async def test_a_sub_query_reaches_the_row_by_its_alias_or_its_table(shop: Database) -> None:
    for name in ("session", "orders", "public.orders"):
        check = f"amount = (select sum(amount) from public.payments where order_id = {name}.id)"

        numbers = await shop.measure(config(check=check))

        assert (numbers("check_sessions", "it", "pass"), numbers("check_sessions", "it", "fail")) == (1, 2), name


async def test_the_row_of_a_record_has_an_alias_too(shop: Database) -> None:
    valid = "exists (select 1 from public.payments where order_id = record.order_id)"

    numbers = await shop.measure(config(valid=valid))

    assert numbers("invalid_records", "scores") == 1


@pytest.mark.parametrize("table", ["session", "record", "computed"])
async def test_a_table_may_be_called_as_an_alias_of_ours(shop: Database, table: str) -> None:
    await shop.execute(f"alter table orders rename to {table}; alter table {table} add eligible int, add computed int")
    text = config(check="session.id > 1 and exists (select 1 from public.payments where order_id = session.id)")

    numbers = await shop.measure(text.replace("public.orders", f"public.{table}"))

    assert numbers.snapshot.part_faults == {}
    assert numbers("check_sessions", "it", "pass") == 1


@pytest.mark.parametrize(
    ("check", "is_told"),
    [
        ("(select count(*) from public.payments p where p.order_id = order_id) >= 2", True),
        ("exists (select 1 from public.payments where order_id = order_id)", True),
        ("(select count(*) from public.payments p where p.order_id = session.id) >= 2", False),
        ("exists (select 1 from public.payments where order_id = id)", False),
        ("id in (select order_id from public.payments)", False),
        ("amount > 3", False),
    ],
)
async def test_a_sub_query_that_is_about_no_session_gets_a_note(shop: Database, check: str, is_told: bool) -> None:
    checked = await preflight(shop.config(config(check=check)))

    notes = [f for group in checked for f in group.findings if f.path == "pipelines.shop.sessions.checks.it"]
    assert [note.severity for note in notes] == (["note"] if is_told else [])
    assert all("session.id" in note.message for note in notes)


# --- What the server refuses is the config's text


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("status = 5", "operator does not exist: text = integer"),
        ("at > '2025-13-01'", 'date/time field value out of range: "2025-13-01"'),
        ("amount > 'many'", 'invalid input syntax for type integer: "many"'),
        ("kind = 'Paid'", 'invalid input value for enum public.state: "Paid"'),
    ],
)
async def test_a_literal_of_the_config_is_not_called_a_value_of_a_row(shop: Database, sql: str, words: str) -> None:
    await shop.execute("create type state as enum ('new', 'paid'); alter table orders add kind state; truncate orders")

    with pytest.raises(CollectionError) as error:
        await shop.measure(config(eligible=sql))

    assert words in error.value.fault.message
    assert "value of a row" not in error.value.fault.message


async def test_a_value_of_a_row_is_never_told(shop: Database) -> None:
    await shop.execute("update orders set email = 'hunter2' where id = 3")

    numbers = await shop.measure(config(check="email::int > 0"))

    [fault] = numbers.snapshot.part_faults.values()
    assert fault.reason == "type"
    assert "hunter2" not in fault.message


async def test_a_session_outside_the_window_blames_the_key_that_reads_it(shop: Database) -> None:
    await shop.execute("insert into orders values (9, 'paid', 'not a number', 1, '1999-01-01')")
    await shop.execute("update orders set email = '1' where id < 9")

    numbers = await shop.measure(config(deleted="email::int = 0"))

    assert [*numbers.snapshot.part_faults] == ["sessions.deleted"]
    assert numbers.snapshot.record_faults == {}
    assert numbers("orphaned_records", "scores") == 0


async def test_an_exception_of_the_platform_is_no_fault_of_ours(shop: Database) -> None:
    await shop.execute(
        "create function raises(int) returns boolean language plpgsql stable as $$ begin raise 'hunter2'; end $$"
    )

    with pytest.raises(CollectionError) as error:
        await shop.measure(config(eligible="public.raises(id)"))

    assert error.value.fault.reason == "invalid_sql"
    assert "raised an exception" in error.value.fault.message
    assert "hunter2" not in error.value.fault.message


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("status = 'paid' /* not closed", "has a comment that does not end"),
        ("status = 'paid' /* a /* b */", "has a comment that does not end"),
        ("status = 'paid", "has a literal that does not end"),
        ("status = $$$$paid", "has a literal that does not end"),
        ("status = $$a$$paid$$b$$", "has a literal that does not end"),
        ('\\"status = 1', "has a double quote that does not end"),
    ],
)
def test_what_would_swallow_our_sql_is_a_mistake_of_the_config(sql: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_of(config(eligible=sql), "postgresql://nowhere")


@pytest.mark.parametrize(
    "sql",
    [
        "status = 'it''s'",
        "a -- it's",
        "/* ' */ true",
        "e'\\\\'' = status",
        "$$q$$'$$q$$ = a",
        '\\"a\\"\\"b\\"',
    ],
)
def test_what_ends_is_taken(sql: str) -> None:
    plan_of(config(eligible=sql), "postgresql://nowhere")


def test_the_names_that_an_expression_calls() -> None:
    sql = 'now() - at > \'f(x)\' and app."Is ""it""" (a) /* g( */ and lower (b) = any (array[h(1)]) -- i('

    assert called(sql) == ("now", 'Is "it"', "lower", "any", "h")
    assert [text for kind, text in lexemes("'a''b'") if kind == "literal"] == ["'a''b'"]
    assert [kind for kind, _ in lexemes("/* a /* nested */ one */1")] == ["comment", "other"]
    assert [kind for kind, _ in lexemes("$x$--$x$-- no")] == ["literal", "comment"]


# --- Names without a schema


async def test_names_without_a_schema_are_found_once_and_said(shop: Database) -> None:
    await shop.execute("create function is_one(int) returns boolean language sql stable as 'select $1 = 1'")
    check = "is_one(id) and exists (select 1 from payments p where p.order_id = session.id)"

    numbers = await shop.measure(config(check=check))
    checked = await preflight(shop.config(config(check=check)))

    assert numbers("check_sessions", "it", "pass") == 1
    assert numbers.snapshot.found == {"is_one": "public.is_one", "payments": "public.payments"}
    [note] = [f for group in checked for f in group.findings if f.path == "pipelines.shop.sessions.checks.it"]
    assert note.severity == "note"
    assert note.message.endswith(
        ': "public".is_one(id) and exists (select 1 from "public".payments p where p.order_id = session.id)'
    )


async def test_every_expression_finds_its_way_back(shop: Database) -> None:
    plan = shop.plan(config())

    for one in expressions(plan.pipeline, DIMENSIONS):
        changed = written(plan.pipeline, qualified(one, 0, "s"))
        [found] = [other for other in expressions(changed, DIMENSIONS) if other.path == one.path]
        assert found.sql == '"s".true'
        assert unfound(one, planned([one]).sql.index("\ntrue\n") + 2) == (0, "true")
        assert unfound(one, 1) is None


@pytest.mark.parametrize("name", ["a$1", '"a$1"', '"$1"', "ä$1"])
async def test_a_name_with_a_dollar_and_a_digit_is_no_value_of_ours(empty: Database, name: str) -> None:
    await empty.execute(f"create table orders (id int primary key, status text, at timestamptz, {name} int)")
    await empty.execute("create table bills (order_id int); insert into orders values (1, 'x', now(), 5)")

    numbers = await empty.measure(of_orders(eligible=f"'{name} = 5'", bills=""))

    assert numbers("eligible_sessions", "gap") == 1


@pytest.mark.parametrize("expression", ["id = $1", "id = $ 1 or $1 > 0", "id =$1", "1$1"])
def test_a_placeholder_is_refused(expression: str) -> None:
    with pytest.raises(ConfigError, match="has a \\$ and a digit"):
        plan_of(of_orders(eligible=f"'{expression}'", bills=""), "postgresql://nowhere")
