"""Faults that SQL of a superuser brings: once, or again and again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
from fault import Inject
from scene import Scene
from waiting import at_most


def by_sql(bring: str, mend: str, *, inside: bool = True) -> Inject:
    """Statements that bring the fault and statements that mend it; `inside` the database with the tables."""

    @asynccontextmanager
    async def inject(scene: Scene) -> AsyncIterator[None]:
        database = None if inside else "postgres"
        await scene.execute(bring, database=database)
        try:
            yield
        finally:
            await scene.execute(*_apart(mend), database=database)

    return inject


def _apart(sql: str) -> Sequence[str]:
    """The parts of a mend between lines of `--`: each needs a transaction of its own."""
    return [part for part in sql.split("\n--\n") if part.strip()]


def over_and_over(*sql: str, pause: float = 0.0) -> Inject:
    """Statements in turn, each in a transaction of its own, with seconds between, until the fault is mended."""

    @asynccontextmanager
    async def inject(scene: Scene) -> AsyncIterator[None]:
        connection = await scene.connect()

        async def repeat() -> None:
            while True:
                for one in sql:
                    try:
                        await connection.execute(scene.filled(one))
                    except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError):
                        continue
                    await asyncio.sleep(pause)

        repeating = asyncio.create_task(repeat())
        try:
            yield
        finally:
            repeating.cancel()
            [end] = await asyncio.gather(repeating, return_exceptions=True)
            await connection.close(timeout=at_most(5))
        assert isinstance(end, asyncio.CancelledError), end

    return inject


def at_our_backends(function: str) -> Inject:
    """pg_terminate_backend or pg_cancel_backend for every backend of the role, a hundred times a second."""
    return over_and_over(
        f"select {function}(pid) from pg_stat_activity where usename = '{{role}}' and state <> 'idle'", pause=0.01
    )


@asynccontextmanager
async def renamed_database(scene: Scene) -> AsyncIterator[None]:
    """The database of the url has another name."""
    await _rename(scene, scene.database, f"{scene.database}_away")
    yield
    await _rename(scene, f"{scene.database}_away", scene.database)


async def _rename(scene: Scene, name: str, other: str) -> None:
    """Rename in spite of connections that come and go."""
    async with asyncio.timeout(at_most(5)):
        while True:
            try:
                await scene.execute(
                    f"select pg_terminate_backend(pid, 1000) from pg_stat_activity where datname = '{name}'",
                    f"alter database {name} rename to {other}",
                    database="postgres",
                )
            except asyncpg.ObjectInUseError:
                continue
            return
