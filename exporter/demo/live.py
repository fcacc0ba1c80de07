"""The sample platform at work: sessions start, complete and get their records, so that graphs move."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import asyncpg

STEP_SECONDS: Final = 1.0

_STEP: Final = (
    # One session in two seconds starts; it completes after some ten, its records follow within five.
    """
    insert into assessment_sessions (id, status, created_at)
    select gen_random_uuid(), 'in_progress', clock_timestamp() where random() < 0.5
    """,
    """
    update assessment_sessions
    set status = 'completed', completed_at = clock_timestamp(), finalized_at = clock_timestamp(),
        completed_questions = 240
    where status = 'in_progress' and completed_questions = 0
      and created_at < clock_timestamp() - interval '5 seconds' and random() < 0.2
    """,
    """
    insert into profiles (session_id, results_version)
    select id, 'v1.2.1' from assessment_sessions s
    where completed_at > $1 and random() < 0.4 and not exists (select 1 from profiles where session_id = s.id)
    """,
    # The session id decides whether the scores are lost, the same at every step.
    """
    insert into fc_scores (session_id, version, fc_kind, blocks_answered)
    select id, 'v1.2', 'functions', 30 from assessment_sessions s
    where completed_at > $1 and random() < 0.4 and get_byte(uuid_send(id), 0) >= 256 * $2::float8
      and not exists (select 1 from fc_scores where session_id = s.id)
    """,
)


async def keep_writing(dsn: str, loss: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Write sessions until cancelled; `loss` is the share (0 to 1) of sessions without scores.

    A user may drop a table or stop the server: writing goes on after the return.
    """
    while True:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await _write(dsn, loss, sleep)
        await sleep(STEP_SECONDS)


async def _write(dsn: str, loss: float, sleep: Callable[[float], Awaitable[None]]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        started = await connection.fetchval("select clock_timestamp()")
        start, complete, profile, score = _STEP
        while True:
            await connection.execute(start)
            await connection.execute(complete)
            await connection.execute(profile, started)
            await connection.execute(score, started, loss)
            await sleep(STEP_SECONDS)
    finally:
        connection.terminate()
