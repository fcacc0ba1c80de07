"""Faults that a superuser or a migration brings by SQL: rights, policies, locks, tables, columns, clocks."""

from typing import Final

from conftest import another_clock
from fault import NO_ANSWER, WITHDRAWN, Fault
from rows_network import BEYOND
from scene import MAX_AGE, STATEMENT_TIMEOUT
from server import migrating
from signals import PACE, cut_off, refused_after_slow_collections, rotated
from sql import by_sql, renamed_database

GRANT: Final = "grant select on all tables in schema public to {role}"
PACED: Final = {"finalized: finalized_at is not null": "finalized: finalized_at is not null and public.pace()"}
STEADY: Final = PACE.format("true")
CHANGED: Final = ("catalog_change",)
REAL_CLOCK: Final = another_clock("select real_clock_timestamp()")
MANY: Final = """
insert into assessment_sessions select md5('more ' || n)::uuid, 'completed', now() - interval '9 days',
  now() - interval '9 days', now() - interval '9 days', 240 from generate_series(1, 20000) n;
insert into profiles select md5('more ' || n)::uuid, 'v1.2.1' from generate_series(1, 20000) n;
insert into fc_scores select md5('more ' || n)::uuid, 'v1.2', 'functions', 30 from generate_series(1, 20000) n;
"""
TIGHT: Final = "alter role {role} set work_mem = '64kB'; alter role {role} set temp_file_limit = '100kB'"
LOOSE: Final = "alter role {role} reset work_mem; alter role {role} reset temp_file_limit"

RIGHTS: Final = (
    Fault(
        "the role's connection limit is 0",
        by_sql("alter role {role} connection limit 0", "alter role {role} connection limit -1"),
        ("connect",),
        says="CONNECTION LIMIT",
    ),
    Fault(
        "password changed on the server",
        by_sql("alter role {role} password 'rotated-secret'", "alter role {role} password '{password}'"),
        ("authentication",),
        is_brief=True,
    ),
    Fault(
        "password rotated with password_file",
        rotated,
        ("authentication",),
        config={"# password_file: /run/secrets/password": "password_file: '{folder}/password'"},
    ),
    Fault(
        "the role may not log in",
        by_sql("alter role {role} nologin", "alter role {role} login"),
        ("authentication",),
    ),
    Fault(
        "the role is dropped",
        by_sql(
            "drop owned by {role}; drop role {role}", f"create role {{role}} login password '{{password}}'; {GRANT}"
        ),
        ("authentication",),
        also=("permission",),
    ),
    Fault(
        "CONNECT revoked",
        by_sql("revoke connect on database {database} from public", "grant connect on database {database} to public"),
        ("permission",),
        says="GRANT CONNECT",
    ),
    Fault("the database is renamed", renamed_database, ("connect",)),
    Fault(
        "SELECT on a record revoked",
        by_sql("revoke select on fc_scores from {role}", GRANT),
        ("permission",),
        says="GRANT",
        lost="fc_scores",
        is_brief=True,
    ),
    Fault(
        "SELECT on the sessions revoked",
        by_sql("revoke select on assessment_sessions from {role}", GRANT),
        ("permission",),
        says="GRANT",
    ),
    Fault(
        "USAGE of the schema revoked",
        by_sql("revoke usage on schema public from public", "grant usage on schema public to public"),
        ("permission",),
        says="GRANT",
    ),
    Fault(
        "row security on a record hides the broken rows",
        by_sql(
            "alter table fc_scores enable row level security; create policy some_rows on fc_scores using (true)",
            "drop policy some_rows on fc_scores; alter table fc_scores disable row level security",
        ),
        ("row_security",),
        says="BYPASSRLS",
        lost="fc_scores",
    ),
    Fault(
        "row security on the sessions hides the gaps",
        by_sql(
            "alter table assessment_sessions enable row level security; create policy whole on assessment_sessions "
            "using (exists (select 1 from fc_scores f where f.session_id = id))",
            "drop policy whole on assessment_sessions; alter table assessment_sessions disable row level security",
        ),
        ("row_security",),
        says="BYPASSRLS",
    ),
)

LOCKS: Final = (
    Fault(
        "record locked by a migration",
        migrating("fc_scores"),
        ("lock_timeout",),
        lost="fc_scores",
        said_within=3.0,
        green_for=3.0,
        lasts=4.0,
    ),
    Fault(
        "sessions locked by a migration",
        migrating("assessment_sessions"),
        ("lock_timeout",),
        said_within=3.0,
        green_for=3.0,
        lasts=4.0,
    ),
    Fault(
        "every table locked for longer than max_age",
        migrating("assessment_sessions", "profiles", "fc_scores"),
        ("lock_timeout",),
        said_within=3.0,
        green_for=3.0,
        lasts=BEYOND,
    ),
    Fault(
        "a statement slower than statement_timeout",
        by_sql(PACE.format("pg_sleep(60) is not null"), STEADY),
        ("statement_timeout", "collection_timeout"),
        also=CHANGED,
        before=STEADY,
        config=PACED,
        said_within=MAX_AGE + 2,
        green_for=MAX_AGE + 1,
        lasts=BEYOND,
        right_within=8.0,
    ),
)

