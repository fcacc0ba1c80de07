"""Never a false green: every fault, alone and beside every unhealthy state, on a platform that was healthy before.

Whatever of both is there: nobody is told `healthy`, no exit code is 0, and no number that was not measured looks fresh.
"""

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import asyncpg
import pytest
from conftest import TOUR, Database, NewDatabase, plan_of
from prometheus_client.parser import text_string_to_metric_families
from tools import NO_ICU

from exporter.demo.scenarios import SCENARIOS, SCHEMA
from exporter.dimensions import DIMENSIONS
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.measure.supervise import initial_status, measure
from exporter.mend.gaps import Gap, count_gaps, list_gaps
from exporter.mend.whole import ListNotMeasuredError
from exporter.model.fault import CollectionError
from exporter.model.standing import Standing
from exporter.plan.plan import Plan
from exporter.present.check import Check, as_blocks
from exporter.present.check_document import as_json
from exporter.present.exposition import page
from exporter.present.report.account import report_on
from exporter.present.report.markdown import as_markdown
from exporter.present.report.sections import rows
from exporter.state.board import Board, PipelineStatus, ReloadStatus
from exporter.text.terminal import plain

CONFIG = (
    TOUR.read_text()
    .replace("      # newest_session_age: {warning: 6h}", "      newest_session_age: {warning: 6h}")
    .replace("      # newest_record_age: {critical: 30m}", "      newest_record_age: {critical: 30m}")
)
_numbers = itertools.count(1)

FEW = "in (select id from assessment_sessions where completed_questions > 0 order by id limit 3)"
STATES = {
    "nothing is wrong": "select",
    "records are missing": f"delete from profiles where session_id {FEW}",
    "records are outdated": f"update fc_scores set version = 'v1.0' where session_id {FEW}",
    "records are invalid": f"update fc_scores set fc_kind = 'other' where session_id {FEW}",
    "an old version is written": f"update profiles set results_version = 'v1', created_at = now() "
    f"where session_id {FEW}",
    "records have no session": "insert into fc_scores "
    "select gen_random_uuid(), 'v1.2', 'functions' from generate_series(1, 2)",
    "records are there twice": "alter table profiles drop constraint profiles_pkey; "
    "insert into profiles select * from profiles limit 2",
    "sessions fail a check": f"update assessment_sessions set finalized_at = null where id {FEW}",
    "nobody comes": "update assessment_sessions set created_at = created_at - interval '2 days'",
    "there is no session": "truncate assessment_sessions, profiles, fc_scores",
    "there is no record": "truncate profiles, fc_scores",
}


@dataclass(frozen=True)
class Fault:
    """How measuring is made impossible: by SQL of a superuser's, by changes of the config or the url, by a lock.

    Without rows of its `needs` it does not come about.  `reason` is the one that it must be counted by, None for any.
    """

    sql: str = "select"
    config: dict[str, str] = field(default_factory=dict)
    url: dict[str, str] = field(default_factory=dict)
    lock: str | None = None
    needs: tuple[str, ...] = ()
    reason: str | None = None

    def comes_about(self, state: str) -> bool:
        return not any(table in STATES[state] for table in self.needs if STATES[state].startswith("truncate"))


PLACES = {
    "eligible": ("completed_questions > 0", "completed_questions > 0 and {sql}"),
    "a session": ("# where: status <> 'test'", "where: completed_questions > 0 and {sql}"),
    "completed": ("completed: status = 'completed'", "completed: status = 'completed' and {sql}"),
    "deleted": ("# deleted: deleted_at is not null", "deleted: finalized_at is null and {sql}"),
    "checks": ("finalized_at is not null", "finalized_at is not null and {sql}"),
    "required_when": ("# required_when: has_forced_choice", "required_when: completed_questions > 0 and {sql}"),
    "valid": ("# valid: blocks_answered > 0", "valid: blocks_answered > 0 and {sql}"),
    "where": ("# where: deleted_at is null", "where: blocks_answered > 0 and {sql}"),
}
"""Where the tour has SQL, or room for it, by key: what is replaced, and by what."""

