"""Records in another database: `records.*.database`."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from conftest import Database, NewDatabase, Numbers
from test_collect import as_reader, assert_keeps_secrets
from test_lists import assert_explained
from waiting import at_most

from exporter.config.read import ConfigError, parse_config
from exporter.control import control
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.measure.database import connect
from exporter.measure.queries import explained, script
from exporter.measure.rounds import Rounds
from exporter.measure.supervise import initial_status
from exporter.measure.supervise import measure as measured
from exporter.mend.forms import Row
from exporter.mend.gaps import Gap, list_gaps
from exporter.mend.lists import list_members
from exporter.model.sections import CollectionSettings
from exporter.model.sections import Database as Section
from exporter.model.terms import changed_names, terms_of
from exporter.plan.elsewhere import PART
from exporter.plan.plan import Plan, compile_plan
from exporter.present.report.account import report_on
from exporter.present.report.markdown import as_markdown
from exporter.setup.preflight import preflight

CONFIG = """
databases:
  shop: {url: "${DATABASE_URL}"}
  warehouse: {url: "${WAREHOUSE_URL}", connect_timeout: 2s, statement_timeout: 3s}
pipelines:
  orders:
    database: shop
    window: {since: 2025-01-01}
    sessions: {table: orders, key: id, started_at: at, completed_at: at, eligible: paid}
    records:
      parcels:
        database: warehouse
        table: stock.parcels
        session_key: order_id
        created_at: packed_at
        version: {column: format, current: "2", accepted: ["1"]}
        valid: record.weight > 0
        where: not test
        required_when: session.paid
        unique: [order_id, format]
        accepted_values: {size: [s, l]}
      invoices: {table: invoices, session_key: order_id}
