"""The bound on connections: collections of one database take turns."""

import asyncio

from exporter.model.sections import Database


class Turns:
    """For each database of the config, a semaphore with a place for each allowed connection."""

    def __init__(self) -> None:
        """Without databases."""
        self._places: dict[str, tuple[int, asyncio.Semaphore]] = {}

    def of(self, name: str, database: Database) -> asyncio.Semaphore:
        """The places of a database, by its name in the config; a changed number makes new places."""
        most, places = self._places.get(name, (0, asyncio.Semaphore(0)))
        if most != database.max_connections:
            most, places = database.max_connections, asyncio.Semaphore(database.max_connections)
            self._places[name] = (most, places)
        return places
