"""The parameters of a connection, and the PG* variables: what is read, what decides nothing, and what is refused.

No message quotes a value: a password may stand in any place by mistake.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from exporter.text.names import nearest

Parameters = Mapping[str, str]
"""What a url, or the environment, says: values by libpq's name of the parameter."""

LONGEST_TIMEOUT: Final = 86_400
"""In seconds: a day."""

MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""How much TLS has to prove, the weakest first: https://www.postgresql.org/docs/current/libpq-ssl.html"""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong, as a sentence about `subject`: the name of a variable, or `the url`."""

    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject} {self.message}"


class UrlError(ValueError):
    """A url or a variable cannot be used; `mistakes` has all that is wrong."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        """One argument for each message, which is what a config tells of them."""
        super().__init__(*(mistake.message for mistake in mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that a url may have, and the variable that is read where it has none.

    `values` are the only ones that are accepted, `otherwise` says what to do with another.
    """

    variable: str | None = None
    values: tuple[str, ...] = ()
    otherwise: str | None = None


_NOT_BOUND: Final = (
    "the driver does not bind a password to TLS: remove it, and write sslmode=verify-full with sslrootcert, which "
    "proves the server by its certificate"
)
_NO_GSS: Final = "the driver does not encrypt by GSSAPI: remove it, and write sslmode=verify-full with sslrootcert"

