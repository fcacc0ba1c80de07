"""The bound on connections: collections of one database take turns."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from exporter.model.sections import Database
from exporter.plan.plan import Plan


class Turn(AbstractAsyncContextManager[None]):
    """A place in each database of a collection; one after the other, and every collection in the same order."""

    def __init__(self, places: Sequence[asyncio.Semaphore]) -> None:
        """Hold nothing yet; several collections may use one turn."""
        self._places = tuple(places)

    async def __aenter__(self) -> None:
        """Wait for every place."""
        held = 0
        try:
            for place in self._places:
                await place.acquire()
                held += 1
        except BaseException:
            self._free(held)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Free every place."""
        self._free(len(self._places))

    def _free(self, held: int) -> None:
        for place in self._places[:held]:
            place.release()


class Turns:
    """For each database of the config, a semaphore with a place for each allowed connection."""

    def __init__(self) -> None:
        """Without databases."""
        self._places: dict[str, tuple[int, asyncio.Semaphore]] = {}

    def of(self, plan: Plan) -> Turn:
        """The turn of a pipeline.

        In the order of names: two collections that each hold the place that the other waits for would wait for ever.
        """
        databases = {plan.pipeline.database: plan.database, **plan.others}
        return Turn([self._of(name, database) for name, database in sorted(databases.items())])

    def _of(self, name: str, database: Database) -> asyncio.Semaphore:
        """The places of a database, by its name in the config; a changed number makes new places."""
        most, places = self._places.get(name, (0, asyncio.Semaphore(0)))
        if most != database.max_connections:
            most, places = database.max_connections, asyncio.Semaphore(database.max_connections)
            self._places[name] = (most, places)
        return places