"""

SHOP = """
create table orders (id uuid primary key, at timestamptz not null, paid bool not null);
create table invoices (order_id uuid);
insert into orders
select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, '2025-06-01 08:00+00', n <> 10
from generate_series(1, 10) n;
insert into invoices select id from orders;
"""

WAREHOUSE = """
create schema stock;
create table stock.parcels (
  order_id uuid, packed_at timestamp, format int, weight numeric, size text, test bool default false,
  number int generated always as identity primary key
);
insert into stock.parcels
select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, '2025-06-01 09:00', v, w, s, t
from (values
  (1, 2, 1.5, 's', false),        -- whole
  (2, 1, 1, 'l', false),          -- accepted
  (3, 0, 1, 'l', false),          -- outdated
  (4, 2, 0, 'l', false),          -- invalid: no weight
  (5, 2, 1, 'x,"{}\\ NULL', false), -- invalid: size
  (6, 2, 1, 's', true),           -- not measured, so missing
  (7, 2, 1, 's', false), (7, 2, 1, 's', false),
  (99, 2, 1, 's', false),         -- an orphan
  (null, 2, 1, null, false)
) given(n, v, w, s, t);
"""


@pytest.fixture
async def shop(new_database: NewDatabase) -> Database:
    """Ten orders, nine of them paid."""
    found = await new_database(None)
    await found.execute(SHOP)
    return found


@pytest.fixture
async def warehouse(new_database: NewDatabase) -> Database:
    """The parcels of these orders."""
    found = await new_database(None)
    await found.execute(WAREHOUSE)
    return found


def plan(shop: Database, warehouse: Database, text: str = CONFIG) -> Plan:
    config = parse_config(text, {"DATABASE_URL": shop.dsn, "WAREHOUSE_URL": warehouse.dsn})
    [pipeline] = config.pipelines.values()
    return compile_plan(config, pipeline, DIMENSIONS, control())


async def measure(shop: Database, warehouse: Database, text: str = CONFIG) -> Numbers:
    return Numbers(await collect(plan(shop, warehouse, text)))


async def test_the_numbers_are_those_of_one_database(shop: Database, warehouse: Database) -> None:
    apart = await measure(shop, warehouse)
    await shop.execute(WAREHOUSE)
    together = await measure(shop, shop, CONFIG.replace("        database: warehouse\n", ""))

    assert not apart.snapshot.record_faults
    assert apart.positive("gap_sessions") == {
        ("parcels", "missing"): 3,
        ("parcels", "outdated"): 1,
        ("parcels", "invalid"): 2,
    }
    assert apart("orphaned_records", "parcels") == apart("duplicate_records", "parcels") == 1
    # What people read about the record is what they wrote.
    told = apart.snapshot.readings.pipeline.records["parcels"]
    assert (told.table.sql, told.where) == ('"stock"."parcels"', "not test")
    of_one = {key: value for key, value in together.snapshot.readings.numbers.items() if key[0] not in _OF_CATALOG}
    of_both = {key: value for key, value in apart.snapshot.readings.numbers.items() if key[0] not in _OF_CATALOG}
    assert of_both == of_one


_OF_CATALOG = ("foreign_key_enforced",)
"""What no constraint says across databases."""


async def test_rows_in_many_parts_are_all_counted(shop: Database, warehouse: Database) -> None:
    await shop.execute(
        f"insert into orders select gen_random_uuid(), '2025-06-01', true from generate_series(1, {PART})"
    )
    await warehouse.execute("truncate stock.parcels")
    rows = await shop.connection.fetch("select id from orders where at < '2025-06-01 01:00+00'")
    await warehouse.connection.executemany(
        "insert into stock.parcels values ($1, '2025-06-02', 2, 1, 's')", [(row[0],) for row in rows] * 2
    )

    found = await measure(shop, warehouse)

    assert found("records", "parcels", "2", "current") == 2 * PART
    assert found("record_sessions", "parcels", "current") == PART


async def test_an_empty_table_of_another_database_is_all_missing(shop: Database, warehouse: Database) -> None:
    await warehouse.execute("truncate stock.parcels")

    found = await measure(shop, warehouse)

    assert found.positive("gap_sessions") == {("parcels", "missing"): 9}


ALL = ("grant usage on schema stock to {role}", "grant select on stock.parcels to {role}")

FAULTS = {
    "a server that is gone": ("", "connect", "connection refused"),
    "a missing table": ("drop table stock.parcels", "missing_object", 'relation "stock.parcels" does not exist'),
    "a missing column": ("alter table stock.parcels drop column format", "missing_object", "column parcels.format"),
    "a column of a condition": ("alter table stock.parcels drop column weight", "missing_object", "weight"),
    "a computed type": (
        "create extension citext; alter table stock.parcels alter size type citext",
        "type",
        "write computed: {size_text: size::text}, and size_text in place of size",
    ),
    "a key of another type": (
        "alter table stock.parcels alter order_id type text",
        "type",
        "write {column: order_id, cast: uuid}",
    ),
    "no grant": ("", "permission", "GRANT SELECT"),
    "a policy": (
        "alter table stock.parcels enable row level security; create policy p on stock.parcels using (false)",
        "row_security",
        'CREATE VIEW "stock"."every_parcels" AS SELECT * FROM "stock"."parcels"; GRANT SELECT ON "stock"."every_',
    ),
    "a slow view": (
        "alter table stock.parcels rename to slow; grant select on stock.slow to public; create view stock.parcels as "  # noqa: ISC004
        "select s.* from stock.slow s, pg_sleep(9); grant select on stock.parcels to public",
        "statement_timeout",
        "leave out old rows with where, or raise statement_timeout",
    ),
    "a lock": ("", "lock_timeout", "holds an exclusive lock"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_the_other_database_is_one_of_the_record(
    shop: Database, warehouse: Database, fault: str
) -> None:
    sql, reason, said = FAULTS[fault]
    inner = {"a column of a condition": ".valid: database warehouse", "a policy": ".where: database warehouse"}
    inside = inner.get(fault, ".session_key" if "key" in fault else ": database warehouse")
    there = await as_reader(warehouse, *(ALL[:1] if fault == "no grant" else ALL))
    if sql:
        await warehouse.execute(sql)
    if fault == "a server that is gone":
        there = replace(warehouse, dsn="postgresql://nowhere@127.0.0.1:1/nothing")
    async with warehouse.connection.transaction():
        if fault == "a lock":
            await warehouse.execute("lock table stock.parcels")
        found = await measure(shop, there)

    assert {name: one.reason for name, one in found.snapshot.record_faults.items()} == {"parcels": reason}
    assert f"records.parcels{inside}: " in found.snapshot.record_faults["parcels"].message
    assert said in found.snapshot.record_faults["parcels"].message
    assert_keeps_secrets(found.snapshot.record_faults["parcels"], there.dsn)
    # Everything of the other record is measured, and no total that needs both.
    assert found("record_sessions", "invoices", "current") == 9
    assert found("eligible_sessions", "gap") is None
    assert not any("parcels" in key for key in found.snapshot.readings.numbers)


async def test_a_row_that_is_written_between_the_two_looks_is_not_missing(
    shop: Database, warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order is completed, and its parcel written, after the warehouse was read and before the orders are."""
    order = "00000000-0000-0000-0000-000000000050"

    @asynccontextmanager
    async def later(section: Section) -> AsyncIterator[asyncpg.Connection]:
        if section == apart.database:
            await shop.execute(f"insert into orders values ('{order}', clock_timestamp(), true)")
            await warehouse.execute(f"insert into stock.parcels values ('{order}', now(), 2, 1, 's')")
            await shop.execute(f"insert into invoices values ('{order}')")
        async with connect(section) as connection:
            yield connection

    apart = plan(shop, warehouse)
    monkeypatch.setattr("exporter.measure.elsewhere.connect", later)

    found = Numbers(await collect(apart))

    assert found("record_sessions", "parcels", "pending") == 1
    assert found("gap_sessions", "parcels", "missing") == 3
    assert found("orphaned_records", "parcels") == 1
    assert found.snapshot.elsewhere["parcels"].database == "warehouse"
    assert 0 < found.snapshot.elsewhere["parcels"].seconds < at_most(5)


