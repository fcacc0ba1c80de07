"""Behind PgBouncer: a collection needs nothing of a session, and leaves nothing in one."""

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import test_collect
import test_gaps
import test_scenarios
from conftest import TOUR, Database, NewDatabase
from servers import MAJORS, chosen, name_of
from test_collect import as_reader, refused
from test_matrix import GRANT, SLOW, with_password, with_valid
from tools import find_tool
from waiting import at_most

from exporter.embedded import EmbeddedPostgres

pytest_plugins = ["majors"]
pytestmark = pytest.mark.parametrize(
    "major", chosen((min(MAJORS), max(MAJORS))) or chosen(MAJORS), indirect=True, ids=name_of, scope="session"
)
"""Which version is behind it is all the same to PgBouncer: the oldest and the newest will do."""

# Made here once more, through the pooler: the fixtures are this module's.
for claim in (
    test_collect.test_a_dropped_table_takes_only_its_own_numbers_and_they_come_back,
    test_collect.test_a_revoked_privilege_is_named_with_its_remedy,
    test_collect.test_a_policy_on_a_record_is_an_error_and_never_a_smaller_number,
    test_collect.test_a_locked_record_is_lost_alone_and_soon,
    test_collect.test_the_transaction_is_guarded,
    test_scenarios.test_the_healthy_scenario_has_157_complete_sessions_and_no_gap,
    test_scenarios.test_the_backfill_scenario_has_39_13_and_39,
    test_gaps.test_the_backfill_scenario_lists_39_sessions_for_13_28_and_11_reasons,
):
    globals()[claim.__name__] = claim
del claim

CONFIG = TOUR.read_text()


