"""A collection on a real database: what it takes, what it survives, and what it says when it cannot."""

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from conftest import Beginning, Database, NewDatabase, Numbers, another_clock, care, plan_of
from waiting import at_most

from exporter.embedded import EmbeddedPostgres
from exporter.measure.collect import collect
from exporter.measure.supervise import initial_status, measure
from exporter.model.fault import CollectionError, Fault

TABLES = """
create table visits (
  id int primary key, status text, started_at timestamptz, completed_at timestamptz, done boolean, secret text
);
create table scores (visit_id int, version text, blocks int, owner text);
create table notes (visit_id int, version text);
"""

ROWS = """
insert into visits select n, 'done', '2025-05-01', '2025-05-01', true, 'hunter2' from generate_series(1, 3) n;
insert into scores select n, 'v3', n, 'hunter2' from generate_series(1, 2) n;
insert into notes select n, 'v1' from generate_series(1, 3) n;
"""

CONFIG = care(
    database="lock_timeout: 200ms, DATABASE",
    eligible="ELIGIBLE",
    scores="version: {column: version, current: v3}, SCORES",
    notes="version: {column: version, current: v1}",
)

ENDLESS = (
    "create function endless(n int) returns boolean language plpgsql stable as "
    "$$ begin return public.endless(n + 1); end $$"
)
MATERIALIZED = "alter table scores rename to source; create materialized view scores as select * from source "

_numbers = itertools.count(1)


def config(scores: str = "", eligible: str = "done", database: str = "", text: str = CONFIG) -> str:
    """The config with more keys for the record `scores` and for the database."""
    text = text.replace(", DATABASE", f", {database}" if database else "").replace("ELIGIBLE", eligible)
    return text.replace(", SCORES", f", {scores}" if scores else "")


BEGINNING = Beginning(TABLES + ROWS)
"""Three eligible visits: one lacks scores, all have notes."""


async def as_reader(database: Database, *grants: str) -> Database:
    """The same database for a new role that may do nothing but what the grants (`{role}`) allow."""
    role = f"reader_{next(_numbers)}"
    await database.execute(f"create role {role} login password 'wOrd-{role}'")
    for grant in grants:
        await database.execute(grant.format(role=role))
    parts = urlsplit(database.dsn)
    return Database(
        parts._replace(netloc=f"{role}:wOrd-{role}@{parts.hostname}:{parts.port}").geturl(), database.connection
    )


GRANTS = 'GRANT USAGE ON SCHEMA "public" TO <role>; GRANT SELECT ON "public"."{}" TO <role>'

SELECT_ALL = "grant select on all tables in schema public to {role}"


async def refused(database: Database, text: str) -> Fault:
    """The fault of a collection that takes no snapshot; its message keeps every secret."""
    with pytest.raises(CollectionError) as error:
        await database.measure(text)
    fault = error.value.fault
    assert str(error.value) == fault.message
    assert error.value.__cause__ is None
    assert_keeps_secrets(fault, database.dsn)
    return fault


def assert_keeps_secrets(fault: Fault, dsn: str) -> None:
    parts = urlsplit(dsn)
    for secret in (parts.hostname, parts.password, parts.path[1:], str(parts.port or ""), "hunter2"):
        assert not secret or secret not in fault.message
    assert parts.username == "postgres" or not parts.username or parts.username not in fault.message


def assert_only_scores_is_lost(numbers: Numbers, reason: str) -> Fault:
    """The series of the broken record and the totals that need it are absent, all others are right."""
    [(record, fault)] = numbers.snapshot.record_faults.items()
    assert (record, fault.reason) == ("scores", reason)
    assert re.match(r"pipelines\.care\.records\.scores[.\w]*: ", fault.message)
    assert "hunter2" not in fault.message
    families = numbers.snapshot.readings.families
    assert {labels[0] for metric, family in families.items() if "record" in metric.labels for labels in family} == {
        "notes"
    }
    assert numbers.family("eligible_sessions") == {}
    assert numbers.positive("sessions") == {("done",): 3}
    assert numbers.positive("record_sessions") == {("notes", "current"): 3}
    assert numbers.positive("records") == {("notes", "v1", "current"): 3}
    assert numbers("orphaned_records", "notes") == 0
    return fault


def assert_whole(numbers: Numbers) -> None:
    assert numbers.snapshot.record_faults == {}
    assert numbers.positive("eligible_sessions") == {("complete",): 2, ("gap",): 1}
    assert numbers.positive("record_sessions") == {
        ("scores", "current"): 2,
        ("scores", "missing"): 1,
        ("notes", "current"): 3,
    }


async def until(database: Database, condition: str) -> None:
    """Wait until a query's value is true, by a connection of its own; fails after 5 s."""
    connection = await asyncpg.connect(database.dsn)
    try:
        async with asyncio.timeout(at_most(5)):
            while not await connection.fetchval(f"select {condition}"):  # noqa: ASYNC110 - a database has no events
                await asyncio.sleep(0.01)
    finally:
        await connection.close()


OURS = (
    "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
    "and application_name = 'session-health-exporter'"
)


@asynccontextmanager
async def other_transaction(database: Database, sql: str) -> AsyncIterator[asyncpg.Connection]:
    """Another session that has begun a transaction with `sql`, and rolls it back at the end."""
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("begin;" + sql)
    yield connection
    await connection.close()


async def pause_with_the_snapshot(database: Database) -> None:
    """Every collection from now on pauses (`PAUSED`) as soon as it has its snapshot, before it has read any table."""
    await database.execute(another_clock("select timestamptz '2025-06-01' from pg_sleep(0.3)"))


PAUSED = f"exists (select {OURS} and wait_event = 'PgSleep' and query ~ ': clock ')"


# --- A fault stays where it is


async def test_a_dropped_table_takes_only_its_own_numbers_and_they_come_back(visits: Database) -> None:
    whole = await visits.measure(config())
    await visits.execute("alter table scores rename to away")
    broken = await visits.measure(config())
    await visits.execute("alter table away rename to scores")
    mended = await visits.measure(config())

    assert_whole(whole)
    fault = assert_only_scores_is_lost(broken, "missing_object")
    assert '"scores" does not exist' in fault.message
    assert_whole(mended)


