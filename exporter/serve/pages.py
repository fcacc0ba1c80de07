"""Pages for people: rendered in a thread, each at most once a second."""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

FRESH_SECONDS: Final = 1.0
"""Seconds for which a page answers every request: the ages on a page are to the second."""

WAITING: Final = 40
"""Requests that may wait for a page, as in node_exporter; a request too many gets the status 503."""


class TooManyWaitingError(Exception):
    """WAITING requests wait already."""


@dataclass(frozen=True, slots=True)
class _Rendering:
    """A page, finished or not: `about` is the state that the page shows, `began` in seconds of the event loop."""

    about: Hashable
    began: float
    body: asyncio.Future[bytes]

    def answers(self, about: Hashable, now: float) -> bool:
        """Whether the page answers a request: while it is being rendered, of any state, so that one thread renders."""
        if not self.body.done():
            return True
        return self.about == about and now - self.began < FRESH_SECONDS and self.body.exception() is None


class Pages:
    """The latest rendering of each page."""

    def __init__(self) -> None:
        """Without a page."""
        self._latest: dict[Hashable, _Rendering] = {}
        self._waiting = 0

    async def get(self, page: Hashable, about: Hashable, render: Callable[[], bytes]) -> bytes:
        """The body of a page about a state; raises TooManyWaitingError."""
        loop = asyncio.get_running_loop()
        latest = self._latest.get(page)
        if latest is not None and latest.body.done() and latest.answers(about, loop.time()):
            return latest.body.result()
        if self._waiting >= WAITING:
            raise TooManyWaitingError
        if latest is None or not latest.answers(about, loop.time()):
            latest = _Rendering(about, loop.time(), loop.run_in_executor(None, render))
            self._latest[page] = latest
        self._waiting += 1
        try:
            return await asyncio.shield(latest.body)
        finally:
            self._waiting -= 1
