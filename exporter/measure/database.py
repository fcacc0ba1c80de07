"""The edge to PostgreSQL: opens connections, and turns the driver's refusals into faults."""

import asyncio
import getpass
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import asyncpg

from exporter.connection.dial import Caller, NobodyError, dial
from exporter.connection.parameters import UrlError
from exporter.connection.target import Target, password_in, target
from exporter.connection.tls import TlsFileError
from exporter.measure.connect_faults import connect_fault
from exporter.measure.query_faults import LOST
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import Database


@asynccontextmanager
async def connect(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection of its own for one collection; raises CollectionError.

    None is held between collections: a rotated password, a failover or a pooler needs no special case.
    """
    timeout = database.connect_timeout.total_seconds()
    try:
        async with asyncio.timeout(timeout):
            url = await url_of(database)
        asked = target(url, os.environ)
        timeout = seconds_for_each(database, asked)
        async with asyncio.timeout(timeout):
            caller = await _caller(database, asked)
        connection = await dial(asked, caller, timeout)
    except (
        OSError,
        NobodyError,
        TlsFileError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        UrlError,
    ) as error:
        raise CollectionError(connect_fault(error, timeout)) from None
    try:
        yield connection
    finally:
        await _close(connection)


async def url_of(database: Database) -> str | None:
    """The url, None where the variables of PostgreSQL decide; raises CollectionError where its file cannot be read."""
    return await _secret(database.url_file, "url_file") if database.url_file else database.url


def seconds_for_each(database: Database, asked: Target) -> float:
    """How long each host may take: by the key of the config, else by the url, else by the variable."""
    if asked.timeout is not None and "connect_timeout" not in database.model_fields_set:
        return asked.timeout
    return database.connect_timeout.total_seconds()


async def _caller(database: Database, asked: Target) -> Caller:
    """As whom we connect; raises CollectionError."""
    try:
        user = asked.user or getpass.getuser()
    except (KeyError, OSError):
        raise CollectionError(
            Fault("connect", "the url names no user, and neither does the system: write one, or set PGUSER")
        ) from None
    name = asked.database or user
    secret = await _secret(database.password_file, "password_file") if database.password_file else asked.password
    if secret is not None or asked.password_file is None:
        return Caller(user, name, lambda _: secret)
    listed = await _secret(asked.password_file, "passfile")
    return Caller(user, name, lambda place: password_in(listed, place, name, user))


def is_exposed(connection: asyncpg.Connection) -> bool:
    """Whether others may read along: a connection over a network, without TLS.

    What the server says of itself (pg_stat_ssl) would be about its connection with a pooler.
    """
    # The driver has no public way to ask.
    transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001
    if transport.get_extra_info("ssl_object") is not None:
        return False
    peer = transport.get_extra_info("peername")
    # A unix socket's peer is a path, or nothing.
    return isinstance(peer, tuple) and not ip_address(peer[0].partition("%")[0]).is_loopback


async def _close(connection: asyncpg.Connection) -> None:
    """Leave nothing running on the server, even when we are being cancelled ourselves."""
    try:
        # The driver asks the server to cancel what still runs before it says goodbye.
        await asyncio.shield(asyncio.wait_for(connection.close(), timeout=1))
    except (asyncpg.PostgresError, *LOST):
        connection.terminate()


async def _secret(path: str, key: str) -> str:
    """The text of a file; raises CollectionError.

    It is read in a thread, for a dead network file system may take for ever, and other pipelines must not wait.
    """
    try:
        return (await asyncio.to_thread(_read, path)).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8"
        raise CollectionError(
            Fault(
                "connect",
                f"the file of {key} cannot be read ({why}): check its path and permissions",
            )
        ) from None


def _read(path: str) -> str:
    # A named pipe would keep the thread until somebody writes to it, at each connect another one.
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError("not a regular file")
    return Path(path).read_text(encoding="utf-8")
