"""Whatever a first-time operator gets wrong is said at once, and what is advised ends it."""

import asyncio
import itertools
import re
import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from conftest import TOUR, Beginning, Database, care, plan_of
from test_collect import FOREIGN, as_reader

from exporter.config.read import parse_config
from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.measure.database import is_exposed
from exporter.model.fault import CollectionError
from exporter.model.sql import quote
from exporter.setup.catalog import Server
from exporter.setup.findings import ConfigFinding, FindingGroup, findings_text, has_errors
from exporter.setup.preflight import preflight
from exporter.setup.tables import judge_connection

TABLES = """
create table visits (
  id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean
);
create table scores (visit_id int, version text, blocks int, owner text, at timestamptz);
insert into visits select n, 'done', '2025-05-01', '2025-05-01', n < 3 from generate_series(1, 3) n;
insert into scores select n, 'v3', n, 'somebody', '2025-05-01' from generate_series(1, 2) n;
"""

CONFIG = care(
    database="lock_timeout: 200ms, connect_timeout: 1s",
    scores="created_at: at, version: {column: version, current: v3}",
)

SESSIONS, SCORES = "pipelines.care.sessions", "pipelines.care.records.scores"
GRANTED = "grant select on all tables in schema public to {role}"
_numbers = itertools.count(1)


BEGINNING = Beginning(TABLES)
"""Three visits, two of them eligible, both with current scores."""


@pytest.fixture
async def reader(visits: Database) -> Database:
    """The same for a role that may read what there is so far, and nothing else."""
    return await as_reader(visits, GRANTED)


def role_of(database: Database) -> str:
    return str(urlsplit(database.dsn).username)


def config(*changes: tuple[str, str]) -> str:
    text = CONFIG
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


async def look(database: Database, text: str = CONFIG) -> tuple[FindingGroup, ...]:
    """All that is found; none of it tells where the database is, or how to get in."""
    groups = await preflight(parse_config(text, {"DATABASE_URL": database.dsn}))
    parts = urlsplit(database.dsn)
    for secret in (parts.hostname, parts.password, parts.path[1:], str(parts.port)):
        assert not secret or secret not in findings_text(groups)
    for finding in findings(groups):
        assert parts.username == "postgres" or str(parts.username) not in finding.message
    return groups


def findings(groups: tuple[FindingGroup, ...]) -> list[ConfigFinding]:
    return [finding for group in groups for finding in group.findings]


async def errors(database: Database, text: str = CONFIG) -> list[ConfigFinding]:
    return [finding for finding in findings(await look(database, text)) if finding.severity == "error"]


async def notes(database: Database, text: str = CONFIG) -> list[ConfigFinding]:
    """Without what is said of a superuser."""
    found = [finding for finding in findings(await look(database, text)) if finding.severity == "note"]
    return [finding for finding in found if "superuser" not in finding.message]


async def the_error(database: Database, text: str = CONFIG) -> ConfigFinding:
    [error] = await errors(database, text)
    return error


async def mend(database: Database, finding: ConfigFinding) -> None:
    """Type what is advised, as a superuser."""
    assert finding.remedy
    await database.execute(finding.remedy)


async def assert_whole(database: Database, text: str = CONFIG) -> None:
    groups = await look(database, text)
    assert not has_errors(groups), findings_text(groups)
    assert "2 sessions analysed: 2 complete, 0 pending, 0 gap" in findings_text(groups)


async def is_refused(database: Database, text: str = CONFIG) -> bool:
    """Whether a collection says of row security or of privileges what a look at the catalog should have said."""
    try:
        faults = (await collect(plan_of(text, database.dsn))).record_faults.values()
    except CollectionError as error:
        faults = {None: error.fault}.values()
    return bool({fault.reason for fault in faults} & {"row_security", "permission"})


# --- A healthy one


async def test_a_healthy_database_is_told_by_its_numbers(reader: Database) -> None:
    groups = await look(reader)

    assert [finding.severity for finding in findings(groups)] == ["ok"] * 6
    assert [group.title for group in groups] == ["database main", "pipeline care"]
    assert ConfigFinding("ok", "pipelines.care", "2 sessions analysed: 2 complete, 0 pending, 0 gap") in findings(
        groups
    )
    assert ConfigFinding("ok", SCORES, "sessions by state: 2 current") in findings(groups)
    assert ConfigFinding("ok", "pipelines.care", "the verdict is healthy") in findings(groups)
    assert findings_text(groups).endswith("\n0 errors, 0 notes\n")


async def test_the_sample_platform_is_told_by_its_numbers(backfill: Database) -> None:
    text = findings_text(await look(backfill, TOUR.read_text()))

    assert "157 sessions analysed: 118 complete, 0 pending, 39 gap" in text
    assert "records.fc_scores: sessions by state: 118 current, 28 missing, 11 outdated" in text


# --- The connection


