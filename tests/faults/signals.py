"""Faults of the exporter's own process and files: signals, descriptors, load, log, config, clock, names."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fault import Inject
from process import Exporter
from proxy import BLACK_HOLE, HOST, PASS, REFUSE, Behaviour
from scene import Scene
from waiting import START_SECONDS, at_most

IDLE_CLIENTS = 200
BURNERS = 4
REQUESTS_AT_ONCE = 20
HANGUPS = 1000


def network(behaviour: Behaviour) -> Inject:
    """Another behaviour of both proxies, until the fault is mended."""

    @asynccontextmanager
    async def inject(scene: Scene) -> AsyncIterator[None]:
        for proxy in scene.proxies:
            await proxy.behave(behaviour)
        yield
        for proxy in scene.proxies:
            await proxy.behave(PASS)

    return inject


@asynccontextmanager
async def certificate_expired(scene: Scene) -> AsyncIterator[None]:
    """The server's certificate is out of date, for every new connection."""
    assert scene.certificates is not None
    for proxy in scene.proxies:
        proxy.tls = scene.certificates.expired
    yield
    for proxy in scene.proxies:
        proxy.tls = scene.certificates.valid


@asynccontextmanager
async def rotated(scene: Scene) -> AsyncIterator[None]:
    """The server has another password than the files; mended by other files, without a word to the exporter."""
    await scene.execute("alter role {role} password 'rotated-secret'")
    yield
    for exporter in scene.exporters:
        (exporter.folder / "password").write_text("rotated-secret")


def switched(text: str) -> Inject:
    """The clock or the resolver of the process changes by its switch."""

    @asynccontextmanager
    async def inject(scene: Scene) -> AsyncIterator[None]:
        for exporter in scene.exporters:
            exporter.switch.write_text(text)
        yield
        for exporter in scene.exporters:
            exporter.switch.unlink()

    return inject


@asynccontextmanager
async def nothing(_scene: Scene) -> AsyncIterator[None]:
    """No fault."""
    yield


@asynccontextmanager
async def slow(scene: Scene) -> AsyncIterator[None]:
    """Each collection waits in a statement; returns when both exporters wait."""
    await scene.execute(PACE.format("pg_sleep(60) is not null"))
    for proxy in scene.proxies:
        deadline = time.monotonic() + at_most(5)
        while not await scene.sleepers(proxy):
            assert time.monotonic() < deadline, "no statement of the exporter was seen"
            await asyncio.sleep(0.02)
    yield
    await scene.execute(PACE.format("true"))


PACE = "create or replace function public.pace() returns boolean language plpgsql stable as $$ begin return {}; end $$"
"""The function of a check: its body is the fault."""


@asynccontextmanager
async def refused_after_slow_collections(scene: Scene) -> AsyncIterator[None]:
    """Collections take 3 s; after one of them, the port refuses."""
    await scene.execute(PACE.format("pg_sleep(0.015) is not null"))
    began = time.time()
    async with asyncio.timeout(at_most(30)):
        while True:
            scrape = await scene.watched.scrape()
            page = scrape.page
            if page and (page("snapshot_timestamp_seconds") or 0) > began and page("up") == 1:
                break
            await asyncio.sleep(0.1)
    for proxy in scene.proxies:
        await proxy.behave(REFUSE)
    yield
    await scene.execute(PACE.format("true"))
    for proxy in scene.proxies:
        await proxy.behave(PASS)


@asynccontextmanager
async def cut_off(scene: Scene) -> AsyncIterator[None]:
    """The network passes nothing from the middle of a statement on."""
    async with slow(scene):
        for proxy in scene.proxies:
            await proxy.behave(BLACK_HOLE)
        yield
        for proxy in scene.proxies:
            await proxy.behave(PASS)


@asynccontextmanager
async def stopped_in_a_collection(scene: Scene) -> AsyncIterator[None]:
    """SIGSTOP to both exporters while a statement of each runs; mended by SIGCONT."""
    async with slow(scene):
        for exporter in scene.exporters:
            exporter.signal(signal.SIGSTOP)
    yield
    for exporter in scene.exporters:
        exporter.signal(signal.SIGCONT)


