"""One supervisor for each pipeline of the config in force, and the reload of the config."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from exporter.config.read import ConfigError, Loaded, Problem
from exporter.connection.threads import take_error
from exporter.control import control
from exporter.dimensions import DIMENSIONS
from exporter.measure.rounds import Rounds
from exporter.measure.supervise import initial_status, supervise
from exporter.measure.turns import Turns
from exporter.model.sections import CollectionSettings, Config
from exporter.plan.plan import Plan, compile_plans
from exporter.state.board import Latest, PipelineStatus

log = logging.getLogger(__name__)

READ_SECONDS: Final = 30.0
"""Seconds to read the config: a file system may not answer, and a config of 1 MB takes 8 s to parse."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A config with the plan of each pipeline; `shown` is the config for people."""

    config: Config
    shown: str
    plans: Mapping[str, Plan]


class Reader:
    """Reads the config in a thread: the event loop goes on, also if the file system never answers."""

    def __init__(self, load: Callable[[], Loaded]) -> None:
        """Without a read; `load` raises ConfigError."""
        self._load = load
        self._pending: asyncio.Future[Planned] | None = None

    async def read(self) -> Planned:
        """Read the file from now on; raises ConfigError, also if there is no answer within READ_SECONDS."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                if self._pending is not None:
                    # One thread at most: the file of an earlier read may still be silent.
                    await asyncio.wait([self._pending])
                self._pending = asyncio.get_running_loop().run_in_executor(None, self._read)
                self._pending.add_done_callback(take_error)
                return await asyncio.shield(self._pending)
        except TimeoutError:
            silence = f"no answer within {READ_SECONDS:g} s: check the file system of the file"
            raise ConfigError("config", (Problem("", silence),)) from None

    def _read(self) -> Planned:
        loaded = self._load()
        return Planned(loaded.config, loaded.shown, compile_plans(loaded.config, DIMENSIONS, control()))


class Watch:
    """One supervisor for each pipeline of the config in force."""

    def __init__(self, reader: Reader, planned: Planned) -> None:
        """Begin with a config; `reader` reads the next."""
        self._reader = reader
        self._tasks: asyncio.TaskGroup | None = None
        self._leaving: dict[str, list[asyncio.Task[None]]] = {}
        self._planned = planned
        self._supervisors: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._turns = Turns()
        self._asked = self._answered = 0
        self._mistake: ConfigError | None = None
        self._has_ended = False
        self.latest = Latest(self._statuses({}), time.time())

    def shown(self) -> str:
        """The config in force for people, without secrets."""
        return self._planned.shown

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Start the supervisors."""
        self._tasks = tasks
        settings = self._planned.config.collection
        for name, plan in self._planned.plans.items():
            if name not in self._supervisors:
                self._leaving[name] = leaving = [task for task in self._leaving.get(name, []) if not task.done()]
                self._supervisors[name] = tasks.create_task(self._after([*leaving], plan, settings))

    async def reload(self) -> ConfigError | None:
        """Read the config again, all or nothing; returns the error of an invalid config, and changes nothing.

        Unchanged pipelines go on undisturbed.  One read answers every request that came before the read.
        """
        self._asked += 1
        mine = self._asked
        async with self._turn:
            if self._answered < mine:
                self._answered = self._asked
                self._mistake = await self._reload()
            return self._mistake

    async def _reload(self) -> ConfigError | None:
        try:
            planned = await self._reader.read()
        except ConfigError as error:
            self.latest.reload_failed()
            log.error("config.reload_failed", extra={"error": str(error)})  # noqa: TRY400 - it is the operator's
            return error
        if self._has_ended:
            return None
        before, plans = self._planned, planned.plans
        kept = {
            name
            for name, plan in plans.items()
            if plan == before.plans.get(name) and planned.config.collection == before.config.collection
        }
        for name in self._supervisors.keys() - kept:
            supervisor = self._supervisors.pop(name)
            supervisor.cancel()
            self._leaving.setdefault(name, []).append(supervisor)
        statuses = {name: self.latest.board.statuses[name] for name in kept}
        self._planned = planned
        self.latest.reloaded(self._statuses(statuses), time.time())
        if self._tasks is not None:
            self.begin(self._tasks)
        log.info(
            "config.reloaded", extra={"kept": ",".join(sorted(kept)), "begun": ",".join(sorted(plans.keys() - kept))}
        )
        return None

    def end(self) -> None:
        """Stop for good: a later reload starts nothing."""
        self._has_ended = True
        for supervisor in self._supervisors.values():
            supervisor.cancel()

    def _statuses(self, kept: Mapping[str, PipelineStatus]) -> list[PipelineStatus]:
        max_age = self._planned.config.collection.max_age.total_seconds()
        return [kept.get(name) or initial_status(plan, max_age) for name, plan in self._planned.plans.items()]

    async def _after(self, leaving: list[asyncio.Task[None]], plan: Plan, settings: CollectionSettings) -> None:
        """Supervise a pipeline after the earlier supervisors have ended: a cancelled statement may still run."""
        try:
            if leaving:
                await asyncio.wait(leaving)
        finally:
            # The error of a cancelled task keeps this frame: a chain of every supervisor since the start.
            leaving.clear()
        turn = self._turns.of(plan)
        await supervise(plan, self.latest, settings, turn, Rounds(settings))
