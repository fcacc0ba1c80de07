"""Puts the running program together: one supervisor a pipeline, one web server, until told to stop."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from exporter.board import Latest, Standing
from exporter.collect import collect
from exporter.dimensions import DIMENSIONS
from exporter.plan import Plan, compile_plan
from exporter.schema import Config
from exporter.supervise import supervise
from exporter.web import KEEP_ALIVE_SECONDS, application

log = logging.getLogger(__name__)


class ListenError(Exception):
    """An address cannot be listened on; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; host None means every interface, port 0 any free port."""

    host: str | None
    port: int


def parse_address(text: str) -> Address:
    """Read `:10157`, `127.0.0.1:10157` or `[::1]:10157`; raises ValueError."""
    host, colon, port = text.rpartition(":")
    bare = host.startswith("[") and host.endswith("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or (":" in host and not bare):  # noqa: PLR2004
        raise ValueError(f"{text!r} is not an address: write :10157, 127.0.0.1:10157 or [::1]:10157")
    return Address((host[1:-1] if bare else host) or None, int(port))


def compile_plans(config: Config) -> dict[str, Plan]:
    """The plan of each pipeline."""
    return {name: compile_plan(config, pipeline, DIMENSIONS) for name, pipeline in config.pipelines.items()}


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def serve(
    config: Config,
    addresses: Sequence[Address],
    stop: asyncio.Event,
    announce: Callable[[Sequence[str]], None] = lambda _urls: None,
) -> None:
    """Collect and serve until `stop` is set; raises ListenError.

    `announce` gets the URLs once the first round of every pipeline has ended.
    """
    plans = compile_plans(config)
    latest = Latest(
        Standing(
            database=plan.pipeline.database,
            pipeline=name,
            records=tuple(plan.pipeline.records),
            max_age=config.collection.max_age.total_seconds(),
        )
        for name, plan in plans.items()
    )
    async with _listening(latest, addresses) as urls:
        tasks = [
            asyncio.create_task(supervise(plan, latest, config.collection.rest_ratio, collect))
            for plan in plans.values()
        ]
        tasks.append(asyncio.create_task(_announce_when_ready(latest, urls, announce)))
        try:
            await _until(stop, tasks)
        finally:
            log.info("server.stopping")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _until(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for `stop`; a supervisor that ends by itself is a fault of ours, and ends the program."""
    stopped = asyncio.create_task(stop.wait())
    waiting: set[asyncio.Task[None] | asyncio.Task[bool]] = {stopped, *tasks}
    try:
        while not stop.is_set():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        stopped.cancel()


async def _announce_when_ready(latest: Latest, urls: Sequence[str], announce: Callable[[Sequence[str]], None]) -> None:
    await latest.ready.wait()
    announce(urls)


@asynccontextmanager
async def _listening(latest: Latest, addresses: Sequence[Address]) -> AsyncIterator[list[str]]:
    runner = web.AppRunner(
        application(latest), access_log=None, keepalive_timeout=KEEP_ALIVE_SECONDS, shutdown_timeout=1
    )
    await runner.setup()
    try:
        urls = []
        for address in addresses:
            site = web.TCPSite(runner, address.host, address.port)
            try:
                await site.start()
            except OSError as error:
                shown = f"{address.host or ''}:{address.port}"
                raise ListenError(
                    f"cannot listen on {shown} ({error.strerror}): choose another with --web.listen-address"
                ) from None
            urls.append(_url(site, address))
        log.info("server.listening", extra={"urls": ",".join(urls)})
        yield urls
    finally:
        await runner.cleanup()


def _url(site: web.TCPSite, address: Address) -> str:
    # aiohttp has no public way to ask which port the system chose for port 0.
    server = site._server  # noqa: SLF001
    port = server.sockets[0].getsockname()[1] if isinstance(server, asyncio.Server) and server.sockets else address.port
    host = address.host or "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