OF_RECORDS = {"valid", "where"}
SURELY = "create or replace function surely() returns boolean language plpgsql volatile as 'begin return true; end'"
NO_CONDITIONS = {
    "a window function": "count(*) over () > 0",
    "an aggregate": "count(*) > 0",
    "a volatile function": "random() < 2",
    "a function that returns a set": "generate_series(1, 1) = 1",
    "an aggregate over what a sub-query is in": "(select count({table}.created_at) from profiles limit 1) > 0",
    "the clock that moves": "clock_timestamp() > '2000-01-01'",
    "a volatile function of the platform's": "surely()",
    "a window over an aggregate": "sum(count(*)) over () > 0",
    "a volatile function within others": "(case when {table}.created_at is null then true else not not surely() end)",
}
"""SQL that is true of every row, and of no row by itself."""


def no_condition(what: str, key: str) -> Fault:
    """SQL of this kind in the place of this key."""
    old, new = PLACES[key]
    sql = NO_CONDITIONS[what].format(table="fc_scores" if key in OF_RECORDS else "assessment_sessions")
    return Fault(SURELY, {old: new.format(sql=sql)}, reason="invalid_sql")


HALF = """
    create role {keeper};
    grant usage, create on schema public to {keeper};
    alter table assessment_sessions rename to every_session;
    alter table every_session enable row level security;
    create policy half on every_session to {keeper}, {role} using (extract(minute from created_at) < 30);
    grant select on every_session to {keeper};
"""
"""Half of the sessions are hidden from us and from whoever keeps them, by another name than they had."""

VISIBLE = "create function visible_sessions() returns setof every_session stable language "
KEPT = "alter function visible_sessions() owner to {keeper};"
THROUGH = "create view assessment_sessions as select * from visible_sessions(); grant select on assessment_sessions to "
NUMBERED = """
    alter table assessment_sessions add number serial;
    alter table profiles add number integer;
    alter table fc_scores add number numeric;
    update profiles r set number = s.number from assessment_sessions s where s.id = r.session_id;
    update fc_scores r set number = s.number + 0.4 from assessment_sessions s where s.id = r.session_id;
"""
"""Sessions with a number, and scores with one that is nearly that of a session."""

