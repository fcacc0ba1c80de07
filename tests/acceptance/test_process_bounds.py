"""`serve` under a flood: of clients, of signals, of lines for the log; and over a config that never answers."""

import asyncio
import fcntl
import os
import re
import resource
import signal
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from conftest import Database
from processes import ANY_PORT, COMMAND, Exporter, content, environment
from test_serve_process import SCRAPE_SECONDS, STOP_SECONDS, config, serve
from waiting import at_most, soon


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    return config(tmp_path)


def with_few_files(path: Path, dsn: str, files: int) -> Exporter:
    """`serve` in a process that may open only so many files."""
    limited = ("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *COMMAND)
    return Exporter(
        "serve", "--config.file", str(path), *ANY_PORT, command=limited, environ=environment(DATABASE_URL=dsn)
    )


@contextmanager
def clients(port: int, number: int, address: str = "127.0.0.1", first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that send `first` and then nothing."""
    with ExitStack() as stack:
        found = []
        for _ in range(number):
            one = stack.enter_context(
                socket.create_connection(("127.0.0.1", port), at_most(5), source_address=(address, 0))
            )
            if first:
                one.sendall(first)
            found.append(one)
        yield found


def make_silent(path: Path) -> None:
    """Put a file into the place that never answers a read."""
    path.unlink()
    os.mkfifo(path)


def threads_of(it: Exporter) -> int:
    return len(content(Path(f"/proc/{it.process.pid}/task")))


def closed(connections: list[socket.socket]) -> int:
    """How many of the connections the other side has closed."""
    number = 0
    for one in connections:
        one.setblocking(False)
        try:
            number += not one.recv(1)
        except BlockingIOError:
            continue
        except OSError:
            number += 1
    return number


async def test_idle_clients_of_one_address_leave_room_for_others(backfill: Database, config_path: Path) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        with clients(it.port, 200, "127.0.0.2") as idle:
            assert it.get("/metrics").seconds < at_most(SCRAPE_SECONDS)
            assert soon(lambda: closed(idle) >= 136)
            assert closed(idle) == 136


async def test_more_clients_than_files_stop_neither_scrapes_nor_collections(
    backfill: Database, config_path: Path
) -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    with with_few_files(config_path, backfill.dsn, 48) as it:
        before = (await it.measured())("collections_total", result="success") or 0
        with ExitStack() as stack:
            for address in range(2, 22):
                stack.enter_context(clients(it.port, 20, f"127.0.0.{address}", b"GET /metrics HT"))
            for _ in range(5):
                assert it.get("/metrics").seconds < at_most(SCRAPE_SECONDS)
            await it.when(lambda page: (page("collections_total", result="success") or 0) > before + 3)
        assert it.page()("collections_total", result="failure") == 0
        assert len(it.log) < 4000
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == files


async def test_a_process_without_files_says_so_once_and_recovers(backfill: Database, config_path: Path) -> None:
    with with_few_files(config_path, backfill.dsn, 16) as it:
        await it.measured()
        with clients(it.port, 8, "127.0.0.2"), clients(it.port, 8, "127.0.0.3"):
            await asyncio.sleep(1)
        await it.when(lambda page: page("up") == 1)
        assert len(it.events("server.no_connection")) <= 1


async def test_a_client_without_a_whole_request_is_closed(backfill: Database, config_path: Path) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        with (
            clients(it.port, 1) as silent,
            clients(it.port, 1, first=b"GET / HTTP/1.1\r\nHo") as half,
            clients(it.port, 1, first=b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n") as served,
        ):
            assert served[0].recv(1000).startswith(b"HTTP/1.1 200")
            # The head of a request has 10 seconds; the next request of a client has more.
            assert soon(lambda: closed(silent) and closed(half), 15)
            assert not closed(served)


@pytest.mark.parametrize("path", ["/metrics", "/", "/report.html"])
async def test_a_client_that_closes_its_own_side_gets_its_answer(
    backfill: Database, config_path: Path, path: str
) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        with socket.create_connection(("127.0.0.1", it.port), at_most(5)) as half:
            half.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            half.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := half.recv(1 << 16):
                answer += piece

        assert answer.startswith(b"HTTP/1.1 200")
        head, body = answer.split(b"\r\n\r\n", 1)
        found = re.search(rb"Content-Length: (\d+)", head)
        assert found is not None
        assert len(body) == int(found[1])


async def test_a_client_that_leaves_is_not_waited_for(backfill: Database, config_path: Path) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        for first in (b"", b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", it.port), at_most(5)) as one:
                if first:
                    one.sendall(first)
                    assert one.recv(1000).startswith(b"HTTP/1.1 200")
                began = time.monotonic()
                one.shutdown(socket.SHUT_WR)
                assert one.recv(1000) == b""
                # Not the 10 seconds of an incomplete request.
                assert time.monotonic() - began < at_most(3)


async def test_a_request_that_is_no_http_gets_the_headers_of_every_answer(
    backfill: Database, config_path: Path
) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        with socket.create_connection(("127.0.0.1", it.port), at_most(5)) as stranger:
            stranger.sendall(b"HELO <script>alert(1)</script>\r\n\r\n")
            answer = b""
            while piece := stranger.recv(1 << 16):
                answer += piece

    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.split()[1] == b"400"
    for header in (b"nosniff", b"default-src 'none'", b"Server: session-health-exporter"):
        assert header in head
    assert b"script" not in body
    assert b"aiohttp" not in head + body


async def test_slow_clients_delay_no_scrape(backfill: Database, config_path: Path) -> None:
    """50 clients that send a byte now and then, and 10 that read no answer; a scrape takes at most twice as long."""

    def usual() -> float:
        return statistics.median(it.get("/metrics").seconds for _ in range(25))

    request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        alone = await asyncio.to_thread(usual)
        with (
            clients(it.port, 50, "127.0.0.2", b"GET /metrics HTTP/1.1\r\n") as slow,
            clients(it.port, 10, "127.0.0.3", request * 20),
        ):
            for byte in b"Host: x":
                for one in slow:
                    one.sendall(bytes([byte]))
            beside = await asyncio.to_thread(usual)
        # Some milliseconds are the noise of the machine.
        assert beside < 2 * alone + at_most(0.005)


async def test_three_thousand_requests_for_the_page_at_once(backfill: Database, config_path: Path) -> None:
    def resident() -> int:
        return int(Path(f"/proc/{it.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        before = resident()
        stop = threading.Event()

        def ask(address: str) -> None:
            while not stop.is_set():
                with clients(it.port, 60, address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
                    stop.wait(0.1)

        flood = [threading.Thread(target=ask, args=(f"127.0.0.{n}",)) for n in range(2, 8)]
        for one in flood:
            one.start()
        try:
            for _ in range(20):
                assert (await asyncio.to_thread(it.get, "/metrics")).seconds < at_most(2)
        finally:
            stop.set()
            for one in flood:
                one.join()
        assert resident() - before < 90 << 20


def test_a_log_that_no_program_reads_stops_nothing(backfill: Database, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    arguments = ["serve", "--config.file", str(config(tmp_path)), "--web.listen-address", "127.0.0.1:0"]
    with subprocess.Popen(
        [*COMMAND, *arguments, "--web.enable-lifecycle"],
        stdin=subprocess.DEVNULL,
        stderr=writing,
        env=environment(DATABASE_URL=backfill.dsn),
    ) as process:
        os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as log:
            said = b""
            while b"server.listening" not in said:
                said += log.read(1 << 12)
            port = int(said.partition(b"127.0.0.1:")[2].split()[0])
            for _ in range(100):
                with socket.create_connection(("127.0.0.1", port), at_most(5)) as one:
                    one.sendall(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    assert one.recv(100).startswith(b"HTTP/1.1 200")

            process.send_signal(signal.SIGTERM)

            assert process.wait(at_most(STOP_SECONDS)) == 0


async def test_a_flood_of_reloads_is_a_few_and_a_stop_comes_first(backfill: Database, config_path: Path) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        for _ in range(2000):
            it.process.send_signal(signal.SIGHUP)
        assert it.get("/metrics").seconds < at_most(SCRAPE_SECONDS)

        assert it.end(signal.SIGTERM, STOP_SECONDS) == 0

        assert "Traceback" not in it.log
        assert "Exception ignored" not in it.log


async def test_a_config_that_never_answers_keeps_the_old_one(backfill: Database, config_path: Path) -> None:
    with serve(config_path, backfill.dsn) as it:
        await it.measured()
        make_silent(config_path)
        for _ in range(20):
            it.process.send_signal(signal.SIGHUP)
        before = it.page()("collections_total", result="success") or 0

        await it.when(lambda page: (page("collections_total", result="success") or 0) > before + 3)

        assert it.get("/").status == 200
        assert threads_of(it) < 8
        assert it.end(signal.SIGTERM, STOP_SECONDS) == 0


def test_a_config_that_never_answers_at_the_start_can_be_stopped(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    os.mkfifo(path)
    with Exporter("serve", "--config.file", str(path), *ANY_PORT) as it:
        assert it.process.poll() is None or it.process.returncode == 2
        if it.process.poll() is None:
            it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(at_most(STOP_SECONDS)) in (0, 2, -signal.SIGTERM)


def test_hangups_during_the_start_do_not_end_it(backfill: Database, config_path: Path) -> None:
    with serve(config_path, backfill.dsn) as it:
        # Python itself starts before the exporter can ignore a signal.
        assert soon(lambda: does_not_die_of(signal.SIGHUP, it.process.pid))
        while not it.events("server.listening"):
            it.process.send_signal(signal.SIGHUP)
            time.sleep(0.02)

        assert it.get("/-/healthy").status == 200


def does_not_die_of(number: int, process: int) -> bool:
    """Whether a process ignores or handles a signal."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn", "SigCgt"))]
    return any(mask & 1 << number - 1 for mask in masks)