async def test_every_database_is_looked_at_though_others_are_dead(visits: Database) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    parts = urlsplit(visits.dsn)
    where = f"{parts.hostname}:{parts.port}"
    urls = {
        "dead": "postgresql://nobody:geheim@127.0.0.1:1/nowhere",
        "silent": f"postgresql://nobody:geheim@127.0.0.1:{silent.getsockname()[1]}/nowhere",
        "stranger": f"postgresql://nobody:geheim@{where}/{parts.path[1:]}",
        "elsewhere": visits.dsn.replace(parts.path, "/no_such_database"),
        "good": visits.dsn,
    }
    databases = "\n".join(f"  {name}: {{url: '{url}', connect_timeout: 300ms}}" for name, url in urls.items())
    pipeline = CONFIG.partition("pipelines:\n")[2].replace("  care:", "  {0}:\n    database: {0}")
    text = f"databases:\n{databases}\npipelines:\n" + "".join(pipeline.replace("{0}", name) for name in urls)

    groups = await preflight(parse_config(text, {}))
    silent.close()

    said = {finding.path: finding.message for finding in findings(groups) if finding.severity == "error"}
    assert said.keys() == {"databases.dead", "databases.silent", "databases.stranger", "databases.elsewhere"}
    assert "connection refused" in said["databases.dead"]
    assert "raise connect_timeout" in said["databases.silent"]
    assert "password" in said["databases.stranger"]
    assert "the database does not exist" in said["databases.elsewhere"]
    not_looked_at = {finding.path for finding in findings(groups) if "not checked" in finding.message}
    assert not_looked_at == {"pipelines.dead", "pipelines.silent", "pipelines.stranger", "pipelines.elsewhere"}
    assert "pipelines.good: 2 sessions analysed" in findings_text(groups)
    assert "geheim" not in findings_text(groups)


@pytest.mark.parametrize(
    ("peer", "tls", "exposed"),
    [
        (("192.0.2.1", 5432), None, True),
        (("192.0.2.1", 5432), object(), False),
        (("127.0.0.1", 5432), None, False),
        (("::1", 5432, 0, 0), None, False),
        (("fe80::1%eth0", 5432, 0, 2), None, True),
        ("/run/postgresql/.s.PGSQL.5432", None, False),
        ("", None, False),
    ],
)
def test_only_a_network_without_tls_lets_others_read_along(peer: object, tls: object, exposed: bool) -> None:
    told = {"peername": peer, "ssl_object": tls}
    connection: Any = SimpleNamespace(_transport=SimpleNamespace(get_extra_info=told.get))

    assert is_exposed(connection) is exposed


async def test_nobody_reads_along_on_this_machine(server: EmbeddedPostgres, visits: Database) -> None:
    local = await asyncpg.connect(
        host=str(server.socket_directory), port=server.port, user="postgres", password=server.password
    )

    assert not is_exposed(visits.connection)
    assert not is_exposed(local)
    await local.close()


def test_a_connection_that_is_not_encrypted_and_a_superuser_are_noted() -> None:
    server = Server(version="18", role="somebody", is_superuser=True, bypasses_row_security=True)

    [connected, open_to_all, superuser] = judge_connection(
        "databases.main", server, is_encrypted=False, powers=("superuser",)
    )
    quiet = judge_connection("databases.main", replace(server, is_superuser=False), is_encrypted=True)

    assert connected.severity == "ok"
    assert open_to_all.severity == "note"
    assert "not encrypted" in open_to_all.message
    assert "sslmode=verify-full" in open_to_all.message
    assert "serve refuses the role, because the role may do more than read (superuser)" in superuser.message
    assert [finding.severity for finding in quiet] == ["ok"]


@pytest.mark.parametrize(("allowed", "noted"), [("false", 1), ("true", 0)])
async def test_a_role_that_serve_refuses_is_noted(visits: Database, allowed: str, noted: int) -> None:
    text = care(database=f"allow_superuser: {allowed}", scores="created_at: at")

    found = findings(await look(visits, text))

    assert sum("serve refuses the role" in note.message for note in found) == noted


_PIPELINE = CONFIG.partition("pipelines:\n")[2]
TWO_PIPELINES = CONFIG + _PIPELINE.replace("care:", "other:")
THREE_PIPELINES = TWO_PIPELINES + _PIPELINE.replace("care:", "third:")


async def test_a_role_of_one_connection_is_enough_for_one_pipeline(reader: Database) -> None:
    await reader.execute(f"alter role {role_of(reader)} connection limit 1")

    for _ in range(3):
        await assert_whole(reader)
    assert await notes(reader) == []


async def test_a_role_that_is_just_leaving_is_waited_for(reader: Database) -> None:
    await reader.execute(f"alter role {role_of(reader)} connection limit 1")
    leaving = await asyncpg.connect(reader.dsn)
    looking = asyncio.create_task(assert_whole(reader))
    await asyncio.sleep(0.2)
    await leaving.close()

    await looking


@pytest.mark.parametrize(("limit", "is_noted"), [(1, True), (2, False), (-1, False)])
async def test_fewer_connections_than_pipelines_are_noted(reader: Database, limit: int, is_noted: bool) -> None:
    await reader.execute(f"alter role {role_of(reader)} connection limit {limit}")

    found = await notes(reader, TWO_PIPELINES)

    assert ["the role may have 1" in note.message for note in found] == [True] * is_noted
    for note in found:
        await mend(reader, note)
    assert await notes(reader, TWO_PIPELINES) == []


async def test_fewer_connections_of_a_database_than_pipelines_are_noted(reader: Database) -> None:
    name = await reader.connection.fetchval("select quote_ident(current_database())")
    await reader.execute(f"alter database {name} connection limit 2")

    [note] = await notes(reader, THREE_PIPELINES)

    assert "the database may have 2" in note.message
    assert "CONNECTION LIMIT" in note.message