@pytest.mark.parametrize(
    ("breakage", "keys", "reason"),
    [
        ("alter table scores drop column version", "", "missing_object"),
        ("alter table scores rename visit_id to visit", "", "missing_object"),
        ("alter table scores alter visit_id type text", "", "type"),
        ("alter table scores alter visit_id type text", "where: owner > 5", "type"),
        ("alter table scores add started text", "created_at: started, VERSION", "type"),
        ("select", "valid: missing_column > 0", "missing_object"),
        ("select", "required_when: missing_column > 0", "missing_object"),
        ("select", "valid: no_such_function(blocks)", "type"),
        ("select", "valid: blocks", "type"),
        ("select", "valid: 1 / (blocks - 1) > 0", "type"),
        ("select", "valid: owner::int > 0", "type"),
        ("select", "where: owner::int > 0", "type"),
        ("select", "required_when: secret::int > 0", "type"),
        ("select", "valid: blocks >", "invalid_sql"),
        ("select", "valid: count(*) > 0", "invalid_sql"),
        ("select", "valid: true; select 1", "invalid_sql"),
        ("create schema closed; alter table scores set schema closed", "TABLE closed.scores", "permission"),
        ("create schema closed", "TABLE closed.scores", "permission"),
        ("drop table scores", "TABLE nowhere.scores", "missing_object"),
        ("drop table scores; create index scores on notes (visit_id)", "", "invalid_sql"),
        ("drop table scores; create sequence scores", "", "invalid_sql"),
        (ENDLESS, "valid: endless(1)", "internal"),
        ("select", "valid: lower(distinct owner) = 'x'", "invalid_sql"),
        (MATERIALIZED + "with no data", "", "missing_object"),
    ],
)
async def test_whatever_is_wrong_with_one_record_the_others_are_measured(
    visits: Database, breakage: str, keys: str, reason: str
) -> None:
    await visits.execute(breakage)
    reader = await as_reader(visits, SELECT_ALL)
    text = config() if keys.startswith("TABLE") else config(keys)
    if keys.startswith("TABLE"):
        text = text.replace("scores: {table: scores", f"scores: {{table: {keys.split()[1]}")
    if keys.endswith("VERSION"):
        text = config("created_at: started").replace("current: v3", "current: v3, current_since: 2025-01-01")

    numbers = await reader.measure(text)

    assert_only_scores_is_lost(numbers, reason)


async def test_a_grant_on_columns_is_not_enough_to_hold_a_table(visits: Database) -> None:
    reader = await as_reader(visits, "grant select (id, status, started_at, completed_at, done) on visits to {role}")

    fault = await refused(reader, config())

    assert fault.reason == "permission"


async def test_a_materialized_view_is_measured_though_it_cannot_be_locked(visits: Database) -> None:
    await visits.execute(MATERIALIZED)

    numbers = await visits.measure(config())

    assert_whole(numbers)


FOREIGN = """
create extension postgres_fdw;
create server elsewhere foreign data wrapper postgres_fdw options (host '127.0.0.1', port '1');
create user mapping for current_user server elsewhere options (user 'x', password 'hunter2');
"""


@pytest.mark.parametrize(
    "change",
    [
        "drop table scores; create foreign table scores (visit_id int, version text) server elsewhere",
        """
        drop table scores;
        create table scores (visit_id int, version text, blocks int) partition by list (version);
        create table new_scores partition of scores for values in ('v3');
        create foreign table old_scores partition of scores for values in ('v2') server elsewhere
        """,
    ],
)
async def test_a_foreign_table_is_not_measured_for_nobody_sees_what_its_server_hides(
    visits: Database, change: str
) -> None:
    await visits.execute(FOREIGN + change)

    numbers = await visits.measure(config())

    assert_only_scores_is_lost(numbers, "row_security")
    assert "foreign table" in numbers.snapshot.record_faults["scores"].message


async def test_foreign_sessions_are_not_measured_at_all(visits: Database) -> None:
    """The server is our own: it answers, and whom it hides rows from is not the role that we know."""
    parts = urlsplit(visits.dsn)
    name = parts.path.removeprefix("/")
    await visits.execute(
        f"""
        create extension postgres_fdw;
        create server near foreign data wrapper postgres_fdw
          options (host '{parts.hostname}', port '{parts.port}', dbname '{name}');
        create user mapping for current_user server near options (user 'postgres', password '{parts.password}');
        alter table visits rename to was;
        create foreign table visits (
          id int, status text, started_at timestamptz, completed_at timestamptz, done boolean
        ) server near options (table_name 'was');
        """
    )

    fault = await refused(visits, config())

    assert fault.reason == "row_security"
    assert "foreign table" in fault.message


async def test_an_index_does_not_prove_a_key_that_heirs_repeat(visits: Database) -> None:
    await visits.execute("create table more () inherits (visits); insert into more select * from visits where id = 1")

    fault = await refused(visits, config())

    assert fault.reason == "duplicate_key"


async def test_texts_compare_the_same_whatever_the_defaults_of_the_database(visits: Database) -> None:
    await visits.execute("alter table scores add day date; update scores set day = '2025-09-17'")
    await visits.set("datestyle", "'SQL, DMY'")
    text = config(text=CONFIG.replace("{column: version, current: v3}", "{column: day, current: '2025-09-17'}"))

    numbers = await visits.measure(text)

    assert numbers.positive("records")["scores", "2025-09-17", "current"] > 0


async def test_text_that_is_not_utf8_is_named_and_never_guessed(server: EmbeddedPostgres) -> None:
    admin = await asyncpg.connect(server.dsn())
    name = f"bytes_{next(_numbers)}"
    await admin.execute(f"create database {name} encoding 'SQL_ASCII' locale 'C' template template0")
    connection = await asyncpg.connect(server.dsn(name))
    await connection.execute(TABLES + ROWS)
    await connection.execute(r"update scores set version = convert_from('\xff', 'SQL_ASCII') where visit_id = 1")

    numbers = await Database(server.dsn(name), connection).measure(config())

    await connection.close()
    await admin.execute(f"drop database {name}")
    await admin.close()
    assert_only_scores_is_lost(numbers, "type")
    assert "UTF-8" in numbers.snapshot.record_faults["scores"].message


async def test_a_url_that_asks_for_a_standby_says_that_there_is_none(visits: Database) -> None:
    fault = await refused(Database(visits.dsn + "?target_session_attrs=standby", visits.connection), config())

    assert fault.reason == "connect"
    assert "target_session_attrs" in fault.message


async def test_every_record_may_be_lost_and_the_sessions_are_still_counted(visits: Database) -> None:
    await visits.execute("drop table scores; drop table notes")

    numbers = await visits.measure(config())

    assert list(numbers.snapshot.record_faults) == ["scores", "notes"]
    assert {metric.name for metric in numbers.snapshot.readings.families} == {
        "sessions",
        "undated_sessions",
        "undated_eligible_sessions",
        "future_sessions",
        "newest_session_timestamp_seconds",
    }
    assert numbers.positive("sessions") == {("done",): 3}


async def test_two_records_with_different_faults_are_both_named(visits: Database) -> None:
    await visits.execute("drop table notes")

    numbers = await visits.measure(config("valid: 1 / 0 > blocks"))

    assert {name: fault.reason for name, fault in numbers.snapshot.record_faults.items()} == {
        "scores": "type",
        "notes": "missing_object",
    }


async def test_a_revoked_privilege_is_named_with_its_remedy(visits: Database) -> None:
    reader = await as_reader(visits, SELECT_ALL, "revoke select on scores from {role}")

    broken = await reader.measure(config())
    await visits.execute(f"grant select on scores to {urlsplit(reader.dsn).username}")
    mended = await reader.measure(config())

    fault = assert_only_scores_is_lost(broken, "permission")
    assert fault.message.endswith(GRANTS.format("scores"))
    assert_whole(mended)


