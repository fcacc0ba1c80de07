"""The web config in force: read at the start, and read again when the file or a file named in it changes."""

import logging
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporter.config.read import ConfigError, Problem
from exporter.serve.authentication import Bucket, Passwords, gate
from exporter.serve.door import Door
from exporter.serve.tls import TlsError, file_faults, named_files, newest_context, server_context
from exporter.serve.web_config import WebConfig, read_web_config

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 1.0
"""Time between two looks at the files."""

_ATTEMPTS: Final = 3
"""Attempts to read files that change meanwhile."""

Stamp = tuple[int, ...]
"""Tells whether a file has changed: device, inode, size and times; or the error code of a file that is not there."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A web config with the context made of it; None without TLS."""

    config: WebConfig
    context: ssl.SSLContext | None


class Secured:
    """The web config of a file.  `current` is replaced as a whole, by a thread."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises ConfigError."""
        self.path = path
        self._files: tuple[Path, ...] = (path,)
        self._done: Mapping[Path, Stamp] = {}
        self._changing: Mapping[Path, Stamp] | None = None
        found = self._read() or self._attempt()
        if isinstance(found, Exception):
            raise found
        self.current = found

    def check(self) -> None:
        """Read the files again if one has changed; a mistake is logged once, and changes nothing.

        A change is read when two checks in a row find the same, so that a half-written file is never read.
        """
        stamps = self._stamps()
        if stamps == self._done:
            self._changing = None
        elif stamps != self._changing:
            self._changing = stamps
        else:
            self._changing = None
            self._reload()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Check every second, on a thread that delays neither a request nor the end of the process."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(CHECK_SECONDS):
                self.check()

        threading.Thread(target=watch, name="web config", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _reload(self) -> None:
        found = self._read()
        if isinstance(found, Settings) and (found.context is None) != (self.current.context is None):
            problem = Problem("tls_server_config", "begins and ends only with the process: restart the exporter")
            found = ConfigError(str(self.path), (problem,))
        match found:
            case Settings():
                self.current = found
                log.info(
                    "web_config.reloaded",
                    extra={"tls": found.context is not None, "authentication": found.config.is_authenticated},
                )
            case ConfigError():
                log.error("web_config.reload_failed", extra={"error": str(found)})
            case Exception():
                log.error("web_config.reload_failed", exc_info=found)

    def _read(self) -> Settings | Exception | None:
        """The settings, or the mistakes; None if the files change all the time."""
        for _ in range(_ATTEMPTS):
            before = self._stamps()
            found = self._attempt()
            if self._stamps() == before:
                self._done = before
                return found
        return None

    def _attempt(self) -> Settings | Exception:
        try:
            return self._settings()
        except Exception as error:  # noqa: BLE001 - a fault of the exporter ends no watch
            return error

    def _settings(self) -> Settings:
        folder = self.path.parent

        def faults(written: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
            # Also the files of a config with mistakes: a file that is missing may come later.
            self._files = (self.path, *(file for _, file in named_files(written, folder)))
            yield from file_faults(written, folder)

        config = read_web_config(self.path, faults)
        tls = config.tls_server_config
        try:
            return Settings(config, server_context(tls, folder) if tls else None)
        except TlsError as error:
            problem = Problem(f"tls_server_config.{error.key}", error.message)
            raise ConfigError(str(self.path), (problem,)) from None

    def _stamps(self) -> dict[Path, Stamp]:
        return {file: _stamp(file) for file in self._files}


def secured_door(path: Path) -> Door:
    """The door that the file at `path` describes; raises ConfigError."""
    secured = Secured(path)
    start = secured.current
    return Door(
        tls=newest_context(lambda: secured.current.context) if start.context else None,
        middlewares=(gate(lambda: secured.current.config, Passwords(), Bucket()),),
        is_authenticated=start.config.is_authenticated,
        watched=secured.watched,
    )


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        return (getattr(error, "errno", None) or 0,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
