"""How clients come in: in the clear or by TLS, with or without a password."""

import ipaddress
import logging
import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from aiohttp.typedefs import Middleware

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """How clients come in.

    `tls` is None for plain HTTP.  `middlewares` are asked before each answer.  `watched` is entered while the server
    runs.  `is_silent` leaves out the warning about other machines.
    """

    tls: ssl.SSLContext | None = None
    middlewares: tuple[Middleware, ...] = ()
    is_authenticated: bool = False
    is_silent: bool = False
    watched: Callable[[], AbstractContextManager[None]] = nullcontext

    @property
    def scheme(self) -> str:
        """Of a URL of the server."""
        return "http" if self.tls is None else "https"


OPEN_DOOR: Final = Door()
"""Plain HTTP for everyone."""


def warn_if_public(door: Door, hosts: Sequence[str]) -> None:
    """Log a warning if other machines reach one of the bound addresses without TLS or authentication."""
    missing = {} if door.tls else {"TLS": "tls_server_config"}
    missing |= {} if door.is_authenticated else {"authentication": "basic_auth_users"}
    public = [host for host in hosts if not ipaddress.ip_address(host.partition("%")[0]).is_loopback]
    if not public or not missing or door.is_silent:
        return
    is_any = any(ipaddress.ip_address(host.partition("%")[0]).is_unspecified for host in public)
    log.warning(
        "web.public",
        extra={
            "error": f"listens on {'every interface' if is_any else ', '.join(public)} without "
            f"{' and '.join(missing)}: write {' and '.join(missing.values())} into the file of --web.config.file, "
            "or bind localhost with --web.listen-address"
        },
    )
