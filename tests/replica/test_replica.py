"""A streaming replica is measured as of what it has replayed, or not at all."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import asyncpg
import pytest
from conftest import Numbers, another_clock, care
from standby import Pair, Standby, binaries_with_basebackup, line_to, replicated, source
from test_collect import ROWS, TABLES, assert_keeps_secrets, assert_whole, config, refused
from waiting import at_most

from exporter.config.read import parse_config
from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect, snapshot_of
from exporter.measure.elsewhere import open_snapshot
from exporter.measure.interpret import Counted
from exporter.measure.query_faults import Circumstances, query_fault
from exporter.measure.session import Session
from exporter.measure.tiers import sweep
from exporter.model.fault import CollectionError, Fault
from exporter.plan.plan import compile_plan
from exporter.plan.replica import ReplicationStatus, lag
from exporter.plan.transaction import END

STRICT = config(database="max_replica_lag: 1s")
"""The limit is shorter than what the tests let pass."""


@pytest.fixture(scope="module")
def primary() -> Iterator[EmbeddedPostgres]:
    """No vacuum of its own: a conflict with a reader is the test's doing."""
    with EmbeddedPostgres(settings={"autovacuum": "off", "synchronous_commit": "on"}) as started:
        yield started


@pytest.fixture(scope="module")
def standby(primary: EmbeddedPostgres) -> Iterator[Standby]:
    with Standby(primary, binaries_with_basebackup()) as started:
        yield started


DEFAULTS = {"recovery_min_apply_delay": "0", "max_standby_streaming_delay": "30s"}
"""What tests change of the replica's settings."""


@pytest.fixture
async def visits(primary: EmbeddedPostgres, standby: Standby) -> AsyncIterator[Pair]:
    """Three eligible visits, of which one lacks scores, and a replica that has replayed them."""
    async with replicated(primary, standby, TABLES + ROWS) as pair:
        yield pair
        for name, value in DEFAULTS.items():
            await pair.set(name, value)


@pytest.fixture
async def impatient(visits: Pair) -> Pair:
    """The same, where the replay does not wait for a reader that is in its way."""
    await visits.set("max_standby_streaming_delay", "0")
    return visits


async def not_measured(pair: Pair, text: str, *words: str) -> Fault:
    fault = await refused(pair.replica, text)
    assert fault.reason == "replica_lag"
    assert_keeps_secrets(fault, pair.primary.dsn)
    for word in words:
        assert word in fault.message
    return fault


async def until_measured(pair: Pair, text: str) -> tuple[list[str], Numbers]:
    """The reasons for which there was no snapshot, and the first one after them."""
    reasons: list[str] = []
    async with asyncio.timeout(at_most(20)):
        while True:
            try:
                return reasons, await pair.replica.measure(text)
            except CollectionError as error:
                reasons.append(error.fault.reason)
                await asyncio.sleep(0.02)


async def without_ledger(_session: Session) -> None:
    """Begin without a ledger."""


async def measured_again(pair: Pair, text: str) -> Numbers:
    return (await until_measured(pair, text))[1]


# --- What a replica shows


@pytest.mark.parametrize("scenario", ["healthy", "backfill"])
async def test_a_replica_has_the_numbers_of_its_primary_for_a_role_that_may_only_read(
    primary: EmbeddedPostgres, standby: Standby, scenario: str
) -> None:
    async with replicated(primary, standby, SCHEMA + SCENARIOS[scenario].sql) as pair:
        original, copy = await pair.primary.measure(), await pair.replica.measure()

    assert copy.snapshot.readings.numbers == original.snapshot.readings.numbers
    assert copy.snapshot.record_faults == {}
    assert copy.snapshot.replica_lag == 0
    assert original.snapshot.replica_lag is None


