"""The sample platform: tables and scenarios."""

from dataclasses import dataclass
from typing import Final

SCHEMA: Final = """
create table assessment_sessions (
  id                  uuid primary key,
  status              text not null,
  created_at          timestamptz not null,
  completed_at        timestamptz,
  finalized_at        timestamptz,
  completed_questions integer not null default 0
);
create index on assessment_sessions (created_at);

create table profiles (
  session_id      uuid primary key references assessment_sessions (id),
  results_version text,
  created_at      timestamptz not null default now()
);

-- No foreign key: the real platform does not enforce the link either.
create table fc_scores (
  session_id      uuid not null,
  version         text not null,
  fc_kind         text not null,
  blocks_answered integer not null default 0,
  created_at      timestamptz not null default now(),
  primary key (session_id, version, fc_kind)
);
"""

ELIGIBLE_SESSIONS: Final = 157

_SESSIONS = f"""
-- {ELIGIBLE_SESSIONS} sessions that must have records, evenly spread from the window's start to an hour ago
insert into assessment_sessions
select md5('session ' || n)::uuid, 'completed', started, started + interval '19 minutes',
       started + interval '20 minutes', 240
from (
  select n, timestamptz '2025-08-01 00:20+00'
            + (n - 1) * (now() - interval '1 hour' - timestamptz '2025-08-01 00:20+00') / {ELIGIBLE_SESSIONS} as started
  from generate_series(1, {ELIGIBLE_SESSIONS}) n
) s;

-- rows that must not count: under way, abandoned, empty, and from before the window
insert into assessment_sessions
select md5('in progress ' || n)::uuid, 'in_progress', now() - n * interval '7 minutes', null, null, 17 * n
from generate_series(1, 12) n;
insert into assessment_sessions
select md5('abandoned ' || n)::uuid, 'abandoned', now() - n * interval '9 days', null, null, 8 * n
from generate_series(1, 9) n;
insert into assessment_sessions
select md5('empty ' || n)::uuid, 'completed', started, started + interval '1 minute', null, 0
from (select n, now() - n * interval '11 days' as started from generate_series(1, 6) n) s;
insert into assessment_sessions
select md5('earlier ' || n)::uuid, 'completed', started, started + interval '21 minutes',
       started + interval '22 minutes', 240
from (select n, timestamptz '2025-08-01 00:00+00' - n * interval '3 days' as started from generate_series(1, 20) n) s;
"""

_RECORDS = """
insert into profiles
select id, 'v1.2.1', completed_at + interval '4 seconds'
from assessment_sessions where status = 'completed' and completed_questions > 0;
insert into fc_scores
select id, 'v1.2', 'functions', 30, completed_at + interval '6 seconds'
from assessment_sessions where status = 'completed' and completed_questions > 0;
"""

# The latest 39 sessions: 11 have only old scores, 28 have no scores, and 13 of the 28 also lack a profile.
_BEFORE_BACKFILL = """
delete from profiles where session_id in (select md5('session ' || n)::uuid from generate_series(145, 157) n);
delete from fc_scores where session_id in (select md5('session ' || n)::uuid from generate_series(130, 157) n);
update fc_scores set version = 'v1.1'
where session_id in (select md5('session ' || n)::uuid from generate_series(119, 129) n);
"""

# One worker was not deployed, and still writes the old version.
_DRIFT = """
update profiles set results_version = 'v1.2.0'
where session_id in (select md5('session ' || n)::uuid from generate_series(3, 157, 7) n)
  and created_at >= '2025-09-17';
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A state of the sample platform; `loss` is the share (0 to 1) of live sessions that stay without scores."""

    summary: str
    sql: str
    loss: float = 0.0


SCENARIOS: Final[dict[str, Scenario]] = {
    "healthy": Scenario("157 eligible sessions, all with current records", _SESSIONS + _RECORDS),
    "backfill": Scenario(
        "39 of 157 sessions wait for a backfill: 13 without a profile, 28 without scores, 11 with old ones",
        _SESSIONS + _RECORDS + _BEFORE_BACKFILL,
        loss=0.2,
    ),
    "drift": Scenario("a forgotten worker still writes profiles of the old version", _SESSIONS + _RECORDS + _DRIFT),
}
