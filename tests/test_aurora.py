"""A reader of Aurora: in recovery, without the functions of streaming replication, with functions of its own.

Simulated in the catalog of one database; nobody has tried it on Aurora.
https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora_replica_status.html
"""

import pytest
from conftest import Database, of_orders

from exporter.model.fault import CollectionError
from exporter.setup.preflight import preflight

CONFIG = of_orders(database="max_replica_lag: 1m", scores="")
TABLES = """
create table orders (id int primary key, status text, at timestamptz default '2025-05-01');
create table scores (order_id int);
insert into orders values (1, 'paid'), (2, 'paid'); insert into scores values (1);
"""
REFUSED = {
    "pg_is_wal_replay_paused": "boolean",
    "pg_last_wal_replay_lsn": "pg_lsn",
    "pg_last_wal_receive_lsn": "pg_lsn",
    "pg_last_xact_replay_timestamp": "timestamptz",
}


@pytest.fixture
async def reader(empty: Database) -> Database:
    await empty.execute(TABLES)
    await empty.execute("set allow_system_table_mods = on")
    for name, returns in {"pg_is_in_recovery": "boolean", **REFUSED}.items():
        body = "begin return true; end" if name not in REFUSED else REFUSAL.format(name)
        await empty.execute(
            f"alter function pg_catalog.{name}() rename to real_{name}; "
            f"create function pg_catalog.{name}() returns {returns} language plpgsql as $$ {body} $$"
        )
    return empty


REFUSAL = "begin raise exception 'Function {}() is currently not supported for Aurora' using errcode = '0A000'; end"


async def behind(database: Database, milliseconds: int, server: str = "reader-1") -> None:
    await database.execute(
        f"""
        create function pg_catalog.aurora_db_instance_identifier() returns text language sql as $$ select 'reader-1' $$;
        create function pg_catalog.aurora_replica_status(out server_id text, out replica_lag_in_msec double precision)
        returns setof record language sql as $$ values ('writer', 0.0::float8), ('{server}', {milliseconds}::float8) $$
        """
    )


async def test_a_reader_of_aurora_is_measured_as_of_its_own_lag(reader: Database) -> None:
    await behind(reader, 20_000)

    numbers = await reader.measure(CONFIG)

    assert numbers.positive("eligible_sessions") == {("complete",): 1, ("gap",): 1}
    assert 19 < (numbers.snapshot.replica_lag or 0) < 30


async def test_one_that_is_too_far_behind_is_not_measured(reader: Database) -> None:
    await behind(reader, 90_000)

    with pytest.raises(CollectionError, match="more than max_replica_lag") as error:
        await reader.measure(CONFIG)

    assert error.value.fault.reason == "replica_lag"


@pytest.mark.parametrize("told", ["nothing", "of others alone"])
async def test_one_that_does_not_tell_is_refused_with_what_to_do(reader: Database, told: str) -> None:
    if told == "of others alone":
        await behind(reader, 5, server="reader-2")

    with pytest.raises(CollectionError) as error:
        await reader.measure(CONFIG)
    checked = await preflight(reader.config(CONFIG))

    assert error.value.fault.reason == "replica_lag"
    assert "SQL in the config" not in error.value.fault.message
    if told == "nothing":
        assert "connect to the writer" in error.value.fault.message
        assert any("connect to the writer" in f.message for group in checked for f in group.findings)