IMPATIENT = {"statement_timeout: 30s": "statement_timeout: 500ms", "lock_timeout: 1s": "lock_timeout: 200ms"}
ALLOW = {"row_security: strict": "row_security: allow"}
FAULTS = {
    "no privilege on the sessions": Fault("revoke select on assessment_sessions from {role}"),
    "no privilege on a record": Fault("revoke select on profiles from {role}"),
    "no privilege on the schema": Fault("revoke usage on schema public from public"),
    "hidden sessions": Fault("alter table assessment_sessions enable row level security"),
    "some hidden sessions": Fault(
        "alter table assessment_sessions enable row level security; "
        "create policy some_rows on assessment_sessions using (extract(minute from created_at) < 30)"
    ),
    "a hidden record": Fault("alter table fc_scores enable row level security"),
    "a policy that hides nothing": Fault(
        "alter table profiles enable row level security; create policy every_row on profiles using (true)"
    ),
    "hidden sessions, allowed": Fault("alter table assessment_sessions enable row level security", ALLOW),
    "some hidden sessions, allowed": Fault(
        "alter table assessment_sessions enable row level security; create policy some_rows on assessment_sessions "
        "using (exists (select 1 from profiles where session_id = id))",
        ALLOW,
    ),
    "a hidden record, allowed": Fault("alter table fc_scores enable row level security", ALLOW),
    "a dropped record": Fault("drop table fc_scores"),
    "dropped sessions": Fault("drop table assessment_sessions cascade"),
    "a dropped column": Fault("alter table fc_scores drop column fc_kind"),
    "a dropped column of a check": Fault("alter table assessment_sessions drop column finalized_at"),
    "a key of another type": Fault("alter table fc_scores alter session_id type text", reason="type"),
    "a key of a collation that tells no capitals": Fault(
        "create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); "
        "alter table profiles drop constraint profiles_session_id_fkey; "
        "alter table assessment_sessions alter id type text; alter table profiles alter session_id type text; "
        "alter table fc_scores alter session_id type text collate blind",
        reason="type",
    ),
    "a cast that makes two keys one": Fault(
        NUMBERED,
        {
            "key: id": "key: number",
            "session_key: session_id   # points": "session_key: number  # points",
            "fc_scores\n        session_key: session_id": "fc_scores\n        "
            "session_key: {column: number, cast: integer}",
        },
        reason="type",
    ),
    "a window function in a check": no_condition("a window function", "checks"),
    "an aggregate in a condition on records": no_condition("an aggregate", "valid"),
    "a volatile function in a condition on sessions": no_condition("a volatile function", "eligible"),
    "a function that shows what policies do": Fault(
        f"{HALF}{VISIBLE} sql security definer set row_security = on as 'select * from public.every_session'; "
        f"{KEPT} {THROUGH} {{role}}",
        reason="row_security",
    ),
    "a function that puts policies on again": Fault(
        f"{HALF}{VISIBLE} plpgsql security definer as 'begin perform set_config(''row_security'', ''on'', true); "
        f"return query select * from public.every_session; end'; {KEPT} {THROUGH} {{role}}",
        reason="row_security",
    ),
    "a function that shows us what policies do": Fault(
        f"{HALF}{VISIBLE} sql set row_security = on as 'select * from public.every_session'; {THROUGH} {{role}}",
        reason="row_security",
    ),
    "a sub-query through a function that shows what policies do": Fault(
        f"{HALF}{VISIBLE} sql security definer set row_security = on as 'select * from public.every_session'; {KEPT} "
        "create view assessment_sessions as select * from every_session; grant select on assessment_sessions to {role}",
        {"completed_questions > 0": "completed_questions > 0 and id in (select v.id from visible_sessions() v)"},
        reason="row_security",
    ),
    "a value that does not convert": Fault(
        config={"# valid: blocks_answered > 0": "valid: 1 / (blocks_answered - 30) > 0 "}, needs=("fc_scores",)
    ),
    "locked sessions": Fault("select", IMPATIENT, lock="lock table assessment_sessions in access exclusive mode"),
    "a locked record": Fault("select", IMPATIENT, lock="lock table profiles in access exclusive mode"),
    "a slow statement": Fault(
        config={**IMPATIENT, "finalized_at is not null": "pg_sleep(60) is not null"}, needs=("assessment_sessions",)
    ),
    "a wrong password": Fault(url={"password": "wrong"}),
    "no such database": Fault(url={"path": "/nowhere"}),
    "no server": Fault(url={"port": "1"}),
}


@dataclass(frozen=True)
class Platform:
    """The sample platform, healthy, for a role that may read it.

    `before` is what was known of it then, `ids` are those of its sessions.
    """

    database: Database
    role: str
    dsn: str
    before: PipelineStatus
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Watched:
    """The platform, healthy and measured as such, as a template: each case has a copy of its own."""

    template: str
    role: str
    before: PipelineStatus
    ids: tuple[str, ...]


def as_role(dsn: str, role: str) -> str:
    parts = urlsplit(dsn)
    return parts._replace(netloc=f"{role}:watching@{parts.hostname}:{parts.port}").geturl()


async def watched_platform(server: EmbeddedPostgres) -> Watched:
    admin = await asyncpg.connect(server.dsn())
    name, role = f"watched_{os.getpid()}", f"watcher_{os.getpid()}"
    await admin.execute(f'create database "{name}"')
    await admin.execute(f"create role {role} login password 'watching'")
    connection = await asyncpg.connect(server.dsn(name))
    await connection.execute(SCHEMA)
    await connection.execute(SCENARIOS["healthy"].sql)
    await connection.execute(f"grant select on all tables in schema public to {role}")
    ids = await connection.fetch("select id::text from assessment_sessions")
    await connection.close()
    plan = plan_of(CONFIG, as_role(server.dsn(name), role))
    before = initial_status(plan, max_age=300).after(await measure(plan, collect), now=0.0)
    await admin.close()
    assert before.verdict == "healthy", plain(as_blocks(Check((before,))))
    assert Check((before,), "warning").exit_code == 0
    return Watched(name, role, before, tuple(row[0] for row in ids))