# --- Tables and columns


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("score", '"score" does not exist; did you mean scores? (known: scores, visits)'),
        ("public.SCOREZ", '"public"."scorez" does not exist; did you mean scores? (known: scores, visits)'),
        ('"Scores"', '"Scores" does not exist; did you mean scores?'),
        ("publik.scores", '"publik"."scores" does not exist: write public.scores'),
        ("publik.other", 'the schema "publik" does not exist; did you mean public?'),
        ("public.zzz", '"public"."zzz" does not exist: create it, or correct the config'),
        ("a_sequence", '"public"."a_sequence" is not a table but of kind sequence: name a table or a view'),
    ],
)
async def test_a_table_that_is_not_there_is_told_with_the_one_that_was_meant(
    reader: Database, table: str, message: str
) -> None:
    await reader.execute("create sequence a_sequence")

    error = await the_error(reader, config(("table: scores", f"table: '{table}'")))

    assert (error.path, error.remedy) == (f"{SCORES}.table", None)
    assert error.message.startswith(message)


async def test_a_table_of_another_schema_is_told_as_the_config_should_write_it(reader: Database) -> None:
    await reader.execute('create schema "Old Stuff"; alter table scores set schema "Old Stuff"')

    error = await the_error(reader)

    assert error.message == '"scores" does not exist in the search path: write "Old Stuff".scores'
    await mend(reader, error)
    await assert_whole(reader, config(("table: scores", "table: '\"Old Stuff\".scores'")))


@pytest.mark.parametrize(
    ("change", "path", "known"),
    [
        (("status: status", "status: Status"), f"{SESSIONS}.status", "did you mean status?"),
        (("key: id", "key: idd"), f"{SESSIONS}.key", "did you mean id?"),
        (("started_at: started_at", "started_at: start_at"), f"{SESSIONS}.started_at", "did you mean started_at?"),
        (("completed_at: completed_at", "completed_at: zz"), f"{SESSIONS}.completed_at", "known: id, status, "),
        (("session_key: visit_id", "session_key: visit"), f"{SCORES}.session_key", "did you mean visit_id?"),
        (("created_at: at", "created_at: att"), f"{SCORES}.created_at", "did you mean at?"),
        (("column: version", "column: vers"), f"{SCORES}.version.column", "did you mean version?"),
        (("created_at: at", "accepted_values: {'a b': [x]}"), f'{SCORES}.accepted_values."a b"', "known: "),
    ],
)
async def test_a_column_that_is_not_there_is_told_with_the_one_that_was_meant(
    reader: Database, change: tuple[str, str], path: str, known: str
) -> None:
    error = await the_error(reader, config(change))

    assert error.path == path
    assert "has no column" in error.message
    assert known in error.message


@pytest.mark.parametrize("kind", ["text", "boolean", "time", "bigint"])
@pytest.mark.parametrize(
    ("table", "column", "path"),
    [
        ("visits", "started_at", f"{SESSIONS}.started_at"),
        ("visits", "completed_at", f"{SESSIONS}.completed_at"),
        ("scores", "at", f"{SCORES}.created_at"),
    ],
)
async def test_a_column_that_does_not_say_when_is_told(
    reader: Database, table: str, column: str, path: str, kind: str
) -> None:
    await reader.execute(f"alter table {table} alter {column} type {kind} using null")

    error = await the_error(reader)

    assert error.path == path
    assert f'"{column}" is {kind if kind != "time" else "time without time zone"}, not a time' in error.message
    assert "timestamptz" in error.message


async def test_times_without_a_zone_are_noted_with_the_way_to_name_theirs(reader: Database) -> None:
    await reader.execute(
        "create domain moment as timestamptz; alter table visits alter started_at type timestamp, "
        "alter completed_at type moment; alter table scores alter at type date"
    )

    [started, written] = await notes(reader)

    assert started.path == f"{SESSIONS}.started_at"
    assert "read as UTC" in started.message
    assert "timezone: <IANA name> in this section, such as Europe/Berlin" in started.message
    assert (written.path, "midnight in UTC" in written.message) == (f"{SCORES}.created_at", True)


@pytest.mark.parametrize(
    ("key", "pointing", "advice"),
    [
        ("uuid", "text", "uuid"),
        ("text", "uuid", "text"),
        ("int", "text", "integer"),
        ("kind", "text", "public.kind"),
        ("uuid", "varchar(36)", "uuid"),
        ("bigint", "int", None),
        ("varchar(36)", "text", None),
        ("text", "label", None),
    ],
)
async def test_keys_of_types_that_do_not_compare_are_told_with_the_cast_that_helps(
    reader: Database, key: str, pointing: str, advice: str | None
) -> None:
    await reader.execute(
        f"""
        create type kind as enum ('a'); create domain label as text not null; truncate visits, scores;
        alter table visits alter id type {key} using null;
        alter table scores alter visit_id type {pointing} using null
        """
    )
    if advice is None:
        assert await errors(reader) == []
        return

    error = await the_error(reader)

    assert error.path == f"{SCORES}.session_key"
    [advised] = re.findall(r": write (\{.*?\})", error.message)
    assert advised == f"{{column: visit_id, cast: {advice}}}"
    advised = config(("session_key: visit_id", f"session_key: {advised}"))
    assert await errors(reader, advised) == []


