"""Target -> a connection: its hosts in turn, each with its own time, as libpq does.

The driver is handed every parameter, so that it reads no url, no variable and no file by itself.
"""

import asyncio
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from exporter import APPLICATION_NAME
from exporter.connection.target import Place, Target
from exporter.connection.tls import NamedContext, context

_TLS_REQUEST: Final = struct.pack("!ii", 8, 80877103)
"""https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SSLREQUEST"""

_TWO_RULES: Final = {"prefer-standby": ("standby", "any")}
"""Which servers will do, and which where there is none of these."""


class HungUpError(OSError):
    """Whoever listens there closed the connection without a word."""


class StrangerError(OSError):
    """Whoever listens there does not speak PostgreSQL's protocol."""


class NobodyError(Exception):
    """None of several hosts let us in: `refusals` has why, each with the number of the host, from 1."""

    def __init__(self, refusals: Sequence[tuple[int, Exception]]) -> None:
        super().__init__()
        self.refusals = tuple(refusals)


_NEXT: Final = (
    OSError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""Why another host is asked.  A server that answers and refuses the role ends the search, as in libpq."""


@dataclass(frozen=True, slots=True)
class Caller:
    """As whom we connect: `password` has that for a host, None where none is known."""

    user: str
    database: str
    password: Callable[[Place], str | None]


async def dial(target: Target, caller: Caller, seconds: float) -> asyncpg.Connection:
    """A connection with the first host that lets us in; `seconds` is the time for each address of each host.

    Raises what the driver raises where there is one host, NobodyError where there are several, and TlsFileError.
    """
    tls = None
    if target.tls.mode != "disable" and not all(place.is_socket for place in target.places):
        # In a thread, for a file may lie on a dead network.
        async with asyncio.timeout(seconds):
            tls = await asyncio.to_thread(context, target.tls)
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
    # By the last rule every server was asked once more.
    last = {number: error for number, error in refusals}  # noqa: C416 - of each the last
    if len(last) == 1 or not target.is_named:
        raise refusals[-1][1] from None
    raise NobodyError(sorted(last.items(), key=lambda refusal: refusal[0]))


CLOSING_SECONDS: Final = 0.5
"""How long a server may take to see that a connection of ours has ended, until its place is free for the next."""


async def _patiently(call: "_Call") -> asyncpg.Connection:
    try:
        return await call.make()
    except asyncpg.TooManyConnectionsError:
        await asyncio.sleep(CLOSING_SECONDS)
        return await call.make()


async def _addresses(place: Place, seconds: float) -> Sequence[str]:
    """Where a host is; a name of one address is its own, and of several each gets its time."""
    if place.is_socket:
        return (place.host,)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(seconds):
        found = await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    return addresses if len(addresses) > 1 else (place.host,)


@dataclass(frozen=True, slots=True)
class _Call:
    """One address that is tried."""

    target: Target
    caller: Caller
    place: Place
    address: str
    wanted: str
    tls: NamedContext | None
    seconds: float

    async def make(self) -> asyncpg.Connection:
        """By TLS, without it, or by the second of them where the first fails, as sslmode says."""
        first, *second = self._ways()
        try:
            return await self._connect(first)
        except (ssl.SSLError, ConnectionError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            # Nobody listens there, or who does has been told a password: neither is a matter of TLS.
            if not second or isinstance(error, ConnectionRefusedError | asyncpg.InvalidPasswordError):
                raise
            refusal = error
        try:
            return await self._connect(second[0])
        except OSError:
            # What a server has said tells more than that it speaks no TLS.
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
        try:
            connection: asyncpg.Connection = await asyncpg.connect(
                host=[self.address],
                port=[self.place.port],
                user=self.caller.user,
                # Without a text the driver would look for a file of passwords.
                password=self.caller.password(self.place) or "",
                database=self.caller.database,
                ssl=tls or False,
                direct_tls=tls is not None and target.tls.is_direct,
                server_settings={"application_name": APPLICATION_NAME, **options},
                target_session_attrs=SessionAttribute(self.wanted),
                krbsrvname=target.kerberos_service,
                gsslib=target.gss_library,
                timeout=self.seconds,
                # Statements run once per collection, and a pooler in transaction mode keeps no prepared ones.
                statement_cache_size=0,
            )
        except ConnectionError as error:
            if tls is not None and type(error) is ConnectionError:
                await self._see_who_answers()
            raise
        return connection

    async def _see_who_answers(self) -> None:
        """Ask for TLS once more, for of what was answered the driver tells nothing: raises what it was, if not no."""
        async with _opened(self.address, self.place.port) as (reader, writer):
            writer.write(_TLS_REQUEST)
            answer = await reader.read(2)
        if not answer:
            raise HungUpError
        if answer not in (b"N", b"S"):
            raise StrangerError


@asynccontextmanager
async def _opened(address: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        yield reader, writer
    finally:
        writer.close()