async def test_slices_of_a_replica_add_up_to_the_numbers_of_its_primary(
    primary: EmbeddedPostgres, standby: Standby
) -> None:
    async with replicated(primary, standby, SCHEMA + SCENARIOS["backfill"].sql) as pair:
        original = await pair.primary.measure()
        swept = await sweep(pair.replica.plan(), None, 0.2, without_ledger)
        while not swept.ledger.is_whole:
            swept = await sweep(pair.replica.plan(), swept.ledger, 0.2, without_ledger)

    counted = Counted(swept.cells, swept.of_record, {}, swept.part_faults)
    assert snapshot_of(swept.session, counted, ()).readings.numbers == original.snapshot.readings.numbers
    assert swept.session.lag == timedelta(0)


async def test_an_idle_primary_is_no_lag(visits: Pair) -> None:
    lags = []
    for _ in range(4):
        await asyncio.sleep(0.5)
        before = time.time()
        numbers = await visits.replica.measure(STRICT)
        lags.append(numbers.snapshot.replica_lag)
        assert before - 0.1 <= numbers.snapshot.taken_at <= time.time() + 0.1

    silence = await visits.replica.connection.fetchval("select clock_timestamp() - pg_last_xact_replay_timestamp()")
    assert silence > timedelta(seconds=1.5)
    assert lags == [0, 0, 0, 0]


async def test_a_replica_that_has_just_begun_is_measured_though_its_primary_is_idle(visits: Pair) -> None:
    """It has replayed no transaction, so there is no time of one."""
    await visits.primary.execute("checkpoint")
    with Standby(visits.server.primary, binaries_with_basebackup()) as fresh:
        pair = replace(
            visits,
            replica=replace(
                visits.replica, dsn=visits.replica.dsn.replace(f":{visits.server.port}/", f":{fresh.port}/")
            ),
        )
        numbers = await measured_again(pair, STRICT)
        connection = await asyncpg.connect(fresh.dsn())
        replayed = await connection.fetchval("select pg_last_xact_replay_timestamp()")
        await connection.close()

    assert replayed is None
    assert_whole(numbers)
    assert numbers.snapshot.replica_lag == 0


# --- Behind


async def test_a_paused_replica_is_not_measured_until_it_is_resumed(visits: Pair) -> None:
    await visits.replica.execute("select pg_wal_replay_pause()")
    await not_measured(visits, config(), "select pg_wal_replay_resume()")

    await visits.primary.execute("insert into scores values (3, 'v3')")
    await not_measured(visits, config(), "select pg_wal_replay_resume()")

    await visits.replica.execute("select pg_wal_replay_resume()")
    await visits.replayed()
    numbers = await visits.replica.measure(config())
    assert numbers.positive("eligible_sessions") == {("complete",): 3}
    assert numbers.snapshot.replica_lag == 0


async def test_a_paused_replica_says_so_though_a_table_is_locked_in_it(visits: Pair) -> None:
    async with visits.primary.connection.transaction():
        await visits.primary.execute("lock table visits in access exclusive mode")
        # A lock alone is not sent at once: https://www.postgresql.org/docs/current/hot-standby.html
        await visits.primary.execute("select pg_switch_wal()")
        await visits.until("exists (select from pg_locks where mode = 'AccessExclusiveLock')")
        await visits.replica.execute("select pg_wal_replay_pause()")

        await not_measured(visits, config(), "paused")

        await visits.replica.execute("select pg_wal_replay_resume()")


async def hold_back(pair: Pair, sql: str) -> None:
    """Let the replica receive `sql`, and not replay it."""
    await pair.replayed()
    await pair.set("recovery_min_apply_delay", "1h")
    await pair.primary.execute(sql)
    written = await pair.primary.connection.fetchval("select pg_current_wal_flush_lsn()::text")
    await pair.until("pg_last_wal_receive_lsn() >= $1::text::pg_lsn", written)