async def test_gaps_and_lists_are_those_of_the_numbers(shop: Database, warehouse: Database) -> None:
    apart = plan(shop, warehouse)
    snapshot = await collect(apart)

    explained = await assert_explained(apart, snapshot)
    found: list[Gap] = []
    listing = await list_gaps(apart, found.append)

    assert any(explained.values())
    assert listing.count == len(found) == 6
    assert {gap.session[0][-2:]: dict(gap.reasons) for gap in found if gap.session[0]} == {
        "03": {"parcels": "outdated"},
        "04": {"parcels": "invalid"},
        "05": {"parcels": "invalid"},
        "06": {"parcels": "missing"},
        "08": {"parcels": "missing"},
        "09": {"parcels": "missing"},
    }


async def test_a_backfill_of_the_other_database_is_verified(
    shop: Database, warehouse: Database, new_database: NewDatabase, tmp_path: Path
) -> None:
    config, worklist = tmp_path / "config.yaml", tmp_path / "worklist"
    config.write_text(CONFIG)
    urls = {"DATABASE_URL": shop.dsn, "WAREHOUSE_URL": warehouse.dsn}

    def run(*arguments: str) -> int:
        command = [sys.executable, "-m", "exporter", *arguments, "--config.file", str(config)]
        return subprocess.run(command, env={**os.environ, **urls}, timeout=at_most(20), check=False).returncode

    made = await asyncio.to_thread(run, "gaps", "--worklist", str(worklist))
    before = await asyncio.to_thread(run, "verify", str(worklist))
    await warehouse.execute(
        "delete from stock.parcels where format = 0 or weight = 0 or size like 'x%' or test; "
        "insert into stock.parcels select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, now(), 2, 1, "
        "'s' from generate_series(3, 9) n where n <> 7"
    )
    after = await asyncio.to_thread(run, "verify", str(worklist))
    urls["WAREHOUSE_URL"] = (await copy_of(new_database, warehouse)).dsn
    of_a_copy = await asyncio.to_thread(run, "verify", str(worklist))

    # A copy proves nothing about the warehouse.
    assert (made, before, after, of_a_copy) == (0, 1, 0, 2)


async def copy_of(new_database: NewDatabase, warehouse: Database) -> Database:
    """Another database with the same rows."""
    found = await new_database(None)
    await found.execute(WAREHOUSE + "truncate stock.parcels")
    rows = await warehouse.connection.fetch("select order_id, packed_at, format, weight, size, test from stock.parcels")
    await found.connection.executemany("insert into stock.parcels values ($1, $2, $3, $4, $5, $6)", [*map(tuple, rows)])
    return found


