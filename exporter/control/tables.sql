-- The rows of the control platform: common table expressions for the statements of a collection.

"control sessions" as (
  select
    tenant::text, id::bigint, status::text, started_at::timestamptz, completed_at::timestamptz,
    is_complete::boolean, is_eligible::boolean, is_deleted::boolean, is_right::boolean, needs_lenient::boolean
  from (values
    -- whole
    ('a', 1, 'completed', '2025-06-05T10:00Z', '2025-06-05T11:00Z', true, true, false, true, true),
    -- no row of any record
    ('a', 2, 'completed', '2025-06-06T10:00Z', '2025-06-06T11:00Z', true, true, false, true, true),
    -- an old version alone, an accepted version alone, a current version beside an old one
    ('a', 3, 'completed', '2025-06-07T10:00Z', '2025-06-07T11:00Z', true, true, false, true, true),
    ('a', 4, 'completed', '2025-06-07T10:00Z', '2025-06-07T12:00Z', true, true, false, true, true),
    ('a', 5, 'completed', '2025-06-08T10:00Z', '2025-06-08T11:00Z', true, true, false, true, true),
    -- invalid by expression, by a value, and by a value that is NULL
    ('a', 6, 'completed', '2025-06-08T10:00Z', '2025-06-08T12:00Z', true, true, false, true, true),
    ('a', 7, 'completed', '2025-06-08T10:00Z', '2025-06-08T13:00Z', true, true, false, true, true),
    ('a', 8, 'completed', '2025-06-08T10:00Z', '2025-06-08T14:00Z', true, true, false, true, true),
    -- pending: within the grace period, at its end, and just beyond
    ('a', 9, 'completed', '2025-06-15T11:00Z', '2025-06-15T11:30Z', true, true, false, null, true),
    ('a', 10, 'completed', '2025-06-15T10:00Z', '2025-06-15T11:00Z', true, true, false, false, true),
    ('a', 11, 'completed', '2025-06-15T10:00Z', '2025-06-15T10:59:59Z', true, true, false, false, true),
    -- within the longer grace period of one record alone
    ('a', 12, 'completed', '2025-06-15T09:00Z', '2025-06-15T09:30Z', true, true, false, true, true),
    -- not eligible, eligible by NULL, eligible without completion
    ('a', 13, 'open', '2025-06-09T10:00Z', null, false, false, false, false, true),
    ('a', 14, 'open', '2025-06-09T10:00Z', null, null, null, null, null, null),
    ('a', 15, 'completed', '2025-06-09T10:00Z', null, true, true, false, true, true),
    -- one record not required, also by NULL
    ('a', 16, 'completed', '2025-06-10T10:00Z', '2025-06-10T11:00Z', true, true, false, true, false),
    ('a', 17, 'completed', '2025-06-10T10:00Z', '2025-06-10T12:00Z', true, true, false, false, null),
    -- the first instant of the window, and the instant before
    ('a', 18, 'completed', '2025-06-01T00:00Z', '2025-06-01T01:00Z', true, true, false, true, true),
    ('a', 19, 'completed', '2025-05-31T23:59:59Z', '2025-06-01T02:00Z', true, true, false, true, true),
    -- without a start, before all time, in the future
    ('a', 20, 'completed', null, '2025-06-02T01:00Z', true, true, false, true, true),
    ('a', 21, 'completed', '-infinity', '2025-06-02T01:00Z', true, true, false, true, true),
    ('a', 22, 'completed', '2025-06-16T10:00Z', '2025-06-16T11:00Z', true, true, false, true, true),
    ('a', 27, 'completed', '2025-06-16T10:00Z', '2025-06-15T11:45Z', true, true, false, true, true),
    ('a', 31, 'completed', '2025-06-16T10:00Z', '2025-06-15T11:44Z', true, true, false, true, true),
    ('a', 33, 'completed', '2025-06-16T10:00Z', '2025-06-15T11:43Z', true, true, false, true, false),
    -- the oldest gap, without a completion
    ('a', 28, 'completed', '2025-06-01T00:30Z', null, true, true, false, true, true),
    ('a', 32, 'completed', '2025-06-01T00:45Z', null, true, true, false, true, true),
    -- deleted, with rows; the second before the window
    ('a', 29, 'deleted', '2025-05-20T10:00Z', '2025-05-20T11:00Z', true, true, true, true, true),
    ('a', 23, 'deleted', '2025-06-11T10:00Z', '2025-06-11T11:00Z', true, false, true, true, true),
    -- in a status that must not last: too long, not too long, another status
    ('a', 24, 'in_progress', '2025-06-15T08:00Z', null, false, false, false, true, true),
    ('a', 25, 'in_progress', '2025-06-15T11:40Z', null, false, false, false, true, true),
    -- alike, and earlier: the newest of two
    ('a', 30, 'in_progress', '2025-06-15T11:20Z', null, false, false, false, true, true),
    ('a', 34, 'in_progress', '2025-06-15T11:15Z', null, false, false, false, true, false),
    ('a', 26, 'paused', '2025-06-15T08:00Z', null, false, false, false, true, true),
    -- no sessions: in the window, without a start, in the future, in the cohort
    ('a', 35, 'test', '2025-06-01T00:15Z', '2025-06-01T00:20Z', true, true, false, false, true),
    ('a', 36, 'test', null, '2025-06-02T01:00Z', true, true, false, true, true),
    ('a', 37, 'test', '2025-06-16T10:00Z', '2025-06-15T11:59Z', true, true, false, true, true),
    ('b', 6, 'test', '2025-06-14T12:00Z', '2025-06-14T12:10Z', true, true, false, true, true),
    -- of the cohort: the first instant, whole, without a record, the last instant is not of the cohort
    ('b', 1, 'completed', '2025-06-14T11:00Z', '2025-06-14T11:10Z', true, true, false, true, true),
    ('b', 2, 'completed', '2025-06-14T12:00Z', '2025-06-14T12:30Z', true, true, false, true, true),
    ('b', 3, 'open', '2025-06-14T13:00Z', null, false, false, false, true, true),
    ('b', 4, 'completed', '2025-06-15T11:00Z', '2025-06-15T11:10Z', true, true, false, true, true),
    ('b', 5, 'completed', '2025-06-14T10:59:59Z', '2025-06-14T11:10Z', true, true, false, true, true),
    -- neighbours that floating point cannot tell apart; a key of another letter case; blanks
    ('c', 9007199254740992, 'completed', '2025-06-12T10:00Z', '2025-06-12T11:00Z', true, true, false, true, true),
    ('c', 9007199254740993, 'completed', '2025-06-12T10:00Z', '2025-06-12T11:00Z', true, true, false, true, true),
    ('C', 9007199254740992, 'completed', '2025-06-12T10:00Z', '2025-06-12T11:00Z', true, true, false, true, true),
    ('c ', 9007199254740992, 'completed', '2025-06-12T10:00Z', '2025-06-12T11:00Z', true, true, false, true, true),
    -- a status that is NULL, empty, reserved
    ('d', 1, null, '2025-06-13T10:00Z', null, false, false, false, true, true),
    ('d', 2, '', '2025-06-13T10:00Z', null, false, false, false, true, true),
    ('d', 3, '<null>', '2025-06-13T10:00Z', null, false, false, false, true, true),
    -- no key
    (null, 1, 'completed', '2025-06-13T10:00Z', '2025-06-13T11:00Z', true, true, false, true, true)
  ) listed (
    tenant, id, status, started_at, completed_at, is_complete, is_eligible, is_deleted, is_right, needs_lenient
  )
)

