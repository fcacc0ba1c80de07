"""A list is kept in a temporary file until it is complete."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Final

from exporter.text.exits import NotMeasuredError


class SpoolError(NotMeasuredError):
    """The list cannot be kept until it is whole; the message names the remedy."""

    def __init__(self, why: str | None) -> None:
        super().__init__(
            f"the list cannot be kept until it is whole ({why}): set TMPDIR to a folder with room for all of it"
        )


IN_MEMORY: Final = 1 << 20
"""Bytes of a list that need no file."""


@contextmanager
def temporary_file() -> Iterator[IO[bytes]]:
    """A file without a name, which nobody else can open and nothing is left of; small ones are kept in memory.

    In TMPDIR, else in /var/tmp, which unlike /tmp is seldom a file system in memory.
    https://refspecs.linuxfoundation.org/FHS_3.0/fhs/ch05s15.html
    """
    large = "/var/tmp"  # noqa: S108 - the file has no name there
    folder = None if os.environ.get("TMPDIR") or not os.access(large, os.W_OK) else large
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=folder) as file:
        yield file