async def test_keys_that_nothing_makes_comparable_are_told(reader: Database) -> None:
    await reader.execute("alter table scores alter visit_id type uuid using null")
    wrong_cast = config(("session_key: visit_id", "session_key: {column: visit_id, cast: json}"))

    for text in (CONFIG, wrong_cast):
        error = await the_error(reader, text)

        assert error.path == f"{SCORES}.session_key"
        assert error.message.endswith("name a column of type integer, or read a view that converts it")


async def test_a_key_without_an_index_is_noted_with_the_index(reader: Database) -> None:
    await reader.execute("alter table visits drop constraint visits_pkey")

    [note] = await notes(reader)
    await mend(reader, note)

    assert note.path == f"{SESSIONS}.key"
    assert note.remedy == 'CREATE UNIQUE INDEX CONCURRENTLY ON "public"."visits" ("id");'
    assert await notes(reader) == []


INVALID = """
create unique index on visits (id); update pg_index set indisvalid = false where indrelid = 'visits'::regclass
"""


async def test_a_large_table_without_the_indexes_of_slices_is_noted_with_the_indexes(reader: Database) -> None:
    await reader.execute("update pg_class set reltuples = 2e6 where oid = 'visits'::regclass")

    [note] = [one for one in await notes(reader) if "slices lack an index" in one.message]

    assert note.path == f"{SESSIONS}.table"
    assert note.remedy is not None
    for statement in note.remedy.replace(" concurrently", "").split("\n"):
        await reader.connection.execute(statement)
    await reader.execute("update pg_class set reltuples = 2e6 where oid = 'visits'::regclass")
    assert [one for one in await notes(reader) if "slices lack an index" in one.message] == []


