"""The running program: one supervisor for each pipeline and one web server, until a stop signal."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from exporter.config.read import Loaded
from exporter.present.report.links import NO_LINKS, Links
from exporter.serve.clients import Bounds, Clients
from exporter.serve.door import OPEN_DOOR, Door, warn_if_public
from exporter.serve.listen import Address, listen, port_of
from exporter.serve.signals import call_on
from exporter.serve.watch import Reader, Watch
from exporter.serve.web import KEEP_ALIVE_SECONDS, Handler, application
from exporter.state.board import Latest

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WebOptions:
    """The `--web.*` options."""

    addresses: tuple[Address, ...]
    enable_lifecycle: bool = False
    links: Links = NO_LINKS
    door: Door = OPEN_DOOR


async def serve(
    load: Callable[[], Loaded],
    options: WebOptions,
    stop: asyncio.Event,
    *,
    announce: Callable[[Sequence[str]], None] | None = None,
    reload_on_hangup: bool = False,
) -> None:
    """Collect and serve until `stop` is set; raises ConfigError and ListenError.

    `load` reads the config, at the start and at each reload.  `announce` gets the URLs after the first collection of
    every pipeline.  A supervisor that ends by itself is a bug and ends the program.
    """
    hangup = asyncio.Event()
    if reload_on_hangup:
        call_on(signal.SIGHUP, hangup.set)
    reader = Reader(load)
    planned = await _unless(stop, reader.read())
    if planned is None:
        return
    watch = Watch(reader, planned)
    clients = Clients(Bounds.of_process())
    reload = watch.reload if options.enable_lifecycle else None
    app = application(
        watch.latest,
        watch.shown,
        reload=reload,
        links=options.links,
        clients=clients,
        middlewares=options.door.middlewares,
    )
    async with _listening(app, clients, options) as urls, asyncio.TaskGroup() as tasks:
        watch.begin(tasks)
        besides = [tasks.create_task(_reload_on(hangup, watch))]
        if announce is not None:
            besides.append(tasks.create_task(_announce_when_ready(watch.latest, urls, announce)))
        await stop.wait()
        log.info("server.stopping")
        for task in besides:
            task.cancel()
        watch.end()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of the work, or None if `stop` is set first."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopping.cancel()


async def _reload_on(hangup: asyncio.Event, watch: Watch) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        await watch.reload()


async def _announce_when_ready(latest: Latest, urls: Sequence[str], announce: Callable[[Sequence[str]], None]) -> None:
    await latest.ready.wait()
    announce(urls)


@asynccontextmanager
async def _listening(app: web.Application, clients: Clients, options: WebOptions) -> AsyncIterator[list[str]]:
    """Listen, and log the bound addresses; the URLs that a browser on this machine opens."""
    door = options.door
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    admitting: list[asyncio.Task[None]] = []
    try:
        urls, bound = [], []
        for address in options.addresses:
            sockets = await listen(address)
            admitting += [asyncio.create_task(clients.admit(one, _protocol(runner), door.tls)) for one in sockets]
            bound += [Address(*one.getsockname()[:2]) for one in sockets]
            urls.append(f"{door.scheme}://{Address(address.host or 'localhost', port_of(sockets))}")
        log.info("server.listening", extra={"urls": ",".join(f"{door.scheme}://{place}" for place in bound)})
        warn_if_public(door, [str(place.host) for place in bound])
        with door.watched():
            yield urls
    finally:
        for task in admitting:
            task.cancel()
        await runner.cleanup()
        clients.end()


def _protocol(runner: web.AppRunner) -> Callable[[], web.RequestHandler]:
    server = runner.server
    if server is None:
        raise LookupError("the runner has not been set up")
    # aiohttp takes None for no log, and declares a logger.
    settings: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEP_ALIVE_SECONDS}
    loop = asyncio.get_running_loop()
    return lambda: Handler(server, loop=loop, **settings)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether to log a record of the web server: malformed requests are refused, not logged."""
    return not (record.exc_info and isinstance(record.exc_info[1], BadHttpMessage))
