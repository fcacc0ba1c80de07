"""Connecting: each host has its time, nothing is read that nobody named, and what answers is named for what it is."""

import asyncio
import gc
import logging
import os
import resource
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from asyncpg.connect_utils import TLSUpgradeProto
from certificates import new_authority
from conftest import Database

from exporter.connection.dial import report_unhandled
from exporter.embedded import EmbeddedPostgres
from exporter.measure.database import connect
from exporter.model.fault import CollectionError, Fault
from exporter.model.sections import Database as Section

ROLES = iter(f"caller_{number}" for number in range(1000))


@asynccontextmanager
async def listener(answer: bytes | None, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """Somebody who answers what he is sent with this and hangs up; None: who never answers.  Yields the port."""
    held = asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        if answer is None:
            await held.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(hear, address, port)
    yield server.sockets[0].getsockname()[1]
    held.set()
    server.close()
    await server.wait_closed()


def section(url: str, **keys: Any) -> Section:
    return Section.model_validate({"url": url, **keys})


async def asked(database: Section, sql: str) -> Any:
    async with connect(database) as connection:
        return await connection.fetchval(sql)


async def refusal(database: Section) -> Fault:
    with pytest.raises(CollectionError) as caught:
        await asked(database, "select 1")
    assert caught.value.__cause__ is None
    return caught.value.fault


@pytest.fixture
def login(server: EmbeddedPostgres) -> str:
    """User and password of a url."""
    return urlsplit(server.dsn()).netloc.rpartition("@")[0]


@pytest.fixture
async def limited(empty: Database) -> str:
    """The url of a role that may have one connection at a time."""
    role, parts = next(ROLES), urlsplit(empty.dsn)
    await empty.execute(f"create role {role} login password 'x' connection limit 1")
    return parts._replace(netloc=f"{role}:x@{parts.hostname}:{parts.port}").geturl()


# --- Hosts in turn


async def test_a_first_host_that_never_answers_does_not_hide_the_second(server: EmbeddedPostgres, login: str) -> None:
    async with listener(None) as silent:
        url = f"postgresql://{login}@127.0.0.1:{silent},127.0.0.1:{server.port}/postgres"

        assert await asked(section(url, connect_timeout="300ms"), "select 1") == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_first_host_that_is_no_server_does_not_hide_the_second(
    server: EmbeddedPostgres, login: str, answer: bytes
) -> None:
    async with listener(answer) as stranger:
        url = f"postgresql://{login}@127.0.0.1:{stranger},127.0.0.1:{server.port}/postgres"

        assert await asked(section(url, connect_timeout="2s"), "select 1") == 1


async def test_a_first_address_of_a_name_does_not_hide_the_second(
    server: EmbeddedPostgres, login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = socket.getaddrinfo

    def resolve(host: str, port: int, *arguments: Any, **more: Any) -> list[Any]:
        names = ("127.0.0.2", "127.0.0.1") if host == "two.invalid" else (host,)
        return [found for name in names for found in known(name, port, *arguments, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with listener(None, "127.0.0.2", server.port):
        url = f"postgresql://{login}@two.invalid:{server.port}/postgres"

        assert await asked(section(url, connect_timeout="300ms"), "select 1") == 1


async def test_when_every_host_fails_each_is_told_by_its_number(login: str) -> None:
    async with listener(None) as silent:
        url = f"postgresql://{login}@127.0.0.1:{silent},127.0.0.1:1,nobody.invalid/postgres"
        fault = await refusal(section(url, connect_timeout="300ms"))

    assert fault.reason == "connect"
    assert fault.message.startswith("every one of 3 hosts refused: host 1: no answer within 0.3 s")
    assert "host 2: connection refused" in fault.message
    assert "host 3: the name of the host is unknown" in fault.message
    assert "invalid" not in fault.message


async def test_a_server_that_refuses_the_role_ends_the_search(server: EmbeddedPostgres) -> None:
    place = f"127.0.0.1:{server.port}"
    fault = await refusal(section(f"postgresql://nobody_here:x@{place},{place}/postgres"))

    assert fault.reason == "authentication"


@pytest.mark.parametrize("wanted", ["any", "primary", "read-write", "prefer-standby"])
async def test_a_primary_is_what_these_ask_for(server: EmbeddedPostgres, wanted: str) -> None:
    url = f"{server.dsn()}?target_session_attrs={wanted}"

    assert await asked(section(url), "select 1") == 1


@pytest.mark.parametrize("wanted", ["standby", "read-only"])
async def test_a_primary_is_not_what_these_ask_for(server: EmbeddedPostgres, wanted: str) -> None:
    fault = await refusal(section(f"{server.dsn()}?target_session_attrs={wanted}"))

    assert "target_session_attrs" in fault.message


# --- Time


@pytest.mark.parametrize(
    ("parameter", "keys", "variable", "said"),
    [
        ("?connect_timeout=1", {}, "9", "within 1 s"),
        ("?connect_timeout=9", {"connect_timeout": "200ms"}, "9", "within 0.2 s"),
        ("", {}, "1", "within 1 s"),
    ],
)
async def test_the_config_decides_the_time_then_the_url_then_the_variable(
    monkeypatch: pytest.MonkeyPatch, parameter: str, keys: dict[str, str], variable: str, said: str
) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", variable)
    async with listener(None) as silent:
        fault = await refusal(section(f"postgresql://x@127.0.0.1:{silent}/x{parameter}", **keys))

    assert f"no answer {said}" in fault.message


# --- What is read, and what not


async def test_nothing_of_the_home_directory_is_read(
    server: EmbeddedPostgres, login: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".postgresql"
    folder.mkdir()
    for name in ("postgresql.crt", "postgresql.key", "root.crt", "root.crl"):
        (folder / name).write_text("no certificate")
    password = login.partition(":")[2]
    passwords = tmp_path / ".pgpass"
    passwords.write_text(f"*:*:*:*:{password}")
    passwords.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGPASSFILE", raising=False)

    assert await asked(section(server.dsn()), "select 1") == 1
    fault = await refusal(section(server.dsn().replace(f":{password}@", "@")))
    assert fault.reason == "authentication"
    assert "passfile" in fault.message


async def test_a_home_that_may_not_be_looked_into_is_none_of_our_business(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path, *_arguments: Any, **_more: Any) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)

    assert await asked(section(server.dsn()), "select 1") == 1


@pytest.mark.parametrize("by", ["parameter", "variable"])
async def test_a_file_of_passwords_is_read_where_it_is_named(
    server: EmbeddedPostgres, login: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    password = login.partition(":")[2]
    (tmp_path / "passwords").write_text(f"127.0.0.1:1:*:*:wrong\n127.0.0.1:{server.port}:postgres:postgres:{password}")
    url = server.dsn().replace(f":{password}@", "@")
    if by == "variable":
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "passwords"))
    else:
        url += f"?passfile={tmp_path / 'passwords'}"

    assert await asked(section(url), "select 1") == 1


async def test_a_file_of_passwords_that_cannot_be_read_is_said(server: EmbeddedPostgres, tmp_path: Path) -> None:
    url = server.dsn().replace(f":{server.password}@", "@")

    fault = await refusal(section(f"{url}?passfile={tmp_path / 'nothing'}"))

    assert "passfile cannot be read (No such file" in fault.message
    assert str(tmp_path) not in fault.message


async def test_the_encoding_is_ours(server: EmbeddedPostgres) -> None:
    for query in ("client_encoding=SQL_ASCII", "options=-cclient_encoding%3DLATIN1"):
        assert await asked(
            section(f"{server.dsn()}?{query}"), "select 'für' || current_setting('client_encoding')"
        ) == ("fürUTF8")


async def test_options_reach_the_server(server: EmbeddedPostgres) -> None:
    url = f"{server.dsn()}?options=-c%20work_mem%3D77kB"

    assert await asked(section(url), "show work_mem") == "77kB"


async def test_a_socket_of_this_machine_needs_no_tls(server: EmbeddedPostgres, login: str) -> None:
    folder = str(server.socket_directory).replace("/", "%2F")

    for url in (
        f"postgresql://{login}@{folder}:{server.port}/postgres?sslmode=require",
        f"postgresql://{login}@/postgres?host={server.socket_directory}&port={server.port}",
    ):
        assert await asked(section(url), "select inet_client_addr() is null") is True


async def test_a_url_in_a_file_is_refused_in_the_words_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://app:geheim@db/shop?sslmod=require&schema=x\n")

    fault = await refusal(Section(url_file=str(tmp_path / "url")))

    assert fault.reason == "connect"
    assert "the url has the unknown parameter sslmod; did you mean sslmode?; the url has the parameter schema" in (
        fault.message
    )
    assert "geheim" not in fault.message


# --- A place that is not free yet


async def test_a_connection_that_is_just_being_closed_is_waited_for(limited: str) -> None:
    first = connect(section(limited))
    await first.__aenter__()
    second = asyncio.create_task(asked(section(limited), "select 1"))
    await asyncio.sleep(0.2)
    assert not second.done()
    await first.__aexit__(None, None, None)

    assert await second == 1


async def test_a_place_that_stays_taken_is_given_up(limited: str) -> None:
    async with connect(section(limited)):
        fault = await refusal(section(limited))

    assert "the server has no free connection" in fault.message


async def test_a_server_that_is_asked_twice_needs_one_place(limited: str) -> None:
    assert await asked(section(f"{limited}?target_session_attrs=prefer-standby"), "select 1") == 1


# --- Who answers

CLOSED = "closed before the login"
STRANGER = "not PostgreSQL"
SPEAKS_NO_TLS = "the server has no TLS"


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\5garbage", b"Nope", b"E\0\0\0\5"]
)
async def test_what_is_not_postgresql_is_not_told_to_change_tls(mode: str, answer: bytes) -> None:
    async with listener(answer) as port:
        fault = await refusal(section(f"postgresql://x@127.0.0.1:{port}/x?sslmode={mode}", connect_timeout="2s"))

    assert fault.reason == "connect"
    assert CLOSED in fault.message or STRANGER in fault.message
    assert "sslmode" not in fault.message


async def test_a_replica_that_cancels_us_while_we_connect_is_busy_with_its_recovery() -> None:
    said = b"SFATAL\0VFATAL\0C40001\0Mcanceling statement due to conflict with recovery\0\0"
    async with listener(b"E" + (len(said) + 4).to_bytes(4) + said) as port:
        fault = await refusal(section(f"postgresql://x@127.0.0.1:{port}/x?sslmode=disable"))

    assert fault.reason == "recovery_conflict"


async def test_a_server_without_tls_is_told_so_where_tls_is_required(server: EmbeddedPostgres) -> None:
    fault = await refusal(section(f"{server.dsn()}?sslmode=require"))

    assert SPEAKS_NO_TLS in fault.message


async def test_too_many_open_files_are_named(server: EmbeddedPostgres) -> None:
    database = section(f"{server.dsn()}?sslmode=disable")
    assert await asked(database, "select 1") == 1
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        fault = await refusal(database)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert "too many open files" in fault.message
    assert "LimitNOFILE" in fault.message


async def given_up(loop: asyncio.AbstractEventLoop) -> None:
    """Connections that are given up, each a step of the event loop later than the one before."""
    async with listener(None) as port:
        for steps in range(40):
            calling = loop.create_task(asked(section(f"postgresql://x@127.0.0.1:{port}/x?sslmode=require"), "select 1"))
            for _ in range(steps):
                await asyncio.sleep(0.0005)
            calling.cancel()
            with suppress(asyncio.CancelledError):
                await calling
            del calling
            await asyncio.sleep(0)
    gc.collect()


async def test_a_connection_that_is_given_up_leaves_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    reported: list[str] = []

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        reported.append(context["message"])
        report_unhandled(loop, context)

    loop.set_exception_handler(report)
    with caplog.at_level(logging.ERROR, "asyncio"):
        await given_up(loop)

        # Whether a connection is given up at the very moment, the machine decides: the driver's part of it, always.
        lost = TLSUpgradeProto(loop, "db", 5432, ssl.create_default_context(), ssl_is_advisory=False)
        lost.connection_lost(None)
        del lost
        gc.collect()

    assert set(reported) == {"Future exception was never retrieved"}
    assert caplog.messages == []


async def test_every_other_error_that_no_caller_took_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(error: Exception) -> None:
        raise error

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(report_unhandled)
    with caplog.at_level(logging.ERROR, "asyncio"):
        for error in (ValueError(), ConnectionError()):
            loop.create_task(fail(error))  # noqa: RUF006 - nobody waits for it
            loop.create_future().set_exception(ValueError())
        await asyncio.sleep(0.01)
        gc.collect()

    assert sorted(message.split("\n")[0] for message in caplog.messages) == [
        *["Future exception was never retrieved"] * 2,
        *["Task exception was never retrieved"] * 2,
    ]


ENDLESS = 256 << 20
"""Bytes that a stranger sends, if nobody hangs up."""


@asynccontextmanager
async def flood(tls: ssl.SSLContext | None, path: Path | None = None) -> AsyncIterator[tuple[int, list[int]]]:
    """A stranger who announces and sends a message of 2 GB before the login.  Yields the port, and the bytes sent."""
    sent = [0]

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            if tls:
                assert await reader.readexactly(8)
                writer.write(b"S")
                await writer.start_tls(tls)
            assert await reader.read(4)
            writer.write(b"R" + struct.pack("!i", 2**31 - 1))
            while sent[0] < ENDLESS and not writer.is_closing():
                writer.write(bytes(1 << 20))
                sent[0] += 1 << 20
                await writer.drain()
                # A transport that is not full gives no turn to the others.
                await asyncio.sleep(0)

    if path is None:
        server = await asyncio.start_server(hear, "127.0.0.1", 0)
    else:
        server = await asyncio.start_unix_server(hear, path / ".s.PGSQL.5432")
    yield (5432 if path else server.sockets[0].getsockname()[1]), sent
    server.close()


@pytest.mark.parametrize("way", ["plain", "tls", "socket"])
async def test_whoever_sends_without_end_before_the_login_fills_no_memory(
    way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = None
    if way == "tls":
        certificate = new_authority(tmp_path, "stranger").sign("here", "stranger", "subjectAltName=IP:127.0.0.1")
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate, certificate.with_suffix(".key"))

    async with flood(tls, tmp_path if way == "socket" else None) as (port, sent):
        place = {"socket": f"?host={tmp_path}", "tls": "?sslmode=require"}.get(way, "?sslmode=disable")
        host = "" if way == "socket" else f"127.0.0.1:{port}"
        fault = await refusal(section(f"postgresql://me:hunter2@{host}/db{place}"))

    assert fault.reason == "connect"
    assert "more than 16 MB before the login" in fault.message
    # What was sent and not read is in the buffers of both sides.
    assert sent[0] < ENDLESS
    assert not caplog.records


async def test_after_the_login_the_driver_reads_by_itself(login: str, server: EmbeddedPostgres) -> None:
    url = f"postgresql://{login}@127.0.0.1:{server.port}/postgres"

    async with connect(section(url)) as connection:
        protocol = connection._transport.get_protocol()  # type: ignore[attr-defined]
        large = await connection.fetchval("select repeat('x', 20 * 1024 * 1024)")

    assert type(protocol).__name__ == "Protocol"
    assert len(large) == 20 << 20