async def test_an_index_that_spares_the_reading_of_a_large_record_is_noted_with_its_size(
    reader: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.setup.preflight.LARGE_TABLE", 1e6)
    await reader.execute("alter table scores add answers text")
    await reader.execute("insert into scores select n, 'v3', 1, repeat('a', 300) from generate_series(1000, 20000) n")
    await reader.execute("analyze scores")

    [note] = [one for one in await notes(reader) if "spares the reading" in one.message]

    assert note.path == f"{SCORES}.table"
    assert note.remedy is not None
    await reader.connection.execute(note.remedy.replace(" concurrently", ""))
    [told] = re.findall(r"takes about ([0-9.]+) MB", note.message)
    size = await reader.connection.fetchval(
        "select pg_relation_size(indexrelid) / 1e6 from pg_index where indrelid = 'scores'::regclass "
        "order by indexrelid desc limit 1"
    )
    assert abs(float(told) - float(size)) <= 1
    assert [one for one in await notes(reader) if "spares the reading" in one.message] == []


@pytest.mark.parametrize(
    ("index", "proved"),
    [
        ("create unique index on visits (id)", True),
        ("create unique index on visits (id) include (status)", True),
        ("create unique index on visits (id, status)", False),
        ("create unique index on visits (id) where id > 0", False),
        ("create unique index on visits (id, (1))", False),
        ("alter table visits add unique (id) deferrable", False),
        ("create index on visits (id)", False),
        ("create unique index on visits (id); create table more () inherits (visits)", False),
        (
            "create unique index on visits (id); update pg_index set indisvalid = (indrelid <> 'visits'::regclass)",
            False,
        ),
    ],
)
async def test_only_an_index_over_all_rows_proves_a_key(reader: Database, index: str, proved: bool) -> None:
    await reader.execute("alter table visits drop constraint visits_pkey;" + index)

    assert ([note.path for note in await notes(reader)] == []) is proved


async def test_the_key_of_a_view_is_noted_and_no_index_is_advised(visits: Database) -> None:
    await visits.execute("create view every_visit as select * from visits")
    reader = await as_reader(visits, GRANTED)

    [note] = await notes(reader, config(("table: visits", "table: every_visit")))

    assert (note.path, note.remedy) == (f"{SESSIONS}.key", None)
    assert "checks the rows in one more pass" in note.message


async def test_a_key_that_does_not_tell_sessions_apart_is_told_with_the_way_to_see_it(reader: Database) -> None:
    await reader.execute("alter table visits drop constraint visits_pkey; insert into visits values (1)")

    error = await the_error(reader)

    assert error.path == f"{SESSIONS}.key"
    assert error.remedy
    assert [tuple(row) for row in await reader.connection.fetch(error.remedy)] == [(1, 2)]
    assert "nothing was collected" in findings_text(await look(reader))


async def test_a_materialized_view_that_was_never_filled_is_told(visits: Database) -> None:
    await visits.execute(
        "alter table scores rename to source; create materialized view scores as select * from source with no data"
    )
    reader = await as_reader(visits, GRANTED)

    error = await the_error(reader)
    await mend(reader, error)

    assert error.path == f"{SCORES}.table"
    await assert_whole(reader)


# --- Privileges


@pytest.mark.parametrize("name", ["reader", "Re ader", 'a"b'])
async def test_missing_privileges_are_told_as_the_very_grants(visits: Database, name: str) -> None:
    role = f"{name}{next(_numbers)}"
    await visits.execute(
        f"create role {quote(role)} login password 'x'; create schema closed; alter table scores set schema closed"
    )
    parts = urlsplit(visits.dsn)
    user = role.replace(" ", "%20").replace('"', "%22")
    reader = Database(parts._replace(netloc=f"{user}:x@{parts.hostname}:{parts.port}").geturl(), visits.connection)
    text = config(("table: scores", "table: closed.scores"))

    [sessions, scores] = await errors(reader, text)
    for error in (sessions, scores):
        await mend(reader, error)

    assert (sessions.path, scores.path) == (f"{SESSIONS}.table", f"{SCORES}.table")
    assert sessions.remedy == f'GRANT SELECT ON "public"."visits" TO {quote(role)};'
    assert scores.remedy == (
        f'GRANT USAGE ON SCHEMA "closed" TO {quote(role)};\nGRANT SELECT ON "closed"."scores" TO {quote(role)};'
    )
    await assert_whole(reader, text)
    await visits.execute(f"drop owned by {quote(role)}; drop role {quote(role)}")


async def test_a_view_over_what_its_owner_may_not_read_is_told_with_the_grant(visits: Database) -> None:
    owner = f"owner_{next(_numbers)}"
    await visits.execute(
        f"create role {owner}; grant create on schema public to {owner}; grant select on scores to {owner}; "
        f"alter table scores rename to source; set role {owner}; create view scores as select * from source; "
        f"reset role; revoke select on source from {owner}"
    )
    reader = await as_reader(visits, GRANTED)
    assert await is_refused(reader)

    error = await the_error(reader)
    await mend(reader, error)

    assert error.remedy == f'GRANT SELECT ON "public"."source" TO "{owner}";'
    assert '"public"."scores" reads "public"."source"' in error.message
    await assert_whole(reader)
    await visits.execute(f"drop owned by {owner}; drop role {owner}")


# --- Row security

HIDDEN = "alter table {0} enable row level security;"
VIEW = "alter table scores rename to source; create view scores {0} as select * from source;"
OWNED = "create role {{other}}; alter table {0} owner to {{other}};"
PARTED = """
alter table scores rename to source;
create table scores (visit_id int, version text, blocks int, owner text, at timestamptz) partition by list (version);
create table new_scores partition of scores for values in ('v3');
insert into scores select * from source;
"""


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (HIDDEN.format("scores"), "applies to this role: no policy allows a row"),
        (HIDDEN.format("visits"), "applies to this role: no policy allows a row"),
        (HIDDEN.format("scores") + "create policy p on scores using (true)", "USING (true) hides nothing, but"),
        (HIDDEN.format("scores") + "create policy p on scores using (visit_id > 1)", "rows may be hidden"),
        (HIDDEN.format("scores") + "create policy p on scores for delete using (true)", "no policy allows a row"),
        (HIDDEN.format("scores") + "create policy p on scores to postgres using (true)", "no policy allows a row"),
        (
            HIDDEN.format("scores") + "alter table scores owner to {role}, force row level security",
            "this role, although the owner of the table, because FORCE ROW LEVEL SECURITY is on",
        ),
        (
            VIEW.format("with (security_invoker)") + HIDDEN.format("source"),
            'this role (read through the security_invoker view "public"."scores")',
        ),
        (
            VIEW.format("") + OWNED.format("scores") + "grant select on source to {other};" + HIDDEN.format("source"),
            'the owner of the view, the reader behind the view (read through the view "public"."scores")',
        ),
        (
            VIEW.format("with (security_invoker)")
            + "alter view scores rename to inner_view; create view scores as select * from inner_view;"
            + HIDDEN.format("source"),
            'the security_invoker view "public"."inner_view"',
        ),
        (
            VIEW.format("")
            + OWNED.format("source")
            + "alter view scores owner to {other};"
            + HIDDEN.format("source")
            + "alter table source force row level security",
            "reader behind the view, although the owner of the table, because FORCE ROW LEVEL SECURITY is on",
        ),
        (PARTED + HIDDEN.format("scores"), "applies to this role: no policy allows a row"),
        (VIEW.format("") + HIDDEN.format("source"), None),
        (
            VIEW.format("") + OWNED.format("source") + "alter view scores owner to {other};" + HIDDEN.format("source"),
            None,
        ),
        (HIDDEN.format("scores") + "alter table scores owner to {role}", None),
        (HIDDEN.format("scores") + OWNED.format("scores") + "grant {other} to {role}", None),
        (HIDDEN.format("scores") + "alter role {role} bypassrls", None),
        (HIDDEN.format("scores") + "alter role {role} superuser", None),
        ("alter table scores force row level security; alter table scores owner to {role}", None),
        ("create policy p on scores using (false)", None),
        (PARTED + HIDDEN.format("new_scores"), None),
        (
            VIEW.format("") + "create table log (x int); create rule log as on insert to scores do instead "
            "insert into log select 1; alter view scores owner to {role}; grant select on source to {role};"
            + HIDDEN.format("log"),
            None,
        ),
    ],
)
async def test_row_security_is_told_exactly_where_the_server_refuses_with_what_ends_it(
    visits: Database, change: str, told: str | None
) -> None:
    if "security_invoker" in change and visits.connection.get_server_version().major < 15:
        pytest.skip("security_invoker is of PostgreSQL 15 and newer")
    reader = await as_reader(visits)
    names = {"role": role_of(reader), "other": f"other_{next(_numbers)}"}
    await visits.execute(change.format(**names) + "; " + GRANTED.format(**names))
    assert await is_refused(reader) is (told is not None)
    if told is None:
        await assert_whole(reader)
        return

    error = await the_error(reader)
    await mend(reader, replace(error, remedy=str(error.remedy).splitlines()[0]))

    assert told in error.message
    assert str(error.remedy).startswith("ALTER ROLE ")
    assert str(error.remedy).splitlines()[0].endswith(" BYPASSRLS;")
    await assert_whole(reader)


