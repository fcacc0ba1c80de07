"""Whatever a client sends: no answer is a fault of the server, no line is logged, and the next scrape is as before."""

import json
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from conftest import SERVED, Database
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from processes import ANY_PORT, Exporter, environment
from readers import CANARY, EXAMPLES
from waiting import at_most

FEW: Final = 300
"""Connections in `make test`."""

SCRAPE_EVERY: Final = 25
SCRAPE_SECONDS: Final = 1.0
MEMORY: Final = 100 << 20
"""Bytes by which all requests may raise what the exporter holds."""

METHODS: Final = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PRI",
    "get",
    "",
    "G\0T",
    "X" * 5000,
]
PATHS: Final = [
    *(
        "/",
        "/metrics",
        "/report.json",
        "/report.html",
        "/report.md",
        "/-/healthy",
        "/-/ready",
        "/-/reload",
        "/favicon.ico",
    ),
    *(
        "/metrics?a=b&a",
        "/?pause",
        "/?" + "x" * 7000,
        "/metrics/",
        "//metrics",
        "/../../etc/passwd",
        "/%2e%2e/%00",
        "/%ff",
    ),
    *("*", "http://other.example/metrics", "http://[::1", "metrics", "/\r\nX: y", "/<script>", "/%0d%0aX:y", "", "/é"),
]
VERSIONS: Final = ["HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9" * 50, "", "HTTP/1.1 x", "http/1.1"]
HEADERS: Final = [
    *("Host: a", "Host: ", "Host: a\r\nHost: b", "Host: <script>alert(1)</script>", "Connection: close"),
    *("Connection: keep-alive", "Connection: Upgrade\r\nUpgrade: websocket", "Expect: 100-continue", "Expect: x"),
    *(
        "Content-Length: 5",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5\r\nContent-Length: 6",
    ),
    *(
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked, x",
        "Transfer-Encoding: \x0bchunked",
        "Content-Encoding: gzip",
    ),
    *(
        "Accept: application/openmetrics-text;version=1.0.0",
        "Accept: */*;q=nan",
        "Accept: " + "a/b," * 2000,
        "Accept: ;;;,,,",
    ),
    *(
        "Accept-Encoding: gzip;q=0",
        "Accept-Encoding: " + "gzip," * 1000,
        "Accept-Encoding: gzip;q=1e999",
        "Accept-Encoding: \xff",
    ),
    *(
        "Cookie: " + "x" * 9000,
        "X: " + "y" * 70_000,
        "Range: bytes=0-0,-1",
        "If-None-Match: *",
        "Origin: http://evil.example",
    ),
    *(" folded: x", "no colon", ": empty", "X :y", "X\0: y", "Authorization: Basic " + "A" * 300, "X-\r: y"),
    "\r\n".join(f"H{n}: x" for n in range(500)),
]
BODIES: Final = [
    *(
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhel",
        b"ffffffffffffffff\r\n",
        b"-1\r\n\r\n",
        b"zz\r\nx",
        b"0\r\n",
    ),
    *(
        b"0;ext=1\r\nTrailer: x\r\n\r\n",
        b"\0" * 1000,
        b"GET /metrics HTTP/1.1\r\n\r\n" * 20,
        b"\x1f\x8b\x08\x00" + b"\0" * 50,
    ),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"SSH-2.0-x\r\n"),
]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One to five requests of a connection, and changes of the bytes."""
    data = b""
    for _ in range(draw(st.integers(1, 5))):
        head = [
            " ".join(
                (draw(st.sampled_from(METHODS)), draw(st.sampled_from(PATHS)), draw(st.sampled_from(VERSIONS)))
                if draw(st.booleans())
                else ("GET", "/metrics", "HTTP/1.1")
            ),
            *draw(st.lists(st.sampled_from(HEADERS), max_size=6)),
        ]
        end = draw(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r"]))
        text = end.join([*head, "", ""])
        data += text.encode("latin-1", errors="replace") + draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        piece = draw(st.binary(max_size=8))
        data = data[:place] + piece + data[place + draw(st.integers(0, 8)) :]
    return data


def answers_to(port: int, data: bytes, seconds: float) -> bytes:
    """What the server answers to the bytes of a connection, until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as client:
        answer = bytearray()
        with suppress(OSError):
            half = len(data) // 2
            client.sendall(data[:half])
            client.sendall(data[half:])
            client.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            while piece := client.recv(1 << 16):
                answer += piece
        return bytes(answer)


def memory_of(exporter: Exporter) -> int:
    pages = Path(f"/proc/{exporter.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def scrape(exporter: Exporter) -> str:
    """The numbers of the page, which do not change meanwhile."""
    answer = exporter.get("/metrics")
    assert answer.status == 200
    assert answer.seconds < at_most(SCRAPE_SECONDS)
    return "\n".join(line for line in answer.text.splitlines() if line.startswith("session_health_gap_sessions"))


async def test_any_bytes_leave_the_server_as_it_was(backfill: Database, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(SERVED.replace("interval: 30s", "interval: 1h").replace("max_age: 5m", "max_age: 2h"))
    environ = environment(DATABASE_URL=backfill.dsn, CANARY=CANARY)
    arguments = ("serve", "--config.file", str(config), "--web.enable-lifecycle", "--log.level", "debug", *ANY_PORT)
    with Exporter(*arguments, environ=environ) as exporter:
        await exporter.measured()
        right, port = scrape(exporter), exporter.port
        before, held = exporter.log, memory_of(exporter)
        tried = 0

        @settings(
            max_examples=EXAMPLES or FEW,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(requests())
        def attempt(data: bytes) -> None:
            nonlocal tried
            began = time.monotonic()
            answer = answers_to(port, data, at_most(10))
            assert time.monotonic() - began < at_most(10), "the connection stays open"
            statuses = re.findall(rb"^HTTP/1\.[01] (\d{3}) ", answer, re.MULTILINE)
            assert not [status for status in statuses if status.startswith(b"5")], answer[:500]
            assert CANARY.encode() not in answer
            assert b"Traceback" not in answer
            pages = [one for one in answer.split(b"HTTP/1.") if b"Content-Type: text/html" in one]
            assert not [one for one in pages if b"<script>" in one]
            tried += 1
            if tried % SCRAPE_EVERY == 0:
                assert scrape(exporter) == right

        attempt()

        assert scrape(exporter) == right
        said = [line for line in exporter.log.removeprefix(before).splitlines() if "config.reloaded" not in line]
        assert said == []
        assert memory_of(exporter) - held < MEMORY
        assert json.loads(exporter.get("/report.json").text)["verdict"] == "unhealthy"