@pytest.fixture(scope="module")
def watched(server: EmbeddedPostgres) -> Watched:
    return asyncio.run(watched_platform(server))


@pytest.fixture
async def platform(new_database: NewDatabase, watched: Watched, templates: dict[str, str]) -> Platform:
    templates.setdefault("watched", watched.template)
    copy = await new_database("watched")
    return Platform(copy, watched.role, as_role(copy.dsn, watched.role), watched.before, watched.ids)


@asynccontextmanager
async def injected(platform: Platform, state: str, fault: Fault | None) -> AsyncIterator[PipelineStatus]:
    """What is known once a state and a fault have come over the platform."""
    await platform.database.execute(STATES[state])
    text, dsn = CONFIG, platform.dsn
    lock = None
    if fault is not None:
        keeper = f"keeper_{os.getpid()}_{next(_numbers)}"
        try:
            await platform.database.execute(fault.sql.replace("{role}", platform.role).replace("{keeper}", keeper))
        except asyncpg.FeatureNotSupportedError:
            assert "provider = icu" in fault.sql
            pytest.skip(NO_ICU)
        for old, new in fault.config.items():
            assert old in text
            text = text.replace(old, new)
        parts = urlsplit(dsn)
        login = f"{platform.role}:{fault.url.get('password', 'watching')}"
        netloc = f"{login}@{parts.hostname}:{fault.url.get('port', parts.port)}"
        dsn = parts._replace(netloc=netloc, path=fault.url.get("path", parts.path)).geturl()
        if fault.lock is not None:
            lock = await asyncpg.connect(platform.database.dsn)
            await lock.execute(f"begin; {fault.lock}")
    status = platform.before.after(await measure(plan_of(text, dsn), collect), now=1.0)
    assert_tells_no_secret(platform, status)
    assert_tells_nothing_as_measured_that_was_not(status)
    yield status
    if lock is not None:
        await lock.close()


def assert_tells_no_secret(platform: Platform, status: PipelineStatus) -> None:
    """Neither the page nor `check` nor the log tells an id, or where the database is and how to get in."""
    parts = urlsplit(platform.dsn)
    told = [plain(as_blocks(Check((status,)))), as_json(Check((status,))), page_of(status)]
    told += [fault.message for fault in status.last.faults] if status.last else []
    secrets = [platform.role, "watching", str(parts.hostname), f":{parts.port}", parts.path[1:], *platform.ids]
    for secret in secrets:
        assert not any(secret in text for text in told), secret
    assert not any(fault.message in page_of(status) for fault in (status.last.faults if status.last else ()))


def page_of(status: PipelineStatus) -> str:
    board = Board({status.pipeline: status}, ReloadStatus(succeeded=True, last_success=1.0))
    return page(board, board.withdrawn(1.0), openmetrics=False).decode()


def assert_tells_nothing_as_measured_that_was_not(status: PipelineStatus) -> None:
    """Neither the report, on which the page rests, nor `check`: no tick, no number, and no limit that is kept."""
    [account] = report_on([status], DIMENSIONS, 1.0).accounts
    lost = status.snapshot.record_faults if status.snapshot else status.records
    for entry in itertools.chain.from_iterable(account.entries.values()):
        if status.snapshot is None or entry.line.record in lost:
            told = ("not asked for", "not_asked") if entry.line.remedy else ("not measured", "unknown")
            assert (entry.number, entry.mark, entry.evidence) == (*told, "not_measured"), entry
        assert entry.mark != "fine" or entry.line.value is not None, entry
        assert entry.mark == "unknown" or entry.number != "not measured", entry
    is_partial = status.snapshot is not None and bool(status.snapshot.restricted)
    is_unknown = any(entry.mark == "unknown" for found in account.entries.values() for entry in found)
    marks = [row.mark for row in rows(account)]
    assert not is_unknown or "unknown" in marks or "critical" in marks
    if is_partial or status.last is None or status.last.snapshot is None or lost:
        assert "fine" not in marks
    if is_partial:
        assert not [entry for found in account.entries.values() for entry in found if entry.mark == "fine"]
        assert not [entry for found in account.entries.values() for entry in found if entry.evidence == "measured"]
    for finding in status.findings:
        assert finding.outcome != "within" or (finding.value is not None and not is_partial), finding
        assert finding.subject not in lost or finding.outcome == "not_measured", finding
    kept = [line for line in plain(as_blocks(Check((status,)))).splitlines() if line.split()[:1] == ["within"]]
    assert all(re.search(r" [≤≥] ", line) for line in kept), kept
    for line in as_markdown(report_on([status], DIMENSIONS, 1.0)).splitlines():
        assert "not measured" not in line or not line.startswith("- ✅"), line