async def test_a_view_that_shows_every_row_is_advised_where_it_would(visits: Database) -> None:
    reader = await as_reader(visits, GRANTED)
    await visits.execute(HIDDEN.format("scores"))

    error = await the_error(reader)
    await mend(reader, replace(error, remedy="\n".join(str(error.remedy).splitlines()[1:])))

    await assert_whole(reader, config(("table: scores", "table: scores_for_health")))
    await visits.execute(
        f"alter table scores force row level security; create role fussy_{role_of(reader)}; "
        f"alter table scores owner to fussy_{role_of(reader)}"
    )
    assert "CREATE VIEW" not in str((await the_error(reader)).remedy)


async def test_a_view_whose_owner_is_hidden_rows_from_may_get_the_tables_owner(visits: Database) -> None:
    reader = await as_reader(visits)
    names = {"role": role_of(reader), "other": f"other_{next(_numbers)}"}
    change = VIEW.format("") + OWNED.format("scores") + "grant select on source to {other};" + HIDDEN.format("source")
    await visits.execute(f"{change.format(**names)}; {GRANTED.format(**names)}")

    error = await the_error(reader)
    await mend(reader, replace(error, remedy="\n".join(str(error.remedy).splitlines()[1:])))

    assert 'ALTER VIEW "public"."scores" OWNER TO "postgres";' in str(error.remedy)
    await assert_whole(reader)


async def test_a_table_that_only_an_expression_reads_is_told_too(visits: Database) -> None:
    reader = await as_reader(visits, "create table flags as select 1 as visit_id", GRANTED)
    await visits.execute(HIDDEN.format("flags"))
    text = config(("created_at: at", "created_at: at, required_when: exists (select from flags where visit_id <> id)"))

    error = await the_error(reader, text)
    await mend(reader, error)

    assert error.path == f"{SCORES}.required_when"
    assert str(error.remedy).splitlines()[0] == f'ALTER ROLE "{role_of(reader)}" BYPASSRLS;'
    await assert_whole(reader, text)


async def test_where_policies_are_allowed_they_are_noted_and_what_they_show_is_counted(reader: Database) -> None:
    await reader.execute(HIDDEN.format("scores") + "create policy p on scores using (visit_id = 1)")
    text = config(("lock_timeout", "row_security: allow, lock_timeout"))

    groups = await look(reader, text)

    [note] = [finding for finding in findings(groups) if "row-level security" in finding.message]
    assert (note.severity, note.path) == ("note", f"{SCORES}.table")
    assert not has_errors(groups)
    assert "2 sessions analysed: 1 complete, 0 pending, 1 gap" in findings_text(groups)


@pytest.mark.parametrize(
    "change",
    [
        "create foreign table scores (visit_id int, version text, at timestamptz) server elsewhere",
        """
            create table scores (visit_id int, version text, at timestamptz) partition by list (version);
            create foreign table old_scores partition of scores for values in ('v2') server elsewhere
            """,
        """
            create foreign table far (visit_id int, version text, at timestamptz) server elsewhere;
            create view scores as select * from far
            """,
    ],
)
async def test_a_foreign_table_is_told(visits: Database, change: str) -> None:
    await visits.execute(FOREIGN + "drop table scores;" + change)
    reader = await as_reader(visits, GRANTED)

    [finding] = [finding for finding in findings(await look(reader)) if "foreign table" in finding.message][:1]

    assert (finding.path, finding.severity) == (f"{SCORES}.table", "error")
    assert "read the table on its own server; a record may name its database" in finding.message


# --- Expressions


async def test_every_broken_expression_is_told_with_its_place(reader: Database) -> None:
    text = config(
        ("eligible: done", "eligible: dnoe"),
        (
            "created_at: at",
            "created_at: at, required_when: status > 5, valid: blocks, where: count(*) > 0",
        ),
    )

    told = {error.path: error.message for error in await errors(reader, text)}

    assert told.keys() == {f"{SESSIONS}.eligible", *(f"{SCORES}.{key}" for key in ("required_when", "valid", "where"))}
    assert 'column "dnoe" does not exist' in told[f"{SESSIONS}.eligible"]
    assert "operator does not exist: text > integer" in told[f"{SCORES}.required_when"]
    assert "must be type boolean" in told[f"{SCORES}.valid"]
    assert "aggregate functions are not allowed" in told[f"{SCORES}.where"]


async def test_a_column_with_a_number_of_rows_must_be_one_of_the_sessions(reader: Database) -> None:
    text = config(("created_at: at", "created_at: at, rows: {at_least: version, at_most: dnoe}"))

    told = [(error.path, error.message) for error in await errors(reader, text)]

    assert [path for path, _ in told] == [f"{SCORES}.rows"] * 2
    assert all("has no column" in message for _, message in told)


async def test_a_column_with_a_number_of_rows_must_hold_numbers(reader: Database) -> None:
    [error] = await errors(reader, config(("created_at: at", "created_at: at, rows: status")))

    assert error.path == SCORES
    assert "operator does not exist: text" in error.message


async def test_a_broken_check_is_told_and_the_rest_is_counted(reader: Database) -> None:
    text = config(("eligible: done", "eligible: done, checks: {broken: dnoe, good: done}"))

    groups = await look(reader, text)

    [error] = [finding for finding in findings(groups) if finding.severity == "error"]
    assert error.path == f"{SESSIONS}.checks.broken"
    assert "2 sessions analysed: 2 complete" in findings_text(groups)


