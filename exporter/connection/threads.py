"""Calls that may never return, each in a thread: the names of hosts, and files on a network."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_pending: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, asyncio.Future[Any]]]] = WeakKeyDictionary()
"""The unfinished calls of each event loop."""


async def in_thread(about: Hashable, call: Callable[..., T], /, *arguments: object) -> T:
    """The result of a call in a thread, at most one thread for a subject: a later caller waits for the earlier call.

    A caller that gives up leaves the thread to the next caller.  Without this, a name server or a file system that
    never answers would take one more thread at each attempt.
    """
    loop = asyncio.get_running_loop()
    pending = _pending.setdefault(loop, {})
    future = pending.get(about)
    if future is None:
        future = pending[about] = loop.run_in_executor(None, lambda: call(*arguments))
        future.add_done_callback(lambda done: _forget(pending, about, done))
    result: T = await asyncio.shield(future)
    return result


def _forget(pending: dict[Hashable, asyncio.Future[Any]], about: Hashable, done: asyncio.Future[Any]) -> None:
    if pending.get(about) is done:
        del pending[about]
    take_error(done)


def take_error(done: asyncio.Future[Any]) -> None:
    """Take the error of a finished call or task whose caller may have gone: asyncio would log a traceback of it.

    For `add_done_callback`.
    """
    if not done.cancelled():
        done.exception()
