"""The running program: one supervisor for each pipeline and one web server, until a stop signal."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from exporter.config.read import ConfigError
from exporter.dimensions import DIMENSIONS
from exporter.measure.rounds import Rounds
from exporter.measure.supervise import initial_status, supervise
from exporter.model.sections import CollectionSettings, Config
from exporter.plan.plan import Plan, compile_plans
from exporter.present.report.links import NO_LINKS, Links
from exporter.serve.door import OPEN_DOOR, Door, warn_if_public
from exporter.serve.listen import Address, listen, port_of
from exporter.serve.web import KEEP_ALIVE_SECONDS, application
from exporter.state.board import Latest, PipelineStatus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WebOptions:
    """The `--web.*` options."""

    addresses: tuple[Address, ...]
    enable_lifecycle: bool = False
    links: Links = NO_LINKS
    door: Door = OPEN_DOOR


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def serve(
    load: Callable[[], Config],
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
    watch = Watch(load)
    reload = watch.reload if options.enable_lifecycle else None
    app = application(watch.latest, reload, options.links, options.door.middlewares)
    async with _listening(app, options.addresses, options.door) as urls, asyncio.TaskGroup() as tasks:
        watch.begin(tasks)
        if reload_on_hangup:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, watch.reload)
        announcing = tasks.create_task(_announce_when_ready(watch.latest, urls, announce)) if announce else None
        await stop.wait()
        log.info("server.stopping")
        if announcing is not None:
            announcing.cancel()
        watch.end()


class Watch:
    """One supervisor for each pipeline of the config in force."""

    def __init__(self, load: Callable[[], Config]) -> None:
        """Read the config; raises ConfigError."""
        self._load = load
        self._tasks: asyncio.TaskGroup | None = None
        self._leaving: dict[str, list[asyncio.Task[None]]] = {}
        self._config = load()
        self._plans = compile_plans(self._config, DIMENSIONS)
        self._supervisors: dict[str, asyncio.Task[None]] = {}
        self.latest = Latest(self._statuses({}), time.time())

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Start the supervisors."""
        self._tasks = tasks
        for name, plan in self._plans.items():
            if name not in self._supervisors:
                self._leaving[name] = leaving = [task for task in self._leaving.get(name, []) if not task.done()]
                self._supervisors[name] = tasks.create_task(_after(leaving, plan, self.latest, self._config.collection))

    def reload(self) -> ConfigError | None:
        """Read the config again, all or nothing; returns the error of an invalid config, and changes nothing.

        Unchanged pipelines go on undisturbed.
        """
        try:
            config = self._load()
        except ConfigError as error:
            self.latest.reload_failed()
            log.error("config.reload_failed", extra={"error": str(error)})  # noqa: TRY400 - it is the operator's
            return error
        plans = compile_plans(config, DIMENSIONS)
        kept = {
            name
            for name, plan in plans.items()
            if plan == self._plans.get(name) and config.collection == self._config.collection
        }
        for name in self._supervisors.keys() - kept:
            supervisor = self._supervisors.pop(name)
            supervisor.cancel()
            self._leaving.setdefault(name, []).append(supervisor)
        before = {name: self.latest.board.statuses[name] for name in kept}
        self._config, self._plans = config, plans
        self.latest.reloaded(self._statuses(before), time.time())
        if self._tasks is not None:
            self.begin(self._tasks)
        log.info(
            "config.reloaded", extra={"kept": ",".join(sorted(kept)), "begun": ",".join(sorted(plans.keys() - kept))}
        )
        return None

    def end(self) -> None:
        """Stop for good: a later reload starts nothing."""
        self._tasks = None
        for supervisor in self._supervisors.values():
            supervisor.cancel()

    def _statuses(self, kept: Mapping[str, PipelineStatus]) -> list[PipelineStatus]:
        return [
            kept.get(name) or initial_status(plan, self._config.collection.max_age.total_seconds())
            for name, plan in self._plans.items()
        ]


async def _after(
    leaving: Sequence[asyncio.Task[None]], plan: Plan, latest: Latest, settings: CollectionSettings
) -> None:
    """Supervise a pipeline after the earlier supervisors have ended: a cancelled statement may still run."""
    if leaving:
        await asyncio.wait(leaving)
    await supervise(plan, latest, settings.duty, Rounds(settings))


async def _announce_when_ready(latest: Latest, urls: Sequence[str], announce: Callable[[Sequence[str]], None]) -> None:
    await latest.ready.wait()
    announce(urls)


@asynccontextmanager
async def _listening(app: web.Application, addresses: Sequence[Address], door: Door) -> AsyncIterator[list[str]]:
    """Listen, and log the bound addresses; the URLs that a browser on this machine opens."""
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEP_ALIVE_SECONDS, shutdown_timeout=1)
    await runner.setup()
    try:
        urls, bound = [], []
        for address in addresses:
            sockets = await listen(address)
            for one in sockets:
                await web.SockSite(runner, one, ssl_context=door.tls).start()
                bound.append(Address(*one.getsockname()[:2]))
            urls.append(f"{door.scheme}://{Address(address.host or 'localhost', port_of(sockets))}")
        log.info("server.listening", extra={"urls": ",".join(f"{door.scheme}://{place}" for place in bound)})
        warn_if_public(door, [str(place.host) for place in bound])
        with door.watched():
            yield urls
    finally:
        await runner.cleanup()


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether to log a record of the web server: malformed requests are refused, not logged."""
    return not (record.exc_info and isinstance(record.exc_info[1], BadHttpMessage))
