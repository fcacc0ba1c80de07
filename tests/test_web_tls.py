"""TLS of the web server on real sockets: who may connect, by which version, and with files replaced meanwhile."""

import asyncio
import logging
import os
import shutil
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, TCPConnector, web
from certificates import Authority, new_authority
from test_authentication import hashed, login
from test_web import SUCCESS, a_latest
from waiting import at_most, soon

from exporter.serve import secured as room
from exporter.serve.secured import Secured, secured_door
from exporter.serve.web import application
from exporter.serve.web_config import FileFaults, WebConfig, read_web_config

REFUSED = 0
"""In place of a status: no answer."""

SERVER = "cert_file: server.crt\n  key_file: server.key"
MUTUAL = f"{SERVER}\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt"
NAMES = "subjectAltName=DNS:prometheus.example,IP:10.0.0.1,IP:fd00::1,email:ops@example.org,URI:spiffe://x/prometheus"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = new_authority(tmp_path_factory.mktemp("ours"), "ours")
    authority.sign("server", "first", "subjectAltName=IP:127.0.0.1")
    authority.sign("second", "second", "subjectAltName=IP:127.0.0.1")
    authority.sign("client", "prometheus", NAMES)
    authority.sign("nameless", "prometheus.example")
    return authority


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = new_authority(tmp_path_factory.mktemp("others"), "others")
    authority.sign("client", "prometheus", NAMES)
    authority.sign("server", "third", "subjectAltName=IP:127.0.0.1")
    return authority


class Folder:
    """A folder with the web config and copies of our certificates."""

    def __init__(self, path: Path, ours: Authority) -> None:
        self.path = path
        for name in ("ca.crt", "server.crt", "server.key"):
            shutil.copy(ours.folder / name, path)
        self.file = path / "web.yml"

    def write(self, tls: str = SERVER, more: str = "") -> Path:
        self.file.write_text((f"tls_server_config:\n  {tls}\n" if tls else "") + more)
        return self.file

    def replace(self, name: str, source: Path) -> None:
        """As a renewal does: the whole file at once."""
        shutil.copy(source, self.path / "new")
        (self.path / "new").rename(self.path / name)


@pytest.fixture
def folder(tmp_path: Path, ours: Authority) -> Folder:
    return Folder(tmp_path, ours)