@pytest.mark.parametrize(
    ("breakage", "key", "remedy"),
    [
        (
            """create function counts(int) returns boolean language sql stable as 'select true';
            revoke execute on function counts(int) from public""",
            "required_when: counts(id)",
            'GRANT EXECUTE ON FUNCTION "public"."counts" TO <role>',
        ),
        (
            "create schema closed; create table closed.flags (); grant select on closed.flags to public",
            "required_when: exists (select 1 from closed.flags)",
            'GRANT USAGE ON SCHEMA "closed" TO <role>',
        ),
        (
            "create table flags ()",
            "required_when: exists (select 1 from flags)",
            GRANTS.format("flags"),
        ),
    ],
)
async def test_a_privilege_beside_the_table_is_named_with_its_remedy(
    visits: Database, breakage: str, key: str, remedy: str
) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    await visits.execute(breakage)

    broken = await reader.measure(config(key))
    await visits.execute(remedy.replace("<role>", urlsplit(reader.dsn).username or ""))
    mended = await reader.measure(config(key))

    fault = assert_only_scores_is_lost(broken, "permission")
    assert fault.message.partition("; if a view reads the table, replace <role> with the view's owner")[0].endswith(
        f": {remedy}"
    )
    assert mended.snapshot.record_faults == {}


async def test_a_policy_on_a_record_is_an_error_and_never_a_smaller_number(visits: Database) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    await visits.execute("alter table scores enable row level security; create policy own on scores using (false)")

    broken = await reader.measure(config())
    await visits.execute(f"alter role {urlsplit(reader.dsn).username} bypassrls")
    mended = await reader.measure(config())

    fault = assert_only_scores_is_lost(broken, "row_security")
    assert "ALTER ROLE <role> BYPASSRLS; or" in fault.message
    assert_whole(mended)


async def test_a_policy_within_a_function_names_no_table_of_its_own(visits: Database) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    await visits.execute(
        "alter table scores rename to base; alter table base enable row level security; "
        "create function whole() returns setof base language plpgsql as "
        "$$ begin return query select * from public.base; end $$; create view scores as select * from whole(); "
        f"grant select on scores to {urlsplit(reader.dsn).username}"
    )

    fault = assert_only_scores_is_lost(await reader.measure(config()), "row_security")

    assert "AS SELECT * FROM the table;" in fault.message


async def test_the_remedies_that_are_named_are_remedies(visits: Database) -> None:
    """Each command of the message, typed as it stands."""
    reader = await as_reader(visits, SELECT_ALL)
    role = urlsplit(reader.dsn).username or ""
    await visits.execute("alter table scores enable row level security; create policy own on scores using (false)")
    [fault] = (await reader.measure(config())).snapshot.record_faults.values()
    [view] = re.findall("CREATE VIEW .*? FROM .*?;", fault.message)
    [grant] = re.findall("GRANT SELECT ON .* TO <role>", fault.message)

    await visits.execute(f"{view} {grant.replace('<role>', role)}")
    numbers = await reader.measure(config().replace("table: scores", "table: every_scores"))

    assert_whole(numbers)


PROTECT = "alter table TABLE enable row level security; "
HIDDEN = {
    "no policy at all": PROTECT,
    "some rows": PROTECT + "create policy a on TABLE using (KEY = 1)",
    "a policy that hides nothing": PROTECT + "create policy a on TABLE using (true)",
    "a policy for others": PROTECT + "create policy a on TABLE to postgres using (true)",
    "an owner whom it binds": PROTECT + "alter table TABLE owner to ROLE; alter table TABLE force row level security",
    "a view with the rights of whoever asks": PROTECT + "alter table TABLE rename to base; create view TABLE with "
    "(security_invoker) as select * from base; grant select on base, TABLE to ROLE",
    "a view of an owner whom it binds": PROTECT + "alter table TABLE force row level security; "
    "alter table TABLE rename to base; create view TABLE as select * from base; create role bound_ROLE; "
    "grant create on schema public to bound_ROLE; alter table base owner to bound_ROLE; "
    "alter view TABLE owner to bound_ROLE; grant select on TABLE to ROLE",
    "partitions": "alter table TABLE rename to base; create table TABLE (like base) partition by list (KEY); "
    "create table part partition of TABLE default; insert into TABLE select * from base; "
    "grant select on TABLE to ROLE; " + PROTECT,
}
"""How rows are hidden from a role that may read the table."""


@pytest.mark.parametrize("how", HIDDEN)
@pytest.mark.parametrize("table", ["scores", "visits"])
async def test_rows_that_may_be_hidden_are_never_counted(visits: Database, table: str, how: str) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    role = urlsplit(reader.dsn).username or ""
    key = "visit_id" if table == "scores" else "id"
    if "security_invoker" in HIDDEN[how] and visits.connection.get_server_version().major < 15:
        pytest.skip("PostgreSQL 15 introduced security_invoker")
    await visits.execute(HIDDEN[how].replace("TABLE", table).replace("ROLE", role).replace("KEY", key))

    if table == "scores":
        fault = assert_only_scores_is_lost(await reader.measure(config()), "row_security")
    else:
        fault = await refused(reader, config())

    assert fault.reason == "row_security"
    assert (table in fault.message) or ("base" in fault.message)
    assert "ALTER ROLE <role> BYPASSRLS" in fault.message
    assert "CREATE VIEW" in fault.message


async def test_a_table_owner_is_bound_by_no_policy_unless_forced(visits: Database) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    await visits.execute(f"alter table scores owner to {urlsplit(reader.dsn).username}")
    await visits.execute("alter table scores enable row level security")

    assert_whole(await reader.measure(config()))


ALLOWED = "row_security: allow"


async def test_allow_measures_what_policies_show_says_so_and_is_never_healthy(visits: Database) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    await visits.execute("delete from scores; insert into scores select n, 'v3', n, '' from generate_series(1, 3) n")
    before = await reader.measure(config(database=ALLOWED))
    await visits.execute("alter table visits enable row level security; create policy own on visits using (id < 3)")

    numbers = await reader.measure(config(database=ALLOWED))

    assert before.snapshot.restricted == ()
    assert before.snapshot.judgement.verdict(is_complete=True) == "healthy"
    assert numbers.snapshot.restricted == ("public.visits",)
    assert numbers("eligible_sessions", "complete") == 2
    assert numbers.snapshot.judgement.verdict(is_complete=True) == "unknown"
    assert "public.visits" in numbers.snapshot.judgement.caveats[-1].message


@pytest.mark.parametrize("table", ["visits", "scores"])
async def test_allow_is_never_healthy_where_all_is_hidden(visits: Database, table: str) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    await visits.execute(f"alter table {table} enable row level security")

    numbers = await reader.measure(config(database=ALLOWED))

    assert numbers.snapshot.restricted == (f"public.{table}",)
    assert numbers.snapshot.judgement.verdict(is_complete=True) == "unknown"


