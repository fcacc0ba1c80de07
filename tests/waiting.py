"""Time limits of the tests.  Every limit is for an idle machine; `at_most` makes the limit longer on a busy machine.

A condition that holds ends the wait at once, so a long limit costs time only if the test fails.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

VARIABLE: Final = "SESSION_HEALTH_TEST_PATIENCE"

START_SECONDS: Final = 20.0
"""For a process to listen, or to run to its end; usually half a second."""

_LEAST_IN_CI: Final = 3.0
_MOST: Final = 5.0
"""So that a limit stays below the 60 s of the statements, locks and names that never end."""


def patience() -> float:
    """The factor of the environment; without one, from the machine's load now, and at least 3 in CI."""
    if given := os.environ.get(VARIABLE):
        return float(given)
    least = 1.0 if os.environ.get("CI", "").lower() in {"", "0", "false"} else _LEAST_IN_CI
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(max(least, busy), _MOST)


def at_most(seconds: float) -> float:
    """A time limit on this machine: `seconds` are for an idle machine."""
    return seconds * patience()


def soon(condition: Callable[[], T], seconds: float = 10.0) -> T:
    """Wait until the condition holds, at most `at_most(seconds)`; the last answer."""
    deadline = time.monotonic() + at_most(seconds)
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


async def eventually(condition: Callable[[], T], seconds: float = 10.0) -> T:
    """The same while the event loop goes on."""
    deadline = time.monotonic() + at_most(seconds)
    while True:
        if (met := condition()) or time.monotonic() >= deadline:
            return met
        await asyncio.sleep(0.05)