async def test_a_replica_that_is_too_far_behind_is_not_measured(visits: Pair) -> None:
    await hold_back(visits, "insert into scores values (3, 'v3')")
    await asyncio.sleep(1.2)

    fault = await not_measured(visits, STRICT, "max_replica_lag (1 s)")
    within = await visits.replica.measure(config())
    await visits.set("recovery_min_apply_delay", "0")
    await visits.replayed()
    caught_up = await measured_again(visits, STRICT)

    assert "behind" in fault.message
    assert_whole(within)
    assert within.snapshot.replica_lag is not None
    assert within.snapshot.replica_lag > 1
    assert caught_up.positive("eligible_sessions") == {("complete",): 3}
    assert caught_up.snapshot.replica_lag == 0


LATE = config().replace("window: {since: 2025-01-01}", "window: {since: 2025-01-01}\n    grace: 1s")
"""A record may be a second late."""

CLOCK = """
  begin
    while current_setting('transaction_isolation') = 'repeatable read' and {condition} loop
      perform pg_sleep(0.02);
    end loop;
    return pg_catalog.real_clock_timestamp();
  end
"""
"""A clock that stands still once the snapshot is taken, while a condition holds."""


async def hold_clock(pair: Pair, condition: str) -> None:
    await pair.primary.execute(another_clock(CLOCK.format(condition=condition), "plpgsql"))
    await pair.replayed()


COMPLETED = "insert into visits values (4, 'done', now(), now(), true); insert into notes values (4, 'v1')"


async def test_what_is_not_replayed_yet_is_late_only_as_of_what_is(visits: Pair) -> None:
    await visits.primary.execute(COMPLETED)
    await hold_back(visits, "insert into scores values (4, 'v3')")
    committed = await visits.replica.connection.fetchval("select pg_last_xact_replay_timestamp()")
    await asyncio.sleep(1.5)

    behind = await visits.replica.measure(LATE)
    original = await visits.primary.measure(LATE)
    await visits.set("recovery_min_apply_delay", "0")
    await visits.replayed()
    caught_up = await visits.replica.measure(LATE)

    assert behind.positive("eligible_sessions") == {("complete",): 2, ("pending",): 1, ("gap",): 1}
    assert behind.snapshot.taken_at == pytest.approx(committed.timestamp(), abs=0.1)
    assert behind("future_sessions") == 0
    for whole in (original, caught_up):
        assert whole.positive("eligible_sessions") == {("complete",): 3, ("gap",): 1}


async def test_what_is_late_as_of_the_replayed_moment_is_a_gap(visits: Pair) -> None:
    """The lag excuses nothing that was late already."""
    await visits.primary.execute(COMPLETED)
    await asyncio.sleep(1.2)
    await visits.primary.execute("create table another_commit ()")
    await hold_back(visits, "insert into scores values (4, 'v3')")
    await asyncio.sleep(0.2)

    numbers = await visits.replica.measure(LATE)

    assert numbers.positive("eligible_sessions") == {("complete",): 2, ("gap",): 2}


async def test_a_replica_that_catches_up_while_it_is_looked_at_is_not_measured(visits: Pair) -> None:
    """The snapshot is of before, the clock of after: the record would look late though it was there."""
    await hold_clock(visits, "pg_last_wal_replay_lsn() < pg_last_wal_receive_lsn()")
    await visits.primary.execute(COMPLETED)
    await hold_back(visits, "insert into scores values (4, 'v3')")
    await asyncio.sleep(3)
    await visits.primary.execute("create table another_commit ()")

    task = asyncio.create_task(not_measured(visits, LATE, "catching up"))
    await visits.held("clock")
    await visits.set("recovery_min_apply_delay", "0")
    await visits.replayed()
    await task

    numbers = await visits.replica.measure(LATE)
    assert numbers.positive("eligible_sessions") == {("complete",): 3, ("gap",): 1}


