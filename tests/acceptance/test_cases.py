"""What was once measured wrong, or said misleadingly, as whoever types the commands sees it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from conftest import Database
from processes import run

SHOP = """
create table s (id int primary key, st text default 'paid', mail text, flags text default '1',
  t0 timestamptz default now() - interval '2 days', t1 timestamptz default now() - interval '1 day');
create table r (sid int, ver text default 'v2', kind text default 'functions', at timestamptz default now());
"""


def config(
    sessions: str = "", record: str = "", limits: str = "sessions_with_gap: {critical: 0}", more: str = ""
) -> str:
    """A pipeline over SHOP; a key that is given takes the place of the usual one."""
    usual = {"table": "public.s", "key": "id", "status": "st", "started_at": "t0", "completed_at": "t1"}
    usual["eligible"] = '"true"'
    own = "".join(f", {key}: {value}" for key, value in usual.items() if f"{key}: " not in sessions)
    of_record = "".join(
        f", {key}: {value}"
        for key, value in {"table": "public.r", "session_key": "sid", "created_at": "at"}.items()
        if f"{key}: " not in record
    )
    return (
        f'database: {{url: "${{DATABASE_URL}}"}}\npipelines:\n  shop:\n    window: {{last: 90d}}\n{more}'
        f"    sessions: {{{sessions.removesuffix(', ') or own.removeprefix(', ')}{own if sessions else ''}}}\n"
        f"    records: {{r: {{{record or of_record.removeprefix(', ')}{of_record if record else ''}}}}}\n"
        f"    limits: {{{limits}}}\n"
    )


@dataclass(frozen=True)
class Run:
    """A command, its exit code, and words that it prints; `never` are words that it must not."""

    command: str
    code: int
    words: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """What is in the database, the config, and what the commands do; `query` is appended to the url."""

    sql: str
    config: str
    runs: tuple[Run, ...]
    query: str = ""


def same(code: int, *words: str, commands: tuple[str, ...] = ("check", "config check --connect")) -> tuple[Run, ...]:
    """Each of the commands ends with this code and says these words."""
    return tuple(Run(command, code, words) for command in commands)


EVERYWHERE = ("check", "config check --connect", "gaps", "report --format json")
REFUSED = (
    Run("check", 3, ("unknown", "window functions are not allowed"), ("healthy",)),
    Run("gaps", 3, ("window functions are not allowed",)),
    Run("config check --connect", 3, ("sessions.eligible: window functions are not allowed",)),
)
TWO = (
    SHOP
    + "insert into s (id, mail, t0) values (1, 'a', now() - interval '200 days'), (2, 'a', now() - interval '9 days');"
)
FIVE = (
    SHOP + "insert into s select n from generate_series(1, 5) n; insert into r select n from generate_series(1, 5) n;"
)
AN_IDEA = "create table answers (sid int, n int); insert into answers select n, n from generate_series(1, 3) n;"
CASES = {
    "a window function in eligible": Case(
        TWO + "insert into r values (2);",
        config("eligible: row_number() over (partition by mail order by t0) = 1"),
        REFUSED,
    ),
    "a window function in eligible, with a cohort": Case(
        TWO + "insert into r values (2);",
        config(
            "eligible: row_number() over (partition by mail order by t0) = 1",
            more="    cohort: {window: 300d, maturity: 1h}\n",
        ),
        REFUSED,
    ),
    "a window function in a check": Case(
        TWO + "insert into r values (2);",
        config("checks: {one: count(*) over (partition by mail) = 1}", limits="failed_checks: {critical: 0}"),
        (
            Run("check", 3, ("unknown", "sessions.checks.one: window functions are not allowed")),
            Run("config check --connect", 3, ("error  pipelines.shop.sessions.checks.one",)),
        ),
    ),
    "a deleted key that a session outside the window breaks": Case(
        FIVE + "insert into s values (99, default, null, 'no number', now() - interval '5 years');",
        config("deleted: flags::int = 0", limits="sessions_with_gap: {critical: 0}, orphaned_records: {critical: 0}"),
        (
            Run(
                "check",
                3,
                (
                    "sessions.deleted: a value of a row or of the config does not fit",
                    "orphaned_records r              0 ≤ 0",
                ),
                ("records.r: a value",),
            ),
            Run("config check --connect", 3, ("sessions.deleted: a value of a row", "5 sessions analysed: 5 complete")),
        ),
    ),
    "a ratio that is just below its limit": Case(
        SHOP + "insert into s select n from generate_series(1, 2500) n;"
        "insert into r select n from generate_series(1, 2249) n;",
        config(
            limits="conversion_ratio: {critical: 0.9}, sessions_with_gap: {warning: 9999}",
            more="    cohort: {window: 30d, maturity: 1h}\n",
        ),
        (
            Run("check", 1, ("89.96% of 2500 sessions < 90%",)),
            Run("report", 0, ("89.96% of 2500 sessions",), ("90% of 2500",)),
        ),
    ),
    "a comment without an end": Case(
        SHOP,
        config('eligible: "true /* not closed"'),
        same(2, "sessions.eligible: has a comment that does not end: close it with */", commands=EVERYWHERE),
    ),
    "a function that raises": Case(
        FIVE + "create function raises(int) returns bool language plpgsql stable as "
        "$$ begin raise exception 'no'; end $$;",
        config("eligible: public.raises(id)"),
        (
            Run("check --format json", 3, ('"reason": "invalid_sql"', "raised an exception (SQLSTATE P0001)")),
            Run("config check --connect", 3, ("raised an exception",), ("fault of the exporter",)),
        ),
    ),
    "an abbreviation of a zone": Case(
        SHOP,
        config("timezone: IST"),
        same(2, "sessions.timezone: is an abbreviation", commands=EVERYWHERE),
    ),
    "the name of a zone": Case(
        "create table s (id int primary key, st text, t0 timestamp, t1 timestamp);"
        "create table r (sid int, at timestamptz);"
        "insert into s select 1, 'paid', t - interval '1 hour', t from "
        "(select (now() - interval '4 hours') at time zone 'Asia/Kolkata' as t) x;",
        config("timezone: Asia/Kolkata", limits="gap_age: {critical: 1h}"),
        (Run("check", 1, ("4h", "> 1h")), Run("config check --connect", 0, ("critical: 4h",))),
    ),
    "char and varchar keys": Case(
        SHOP + "alter table s alter id type char(10) using id::text; alter table r alter sid type varchar(40);"
        "insert into s values ('abc'), ('xyz'); insert into r select 'abc' || repeat(' ', n) from "
        "generate_series(0, 20) n;",
        config(limits="gap_ratio: {critical: 0.1}, orphaned_records: {warning: 0}"),
        (Run("check", 1, ("50% of 2 sessions > 10%", "20 > 0")), Run("gaps", 0, ("xyz",), ("abc",))),
    ),
    "varchar and char keys": Case(
        SHOP + "alter table s alter id type varchar(40); alter table r alter sid type char(10);"
        "insert into s values ('abc'), ('abc '); insert into r values ('abc');",
        config(),
        (Run("check", 1, ("1 > 0",)),),
    ),
    "keys of two collations": Case(
        SHOP + 'alter table s alter id type text collate "C"; alter table r alter sid type text collate "POSIX";'
        "insert into s values ('abc'), ('xyz'); insert into r values ('abc');",
        config(),
        (Run("check", 1, ("1 > 0",)), Run("gaps", 0, ("xyz",), ("abc",))),
    ),
    "a cast that is no type": Case(
        FIVE,
        config(record="session_key: {column: sid, cast: bigint unsigned}"),
        (
            Run(
                "check",
                3,
                ("records.r.session_key: ", "the server has no type bigint unsigned"),
                ("pipelines.shop.sessions:",),
            ),
        ),
    ),
    "an encoding in the url": Case(
        SHOP + "insert into s values (1, 'für');",
        config(),
        (Run("check", 1, ("1 > 0",), ("fault of the exporter",)),),
        query="?client_encoding=SQL_ASCII",
    ),
    "a literal of the config that is no label": Case(
        "create type state as enum ('new', 'paid');"
        "create table s (id int primary key, st state, t0 timestamptz, t1 timestamptz);"
        "create table r (sid int, at timestamptz);",
        config("eligible: st = 'Paid'"),
        same(3, "sessions.eligible: invalid input value for enum", '"Paid"'),
    ),
    "a sub-query whose bare name is its own column": Case(
        "create table orders (order_id int primary key, st text, t0 date default '1997-01-01', t1 date default "
        "'1997-02-01'); create table lines (order_id int, at timestamptz);"
        "insert into orders select n, 'DE' from generate_series(1, 10) n;"
        "insert into lines select n from generate_series(1, 10) n; insert into lines select n from "
        "generate_series(1, 4) n;",
        config(
            "table: public.orders, key: order_id, checks: {"
            "wrong: (select count(*) from public.lines l where l.order_id = order_id) >= 2, "
            "right: (select count(*) from public.lines l where l.order_id = orders.order_id) >= 2}",
            "table: public.lines, session_key: order_id",
            limits="sessions_with_gap: {critical: 0}, failed_checks: {warning: 0}",
        ).replace("last: 90d", "since: 1996-01-01"),
        (
            Run("check", 1, ("failed_checks right             6 > 0", "failed_checks wrong             0 ≤ 0")),
            Run("config check --connect", 0, ("sessions.checks.wrong: a sub-query uses no column of the session",)),
        ),
    ),
    "a check of a session within its grace": Case(
        SHOP + "insert into s (id, t0, t1) values (1, now() - interval '1 day', now() - interval '1 day'), "
        "(2, now() - interval '1 minute', now() - interval '1 minute'); insert into r values (1);",
        config(
            'checks: {paid: "exists (select from public.r where sid = s.id)"}',
            limits="sessions_with_gap: {critical: 0}, failed_checks: {critical: 0}",
            more="    grace: 10m\n",
        ),
        (
            Run("check", 0, ("healthy", "failed_checks paid              0 ≤ 0")),
            Run("config check --connect", 0, ("2 sessions analysed: 1 complete, 1 pending, 0 gap",)),
        ),
    ),
    **{
        f"a sub-query: {sql}": Case(
            FIVE + AN_IDEA + "delete from r where sid > 1;",
            config(f'eligible: "{sql}"'),
            (Run("check", 1, ("2 > 0",)), Run("gaps --count", 0, ("2\n",))),
        )
        for sql in (
            "id in (select sid from public.answers)",
            "exists (select 1 from public.answers a where a.sid = s.id)",
            "(select a.n from public.answers a where a.sid = s.id order by a.n desc limit 1) > 0",
        )
    },
    "a check with a sub-query": Case(
        FIVE + AN_IDEA,
        config("checks: {answered: id in (select sid from public.answers)}", limits="failed_checks: {warning: 0}"),
        (Run("check", 1, ("failed_checks answered          2 > 0",)),),
    ),
    "twenty columns of values": Case(
        FIVE
        + "".join(f"alter table r add c{n} text default 'a';" for n in range(20))
        + "update r set c0 = 'b' where sid = 1; update r set c19 = null where sid in (1, 2);",
        config(
            record=f"accepted_values: {{{', '.join(f'c{n}: [a]' for n in range(20))}}}",
            limits="sessions_with_gap: {critical: 0}, invalid_records: {critical: 0}",
        ),
        (Run("check", 1, ("sessions_with_gap               2 > 0", "invalid_records r               2 > 0")),),
    ),
    **{
        f"the parameter {query}": Case(FIVE, config(), same(2, query.partition("=")[0], remedy), query=f"?{query}")
        for query, remedy in {
            "channel_binding=require": "write sslmode=verify-full",
            "pgbouncer=true": "remove it",
            "schema=shop": "write the schema before each table",
            "ssl=true": "write sslmode=require",
        }.items()
    },
    **{
        f"the parameter {query}": Case(FIVE, config(), (Run("check", 0, ("healthy",)),), query=f"?{query}")
        for query in ("connect_timeout=10", "gssencmode=disable", "keepalives=1", "load_balance_hosts=random")
    },
}


def assert_runs(runs: tuple[Run, ...], path: Path, url: str) -> None:
    for one in runs:
        done = run(*one.command.split(), "--config.file", str(path), DATABASE_URL=url)
        said = done.stdout + done.stderr
        assert done.returncode == one.code, (one.command, said)
        assert [word for word in one.words if word not in said] == [], (one.command, said)
        assert [word for word in one.never if word in said] == [], (one.command, said)


@pytest.mark.parametrize("name", CASES)
async def test_it_is_measured_or_refused_with_a_remedy(empty: Database, tmp_path: Path, name: str) -> None:
    case, path = CASES[name], tmp_path / "config.yaml"
    await empty.execute(case.sql)
    path.write_text(case.config, encoding="utf-8")

    assert_runs(case.runs, path, empty.dsn + case.query)


# --- What needs a role, a second host or a list of its own

CASE_BLIND = "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"


async def test_values_of_a_collation_that_ignores_case_are_told_apart(empty: Database, tmp_path: Path) -> None:
    try:
        await empty.execute(CASE_BLIND)
    except asyncpg.PostgresError:
        pytest.skip("the server has no ICU")
    await empty.execute(
        SHOP + "alter table s alter st type text collate ci; alter table r alter ver type text collate ci, "
        "alter kind type text collate ci; insert into s values (1, 'paid'), (2, 'PAID'), (3, 'Paid');"
        "insert into r values (1, 'v2', 'functions'), (2, 'V2', 'FUNCTIONS'), (3, 'v1', 'x')"
    )
    path = tmp_path / "config.yaml"
    path.write_text(config(record="version: {column: ver, current: v2}, accepted_values: {kind: [functions]}"))

    assert_runs((Run("check", 1, ("2 > 0",)), Run("gaps --count", 0, ("2\n",))), path, empty.dsn)


async def reader(database: Database, rights: str) -> str:
    """The url of a role that may read the tables; `rights` are about `ROLE`."""
    name = f"reader_{await database.connection.fetchval('select current_database()')}"
    await database.execute(
        f"create role {name} login password 'pw'; grant select on all tables in schema public to {name}; "
        + rights.replace("ROLE", name)
    )
    return database.dsn.replace(database.dsn.partition("//")[2].partition("@")[0], f"{name}:pw", 1)


@pytest.mark.parametrize(
    ("body", "searched", "words"),
    [
        ("select * from public.s", "", "public.seen switches row_security on"),
        ("select * from s", ", search_path: [public]", "public.seen switches row_security on"),
        ("select * from s", "", "write search_path: [SCHEMA] in the section of the database"),
    ],
)
async def test_rows_that_a_function_hides_are_never_healthy(
    empty: Database, tmp_path: Path, body: str, searched: str, words: str
) -> None:
    owner = f"app_{await empty.connection.fetchval('select current_database()')}"
    await empty.execute(
        SHOP
        + "insert into s select n from generate_series(1, 10) n; insert into r select n from generate_series(1, 5) n;"
        f"create role {owner}; alter table s enable row level security; create policy own on s to {owner} using "
        f"(id <= 5); grant usage, create on schema public to {owner}; grant select on s, r to {owner}; "
        f"set role {owner}; create function seen() returns setof s language sql stable security definer set "
        f"row_security = on as '{body}'; create view v as select * from public.seen(); reset role;"
    )
    path, dsn = tmp_path / "config.yaml", await reader(empty, "")
    path.write_text(config("table: public.v").replace('URL}"', f'URL}}"{searched}'))

    assert_runs((Run("check", 3, ("unknown", words)), Run("gaps", 3, (words,))), path, dsn)
    assert_runs((Run("config check --connect", 3, ("row-level security of", "BYPASSRLS;")),), path, dsn)


async def test_a_time_out_of_the_role_s_transactions_ends_none_of_ours(empty: Database, tmp_path: Path) -> None:
    if empty.connection.get_server_version().major < 17:
        pytest.skip("transaction_timeout is of PostgreSQL 17 and newer")
    await empty.execute(SHOP + "insert into s select n from generate_series(1, 10) n")
    dsn = await reader(empty, "alter role ROLE set transaction_timeout = '300ms'")
    path = tmp_path / "config.yaml"
    path.write_text(config('eligible: "pg_sleep(0.1) is not null"'))

    assert_runs((Run("check", 1, ("10 > 0",)),), path, dsn)


REPLICA = """
create schema aurora; grant usage on schema aurora to ROLE; alter role ROLE set search_path = aurora, pg_catalog;
create function aurora.pg_is_in_recovery() returns boolean language sql as 'select true';
create function aurora.pg_is_wal_replay_paused() returns boolean language sql as 'select false';
""" + "".join(
    f"create function aurora.{name}() returns {kind} language plpgsql as "
    "$$ begin raise exception 'not supported' using errcode = '0A000'; end $$;"
    for name, kind in (
        ("pg_last_wal_replay_lsn", "pg_lsn"),
        ("pg_last_wal_receive_lsn", "pg_lsn"),
        ("pg_last_xact_replay_timestamp", "timestamptz"),
    )
)


async def test_functions_of_the_server_that_another_schema_hides_are_not_asked(empty: Database, tmp_path: Path) -> None:
    await empty.execute(SHOP + "insert into s values (1)")
    path = tmp_path / "config.yaml"
    path.write_text(config())

    assert_runs((Run("check", 1, ("1 > 0",)),), path, await reader(empty, REPLICA))


@contextmanager
def silent_host() -> Iterator[str]:
    """A host that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_a_first_host_that_is_silent_does_not_hide_the_second(empty: Database, tmp_path: Path) -> None:
    await empty.execute(SHOP + "insert into s values (1)")
    path = tmp_path / "config.yaml"
    path.write_text(config())

    with silent_host() as host:
        url = empty.dsn.replace("@", f"@{host},", 1) + "?connect_timeout=1"
        assert_runs((Run("check", 1, ("1 > 0",)),), path, url)


