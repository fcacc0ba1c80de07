"""The clients of the soak: Prometheus, browsers, clients that read slowly or never, all the time."""

import asyncio
import random
import re
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from http import HTTPStatus
from socket import SO_LINGER, SOL_SOCKET
from typing import Final

import aiohttp
from process import LOST_SCRAPE, SCRAPE_EVERY, Exporter
from processes import OPENMETRICS, Page
from proxy import HOST
from waiting import at_most

BROWSED: Final = ("/", "/report.json", "/", "/-/healthy")
SLOW_CLIENTS: Final = 3
PROVEN_EVERY: Final = 20
"""Scrapes from one that prometheus_client's parsers read to the next: these parsers take 10 times as long."""
_SERIES: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)(?: # .*)?$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_RESET: Final = struct.pack("ii", 1, 0)
_REQUEST: Final = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@lru_cache(maxsize=4096)
def _labels(text: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(_LABEL.findall(text)))


class QuickPage(Page):
    """The same series, read without a proof of the format."""

    def __init__(self, text: str) -> None:
        """Read; values of labels stay escaped."""
        self.text = text
        self.series = {(name, _labels(labels or "")): float(value) for name, labels, value in _SERIES.findall(text)}
        self._named: dict[str, list[tuple[tuple[tuple[str, str], ...], float]]] = {}
        for (name, labels), value in self.series.items():
            self._named.setdefault(name, []).append((labels, value))

    def __call__(self, metric: str, **labels: str) -> float | None:
        """The one series with these labels, None without."""
        wanted = labels.items()
        found = [value for own, value in self._named.get(f"session_health_{metric}", ()) if wanted <= dict(own).items()]
        if len(found) > 1:
            raise ValueError(f"{metric}{labels} is not one series")
        return found[0] if found else None


@dataclass
class Clients:
    """Everything that asks one exporter; `look` gets each page of /metrics with the time of the request."""

    exporter: Exporter
    chance: random.Random
    look: Callable[[Page, float], None]
    last: Page | None = None
    scrapes: int = 0
    pages: int = 0
    longest: float = 0.0
    failed: list[str] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Ask until cancelled."""
        bound = aiohttp.ClientTimeout(total=at_most(LOST_SCRAPE))
        base = f"http://{HOST}:{self.exporter.port}"
        async with aiohttp.ClientSession(base, timeout=bound) as session, asyncio.TaskGroup() as group:
            group.create_task(self._scrape(session))
            group.create_task(self._browse(session))
            for number in range(SLOW_CLIENTS):
                group.create_task(self._dawdle(number))

    async def news(self, seconds: float) -> None:
        """Wait for the next page, at most so long."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return

    async def _scrape(self, session: aiohttp.ClientSession) -> None:
        while True:
            due = time.monotonic() + SCRAPE_EVERY
            is_open = self.scrapes % 2 == 0
            accepted = OPENMETRICS if is_open else "text/plain;version=0.0.4"
            at = time.time()
            text = await self._get(session, "/metrics", {"Accept": accepted, "Accept-Encoding": "gzip"})
            self.scrapes += 1
            if text is not None:
                page: Page = QuickPage(text)
                if self.scrapes // 2 % PROVEN_EVERY == 1:
                    proven = await asyncio.to_thread(partial(Page, text, openmetrics=is_open))
                    if proven.series != page.series:
                        self.failed.append("two readers of /metrics disagree")
                self.look(page, at)
                self.last = page
                self._news.set()
                self._news = asyncio.Event()
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _browse(self, session: aiohttp.ClientSession) -> None:
        while True:
            for path in BROWSED:
                await self._get(session, path, {"Accept": "text/html,*/*", "Accept-Encoding": "gzip, deflate"})
                self.pages += 1
                await asyncio.sleep(self.chance.uniform(0.2, 0.8))

    async def _get(self, session: aiohttp.ClientSession, path: str, headers: dict[str, str]) -> str | None:
        began = time.monotonic()
        try:
            async with session.get(path, headers=headers) as answer:
                text = await answer.text()
                if answer.status != HTTPStatus.OK:
                    self.failed.append(f"{path}: {answer.status}")
                    return None
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            self.failed.append(f"{path}: {type(error).__name__} {error}")
            return None
        finally:
            self.longest = max(self.longest, time.monotonic() - began)
        return text

    async def _dawdle(self, number: int) -> None:
        """One client that sends a part of a request and waits, sends slowly, or resets in the answer; then again."""
        while True:
            try:
                reader, writer = await asyncio.open_connection(HOST, self.exporter.port)
            except OSError:
                await asyncio.sleep(0.5)
                continue
            try:
                if number == 0:
                    writer.write(_REQUEST[:11])
                    await asyncio.sleep(self.chance.uniform(1, 4))
                elif number == 1:
                    for letter in _REQUEST:
                        writer.write(bytes([letter]))
                        await asyncio.sleep(0.05)
                    await asyncio.wait_for(reader.read(), 2)
                else:
                    writer.write(_REQUEST)
                    await asyncio.wait_for(reader.read(100), 2)
                    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
                    await asyncio.sleep(self.chance.uniform(0.5, 1.5))
            except (OSError, TimeoutError):
                continue
            finally:
                writer.transport.abort()