@pytest.fixture(autouse=True)
def no_record_of_a_fault(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A client that is refused is not an error of the server."""
    yield
    assert [record.name for record in caplog.records if record.name.startswith(("asyncio", "aiohttp"))] == []


class Server:
    """A running server, and the web config that the tests let it read again."""

    def __init__(self, port: int, secured: Secured) -> None:
        self.port = port
        self.secured = secured

    def check(self) -> None:
        """As the thread does: the second look finds what the first found."""
        self.secured.check()
        self.secured.check()

    async def status(self, context: ssl.SSLContext | None, headers: dict[str, str] | None = None) -> int:
        """The status of an answer over a new connection."""
        scheme = "http" if context is None else "https"
        try:
            async with (
                ClientSession(connector=TCPConnector(ssl=context or True)) as session,
                session.get(f"{scheme}://127.0.0.1:{self.port}/-/healthy", headers=headers) as response,
            ):
                return response.status
        except (ClientError, OSError):
            return REFUSED

    async def subject(self, context: ssl.SSLContext) -> str:
        """The common name of the server's certificate."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        certificate: Any = writer.get_extra_info("peercert")
        writer.transport.abort()
        return str(dict(pair for [pair] in certificate["subject"])["commonName"])


@asynccontextmanager
async def serving(file: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    made: list[Secured] = []

    class Kept(Secured):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            made.append(self)

    monkeypatch.setattr(room, "Secured", Kept)
    door = secured_door(file)
    runner = web.AppRunner(application(a_latest(SUCCESS), middlewares=door.middlewares), shutdown_timeout=1)
    await runner.setup()
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener, ssl_context=door.tls).start()
        yield Server(listener.getsockname()[1], made[0])
    finally:
        await runner.cleanup()


def client(trusted: Authority, shown: Path | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client that trusts an authority, and may show a certificate."""
    context = ssl.create_default_context(cafile=str(trusted.certificate))
    if shown is not None:
        context.load_cert_chain(shown, shown.with_suffix(".key"))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
async def test_who_trusts_the_authority_gets_an_answer(
    folder: Folder, ours: Authority, others: Authority, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(folder.write(), monkeypatch) as server:
        assert await server.status(client(ours, version=version)) == 200
        assert await server.status(client(others, version=version)) == REFUSED
        assert await server.status(None) == REFUSED


async def test_a_path_begins_at_the_folder_of_the_file(
    folder: Folder, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.path.parent)
    folder.write(f"cert_file: {folder.path / 'server.crt'}\n  key_file: server.key")

    async with serving(Path(folder.path.name) / "web.yml", monkeypatch) as server:
        assert await server.status(client(ours)) == 200


async def test_only_a_version_that_is_allowed_is_spoken(
    folder: Folder, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(folder.write(f"{SERVER}\n  min_version: TLS13"), monkeypatch) as server:
        assert [await server.status(client(ours, version=version)) for version in VERSIONS] == [REFUSED, 200]
        folder.write(f"{SERVER}\n  max_version: TLS12")
        server.check()
        assert [await server.status(client(ours, version=version)) for version in VERSIONS] == [200, REFUSED]


async def test_only_a_suite_and_a_curve_that_are_allowed_are_used(
    folder: Folder, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]"
    async with serving(folder.write(f"{SERVER}\n  {suite}\n  curve_preferences: [CurveP384]"), monkeypatch) as server:
        answers = {}
        for name in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"):
            context = client(ours, version=ssl.TLSVersion.TLSv1_2)
            context.set_ciphers(name)
            answers[name] = await server.status(context)
        for curve in ("prime256v1", "secp384r1"):
            context = client(ours)
            context.set_ecdh_curve(curve)
            answers[curve] = await server.status(context)

    assert list(answers.values()) == [REFUSED, 200, REFUSED, 200]


# --- Clients with certificates


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_certificate_is_required_of_our_authority(
    folder: Folder, ours: Authority, others: Authority, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(folder.write(MUTUAL), monkeypatch) as server:
        assert await server.status(client(ours, ours.folder / "client.crt", version)) == 200
        assert await server.status(client(ours, None, version)) == REFUSED
        assert await server.status(client(ours, others.folder / "client.crt", version)) == REFUSED


async def test_a_certificate_is_verified_if_one_is_given(
    folder: Folder, ours: Authority, others: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.write(MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
    async with serving(file, monkeypatch) as server:
        assert await server.status(client(ours, ours.folder / "client.crt")) == 200
        assert await server.status(client(ours)) == 200
        assert await server.status(client(ours, others.folder / "client.crt")) == REFUSED


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("allowed", "shown", "status"),
    [
        ("prometheus.example", "client", 200),
        ("10.0.0.1", "client", 200),
        ("fd00:0:0:0:0:0:0:1", "client", 200),
        ("ops@example.org", "client", 200),
        ("spiffe://x/prometheus", "client", 200),
        ("elsewhere, prometheus.example", "client", 200),
        ("example", "client", REFUSED),
        ("PROMETHEUS.example", "client", REFUSED),
        ("prometheus.example", "nameless", REFUSED),
    ],
)
async def test_a_client_needs_one_of_the_allowed_names(
    folder: Folder,
    ours: Authority,
    monkeypatch: pytest.MonkeyPatch,
    *,
    version: ssl.TLSVersion,
    allowed: str,
    shown: str,
    status: int,
) -> None:
    file = folder.write(f"{MUTUAL}\n  client_allowed_sans: [{allowed}]")
    async with serving(file, monkeypatch) as server:
        assert await server.status(client(ours, ours.folder / f"{shown}.crt", version)) == status


async def test_a_connection_that_says_nothing_of_tls_is_closed(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(folder.write(), monkeypatch) as server, asyncio.timeout(at_most(5)):
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 600, b"\0" * 10):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sent)
            with suppress(ConnectionError):
                await reader.read()
            writer.transport.abort()


# --- Other files without a restart


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_renewed_certificate_is_shown_to_the_next_connection(
    folder: Folder, ours: Authority, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(folder.write(), monkeypatch) as server:
        context = client(ours, version=version)
        assert await server.subject(context) == "first"

        folder.replace("server.crt", ours.folder / "second.crt")
        server.check()
        assert await server.subject(context) == "first", "the key does not belong to it yet"

        folder.replace("server.key", ours.folder / "second.key")
        server.check()
        assert await server.subject(context) == "second"
        assert await server.status(context) == 200


@pytest.mark.parametrize("version", VERSIONS)
async def test_another_rule_for_clients_holds_for_the_next_connection_and_is_not_resumed_away(
    folder: Folder, ours: Authority, others: Authority, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that holds a session of the earlier rule is asked for its certificate as well."""
    async with serving(folder.write(), monkeypatch) as server:
        plain = client(ours, version=version)
        session = await asyncio.to_thread(session_of, plain, server.port)

        folder.write(MUTUAL)
        server.check()

        assert await server.status(plain) == REFUSED
        assert await asyncio.to_thread(resumed, plain, server.port, session) == b""
        assert await server.status(client(ours, ours.folder / "client.crt", version)) == 200

        folder.replace("ca.crt", others.certificate)
        server.check()

        assert await server.status(client(ours, ours.folder / "client.crt", version)) == REFUSED
        assert await server.status(client(ours, others.folder / "client.crt", version)) == 200

        folder.write(f"{MUTUAL}\n  client_allowed_sans: [elsewhere]")
        server.check()

        assert await server.status(client(ours, others.folder / "client.crt", version)) == REFUSED


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_may_resume_its_session_under_the_same_rule(
    folder: Folder, ours: Authority, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.write(f"{MUTUAL}\n  client_allowed_sans: [prometheus.example]")
    async with serving(file, monkeypatch) as server:
        context = client(ours, ours.folder / "client.crt", version)
        session = await asyncio.to_thread(session_of, context, server.port)

        assert b"200 OK" in await asyncio.to_thread(resumed, context, server.port, session)


def session_of(context: ssl.SSLContext, port: int) -> ssl.SSLSession | None:
    plain = socket.create_connection(("127.0.0.1", port))
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in connection.recv(1000)
        return connection.session


def resumed(context: ssl.SSLContext, port: int, session: ssl.SSLSession | None) -> bytes:
    """The answer to a client that resumes a session; empty if the client is refused."""
    assert session is not None
    plain = socket.create_connection(("127.0.0.1", port))
    try:
        with context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection:
            connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(1000)
    except OSError:
        plain.close()
        return b""


async def test_a_broken_file_changes_nothing_and_is_logged_once(
    folder: Folder, ours: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    users = f"basic_auth_users: {{alice: {hashed('right')}}}\n"
    async with serving(folder.write(SERVER, users), monkeypatch) as server:
        folder.write(f"{SERVER}\n  min_versoin: TLS13", "basic_auth_users: {alice: hunter2}\n")
        for _ in range(4):
            server.check()

        [record] = [record for record in caplog.records if record.message == "web_config.reload_failed"]
        assert "did you mean min_version?" in vars(record)["error"]
        assert "is not a bcrypt hash" in vars(record)["error"]
        assert "hunter2" not in vars(record)["error"]
        assert await server.status(client(ours)) == 401
        assert await server.status(client(ours), login("alice", "right")) == 200

        for broken in ("", "tls_server_config:"):
            folder.file.write_text(broken)
            server.check()
            assert await server.status(client(ours)) == 401, "a file that is cut short opens nothing"

        folder.file.unlink()
        server.check()
        assert await server.status(client(ours)) == 401
        assert caplog.messages.count("web_config.reload_failed") == 4

        caplog.set_level(logging.INFO)
        folder.write(SERVER, f"basic_auth_users: {{alice: {hashed('new')}}}\n")
        server.check()
        assert caplog.messages[-1] == "web_config.reloaded"
        assert await server.status(client(ours), login("alice", "right")) == 401
        assert await server.status(client(ours), login("alice", "new")) == 200


async def test_a_file_that_comes_later_is_noticed(
    folder: Folder, ours: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(folder.write(), monkeypatch) as server:
        folder.write(SERVER.replace("server.", "second."))
        server.check()
        assert "web_config.reload_failed" in caplog.messages
        shutil.copy(ours.folder / "second.crt", folder.path)
        shutil.copy(ours.folder / "second.key", folder.path)
        server.check()

        assert await server.subject(client(ours)) == "second"


@pytest.mark.parametrize("begins", [True, False])
async def test_tls_begins_and_ends_only_with_the_process(
    folder: Folder, ours: Authority, begins: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    texts = (SERVER, "")[:: -1 if begins else 1]
    limit = "rate_limit: {interval: 0}\n"
    async with serving(folder.write(texts[0], limit), monkeypatch) as server:
        folder.write(texts[1], limit)
        server.check()

        assert "restart the exporter" in vars(caplog.records[-1])["error"]
        assert await server.status(None if begins else client(ours)) == 200


# --- When files are read


def test_a_file_is_read_when_it_no_longer_changes(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    secured = Secured(folder.write("", "rate_limit: {interval: 1s}\n"))
    reads: list[Path] = []

    def counted(path: Path, faults: FileFaults) -> WebConfig:
        reads.append(path)
        return read_web_config(path, faults)

    monkeypatch.setattr(room, "read_web_config", counted)
    for n in range(2, 5):
        folder.write("", f"rate_limit: {{interval: {n}s}}\n")
        os.utime(folder.file, (n, n))
        secured.check()
    assert reads == []

    for _ in range(5):
        secured.check()

    assert len(reads) == 1
    assert secured.current.config.rate_limit is not None
    assert secured.current.config.rate_limit.interval.total_seconds() == 4


def test_a_change_of_permissions_is_a_change(folder: Folder) -> None:
    secured = Secured(folder.write())
    before = secured.current
    (folder.path / "server.key").chmod(0o600)
    secured.check()
    secured.check()

    assert secured.current is not before


def test_a_pipe_in_place_of_the_file_holds_up_no_check(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    secured = Secured(folder.write())
    folder.file.unlink()
    os.mkfifo(folder.file)
    secured.check()
    secured.check()

    assert "is not a regular file" in vars(caplog.records[-1])["error"]


def test_a_fault_of_the_exporter_ends_no_watch(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secured = Secured(folder.write())
    with monkeypatch.context() as broken:
        broken.setattr(room, "read_web_config", lambda *_: 1 / 0)
        folder.write(MUTUAL)
        secured.check()
        secured.check()
    assert caplog.messages == ["web_config.reload_failed"]

    folder.write(SERVER)
    secured.check()
    secured.check()
    assert secured.current.context is not None


def test_a_thread_watches_while_the_server_runs(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHECK_SECONDS", 0.01)
    secured = Secured(folder.write())
    first = secured.current
    with secured.watched():
        folder.write(MUTUAL)
        assert soon(lambda: secured.current is not first)
    assert soon(lambda: not any(thread.name == "web config" for thread in threading.enumerate()))


def test_a_file_system_that_never_answers_holds_up_no_end(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHECK_SECONDS", 0.01)
    secured = Secured(folder.write())
    asked, answered = threading.Event(), threading.Event()

    def dead(_path: Path) -> tuple[int, ...]:
        asked.set()
        answered.wait(at_most(20))
        return ()

    with monkeypatch.context() as broken, secured.watched():
        broken.setattr(room, "_stamp", dead)
        assert asked.wait(at_most(5))
    assert not answered.is_set()
    answered.set()
    assert soon(lambda: not any(thread.name == "web config" for thread in threading.enumerate()))


async def test_open_connections_go_on(folder: Folder, ours: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        serving(folder.write(), monkeypatch) as server,
        ClientSession(connector=TCPConnector(ssl=client(ours), limit=1)) as session,
    ):
        url = f"https://127.0.0.1:{server.port}/-/healthy"
        async with session.get(url) as response:
            assert response.status == 200
        folder.write(MUTUAL)
        server.check()
        async with session.get(url) as response:
            assert response.status == 200
