"""The exporter as a process on a fixed port: start, scrape 5 times a second, page, log, signals, exit."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from processes import MODULE, Page, environment
from proxy import HOST, free_port
from waiting import at_most

SCRAPE_EVERY: Final = 0.2
"""Seconds from one scrape to the next."""
LOST_SCRAPE: Final = 5.0
"""Seconds after which a scrape counts as lost."""
SMALL_PIPE: Final = 4096

CLOCK: Final = """
import time
from pathlib import Path
_time, _file = time.time, Path({file!r})
def _stepped():
    try:
        return _time() + float(_file.read_text())
    except (OSError, ValueError):
        return _time()
time.time = _stepped
"""
RESOLVER: Final = """
import socket, time
from pathlib import Path
_resolve, _file = socket.getaddrinfo, Path({file!r})
def _answer(host, *arguments, **more):
    if host not in ("database.invalid", b"database.invalid"):
        return _resolve(host, *arguments, **more)
    if _file.exists():
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _resolve("127.0.0.1", *arguments, **more)
socket.getaddrinfo = _answer
"""


@dataclass(frozen=True, slots=True)
class Launch:
    """How the exporter starts.

    `descriptors`: the limit on open files, None for the usual one.  `reads_log`: whether the log is read; without a
    reader the log is a pipe of 4 kB.  `system`: a clock or a resolver of the process that the file `switch` beside the
    config changes, as the text of a sitecustomize.py.
    """

    descriptors: int | None = None
    reads_log: bool = True
    system: str = ""


USUAL: Final = Launch()


@dataclass(frozen=True, slots=True)
class Scrape:
    """One scrape: `at` (Unix seconds) is its start, `page` is None for a scrape that failed."""

    at: float
    seconds: float
    page: Page | None
    error: str = ""


@dataclass
class Exporter:
    """One exporter in `folder`, which has its config."""

    folder: Path
    url: str
    launch: Launch = USUAL
    port: int = field(default_factory=free_port)
    scrapes: list[Scrape] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _pipe: int | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def switch(self) -> Path:
        """The file that changes the clock or the resolver of `launch.system`."""
        return self.folder / "switch"

    @property
    def log_file(self) -> Path:
        return self.folder / "log"

    @property
    def log(self) -> str:
        """The whole log; empty if the log is not read."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while the process lives."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start; does not wait."""
        environ = environment(DATABASE_URL=self.url)
        if self.launch.system:
            (self.folder / "sitecustomize.py").write_text(self.launch.system.format(file=str(self.switch)))
            environ["PYTHONPATH"] = f"{self.folder}{os.pathsep}{environ['PYTHONPATH']}"
        command = [*MODULE, "serve", "--config.file", str(self.config), "--web.listen-address", f"{HOST}:{self.port}"]
        if self.launch.descriptors is not None:
            command = ["/bin/sh", "-c", f'ulimit -n {self.launch.descriptors}; exec "$@"', "sh", *command]
        if setpriv := shutil.which("setpriv"):
            # Where util-linux is: a killed test leaves no exporter behind.
            command = [setpriv, "--pdeathsig", "KILL", *command]
        if self.launch.reads_log:
            err = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        else:
            self._pipe, err = os.pipe()
            if sys.platform == "linux":
                fcntl.fcntl(err, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=err, stderr=err, cwd=self.folder, env=environ
            )
        finally:
            os.close(err)

    def has_begun(self) -> bool:
        """Whether the process handles SIGHUP, or has loaded its first large library; always true without /proc."""
        here = Path("/proc") / str(self.pid)
        try:
            status, maps = (here / "status").read_text(), (here / "maps").read_text()
        except OSError:
            return True
        masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigIgn", "SigCgt"))]
        return "pydantic_core" in maps or any(mask & 1 << signal.SIGHUP - 1 for mask in masks)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; without effect after the end."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def ended(self, seconds: float) -> tuple[float, int | None]:
        """Wait for the end for at most so long: the seconds that the end took, and the exit code (None: it lives)."""
        assert self._process is not None
        began = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, seconds)
        return time.monotonic() - began, self._process.poll()

    async def end(self) -> None:
        """End for good, by SIGKILL if SIGTERM does not help."""
        if self._process is None:
            return
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        if (await self.ended(at_most(3)))[1] is None:
            self.signal(signal.SIGKILL)
            await self.ended(at_most(5))
        self._process = None
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    async def get(self, path: str, seconds: float) -> str:
        """The body of an answer with status 200; raises OSError, TimeoutError and ValueError."""
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(HOST, self.port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                answer = await reader.read()
            finally:
                writer.close()
        head, _, body = answer.decode().partition("\r\n\r\n")
        if " 200 " not in head.split("\r\n")[0] + " ":
            raise ValueError(head.split("\r\n")[0] or "no answer")
        return body

    async def scrape(self) -> Scrape:
        """Scrape once, and keep the result."""
        at, began = time.time(), time.monotonic()
        page, error = None, ""
        try:
            text = await self.get("/metrics", at_most(LOST_SCRAPE))
        except (OSError, ValueError, TimeoutError) as failure:
            error = f"{type(failure).__name__} {failure}"
            text = ""
        seconds = time.monotonic() - began
        if text:
            page = Page(text)
        self.scrapes.append(Scrape(at, seconds, page, error))
        return self.scrapes[-1]


@dataclass
class Watcher:
    """Scrapes an exporter 5 times a second, for an `async with` statement."""

    exporter: Exporter
    _task: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + SCRAPE_EVERY
            await self.exporter.scrape()
            self._news.set()
            self._news = asyncio.Event()
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def until(self, condition: Callable[[Page], object], since: float, seconds: float) -> Scrape | None:
        """The first scrape since a moment (Unix seconds) whose page meets the condition; None after `seconds`."""
        deadline = time.monotonic() + seconds
        seen = 0
        while True:
            for scrape in self.exporter.scrapes[seen:]:
                if scrape.at >= since and scrape.page is not None and condition(scrape.page):
                    return scrape
            seen = len(self.exporter.scrapes)
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)


def verdict(page: Page) -> str:
    """The verdict that a page tells."""
    [found] = [
        dict(labels)["verdict"]
        for (name, labels), value in page.series.items()
        if name == "session_health_verdict" and value == 1
    ]
    return found


def errors(page: Page | None) -> Mapping[str, float]:
    """The faults counted so far, by reason."""
    if page is None:
        return {}
    return {
        dict(labels)["reason"]: value
        for (name, labels), value in page.series.items()
        if name == "session_health_collection_errors_total"
    }
