"""The edge to PostgreSQL: opens connections, and turns errors of the driver into faults."""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import asyncpg

from exporter.connection.dial import Caller, NobodyError, dial
from exporter.connection.parameters import UrlError
from exporter.connection.target import Target, password_in, target
from exporter.connection.threads import in_thread
from exporter.connection.tls import TlsFileError
from exporter.measure.connect_faults import connect_fault
from exporter.measure.query_faults import LOST
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import Database
from exporter.text.files import MB, FileRefusedError, read_text


@asynccontextmanager
async def connect(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A new connection for one collection; raises CollectionError.

    No connection stays open between collections: a rotated password, a failover or a pooler needs no special case.
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
    _watch_server(connection)
    try:
        yield connection
    finally:
        await _close(connection)


async def url_of(database: Database) -> str | None:
    """The URL, or None for the PG* variables; raises CollectionError if `url_file` cannot be read."""
    return await _secret(database.url_file, "url_file") if database.url_file else database.url


def seconds_for_each(database: Database, asked: Target) -> float:
    """Seconds for each host: by the key of the config, else by the URL, else by PGCONNECT_TIMEOUT."""
    if asked.timeout is not None and "connect_timeout" not in database.model_fields_set:
        return asked.timeout
    return database.connect_timeout.total_seconds()


async def _caller(database: Database, asked: Target) -> Caller:
    """The login; raises CollectionError."""
    try:
        user = asked.user or getpass.getuser()
    except (KeyError, OSError):
        raise CollectionError(
            Fault("connect", "neither the url nor the system names a user: write the user into the url, or set PGUSER")
        ) from None
    name = asked.database or user
    secret = await _secret(database.password_file, "password_file") if database.password_file else asked.password
    if secret is not None or asked.password_file is None:
        return Caller(user, name, lambda _: secret)
    listed = await _secret(asked.password_file, "passfile")
    return Caller(user, name, lambda place: password_in(listed, place, name, user))


def is_exposed(connection: asyncpg.Connection) -> bool:
    """Whether the connection goes over a network without TLS.

    pg_stat_ssl would describe the connection between server and pooler.
    """
    # The driver has no public way.
    transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001
    if transport.get_extra_info("ssl_object") is not None:
        return False
    peer = transport.get_extra_info("peername")
    # The peer of a unix socket is a path or empty.
    return isinstance(peer, tuple) and not ip_address(peer[0].partition("%")[0]).is_loopback


_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 15_000}
"""Options of the socket: without an answer of the server's machine for 20 seconds, the connection ends.
https://man7.org/linux/man-pages/man7/tcp.7.html"""


def _watch_server(connection: asyncpg.Connection) -> None:
    """Notice a dead network or machine during a long statement, before the statement's time-out."""
    mine = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001
    if mine is None or mine.family == socket.AF_UNIX:
        return
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        # Other systems lack some of the options.
        if hasattr(socket, name):
            mine.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _close(connection: asyncpg.Connection) -> None:
    """Close, also during a cancellation, so that no statement keeps running on the server."""
    await asyncio.shield(_close_or_drop(connection))


async def _close_or_drop(connection: asyncpg.Connection) -> None:
    """Close within a second, or else drop the connection; raises nothing, because the caller may have gone."""
    try:
        # The driver cancels a running statement before the end.
        await asyncio.wait_for(connection.close(), timeout=1)
    except (asyncpg.PostgresError, *LOST):
        connection.terminate()


async def _secret(path: str, key: str) -> str:
    """The text of a file; raises CollectionError.

    Read in a thread: a dead network file system may block for ever, and other pipelines must go on.
    """
    try:
        return (await in_thread(("secret", path), _read, path)).rstrip("\r\n")
    except (OSError, FileRefusedError, UnicodeDecodeError) as error:
        why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
        raise CollectionError(
            Fault(
                "connect",
                f"the file of {key} cannot be read ({why}): check path and permissions of the file",
            )
        ) from None


def _read(path: str) -> str:
    return read_text(Path(path), MB)
