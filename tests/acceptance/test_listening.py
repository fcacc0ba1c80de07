"""Where `serve` listens: which addresses answer, as a client on the same machine finds out."""

import contextlib
import http.client
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from processes import Exporter, environment, run
from tools import NO_IPV6
from waiting import at_most

from exporter.serve import listen as room
from exporter.serve.listen import Address, ListenError, listen, port_of

CONFIG = """
database: {url: postgresql://nobody@127.0.0.1:1/nothing}
pipelines:
  care:
    window: {last: 90d}
    sessions: {table: visits, key: id, status: status, started_at: a, completed_at: b, eligible: "true"}
    records: {notes: {table: notes, session_key: visit_id}}
"""

IPV4, IPV6 = "127.0.0.1", "::1"


def has_ipv6() -> bool:
    try:
        with socket.create_server((IPV6, 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


over_ipv6 = pytest.mark.skipif(not has_ipv6(), reason=NO_IPV6)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    return path


def serve(config: Path, *addresses: str) -> Exporter:
    words = [word for address in addresses for word in ("--web.listen-address", address)]
    return Exporter("serve", "--config.file", str(config), *words, environ=environment())


def urls(it: Exporter) -> list[str]:
    assert it.url
    [line] = it.events("server.listening")
    return re.sub(r'.* urls="?([^" ]+).*', r"\1", line).split(",")


def answers(host: str, port: int) -> bool:
    """Whether the exporter is there."""
    connection = http.client.HTTPConnection(host, port, timeout=at_most(5))
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().read() == b"session-health-exporter is healthy.\n"
    except OSError:
        return False
    finally:
        connection.close()


def free_port() -> int:
    with socket.create_server((IPV4, 0)) as server:
        return int(server.getsockname()[1])


@over_ipv6
@pytest.mark.parametrize(
    ("address", "families", "url"),
    [
        (":PORT", {IPV4, IPV6}, "http://[::]:PORT"),
        ("[::]:PORT", {IPV4, IPV6}, "http://[::]:PORT"),
        ("[0:0:0:0:0:0:0:0]:PORT", {IPV4, IPV6}, "http://[::]:PORT"),
        ("0.0.0.0:PORT", {IPV4}, "http://0.0.0.0:PORT"),
        ("127.0.0.1:PORT", {IPV4}, "http://127.0.0.1:PORT"),
        ("[::1]:PORT", {IPV6}, "http://[::1]:PORT"),
    ],
)
@pytest.mark.parametrize("kind", ["a port", "any port"])
def test_an_address_is_listened_on_by_its_families_on_the_port_that_is_announced(
    config: Path, address: str, families: set[str], url: str, kind: str
) -> None:
    port = free_port() if kind == "a port" else 0
    with serve(config, address.replace("PORT", str(port))) as it:
        announced = urls(it)

        assert port in (0, it.port)
        assert announced == [url.replace("PORT", str(it.port))]
        assert {host for host in (IPV4, IPV6) if answers(host, it.port)} == families


@pytest.mark.parametrize(("command", "hosts"), [("serve", {"[::]", "0.0.0.0"}), ("demo", {IPV4, f"[{IPV6}]"})])
def test_a_demo_is_for_this_machine_and_serve_for_every_other(config: Path, command: str, hosts: set[str]) -> None:
    words = ("--config.file", str(config)) if command == "serve" else ()
    with socket.create_server((IPV4, 0)) as taken:
        default = str(taken.getsockname()[1])
    code = (
        "import sys; from exporter.serve import listen as room; "
        f"room.DEFAULT_ADDRESS = ':{default}'; room.LOOPBACK_ADDRESS = 'localhost:{default}'; "
        "from exporter.cli import main; sys.exit(main())"
    )
    with Exporter(command, *words, command=(sys.executable, "-c", code), environ=environment()) as it:
        places = {urlsplit(url).netloc.removesuffix(f":{default}") for url in urls(it)}

        assert places
        assert places <= hosts
        assert answers(IPV4, int(default))


@over_ipv6
def test_two_addresses_are_listened_on(config: Path) -> None:
    with serve(config, "127.0.0.1:0", "[::1]:0") as it:
        first, second = (int(url.rpartition(":")[2]) for url in urls(it))

        assert answers(IPV4, first)
        assert answers(IPV6, second)


@pytest.mark.parametrize("address", [":PORT", "[::]:PORT", "0.0.0.0:PORT", "127.0.0.1:PORT"])
def test_a_port_that_somebody_has_exits_2_and_names_address_and_remedy(config: Path, address: str) -> None:
    if address.startswith("[") and not has_ipv6():
        pytest.skip(NO_IPV6)
    with socket.create_server(("0.0.0.0", 0)) as taken:
        address = address.replace("PORT", str(taken.getsockname()[1]))

        done = run("serve", "--config.file", str(config), "--web.listen-address", address)

    assert done.returncode == 2
    assert done.stderr == (
        f"session-health-exporter: cannot listen on {address} (Address already in use): choose another with "
        "--web.listen-address\n"
    )


def test_a_name_that_nobody_knows_exits_2_and_is_named(config: Path) -> None:
    done = run("serve", "--config.file", str(config), "--web.listen-address", "no-such-host.invalid:0")

    assert done.returncode == 2
    assert "cannot listen on no-such-host.invalid:0 (" in done.stderr
    assert "Traceback" not in done.stderr


# --- What this machine may not have


@contextlib.contextmanager
def closed(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield sockets
    finally:
        for one in sockets:
            one.close()


class NoIPv6:
    """`socket` on a machine without IPv6."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def __getattr__(self, name: str) -> object:
        return getattr(socket, name)

    def create_server(self, address: tuple[str, int], **options: object) -> socket.socket:
        if options.get("family") == socket.AF_INET6:
            raise OSError(self.code, "no") if self.code else ValueError("no dual stack")
        return socket.create_server(address)


@pytest.mark.parametrize("code", [97, 99, None], ids=["no family", "no address", "no dual stack"])
async def test_without_ipv6_every_interface_is_those_of_ipv4_and_an_address_of_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    monkeypatch.setattr(room, "socket", NoIPv6(code))

    with closed(await listen(Address(None, 0))) as sockets:
        assert [one.family for one in sockets] == [socket.AF_INET]
        assert port_of(sockets)
    for host in ("::", "::1"):
        if host == "::1" and code is None:
            continue
        with pytest.raises(ListenError, match=r"cannot listen on \[::1?\]:0 \(.*\): choose another with --web.listen"):
            await listen(Address(host, 0))


@over_ipv6
async def test_a_name_of_several_addresses_is_listened_on_with_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the port that is free on the first of them may be taken on the second: another one is looked for."""
    made: list[int] = []

    class Taken(NoIPv6):
        def create_server(self, address: tuple[str, int], **options: object) -> socket.socket:
            made.append(address[1])
            if len(made) == 2:
                raise OSError(98, "taken")
            return socket.create_server(address, **options)  # type: ignore[arg-type]

    def both(host: str, port: int, **_: object) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
        assert host == "both.example"
        return [
            (socket.AF_INET6, 1, 6, "", (IPV6, port, 0, 0)),
            (socket.AF_INET, 1, 6, "", (IPV4, port)),
            (socket.AF_INET, 1, 6, "", (IPV4, port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, *_rest, **_named: both(host, port))
    monkeypatch.setattr(room, "socket", Taken(None))

    with closed(await listen(Address("both.example", 0))) as sockets:
        assert [one.family for one in sockets] == [socket.AF_INET6, socket.AF_INET]
        assert {one.getsockname()[1] for one in sockets} == {port_of(sockets)}
    assert [bool(port) for port in made] == [False, True, False, True]
