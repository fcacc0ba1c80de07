"""A temporary file for an incomplete list."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

from exporter.text.exits import NotMeasuredError


class SpoolError(NotMeasuredError):
    """The temporary file cannot be written; the message names the remedy."""

    def __init__(self, why: str | None) -> None:
        super().__init__(f"cannot write the temporary file ({why}): set TMPDIR to a folder with more space")


IN_MEMORY: Final = 1 << 20
"""Bytes: a smaller list stays in memory."""


@contextmanager
def temporary_file() -> Iterator[IO[bytes]]:
    """A file without a name, in TMPDIR or else in /var/tmp; small files stay in memory.

    No other process can open the file, and nothing remains after the end.  Unlike /var/tmp, /tmp is often in memory.
    https://refspecs.linuxfoundation.org/FHS_3.0/fhs/ch05s15.html
    """
    large = "/var/tmp"  # noqa: S108 - the file has no name there
    folder = None if os.environ.get("TMPDIR") or not os.access(large, os.W_OK) else large
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=folder) as file:
        yield file
