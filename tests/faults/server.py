"""Faults of the server: stopped, killed, restarted, frozen, full, promoted; and of a pooler in front."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

import asyncpg
from fault import Inject
from scene import Scene
from waiting import at_most

from exporter.embedded import EmbeddedPostgres, EmbeddedPostgresError


async def _started(server: EmbeddedPostgres) -> None:
    """Start the server again; after a SIGKILL its children may hold the shared memory for a moment."""
    deadline = time.monotonic() + at_most(15)
    while True:
        try:
            await asyncio.to_thread(server.start_server)
        except EmbeddedPostgresError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)
        else:
            return


def stopped(mode: Literal["fast", "immediate"]) -> Inject:
    """`pg_ctl stop`; mended by a start."""

    @asynccontextmanager
    async def inject(scene: Scene) -> AsyncIterator[None]:
        await asyncio.to_thread(scene.measured.stop_server, mode)
        yield
        await _started(scene.measured)

    return inject


@asynccontextmanager
async def killed(scene: Scene) -> AsyncIterator[None]:
    """SIGKILL to the postmaster alone; mended by a start."""
    process = scene.measured.process_id
    assert process is not None
    os.kill(process, signal.SIGKILL)
    yield
    await _started(scene.measured)


@asynccontextmanager
async def restarted(scene: Scene) -> AsyncIterator[None]:
    """Stopped and started at once."""
    await asyncio.to_thread(scene.measured.stop_server, "fast")
    await _started(scene.measured)
    yield


@asynccontextmanager
async def frozen(scene: Scene) -> AsyncIterator[None]:
    """SIGSTOP to the postmaster: the system accepts connections, and no process answers."""
    process = scene.measured.process_id
    assert process is not None
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


@asynccontextmanager
async def backends_frozen(scene: Scene) -> AsyncIterator[None]:
    """SIGSTOP to the backends of both exporters, while each waits for a lock in the middle of a collection."""
    held: list[int] = []
    try:
        async with locked(scene, "fc_scores"):
            for proxy in scene.proxies:
                deadline = time.monotonic() + at_most(5)
                while not (found := await _waiting(scene, proxy.ports)):
                    assert time.monotonic() < deadline, "no backend of the exporter was seen"
                os.kill(found[0], signal.SIGSTOP)
                held.append(found[0])
        yield
    finally:
        for process in held:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


async def _waiting(scene: Scene, ports: set[int]) -> list[int]:
    connection = await scene.connect()
    try:
        found = await connection.fetch(
            "select pid from pg_stat_activity where client_port = any($1) and wait_event_type = 'Lock'", [*ports]
        )
    finally:
        await connection.close(timeout=at_most(5))
    return [int(row["pid"]) for row in found]


@asynccontextmanager
async def locked(scene: Scene, *tables: str) -> AsyncIterator[None]:
    """A migration that holds the tables and does not end."""
    connection = await scene.connect()
    try:
        async with connection.transaction():
            for table in tables:
                await connection.execute(f"lock table public.{table} in access exclusive mode")
            yield
    finally:
        await connection.close(timeout=at_most(5))


def migrating(*tables: str) -> Inject:
    """Tables locked in ACCESS EXCLUSIVE mode until the fault is mended."""

    @asynccontextmanager
    async def inject(scene: Scene) -> AsyncIterator[None]:
        async with locked(scene, *tables):
            yield

    return inject


@asynccontextmanager
async def crowded(scene: Scene) -> AsyncIterator[None]:
    """Every connection of the server is taken, and taken again as soon as one is free."""
    await scene.execute("create role crowd login password 'crowd'", "grant connect on database {database} to crowd")
    taken: list[asyncpg.Connection] = []

    async def crowd() -> None:
        while True:
            try:
                dsn = scene.server.dsn("postgres", "crowd", "crowd")
                taken.append(await asyncpg.connect(dsn, timeout=at_most(5)))
            except asyncpg.PostgresError:
                await asyncio.sleep(0.02)

    crowding = asyncio.create_task(crowd())
    try:
        yield
    finally:
        crowding.cancel()
        await asyncio.gather(crowding, return_exceptions=True)
        for connection in taken:
            connection.terminate()


@asynccontextmanager
async def replay_paused(scene: Scene) -> AsyncIterator[None]:
    """The replica receives and does not replay."""
    await scene.execute("select pg_wal_replay_pause()", database="postgres", server=scene.measured)
    yield
    await scene.execute("select pg_wal_replay_resume()", database="postgres", server=scene.measured)


@asynccontextmanager
async def promoted(scene: Scene) -> AsyncIterator[None]:
    """The replica becomes a primary, for good."""
    await scene.execute("select pg_promote()", database="postgres", server=scene.measured)
    yield


@asynccontextmanager
async def pooler_killed(scene: Scene) -> AsyncIterator[None]:
    """SIGKILL to PgBouncer; mended by a start."""
    assert scene.pooler is not None
    scene.pooler.kill()
    yield
    await scene.pooler.start()


@asynccontextmanager
async def pooler_paused(scene: Scene) -> AsyncIterator[None]:
    """PgBouncer holds every client."""
    assert scene.pooler is not None
    scene.pooler.pause()
    yield
    scene.pooler.resume()
