"""Names: nobody who may create something in the database decides what our SQL means, or runs code as our role.

https://nvd.nist.gov/vuln/detail/CVE-2018-1058
"""

import itertools
import re
from collections.abc import Iterator

import pytest
from conftest import Database, Numbers, plan_of

from exporter.measure.collect import collect
from exporter.mend.gaps import count_gaps, list_gaps
from exporter.model.fault import CollectionError
from exporter.setup.preflight import preflight

TABLES = """
create type mood as enum ('good', 'bad');
create domain moment as timestamptz;
create table orders (
  id varchar(40), part int, status varchar(20), mood mood, at moment, done date, primary key (id, part)
);
create table scores (order_id varchar(40), part bigint, version varchar(9), kind mood, at timestamp);
insert into orders select 'o' || n, 1, 'paid', 'good', '2025-05-01', '2025-05-01' from generate_series(1, 50) n;
insert into scores select 'o' || n, 1, 'v2', 'good', '2025-05-02' from generate_series(1, 6) n;
"""
CONFIG = """
database: {url: "${DATABASE_URL}", MORE}
pipelines:
  shop:
    window: {since: 2025-01-01}
    sessions: {table: public.orders, key: [id, part], status: status, started_at: at, completed_at: done,
      timezone: Europe/Berlin, eligible: "status = 'paid'", checks: {good: "mood = 'good'"}, deleted: "id = 'o1'"}
    records: {scores: {table: public.scores, session_key: [order_id, part], created_at: at, timezone: Europe/Berlin,
      version: {column: version, current: v2}, accepted_values: {kind: [good]}, unique: [order_id, version]}}
    cohort: {window: 900d, maturity: 1h}
    limits: {sessions_with_gap: {critical: 0}}
"""

TYPES = ("varchar", "bpchar", "int", "bigint", "mood", "moment", "timestamp", "date", "regtype", "double precision")
COMPARISONS = ("=", "<>", "<", ">", "<=", ">=")
CALLS = (
    "left(varchar, int)",
    "isfinite(moment)",
    "pg_typeof(moment)",
    "pg_typeof(timestamptz)",
    "array_agg(double precision)",
    "unnest(double precision[])",
    "unnest(text[])",
    "clock_timestamp()",
    "now()",
    "pg_is_in_recovery()",
    "current_schemas(boolean)",
    "hashtextextended(text, int)",
    "quote_ident(name)",
    "to_jsonb(pg_inherits)",
    "percentile_disc(numeric[])",
)
"""Calls that fit ours better than the server's own, which take text, or any type."""


def traps(types: tuple[str, ...] = TYPES) -> Iterator[str]:
    """SQL for operators and functions in the schema evil: whoever calls one is told."""
    yield "create schema evil"
    for n, (left, right) in enumerate(itertools.product(types, repeat=2)):
        if left == right or {left, right} <= {"int", "bigint"}:
            yield (
                f"create function evil.trip_{n}({left}, {right}) returns boolean language plpgsql stable as "
                "$$ begin raise 'trapped'; end $$"
            )
            for operator in COMPARISONS:
                arguments = f"leftarg = {left}, rightarg = {right}, function = evil.trip_{n}"
                yield f"create operator evil.{operator} ({arguments})"
    for call in CALLS:
        yield f"create function evil.{call} returns text language plpgsql stable as $$ begin raise 'trapped'; end $$"
    yield "grant usage on schema evil to public; grant execute on all functions in schema evil to public"


@pytest.fixture
async def shop(empty: Database) -> Database:
    await empty.execute(TABLES)
    return empty


def assert_right(numbers: Numbers) -> None:
    assert numbers.snapshot.record_faults == {}
    assert numbers.snapshot.part_faults == {}
    assert numbers.positive("eligible_sessions") == {("complete",): 6, ("gap",): 44}
    assert numbers("check_sessions", "good", "pass") == 50
    assert numbers("detached_records", "scores") == 1
    assert numbers("invalid_records", "scores") == 0


@pytest.mark.parametrize("path", ["evil, pg_catalog, public", "public, evil", 'evil, "$user", public'])
async def test_no_number_changes_whatever_stands_in_the_way(shop: Database, path: str) -> None:
    for trap in traps():
        await shop.execute(trap)
    await shop.set("search_path", path)
    text = CONFIG.replace(", MORE", "")

    assert_right(await shop.measure(text))
    assert (await count_gaps(shop.plan(text))).count == 44
    assert (await list_gaps(shop.plan(text), lambda _: None)).count == 44
    found = [finding for group in await preflight(shop.config(text)) for finding in group.findings]
    assert [finding for finding in found if finding.severity == "error"] == []


async def test_our_own_sql_is_safe_even_in_a_path_that_was_asked_for(shop: Database) -> None:
    """The config's SQL is what the traps are asked for; here it compares text alone, as which the server is exact."""
    for trap in traps():
        await shop.execute(trap)
    text = CONFIG.replace("MORE", "search_path: [evil]")
    for own, exact in (
        ("status = 'paid'", "status::text = 'paid'"),
        ("mood = 'good'", "mood::text = 'good'"),
        ("id = 'o1'", "id::text = 'o1'"),
    ):
        text = text.replace(own, exact)

    assert_right(await shop.measure(text))
    assert (await count_gaps(shop.plan(text))).count == 44


