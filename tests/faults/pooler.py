"""A PgBouncer in front of a server, which can be killed, paused and started again."""

import asyncio
import os
import pwd
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
from proxy import HOST, free_port
from tools import find_tool
from waiting import at_most

from exporter.embedded import EmbeddedPostgres


@dataclass
class Pooler:
    """PgBouncer in transaction mode with a pool of two connections, on a fixed port; skips the test without PgBouncer.

    `users`: the password of each role.
    """

    server: EmbeddedPostgres
    users: dict[str, str]
    port: int = field(default_factory=free_port)
    _folder: Path = Path()
    _process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        # Among the server's folders, which are removed with the server.
        self._folder = Path(tempfile.mkdtemp(prefix="pooler", dir=self.server.run_directory))
        lines = "".join(f'"{user}" "{password}"\n' for user, password in self.users.items())
        (self._folder / "userlist.txt").write_text(lines)
        (self._folder / "pgbouncer.ini").write_text(
            f"""
            [databases]
            * = host={self.server.host} port={self.server.port}
            [pgbouncer]
            listen_addr = {HOST}
            listen_port = {self.port}
            unix_socket_dir =
            auth_type = scram-sha-256
            auth_file = {self._folder}/userlist.txt
            pool_mode = transaction
            default_pool_size = 2
            server_login_retry = 1
            """
        )
        owner = self.server.data_directory.stat()
        for path in (self._folder, *self._folder.iterdir()):
            os.chown(path, owner.st_uid, owner.st_gid)
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.to_thread(self.kill)

    async def start(self) -> None:
        """Start; on return PgBouncer listens."""
        program = find_tool("pgbouncer")
        owner = self.server.data_directory.stat()
        user = ["-u", pwd.getpwuid(owner.st_uid).pw_name] if owner.st_uid != os.geteuid() else []
        self._start(program, *user, self._folder / "pgbouncer.ini")
        deadline = time.monotonic() + at_most(5)
        while time.monotonic() < deadline:
            try:
                _, writer = await asyncio.open_connection(HOST, self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        pytest.fail(f"PgBouncer does not listen: {(self._folder / 'log').read_text()}")

    def _start(self, *command: str | Path) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [command[0], "-q", *command[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """End with SIGKILL; without effect after the end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Hold every client until `resume`, as the command PAUSE does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)

    def resume(self) -> None:
        """Go on, as the command RESUME does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2)