@pytest.mark.parametrize("how", HIDDEN)
@pytest.mark.parametrize("table", ["scores", "visits"])
async def test_allow_is_never_healthy_however_rows_may_be_hidden(visits: Database, table: str, how: str) -> None:
    """Not even for a role that no policy binds, where another's rights decide."""
    reader = await as_reader(visits, SELECT_ALL)
    role = urlsplit(reader.dsn).username or ""
    if "security_invoker" in HIDDEN[how] and visits.connection.get_server_version().major < 15:
        pytest.skip("PostgreSQL 15 introduced security_invoker")
    key = "visit_id" if table == "scores" else "id"
    await visits.execute("insert into scores values (3, 'v3')")
    assert (await reader.measure(config(database=ALLOWED))).snapshot.judgement.verdict(is_complete=True) == "healthy"
    await visits.execute(HIDDEN[how].replace("TABLE", table).replace("ROLE", role).replace("KEY", key))
    who = [reader, visits] if how == "a view of an owner whom it binds" else [reader]

    for database in who:
        numbers = await database.measure(config(database=ALLOWED))

        assert len(numbers.snapshot.restricted) == 1
        assert numbers.snapshot.judgement.verdict(is_complete=True) == "unknown"


INHERITED = "create table parent (like scores); alter table scores inherit parent; "
PARTITIONED = (
    "alter table scores rename to old; create table scores (like old) partition by list (visit_id); "
    "create table part partition of scores default; insert into scores select * from old; "
)
LINEAGE = {
    "a parent": (INHERITED + PROTECT.replace("TABLE", "parent"), "parent", "scores", ()),
    "a child": (INHERITED + PROTECT.replace("TABLE", "scores"), "scores", "parent", ("public.scores",)),
    "a partition": (PARTITIONED + PROTECT.replace("TABLE", "part"), "part", "scores", ("public.part",)),
}
"""Who is protected, its name, a relative's, and what `allow` says of who asks the relative."""


@pytest.mark.parametrize("who", LINEAGE)
async def test_a_policy_binds_who_asks_the_very_table_that_has_it(visits: Database, who: str) -> None:
    """A parent's policy holds for the rows of its heirs, an heir's not for who asks the parent: PostgreSQL's rule."""
    sql, protected, relative, restricted = LINEAGE[who]
    await visits.execute(sql)
    reader = await as_reader(visits, SELECT_ALL)
    of_relative = f"table: {relative}"

    bound = await reader.measure(config().replace("table: scores", f"table: {protected}"))
    free = await reader.measure(config().replace("table: scores", of_relative))
    allowed = await reader.measure(config(database=ALLOWED).replace("table: scores", of_relative))

    assert_only_scores_is_lost(bound, "row_security")
    assert_whole(free)
    assert_whole(allowed)
    # Which of both was asked is not seen afterwards: it is said rather than left out.
    assert allowed.snapshot.restricted == restricted


async def test_allow_sees_a_policy_behind_a_view_and_in_a_sub_query(visits: Database) -> None:
    reader = await as_reader(visits, "create table flags as select 1 as visit_id", SELECT_ALL)
    await visits.execute("alter table flags enable row level security; create policy own on flags using (true)")

    keys = "required_when: exists (select 1 from flags where visit_id = visits.id)"
    numbers = await reader.measure(config(keys, database=ALLOWED))

    assert numbers.snapshot.restricted == ("public.flags",)


async def test_a_role_that_no_policy_binds_is_not_restricted_by_allow(visits: Database) -> None:
    await visits.execute("alter table scores enable row level security")

    assert (await visits.measure(config(database=ALLOWED))).snapshot.restricted == ()


READ_FOR_ANOTHER = {
    "a view": "create view TABLE as select * from base; alter view TABLE owner to ROLE",
    "a view in a view": "create view inner_view as select * from base; alter view inner_view owner to ROLE; "
    "create view TABLE as select * from inner_view",
    "a function": "create function whole() returns setof base language sql security definer as "
    "'select * from public.base'; "
    "alter function whole() owner to ROLE; create view TABLE as select * from whole()",
}
"""How a table is read with the rights of another role, whom a policy binds."""


@pytest.mark.parametrize("how", READ_FOR_ANOTHER)
async def test_allow_sees_a_policy_that_binds_who_owns_a_view_and_not_us(visits: Database, how: str) -> None:
    owner = urlsplit((await as_reader(visits)).dsn).username or ""
    await visits.execute(
        "alter table scores rename to base; alter table base enable row level security; "
        f"create policy own on base using (blocks < 3); grant select on base to {owner}; "
        f"grant create on schema public to {owner}; "
        + READ_FOR_ANOTHER[how].replace("ROLE", owner).replace("TABLE", "scores")
    )

    numbers = await visits.measure(config(database=ALLOWED))

    assert numbers.snapshot.restricted == ("public.base",)


async def test_a_policy_on_the_sessions_leaves_nothing_to_measure(visits: Database) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    await visits.execute("alter table visits enable row level security; create policy own on visits using (id = 1)")

    fault = await refused(reader, config())

    assert fault.reason == "row_security"


async def test_a_policy_on_a_table_in_a_sub_query_is_an_error_too(visits: Database) -> None:
    reader = await as_reader(visits, "create table flags as select 1 as visit_id", SELECT_ALL)
    await visits.execute("alter table flags enable row level security; create policy own on flags using (false)")

    numbers = await reader.measure(config("required_when: exists (select 1 from flags where visit_id = visits.id)"))

    assert_only_scores_is_lost(numbers, "row_security")


@pytest.mark.parametrize(
    ("breakage", "text", "reason"),
    [
        ("drop table visits", config(), "missing_object"),
        ("alter table visits drop column completed_at", config(), "missing_object"),
        ("alter table visits alter started_at type text", config(), "type"),
        ("revoke select on visits from {role}", config(), "permission"),
        ("select", config(eligible="1 / (id - 1) > 0"), "type"),
        ("select", config(eligible="secret::int > 0"), "type"),
        ("select", config(eligible="count(*) > 0"), "invalid_sql"),
        ("select", config(eligible="done; drop table visits"), "invalid_sql"),
    ],
)
async def test_without_the_sessions_there_is_no_snapshot(
    visits: Database, breakage: str, text: str, reason: str
) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    await visits.execute(breakage.format(role=urlsplit(reader.dsn).username))

    fault = await refused(reader, text)

    assert fault.reason == reason
    assert fault.message.startswith("pipelines.care.sessions")


async def test_a_key_that_does_not_tell_sessions_apart_is_refused(visits: Database) -> None:
    text = config().replace("table: visits", "table: every_visit")
    await visits.execute("create view every_visit as select * from visits union all select * from visits where id = 1")
    broken = await refused(visits, text)
    await visits.execute("create or replace view every_visit as select * from visits")

    mended = await visits.measure(text)

    assert broken.reason == "duplicate_key"
    assert "(id)" in broken.message
    assert_whole(mended)


