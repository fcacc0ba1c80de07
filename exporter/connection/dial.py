"""Target -> a connection: the hosts in turn, each with a time-out, as in libpq.

The exporter passes every parameter to the driver: the driver reads no URL, variable or file.
"""

import asyncio
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from exporter import APPLICATION_NAME
from exporter.connection.flood import FloodError, LoginLoop
from exporter.connection.target import Place, Target
from exporter.connection.threads import in_thread
from exporter.connection.tls import NamedContext, context

_TLS_REQUEST: Final = struct.pack("!ii", 8, 80877103)
"""https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SSLREQUEST"""

_TWO_RULES: Final = {"prefer-standby": ("standby", "any")}
"""For a value of target_session_attrs: the servers to try in the first and in the second pass over the hosts."""


class HungUpError(OSError):
    """The server closed the connection without an answer."""


class StrangerError(OSError):
    """The server does not speak PostgreSQL's protocol."""


class NobodyError(Exception):
    """Every host refused: `refusals` has the number of the host, from 1, and the error."""

    def __init__(self, refusals: Sequence[tuple[int, Exception]]) -> None:
        super().__init__()
        self.refusals = tuple(refusals)


_NEXT: Final = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""Errors after which the next host is tried.  A server that refuses the role ends the search, as in libpq."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The login: `password` returns the password for a host, None if unknown."""

    user: str
    database: str
    password: Callable[[Place], str | None]


async def dial(target: Target, caller: Caller, seconds: float) -> asyncpg.Connection:
    """A connection to the first host that accepts; `seconds` is the time-out for each address of each host.

    Raises TlsFileError; for one host the error of the driver; for several hosts NobodyError.
    """
    tls = None
    if target.tls.mode != "disable" and not all(place.is_socket for place in target.places):
        # In a thread: a file may be on a dead network share.
        async with asyncio.timeout(seconds):
            # For this task alone: a context is for one host at a time.
            tls = await in_thread(("tls", target.tls, asyncio.current_task()), context, target.tls)
    places = list(enumerate(target.places, 1))
    if target.is_shuffled:
        random.shuffle(places)
    refusals: list[tuple[int, Exception]] = []
    for wanted in _TWO_RULES.get(target.wanted, (target.wanted,)):
        for number, place in places:
            try:
                addresses = await _addresses(place, seconds)
            except OSError as error:
                refusals.append((number, error))
                continue
            for address in addresses:
                call = _Call(target, caller, place, address, wanted, tls, seconds)
                try:
                    async with asyncio.timeout(seconds):
                        return await _patiently(call)
                except _NEXT as error:
                    refusals.append((number, error))
    # The last pass tried every server again: only its refusals count.
    last = {number: error for number, error in refusals}  # noqa: C416 - of each the last
    if len(last) == 1 or not target.is_named:
        raise refusals[-1][1] from None
    raise NobodyError(sorted(last.items(), key=lambda refusal: refusal[0]))


CLOSING_SECONDS: Final = 0.5
"""Seconds for the server to free the slot of a connection that the exporter has closed."""


async def _patiently(call: "_Call") -> asyncpg.Connection:
    try:
        return await call.make()
    except asyncpg.TooManyConnectionsError:
        await asyncio.sleep(CLOSING_SECONDS)
        return await call.make()


async def _addresses(place: Place, seconds: float) -> Sequence[str]:
    """The addresses of a host, each tried with its own time-out; the name itself if the name has only one address."""
    if place.is_socket:
        return (place.host,)
    async with asyncio.timeout(seconds):
        found = await in_thread(("host", place.host, place.port), _look_up, place.host, place.port)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    return addresses if len(addresses) > 1 else (place.host,)


def _look_up(host: str, port: int) -> list[tuple[Any, ...]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@dataclass(frozen=True, slots=True)
class _Call:
    """One attempt: an address of a host."""

    target: Target
    caller: Caller
    place: Place
    address: str
    wanted: str
    tls: NamedContext | None
    seconds: float

    async def make(self) -> asyncpg.Connection:
        """Connect with TLS, without TLS, or with the second way if the first fails, as sslmode says."""
        first, *second = self._ways()
        try:
            return await self._connect(first)
        except (ssl.SSLError, ConnectionError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            # No server listens, or the server has received a password: TLS is not the cause.
            if not second or isinstance(error, ConnectionRefusedError | asyncpg.InvalidPasswordError):
                raise
            refusal = error
        try:
            return await self._connect(second[0])
        except OSError:
            # The answer of the server tells more than missing TLS.
            if isinstance(refusal, asyncpg.PostgresError):
                raise refusal from None
            raise

    def _ways(self) -> tuple[NamedContext | None, ...]:
        if self.tls is None or self.place.is_socket:
            return (None,)
        match self.target.tls.mode:
            case "allow":
                return (None, self.tls)
            case "prefer":
                return (self.tls, None)
            case _:
                return (self.tls,)

    async def _connect(self, tls: NamedContext | None) -> asyncpg.Connection:
        target, options = self.target, {"options": self.target.options} if self.target.options else {}
        if tls is not None:
            tls.host = self.place.host
        loop = LoginLoop(asyncio.get_running_loop())
        try:
            connection: asyncpg.Connection = await asyncpg.connect(
                host=[self.address],
                port=[self.place.port],
                user=self.caller.user,
                # Without a text the driver would look for a password file.
                password=self.caller.password(self.place) or "",
                database=self.caller.database,
                ssl=tls or False,
                direct_tls=tls is not None and target.tls.is_direct,
                server_settings={"application_name": APPLICATION_NAME, **options},
                target_session_attrs=SessionAttribute(self.wanted),
                krbsrvname=target.kerberos_service,
                gsslib=target.gss_library,
                timeout=self.seconds,
                # Statements run once per collection; a pooler in transaction mode keeps no prepared statements.
                statement_cache_size=0,
                loop=cast("asyncio.AbstractEventLoop", loop),
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            if loop.is_flooded:
                raise FloodError from None
            if not isinstance(error, ConnectionError):
                raise
            if tls is not None and type(error) is ConnectionError:
                await self._see_who_answers()
            raise
        loop.release()
        return connection

    async def _see_who_answers(self) -> None:
        """Ask for TLS again, because the driver hides the answer.

        Raises HungUpError for no answer and StrangerError for an answer outside PostgreSQL's protocol.
        """
        async with _opened(self.address, self.place.port) as (reader, writer):
            writer.write(_TLS_REQUEST)
            answer = await reader.read(2)
        if not answer:
            raise HungUpError
        if answer not in (b"N", b"S"):
            raise StrangerError


def report_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that no caller took, except the driver's own of a connection that the exporter has given up.

    For `set_exception_handler`.  The driver waits for the answer to its request for TLS in a future, and sets the error
    of the closed connection after the wait has ended.
    """
    if not (isinstance(context.get("exception"), ConnectionError) and type(context.get("future")) is asyncio.Future):
        loop.default_exception_handler(context)


@asynccontextmanager
async def _opened(address: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        yield reader, writer
    finally:
        writer.close()