APART: Final = {
    "databases:                        # for a single database, write `database: {...}`\n": (
        "databases:\n  other: {url: '${DATABASE_URL}', lock_timeout: 500ms, allow_superuser: true}\n"
    ),
    "        table: public.fc_scores\n": "        database: other\n        table: public.fc_scores\n",
}
"""The record is read as one of another database."""

ELSEWHERE: Final = (
    Fault(
        "in another database SELECT on the record revoked",
        by_sql("revoke select on fc_scores from {role}", GRANT),
        ("permission",),
        says="database other",
        lost="fc_scores",
        config=APART,
        is_brief=True,
    ),
    Fault(
        "in another database the record locked by a migration",
        migrating("fc_scores"),
        ("lock_timeout",),
        says="database other",
        lost="fc_scores",
        said_within=3.0,
        green_for=3.0,
        lasts=4.0,
        config=APART,
    ),
    Fault(
        "in another database row security hides broken rows",
        by_sql(
            "alter table fc_scores enable row level security; create policy some_rows on fc_scores using (true)",
            "drop policy some_rows on fc_scores; alter table fc_scores disable row level security",
        ),
        ("row_security",),
        says="database other",
        lost="fc_scores",
        config=APART,
    ),
)

CUT_OFF: Final = Fault(
    "black hole from the middle of a statement",
    cut_off,
    (WITHDRAWN, *NO_ANSWER),
    also=CHANGED,
    before=STEADY,
    config=PACED,
    said_within=MAX_AGE + 2,
    green_for=MAX_AGE + 1,
    right_within=8.0,
    left_for=2 * STATEMENT_TIMEOUT + 1,
    leaves_idle=True,
    ends_at_once=True,
)
"""SIGTERM comes while the statement runs, and no packet tells the server: its own time-outs end the backend."""

SLOW_BEFORE: Final = Fault(
    "port refuses after collections of 3 s",
    refused_after_slow_collections,
    ("connect",),
    also=CHANGED,
    before=STEADY,
    config={**PACED, "statement_timeout: 2s": "statement_timeout: 20s", "mode: auto": "mode: full"},
    lasts=BEYOND + 1,
    said_within=12.0,
    green_for=MAX_AGE + 1,
    right_within=8.0,
)
"""max_age is the age of the snapshot, which begins with the collection, not the time since its end."""

CONTENT: Final = (
    Fault(
        "a check raises an error",
        by_sql(PACE.format("1 / 0 = 0"), STEADY),
        ("type", "invalid_sql"),
        also=(*CHANGED, "statement_timeout"),
        lost="check",
        before=STEADY,
        config=PACED,
    ),
    Fault(
        "record dropped",
        by_sql(
            "create table spare (like fc_scores including all); insert into spare table fc_scores; "
            "drop table fc_scores",
            f"alter table spare rename to fc_scores; {GRANT}",
        ),
        ("missing_object",),
        also=CHANGED,
        lost="fc_scores",
        says="fc_scores",
    ),
    Fault(
        "sessions table renamed",
        by_sql(
            "alter table assessment_sessions rename to elsewhere",
            "alter table elsewhere rename to assessment_sessions",
        ),
        ("missing_object",),
        also=CHANGED,
    ),
    Fault(
        "column dropped",
        by_sql(
            "alter table fc_scores rename fc_kind to former_kind",
            "alter table fc_scores rename former_kind to fc_kind",
        ),
        ("missing_object",),
        also=CHANGED,
        lost="fc_scores",
        says="fc_kind",
    ),
    Fault(
        "record key of another type",
        by_sql(
            "alter table fc_scores alter session_id type text",
            "alter table fc_scores alter session_id type uuid using session_id::uuid",
        ),
        ("type",),
        also=CHANGED,
        lost="fc_scores",
        says="cast",
    ),
    Fault(
        "version becomes an enum",
        by_sql(
            "create type score_version as enum ('v1.1', 'v1.2'); "
            "alter table fc_scores alter version type score_version using version::score_version",
            "alter table fc_scores alter version type text; drop type score_version",
        ),
        also=CHANGED,
    ),
    Fault(
        "temp_file_limit reached",
        by_sql(TIGHT, LOOSE),
        ("internal",),
        says="temp_file_limit",
        before=MANY,
    ),
)

CLOCKS: Final = tuple(
    Fault(
        f"clock of the database {name}",
        by_sql(another_clock(f"select real_clock_timestamp() {step}"), REAL_CLOCK),
        also=CHANGED,
        steps_clock=True,
    )
    for name, step in (("1 hour ahead", "+ interval '1 hour'"), ("1 hour behind", "- interval '1 hour'"))
)