READ: Final[Mapping[str, Parameter]] = {
    "host": Parameter("PGHOST"),
    "port": Parameter("PGPORT"),
    "user": Parameter("PGUSER"),
    "password": Parameter("PGPASSWORD"),
    "dbname": Parameter("PGDATABASE"),
    "passfile": Parameter("PGPASSFILE"),
    "connect_timeout": Parameter("PGCONNECT_TIMEOUT"),
    "target_session_attrs": Parameter(
        "PGTARGETSESSIONATTRS", ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
    ),
    "load_balance_hosts": Parameter("PGLOADBALANCEHOSTS", ("disable", "random")),
    "options": Parameter(),
    "sslmode": Parameter("PGSSLMODE", MODES),
    "sslrootcert": Parameter("PGSSLROOTCERT"),
    "sslcert": Parameter("PGSSLCERT"),
    "sslkey": Parameter("PGSSLKEY"),
    "sslpassword": Parameter(),
    "sslcrl": Parameter("PGSSLCRL"),
    "sslnegotiation": Parameter("PGSSLNEGOTIATION", ("postgres", "direct")),
    "ssl_min_protocol_version": Parameter("PGSSLMINPROTOCOLVERSION", ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")),
    "ssl_max_protocol_version": Parameter("PGSSLMAXPROTOCOLVERSION", ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")),
    "krbsrvname": Parameter("PGKRBSRVNAME"),
    "gsslib": Parameter("PGGSSLIB", ("gssapi", "sspi")),
}
"""What decides something."""

WITHOUT_EFFECT: Final[Mapping[str, Parameter]] = {
    **dict.fromkeys(
        (
            "application_name",
            "fallback_application_name",
            "client_encoding",
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_count",
            "tcp_user_timeout",
            "sslcompression",
        ),
        Parameter(),
    ),
    "channel_binding": Parameter(None, ("disable", "prefer"), _NOT_BOUND),
    "gssencmode": Parameter(None, ("disable", "prefer"), _NO_GSS),
    "gssdelegation": Parameter(None, ("0",), "credentials are handed on to nobody: remove it"),
    "sslsni": Parameter(None, ("1",), "the host's name is always told to the server: remove it"),
    "sslcertmode": Parameter(None, ("allow",), "a client certificate is sent where sslcert names one: remove it"),
}
"""What may stand in a url, and decides nothing here."""

_POOL: Final = "is of a pool of connections, which this exporter has not: remove it"
_DRIVERS: Final = "is of another driver, and decides nothing here: remove it"
_SCHEMA: Final = "is not of PostgreSQL: remove it, and write the schema before each table of the config: schema.table"
_TIMEOUT: Final = "is a key of the config: remove it, and write it beside the url"
_TLS: Final = "is of another driver: write sslmode=require, or sslmode=verify-full with sslrootcert"

REFUSED: Final[Mapping[str, str]] = {
    "service": "names a file that is not read: write into the url what it says there",
    "servicefile": "names a file that is not read: write into the url what it says there",
    "hostaddr": "is not supported: write the address as the host",
    "require_auth": "is not held by the driver: remove it, and write sslmode=verify-full with sslrootcert",
    "requirepeer": "is not held by the driver: remove it",
    "requiressl": "is out of date: write sslmode=require",
    "sslcrldir": "is not supported: write sslcrl with one file",
    "sslkeylogfile": "is not supported: remove it",
    "replication": "opens a connection that cannot measure: remove it",
    "min_protocol_version": "is not supported: remove it",
    "max_protocol_version": "is not supported: remove it",
    "schema": _SCHEMA,
    "currentschema": _SCHEMA,
    "search_path": _SCHEMA,
    "statement_timeout": _TIMEOUT,
    "lock_timeout": _TIMEOUT,
    "ssl": _TLS,
    "tls": _TLS,
    "sslaccept": _TLS,
    "sslidentity": "is of another driver: write sslcert and sslkey",
    "sslfactory": _TLS,
    "uselibpqcompat": _DRIVERS,
    "applicationname": _DRIVERS,
    "encoding": _DRIVERS,
    "stringtype": _DRIVERS,
    "binarytransfer": _DRIVERS,
    "rewritebatchedinserts": _DRIVERS,
    "tcpkeepalive": _DRIVERS,
    "sockettimeout": _DRIVERS,
    "socket_timeout": _DRIVERS,
    "command_timeout": _DRIVERS,
    "async_fallback": _DRIVERS,
    "logintimeout": "is of another driver: write connect_timeout",
    "targetservertype": "is of another driver: write target_session_attrs",
    "loadbalancehosts": "is of another driver: write load_balance_hosts=random",
    "pgbouncer": "is of another driver: remove it, for behind PgBouncer nothing needs to be set",
    "supa": _DRIVERS,
    "pooler": _POOL,
    "pool": _POOL,
    "pool_mode": _POOL,
    "pool_size": _POOL,
    "pool_timeout": _POOL,
    "pool_max_conns": _POOL,
    "pool_min_conns": _POOL,
    "max_overflow": _POOL,
    "min_size": _POOL,
    "max_size": _POOL,
    "connection_limit": _POOL,
    "statement_cache_size": _POOL,
    "prepared_statement_cache_size": _POOL,
    "prepared_statements": _POOL,
    "preparethreshold": _POOL,
    "default_query_exec_mode": _POOL,
}
"""What is refused, by its name in small letters, and what to do instead."""

BY_DRIVER: Final = {"database": "dbname"}
"""Names that the driver has for a parameter of libpq."""

KNOWN: Final = {**READ, **WITHOUT_EFFECT}


UNREAD: Final[Mapping[str, tuple[str, str]]] = {
    "PGHOSTADDR": ("hostaddr", "write the address as the host of the url, or set PGHOST"),
    "PGSERVICE": ("service", "write into the url what the service's file says"),
    "PGSERVICEFILE": ("service", "write into the url what the file says"),
    "PGSYSCONFDIR": ("service", "write into the url what the file of services there says"),
    "PGOPTIONS": (
        "options",
        "write options=… into the url, and for a search_path the schema before each table of the config",
    ),
    "PGCLIENTENCODING": ("client_encoding", "unset it: the exporter reads UTF-8"),
    "PGCHANNELBINDING": ("channel_binding", "write sslmode=verify-full with sslrootcert into the url"),
    "PGGSSENCMODE": ("gssencmode", "write sslmode=verify-full with sslrootcert into the url"),
    "PGREQUIREAUTH": ("require_auth", "write sslmode=verify-full with sslrootcert into the url"),
    "PGREQUIREPEER": ("requirepeer", "unset it: the driver does not hold it"),
    "PGREQUIRESSL": ("sslmode", "write sslmode=require into the url, or set PGSSLMODE"),
    "PGSSLCRLDIR": ("sslcrl", "write sslcrl with one file into the url, or set PGSSLCRL"),
    "PGSSLCERTMODE": ("sslcertmode", "unset it: a client certificate is sent where sslcert names one"),
    "PGSSLSNI": ("sslsni", "unset it: the host's name is always told to the server"),
}
"""By their name: the parameter that would be decided by it, and what to do instead."""

HARMLESS: Final[Mapping[str, frozenset[str]]] = {
    "PGCLIENTENCODING": frozenset({"utf8", "utf-8", "unicode", "auto"}),
    "PGCHANNELBINDING": frozenset({"disable", "prefer"}),
    "PGGSSENCMODE": frozenset({"disable", "prefer"}),
    "PGREQUIRESSL": frozenset({"0"}),
    "PGSSLCERTMODE": frozenset({"allow"}),
    "PGSSLSNI": frozenset({"1"}),
}


def wrong(name: str, value: str) -> Iterator[str]:
    """What is wrong with the value of a known parameter."""
    parameter = KNOWN[name]
    if "\0" in value:
        yield f"has a NUL character in {name}: remove it"
    elif name == "host":
        yield from _wrong_hosts(value.split(","))
    elif name == "port":
        yield from _wrong_ports(value.split(","))
    elif name == "connect_timeout":
        if not re.fullmatch(r"[0-9]{1,6}", value) or not 0 < int(value) <= LONGEST_TIMEOUT:
            yield f"has a connect_timeout that is not 1 to {LONGEST_TIMEOUT}: write whole seconds, as in 5"
    elif name == "sslmode" and value == "no-verify":
        yield "has sslmode=no-verify, which is of another driver: write sslmode=require"
    elif parameter.values and value not in parameter.values:
        if parameter.otherwise:
            yield f"has the parameter {name} with a value that cannot be held: {parameter.otherwise}"
        else:
            near = nearest(value, parameter.values)
            meant = f"; did you mean {near}?" if near else ""
            yield f"has a wrong value of {name}{meant} (known: {', '.join(parameter.values)})"


def _wrong_hosts(hosts: Sequence[str]) -> Iterator[str]:
    for host in hosts:
        if host.startswith("/") or is_ipv6(host):
            continue
        if not host:
            # That of a url is said where it is read.
            continue
        if ":" in host:
            yield "has a host with a port in it: write the port as port"
        elif host.startswith("@"):
            yield "has an abstract socket as its host, which the driver cannot open: name its folder"
        elif any(letter.isspace() or letter in "/?#[]@\\" for letter in host) or not _is_name(host):
            yield "has a host that cannot be a name or an address: correct it"


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def _wrong_ports(ports: Sequence[str]) -> Iterator[str]:
    for port in ports:
        if port and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) <= 65535):  # noqa: PLR2004
            yield (
                "has a port that is not 1 to 65535: correct it; where it is the rest of a password, write %3A for "
                "a :, %2F for a / and %40 for an @ there"
            )


def is_ipv6(host: str) -> bool:
    """Whether a host is an address of IPv6, with its zone or without."""
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True