async def test_a_list_names_the_rows_by_the_primary_key_of_the_other_database(
    shop: Database, warehouse: Database
) -> None:
    found: list[Row] = []

    await list_members(plan(shop, warehouse), "unlinked_records", ["parcels"], found.append)

    number = await warehouse.connection.fetchval("select number::text from stock.parcels where order_id is null")
    assert [(row["session"], row["row"]) for row in found] == [(None, number)]


PROBLEMS = {
    "database: warhouse": "is not a database of this file; did you mean warehouse?",
    "database: shop": "is the database of the pipeline: remove the key",
    "database: 5": "must be text",
}


@pytest.mark.parametrize("line", PROBLEMS)
def test_a_wrong_name_is_a_problem_of_the_config(line: str) -> None:
    text = CONFIG.replace("        database: warehouse\n", f"        {line}\n")

    with pytest.raises(ConfigError) as error:
        parse_config(text, {"DATABASE_URL": "postgresql://a", "WAREHOUSE_URL": "postgresql://b"})

    assert PROBLEMS[line] in str(error.value)
    assert "pipelines.orders.records.parcels.database" in str(error.value)


def test_a_condition_has_no_database() -> None:
    text = CONFIG.replace("{table: invoices, session_key: order_id}", "{exists: paid, database: warehouse}")

    with pytest.raises(ConfigError, match="is about rows of a table"):
        parse_config(text, {"DATABASE_URL": "postgresql://a", "WAREHOUSE_URL": "postgresql://b"})


SETTINGS = {
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "datestyle": "'SQL, DMY'",
    "timezone": "'Asia/Kolkata'",
    "extra_float_digits": "0",
    "search_path": "nowhere",
    "default_transaction_isolation": "'read committed'",
    "client_encoding": "latin1",
}


@pytest.mark.parametrize("setting", SETTINGS)
async def test_a_setting_of_either_database_changes_no_number(
    shop: Database, warehouse: Database, setting: str
) -> None:
    text = CONFIG.replace("table: orders", "table: public.orders").replace("table: inv", "table: public.inv")
    before = await measure(shop, warehouse, text)
    for database in (shop, warehouse):
        await database.set(setting, SETTINGS[setting])

    after = await measure(shop, warehouse, text)

    assert not after.snapshot.record_faults
    assert after.snapshot.readings.numbers == before.snapshot.readings.numbers


KINDS = {
    "uuid": "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
    "bigint": "9007199254740993",
    "smallint": "-1",
    "numeric": "1.50",
    "double precision": "0.1",
    "text": "E'a''\\\\\"{},NULL \\n\u00e4'",
    'text collate "C"': "'a'",
    "varchar(20)": "'null'",
    "char(20)": "'a  '",
    "name": "'a'",
    "bytea": "'\\x00ff'",
    "inet": "'10.0.0.1/8'",
    "date": "'infinity'",
    "timestamp": "'2025-01-01 00:00:00.123456'",
    "timestamptz": "'4713-01-01 00:00 BC'",
    "boolean": "true",
    "oid": "4294967295",
    "interval": "'1 mon 30 days'",
    "jsonb": """'{"a": 1}'""",
    "int4range": "'[1,5)'",
    "bit(4)": "'1010'",
    "money": "'1.00'",
    "mood": "'so, so'",
    "folded": "'Case'",
    "citext": "'Case'",
}
CAST = re.compile(r"write (\{column: \w+, cast: .+?\})")