@pytest.mark.parametrize(
    ("index", "unique"),
    [
        ("create unique index on visits (id)", True),
        ("create unique index on visits (id) include (status)", True),
        ("create unique index on visits (id, status)", False),
        ("create unique index on visits (id) where id > 1", False),
        ("create unique index on visits (id, (1))", False),
        ("alter table visits add unique (id) deferrable", False),
        ("create index on visits (id)", False),
    ],
)
async def test_only_a_full_unique_index_on_the_key_spares_the_look_up(
    visits: Database, index: str, unique: bool
) -> None:
    await visits.execute(f"alter table visits drop constraint visits_pkey; {index}")
    plan = visits.plan(config())

    async with visits.connection.transaction():
        lines = await visits.connection.fetch(
            "explain (analyze, costs off, timing off, summary off, buffers off) " + plan.unique_key.sql,
            *plan.unique_key.arguments(datetime.now(UTC)),
        )

    [look_up] = [line[0] for line in lines if "on visits" in line[0]]
    assert ("never executed" in look_up) is unique


# --- Time-outs and locks


async def test_a_locked_record_is_lost_alone_and_soon(visits: Database) -> None:
    async with other_transaction(visits, "lock table scores in access exclusive mode"):
        started = time.monotonic()
        locked = await visits.measure(config())
        duration = time.monotonic() - started
    free = await visits.measure(config())

    assert_only_scores_is_lost(locked, "lock_timeout")
    assert duration < at_most(2)
    assert_whole(free)


async def test_locked_sessions_leave_nothing_to_measure(visits: Database) -> None:
    async with other_transaction(visits, "lock table visits in access exclusive mode"):
        fault = await refused(visits, config())

    assert fault.reason == "lock_timeout"


@pytest.mark.parametrize("mode", ["row exclusive", "share update exclusive", "share", "exclusive"])
async def test_writers_and_index_builds_do_not_keep_us_waiting(visits: Database, mode: str) -> None:
    async with other_transaction(visits, f"lock table visits, scores in {mode} mode; delete from scores"):
        numbers = await visits.measure(config())

    assert_whole(numbers)


async def test_a_slow_statement_is_ended_and_not_tried_again(visits: Database, server: EmbeddedPostgres) -> None:
    await visits.set("log_statement", "'all'")
    text = config("valid: pg_sleep(5) is not null", database="statement_timeout: 300ms")

    fault = await refused(visits, text)

    assert fault.reason == "statement_timeout"
    assert "statement_timeout (0.3 s)" in fault.message
    log = server.log_file.read_text()
    executed = [
        line
        for line in log[log.rindex("begin isolation level") :].splitlines()
        if "  execute " in line and "care: " in line
    ]
    titles = [line.rpartition("care: ")[2].partition(" */")[0] for line in executed]
    assert titles == ["catalog", "indexes", "unique key", "rows of scores"]


async def test_a_record_that_cannot_be_locked_in_the_statements_time_is_lost_alone(visits: Database) -> None:
    text = config(database="statement_timeout: 200ms").replace("lock_timeout: 200ms", "lock_timeout: 5s")
    async with other_transaction(visits, "lock table scores in access exclusive mode"):
        numbers = await visits.measure(text)

    assert_only_scores_is_lost(numbers, "statement_timeout")


@pytest.mark.parametrize("eligible", ["done", "done, checks: {broken: nowhere > 0}"])
async def test_keys_that_compare_in_their_own_ways_are_counted_side_by_side(visits: Database, eligible: str) -> None:
    await visits.execute(
        "alter table visits alter id type bigint; alter table scores alter visit_id type oid; "
        "alter table notes alter visit_id type numeric"
    )

    numbers = await visits.measure(config(eligible=eligible))

    fault = assert_only_scores_is_lost(numbers, "type")
    assert "visit_id is oid, sessions.key is bigint" in fault.message


async def test_a_server_without_means_is_named_with_what_helps(visits: Database) -> None:
    reader = await as_reader(visits, SELECT_ALL, "alter role {role} set temp_file_limit = '64kB'")
    await visits.execute("insert into scores select n, 'v3', n, 'hunter2' from generate_series(10, 200000) n")

    fault = await refused(reader, config())

    assert (fault.reason, "raise temp_file_limit" in fault.message) == ("internal", True)


# --- One snapshot


async def test_a_table_rewritten_before_our_lock_is_seen_whole(visits: Database) -> None:
    """Had the snapshot been taken before the lock, the rewritten tables would look empty."""
    text = config().replace("lock_timeout: 200ms", "lock_timeout: 5s")
    async with other_transaction(
        visits, f"truncate visits, scores, notes; {ROWS}; delete from visits where id = 3; delete from notes"
    ) as other:
        task = asyncio.create_task(visits.measure(text))
        await until(visits, f"exists (select {OURS} and wait_event_type = 'Lock')")
        await other.execute("commit")

        numbers = await task

    assert numbers.positive("eligible_sessions") == {("gap",): 2}
    assert numbers.positive("record_sessions") == {("scores", "current"): 2, ("notes", "missing"): 2}
    assert numbers("orphaned_records", "scores") == 0


NOTES = "insert into notes select n, 'v1' from generate_series(1, 3) n"


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [
        ("select", f"truncate notes; {NOTES}"),
        ("select", f"drop table notes; create table notes (visit_id int, version text); {NOTES}"),
        (
            "alter table notes rename to base; create view notes as select * from base",
            f"truncate base; {NOTES.replace('into notes', 'into base')}",
        ),
    ],
)
async def test_a_record_rewritten_before_our_lock_is_seen_whole(visits: Database, before: str, meanwhile: str) -> None:
    await visits.execute(before)
    text = config().replace("lock_timeout: 200ms", "lock_timeout: 5s")
    async with other_transaction(visits, meanwhile) as other:
        task = asyncio.create_task(visits.measure(text))
        await until(visits, f"exists (select {OURS} and wait_event_type = 'Lock')")
        await other.execute("commit")

        numbers = await task

    assert_whole(numbers)


FLAGS = "create table flags (visit_id int); insert into flags select n from generate_series(1, 3) n; "
PARTED = """
create table flags (visit_id int) partition by list (visit_id); create table one partition of flags for values in (1);
create table rest partition of flags default; insert into flags select n from generate_series(1, 3) n
"""
ASKED = "exists (select 1 from flags where flags.visit_id = visits.id)"
COUNTING = "create function flagged(int) returns boolean language plpgsql stable as $$ begin return exists "


@pytest.mark.parametrize(
    ("before", "condition", "meanwhile"),
    [
        (FLAGS, ASKED, "truncate flags"),
        (FLAGS, ASKED, "truncate flags; insert into flags select n from generate_series(1, 3) n"),
        (FLAGS, ASKED, "alter table flags alter visit_id type bigint"),
        (FLAGS, ASKED, "drop table flags; create table flags (visit_id int)"),
        (FLAGS, ASKED, "drop table flags; " + FLAGS),
        (
            FLAGS + COUNTING + "(select 1 from public.flags where visit_id = $1); end $$",
            "flagged(id)",
            "truncate flags",
        ),
        (
            FLAGS.replace("flags", "base") + "create materialized view flags as select * from base",
            ASKED,
            "refresh materialized view flags",
        ),
        (FLAGS.replace("flags", "base") + "create view flags as select * from base", ASKED, "truncate base"),
        (
            PARTED,
            ASKED,
            "truncate one",
        ),
    ],
)
@pytest.mark.parametrize("key", ["eligible", "required_when"])
async def test_a_rewrite_of_a_table_that_only_a_sub_query_reads_is_noticed(
    visits: Database, key: str, before: str, condition: str, meanwhile: str
) -> None:
    """It is not among the tables that are held before the snapshot, and would look empty."""
    await visits.execute(before)
    text = config(f"required_when: {condition}") if key == "required_when" else config(eligible=condition)
    text = text.replace("lock_timeout: 200ms", "lock_timeout: 5s")
    assert_whole(await visits.measure(text))
    async with other_transaction(visits, meanwhile) as other:
        task = asyncio.create_task(refused(visits, text))
        await until(visits, f"exists (select {OURS} and wait_event_type = 'Lock')")
        await other.execute("commit")

        fault = await task

    assert fault.reason == "table_rewrite"
    assert "was rewritten" in fault.message
    if "drop" not in meanwhile:
        assert "public." in fault.message


