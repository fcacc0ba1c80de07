"""Real TLS to the database: what is asked for in the url is held, and a refusal says what to do."""

import asyncio
import os
import shutil
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from certificates import Authority, new_authority, openssl
from conftest import TOUR, Database, NewDatabase
from servers import FETCHED, chosen, lacking, name_of, settings
from test_collect import OURS, as_reader, refused, until
from test_matrix import GRANT, SLOW
from waiting import at_most

from exporter.config.read import ConfigError
from exporter.embedded import EmbeddedPostgres
from exporter.model.fault import Fault

pytest_plugins = ["majors"]

with_tls = pytest.mark.parametrize("major", chosen(FETCHED), indirect=True, ids=name_of, scope="session")
"""For the servers that are built with it."""

CONFIG = TOUR.read_text()


@pytest.fixture(scope="session")
def server(postgres: EmbeddedPostgres) -> EmbeddedPostgres:
    return postgres


@pytest.fixture(scope="session")
def templates(postgres_templates: dict[str, str]) -> dict[str, str]:
    return postgres_templates


@pytest.fixture
async def healthy(new_database: NewDatabase) -> Database:
    return await as_reader(await new_database("healthy"), GRANT)


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    """Ours, and another that nobody here trusts."""
    if not shutil.which("openssl"):
        lacking("openssl (install it)")
    made = {}
    for name in ("ours", "other"):
        authority = new_authority(tmp_path_factory.mktemp(name), name)
        authority.sign("here", "database", "subjectAltName=IP:127.0.0.1")
        authority.sign("elsewhere", "database", "subjectAltName=DNS:elsewhere.invalid")
        made[name] = authority
    return made


@pytest.fixture
def served(server: EmbeddedPostgres, authorities: dict[str, Authority]) -> dict[str, str]:
    """The settings that turn TLS on; the server's own certificate is for its address."""
    return serve_as(server, authorities["ours"], "here")


