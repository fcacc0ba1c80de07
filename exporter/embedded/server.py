"""Start and stop a temporary PostgreSQL server that never outlives its owner."""

import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

from exporter.embedded.binaries import Binaries, EmbeddedPostgresError, find_binaries

START_SECONDS = 60.0
"""Seconds for `initdb` or a start, at most; usually less than one second."""
PORT_ATTEMPTS = 10
# The folders that are made in these have secret names.
_PLAIN_DIRECTORY = Path("/tmp")  # noqa: S108
_OTHER_DIRECTORIES = (Path("/var/tmp"),)  # noqa: S108
SOCKET_PATH_BYTES = 103
"""The shortest limit on the path of a Unix socket (macOS); Linux allows 107."""

# Data that is thrown away needs no protection from a power cut:
# https://www.postgresql.org/docs/current/non-durability.html
_DEFAULTS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_RESERVED = {"listen_addresses", "port", "unix_socket_directories", "unix_socket_permissions"}


def _silent(_message: str) -> None:
    """Report nothing."""


class EmbeddedPostgres:
    """A temporary PostgreSQL server in a new folder, for a `with` statement.

    The server listens on 127.0.0.1 and on a Unix socket, both with a random password. After the
    owner's end, also by SIGKILL, a watchdog process ends the server and removes the folder.
    PostgreSQL refuses to run as root: for root the server runs as the user `postgres`, else `nobody`.
    """

    host: str = "127.0.0.1"  # "localhost" does not resolve in a bare container
    port: int
    """Fixed from `start()` to `stop()`, also after `stop_server()`."""
    run_directory: Path
    """The folder with every file of the server; removed by `stop()`."""
    socket_directory: Path
    log_file: Path
    password: str
    """The password of the superuser `postgres`."""

    def __init__(
        self,
        binaries: Binaries | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        directory: Path | None = None,
        report: Callable[[str], None] = _silent,
    ) -> None:
        """Prepare the server; `start()` makes the files.

        `binaries`: default `find_binaries()`. `settings`: of postgresql.conf; they override the
        defaults fsync=off, synchronous_commit=off, full_page_writes=off and pg_stat_statements.
        `directory`: the parent of the run folder, default the system's temporary folder.
        `report` gets one line for each step.
        """
        self._binaries = binaries
        self._settings = {name.lower(): value for name, value in (settings or {}).items()}
        self._parent = directory
        self._report = report
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._folders: list[Path] = []
        self._identity = _unprivileged_identity() if os.geteuid() == 0 else {}

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop."""
        self.stop()

    @property
    def process_id(self) -> int | None:
        """The postmaster's process id, None while the server is down."""
        return self._server.pid if self._server and self._server.poll() is None else None

    @property
    def data_directory(self) -> Path:
        """The cluster's folder (PGDATA)."""
        return self.run_directory / "data"

    @property
    def _status_file(self) -> Path:
        return self.data_directory / "postmaster.pid"

    def dsn(self, database: str = "postgres", user: str = "postgres", password: str | None = None) -> str:
        """Return a postgresql:// URL over TCP; the superuser's password is filled in."""
        if password is None and user == "postgres":
            password = self.password
        secret = "" if password is None else f":{quote(password, safe='')}"
        name, base = quote(user, safe=""), quote(database, safe="")
        return f"postgresql://{name}{secret}@{self.host}:{self.port}/{base}"

    def start(self) -> None:
        """Make a new cluster and start the server; on return the server accepts connections.

        Raises EmbeddedPostgresError, with the end of the server's log if the log exists.
        """
        if self._watchdog:
            raise EmbeddedPostgresError("This server was started before. Call stop() first.")
        if reserved := self._settings.keys() & _RESERVED:
            raise EmbeddedPostgresError(f"Leave out the settings {', '.join(sorted(reserved))}: start() chooses them.")
        binaries = self._binaries or find_binaries()
        try:
            self._start_watchdog()
            self._programs = self._make_run_directory(binaries)
            self._initialise()
            self._start_on_a_free_port()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove the folder; without effect after an earlier stop."""
        if not self._watchdog:
            return
        self.stop_server()
        watchdog, self._watchdog = self._watchdog, None
        self._report("Removing the PostgreSQL cluster")
        if watchdog.stdin:
            watchdog.stdin.close()
        watchdog.wait()
        for folder in self._folders:
            # The folder still exists only after a killed watchdog.
            shutil.rmtree(folder, ignore_errors=True)
        self._folders.clear()

    def stop_server(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server as `pg_ctl stop -m` does and keep its data and its port.

        "immediate" is a crash: the next start recovers. Without effect while the server is down.
        https://www.postgresql.org/docs/current/server-shutdown.html
        """
        if self._server:
            self._end(self._server, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            self._server = None

    def start_server(self) -> None:
        """Start the server again after `stop_server()` or a crash, on the same port.

        Raises EmbeddedPostgresError if the server does not start or another process took the port.
        """
        if not self._watchdog:
            raise EmbeddedPostgresError("This server has no cluster. Call start() first.")
        if self.process_id:
            return
        self.stop_server()  # only to take note of a crash
        if not self._try_start_server():
            raise EmbeddedPostgresError(f"Another process took port {self.port}. End it, or start a new server.")

    def _start_watchdog(self) -> None:
        # A session of its own: ctrl-C does not reach it. No output of ours: who waits for the end
        # of our output does not wait for it. Its input is the pipe that our end closes.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", Path(__file__).with_name("watchdog.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )

    def _tell(self, *message: str | int) -> None:
        if self._watchdog and self._watchdog.stdin:
            try:
                self._watchdog.stdin.write(json.dumps(message).encode() + b"\n")
            except BrokenPipeError as error:
                raise EmbeddedPostgresError("The watchdog was killed. Call stop(), then start().") from error

    def _make_run_directory(self, binaries: Binaries) -> Binaries:
        """Make the folders; return programs that the server's user can execute."""
        usual = (Path(tempfile.gettempdir()), *_OTHER_DIRECTORIES)
        problems: list[str] = []
        for parent in (self._parent.absolute(),) if self._parent else usual:
            try:
                return self._make_run_directory_in(parent, binaries)
            except OSError as error:
                problems.append(f"{parent}: {error}")
        raise EmbeddedPostgresError(
            "There is no directory to run the server in. Set TMPDIR to a directory with space that every user "
            f"may enter and run programs in ({'; '.join(problems)}). As root in a container without other users, "
            "start as an ordinary user."
        )

    def _make_run_directory_in(self, parent: Path, binaries: Binaries) -> Binaries:
        self.run_directory = parent / f"she-{secrets.token_hex(6)}"
        self.log_file = self.run_directory / "server.log"
        plain = self.run_directory
        if _is_odd(plain) or len(os.fsencode(plain / "socket/.s.PGSQL.65535")) > SOCKET_PATH_BYTES:
            plain = _PLAIN_DIRECTORY / self.run_directory.name
        self.socket_directory = plain / "socket"
        for folder in {self.run_directory, plain}:
            self._folders.append(folder)
            self._tell("folder", str(folder))
            # For root the folder belongs to root, and the server's user may pass through.
            folder.mkdir(mode=0o700)
            folder.chmod(0o711 if self._identity else 0o700)
        for folder in (self.data_directory, self.socket_directory):
            folder.mkdir(mode=0o700)
            self._give(folder)
        self.log_file.touch(mode=0o600)
        if not self._may("-w", self.data_directory):
            raise PermissionError("the server's user may not enter the directory")
        if self._may("-x", binaries.directory / "postgres") and not _is_odd(binaries.directory):
            return binaries
        self._report(f"Copying the programs of {binaries.directory}")
        copy = binaries.copy_to(plain / "installation")
        for path in (copy.root, *copy.root.rglob("*")):
            self._give(path)
        if not self._may("-x", copy.directory / "postgres"):
            raise PermissionError("the directory does not allow programs (noexec)")
        return copy

    def _initialise(self) -> None:
        """Fill the data directory, and set `password`: the place for another way than `initdb` to make a cluster."""
        self._report(f"Making a PostgreSQL cluster in {self.data_directory}")
        secret = self.run_directory / "password"
        self.password = secrets.token_urlsafe(24)
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        self._give(secret)
        self._run(
            "initdb",
            *("-D", str(self.data_directory), "-U", "postgres", "-A", "scram-sha-256"),
            *("--pwfile", str(secret), "--locale=C", "-E", "UTF8", "--no-sync"),
            "--no-instructions",
        )
        secret.unlink()

    def _run(self, program: str, *arguments: str) -> None:
        """Run a program of the server's to its end, as its user; raises EmbeddedPostgresError."""
        process = self._spawn(program, *arguments)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresError(f"{program} takes too long.{self._log_tail()}") from error
        finally:
            self._end(process, signal.SIGTERM)
        if process.returncode:
            raise EmbeddedPostgresError(f"{program} failed. Remove the cause in the log below.{self._log_tail()}")

    def _start_on_a_free_port(self) -> None:
        for _ in range(PORT_ATTEMPTS):
            self.port = _free_port()
            self._configure()
            if self._try_start_server():
                return
        raise EmbeddedPostgresError(f"Every port was taken. Try again.{self._log_tail()}")

    def _configure(self) -> None:
        # postgresql.auto.conf is read last. `-c` and `pg_ctl -o` would need quotes for a shell.
        directory = str(self.socket_directory).replace('"', '""')
        library = "pg_stat_statements"
        preload = {"shared_preload_libraries": library} if self._programs.has(library) else {}
        settings = {
            **_DEFAULTS,
            **preload,
            **self._settings,
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": f'"{directory}"',
            "unix_socket_permissions": "0700",
        }
        lines = [f"{name} = {_literal(value)}\n" for name, value in settings.items()]
        (self.data_directory / "postgresql.auto.conf").write_text("".join(lines))

    def _try_start_server(self) -> bool:
        """Start the server and wait until it is ready; False if its port is taken."""
        self._report(f"Starting PostgreSQL on {self.host}:{self.port}")
        before = self.log_file.stat().st_size
        process = self._server = self._spawn("postgres", "-D", str(self.data_directory))
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            # https://www.postgresql.org/docs/current/storage-file-layout.html: postmaster.pid
            # holds the process id, then among others the status, "ready" or not, as line 8.
            with contextlib.suppress(FileNotFoundError):
                lines = [line.strip() for line in self._status_file.read_text().split("\n")]
                if lines[0] == str(process.pid) and lines[7:8] == ["ready"]:
                    return True
            time.sleep(0.01)
        self.stop_server("immediate")
        if b"Address already in use" in self.log_file.read_bytes()[before:]:
            return False
        raise EmbeddedPostgresError(f"PostgreSQL did not start. Remove the cause in the log below.{self._log_tail()}")

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        self._tell("starting", str(self._status_file))
        with self.log_file.open("ab") as log:
            # A session of its own: ctrl-C ends the owner, which then stops the server in order.
            process = subprocess.Popen(
                [self._programs.directory / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment(),
                start_new_session=True,
                **self._identity,
            )
        try:
            self._tell("alive", process.pid)
        except EmbeddedPostgresError:
            self._end(process, signal.SIGQUIT)
            raise
        return process

    def _end(self, process: subprocess.Popen[bytes], first: signal.Signals) -> None:
        for number, seconds in ((first, 15), (signal.SIGQUIT, 5), (signal.SIGKILL, 5)):
            if process.poll() is not None:
                break
            with contextlib.suppress(ProcessLookupError, PermissionError):  # ended meanwhile
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        with contextlib.suppress(EmbeddedPostgresError):  # a killed watchdog needs no news
            self._tell("ended", process.pid)

    def _environment(self) -> dict[str, str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        if self._programs.library_path:
            name = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
            own = str(self._programs.library_path)
            environment[name] = os.pathsep.join(filter(None, [own, environment.get(name)]))
        return environment | {"LC_ALL": "C", "TZ": "UTC"}

    def _give(self, path: Path) -> None:
        if self._identity:
            user, group = self._identity["user"], self._identity["group"]
            os.chown(path, user, group, follow_symlinks=False)

    def _may(self, what: Literal["-w", "-x"], path: Path) -> bool:
        """Whether the server's user may write or execute this."""
        answer = subprocess.run(
            ["/bin/sh", "-c", f'test {what} "$1"', "sh", path],
            check=False,
            cwd="/",
            **self._identity,
        )
        return answer.returncode == 0

    def _log_tail(self) -> str:
        if not self.log_file.exists():
            return ""
        lines = self.log_file.read_text(errors="replace").splitlines()[-20:]
        return "\n".join(["\nThe server's log ends:", *lines])


def _unprivileged_identity() -> dict[str, Any]:
    """Return arguments for subprocess.run and Popen to run a program as another user than root."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`. "
        "Start as an ordinary user."
    )


def _free_port() -> int:
    """Find a port below the range of client ports (32768 and above).

    While the server is down, a client that retries could get the port as its own client port, and
    connect to itself.
    """
    while True:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
            with contextlib.suppress(OSError):
                probe.bind((EmbeddedPostgres.host, port))
                return port


def _literal(value: str) -> str:
    """Quote a value for postgresql.conf, where a backslash escapes."""
    for plain, escaped in (("\\", "\\\\"), ("'", "''"), ("\n", "\\n")):
        value = value.replace(plain, escaped)
    return f"'{value}'"


def _is_odd(path: Path) -> bool:
    """Whether `initdb` could not start `postgres` there: `initdb` quotes the path for a shell."""
    return any(character in str(path) for character in '"$`\\\n')
