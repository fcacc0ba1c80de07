"""A command's asynchronous work: run until done, until SIGTERM, or until a signal asks a server to stop."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import Any, TypeVar

from exporter.connection.dial import report_unhandled
from exporter.text import logs
from exporter.text.exits import StoppedError

T = TypeVar("T")


def finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of the work.  Raises StoppedError when SIGTERM ends the work."""

    async def stoppable() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        loop.set_default_executor(_UnwaitedThreads())
        loop.set_exception_handler(report_unhandled)
        if task is not None:
            # As SIGINT does: the statement that runs on the server is cancelled before the process ends.
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        raise StoppedError from None


def serve_until_stopped(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a server that ends after SIGINT or SIGTERM sets its event."""
    from exporter.serve.signals import stop_on_signals  # noqa: PLC0415 - the web server is loaded only here

    async def until_stopped() -> None:
        await work(stop_on_signals())

    with logs.in_background():
        finish(until_stopped())


class _UnwaitedThreads(ThreadPoolExecutor):
    """Threads that do not delay the end of the process: a thread may wait for a silent DNS server."""

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        """Run `fn` in a thread of its own."""
        future: Future[T] = Future()
        # A cancelled caller takes no result; the future belongs to the thread until the thread ends.
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - the caller gets the error
                future.set_exception(error)

        Thread(target=work, daemon=True).start()
        return future