def serve_as(server: EmbeddedPostgres, authority: Authority, name: str) -> dict[str, str]:
    """Settings for a certificate, which is put where the server may read it."""
    owner = server.data_directory.stat()
    for end in ("crt", "key"):
        copy = server.data_directory / f"server.{end}"
        shutil.copyfile(authority.folder / f"{name}.{end}", copy)
        copy.chmod(0o600)
        os.chown(copy, owner.st_uid, owner.st_gid)
    return {"ssl": "on", "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}


def asking(database: Database, **parameters: object) -> Database:
    """The same database by a url with parameters."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return Database(f"{database.dsn}?{query}", database.connection)


def role_of(database: Database) -> str:
    return str(urlsplit(database.dsn).username)


@pytest.fixture
async def encrypted_only(
    healthy: Database, server: EmbeddedPostgres, served: dict[str, str]
) -> AsyncIterator[Database]:
    """The healthy sample for a role that the server lets in by TLS alone."""
    role = role_of(healthy)
    async with settings(server, f"hostssl all {role} all scram-sha-256\nhost all {role} all reject", **served):
        yield healthy


async def fault_of(database: Database) -> Fault:
    """The refusal of a collection; it names no file either."""
    fault = await refused(database, CONFIG)
    assert ".crt" not in fault.message
    return fault


@with_tls
async def test_a_certificate_of_our_authority_for_this_address_is_accepted(
    encrypted_only: Database, authorities: dict[str, Authority]
) -> None:
    numbers = await asking(encrypted_only, sslmode="verify-full", sslrootcert=authorities["ours"].certificate).measure()

    assert numbers.positive("eligible_sessions") == {("complete",): 157}


@with_tls
@pytest.mark.parametrize("mode", ["prefer", "require"])
async def test_without_verification_the_connection_is_encrypted_all_the_same(
    encrypted_only: Database, mode: str
) -> None:
    numbers = await asking(encrypted_only, sslmode=mode).measure()

    assert numbers.positive("eligible_sessions") == {("complete",): 157}


@with_tls
async def test_without_tls_the_server_refuses_a_role_that_it_admits_by_tls_alone(encrypted_only: Database) -> None:
    fault = await fault_of(asking(encrypted_only, sslmode="disable"))

    assert fault.reason == "authentication"
    assert "pg_hba.conf" in fault.message


@with_tls
@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
async def test_a_certificate_of_another_authority_is_refused(
    encrypted_only: Database, authorities: dict[str, Authority], mode: str
) -> None:
    fault = await fault_of(asking(encrypted_only, sslmode=mode, sslrootcert=authorities["other"].certificate))

    assert fault.reason == "connect"
    assert "not trusted" in fault.message
    assert "sslrootcert" in fault.message


@with_tls
async def test_a_certificate_for_another_host_is_refused_by_verify_full_alone(
    healthy: Database, server: EmbeddedPostgres, authorities: dict[str, Authority]
) -> None:
    root = authorities["ours"].certificate
    async with settings(server, **serve_as(server, authorities["ours"], "elsewhere")):
        fault = await fault_of(asking(healthy, sslmode="verify-full", sslrootcert=root))
        numbers = await asking(healthy, sslmode="verify-ca", sslrootcert=root).measure()

    assert fault.reason == "connect"
    assert "host name" in fault.message
    assert "elsewhere" not in fault.message
    assert numbers.positive("eligible_sessions") == {("complete",): 157}


@with_tls
async def test_a_role_may_log_in_by_a_certificate_instead_of_a_password(
    healthy: Database, server: EmbeddedPostgres, served: dict[str, str], authorities: dict[str, Authority]
) -> None:
    role, ours = role_of(healthy), authorities["ours"]
    certificate = ours.sign("client", role)
    shutil.copyfile(ours.certificate, server.data_directory / "ca.crt")
    (server.data_directory / "ca.crt").chmod(0o644)
    parts = urlsplit(healthy.dsn)
    plain = Database(parts._replace(netloc=f"{role}@{parts.hostname}:{parts.port}").geturl(), healthy.connection)
    root = {"sslmode": "verify-full", "sslrootcert": ours.certificate}
    with_key = asking(plain, **root, sslcert=certificate, sslkey=certificate.with_suffix(".key"))
    async with settings(server, f"hostssl all {role} all cert", **served, ssl_ca_file="ca.crt"):
        numbers = await with_key.measure()
        fault = await fault_of(asking(plain, **root))

    assert numbers.positive("eligible_sessions") == {("complete",): 157}
    assert fault.reason == "authentication"


async def test_a_server_without_tls_is_refused_where_tls_is_required(
    healthy: Database, tmp_path: Path, authorities: dict[str, Authority]
) -> None:
    """Nor is the password sent to it in the clear."""
    root = shutil.copy(authorities["ours"].certificate, tmp_path / "root.crt")
    required = await fault_of(asking(healthy, sslmode="require"))
    verified = await fault_of(asking(healthy, sslmode="verify-full", sslrootcert=root))

    for fault in (required, verified):
        assert fault.reason == "connect"
        assert "the server has no TLS" in fault.message
        assert "sslmode" in fault.message


@with_tls
async def test_the_authorities_of_the_system_are_trusted_where_it_is_said(
    encrypted_only: Database, authorities: dict[str, Authority], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the host's name is held as well."""
    system = asking(encrypted_only, sslrootcert="system")
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities["ours"].certificate))
    numbers = await system.measure()
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities["other"].certificate))
    fault = await fault_of(system)

    assert numbers.positive("eligible_sessions") == {("complete",): 157}
    assert "not trusted" in fault.message


@with_tls
async def test_the_authorities_of_the_system_vouch_for_this_host_alone(
    healthy: Database, server: EmbeddedPostgres, authorities: dict[str, Authority], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities["ours"].certificate))
    async with settings(server, **serve_as(server, authorities["ours"], "elsewhere")):
        fault = await fault_of(asking(healthy, sslrootcert="system"))

    assert "host name" in fault.message