LOOSER = {
    "accepted_values": ("[functions]", "[functions, junk]"),
    "required_when": ("accepted_values", "required_when: 'false', accepted_values"),
    "satisfied_by": ("accepted_values: {kind: [functions]}", "satisfied_by: any_version"),
    "grace": ("    sessions:", "    grace: 30d\n    sessions:"),
    "where": ("accepted_values", "where: 'false', accepted_values"),
    "eligible": ('"true"', '"false"'),
}


@pytest.mark.parametrize("key", LOOSER)
async def test_a_looser_config_proves_no_backfill(empty: Database, tmp_path: Path, key: str) -> None:
    await empty.execute(SHOP + "insert into s values (1), (2); insert into r values (2, 'v2', 'junk')")
    path, listed = tmp_path / "config.yaml", tmp_path / "list"
    strict = config(record="version: {column: ver, current: v2}, accepted_values: {kind: [functions]}")
    path.write_text(strict)
    verify = f"verify {listed}"
    assert_runs(
        (Run(f"gaps --worklist {listed}", 0, ("1 to create, 1 to derive again",)), Run(verify, 1, ("0 of 2",))),
        path,
        empty.dsn,
    )
    old, new = LOOSER[key]
    assert old in strict

    path.write_text(strict.replace(old, new))

    named = "records.r.accepted_values, records.r.satisfied_by" if key == "satisfied_by" else key
    words = (f"{named}; verify with the earlier config", "changed in the config since")
    assert_runs((Run(verify, 1, words),), path, empty.dsn)