async def test_without_its_primary_a_replica_is_measured_until_it_is_too_old(
    visits: Pair, primary: EmbeddedPostgres
) -> None:
    await asyncio.to_thread(primary.stop_server)
    try:
        await visits.until("not exists (select from pg_stat_wal_receiver)")
        await asyncio.sleep(1.2)
        await not_measured(visits, STRICT, "max_replica_lag (1 s)", "check that the replica receives")
        first = await visits.replica.measure(config())
        await asyncio.sleep(0.3)
        second = await visits.replica.measure(config())
    finally:
        await asyncio.to_thread(primary.start_server)
    again = await measured_again(visits, STRICT)

    for numbers in (first, second):
        assert_whole(numbers)
    assert second.snapshot.taken_at == pytest.approx(first.snapshot.taken_at, abs=0.01)
    assert (second.snapshot.replica_lag or 0) - (first.snapshot.replica_lag or 0) >= 0.3
    assert again.snapshot.replica_lag == 0


async def test_a_replica_that_waits_for_its_network_is_behind_though_it_has_replayed_all_that_came(
    primary: EmbeddedPostgres,
) -> None:
    """To a role with pg_read_all_stats it tells how far the primary was."""
    async with line_to(primary) as line:
        standby = Standby(primary, binaries_with_basebackup(), primary_conninfo=source(primary, line.port))
        await asyncio.to_thread(standby.start)
        try:
            async with replicated(primary, standby, TABLES + ROWS) as pair:
                await pair.primary.execute(f"grant pg_read_all_stats to {urlsplit(pair.replica.dsn).username}")
                await pair.replayed()
                line.cut()
                await pair.primary.execute(COMPLETED)
                await asyncio.sleep(1.2)
                await pair.primary.execute(
                    "create table ballast as select repeat('x', 90) from generate_series(1, 20000)"
                )
                written = await pair.primary.connection.fetchval("select pg_current_wal_flush_lsn()::text")
                line.rate = 4e6
                await pair.until(
                    "exists (select from pg_stat_wal_receiver where latest_end_lsn > pg_last_wal_replay_lsn())"
                )
                reasons, numbers = await until_measured(pair, STRICT)
                arrived = await pair.replica.connection.fetchval(
                    "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", written
                )
        finally:
            await asyncio.to_thread(standby.stop)

    assert set(reasons) == {"replica_lag"}
    assert arrived, "it was measured before the network had brought everything"
    assert numbers.positive("eligible_sessions") == {("complete",): 2, ("gap",): 2}


# --- In the way of the replay


REWRITTEN = f"truncate visits, scores, notes; {ROWS}"
CONFLICTS = {"a rewrite": (REWRITTEN,), "a clean-up": ("delete from scores; delete from notes", "vacuum scores, notes")}


@pytest.mark.parametrize("conflict", CONFLICTS)
@pytest.mark.parametrize("statement", ["sessions", "clock"])
async def test_a_collection_in_the_way_of_the_replay_is_no_snapshot_and_the_next_one_is(
    impatient: Pair, conflict: str, statement: str
) -> None:
    """Held as soon as it has its snapshot, or (in a savepoint) while it counts sessions."""
    slow = config("valid: pg_sleep(3) is not null")
    if statement != "sessions":
        slow = config()
        await hold_clock(impatient, "not exists (select from pg_class where relname = 'free')")
    task = asyncio.create_task(refused(impatient.replica, slow))
    await impatient.held(f"care: {statement}")

    for sql in CONFLICTS[conflict]:
        await impatient.primary.execute(sql)
    fault = await task
    await impatient.primary.execute("create table free ()")
    await impatient.replayed()
    numbers = await impatient.replica.measure(config())

    assert fault.reason == "recovery_conflict"
    assert "next interval" in fault.message
    if conflict == "a rewrite":
        assert_whole(numbers)
    else:
        assert numbers.positive("eligible_sessions") == {("gap",): 3}