@pytest.fixture(scope="session")
def server(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    return postgres


@pytest.fixture(scope="session")
def templates(postgres_templates: dict[str, str]) -> dict[str, str]:
    return postgres_templates


@dataclass(frozen=True)
class Pooler:
    """A PgBouncer in front of the server, with its default settings but for these: a pool of two, and its mode."""

    port: int

    def of(self, database: Database) -> Database:
        """The same database by way of the pooler; its superuser's connection stays direct."""
        parts = urlsplit(database.dsn)
        credentials = parts.netloc.rpartition("@")[0]
        return Database(parts._replace(netloc=f"{credentials}@127.0.0.1:{self.port}").geturl(), database.connection)


NewPooler = Callable[..., AbstractContextManager[Pooler]]


@pytest.fixture
def new_pooler(server: EmbeddedPostgres) -> NewPooler:
    """Starts one in a pool mode, with other settings if need be."""
    program = find_tool("pgbouncer")

    @contextmanager
    def start(mode: str, *settings: str) -> Iterator[Pooler]:
        # Among the server's folders, which are removed whatever happens, as its user, for root may not run it either.
        owner = server.data_directory.stat()
        folder = Path(tempfile.mkdtemp(prefix="pooler", dir=server.run_directory))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            pooler = Pooler(probe.getsockname()[1])
        (folder / "userlist.txt").write_text(f'"postgres" "{server.password}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"""
            [databases]
            * = host=127.0.0.1 port={server.port}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {pooler.port}
            unix_socket_dir =
            auth_type = scram-sha-256
            auth_file = {folder}/userlist.txt
            auth_user = postgres
            pool_mode = {mode}
            default_pool_size = 2
            """
            + "\n".join(settings)
        )
        user = ["-u", pwd.getpwuid(owner.st_uid).pw_name] if owner.st_uid != folder.stat().st_uid else []
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)
        with (folder / "log").open("wb") as log:
            # It ends with its standard input, which is ours: also when we are killed.
            process = subprocess.Popen(
                ["/bin/sh", "-c", '"$@" & read -r _; kill -9 "$!"', "sh", program, *user, folder / "pgbouncer.ini"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        try:
            wait_for(pooler.port, folder / "log")
            yield pooler
        finally:
            process.communicate(timeout=at_most(5))

    return start


def wait_for(port: int, log: Path) -> None:
    """Return when somebody listens there; fails with the log after 5 s."""
    deadline = time.monotonic() + at_most(5)
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    pytest.fail(f"PgBouncer does not listen: {log.read_text()}")


@pytest.fixture
def pooler(new_pooler: NewPooler) -> Iterator[Pooler]:
    """One that lends a connection of the server for the length of a transaction."""
    with new_pooler("transaction") as started:
        yield started


@pytest.fixture
async def visits(empty: Database, pooler: Pooler) -> Database:
    await empty.execute(test_collect.TABLES + test_collect.ROWS)
    return pooler.of(empty)


@pytest.fixture
async def healthy(new_database: NewDatabase, pooler: Pooler) -> Database:
    return await as_reader(pooler.of(await new_database("healthy")), GRANT)


@pytest.fixture
async def backfill(new_database: NewDatabase, pooler: Pooler) -> Database:
    return await as_reader(pooler.of(await new_database("backfill")), GRANT)


WHOLE = {("complete",): 157}


async def count(database: Database, condition: str) -> int:
    """Connections of the server that belong to the role of the url."""
    role = urlsplit(database.dsn).username
    sql = f"select count(*) from pg_stat_activity where usename = $1 and {condition}"
    return int(await database.connection.fetchval(sql, role))


async def until_running(database: Database) -> None:
    """Wait for the slow statement to reach the server."""
    async with asyncio.timeout(at_most(5)):
        while not await count(database, "wait_event = 'PgSleep'"):  # noqa: ASYNC110 - a database has no events
            await asyncio.sleep(0.01)


async def assert_left_alone(database: Database) -> None:
    """Within two seconds nothing of ours runs or holds a transaction on the server; then all goes on as before."""
    deadline = time.monotonic() + at_most(2)
    while await count(database, "state <> 'idle'") and time.monotonic() < deadline:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)
    assert await count(database, "state <> 'idle'") == 0
    async with asyncio.timeout(at_most(5)):
        assert (await database.measure()).positive("eligible_sessions") == WHOLE


async def session_of(database: Database, **options: str) -> tuple[int, dict[str, str]]:
    """The process and the settings that another client of the same role is given."""
    connection = await asyncpg.connect(database.dsn, statement_cache_size=0, server_settings=options or None)
    async with connection.transaction():
        process = await connection.fetchval("select pg_backend_pid()")
        settings = await connection.fetch("select name, setting from pg_settings where name <> 'transaction_isolation'")
    await connection.close()
    return process, {row["name"]: row["setting"] for row in settings}


async def cancel_in_the_middle(database: Database) -> None:
    task = asyncio.create_task(database.measure(SLOW))
    await until_running(database)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def time_out(database: Database) -> None:
    fault = await refused(database, SLOW.replace("statement_timeout: 30s", "statement_timeout: 200ms"))
    assert fault.reason == "statement_timeout"


async def collect_whole(database: Database) -> None:
    assert (await database.measure()).positive("eligible_sessions") == WHOLE


async def lose_a_record(database: Database) -> None:
    broken = with_valid("1 / (blocks_answered - 30) > 0")
    assert list((await database.measure(broken)).snapshot.record_faults) == ["fc_scores"]


COLLECTIONS = (collect_whole, lose_a_record, time_out, cancel_in_the_middle)


# --- Modes of pooling


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_more_collections_at_once_than_the_pool_has_connections(
    new_database: NewDatabase, new_pooler: NewPooler, mode: str
) -> None:
    with new_pooler(mode) as pooler:
        database = await as_reader(pooler.of(await new_database("healthy")), GRANT)
        rounds = await asyncio.gather(*(database.measure() for _ in range(6)))
        connections = await count(database, "true")

    assert [numbers.positive("eligible_sessions") for numbers in rounds] == [WHOLE] * 6
    assert 1 <= connections <= 2


async def test_a_pooler_that_allows_no_transactions_is_named_at_once(
    new_database: NewDatabase, new_pooler: NewPooler
) -> None:
    with new_pooler("statement") as pooler:
        database = await as_reader(pooler.of(await new_database("healthy")), GRANT)
        async with asyncio.timeout(at_most(2)):
            fault = await refused(database, CONFIG)

    assert fault.reason == "connect"
    assert "pool_mode is transaction or session" in fault.message


async def test_a_pooler_that_refuses_the_password_is_named_as_one(healthy: Database) -> None:
    """Until 1.18 PgBouncer says no more than that the protocol was violated, whatever it refuses."""
    fault = await refused(Database(with_password(healthy, "wrOng"), healthy.connection), CONFIG)

    assert fault.reason in {"connect", "authentication"}
    assert "password" in fault.message


async def test_a_pool_without_a_free_connection_is_given_up_and_tried_again(
    healthy: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.measure.session.PATIENCE_SECONDS", 0.2)
    others = [await asyncpg.connect(healthy.dsn, statement_cache_size=0) for _ in range(2)]
    for other in others:
        await other.execute("begin")

    fault = await refused(healthy, CONFIG.replace("statement_timeout: 30s", "statement_timeout: 200ms"))
    for other in others:
        await other.close()

    assert fault.reason == "statement_timeout"
    assert "pooler" in fault.message
    await assert_left_alone(healthy)


async def test_a_pool_that_ends_the_wait_for_a_free_connection_is_named_as_one(
    new_database: NewDatabase, new_pooler: NewPooler
) -> None:
    with new_pooler("transaction", "query_wait_timeout = 1") as pooler:
        database = await as_reader(pooler.of(await new_database("healthy")), GRANT)
        others = [await asyncpg.connect(database.dsn, statement_cache_size=0) for _ in range(2)]
        for other in others:
            await other.execute("begin")
        fault = await refused(database, CONFIG)
        for other in others:
            await other.close()

    assert fault.reason == "connect"
    assert "the pool has a free connection (query_wait_timeout, PAUSE)" in fault.message


# --- What the next client of the same connection finds


@pytest.mark.parametrize("collection", COLLECTIONS)
async def test_no_setting_leaks_to_the_next_client(
    healthy: Database, server: EmbeddedPostgres, collection: Callable[[Database], Awaitable[None]]
) -> None:
    direct = healthy.dsn.replace(healthy.dsn.rpartition("@")[2].partition("/")[0], f"127.0.0.1:{server.port}")
    _, fresh = await session_of(Database(direct, healthy.connection), application_name="another client")
    before, _ = await session_of(healthy)

    await collection(healthy)
    after, settings = await session_of(healthy, application_name="another client")

    assert settings == fresh
    if collection in {collect_whole, lose_a_record}:  # else PgBouncer gives up the connection of the server
        assert after == before, "another connection proves nothing"


async def test_no_lock_and_no_transaction_is_left(healthy: Database) -> None:
    for collection in COLLECTIONS:
        await collection(healthy)

        async with asyncio.timeout(at_most(2)):
            await healthy.execute("begin; lock table assessment_sessions, profiles, fc_scores; rollback")


# --- Collections that end early


@pytest.mark.parametrize("collection", [time_out, cancel_in_the_middle])
async def test_the_pool_stays_usable(healthy: Database, collection: Callable[[Database], Awaitable[None]]) -> None:
    """More often than the pool has connections."""
    for _ in range(3):
        await collection(healthy)
        await assert_left_alone(healthy)


async def test_cancelled_collections_that_wait_for_a_connection_leave_the_pool_usable(healthy: Database) -> None:
    tasks = [asyncio.create_task(healthy.measure(SLOW)) for _ in range(5)]
    await until_running(healthy)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 5
    await assert_left_alone(healthy)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_exporter_told_to_stop_leaves_nothing_running(
    healthy: Database, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "config.yaml").write_text(SLOW)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "exporter", "serve", "--config.file", str(tmp_path / "config.yaml")),
        *("--web.listen-address", "127.0.0.1:0"),
        env={**os.environ, "DATABASE_URL": healthy.dsn},
        stderr=asyncio.subprocess.DEVNULL,
    )
    await until_running(healthy)
    told = time.monotonic()

    process.send_signal(number)

    assert await process.wait() == 0
    await assert_left_alone(healthy)
    assert time.monotonic() - told < at_most(4)
