"""A TCP proxy between the exporter and PostgreSQL whose behaviour changes while connections are open."""

import asyncio
import os
import secrets
import socket
import ssl
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Self

HOST: Final = "127.0.0.1"
TLS_REQUEST: Final = struct.pack("!ii", 8, 80877103)
"""The first bytes of a client that asks for TLS: SSLRequest of PostgreSQL's protocol."""
CHUNK: Final = 65536
_LOWEST_PORT: Final = 20000
_PORTS: Final = 12000
"""Below the ports that the system gives to clients."""
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the network does.

    `accepts`: what a new connection meets; "refuse" closes the port.  `ends_open`: open connections end the same way.
    `holds_up`, `holds_down`: bytes to the server, or to the client, wait until the next behaviour.  `delay`: seconds
    for each piece, each way.  `rate`: bytes a second to the client, None without a limit.  `cuts`: a connection is
    reset after so many bytes to the client; each connection takes the next number of the tuple, in turn.
    """

    accepts: Literal["pass", "refuse", "reset", "close", "silent", "garbage"] = "pass"
    ends_open: bool = False
    holds_up: bool = False
    holds_down: bool = False
    delay: float = 0.0
    rate: float | None = None
    cuts: tuple[int, ...] = ()


PASS: Final = Behaviour()
REFUSE: Final = Behaviour("refuse", ends_open=True)
RESET: Final = Behaviour("reset", ends_open=True)
CLOSE: Final = Behaviour("close", ends_open=True)
SILENT: Final = Behaviour("silent")
BLACK_HOLE: Final = Behaviour(holds_up=True, holds_down=True)
HALF_OPEN: Final = Behaviour(holds_down=True)
SLOW: Final = Behaviour(rate=1.0)
GARBAGE: Final = Behaviour("garbage", ends_open=True)


def free_port() -> int:
    """A port that no client gets as its own: a client that retries must never reach itself."""
    while True:
        port = _LOWEST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


@dataclass(eq=False, slots=True)
class _Line:
    """One connection of a client, with the connection to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    cut_at: int | None = None
    sent: int = 0

    def reset(self) -> None:
        """End both sides with RST."""
        for writer in filter(None, (self.client, self.server)):
            if (sock := writer.get_extra_info("socket")) is not None:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            writer.transport.abort()

    def close(self) -> None:
        """End both sides with FIN."""
        for writer in filter(None, (self.client, self.server)):
            writer.close()


@dataclass(eq=False)
class Proxy:
    """Listens on `port` and passes on to `upstream`, a port of this machine, as `behaviour` says.

    With `tls` the proxy speaks TLS with the client, as a server with this certificate does.
    """

    upstream: int
    tls: ssl.SSLContext | None = None
    port: int = 0
    behaviour: Behaviour = PASS
    ports: set[int] = field(default_factory=set)
    """The own ports of all connections to the server: `client_port` of pg_stat_activity."""
    accepted: int = 0
    """Connections of clients so far."""
    _server: asyncio.Server | None = None
    _lines: set[_Line] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self.port = free_port()
        await self._listen()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.behave(REFUSE)
        for line in [*self._lines]:
            line.reset()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port, backlog=1024)

    async def behave(self, behaviour: Behaviour) -> None:
        """Change for open and for new connections, at once."""
        self.behaviour = behaviour
        self._changed.set()
        self._changed = asyncio.Event()
        if behaviour.accepts == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
        elif behaviour.accepts != "refuse" and self._server is None:
            await self._listen()
        if behaviour.ends_open:
            for line in [*self._lines]:
                if behaviour.accepts in {"close", "garbage"}:
                    line.close()
                else:
                    line.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = _Line(writer)
        self._lines.add(line)
        self.accepted += 1
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._meet(line, reader)
        except asyncio.CancelledError:
            # The proxy ends: a task that ends cancelled is an error for asyncio's streams.
            line.reset()
        finally:
            self._lines.discard(line)
            self._tasks.discard(task)
            line.close()

    async def _meet(self, line: _Line, reader: asyncio.StreamReader) -> None:
        match self.behaviour.accepts:
            case "reset" | "refuse":
                line.reset()
                return
            case "close":
                return
            case "garbage":
                await reader.read(CHUNK)
                line.client.write(b"\xff" + os.urandom(63))
                await line.client.drain()
                return
            case "silent":
                await self._until(lambda: self.behaviour.accepts != "silent")
            case _:
                pass
        if self.behaviour.cuts:
            line.cut_at = self.behaviour.cuts[self.accepted % len(self.behaviour.cuts)]
        first = b"" if self.tls is None else await self._encrypted(line, reader, self.tls)
        server_reader, line.server = await asyncio.open_connection(HOST, self.upstream)
        self.ports.add(line.server.get_extra_info("sockname")[1])
        line.server.write(first)
        await asyncio.gather(
            self._carry(line, reader, line.server, is_down=False),
            self._carry(line, server_reader, line.client, is_down=True),
        )

    async def _encrypted(self, line: _Line, reader: asyncio.StreamReader, tls: ssl.SSLContext) -> bytes:
        """Agree to TLS if the client asks; the bytes of a client that does not ask."""
        first = await reader.readexactly(len(TLS_REQUEST))
        if first != TLS_REQUEST:
            return first
        line.client.write(b"S")
        await line.client.drain()
        await line.client.start_tls(tls)
        return b""

    async def _carry(
        self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_down: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._passing(is_down=is_down)
                if is_down and self.behaviour.rate is not None:
                    data = await self._drip(writer, data)
                if is_down and line.cut_at is not None and line.sent + len(data) >= line.cut_at:
                    writer.write(data[: line.cut_at - line.sent])
                    await writer.drain()
                    line.reset()
                    return
                line.sent += len(data) if is_down else 0
                writer.write(data)
                await writer.drain()
        await self._passing(is_down=is_down)
        line.close()

    async def _passing(self, *, is_down: bool) -> None:
        """Wait as long as bytes in this direction are held, then for the delay."""
        await self._until(lambda: not (self.behaviour.holds_down if is_down else self.behaviour.holds_up))
        if self.behaviour.delay:
            await asyncio.sleep(self.behaviour.delay)

    async def _drip(self, writer: asyncio.StreamWriter, data: bytes) -> bytes:
        """Write a byte at a time while there is a rate; the bytes that remain without one."""
        while data and (rate := self.behaviour.rate) is not None:
            writer.write(data[:1])
            await writer.drain()
            data = data[1:]
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 1 / rate)
        return data

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()
