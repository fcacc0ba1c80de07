"""The pause switch of an operator: while a file exists, nothing is measured."""

import asyncio
import stat
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from exporter.connection.threads import in_thread, take_error
from exporter.model.fault import CollectionError, Fault

T = TypeVar("T")

LOOKS_EVERY: Final = 0.5
"""Seconds between two looks for the file during a collection."""

ANSWER_SECONDS: Final = 1.0
"""Seconds for the file system to answer."""


async def unless_paused(work: Callable[[], Coroutine[Any, Any, T]], file: str | None) -> T:
    """The result of the work; raises CollectionError as soon as the file exists, and cancels the work.

    `file` None: there is no switch.
    """
    if file is None:
        return await work()
    if fault := await _pause(file):
        raise CollectionError(fault)
    working = asyncio.create_task(work())
    # In a pause the fault is the pause, and no other.
    working.add_done_callback(take_error)
    try:
        while not working.done():
            await asyncio.wait([working], timeout=LOOKS_EVERY)
            if not working.done() and (fault := await _pause(file)):
                raise CollectionError(fault)
        return working.result()
    finally:
        if not working.done():
            working.cancel()
            # The statement on the server is cancelled before the next collection.
            await asyncio.wait([working])


async def _pause(file: str) -> Fault | None:
    """The fault if the file exists, or if the exporter cannot see whether the file exists."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            is_there = await in_thread(("pause", file), _exists, file)
    except TimeoutError:
        return Fault("paused", "the file system of collection.pause_file does not answer: check the file system")
    except OSError as error:
        return Fault("paused", f"collection.pause_file cannot be looked up ({error.strerror}): correct the path")
    if not is_there:
        return None
    return Fault("paused", "the file of collection.pause_file exists: remove the file to measure again")


def _exists(file: str) -> bool:
    try:
        return bool(stat.S_IFMT(Path(file).stat().st_mode))
    except (FileNotFoundError, NotADirectoryError):
        return False