async def test_a_broken_expression_is_told_though_its_table_may_not_be_read(visits: Database) -> None:
    reader = await as_reader(visits)
    text = config(("eligible: done", "eligible: dnoe"))

    told = {error.path for error in await errors(reader, text)}

    assert told == {f"{SESSIONS}.table", f"{SCORES}.table", f"{SESSIONS}.eligible"}


async def test_what_only_rows_can_break_is_told_by_the_collection(reader: Database) -> None:
    text = config(("created_at: at", "created_at: at, valid: 1 / (blocks - 1) > 0"))

    error = await the_error(reader, text)

    assert error.path == SCORES
    assert "does not fit" in error.message


# --- The window

MANY = (
    "insert into visits select n, 'done', '2020-01-01', null, false from generate_series(10, 11000) n; analyze visits"
)


async def test_a_window_without_an_index_is_noted_where_the_table_is_large(reader: Database) -> None:
    assert await notes(reader) == []
    await reader.execute(MANY)

    [note] = await notes(reader)
    await mend(reader, note)

    assert note.path == f"{SESSIONS}.started_at"
    assert "about 10994 rows" in note.message
    assert note.remedy == 'CREATE INDEX CONCURRENTLY ON "public"."visits" ("started_at");'
    assert await notes(reader) == []


@pytest.mark.parametrize(
    ("index", "enough"),
    [
        ("(started_at, id)", True),
        ("using brin (started_at)", True),
        ("(id, started_at)", False),
        ("using hash (started_at)", False),
        ("((started_at is null), started_at)", False),
        ("(started_at) where done", False),
    ],
)
async def test_only_an_index_that_begins_with_the_start_serves_the_window(
    reader: Database, index: str, enough: bool
) -> None:
    await reader.execute(f"{MANY}; create index on visits {index}")

    assert ([note.path for note in await notes(reader)] == []) is enough


async def test_the_index_of_a_partitioned_table_is_advised_as_postgresql_can_build_it(visits: Database) -> None:
    await visits.execute(
        """
        alter table visits rename to source;
        create table visits (id int primary key, status text, started_at timestamptz, completed_at timestamptz,
          done boolean) partition by range (id);
        create table visits_1 partition of visits for values from (0) to (5000);
        create table visits_2 partition of visits for values from (5000) to (50000);
        insert into visits select * from source;
        """
        + MANY
        + "; analyze visits_1; analyze visits_2"
    )
    reader = await as_reader(visits, GRANTED)

    [note] = await notes(reader)
    await mend(reader, note)

    assert note.path == f"{SESSIONS}.started_at"
    assert "CONCURRENTLY" not in str(note.remedy)
    assert await notes(reader) == []


# --- The collection


async def test_a_window_without_an_eligible_session_is_noted_with_the_statuses_in_it(reader: Database) -> None:
    note, *_ = await notes(reader, config(("eligible: done", "eligible: status = 'dnoe'")))

    assert note.path == "pipelines.care"
    assert "no session in the window is eligible" in note.message
    assert "by status: 3 done" in note.message


async def test_a_current_version_that_no_row_has_is_noted_with_those_that_there_are(reader: Database) -> None:
    note, _verdict, unjudged = await notes(reader, config(("current: v3", "current: v4")))

    assert note.path == f"{SCORES}.version.current"
    assert "rows by version: 2 v3" in note.message
    assert "2 sessions have a gap, and no limit judges gaps" in unjudged.message


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ("update scores set visit_id = visit_id + 90", "visit_id", 'is integer, "id" of the sessions is integer'),
        (
            "alter table scores add n int; update scores set n = -blocks",
            "n",
            "name the column with the session's key (same type: blocks, visit_id), or read a view",
        ),
        (
            "alter table scores alter visit_id type text using '0' || visit_id",
            "{column: visit_id, cast: text}",
            "or write {column: visit_id, cast: integer}, or read a view",
        ),
        ("update scores set visit_id = visit_id + 90 where visit_id = 1", "visit_id", None),
        ("update scores set visit_id = null", "visit_id", None),
        ("truncate scores", "visit_id", None),
        ("truncate visits", "visit_id", None),
    ],
)
async def test_a_key_that_finds_no_session_is_noted_with_both_types(
    reader: Database, change: str, key: str, words: str | None
) -> None:
    text = config(("session_key: visit_id", f"session_key: {key}"))
    await reader.execute(change)

    told = [note for note in await notes(reader, text) if note.path == f"{SCORES}.session_key"]

    assert [(words or "") in note.message for note in told] == ([True] if words else [])
    if words and "write {" in told[0].message:
        [printed] = re.findall(r"write (\{.*?\})", told[0].message)
        assert not await errors(reader, config(("session_key: visit_id", f"session_key: {printed}")))
        await assert_whole(reader, config(("session_key: visit_id", f"session_key: {printed}")))


async def test_a_broken_limit_is_noted_with_the_verdict(reader: Database) -> None:
    await reader.execute("delete from scores where visit_id = 1")
    text = CONFIG + "    limits: {sessions_with_gap: {critical: 0}, gap_ratio: {warning: 0.9}}\n"

    groups = await look(reader, text)

    assert ConfigFinding("note", "pipelines.care", "the verdict is unhealthy") in findings(groups)
    assert ConfigFinding("note", "pipelines.care.limits.sessions_with_gap", "critical: 1 > 0") in findings(groups)
    assert not has_errors(groups)