def numbers(status: PipelineStatus) -> dict[tuple[str, ...], float]:
    """The page as Prometheus gets it: the name of each series with its label values, and its number."""
    found = {}
    for family in text_string_to_metric_families(page_of(status)):
        for sample in family.samples:
            labels = [value for name, value in sample.labels.items() if name not in ("database", "pipeline")]
            found[(sample.name.removeprefix("session_health_"), *labels)] = sample.value
    return found


def assert_not_green(status: PipelineStatus) -> dict[tuple[str, ...], float]:
    found = numbers(status)
    assert status.verdict != "healthy"
    assert found["verdict", "healthy"] == 0
    assert sum(value for series, value in found.items() if series[0] == "verdict") == 1
    for fail_on in ("warning", "critical"):
        code = Check((status,), fail_on).exit_code
        assert code != 0 or (status.verdict, fail_on) == ("degraded", "critical")
        assert '"verdict": "healthy"' not in as_json(Check((status,), fail_on))
    assert ": healthy" not in plain(as_blocks(Check((status,))))
    return found


def assert_counted(found: dict[tuple[str, ...], float], reason: str | None) -> None:
    """That errors were counted, those of this reason among them."""
    errors = {series[1]: value for series, value in found.items() if series[0] == "collection_errors_total"}
    assert sum(errors.values()) >= 1
    assert reason is None or errors[reason] >= 1, errors


@pytest.mark.parametrize("state", [name for name in STATES if name != "nothing is wrong"])
async def test_an_unhealthy_platform_is_not_called_healthy(platform: Platform, state: str) -> None:
    async with injected(platform, state, None) as status:
        found = assert_not_green(status)

    assert found["up",] == 1


@pytest.mark.parametrize(
    ("fault", "state"),
    [(name, state) for name, fault in FAULTS.items() for state in STATES if fault.comes_about(state)],
)
async def test_a_fault_is_never_green_whatever_else_is_wrong(platform: Platform, fault: str, state: str) -> None:
    async with injected(platform, state, FAULTS[fault]) as status:
        found = assert_not_green(status)

    assert Check((status,), "critical").exit_code in (1, 3)
    assert status.verdict in ("unknown", "unhealthy")
    assert status.last is not None
    if FAULTS[fault].config is ALLOW:
        assert found["visibility_restricted",] == 1
        return
    assert found["up",] == 0
    assert_counted(found, FAULTS[fault].reason)
    if status.last.snapshot is None:
        assert platform.before.snapshot is not None
        assert found["snapshot_timestamp_seconds",] == platform.before.snapshot.taken_at
        assert {found["record_up", record] for record in status.records} == {0}
        assert status.verdict == "unknown"
    for record in status.last.snapshot.record_faults if status.last.snapshot else ():
        assert found["record_up", record] == 0
        kept = {series[0] for series in found if record in series[1:]}
        assert kept == {"record_up", "limit_level"}
        levels = {value for series, value in found.items() if series[0] == "limit_level" and record in series[1:]}
        assert levels == {Standing.UNKNOWN.level}
        assert ("eligible_sessions", "gap") not in found
        assert ("cohort_sessions", "covered") not in found


@pytest.mark.parametrize("key", PLACES)
async def test_what_no_row_answers_by_itself_is_refused_wherever_sql_may_be(platform: Platform, key: str) -> None:
    await platform.database.execute(SURELY)
    green = []
    for what in NO_CONDITIONS:
        status = platform.before.after(await measure(with_condition(platform, what, key), collect), now=1.0)
        errors = {fault.reason for fault in status.last.faults} if status.last else set()
        if status.verdict == "healthy" or errors != {"invalid_sql"}:
            green.append((what, status.verdict, errors))

    assert green == []


