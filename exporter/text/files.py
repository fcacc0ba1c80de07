"""Files: read within a bound, and written under a temporary name.

Only regular files are read: a named pipe would block until a writer comes, and a device has no end.  A written file is
synced and renamed: after an error, a crash or on a full disk, the earlier file is unchanged.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from exporter.text.exits import OutputError, UsageError

MB: Final = 1 << 20

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a disk; other errors are of the name or of the permissions."""

_LONGEST_STEM: Final = 60
"""Characters of the name in the temporary name: file systems allow 255 bytes."""


# --- Reading


class FileRefusedError(Exception):
    """A file is of a kind or a size that the exporter does not read; the message has the fault."""


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading, without waiting.  Raises OSError and FileRefusedError."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a NUL in the name
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
    kind = os.fstat(number).st_mode
    if stat.S_ISREG(kind):
        return os.fdopen(number, "rb")
    os.close(number)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise FileRefusedError("not a regular file")


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.  Raises OSError and FileRefusedError."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise FileRefusedError(f"larger than {most // MB} MB")
    return content


def read_text(path: Path, most: int) -> str:
    """The same as text, with a newline at the end of each line.  Raises UnicodeDecodeError, too."""
    return read_bytes(path, most).decode().replace("\r\n", "\n").replace("\r", "\n")


# --- Writing


@contextmanager
def beside(path: Path, mode: int = 0o600, *, replaces: bool = True) -> Iterator[IO[bytes]]:
    """A temporary file beside `path`, synced and renamed to `path` at the end.

    After an error, or if empty, the file is removed.  Raises OSError; FileExistsError at the end if `path` exists and
    is not to be replaced.
    """
    temporary = path.with_name(f".{path.name[:_LONGEST_STEM]}.{secrets.token_hex(8)}")
    number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
            is_written = file.tell() > 0
            file.flush()
            os.fsync(number)
        if not replaces and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if is_written:
            temporary.rename(path)
            _sync_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Sync the new name.  Some file systems refuse: the file itself is synced."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file as by `beside`, readable only for the owner.

    Raises UsageError at once if the file cannot be made or `path` exists, and OutputError if the disk is full.
    """
    refuse_existing(path)
    is_of_caller = False
    try:
        with beside(path, replaces=False) as file:
            is_of_caller = True
            yield file
            is_of_caller = False
    except OSError as error:
        if is_of_caller:
            raise
        raise _not_written(path, error) from None


def refuse_existing(path: Path) -> None:
    """Raises UsageError if something has the name, also a link to nothing."""
    if os.path.lexists(path):
        raise _not_written(path, FileExistsError())


def save_new(path: Path, content: bytes) -> None:
    """Write a new file with the usual mode.  Raises UsageError, also if `path` exists, and OutputError."""
    try:
        with beside(path, 0o666, replaces=False) as file:
            file.write(content)
    except OSError as error:
        raise _not_written(path, error) from None


def save(path: Path, content: bytes) -> None:
    """Write a file, or replace a file at once.  Raises UsageError, and OutputError if the disk is full.

    A replaced file keeps its mode and, if the user may give files away, its owner.  A link stays, and its target is
    replaced.  Pipes, devices and open descriptors (/dev/stdout) are written directly.
    """
    try:
        _save(path, content)
    except OSError as error:
        raise _not_written(path, error) from None


def _save(path: Path, content: bytes) -> None:
    try:
        earlier = path.stat()
    except FileNotFoundError:
        earlier = None
    if earlier and (not stat.S_ISREG(earlier.st_mode) or path.absolute().parts[1:2] in {("dev",), ("proc",)}):
        path.write_bytes(content)
        return
    if earlier and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with beside(Path(os.path.realpath(path)), 0o600 if earlier else 0o666) as file:
        if earlier:
            with suppress(PermissionError):
                os.fchown(file.fileno(), earlier.st_uid, earlier.st_gid)
            os.fchmod(file.fileno(), earlier.st_mode & 0o777)
        file.write(content)


def _not_written(path: Path, error: OSError) -> UsageError | OutputError:
    if isinstance(error, FileExistsError):
        return UsageError(f"{path} exists: name another file, or remove it")
    if error.errno in _FULL:
        return OutputError(
            f"{path} is not written ({error.strerror}), and no file has changed: name a file on a disk with more space"
        )
    return UsageError(f"{path} cannot be written ({error.strerror}): name another file")
