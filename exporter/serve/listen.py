"""An address -> listening sockets of both families on one port, as in https://pkg.go.dev/net#Listen."""

import asyncio
import errno
import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from exporter.text.exits import UsageError

ANY: Final = "::"
DEFAULT_ADDRESS: Final = ":10157"
LOOPBACK_ADDRESS: Final = f"localhost{DEFAULT_ADDRESS}"
"""This machine alone, by IPv4 and IPv6."""
_LONGEST_SHOWN: Final = 300
"""Characters of an argument in a message: a host name has at most 253."""
_PORT: Final = re.compile(r"[0-9]{1,5}")
_ATTEMPTS: Final = 10
"""Attempts to find a port that is free on every address of a name."""


_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Errors for an address of a family that the machine lacks."""


class ListenError(UsageError):
    """The server cannot listen on an address; the message has the fault and the remedy."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on; host None is every interface, port 0 any free port."""

    host: str | None
    port: int

    def __str__(self) -> str:
        host = self.host or ""
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def is_any(self) -> bool:
        """Whether the address is for both families: no host, or `::`."""
        try:
            return self.host is None or ipaddress.IPv6Address(self.host) == ipaddress.IPv6Address(ANY)
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """Read `:10157`, `127.0.0.1:10157` or `[::1]:10157`; raises ValueError."""
    shown = repr(text[:_LONGEST_SHOWN])
    host, colon, port = text.rpartition(":")
    bare = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bare else host
    is_odd = (":" in host and not bare) or "[" in name or "]" in name
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535 or is_odd:  # noqa: PLR2004
        raise ValueError(f"{shown} is not an address: write :10157, 127.0.0.1:10157 or [::1]:10157")
    try:
        # As the resolver does; NUL ends a name of the resolver.
        is_name = b"\0" not in name.encode("idna")
    except UnicodeError:
        is_name = False
    if not is_name:
        raise ValueError(
            f"{shown} is not an address: a host name has no empty part, and at most 63 letters between dots"
        )
    return Address(name or None, int(port))


async def listen(address: Address) -> list[socket.socket]:
    """Sockets that are bound to the address, all to one port; raises ListenError."""
    try:
        return [_on_both_families(address)] if address.is_any else await _on_its_own(address)
    except OSError as error:
        # The text of `create_server` has the address once more, as Python writes it.
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ListenError(f"cannot listen on {address} ({why}): choose another with --web.listen-address") from None


def port_of(sockets: Sequence[socket.socket]) -> int:
    """The port of bound sockets."""
    port: int = sockets[0].getsockname()[1]
    return port


def _on_both_families(address: Address) -> socket.socket:
    """One socket for both families and one port; IPv4 only if no host is named and there is no IPv6."""
    try:
        return socket.create_server((ANY, address.port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError) as error:
        # Python raises ValueError on a system without dual-stack sockets.
        code = error.errno if isinstance(error, OSError) else errno.EAFNOSUPPORT
        if address.host is not None or code not in _NOT_HERE:
            raise OSError(code, "") from None
    return socket.create_server(("0.0.0.0", address.port))  # noqa: S104 - every interface is what was asked for


async def _on_its_own(address: Address) -> list[socket.socket]:
    found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    places = dict.fromkeys((family, place) for family, _, _, _, place in found)
    for _ in range(_ATTEMPTS):
        try:
            return _bound(places, address.port)
        except OSError as error:
            # A port free on the first address of a name may be taken on the second.
            if address.port or error.errno != errno.EADDRINUSE:
                raise
    return _bound(places, address.port)


def _bound(places: Iterable[tuple[int, tuple[Any, ...]]], port: int) -> list[socket.socket]:
    """A socket for each address of this machine, at least one; raises OSError."""
    sockets: list[socket.socket] = []
    refusal: OSError | None = None
    for family, (host, _, *scope) in places:
        try:
            sockets.append(socket.create_server((host, port, *scope), family=family))
        except OSError as error:
            refusal = error
            if error.errno not in _NOT_HERE:
                break
        else:
            port = port_of(sockets)
    if refusal is not None and (not sockets or refusal.errno not in _NOT_HERE):
        for one in sockets:
            one.close()
        raise refusal
    return sockets