@asynccontextmanager
async def stopped_between(scene: Scene) -> AsyncIterator[None]:
    """SIGSTOP to both exporters while no connection of theirs is open; mended by SIGCONT."""
    for exporter, proxy in zip(scene.exporters, scene.proxies, strict=True):
        async with asyncio.timeout(at_most(10)):
            while True:
                if not await scene.backends(proxy):
                    exporter.signal(signal.SIGSTOP)
                    if not await scene.backends(proxy):
                        break
                    exporter.signal(signal.SIGCONT)
                await asyncio.sleep(0.02)
    yield
    for exporter in scene.exporters:
        exporter.signal(signal.SIGCONT)


@asynccontextmanager
async def idle_clients(scene: Scene) -> AsyncIterator[None]:
    """Many clients that connect and send nothing."""
    opened: list[asyncio.StreamWriter] = []

    async def connect(exporter: Exporter) -> None:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(at_most(2)):
                _, writer = await asyncio.open_connection(HOST, exporter.port)
                opened.append(writer)

    await asyncio.gather(*(connect(exporter) for exporter in scene.exporters for _ in range(IDLE_CLIENTS)))
    yield
    for writer in opened:
        writer.transport.abort()


@asynccontextmanager
async def burned(_scene: Scene) -> AsyncIterator[None]:
    """More busy processes than the machine has processors."""
    burners = [await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass") for _ in range(BURNERS)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            await burner.wait()


@asynccontextmanager
async def crowded_page(scene: Scene) -> AsyncIterator[None]:
    """Many requests at once, and again as soon as they are answered."""

    async def ask(exporter: Exporter) -> None:
        while True:
            with suppress(OSError, ValueError, TimeoutError):
                await exporter.get("/", at_most(10))
            await asyncio.sleep(0.05)

    asking = [asyncio.create_task(ask(exporter)) for exporter in scene.exporters for _ in range(REQUESTS_AT_ONCE)]
    try:
        yield
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


@asynccontextmanager
async def reloads(scene: Scene) -> AsyncIterator[None]:
    """A thousand SIGHUPs."""
    for _ in range(HANGUPS):
        for exporter in scene.exporters:
            exporter.signal(signal.SIGHUP)
        await asyncio.sleep(0.001)
    yield


@asynccontextmanager
async def talkative(scene: Scene) -> AsyncIterator[None]:
    """Reloads of a wrong config until the log is larger than its pipe."""
    for exporter in scene.exporters:
        text = exporter.config.read_text()
        exporter.config.write_text(text.replace("pipelines:", "pipe_lines:"))
    for _ in range(100):
        for exporter in scene.exporters:
            exporter.signal(signal.SIGHUP)
        await asyncio.sleep(0.02)
    yield
    for exporter in scene.exporters:
        exporter.config.write_text(exporter.config.read_text().replace("pipe_lines:", "pipelines:"))
        exporter.signal(signal.SIGHUP)


@asynccontextmanager
async def config_is_a_fifo(scene: Scene) -> AsyncIterator[None]:
    """The config is a named pipe without a writer at a reload; mended by the file and another reload."""
    for exporter in scene.exporters:
        exporter.config.rename(exporter.folder / "aside.yaml")
        os.mkfifo(exporter.config)
        exporter.signal(signal.SIGHUP)
    yield
    for exporter in scene.exporters:
        (exporter.folder / "aside.yaml").replace(exporter.config)
        exporter.signal(signal.SIGHUP)


@asynccontextmanager
async def hung_up_at_the_start(scene: Scene) -> AsyncIterator[None]:
    """Both exporters start again, under SIGHUPs from the first imports on: before, the interpreter knows no handler."""
    for exporter in scene.exporters:
        exporter.signal(signal.SIGTERM)
        await exporter.ended(at_most(5))
        exporter.start()
    for exporter in scene.exporters:
        async with asyncio.timeout(at_most(10)):
            while not exporter.has_begun():  # noqa: ASYNC110 - a process has no event
                await asyncio.sleep(0.002)
    for _ in range(50):
        for exporter in scene.exporters:
            exporter.signal(signal.SIGHUP)
        await asyncio.sleep(0.02)
    async with asyncio.timeout(at_most(START_SECONDS)):
        for exporter in scene.exporters:
            while exporter.code is None and (await exporter.scrape()).page is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    yield