async def test_the_traps_are_traps(shop: Database) -> None:
    for trap in traps():
        await shop.execute(trap)

    with pytest.raises(CollectionError, match="raised an exception"):
        await shop.measure(CONFIG.replace("MORE", "search_path: [evil]"))


async def test_a_schema_that_is_asked_for_is_searched(shop: Database) -> None:
    await shop.execute(
        "create schema app; create function app.fine(text) returns boolean language sql stable as 'select true'; "
        "create operator app.=== (leftarg = text, rightarg = text, function = textregexeq)"
    )
    text = CONFIG.replace("MORE", "search_path: [app]").replace("mood = 'good'", "fine(id) and id === '^o'")

    assert_right(await shop.measure(text))


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        ("grant create on schema app to public", "every role may CREATE in the schema app"),
        (
            "create role builder_of_app; grant create on schema app to builder_of_app",
            '"builder_of_app" may CREATE in the schema app',
        ),
        ("select", None),
    ],
)
async def test_the_check_of_the_config_names_who_may_put_something_there(
    shop: Database, grant: str, words: str | None
) -> None:
    await shop.execute(f"create schema app; {grant}")
    try:
        checked = await preflight(shop.config(CONFIG.replace("MORE", "search_path: [app]")))
    finally:
        if "role" in grant:
            await shop.execute("drop owned by builder_of_app; drop role builder_of_app")

    notes = [f for group in checked for f in group.findings if f.path == "databases.main.search_path"]
    assert [words in note.message for note in notes if words] == ([True] if words else [])
    assert all(note.severity == "note" for note in notes)


async def test_a_schema_that_is_asked_for_and_not_there_is_an_error(shop: Database) -> None:
    checked = await preflight(shop.config(CONFIG.replace("MORE", "search_path: [appp]")))

    [error] = [f for group in checked for f in group.findings if f.path == "databases.main.search_path"]
    assert (error.severity, 'the schema "appp" does not exist' in error.message) == ("error", True)


# --- Tables without a schema


async def test_a_table_without_a_schema_is_found_by_the_role_s_path_and_said(shop: Database) -> None:
    await shop.execute("create schema app; create table app.scores (like scores)")
    text = CONFIG.replace(", MORE", "").replace("public.orders", "orders").replace("public.scores", "scores")

    before = await shop.measure(text)
    await shop.set("search_path", "app, public")
    after = await shop.measure(text)
    asked = await shop.measure(text.replace('_URL}"', '_URL}", search_path: [public]'))

    assert before.snapshot.found == asked.snapshot.found == {"orders": "public.orders", "scores": "public.scores"}
    assert after.snapshot.found == {"orders": "public.orders", "scores": "app.scores"}
    assert (before("records", "scores", "v2", "current"), after("records", "scores", "v2", "current")) == (6, 0)


@pytest.mark.parametrize(
    "body",
    [
        "language sql stable as 'select exists (select 1 from scores)'",
        "language plpgsql stable as 'begin return exists (select 1 from scores); end'",
    ],
)
async def test_a_function_that_finds_nothing_in_our_path_says_what_helps(shop: Database, body: str) -> None:
    await shop.execute(f"create function flagged() returns boolean {body}")
    text = CONFIG.replace("mood = 'good'", "public.flagged()")

    refused = await shop.measure(text.replace(", MORE", ""))
    searched = await shop.measure(text.replace("MORE", "search_path: [public]"))
    [fault] = refused.snapshot.part_faults.values()
    [remedy] = re.findall("ALTER FUNCTION .+? SET search_path = <schema>", fault.message)
    await shop.execute(remedy.replace("<schema>", "public"))
    altered = await shop.measure(text.replace(", MORE", ""))

    assert fault.reason == "missing_object"
    assert_right(searched)
    assert_right(altered)


# --- A role that may do more than read


async def test_what_stays_refuses_a_role_that_may_run_programs(shop: Database) -> None:
    text = CONFIG.replace(", MORE", "")

    with pytest.raises(CollectionError) as error:
        await collect(plan_of(text, shop.dsn), unattended=True)
    allowed = plan_of(CONFIG.replace("MORE", "allow_superuser: true"), shop.dsn)

    assert error.value.fault.reason == "permission"
    assert "allow_superuser: true" in error.value.fault.message
    assert_right(Numbers(await collect(allowed, unattended=True)))


@pytest.mark.parametrize("power", ["pg_execute_server_program", "pg_read_server_files", "pg_write_server_files"])
async def test_a_role_that_may_touch_files_of_the_server_is_refused_too(shop: Database, power: str) -> None:
    await shop.execute(
        f"create role {power[3:]} login password 'pw-{power}' in role {power}; "
        f"grant select on all tables in schema public to {power[3:]}"
    )
    dsn = shop.dsn.replace(shop.dsn.partition("//")[2].partition("@")[0], f"{power[3:]}:pw-{power}", 1)
    try:
        with pytest.raises(CollectionError, match=power):
            await collect(plan_of(CONFIG.replace(", MORE", ""), dsn), unattended=True)
        assert_right(Numbers(await collect(plan_of(CONFIG.replace(", MORE", ""), dsn))))
    finally:
        await shop.execute(f"drop owned by {power[3:]}; drop role {power[3:]}")
