"""The role that scripts/least-privilege.sql makes: the exporter works with its rights, and they allow nothing else."""

import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from conftest import Database
from processes import run
from waiting import START_SECONDS, at_most

from exporter.embedded import find_binaries

SCRIPT = Path(__file__).parents[2] / "scripts" / "least-privilege.sql"
TABLES = """
create schema "App"; create schema hr; create table hr.salaries (id int); create table "App"."pri vate" (id int);
create table "App".orders (id int primary key, status text, at timestamptz default now() - interval '1 day');
create table "App"."In voices" (order_id int);
insert into "App".orders select n, 'paid' from generate_series(1, 5) n; insert into "App"."In voices" values (1), (2);
create sequence "App".numbers; grant usage on schema hr to public;
create function "App".wipe() returns int language sql as 'delete from "App".orders returning 1';
"""
CONFIG = """
database: {url: "${DATABASE_URL}"}
pipelines:
  shop:
    window: {last: 30d}
    sessions: {table: '"App".orders', key: id, status: status, started_at: at, completed_at: at, eligible: "true"}
    records: {invoices: {table: '"App"."In voices"', session_key: order_id}}
    limits: {sessions_with_gap: {critical: 0}}
"""
DENIED = [
    "insert into \"App\".orders values (9, 'x')",
    "update \"App\".orders set status = 'x'",
    'delete from "App".orders',
    'truncate "App".orders',
    'select * from "App".orders for update',
    'do $$ begin lock "App".orders in exclusive mode; end $$',
    'alter table "App".orders add x int',
    'drop table "App".orders',
    'create index on "App".orders (status)',
    'create table "App".mine (id int)',
    "create temporary table mine (id int)",
    "create schema mine",
    "create role mine",
    "create function \"App\".mine() returns int language sql as 'select 1'",
    "select nextval('\"App\".numbers')",
    'select "App".wipe()',
    "select * from hr.salaries",
    'select * from "App"."pri vate"',
    "set role OWNER",
    "alter system set work_mem = '1GB'",
    "copy (select 1) to program 'true'",
    "select pg_read_file('/etc/passwd')",
    "alter role ROLE superuser",
    "alter role ROLE bypassrls",
    "select pg_terminate_backend(pid) from pg_stat_activity where usename <> current_user",
]
"""What the role may not do, though it may switch its own default to read and write."""


@dataclass(frozen=True)
class Shop:
    """A database, and the role of the exporter."""

    database: Database
    role: str
    config: Path

    @property
    def dsn(self) -> str:
        """The URL of the role."""
        parts = urlsplit(self.database.dsn)
        return urlunsplit(parts._replace(netloc=f"{self.role}:secret@{parts.netloc.rpartition('@')[2]}"))

    def grant(self, tables: str = "orders,In voices", **variables: str) -> str:
        """Run the script, as an operator does; the list of further rights."""
        named = os.environ.get("SESSION_HEALTH_POSTGRES_BIN")
        directory = find_binaries(Path(named) if named else None).directory
        settings = {"role": self.role, "schema": "App", "tables": tables, **variables}
        done = subprocess.run(
            [
                *(str(directory / "psql"), "-X", "-A", "-t", "-q", "-f", str(SCRIPT), self.database.dsn),
                *(word for name, value in settings.items() for word in ("-v", f"{name}={value}")),
            ],
            capture_output=True,
            text=True,
            timeout=at_most(START_SECONDS),
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def check(self) -> int:
        """The exit code of `check` by the role: 1 for the gaps, 3 without a measurement."""
        done = run("check", "--config.file", str(self.config), DATABASE_URL=self.dsn)
        assert done.returncode != 1 or "sessions_with_gap               3 > 0" in done.stdout
        return done.returncode


@pytest.fixture
async def shop(empty: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    await empty.execute(TABLES)
    role = f"Reader {os.getpid()}"
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    found = Shop(empty, role.replace(" ", "_"), config)
    yield found
    await empty.execute(f'drop owned by "{found.role}"; drop role "{found.role}"')


async def with_password(shop: Shop) -> None:
    await shop.database.execute(f"alter role \"{shop.role}\" password 'secret'")


async def test_the_exporter_works_with_these_rights_and_they_allow_nothing_else(shop: Shop) -> None:
    assert shop.grant(public="revoke") == ""
    assert shop.grant(public="revoke") == ""
    await with_password(shop)

    assert shop.check() == 1
    found = run("config", "check", "--connect", "--config.file", str(shop.config), DATABASE_URL=shop.dsn)
    assert found.returncode == 0, found.stdout
    connection = await asyncpg.connect(shop.dsn)
    try:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("create table mine (id int)")
        await connection.execute("set default_transaction_read_only = off")
        owner = f'"{urlsplit(shop.database.dsn).username}"'
        for statement in DENIED:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement.replace("ROLE", f'"{shop.role}"').replace("OWNER", owner))
    finally:
        await connection.close()
    assert await shop.database.connection.fetchval('select count(*) from "App".orders') == 5


@pytest.mark.parametrize(
    "right",
    [
        'usage on schema "App"',
        'select on "App".orders',
        'select on "App"."In voices"',
    ],
)
async def test_the_exporter_needs_each_right(shop: Shop, right: str) -> None:
    shop.grant()
    await with_password(shop)
    assert shop.check() == 1

    await shop.database.execute(f'revoke {right} from "{shop.role}"')

    assert shop.check() == 3


async def test_row_security_needs_bypassrls_or_a_view_of_the_owner(shop: Shop) -> None:
    await shop.database.execute(
        'alter table "App".orders enable row level security; create policy p on "App".orders using (id < 3);'
        'create view "App".every_order as select * from "App".orders'
    )
    shop.grant()
    await with_password(shop)
    assert shop.check() == 3

    shop.config.write_text(CONFIG.replace('"App".orders', '"App".every_order'))
    shop.grant("every_order,In voices")
    assert shop.check() == 1

    shop.config.write_text(CONFIG)
    assert shop.grant(row_security="bypass", public="revoke") == ""
    assert shop.check() == 1


async def test_a_shorter_list_takes_a_right_back_and_further_rights_are_listed(shop: Shop) -> None:
    shop.grant()
    await shop.database.execute(
        'grant insert on hr.salaries to public; grant create on schema "App" to public;'
        "create function \"App\".power() returns int language sql security definer as 'select 1'"
    )

    told = shop.grant("orders").splitlines()

    assert told[:4] == [
        'creates in a schema|"App"',
        f"creates temporary tables: see -v public=revoke|{shop.database.dsn.rpartition('/')[2]}",
        'runs a function with the rights of its owner|"App".power()',
        "writes a table|hr.salaries",
    ]
    reads = "select has_table_privilege($1, '\"App\".\"In voices\"', 'SELECT')"
    assert await shop.database.connection.fetchval(reads, shop.role) is False