@pytest.mark.parametrize("key", ["eligible", "a session", "required_when", "valid", "where"])
async def test_no_gap_is_listed_by_what_no_row_answers_by_itself(platform: Platform, key: str) -> None:
    await platform.database.execute(SURELY)
    listed: list[Gap] = []
    reasons = {}
    for what in NO_CONDITIONS:
        plan = with_condition(platform, what, key)
        reasons[what] = [await reasons_of(list_gaps(plan, listed.append)), await reasons_of(count_gaps(plan))]

    assert listed == []
    assert reasons == {what: [{"invalid_sql"}] * 2 for what in NO_CONDITIONS}


def with_condition(platform: Platform, what: str, key: str) -> Plan:
    [(old, new)] = no_condition(what, key).config.items()
    return plan_of(CONFIG.replace(old, new), platform.dsn)


async def reasons_of(listing: Awaitable[object]) -> set[str]:
    """Why nothing was listed; none where it was."""
    try:
        await listing
    except CollectionError as error:
        return {error.fault.reason}
    except ListNotMeasuredError as error:
        return {fault.reason for fault in error.faults}
    return set()


FINE = {
    "an aggregate of a sub-query's own": "(select count(*) from profiles p where p.session_id = session.id) >= 0",
    "a window of a sub-query's own": "exists (select 1 from (select row_number() over (order by p.session_id) as n "
    "from profiles p) ranked where ranked.n = 1)",
    "a function that returns nothing": "pg_sleep(0) is not null",
    "the clock of the transaction": "created_at < now()",
    "both names of its table": "session.id = assessment_sessions.id",
}


@pytest.mark.parametrize("key", [key for key in PLACES if key not in OF_RECORDS])
async def test_what_a_row_answers_by_itself_is_measured(platform: Platform, key: str) -> None:
    old, new = PLACES[key]
    found = {}
    for what, sql in FINE.items():
        plan = plan_of(CONFIG.replace(old, new.format(sql=sql)), platform.dsn)
        status = platform.before.after(await measure(plan, collect), now=1.0)
        found[what] = (status.verdict, status.last.faults if status.last else ())

    assert found == dict.fromkeys(FINE, ("healthy", ()))


async def test_the_first_collection_has_not_ended_and_nobody_calls_it_healthy(platform: Platform) -> None:
    found = assert_not_green(initial_status(plan_of(CONFIG, platform.dsn), max_age=300))

    assert found["verdict", "unknown"] == 1
    assert found["up",] == 0


async def test_a_broken_limit_stays_broken_in_an_outage_until_it_is_withdrawn(platform: Platform) -> None:
    """What is known to be bad is not unknown because nobody can look again; what was only a warning, or well, is."""
    parts = urlsplit(platform.dsn)
    nowhere = plan_of(CONFIG, parts._replace(netloc=f"{platform.role}:watching@{parts.hostname}:1").geturl())
    async with injected(platform, "records are missing", None) as broken:
        outage = broken.after(await measure(nowhere, collect), now=2.0)
    board = Board({outage.pipeline: outage}, ReloadStatus(succeeded=True, last_success=1.0))
    at_last = board.without_snapshots(board.withdrawn(outage.taken + 300)).statuses[outage.pipeline]
    too_old = board.without_snapshots(board.withdrawn(outage.taken + 300.1)).statuses[outage.pipeline]

    assert broken.verdict == "unhealthy"
    for status in (outage, at_last):
        found = assert_not_green(status)
        assert found["verdict", "unhealthy"] == 1
        assert found["up",] == 0
    assert assert_not_green(too_old)["verdict", "unknown"] == 1
    assert platform.before.after(await measure(nowhere, collect), now=2.0).verdict == "unknown"


async def test_what_is_withdrawn_is_unknown(platform: Platform) -> None:
    board = Board({platform.before.pipeline: platform.before}, ReloadStatus(succeeded=True, last_success=1.0))
    late = 301.0
    visible = board.without_snapshots(board.withdrawn(late))

    assert_not_green(visible.statuses[platform.before.pipeline])