@with_tls
@pytest.mark.parametrize("name", ["elsewhere.invalid", "nowhere.invalid"])
async def test_a_name_of_several_addresses_is_what_the_certificate_must_hold(
    healthy: Database,
    server: EmbeddedPostgres,
    authorities: dict[str, Authority],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    known = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **more: Any) -> list[Any]:
        # Nobody listens at the first.
        hosts = ("127.0.0.3", "127.0.0.1") if host == name else (host,)
        return [found for address in hosts for found in known(address, *arguments, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    parts = urlsplit(healthy.dsn)
    there = parts._replace(netloc=f"{parts.username}:{parts.password}@{name}:{parts.port}").geturl()
    verified = asking(
        Database(there, healthy.connection), sslmode="verify-full", sslrootcert=authorities["ours"].certificate
    )
    async with settings(server, **serve_as(server, authorities["ours"], "elsewhere")):
        if name == "elsewhere.invalid":
            assert (await verified.measure()).positive("eligible_sessions") == {("complete",): 157}
        else:
            assert "host name" in (await fault_of(verified)).message


@with_tls
@pytest.mark.parametrize("password", ["s3sam", "wrong", None])
async def test_a_key_with_a_password_is_opened_by_it_alone(
    encrypted_only: Database, authorities: dict[str, Authority], tmp_path: Path, password: str | None
) -> None:
    certificate = authorities["ours"].sign("keyed", role_of(encrypted_only))
    key = tmp_path / "locked.key"
    openssl("pkey", "-in", certificate.with_suffix(".key"), "-aes256", "-passout", "pass:s3sam", "-out", key)
    given = {} if password is None else {"sslpassword": password}
    database = asking(encrypted_only, sslmode="require", sslcert=certificate, sslkey=key, **given)

    if password == "s3sam":
        assert (await database.measure()).positive("eligible_sessions") == {("complete",): 157}
    else:
        assert "sslcert or sslkey" in (await fault_of(database)).message


@with_tls
async def test_where_the_server_admits_no_tls_preference_gives_way(
    healthy: Database, server: EmbeddedPostgres, served: dict[str, str]
) -> None:
    role = role_of(healthy)
    without_tls = f"hostnossl all {role} all scram-sha-256\nhost all {role} all reject"
    async with settings(server, without_tls, **served):
        numbers = await asking(healthy, sslmode="prefer").measure()
        fault = await fault_of(asking(healthy, sslmode="require"))

    assert numbers.positive("eligible_sessions") == {("complete",): 157}
    assert fault.reason == "authentication"


@with_tls
async def test_tls_is_spoken_where_it_is_only_allowed_and_the_server_asks_for_it(encrypted_only: Database) -> None:
    numbers = await asking(encrypted_only, sslmode="allow").measure()

    assert numbers.positive("eligible_sessions") == {("complete",): 157}


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_root_certificate_that_cannot_be_read_is_named_by_its_key(
    healthy: Database, tmp_path: Path, content: str | None
) -> None:
    if content:
        (tmp_path / "root.crt").write_text(content)

    fault = await fault_of(asking(healthy, sslmode="verify-full", sslrootcert=tmp_path / "root.crt"))

    assert fault.reason == "connect"
    assert "sslrootcert" in fault.message


async def test_verification_without_a_root_certificate_is_refused(
    healthy: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    fault = await fault_of(asking(healthy, sslmode="verify-full"))

    assert fault.reason == "connect"
    assert "sslrootcert" in fault.message


def test_a_mode_that_does_not_exist_is_refused_before_anybody_connects(healthy: Database) -> None:
    with pytest.raises(ConfigError, match=r"sslmode .*known: disable"):
        asking(healthy, sslmode="always").plan()


@with_tls
async def test_a_cancelled_collection_ends_its_statement_over_tls_too(
    encrypted_only: Database, authorities: dict[str, Authority]
) -> None:
    verified = asking(encrypted_only, sslmode="verify-full", sslrootcert=authorities["ours"].certificate)
    task = asyncio.create_task(verified.measure(SLOW))
    await until(encrypted_only, f"exists (select {OURS} and wait_event = 'PgSleep')")
    cancelled = time.monotonic()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(encrypted_only, f"count(*) = 0 {OURS}")

    assert time.monotonic() - cancelled < at_most(2)