@pytest.mark.parametrize("kind", KINDS)
async def test_keys_of_each_type_meet_or_are_refused_with_the_cast_to_write(
    new_database: NewDatabase, kind: str
) -> None:
    """Two sessions, one with a row; a session key of the same type in two databases."""
    here, there = await new_database(None), await new_database(None)
    for database in (here, there):
        await database.execute(
            "create extension citext; create type mood as enum ('so, so'); create domain folded as varchar(9)"
        )
    await here.execute(f"create table s (id {kind}, n int); insert into s values ({KINDS[kind]}, 1), (null, 2)")
    await there.execute(f"create table r (of_id {kind}); insert into r values ({KINDS[kind]}), (null)")
    text = """
databases: {shop: {url: "${DATABASE_URL}"}, warehouse: {url: "${WAREHOUSE_URL}"}}
pipelines:
  it:
    database: shop
    window: {last: 1d}
    sessions: {table: s, key: id, computed: {at: now() - interval '1h'}, started_at: at, eligible: "true"}
    records: {r: {database: warehouse, table: r, session_key: of_id}}
"""

    found = await measure(here, there, text)
    while fault := found.snapshot.record_faults.get("r"):
        assert fault.reason == "type"
        if "write computed" in fault.message:
            changed = text.replace("session_key: of_id", "computed: {of_id_text: of_id::text}, session_key: of_id_text")
        else:
            cast = CAST.search(fault.message)
            assert cast, fault.message
            changed = re.sub(r"session_key: \w+", f"session_key: {cast[1]}", text)
        assert changed != text, fault.message
        text = changed
        found = await measure(here, there, text)

    assert found.positive("record_sessions") == {("r", "current"): 1, ("r", "missing"): 1}
    assert found("orphaned_records", "r") == 0
    assert found("unlinked_records", "r") == 1


