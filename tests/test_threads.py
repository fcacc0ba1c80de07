"""Calls that never return take one thread for each subject."""

import asyncio
import threading

import pytest
from waiting import at_most

from exporter.connection.threads import in_thread


async def test_a_call_that_never_returns_takes_one_thread() -> None:
    release, begun = threading.Event(), []

    def silent() -> str:
        begun.append(1)
        release.wait()
        return "an answer"

    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(at_most(0.02)):
                await in_thread("a host", silent)
    other = await in_thread("another host", lambda: "at once")
    waiting = asyncio.create_task(in_thread("a host", silent))
    await asyncio.sleep(0)
    release.set()

    assert (await waiting, other, len(begun)) == ("an answer", "at once", 1)
    assert (await in_thread("a host", silent), len(begun)) == ("an answer", 2)


async def test_an_error_reaches_who_waits_and_is_not_kept() -> None:
    def fails() -> None:
        raise OSError("no such host")

    for _ in range(2):
        with pytest.raises(OSError, match="no such host"):
            await in_thread("a host", fails)
