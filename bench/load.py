"""The sample platform at any size, for every benchmark: rows in the order of time, as a platform writes them."""

import asyncpg

from exporter.demo.scenarios import SCHEMA

SESSIONS = """
insert into assessment_sessions
select gen_random_uuid(), case when r < 0.75 then 'completed' when r < 0.9 then 'in_progress' else 'abandoned' end,
       started, case when r < 0.75 then started + interval '20 minutes' end,
       case when r < 0.75 then started + interval '21 minutes' end, case when r < 0.75 then 240 else 3 end
from (
  select random() as r,
    timestamptz '2025-08-01' + n * ((now() - interval '1 hour' - timestamptz '2025-08-01') / $1::integer) as started
  from generate_series(1, $1::integer) n
) s
"""
RECORDS = """
insert into profiles
select id, case when random() < 0.97 then 'v1.2.1' else 'v1.2.0' end, completed_at + interval '4 s'
from assessment_sessions where completed_at is not null and random() < 0.999;
insert into fc_scores
select id, version, 'functions', 30, completed_at + interval '6 s'
from (
  select id, completed_at, version, share, random() as r
  from assessment_sessions cross join (values ('v1.1', 0.4), ('v1.2', 0.998)) v(version, share)
  where completed_at is not null offset 0
) derived
where r < share;
"""
WIDE = """
alter table assessment_sessions add answers text default repeat('a', 230);
alter table profiles add results text default repeat('r', 540);
alter table fc_scores add details text default repeat('d', 170);
"""
"""Columns that make rows as wide as those of a real platform: the bare scans read them, the exporter does not."""


async def load(connection: asyncpg.Connection, sessions: int, *, wide: bool = False) -> None:
    """Create and fill the tables of the sample platform."""
    # VACUUM marks rows as visible to all only if their commit is on disk.
    await connection.execute("set synchronous_commit = on")
    await connection.execute(SCHEMA)
    if wide:
        await connection.execute(WIDE)
        # A default of a new column is stored once; written rows hold it.
    await connection.execute(SESSIONS, sessions)
    for statement in RECORDS.split(";")[:-1]:
        await connection.execute(statement)
    await connection.execute("vacuum analyze")
