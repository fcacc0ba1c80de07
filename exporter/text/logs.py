"""Log records -> logfmt or JSON on standard error, with the keys of Prometheus' own programs.

Messages are names of events, such as `collection.failing`; the keys have the details.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Final, Literal

from exporter.text.streams import is_utf8

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_NAMES: Final = {value: name.upper() for name, value in LEVELS.items()}
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str, style: Literal["logfmt", "json"]) -> None:
    """Send every record of `level` and above to standard error: in UTF-8, or else in ASCII with escapes."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter(style, in_ascii=not is_utf8(sys.stderr)))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LEVELS[level])


WAITING_LINES: Final = 1000
"""Lines that may wait for the reader of standard error; the exporter drops and counts later lines."""

LAST_LINES_SECONDS: Final = 0.5
"""Seconds for the last lines at the end of the process."""


@contextmanager
def in_background() -> Iterator[None]:
    """Write the log in a thread of its own: a pipe that no program reads stops the thread, not the exporter."""
    root = logging.getLogger()
    before = root.handlers
    lines: Queue[logging.LogRecord] = Queue(WAITING_LINES)
    waiting = _Waiting(lines)
    waiting.setFormatter(before[0].formatter if before else None)
    # The thread is a daemon, and `stop` would wait for the thread.
    QueueListener(lines, _Unbuffered()).start()
    root.handlers = [waiting]
    try:
        yield
    finally:
        await_written()
        root.handlers = before


def await_written() -> None:
    """Wait until the lines of the background are written, at most LAST_LINES_SECONDS."""
    last = time.monotonic() + LAST_LINES_SECONDS
    for handler in logging.getLogger().handlers:
        while isinstance(handler, _Waiting) and handler.lines.unfinished_tasks and time.monotonic() < last:
            time.sleep(0.01)


class _Waiting(QueueHandler):
    """Formats records, and queues the lines; a line too many is dropped, and the number of lost lines is logged."""

    def __init__(self, lines: "Queue[logging.LogRecord]") -> None:
        super().__init__(lines)
        self.lines = lines
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                told = {"name": __name__, "levelno": logging.WARNING, "msg": "log.dropped", "lines": self._dropped}
                self.queue.put_nowait(self.prepare(logging.makeLogRecord(told)))
                self._dropped = 0
            self.queue.put_nowait(record)
        except Full:
            self._dropped += 1


class _Unbuffered(logging.Handler):
    """Writes to the descriptor: a thread that hangs in a buffered write holds a lock that Python needs at exit."""

    def createLock(self) -> None:  # noqa: N802 - the name in the library
        # Only the thread writes.  `logging` waits for the locks of all handlers at exit.
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.getMessage()}\n".encode(errors="backslashreplace")
        try:
            while line:
                line = line[os.write(2, line) :]
        except OSError:
            # Standard error is closed, or on a full disk: there is no place to tell.
            return


class _Formatter(logging.Formatter):
    def __init__(self, style: Literal["logfmt", "json"], *, in_ascii: bool) -> None:
        super().__init__()
        self.as_json = style == "json"
        self.in_ascii = in_ascii

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = {
            "time": moment.replace("+00:00", "Z"),
            "level": _NAMES.get(record.levelno, record.levelname),
            "msg": record.getMessage(),
        }
        fields |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[1] is not None:
            # Only the type and the place of the exception: the text may quote a value of a row.
            fields["exception"] = type(record.exc_info[1]).__name__
            fields["at"] = _origin(record.exc_info[1])
        if self.as_json:
            return json.dumps(fields, default=str, ensure_ascii=self.in_ascii)
        return " ".join(f"{key}={self._logfmt(value)}" for key, value in fields.items())

    def _logfmt(self, value: object) -> str:
        text = str(value)
        plain = text and all(sign.isprintable() and sign not in ' "=\\' for sign in text)
        is_writable = text.isascii() or not self.in_ascii
        return text if plain and is_writable else json.dumps(text, ensure_ascii=self.in_ascii)


def _origin(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