async def test_a_collection_that_recovery_ends_between_two_statements_is_a_conflict_too(impatient: Pair) -> None:
    """The driver is told while it asks nothing, and keeps no reason."""
    ours = "from pg_stat_activity where application_name = 'session-health-exporter'"
    async with open_snapshot(impatient.replica.plan(config())) as session:
        await impatient.until(f"exists (select {ours})")
        await impatient.primary.execute(REWRITTEN)
        await impatient.until(f"not exists (select {ours})")
        with pytest.raises(CollectionError) as error:
            await session.run(END, "end")

    assert error.value.fault.reason == "recovery_conflict"
    assert_whole(await impatient.replica.measure(config()))


async def test_where_the_replay_waits_for_readers_a_rewrite_is_not_seen(visits: Pair) -> None:
    task = asyncio.create_task(visits.replica.measure(config("valid: pg_sleep(0.5) is not null")))
    await visits.held("care: sessions")

    await visits.primary.execute("truncate visits, scores, notes")
    before = await task
    await visits.replayed()
    after = await measured_again(visits, config())

    assert_whole(before)
    assert after.positive("sessions") == {}


async def test_no_round_on_a_busy_replica_is_of_an_empty_table(impatient: Pair) -> None:
    """A writer rewrites everything again and again, ever more seldom; a snapshot is whole, or there is none."""
    done = asyncio.Event()
    seen: list[Numbers | str] = []
    writer = await asyncpg.connect(impatient.primary.dsn)

    async def write() -> None:
        while not done.is_set():
            await writer.execute(REWRITTEN)
            await asyncio.sleep(0.003 * len(seen))

    task = asyncio.create_task(write())
    plan = impatient.replica.plan(config())
    while len(seen) < 60 or not any(isinstance(one, Numbers) for one in seen):
        try:
            seen.append(Numbers(await collect(plan)))
        except CollectionError as error:
            seen.append(error.fault.reason)
    done.set()
    await task
    await writer.close()

    for numbers in seen:
        if isinstance(numbers, Numbers) and not numbers.snapshot.record_faults:
            assert_whole(numbers)
    assert {one for one in seen if isinstance(one, str)} <= {"recovery_conflict", "lock_timeout", "replica_lag"}


@pytest.mark.parametrize(
    ("error", "is_replica", "reason"),
    [
        (ConnectionResetError(), True, "recovery_conflict"),
        (BrokenPipeError(), True, "recovery_conflict"),
        (asyncpg.ConnectionDoesNotExistError(), True, "recovery_conflict"),
        (TimeoutError(), True, "statement_timeout"),
        (ConnectionResetError(), False, "connect"),
    ],
)
def test_a_connection_that_a_replica_ends_is_a_conflict(error: Exception, is_replica: bool, reason: str) -> None:
    given = Circumstances(statement_timeout=1, is_replica=is_replica, is_parsed=True, is_ours=True, schemas={})

    assert query_fault(error, "pipelines.care", None, given).reason == reason


# --- Promoted


async def test_a_replica_that_is_promoted_goes_on_being_measured(primary: EmbeddedPostgres) -> None:
    lags: list[float | None] = []
    with Standby(primary, binaries_with_basebackup()) as standby:
        async with replicated(primary, standby, TABLES + ROWS) as pair:
            lags.append((await pair.replica.measure(STRICT)).snapshot.replica_lag)
            task = asyncio.create_task(pair.replica.execute("select pg_promote()"))
            while not task.done() or len(lags) < 5:
                numbers = await pair.replica.measure(STRICT)
                assert_whole(numbers)
                lags.append(numbers.snapshot.replica_lag)
            await task
            await asyncio.sleep(1.2)  # no commit: what was replayed last grows older

            numbers = await pair.replica.measure(STRICT)

    assert lags[0] is not None
    assert_whole(numbers)
    assert numbers.snapshot.replica_lag is None
    assert numbers.snapshot.taken_at == pytest.approx(time.time(), abs=5)


# --- What two looks say


NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
LIMIT = timedelta(minutes=5)


