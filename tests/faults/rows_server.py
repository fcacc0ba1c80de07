"""Faults of the server, of a replica and of a pooler."""

from typing import Final

from fault import NO_ANSWER, Fault
from rows_network import BEYOND
from scene import MAX_AGE
from server import (
    backends_frozen,
    crowded,
    frozen,
    killed,
    pooler_killed,
    pooler_paused,
    promoted,
    replay_paused,
    restarted,
    stopped,
)
from sql import at_our_backends, over_and_over

SMALL: Final = {"max_connections": "20"}

SERVER: Final = (
    Fault("server stopped, fast", stopped("fast"), ("connect",), place="own", left_for=None, is_brief=True),
    Fault("server stopped, immediate", stopped("immediate"), ("connect",), place="own", left_for=None),
    Fault("postmaster killed (SIGKILL)", killed, ("connect",), place="own", left_for=None),
    Fault("server restarted", restarted, also=("connect",), place="own"),
    Fault(
        "server down for longer than max_age",
        stopped("fast"),
        ("connect",),
        place="own",
        left_for=None,
        lasts=BEYOND,
    ),
    Fault(
        "postmaster frozen (SIGSTOP)",
        frozen,
        ("connect",),
        says="no answer within",
        place="own",
        lasts=BEYOND,
        said_within=4.0,
        green_for=4.0,
        left_for=None,
        left_as="not asked: the server accepts no connection",
    ),
    Fault(
        "backend frozen in a statement (SIGSTOP)",
        backends_frozen,
        also=NO_ANSWER,
        place="own",
        right_within=MAX_AGE + 4,
        green_for=MAX_AGE + 1,
        left_for=None,
        left_as="the frozen backend, until SIGCONT",
    ),
    Fault("every connection taken", crowded, ("connect",), says="no free connection", place="own", settings=SMALL),
    Fault(
        "pg_terminate_backend, again and again",
        at_our_backends("pg_terminate_backend"),
        ("connect",),
        also=("internal", "statement_timeout"),
    ),
    Fault(
        "pg_cancel_backend, again and again",
        at_our_backends("pg_cancel_backend"),
        ("statement_timeout", "internal", "connect"),
    ),
    Fault(
        "replica: replay paused",
        replay_paused,
        ("replica_lag",),
        says="pg_wal_replay_resume",
        place="standby",
        spoils="after",
    ),
    Fault("replica: promoted", promoted, also=("connect", "replica_lag", "recovery_conflict"), place="standby"),
    Fault("PgBouncer killed", pooler_killed, ("connect",), place="pgbouncer"),
    Fault(
        "PgBouncer paused",
        pooler_paused,
        NO_ANSWER,
        place="pgbouncer",
        lasts=BEYOND + 2,
        said_within=MAX_AGE + 2,
        green_for=MAX_AGE + 1,
    ),
)

REWRITES: Final = (
    Fault(
        "TRUNCATE and reload of a record, again and again",
        over_and_over(
            "create table if not exists spare as table fc_scores; truncate fc_scores; "
            "insert into fc_scores select * from spare",
            pause=0.02,
        ),
        also=("lock_timeout", "table_rewrite", "deadlock"),
        spoils="never",
        is_brief=True,
    ),
    Fault(
        "TRUNCATE and reload of the sessions, again and again",
        over_and_over(
            "alter table profiles drop constraint if exists profiles_session_id_fkey; "
            "create table if not exists spare as table assessment_sessions; truncate assessment_sessions; "
            "insert into assessment_sessions select * from spare",
            pause=0.02,
        ),
        also=("lock_timeout", "table_rewrite", "deadlock"),
        spoils="never",
    ),
    Fault(
        "record swapped by rename, again and again",
        over_and_over(
            "create table fresh (like fc_scores including all); insert into fresh select * from fc_scores; "
            "grant select on fresh to {role}; alter table fc_scores rename to stale; "
            "alter table fresh rename to fc_scores; drop table stale",
            pause=0.05,
        ),
        also=("lock_timeout", "table_rewrite", "deadlock", "catalog_change", "missing_object", "permission"),
        spoils="never",
    ),
    Fault(
        "VACUUM FULL of each table, again and again",
        over_and_over("vacuum full fc_scores", "vacuum full profiles", "vacuum full assessment_sessions", pause=0.02),
        also=("lock_timeout", "table_rewrite", "deadlock"),
        spoils="never",
    ),
    Fault(
        "ALTER COLUMN TYPE to and fro",
        over_and_over(
            "alter table fc_scores alter version type varchar(40)",
            'alter table fc_scores alter version type text collate "C"',
            pause=0.05,
        ),
        also=("lock_timeout", "table_rewrite", "deadlock", "catalog_change"),
        spoils="never",
    ),
)