"control strict" as (
  select tenant::text, session_id::bigint, created_at::timestamptz, version::text, kind::text, score::integer
  from (values
    ('a', 1, '2025-06-05T11:00:10Z', 'v3', 'a', 1),
    ('a', 3, '2025-06-07T11:00:20Z', 'v1', 'a', 1),
    ('a', 4, '2025-06-07T12:00:30Z', 'v2', 'b', 1),
    ('a', 5, '2025-06-08T11:00:10Z', 'v1', 'a', 1),
    ('a', 5, '2025-06-11T11:00:10Z', 'v3', 'a', 1),
    ('a', 6, '2025-06-08T12:00:10Z', 'v3', 'a', 0),
    ('a', 7, '2025-06-08T13:00:10Z', 'v3', 'c', 1),
    ('a', 8, '2025-06-08T14:00:10Z', 'v3', null, null),
    ('a', 9, '2025-06-15T11:30:05Z', 'v1', 'a', 1),
    ('a', 10, '2025-06-15T11:10:05Z', 'v1', 'a', 1),
    ('a', 12, '2025-06-15T09:30:05Z', 'v3', 'a', 1),
    ('a', 16, '2025-06-10T11:00:00Z', 'v1', 'a', 1),
    ('a', 17, null, null, 'b', 1),
    ('a', 18, '2025-06-10T00:00:00Z', 'v1', 'a', 1),
    ('a', 19, '2025-06-01T02:00:10Z', 'v1', 'b', 1),
    ('a', 20, '2025-06-02T02:00:10Z', 'v4', 'b', 1),
    ('a', 23, '2025-06-11T11:00:10Z', 'v3', 'a', 1),
    ('a', 29, '2025-05-20T11:00:10Z', 'v3', 'a', 1),
    ('a', 29, '2025-05-20T11:00:20Z', 'v0', 'a', 0),
    ('b', 1, '2025-06-14T11:10:30Z', 'v3', 'a', 1),
    ('b', 2, '2025-06-14T12:31:00Z', 'v2', 'a', 1),
    ('b', 5, '2025-06-14T11:12:00Z', 'v3', 'a', 1),
    ('c', 9007199254740993, '2025-06-12T11:00:10Z', 'v3', 'a', 1),
    -- a row from the future
    ('C', 9007199254740992, '2025-06-16T11:00:10Z', 'v3', 'a', 1),
    -- without a session, without a key
    ('z', 1, '2025-06-09T11:00:10Z', 'v3', 'a', 1),
    ('a', null, '2025-06-09T11:00:10Z', 'v3', 'a', 1),
    (null, 1, '2025-06-09T11:00:10Z', 'v3', 'a', 1)
  ) listed (tenant, session_id, created_at, version, kind, score)
)

