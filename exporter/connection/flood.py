"""A bound on the bytes before the login: whoever answers in place of the server could else fill the memory.

The driver keeps a message until its end, and believes the length that the message announces.  The driver takes an event
loop, so that a loop of our own can count what the driver reads.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

MOST: Final = 16 << 20
"""Bytes before the login, at most; a server sends some kilobytes."""


class FloodError(OSError):
    """The server sent more than `MOST` bytes before the login."""


class LoginLoop:
    """The running event loop, for one login: a connection with too many bytes ends.

    After the login, `release` hands the connection over to the driver.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing read yet."""
        self._loop = loop
        self._left = MOST
        self._counted: list[tuple[asyncio.Transport, _Counted]] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the loop has
        """Everything else is the loop's own."""
        return getattr(self._loop, name)

    @property
    def is_flooded(self) -> bool:
        """Whether a connection ended because of too many bytes."""
        return self._left < 0

    def release(self) -> None:
        """Count no more."""
        for transport, counted in self._counted:
            if transport.get_protocol() is counted:
                transport.set_protocol(counted.inner)

    async def create_connection(self, factory: Callable[[], Any], *arguments: Any, **options: Any) -> tuple[Any, Any]:  # noqa: ANN401 - as in asyncio
        """Connect, and count for the protocol that `factory` makes."""
        return self._watched(await self._loop.create_connection(self._counting(factory), *arguments, **options))

    async def create_unix_connection(
        self,
        factory: Callable[[], Any],
        *arguments: Any,  # noqa: ANN401 - as in asyncio
        **options: Any,  # noqa: ANN401 - as in asyncio
    ) -> tuple[Any, Any]:
        """The same for a socket in the file system."""
        return self._watched(await self._loop.create_unix_connection(self._counting(factory), *arguments, **options))

    async def start_tls(self, transport: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as in asyncio
        """Go on with TLS; the protocol that the driver then sets is counted."""
        upgraded = await self._loop.start_tls(transport.real, *arguments, **options)
        return upgraded and _Transport(self, upgraded)

    def count(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> "_Counted":
        """The protocol behind a count of the bytes for it."""
        counted = _Counted(self, protocol)
        counted.transport = transport
        self._counted.append((transport, counted))
        return counted

    def take(self, size: int, transport: asyncio.BaseTransport | None) -> bool:
        """Count bytes; False, and the end of the connection, if there are too many."""
        self._left -= size
        if self.is_flooded and isinstance(transport, asyncio.Transport):
            transport.abort()
        return not self.is_flooded

    def _counting(self, factory: Callable[[], Any]) -> "Callable[[], _Counted]":
        return lambda: _Counted(self, factory())

    def _watched(self, made: "tuple[asyncio.Transport, _Counted]") -> tuple[Any, Any]:
        transport, counted = made
        self._counted.append((transport, counted))
        return _Transport(self, transport), counted.inner


class _Transport:
    """A transport whose next protocol is counted."""

    def __init__(self, loop: LoginLoop, real: asyncio.Transport) -> None:
        self._loop, self.real = loop, real

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self.real, name)

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self.real.set_protocol(self._loop.count(self.real, protocol))


class _Counted(asyncio.Protocol):
    """A protocol that hands everything on to another, and counts the bytes."""

    def __init__(self, loop: LoginLoop, inner: Any) -> None:  # noqa: ANN401 - a protocol of the driver
        self._loop, self.inner = loop, inner
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._loop.take(len(data), self.transport):
            self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        kept: bool | None = self.inner.eof_received()
        return kept

    def connection_lost(self, error: Exception | None) -> None:
        self.inner.connection_lost(error)

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()
