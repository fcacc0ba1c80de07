"""The exporter as a process of its own, and what a user or Prometheus sees of it."""

import atexit
import functools
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from waiting import START_SECONDS, at_most, eventually, soon

import exporter

COMMAND = (str(Path(sys.executable).with_name("session-health-exporter")),)
MODULE = (sys.executable, "-m", "exporter")
ANY_PORT = ("--web.listen-address", "127.0.0.1:0")
OPENMETRICS = "application/openmetrics-text;version=1.0.0"

_URL = re.compile(r"msg=server\.listening urls=(\S+)|\"msg\": \"server\.listening\", \"urls\": \"([^\"]+)\"")


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would lead the exporter elsewhere; the package under test is the one that we import."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "SESSION_HEALTH_")) or name == "SESSION_HEALTH_POSTGRES_BIN"
    }
    # Unbuffered, a reader who is gone would be noticed where nobody else notices it.
    for name in ("DATABASE_URL", "PYTHONUNBUFFERED"):
        ours.pop(name, None)
    return ours | {"PYTHONPATH": str(Path(exporter.__file__).parents[1])} | more


def read_terminal(ours: int) -> bytes:
    """Whatever a process writes to a terminal until it ends; the other side must be closed here.  Closes ours."""
    pieces = []
    # Linux reports the end of a terminal as EIO.
    with suppress(OSError):
        while piece := os.read(ours, 1 << 16):
            pieces.append(piece)
    os.close(ours)
    return b"".join(pieces)