"control lenient" as (
  select tenant::text, session_id::bigint, created_at::timestamptz, version::text, is_hidden::boolean
  from (values
    ('a', 1, '2025-06-05T11:00:10Z', 'v3', false),
    ('a', 3, '2025-06-07T11:00:20Z', 'v1', false),
    ('a', 4, '2025-06-07T12:00:30Z', 'v3', true),
    ('a', 5, '2025-06-08T11:00:10Z', 'v1', null),
    ('a', 6, '2025-06-08T11:00:10Z', null, false),
    ('a', 16, '2025-06-10T11:00:00Z', 'v3', false),
    ('a', 23, '2025-06-11T11:00:00Z', 'v3', false),
    ('a', 23, '2025-06-11T11:00:00Z', 'v3', true),
    ('b', 1, '2025-06-14T11:15:30Z', 'v1', false),
    ('b', 2, '2025-06-14T12:00:00Z', 'v3', false),
    ('c', 9007199254740992, '2025-06-12T11:00:10Z', 'v3', false),
    ('z', 2, '2025-06-09T11:00:10Z', 'v2', false),
    ('z', 3, '2025-06-09T11:00:10Z', 'v2', true)
  ) listed (tenant, session_id, created_at, version, is_hidden)
)

"control bare" as (
  select tenant::text, session_id::bigint, created_at::timestamptz
  from (values
    ('a', 1, '2025-06-05T11:00:05Z'),
    ('a', 3, '2025-06-07T11:00:05Z'),
    -- two rows, the newest without a time
    ('a', 4, '2025-06-07T12:00:05Z'),
    ('a', 4, null),
    ('a', 9, '2025-06-15T11:30:05Z'),
    ('a', 12, '2025-06-15T09:30:05Z'),
    ('a', 16, '2025-06-10T10:59:00Z'),
    -- of the cohort: after a minute and a half, before the completion
    ('b', 1, '2025-06-14T11:11:30Z'),
    ('b', 2, '2025-06-14T12:20:00Z'),
    ('c', 9007199254740992, '2025-06-12T11:00:05Z'),
    -- of no session, and no orphan
    ('a', 35, '2025-06-01T00:20:05Z'),
    ('b', 6, '2025-06-14T12:50:00Z'),
    ('z', 2, '2025-06-12T11:00:05Z'),
    (null, null, '2025-06-12T11:00:05Z')
  ) listed (tenant, session_id, created_at)
)