async def test_a_refresh_of_a_record_that_is_a_materialized_view_is_noticed(visits: Database) -> None:
    """It cannot be held, and would show what was written after our snapshot."""
    await visits.execute(MATERIALIZED)
    text = config().replace("lock_timeout: 200ms", "lock_timeout: 5s")
    async with other_transaction(visits, "refresh materialized view scores") as other:
        task = asyncio.create_task(refused(visits, text))
        await until(visits, f"exists (select {OURS} and wait_event_type = 'Lock')")
        await other.execute("commit")

        fault = await task

    assert fault.reason == "table_rewrite"
    assert "public.scores" in fault.message
    assert_whole(await visits.measure(text))


@pytest.mark.parametrize(
    ("sessions", "record", "cast", "like"),
    [
        ("text", "citext", "", False),
        ("citext", "text", "", False),
        ("text", "loose", "", False),
        ("float8", "bigint", "", False),
        ("int", "float4", "", False),
        ("text", "citext", "text", True),
        ("citext", "text", "citext", True),
        ("citext", "loose", "", True),
        ("int", "bigint", "", True),
        ("text", "varchar(20)", "", True),
        ("int", "numeric", "", True),
    ],
)
async def test_a_key_whose_equality_is_another_is_refused_rather_than_joined(
    visits: Database, sessions: str, record: str, cast: str, like: bool
) -> None:
    """Grouped by one equality and joined by another, rows of two sessions would become one."""
    await visits.execute("create extension citext; create domain loose as citext; drop table notes")
    await visits.execute(f"alter table visits alter id type {sessions} using id::text::{sessions}")
    await visits.execute(f"alter table scores alter visit_id type {record} using visit_id::text::{record}")
    key = f"{{column: visit_id, cast: {cast}}}" if cast else "visit_id"
    text = config().replace("session_key: visit_id", f"session_key: {key}").partition("      notes:")[0]

    numbers = await visits.measure(text)

    if like:
        assert numbers.snapshot.record_faults == {}
        assert numbers.positive("record_sessions") == {("scores", "current"): 2, ("scores", "missing"): 1}
    else:
        [fault] = numbers.snapshot.record_faults.values()
        assert fault.reason == "type"
        assert fault.message.startswith("pipelines.care.records.scores.session_key: ")


async def test_what_changes_no_row_of_a_table_in_a_sub_query_disturbs_nobody(visits: Database) -> None:
    await visits.execute(FLAGS + "create index on flags (visit_id)")
    text = config(f"required_when: {ASKED}").replace("lock_timeout: 200ms", "lock_timeout: 5s")
    async with other_transaction(
        visits, "lock table flags in access exclusive mode; alter table flags add x int; delete from flags"
    ) as other:
        task = asyncio.create_task(visits.measure(text))
        await until(visits, f"exists (select {OURS} and wait_event_type = 'Lock')")
        await other.execute("commit")

        numbers = await task

    assert_whole(numbers)


@pytest.mark.parametrize("meanwhile", ["create index on scores (version)", "reindex table scores", "vacuum scores"])
async def test_work_on_indexes_meanwhile_disturbs_nobody(visits: Database, meanwhile: str) -> None:
    await visits.execute("create index on scores (owner)")
    await pause_with_the_snapshot(visits)
    other = await asyncpg.connect(visits.dsn)
    task = asyncio.create_task(visits.measure(config()))
    await until(visits, PAUSED)

    work = asyncio.create_task(other.execute(meanwhile))
    numbers = await task
    await work

    assert_whole(numbers)
    await other.close()


@pytest.mark.parametrize("keys", ["", "required_when: exists (select 1 from elsewhere)"])
async def test_a_foreign_table_that_is_not_named_is_not_measured(visits: Database, keys: str) -> None:
    """Behind a view, and in a sub-query."""
    parts = urlsplit(visits.dsn)
    await visits.execute(
        f"""
        create extension postgres_fdw;
        create server near foreign data wrapper postgres_fdw
          options (host '{parts.hostname}', port '{parts.port}', dbname '{parts.path.removeprefix("/")}');
        create user mapping for current_user server near options (user 'postgres', password '{parts.password}');
        create table was as select * from scores;
        create foreign table elsewhere (visit_id int, version text) server near options (table_name 'was');
        """
    )
    if not keys:
        await visits.execute("drop table scores; create view scores as select * from elsewhere")

    fault = await refused(visits, config(keys))

    assert fault.reason == "row_security"
    assert "public.elsewhere" in fault.message


@pytest.mark.parametrize("behind_a_view", [False, True])
@pytest.mark.parametrize("table", ["visits", "scores", "notes"])
async def test_a_rewrite_after_our_lock_waits_until_we_are_done(
    visits: Database, table: str, behind_a_view: bool
) -> None:
    """The collection pauses as soon as it has its snapshot, before it has read any table."""
    if behind_a_view:
        await visits.execute(f"alter table {table} rename to base; create view {table} as select * from base")
    await pause_with_the_snapshot(visits)
    other = await asyncpg.connect(visits.dsn)
    task = asyncio.create_task(visits.measure(config()))
    await until(visits, PAUSED)

    truncate = asyncio.create_task(other.execute(f"truncate {'base' if behind_a_view else table}"))
    numbers = await task
    await truncate

    assert_whole(numbers)
    assert await other.fetchval(f"select count(*) from {table}") == 0
    await other.close()


async def test_what_is_written_meanwhile_is_seen_whole_or_not_at_all(visits: Database) -> None:
    """A writer adds and removes visits with their records, each time in one transaction."""
    writer = await asyncpg.connect(visits.dsn)
    done = asyncio.Event()

    async def write() -> int:
        n = 3
        while not done.is_set():
            n += 1
            await writer.execute(
                f"""
                begin;
                delete from scores; delete from notes; delete from visits;
                insert into visits select x, 'done', '2025-05-01', '2025-05-01', true from generate_series(1, {n}) x;
                insert into scores select id, 'v3' from visits;
                insert into notes select id, 'v1' from visits;
                commit
                """
            )
        return n

    task = asyncio.create_task(write())
    await until(visits, "count(*) > 5 from visits")
    rounds = [await visits.measure(config()) for _ in range(40)]
    done.set()
    written = await task
    await writer.close()

    assert written > 20
    for numbers in rounds:
        [(_, total)] = numbers.family("sessions").items()
        assert numbers.positive("eligible_sessions") == {("complete",): total}
        for record, version in (("scores", "v3"), ("notes", "v1")):
            assert numbers.positive("record_sessions")[record, "current"] == total
            assert numbers("record_version_sessions", record, version, "current") == total
            assert numbers("records", record, version, "current") == total
            assert numbers("orphaned_records", record) == 0


