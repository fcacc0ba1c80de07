"""`serve --web.config.file` as a process: the example of the docs, a real Prometheus, and what the log says."""

import base64
import re
import shutil
import signal
import socket
import ssl
import subprocess
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml
from certificates import Authority, new_authority
from processes import ANY_PORT, Exporter, environment, run
from prometheus import running_prometheus
from test_listening import CONFIG
from tools import NEWER_SUITE, find_tool
from waiting import START_SECONDS, at_most, soon

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
[WEB, SCRAPE] = re.findall(
    r"```yaml\n(.*?)```", PAGE[PAGE.index("## TLS and authentication") : PAGE.index("## The page")], re.DOTALL
)
HASH = bcrypt.hashpw(b"right", b"$2b$04$" + b"." * 22).decode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = new_authority(tmp_path_factory.mktemp("authority"), "ours")
    authority.sign("server", "first", "subjectAltName=IP:127.0.0.1")
    authority.sign("second", "second", "subjectAltName=IP:127.0.0.1")
    authority.sign("client", "prometheus", "subjectAltName=DNS:prometheus.example")
    return authority


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    """A folder with the config, and what the example of the docs names."""
    for name in ("server.crt", "server.key"):
        shutil.copy(authority.folder / name, tmp_path)
    shutil.copy(authority.certificate, tmp_path / "clients.crt")
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "web.yml").write_text(re.sub(r"\$2y\$\S+", HASH, WEB))
    return tmp_path


def words(folder: Path, *more: str) -> tuple[str, ...]:
    return ("serve", "--config.file", str(folder / "config.yaml"), *(more or ANY_PORT))


def protected(folder: Path, *more: str) -> Exporter:
    arguments = (*words(folder, *more), "--web.config.file", str(folder / "web.yml"))
    return Exporter(*arguments, environ=environment())


def client(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.load_cert_chain(authority.folder / "client.crt", authority.folder / "client.key")
    return context


def ask(it: Exporter, authority: Authority, word: str = "right") -> tuple[int, str]:
    """The status, and the common name of the server."""
    connection = HTTPSConnection("127.0.0.1", it.port, timeout=at_most(10), context=client(authority))
    login = base64.b64encode(f"prometheus:{word}".encode()).decode()
    try:
        connection.connect()
        certificate: Any = connection.sock.getpeercert()
        connection.request("GET", "/metrics", headers={"Authorization": f"Basic {login}"})
        response = connection.getresponse()
        response.read()
    finally:
        connection.close()
    return response.status, dict(pair for [pair] in certificate["subject"])["commonName"]


def test_the_example_of_the_docs_protects_and_a_renewed_certificate_needs_no_restart(
    folder: Path, authority: Authority
) -> None:
    with protected(folder) as it:
        assert it.url.startswith("https://127.0.0.1:")
        assert ask(it, authority) == (200, "first")
        assert ask(it, authority, "wrong") == (401, "first")

        for end in ("crt", "key"):
            shutil.copy(authority.folder / f"second.{end}", folder / f"server.{end}")

        assert soon(lambda: ask(it, authority) == (200, "second"))
        assert it.events("web_config.reloaded", "tls=True", "authentication=True")
        assert HASH not in it.log
        assert "right" not in it.log


def test_a_signal_ends_it_while_a_client_keeps_its_connection(folder: Path, authority: Authority) -> None:
    with protected(folder) as it:
        plain = socket.create_connection(("127.0.0.1", it.port))
        half = socket.create_connection(("127.0.0.1", it.port))
        with half, client(authority).wrap_socket(plain, server_hostname="127.0.0.1") as idle:
            idle.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert idle.recv(1000).startswith(b"HTTP/1.1 401")

            assert it.end(signal.SIGTERM, 3) == 0
        assert "Traceback" not in it.log
        assert not it.events("level=ERROR", "msg=asyncio")


@pytest.mark.prometheus
@pytest.mark.parametrize("suite", [None, NEWER_SUITE], ids=["own", NEWER_SUITE])
def test_promtool_accepts_the_example_of_the_docs(folder: Path, suite: str | None) -> None:
    """Debian's own promtool is older than two keys of the format."""
    file = folder / "web.yml"
    if suite is None:
        kept, _, _ = re.sub(r" +client_allowed_sans: .*\n", "", file.read_text()).partition("rate_limit:")
        file.write_text(kept)

    done = subprocess.run(
        [str(find_tool("promtool", suite)), "check", "web-config", str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=at_most(START_SECONDS),
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.prometheus
def test_prometheus_scrapes_as_the_docs_say(folder: Path, authority: Authority) -> None:
    with protected(folder) as it:
        text = SCRAPE.replace("127.0.0.1:10157", f"127.0.0.1:{it.port}")
        text = text.replace("/etc/prometheus/exporters-ca.crt", str(authority.certificate))
        text = text.replace("/etc/prometheus/client.", f"{authority.folder}/client.")
        text = text.replace("/etc/prometheus/session-health.password", str(folder / "password"))
        (folder / "password").write_text("right")

        with running_prometheus(yaml.safe_load(text)["scrape_configs"]) as prometheus:
            assert soon(lambda: prometheus("up") == {(): 1}, START_SECONDS)
            assert soon(lambda: prometheus("session_health_up"), START_SECONDS)


def test_every_mistake_is_said_at_the_start_and_the_exit_code_is_2(folder: Path) -> None:
    (folder / "web.yml").write_text("tls_server_config: {cert_file: no.crt}\nbasic_auth_users: {alice: hunter2}\n")

    done = run(*words(folder), "--web.config.file", str(folder / "web.yml"))

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"{folder / 'web.yml'}: 3 problems",
        "  line 1: tls_server_config.key_file: is required: add it",
        "  line 1: tls_server_config.cert_file: cannot be read (No such file or directory): correct the path",
        (
            "  line 2: basic_auth_users.alice: is not a bcrypt hash: write the output of htpasswd "
            "-nBC 10 \"\" | tr -d ':\\n'"
        ),
    ]


# --- The warning about other machines

LOGIN = f"basic_auth_users: {{alice: {HASH}}}\n"
TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"


@pytest.mark.parametrize(
    ("address", "text", "missing"),
    [
        (":0", None, "listens on every interface without TLS and authentication: write tls_server_config and basic_"),
        ("0.0.0.0:0", LOGIN, "listens on every interface without TLS: write tls_server_config into the file of --web"),
        (":0", TLS, "listens on every interface without authentication: write basic_auth_users into the file of --web"),
        (":0", TLS + LOGIN, None),
        ("127.0.0.1:0", None, None),
        ("localhost:0", None, None),
    ],
)
def test_the_log_warns_of_other_machines_once(
    folder: Path, address: str, text: str | None, missing: str | None
) -> None:
    (folder / "web.yml").write_text(text or "")
    more = ("--web.listen-address", address)
    with Exporter(*words(folder, *more), environ=environment()) if text is None else protected(folder, *more) as it:
        assert it.url.startswith("https" if text and TLS in text else "http:")
        assert soon(lambda: it.events("collection.failing"))

        warnings = it.events("level=WARN", "msg=web.public")

    assert len(warnings) == (missing is not None)
    assert missing is None or missing in warnings[0]