async def test_too_many_rows_are_refused_before_they_fill_the_memory(
    shop: Database, warehouse: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("plan", "measure"):
        monkeypatch.setattr(f"exporter.{module}.elsewhere.MOST", 8)

    found = await measure(shop, warehouse)
    enough = await measure(
        shop, warehouse, CONFIG.replace("where: not test", "where: order_id is not null and not test")
    )

    assert "more than 8 rows in another database: write where" in found.snapshot.record_faults["parcels"].message
    assert not enough.snapshot.record_faults


async def test_hidden_rows_of_the_other_database_are_told(shop: Database, warehouse: Database) -> None:
    there = await as_reader(warehouse, *ALL)
    await warehouse.execute(
        "alter table stock.parcels enable row level security; create policy p on stock.parcels using (format <> 0)"
    )
    text = CONFIG.replace("connect_timeout: 2s", "row_security: allow")

    found = await measure(shop, there, text)

    assert found.snapshot.restricted == ("stock.parcels of warehouse",)
    assert found.positive("gap_sessions")["parcels", "missing"] == 4


async def test_a_pipeline_with_rows_elsewhere_is_never_cut_into_slices(
    shop: Database, warehouse: Database, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = Rounds(CollectionSettings(mode="tiered"))
    text = CONFIG.replace('_URL}"', '_URL}", allow_superuser: true')

    found = [await rounds(plan(shop, warehouse, text)) for _ in range(2)]

    assert [(one.swept, one.record_faults) for one in found] == [(None, {})] * 2
    [told] = [record for record in caplog.records if record.message == "collection.full"]
    assert "mode: tiered does not apply" in vars(told)["why"]


async def test_the_report_tells_which_rows_are_of_another_database_and_how_old(
    shop: Database, warehouse: Database
) -> None:
    of_both = plan(shop, warehouse)
    status = initial_status(of_both, max_age=300).after(await measured(of_both, collect), now=0.0)

    lines = as_markdown(report_on([status], DIMENSIONS, status.last.ended_at if status.last else 0)).splitlines()

    [title] = [line for line in lines if line.startswith("**parcels")]
    assert re.fullmatch(r"\*\*parcels, in the database warehouse, read \S+s before the sessions\*\*", title)
    about = [line for line in lines[lines.index(title) : lines.index("**invoices**")] if line.startswith("- ")]
    assert len(about) > 10
    assert all("rows of another database" in line for line in about if "**0" not in line), about


async def test_the_printed_statements_are_those_of_both_databases(shop: Database, warehouse: Database) -> None:
    printed = script([plan(shop, warehouse)])
    explained_ones = await explained(plan(shop, warehouse))

    there, _, here = printed.partition("-- orders: before\n")
    assert "(database warehouse)" in there
    assert 'from "stock"."parcels"' in there
    assert '"stock"."parcels"' not in here
    assert "-- $2 = 'the values of order_id'" in here
    assert re.search(r"Function Scan on (unnest )?carried", explained_ones)


async def test_the_check_of_the_config_looks_into_the_other_database(shop: Database, warehouse: Database) -> None:
    wrong = CONFIG.replace("column: format", "column: fromat").replace("record.weight", "record.wait")
    text = {"DATABASE_URL": shop.dsn, "WAREHOUSE_URL": warehouse.dsn}

    found = [f for group in await preflight(parse_config(wrong, text)) for f in group.findings if f.severity == "error"]

    assert {finding.path.removeprefix("pipelines.orders.records.parcels.") for finding in found} == {
        "version.column",
        "valid",
    }
    [column] = [finding for finding in found if finding.path.endswith("version.column")]
    assert "did you mean format?" in column.message
    whole = [f for group in await preflight(parse_config(CONFIG, text)) for f in group.findings]
    assert not [finding for finding in whole if finding.severity == "error"]
    assert ("ok", "pipelines.orders.records.parcels.table") in {(f.severity, f.path) for f in whole}


async def test_rows_of_strangers_alone_are_orphans_and_no_crash_of_the_check(
    shop: Database, warehouse: Database
) -> None:
    await warehouse.execute("update stock.parcels set order_id = gen_random_uuid() where order_id is not null")
    config = parse_config(CONFIG, {"DATABASE_URL": shop.dsn, "WAREHOUSE_URL": warehouse.dsn})

    found = [finding for group in await preflight(config) for finding in group.findings]

    assert [f.message for f in found if f.path == "pipelines.orders.records.parcels"] == [
        "sessions by state: 9 missing"
    ]


async def test_a_text_that_the_other_server_cannot_hold_is_a_fault_of_the_record(
    server: EmbeddedPostgres, warehouse: Database
) -> None:
    admin = await asyncpg.connect(server.dsn())
    await admin.execute("create database latin encoding 'LATIN1' locale 'C' template template0")
    connection = await asyncpg.connect(server.dsn("latin"))
    await connection.execute(SHOP)
    shop = Database(server.dsn("latin"), connection)
    await warehouse.execute("update stock.parcels set size = '\u4e2d' where format = 0")

    found = await measure(shop, warehouse)

    await connection.close()
    await admin.execute("drop database latin")
    await admin.close()
    assert found.snapshot.record_faults.keys() == {"parcels"}
    assert "a text of the database warehouse has a character outside" in found.snapshot.record_faults["parcels"].message
    assert found("record_sessions", "invoices", "current") == 9


async def test_a_key_that_cannot_be_cast_is_told_with_the_cast_that_can(shop: Database, warehouse: Database) -> None:
    await warehouse.execute(
        "alter table stock.parcels alter order_id type text; insert into stock.parcels values ('x')"
    )
    text = CONFIG.replace("session_key: order_id\n", "session_key: {column: order_id, cast: uuid}\n", 1)

    found = await measure(shop, warehouse, text)
    as_text = await measure(shop, warehouse, text.replace("cast: uuid", "cast: text"))

    message = found.snapshot.record_faults["parcels"].message
    assert "a text does not fit the type of a key (cast: uuid of order_id): write cast: text" in message
    assert as_text("orphaned_records", "parcels") == 2
    assert as_text.positive("gap_sessions")["parcels", "missing"] == 3


async def test_the_remedies_are_for_the_database_with_the_rows(shop: Database, warehouse: Database) -> None:
    text = f"{CONFIG}    limits: {{orphaned_records: {{warning: 0}}, unlinked_records: {{warning: 0}}}}\n"
    text = text.replace("        where: not test\n", "")
    of_both = plan(shop, warehouse, text)
    status = initial_status(of_both, max_age=300).after(await measured(of_both, collect), now=0.0)

    report = as_markdown(report_on([status], DIMENSIONS, status.last.ended_at if status.last else 0))

    assert "Restore the sessions or delete the rows." in report
    assert "foreign key" not in report
    assert 'in the database warehouse: `alter table "stock"."parcels" alter column "order_id" set not null;`' in report


async def test_the_check_names_the_role_of_the_database_with_the_rows(shop: Database, warehouse: Database) -> None:
    there = await as_reader(warehouse, ALL[0])
    here = await as_reader(shop, "grant select on all tables in schema public to {role}")
    config = parse_config(CONFIG, {"DATABASE_URL": here.dsn, "WAREHOUSE_URL": there.dsn})

    remedies = " ".join(
        finding.remedy or finding.message for group in await preflight(config) for finding in group.findings
    )

    assert f'GRANT SELECT ON "stock"."parcels" TO "{urlsplit(there.dsn).username}"' in remedies
    assert f'"{urlsplit(here.dsn).username}"' not in remedies


TWO = CONFIG.replace(
    "      invoices: {table: invoices, session_key: order_id}\n",
    "      bills: {database: billing, table: bills, session_key: order_id}\n"
    "      invoices: {table: invoices, session_key: order_id}\n",
).replace("pipelines:", '  billing: {url: "${BILLING_URL}"}\npipelines:', 1)


async def test_a_worklist_and_a_baseline_are_bound_to_each_database_by_itself(
    shop: Database, warehouse: Database, new_database: NewDatabase, tmp_path: Path
) -> None:
    billing = await new_database(None)
    await billing.execute("create table bills (order_id uuid)")
    bills = "      bills: {database: billing, table: bills, session_key: order_id}\n"
    turned = TWO.replace(bills, "").replace("    records:\n", f"    records:\n{bills}")
    urls = {"DATABASE_URL": shop.dsn, "WAREHOUSE_URL": warehouse.dsn, "BILLING_URL": billing.dsn}
    worklist, before = tmp_path / "worklist", tmp_path / "before.json"

    def run(text: str, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "config.yaml").write_text(text)
        command = [sys.executable, "-m", "exporter", *arguments, "--config.file", str(tmp_path / "config.yaml")]
        environ = {**os.environ, **urls, **changed}
        return subprocess.run(command, env=environ, timeout=at_most(20), check=False, capture_output=True, text=True)

    async def of(text: str, *arguments: str, **changed: str) -> tuple[int, str]:
        done = await asyncio.to_thread(lambda: run(text, *arguments, **changed))
        return done.returncode, done.stderr

    copy = (await copy_of(new_database, warehouse)).dsn
    await of(TWO, "gaps", "--worklist", str(worklist))
    await of(TWO, "report", "--format", "json", "--output", str(before))
    gone = "postgresql://nowhere@127.0.0.1:1/nothing"

    assert (await of(turned, "verify", str(worklist)))[0] == 1
    assert (await of(turned, "report", "--baseline", str(before)))[1] == ""
    for arguments in (("verify", str(worklist)), ("report", "--baseline", str(before))):
        code, said = await of(TWO, *arguments, WAREHOUSE_URL=copy)
        assert (code, "from another database than warehouse" in said) == (2, True), said
    # A database that is gone tells nothing; the others are still compared.
    code, said = await of(TWO, "report", "--baseline", str(before), BILLING_URL=gone, WAREHOUSE_URL=copy)
    assert (code, "from another database than warehouse" in said) == (2, True), said


def test_a_changed_section_of_the_other_database_is_a_changed_config() -> None:
    def terms(schema: str) -> dict[str, str]:
        text = CONFIG.replace("connect_timeout: 2s", f"search_path: [{schema}]")
        config = parse_config(text, {"DATABASE_URL": "postgresql://a", "WAREHOUSE_URL": "postgresql://b"})
        made = compile_plan(config, config.pipelines["orders"], DIMENSIONS)
        return terms_of(made.pipeline, made.sections)

    assert changed_names(terms("stock"), terms("other")) == ("databases.warehouse.search_path",)


async def test_a_key_of_a_row_that_is_only_shown_may_be_of_any_type(shop: Database, warehouse: Database) -> None:
    await warehouse.execute(
        "create extension citext; alter table stock.parcels drop number, add code citext; "
        "update stock.parcels set code = 'C' || ctid::text; alter table stock.parcels add primary key (code)"
    )
    found: list[Row] = []

    await list_members(plan(shop, warehouse), "unlinked_records", ["parcels"], found.append)

    assert [str(row["row"])[:2] for row in found] == ["C("]


async def test_a_database_that_is_not_reached_is_one_error_of_the_check(shop: Database) -> None:
    urls = {"DATABASE_URL": shop.dsn, "WAREHOUSE_URL": "postgresql://nowhere@127.0.0.1:1/nothing"}

    found = [finding for group in await preflight(parse_config(CONFIG, urls)) for finding in group.findings]

    assert [finding.path for finding in found if finding.severity == "error"] == ["databases.warehouse"]
    assert "not measured: see the database warehouse" in {finding.message for finding in found}