async def test_a_snapshot_says_when_it_was_taken_by_the_databases_clock(visits: Database) -> None:
    await visits.stop_clock("2025-06-01 12:00+00")

    numbers = await visits.measure(config())

    assert numbers.snapshot.taken_at == 1748779200
    assert numbers.snapshot.pipeline == "care"


async def test_the_exporters_clock_dates_nothing_but_its_own_success(
    visits: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be years off: no age, grace or window is by it."""
    await visits.stop_clock("2025-05-01 00:02+00")
    await visits.execute("update visits set completed_at = '2025-05-01 00:01+00'")
    plan = visits.plan(config().replace("window: {since: 2025-01-01}", "window: {last: 1d}\n    grace: 5m"))
    right = await measure(plan, collect)
    monkeypatch.setattr(time, "time", lambda: 978307200.0)  # 2001

    wrong = await measure(plan, collect)

    assert right.snapshot is not None
    assert wrong.snapshot is not None
    # The difference of the two clocks is known.
    assert replace(wrong.snapshot, clock_offset=right.snapshot.clock_offset) == right.snapshot
    assert Numbers(right.snapshot).positive("eligible_sessions") == {("complete",): 2, ("pending",): 1}
    assert initial_status(plan, max_age=300).after(wrong, now=0.0).last_success == 978307200


# --- The transaction


async def test_the_transaction_is_guarded(visits: Database) -> None:
    guards = {
        "application_name": "session-health-exporter",
        "transaction_isolation": "repeatable read",
        "transaction_read_only": "on",
        "row_security": "off",
        "TimeZone": "UTC",
        "statement_timeout": "7s",
        "lock_timeout": "200ms",
        "idle_in_transaction_session_timeout": "7s",
        "max_parallel_workers_per_gather": "0",
        "jit": "off",
    }
    for name, value in {"timezone": "'Asia/Tokyo'", "jit": "on", "max_parallel_workers_per_gather": "4"}.items():
        await visits.set(name, value)
    await visits.execute("create table guards (name text, value text)")
    await visits.connection.executemany("insert into guards values ($1, $2)", guards.items())
    unlike = "exists (select from guards where value is distinct from current_setting(name))"

    numbers = await visits.measure(config(f"required_when: {unlike}", database="statement_timeout: 7s"))

    assert numbers.positive("record_sessions")["scores", "not_required"] == 3


async def test_an_expression_cannot_write(visits: Database) -> None:
    await visits.execute(
        "create function touch() returns boolean language sql stable as "
        "$$ update public.visits set status = 'touched' returning true $$"
    )

    numbers = await visits.measure(config("valid: touch()"))

    fault = assert_only_scores_is_lost(numbers, "invalid_sql")
    assert "FeatureNotSupportedError" in fault.message
    assert await visits.connection.fetchval("select count(*) from visits where status = 'touched'") == 0


@pytest.mark.parametrize("code", ["42501", "42P01", "42703", "42883", "42601", "22000", "P0001", "XX999", "57014"])
async def test_what_a_function_of_the_platform_says_stays_there(visits: Database, code: str) -> None:
    await visits.execute(
        f"""
        create function tell(told text) returns boolean language plpgsql stable as $$
        begin raise exception using errcode = '{code}', message = 'it is ' || told, hint = told, detail = told; end $$
        """
    )

    try:
        faults = list((await visits.measure(config("valid: tell(owner)"))).snapshot.record_faults.values())
    except CollectionError as error:
        faults = [error.fault]

    assert len(faults) == 1
    assert "hunter2" not in faults[0].message


async def test_nothing_is_left_behind_in_the_database(visits: Database) -> None:
    await visits.measure(config())
    await visits.measure(config("valid: blocks >"))

    await until(visits, f"count(*) = 0 {OURS}")

    assert await visits.connection.fetchval("select count(*) from pg_prepared_xacts") == 0


async def test_cancelling_a_collection_ends_its_statement_on_the_server(visits: Database) -> None:
    task = asyncio.create_task(visits.measure(config("valid: pg_sleep(60) is not null")))
    await until(visits, f"exists (select {OURS} and wait_event = 'PgSleep')")
    cancelled = time.monotonic()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(visits, f"count(*) = 0 {OURS}")

    assert time.monotonic() - cancelled < at_most(2)


# --- No snapshot at all


async def test_a_connection_ended_by_the_server_is_a_fault(visits: Database) -> None:
    task = asyncio.create_task(refused(visits, config("valid: pg_sleep(60) is not null")))
    await until(visits, f"exists (select {OURS} and wait_event = 'PgSleep')")

    await visits.execute(f"select pg_terminate_backend(pid) {OURS}")

    assert (await task).reason == "connect"


async def test_a_server_killed_in_the_middle_is_a_fault() -> None:
    with EmbeddedPostgres() as server:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute(TABLES + ROWS)
        database = Database(server.dsn(), connection)
        task = asyncio.create_task(refused(database, config("valid: pg_sleep(60) is not null")))
        await until(database, f"exists (select {OURS} and wait_event = 'PgSleep')")

        await asyncio.to_thread(server.stop_server)
        killed = await task
        down = await refused(database, config())

    assert killed.reason == "connect"
    assert "that the server is running" in down.message


@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        ({"password": "wr0ng-secret"}, "authentication", "pg_hba.conf"),
        ({"username": "nobody_here"}, "authentication", "pg_hba.conf"),
        ({"path": "/no_such_database"}, "connect", "check its name in the url"),
        ({"port": 1}, "connect", "check host and port, and that the server is running"),
        ({"hostname": "no-such-host.invalid"}, "connect", "check the host of the url, and DNS"),
        ({"scheme": "mysql"}, "connect", "write postgresql://"),
        ({"scheme": ""}, "connect", "write postgresql://"),
    ],
)
async def test_a_wrong_address_is_named_by_its_remedy_alone(
    visits: Database, tmp_path: Path, change: dict[str, str | int], reason: str, remedy: str
) -> None:
    parts = urlsplit(visits.dsn)
    given: dict[str, str | int | None] = {
        "scheme": "postgresql",
        "username": parts.username,
        "password": parts.password,
        "path": parts.path,
    }
    given |= {"hostname": parts.hostname, "port": parts.port} | change
    url = "{scheme}://{username}:{password}@{hostname}:{port}{path}".format(**given)
    (tmp_path / "url").write_text(url + "\n")
    text = config().replace('url: "${DATABASE_URL}"', f"url_file: {tmp_path / 'url'}")

    fault = await refused(Database(url, visits.connection), text)

    assert fault.reason == reason
    assert remedy in fault.message


async def test_a_role_that_may_not_connect_is_told_what_to_grant(visits: Database) -> None:
    database = await visits.connection.fetchval("select quote_ident(current_database())")
    reader = await as_reader(visits, SELECT_ALL, f"revoke connect on database {database} from public")

    fault = await refused(reader, config())

    assert fault.reason == "permission"
    [remedy] = re.findall("GRANT CONNECT ON DATABASE <database> TO <role>", fault.message)
    role = urlsplit(reader.dsn).username
    await visits.execute(remedy.replace("<database>", database).replace("<role>", f'"{role}"'))
    assert (await reader.measure(config())).snapshot.record_faults == {}


async def test_a_server_that_never_answers_is_given_up(visits: Database) -> None:
    held = asyncio.Event()

    async def never_answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    silent = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    url = f"postgresql://reader_x:wOrd@127.0.0.1:{port}/no_database"

    fault = await refused(Database(url, visits.connection), config(database="connect_timeout: 200ms"))

    assert fault.reason == "connect"
    assert "no answer within 0.2 s" in fault.message
    held.set()
    silent.close()
    await silent.wait_closed()


@pytest.mark.parametrize(
    "error", [KeyError("getpwuid(): uid not found: 65532"), OSError("No username set in the environment")]
)
async def test_a_user_whom_neither_url_nor_system_names_is_asked_for(
    visits: Database, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """As in a container, whose user has no account."""

    def nobody() -> str:
        raise error

    monkeypatch.setattr("getpass.getuser", nobody)
    monkeypatch.delenv("PGUSER", raising=False)
    parts = urlsplit(visits.dsn)

    fault = await refused(
        Database(parts._replace(netloc=f"{parts.hostname}:{parts.port}").geturl(), visits.connection), config()
    )

    assert fault.reason == "connect"
    assert "PGUSER" in fault.message


async def test_a_password_file_is_read_again_at_each_connect(visits: Database, tmp_path: Path) -> None:
    reader = await as_reader(visits, SELECT_ALL)
    parts = urlsplit(reader.dsn)
    plan = plan_of(
        config(database=f"password_file: {tmp_path / 'password'}"),
        parts._replace(netloc=f"{parts.username}:stale@{parts.hostname}:{parts.port}").geturl(),
    )
    faults = []
    for content in (None, b"wrong", b"\xff", f"{parts.password}\n".encode()):
        if content is not None:
            (tmp_path / "password").write_bytes(content)
        try:
            assert_whole(Numbers(await collect(plan)))
        except CollectionError as error:
            faults.append(error.fault)

    assert [fault.reason for fault in faults] == ["connect", "authentication", "connect"]
    assert "password_file cannot be read (No such file" in faults[0].message
    for fault in faults:
        assert_keeps_secrets(fault, reader.dsn)
        assert str(tmp_path) not in fault.message


# --- Several pipelines, and what a collection costs


async def test_pipelines_are_measured_apart(visits: Database) -> None:
    text = config(text=CONFIG + CONFIG.partition("pipelines:\n")[2].replace("care:", "other:"))
    text = text.replace("table: notes", "table: no_notes", 1)

    care, other = await visits.measure(text, "care"), await visits.measure(text, "other")

    assert list(care.snapshot.record_faults) == ["notes"]
    assert care.snapshot.pipeline == "care"
    assert other.snapshot.pipeline == "other"
    assert_whole(other)


async def test_databases_are_measured_apart(visits: Database, new_database: NewDatabase) -> None:
    elsewhere = await new_database(None)
    await elsewhere.execute(TABLES)
    text = (
        config()
        .replace("database: {", "databases:\n  here: {")
        .replace("pipelines:", f"  there: {{url: '{elsewhere.dsn}'}}\npipelines:")
    )
    text = text.replace("  care:\n", "  care:\n    database: here\n")
    text += text.partition("pipelines:\n")[2].replace("care:", "other:").replace("database: here", "database: there")

    care, other = await visits.measure(text, "care"), await visits.measure(text, "other")

    assert_whole(care)
    assert other.positive("sessions") == {}
    assert other.family("eligible_sessions") == {("complete",): 0, ("pending",): 0, ("gap",): 0}


@pytest.fixture
async def large(visits: Database) -> Database:
    """20,000 visits with records, as vacuum leaves them."""
    await visits.execute(
        """
        truncate visits, scores, notes;
        insert into visits select n, 'done', timestamptz '2025-01-01' + n * interval '10 minutes', now(), true
        from generate_series(1, 20000) n;
        create index on visits (started_at);
        insert into scores select id, 'v3', 1 from visits where id % 10 > 0;
        insert into scores select id, 'v2', 1 from visits where id % 3 = 0;
        create unique index on scores (visit_id, version);
        insert into notes select id, 'v1' from visits where id % 7 > 0;
        create unique index on notes (visit_id);
        """
    )
    for table in ("visits", "scores", "notes"):
        await visits.execute(f"vacuum analyze {table}")
    return visits


async def test_a_collection_reads_each_table_at_most_twice(large: Database) -> None:
    if "pg_stat_statements" not in await large.connection.fetchval("show shared_preload_libraries"):
        pytest.skip("the server has not loaded pg_stat_statements")
    reader = await as_reader(large, SELECT_ALL, "create extension pg_stat_statements")
    role = urlsplit(reader.dsn).username
    await reader.measure(config())  # fills the catalog's caches and sets hint bits
    await large.execute("select pg_stat_statements_reset()")
    scans = "select relname, seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables order by 1"
    await until(large, f"count(*) = 0 {OURS}")
    if large.connection.get_server_version() >= (15,):
        # A backend reports its reads once a second, also those of the fixture.
        await large.execute("select pg_stat_force_next_flush()")
    before: dict[str, int] = {name: rows for name, rows in await large.connection.fetch(scans)}  # noqa: C416

    numbers = await reader.measure(config())

    await until(large, f"count(*) = 0 {OURS}")
    await large.execute("select pg_stat_clear_snapshot()")
    after: dict[str, int] = {name: rows for name, rows in await large.connection.fetch(scans)}  # noqa: C416
    ours = await large.connection.fetch(
        "select calls, shared_blks_hit + shared_blks_read as blocks, query from pg_stat_statements "
        "where userid = $1::text::regrole and dbid = (select oid from pg_database where datname = current_database()) "
        "and query ~ 'visits|scores|notes' and query !~* '^lock'",
        role,
    )
    pages = await large.connection.fetchval(
        "select sum(relpages) from pg_class "
        "where relnamespace = 'public'::regnamespace and relname ~ 'visits|scores|notes'"
    )
    assert numbers.positive("sessions") == {("done",): 20000}
    # The catalog, the unique indexes and the key; the rows of each record; the sessions.
    assert sum(row["calls"] for row in ours) <= 6
    assert sum(row["blocks"] for row in ours) <= 2 * pages + 100
    # The planner itself looks at the ends of an index: hence the 9.  Reading an index alone counts no row.
    for table, rows in await large.connection.fetch(
        "select relname, reltuples from pg_class where relname = any($1)", [*after]
    ):
        times = 1 if table == "visits" else 2
        assert rows <= after[table] - before[table] <= times * rows + 9, table