def look(
    *, ago: float | None = 0.0, clock: float = 0.0, caught_up: bool = True, paused: bool = False
) -> ReplicationStatus:
    """A look `clock` seconds after noon; the last replayed commit was `ago` seconds before noon, None without one."""
    replayed = None if ago is None else NOW - timedelta(seconds=ago)
    return ReplicationStatus(NOW + timedelta(seconds=clock), paused, caught_up, replayed)


NO_REPLICA = ReplicationStatus(NOW, None, None, None)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (NO_REPLICA, NO_REPLICA, None),
        # Caught up, and nothing committed for long.
        (look(ago=9000), look(ago=9000), 0),
        (look(ago=None), look(ago=None), 0),
        # On the point of replaying what is no commit.
        (look(ago=9000, caught_up=False), look(ago=9000), 0),
        # Behind, by the age of the last commit.
        (look(ago=20, caught_up=False), look(ago=20, caught_up=False), 20),
        (look(ago=20, caught_up=False), look(ago=20, caught_up=False, clock=5), 25),
        (look(ago=20), look(ago=300, caught_up=False), 300),
        # The network is slow: old commits arrive, and are replayed at once.
        (look(ago=60.2), look(ago=60.1), 60.1),
        # The clock of the primary is ahead.
        (look(ago=-3, caught_up=False), look(ago=-3, caught_up=False), 0),
        # Jitter.
        (look(ago=0.9, caught_up=False), look(ago=0), 0),
        # Promoted between the looks.
        (look(), NO_REPLICA, 0),
    ],
)
def test_the_lag_is_never_less_than_that_of_the_snapshot(
    before: ReplicationStatus, now: ReplicationStatus, expected: float | None
) -> None:
    found = lag(before, now, LIMIT)

    assert found == (None if expected is None else timedelta(seconds=expected))


@pytest.mark.parametrize(
    ("before", "now", "word"),
    [
        (look(paused=True), look(), "paused"),
        (look(), look(paused=True), "paused"),
        (look(ago=None, caught_up=False), look(ago=None, caught_up=False), "replica lag is unknown"),
        (look(), look(ago=301, caught_up=False), "max_replica_lag (300 s)"),
        (look(ago=301), look(ago=300.5), "max_replica_lag (300 s)"),
        (look(ago=20, caught_up=False), look(ago=0), "catching up"),
        (look(ago=None, caught_up=False), look(ago=0), "catching up"),
        (look(ago=200, caught_up=False), look(ago=100, caught_up=False), "catching up"),
        (look(ago=20, caught_up=False), NO_REPLICA, "catching up"),
    ],
)
def test_where_nobody_can_tell_the_lag_the_replica_is_not_measured(
    before: ReplicationStatus, now: ReplicationStatus, word: str
) -> None:
    fault = lag(before, now, LIMIT)

    assert isinstance(fault, Fault)
    assert fault.reason == "replica_lag"
    assert word in fault.message


APART = care("database: main", "grace: 1s", scores="database: replica", notes="").replace(
    'database: {url: "${DATABASE_URL}"}',
    'databases: {main: {url: "${DATABASE_URL}"}, replica: {url: "${REPLICA_URL}"}}',
)
"""The sessions of the primary, and the scores of a replica."""


async def test_a_record_on_a_replica_has_as_much_more_grace_as_the_replica_is_behind(visits: Pair) -> None:
    await visits.primary.execute(COMPLETED)
    await hold_back(visits, "insert into scores values (4, 'v3')")
    await asyncio.sleep(1.5)
    parsed = parse_config(APART, {"DATABASE_URL": visits.primary.dsn, "REPLICA_URL": visits.replica.dsn})

    found = Numbers(await collect(compile_plan(parsed, parsed.pipelines["care"], DIMENSIONS)))

    assert found.positive("record_sessions") == {
        ("scores", "current"): 2,
        ("scores", "missing"): 1,
        ("scores", "pending"): 1,
        ("notes", "current"): 4,
    }
    assert found.snapshot.elsewhere["scores"].seconds > 1.5
