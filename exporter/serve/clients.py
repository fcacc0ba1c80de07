"""The clients of the web server: how many at once, and how long a client may take.

aiohttp bounds the size of a request, and closes connections that wait for the next request.
"""

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

from aiohttp import web

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may take: connections in total and for each address, and seconds.

    `head_seconds`: from the connection to the end of the first request, also for the handshake of TLS.
    `answer_seconds`: to read an answer.
    """

    most: int = 512
    most_of_address: int = 64
    head_seconds: float = 10.0
    answer_seconds: float = 60.0

    @classmethod
    def of_process(cls) -> Self:
        """Half of the files that the process may open: the other half is for the database, the config and the log.

        Raises the limit of the process as far as the system allows.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Above this number a loop over every possible file would take long, as some libraries do before an exec.
        wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        usual = cls()
        most = usual.most if soft == resource.RLIM_INFINITY else max(1, min(usual.most, soft // 2))
        return cls(most, min(usual.most_of_address, max(1, most // 2)))


_AGAIN_SECONDS: Final = 0.2
"""Seconds until the next attempt after the system refused a connection."""

_LOGGED_EVERY: Final = 60.0

_OWN_FAULT: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""Errors of one connection, not of this process: https://man7.org/linux/man-pages/man2/accept.2.html"""


class Clients:
    """The open connections of a web server; a connection too many costs the connection that waited longest."""

    def __init__(self, bounds: Bounds) -> None:
        """Without clients."""
        self._bounds = bounds
        self._open: dict[_Client, None] = {}
        self._of_transport: dict[asyncio.BaseTransport, _Client] = {}
        self._logged = float("-inf")

    async def admit(
        self, listening: socket.socket, protocol: Callable[[], web.RequestHandler], tls: ssl.SSLContext | None = None
    ) -> None:
        """Accept connections for ever; `protocol` makes the server's side of a connection.

        asyncio's own server accepts connections without a bound, and writes to the log for each refusal of the system.
        """
        loop = asyncio.get_running_loop()
        listening.setblocking(False)  # noqa: FBT003 - the parameter has no name
        while True:
            try:
                connection, place = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno not in _OWN_FAULT:
                    self._tell(error)
                    await asyncio.sleep(_AGAIN_SECONDS)
                continue
            address = str(place[0]) if isinstance(place, tuple) else ""
            if self._has_room(address):
                client = _Client(self, address, protocol())
                self._open[client] = None
                client.begin(connection, tls, self._bounds)
            else:
                connection.close()
            # In a flood there is always a next connection: other tasks go on, and closed connections go.
            await asyncio.sleep(0)

    def began(self, transport: asyncio.BaseTransport) -> None:
        """A whole request came over the connection, and is being answered."""
        if transport in self._of_transport:
            self._of_transport[transport].began(self._bounds.answer_seconds)

    def ended(self, transport: asyncio.BaseTransport) -> None:
        """The answer is on the way."""
        if transport in self._of_transport:
            self._of_transport[transport].is_busy = self._of_transport[transport].is_asking = False

    def __len__(self) -> int:
        """The number of open connections."""
        return len(self._open)

    def end(self) -> None:
        """Close every connection."""
        for client in list(self._open):
            client.end()

    def entered(self, client: "_Client", transport: asyncio.BaseTransport) -> None:
        """The connection can be used."""
        self._of_transport[transport] = client

    def left(self, client: "_Client", transport: asyncio.BaseTransport | None) -> None:
        """The connection is closed."""
        self._open.pop(client, None)
        if transport is not None:
            self._of_transport.pop(transport, None)

    def _has_room(self, address: str) -> bool:
        """Whether there is room for one more connection from an address, after a waiting connection has been closed."""
        of_address = [client for client in self._open if client.address == address]
        if len(of_address) >= self._bounds.most_of_address:
            return _close_one(of_address)
        return len(self._open) < self._bounds.most or _close_one(list(self._open))

    def _tell(self, error: OSError) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._logged < _LOGGED_EVERY:
            return
        self._logged = now
        log.error(
            "server.no_connection",
            extra={
                "error": f"the system refuses more connections ({error.strerror}): raise the limit of open files "
                "(ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of docker)"
            },
        )


def _close_one(clients: list["_Client"]) -> bool:
    """Close the waiting connection that sent no whole request for the longest time; False if all are being answered."""
    waiting = [client for client in clients if not client.is_busy]
    if not waiting:
        return False
    min(waiting, key=lambda client: (client.has_asked, client.since)).end()
    return True


class _Client(asyncio.Protocol):
    """One connection: passes everything on to the protocol of the server, and ends a connection that takes too long."""

    def __init__(self, clients: Clients, address: str, inner: web.RequestHandler) -> None:
        self.address = address
        self.is_busy = self.has_asked = False
        # Some of a request has come, and no answer has gone.
        self.is_asking = False
        self.since = asyncio.get_running_loop().time()
        self._clients, self._inner = clients, inner
        self._head_seconds = 0.0
        self._transport: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, connection: socket.socket, tls: ssl.SSLContext | None, bounds: Bounds) -> None:
        """Shake hands, if `tls` is given, and wait for the first request."""
        loop = asyncio.get_running_loop()
        self._head_seconds = bounds.head_seconds
        self._timer = loop.call_later(bounds.head_seconds, self.end)
        self._opening = loop.create_task(self._open(connection, tls, bounds.head_seconds))

    async def _open(self, connection: socket.socket, tls: ssl.SSLContext | None, seconds: float) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self, connection, ssl=tls, ssl_handshake_timeout=seconds if tls else None
            )
        except (OSError, asyncio.CancelledError):
            # ssl.SSLError and TimeoutError are OSErrors: the client does not speak TLS, or not with this server.
            connection.close()
            self._leave()

    def began(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self.is_busy = self.has_asked = True
        self.since = loop.time()
        self._rest()
        self._timer = loop.call_later(seconds, self._see_whether_read)

    def end(self) -> None:
        """Close at once; data that the client has not read are lost."""
        self._leave()
        if self._transport is not None:
            self._transport.abort()
        elif self._opening is not None:
            self._opening.cancel()

    def _see_whether_read(self) -> None:
        if self._transport is not None and self._transport.get_write_buffer_size():
            self.end()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _leave(self) -> None:
        self._rest()
        self._clients.left(self, self._transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._clients.entered(self, transport)
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.is_asking = True
        self._inner.data_received(data)

    def eof_received(self) -> bool:
        """Whether the connection stays open: a client that has closed its own side waits for an answer.

        https://www.rfc-editor.org/rfc/rfc9293.html#section-3.6: such a client may still read.
        """
        # TLS before 1.3 cannot close one side; asyncio closes both.
        if not self.is_asking or self._transport.get_extra_info("sslcontext") is not None:
            return False
        # The last answer.
        self._inner.close()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._head_seconds, self.end)
        return True

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