async def test_every_key_of_a_dimension_is_looked_at(reader: Database) -> None:
    text = config(
        (
            "eligible: done",
            "eligible: done, completed: stats = 'x', checks: {ok: done, odd: exists (select 1 from gone)}",
        ),
        ("created_at: at,", "created_at: at, unique: [visit_id, versoin],"),
    )

    found = {finding.path: finding.message for finding in await errors(reader, text)}

    assert set(found) == {f"{SESSIONS}.completed", f"{SESSIONS}.checks.odd", f"{SCORES}.unique"}
    assert "version" in found[f"{SCORES}.unique"]
    assert '"gone" does not exist' in found[f"{SESSIONS}.checks.odd"]


async def test_a_time_without_a_zone_is_noted_unless_its_zone_is_declared(reader: Database) -> None:
    await reader.execute("alter table visits alter started_at type timestamp, alter completed_at type timestamp")
    naive = await notes(reader)
    declared = await notes(reader, config(("eligible: done", "eligible: done, timezone: Europe/Berlin")))
    unknown = await errors(reader, config(("eligible: done", "eligible: done, timezone: Europe/Berlni")))
    of_one = await notes(reader, config(("created_at: at,", "created_at: at, timezone: Asia/Tokyo,")))

    assert [note.path for note in naive] == [f"{SESSIONS}.started_at", f"{SESSIONS}.completed_at"]
    assert all("timezone: " in note.message for note in naive)
    assert declared == []
    assert unknown[0].path == f"{SESSIONS}.timezone"
    assert "did you mean Europe/Berlin?" in unknown[0].message
    assert "remove timezone, it has no effect here" in of_one[-1].message


async def test_what_is_lost_with_a_record_is_said_beside_what_is_not(reader: Database) -> None:
    text = CONFIG + "      notes: {table: scorez, session_key: visit_id}\n"

    groups = await look(reader, text)

    assert [finding.path for finding in findings(groups) if finding.severity == "error"] == [
        "pipelines.care.records.notes.table"
    ]
    assert "needs every record; not measured: notes" in findings_text(groups)
    assert ConfigFinding("ok", SCORES, "sessions by state: 2 current") in findings(groups)


# --- All at once


async def test_a_config_with_many_mistakes_is_told_them_all_in_one_run(visits: Database) -> None:
    await visits.execute(
        """
        create table answers (visit text, at timestamptz, kind text);
        create table logs (visit_id int, at text);
        create table notes (visit_id int);
        alter table logs enable row level security;
        alter table visits drop constraint visits_pkey;
        insert into visits values (1);
        """
    )
    reader = await as_reader(visits, "grant select on visits, answers, logs to {role}")
    text = (
        config(
            ("status: status", "status: state"),
            ("started_at: started_at", "started_at: done"),
            ("eligible: done", "eligible: paid"),
        )
        + """
      answers: {table: public.answers, session_key: visit, created_at: att, valid: kind > 0}
      logs: {table: logs, session_key: visit_id, created_at: at, where: level = 'x'}
      notes: {table: notes, session_key: visit}
      far: {table: far.away, session_key: visit_id}
  second:
    window: {last: 90d}
    sessions: {table: vists, key: id, status: status, started_at: started_at, completed_at: completed_at,
      eligible: done}
    records: {scores: {table: score, session_key: visit_id}}
"""
    )

    groups = await look(reader, text)

    records = "pipelines.care.records"
    assert sorted(finding.path for finding in findings(groups) if finding.severity == "error") == sorted(
        [
            f"{SESSIONS}.status",
            f"{SESSIONS}.started_at",
            f"{SESSIONS}.eligible",
            f"{SESSIONS}.key",
            f"{SCORES}.table",
            f"{records}.answers.session_key",
            f"{records}.answers.created_at",
            f"{records}.answers.valid",
            f"{records}.logs.table",
            f"{records}.logs.created_at",
            f"{records}.logs.where",
            f"{records}.notes.table",
            f"{records}.notes.session_key",
            f"{records}.far.table",
            "pipelines.second.sessions.table",
            "pipelines.second.records.scores.table",
        ]
    )
    assert has_errors(groups)
    assert findings_text(groups).endswith("16 errors, 2 notes\n")


def test_a_name_cannot_command_the_terminal() -> None:
    group = FindingGroup("database main", (ConfigFinding("note", "a", "b\x1b[2Jc\nd", "DROP \x1b;\nSELECT 1;"),))

    text = findings_text([group])

    assert "\x1b" not in text
    assert "b\\x1b[2Jc\\nd" in text
    assert "         SELECT 1;\n" in text


async def test_many_locks_are_noted(reader: Database) -> None:
    await reader.execute(
        "alter table scores rename to one_of_many; create table scores (like one_of_many) partition by range (visit_id)"
    )
    for number in range(60):
        await reader.execute(
            f"create table part_{number} partition of scores for values from ({number}) to ({number + 1}); "
            f"create index on part_{number} (visit_id)"
        )
    await reader.execute("grant select on all tables in schema public to public")

    [note] = [note for note in await notes(reader) if "needs about" in note.message]

    assert "needs about 12" in note.message
    assert "raise max_locks_per_transaction" in note.message