def run(*arguments: str, command: tuple[str, ...] = COMMAND, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the exporter to its end, in a folder where there is nothing.

    The process is a fork of one that has loaded the exporter, unless the interpreter itself is to start otherwise.
    """
    is_plain = command == COMMAND and not any(name.startswith(("PYTHON", "LC_", "LANG")) for name in environ)
    with tempfile.TemporaryDirectory() as folder:
        if is_plain:
            return _stem().run([*command, *arguments], folder, environment(**environ), at_most(START_SECONDS))
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment(**environ),
            timeout=at_most(START_SECONDS),
            check=False,
        )


class Stem:
    """The process of stem.py; it ends with this one."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("stem.py")), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment(),
            )

    def run(
        self, command: list[str], folder: str, environ: dict[str, str], seconds: float
    ) -> subprocess.CompletedProcess[str]:
        order = {"arguments": command, "folder": folder, "environ": environ}
        with self._lock, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            socket.send_fds(self._orders, [json.dumps(order).encode()], [out.fileno(), err.fileno()])
            child = int(self._orders.recv(100))
            self._orders.settimeout(seconds)
            try:
                code = int(self._orders.recv(100))
            except TimeoutError:
                os.kill(child, signal.SIGKILL)
                self._orders.settimeout(None)
                self._orders.recv(100)
                raise subprocess.TimeoutExpired(command, seconds) from None
            finally:
                self._orders.settimeout(None)
            printed = []
            for file in (out, err):
                file.seek(0)
                printed.append(file.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(command, code, *printed)

    def end(self) -> None:
        self._orders.close()
        self._process.wait()


@functools.cache
def _stem() -> Stem:
    stem = Stem()
    atexit.register(stem.end)
    return stem


def begin(*arguments: str, stdout: int = subprocess.PIPE, **environ: str) -> subprocess.Popen[bytes]:
    """Start a command of the exporter; nobody reads what it prints yet."""
    return subprocess.Popen([*COMMAND, *arguments], stdout=stdout, stderr=subprocess.PIPE, env=environment(**environ))


@dataclass(frozen=True)
class Answer:
    """Of the web server; `text` is unpacked."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        packed = self.headers.get("content-encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode()


class Page:
    """Every series of one /metrics page: `page("eligible_sessions", state="gap")`, None where there is none."""

    def __init__(self, text: str, *, openmetrics: bool = False) -> None:
        self.text = text
        self.series: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for family in (parse_openmetrics if openmetrics else parse_text)(text):
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in self.series, f"one series twice: {key}"
                self.series[key] = sample.value

    def __call__(self, metric: str, **labels: str) -> float | None:
        found = [
            value
            for (name, own), value in self.series.items()
            if name == f"session_health_{metric}" and labels.items() <= dict(own).items()
        ]
        assert len(found) <= 1, f"{metric}{labels} is not one series"
        return found[0] if found else None

    def total(self, metric: str, **labels: str) -> float:
        """The sum over all series with these labels."""
        return sum(
            value
            for (name, own), value in self.series.items()
            if name == f"session_health_{metric}" and labels.items() <= dict(own).items()
        )

    def names(self, **labels: str) -> set[str]:
        """The metrics that have a series with these labels."""
        return {
            name.removeprefix("session_health_")
            for name, own in self.series
            if labels.items() <= dict(own).items() and name.startswith("session_health_")
        }


class Exporter:
    """A running exporter, for a `with` statement; ended with it, and its log shown if the test failed.

    Its log is in a file, so that it never waits for us to read it.
    """

    def __init__(
        self,
        *arguments: str,
        command: tuple[str, ...] = COMMAND,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="log-"))
        self._log_file = self._folder / "log"
        with self._log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd or self._folder,
                env=environment() if environ is None else dict(environ),
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self.process.terminate()
        try:
            self.process.wait(at_most(5))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if kind is not None:
            sys.stderr.write(self.log)
        shutil.rmtree(self._folder)

    @property
    def log(self) -> str:
        """All that it has said so far."""
        return self._log_file.read_text()

    def events(self, *parts: str) -> list[str]:
        """The lines of its log that have all of these; waits for lines that its thread still writes."""
        before, size = -1, self._log_file.stat().st_size
        while before != size:
            time.sleep(at_most(0.05))
            before, size = size, self._log_file.stat().st_size
        return [line for line in self.log.splitlines() if all(part in line for part in parts)]

    @property
    def url(self) -> str:
        """Where it listens; waits until it does."""
        match = soon(lambda: _URL.search(self.log) or self.process.poll() is not None, START_SECONDS)
        assert isinstance(match, re.Match), f"it does not listen:\n{self.log}"
        return str(match[1] or match[2])

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask; `accept_encoding="gzip"` is a header."""
        port = self.port
        asked = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=at_most(10))
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        own = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, own, body, time.monotonic() - asked)

    def page(self) -> Page:
        """What it serves at this moment."""
        answer = self.get("/metrics")
        assert answer.status == 200
        return Page(answer.text)

    async def when(self, condition: Callable[[Page], object], seconds: float = 10.0) -> Page:
        """The first page for which something holds."""

        def look() -> Page | None:
            page = self.page()
            return page if condition(page) else None

        page = await eventually(look, seconds)
        assert page is not None, f"not within {at_most(seconds):.0f} s; the page was:\n{self.page().text}"
        return page

    async def measured(self) -> Page:
        """The first page after everything was measured."""
        return await self.when(lambda page: page("last_success_timestamp_seconds"), START_SECONDS)

    def end(self, number: int, seconds: float) -> int:
        """Send a signal; the exit code, within `at_most(seconds)`."""
        self.process.send_signal(number)
        return self.process.wait(at_most(seconds))


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter: pytest's are closed to the user that runs root's server."""
    folder = Path(tempfile.mkdtemp(prefix="t-")).resolve()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process that is not a zombie."""
    command = ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [row.split(None, 3) for row in table.splitlines()]
    return {int(row[0]): (int(row[1]), row[3]) for row in rows if len(row) == 4 and row[2][0] != "Z"}


def content(folder: Path) -> list[Path]:
    """What is in a folder."""
    return [*folder.iterdir()]


def family(ancestor: int) -> set[int]:
    """A process and everything that it started, directly or not."""
    table, found = processes(), {ancestor}
    while more := {pid for pid, (parent, _) in table.items() if parent in found} - found:
        found |= more
    return found


def nothing_left(pids: set[int], folder: Path) -> bool:
    """Whether none of the processes, no other about `folder` and no file in it is left."""
    table = processes()
    named = [args for _, args in table.values() if str(folder) in args]
    return not pids & table.keys() and not named and not content(folder)
