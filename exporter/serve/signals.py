"""Signals -> calls on the event loop, however many signals arrive."""

import asyncio
import signal
from collections.abc import Callable
from types import FrameType


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        call_on(number, stop.set)
    return stop


def call_on(number: signal.Signals, act: Callable[[], object]) -> None:
    """Call `act` on the running event loop at a signal; one flood of signals may become one call or more.

    The loop reads the numbers of signals from a pipe.  A flood fills the pipe, and the loop then misses numbers, such
    as the number of SIGTERM.  Python's own handler misses none; the pipe still wakes the loop.
    https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
    """
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(number, _wake)

    def handle(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)

    signal.signal(number, handle)
    signal.siginterrupt(number, False)  # noqa: FBT003 - the parameter has no name
    # Without the warning that Python writes to standard error for each number that the pipe does not take.
    signal.set_wakeup_fd(signal.set_wakeup_fd(-1), warn_on_full_buffer=False)


def _wake() -> None:
    """Nothing: the pipe has woken the loop."""
