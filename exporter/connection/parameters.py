"""The parameters of a connection and the PG* variables: read, without effect, or refused.

No message quotes a value: any value may be a misplaced password.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

from exporter.text.names import nearest

Parameters = Mapping[str, str]
"""Values of a URL or of the environment, by libpq's name of the parameter."""

LONGEST_TIMEOUT: Final = 86_400
"""Seconds: one day."""

MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""libpq's values of sslmode, the weakest first: https://www.postgresql.org/docs/current/libpq-ssl.html"""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A fault and remedy.  The message continues `subject`: the name of a variable, or `the url`."""

    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject} {self.message}"


class UrlError(ValueError):
    """A URL or a variable cannot be used; `mistakes` has every mistake."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        """The arguments of the exception are the messages; the config reader reports each argument."""
        super().__init__(*(mistake.message for mistake in mistakes))
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True)
class Parameter:
    """An accepted parameter of a URL.

    `variable` is read if the URL lacks the parameter.  `values` are the accepted values, empty for any value.
    `otherwise` is the remedy for other values.
    """

    variable: str | None = None
    values: tuple[str, ...] = ()
    otherwise: str | None = None


_NOT_BOUND: Final = (
    "the driver does not support channel binding: remove it, and write sslmode=verify-full with sslrootcert, which "
    "checks the certificate of the server"
)
_NO_GSS: Final = (
    "the driver does not support GSSAPI encryption: remove it, and write sslmode=verify-full with sslrootcert"
)

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
"""Parameters with an effect."""

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
    "gssdelegation": Parameter(None, ("0",), "the exporter never delegates credentials: remove it"),
    "sslsni": Parameter(None, ("1",), "the exporter always sends the host name (SNI): remove it"),
    "sslcertmode": Parameter(None, ("allow",), "the exporter sends the client certificate of sslcert: remove it"),
}
"""Accepted in a URL, without effect."""

_POOL: Final = "belongs to a connection pool, and the exporter has no pool: remove it"
_DRIVERS: Final = "belongs to another driver and has no effect here: remove it"
_SCHEMA: Final = (
    "is not a PostgreSQL parameter: remove it, and write the schema before each table of the config: schema.table"
)
_TIMEOUT: Final = "is a key of the config: remove it from the url, and write the key beside url"
_TLS: Final = "belongs to another driver: write sslmode=require, or sslmode=verify-full with sslrootcert"

REFUSED: Final[Mapping[str, str]] = {
    "service": "names a service file, and the exporter reads none: copy the parameters of the file into the url",
    "servicefile": "names a service file, and the exporter reads none: copy the parameters of the file into the url",
    "hostaddr": "is not supported: write the address as the host",
    "require_auth": "is not supported by the driver: remove it, and write sslmode=verify-full with sslrootcert",
    "requirepeer": "is not supported by the driver: remove it",
    "requiressl": "is out of date: write sslmode=require",
    "sslcrldir": "is not supported: write sslcrl with one file",
    "sslkeylogfile": "is not supported: remove it",
    "replication": "opens a replication connection, which runs no queries: remove it",
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
    "sslidentity": "belongs to another driver: write sslcert and sslkey",
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
    "logintimeout": "belongs to another driver: write connect_timeout",
    "targetservertype": "belongs to another driver: write target_session_attrs",
    "loadbalancehosts": "belongs to another driver: write load_balance_hosts=random",
    "pgbouncer": "belongs to another driver: remove it; PgBouncer needs no parameter",
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
"""Refused parameters, by the name in lower case, with the fault and the remedy."""

BY_DRIVER: Final = {"database": "dbname"}
"""The driver's own names of libpq parameters."""

KNOWN: Final = {**READ, **WITHOUT_EFFECT}


UNREAD: Final[Mapping[str, tuple[str, str]]] = {
    "PGHOSTADDR": ("hostaddr", "write the address as the host of the url, or set PGHOST"),
    "PGSERVICE": ("service", "copy the parameters of the service file into the url"),
    "PGSERVICEFILE": ("service", "copy the parameters of the service file into the url"),
    "PGSYSCONFDIR": ("service", "copy the parameters of the service file into the url"),
    "PGOPTIONS": (
        "options",
        "write options=… into the url; instead of a search_path, write the schema before each table of the config",
    ),
    "PGCLIENTENCODING": ("client_encoding", "unset it: the exporter reads UTF-8"),
    "PGCHANNELBINDING": ("channel_binding", "write sslmode=verify-full with sslrootcert into the url"),
    "PGGSSENCMODE": ("gssencmode", "write sslmode=verify-full with sslrootcert into the url"),
    "PGREQUIREAUTH": ("require_auth", "write sslmode=verify-full with sslrootcert into the url"),
    "PGREQUIREPEER": ("requirepeer", "unset it: the driver does not support it"),
    "PGREQUIRESSL": ("sslmode", "write sslmode=require into the url, or set PGSSLMODE"),
    "PGSSLCRLDIR": ("sslcrl", "write sslcrl with one file into the url, or set PGSSLCRL"),
    "PGSSLCERTMODE": ("sslcertmode", "unset it: the exporter sends the client certificate of sslcert"),
    "PGSSLSNI": ("sslsni", "unset it: the exporter always sends the host name (SNI)"),
}
"""Variables of libpq that the exporter does not read: by name, the parameter of libpq and the remedy."""

HARMLESS: Final[Mapping[str, frozenset[str]]] = {
    "PGCLIENTENCODING": frozenset({"utf8", "utf-8", "unicode", "auto"}),
    "PGCHANNELBINDING": frozenset({"disable", "prefer"}),
    "PGGSSENCMODE": frozenset({"disable", "prefer"}),
    "PGREQUIRESSL": frozenset({"0"}),
    "PGSSLCERTMODE": frozenset({"allow"}),
    "PGSSLSNI": frozenset({"1"}),
}


def wrong(name: str, value: str) -> Iterator[str]:
    """The mistakes in the value of a known parameter; nothing if the value is right."""
    parameter = KNOWN[name]
    if "\0" in value:
        yield f"has a NUL character in {name}: remove it"
    elif name == "host":
        yield from _wrong_hosts(value.split(","))
    elif name == "port":
        yield from _wrong_ports(value.split(","))
    elif name == "connect_timeout":
        if not re.fullmatch(r"[0-9]{1,6}", value) or not 0 < int(value) <= LONGEST_TIMEOUT:
            yield f"has a connect_timeout outside 1 to {LONGEST_TIMEOUT}: write whole seconds, such as 5"
    elif name == "sslmode" and value == "no-verify":
        yield "has sslmode=no-verify of another driver: write sslmode=require"
    elif parameter.values and value not in parameter.values:
        if parameter.otherwise:
            yield f"has the parameter {name} with an unsupported value: {parameter.otherwise}"
        else:
            near = nearest(value, parameter.values)
            meant = f"; did you mean {near}?" if near else ""
            yield f"has a wrong value of {name}{meant} (known: {', '.join(parameter.values)})"


def _wrong_hosts(hosts: Sequence[str]) -> Iterator[str]:
    for host in hosts:
        if host.startswith("/") or is_ipv6(host):
            continue
        if not host:
            # `read_url` reports an empty host of a URL.
            continue
        if ":" in host:
            yield "has a port inside the host: write the port as the parameter port"
        elif host.startswith("@"):
            yield "has an abstract socket as host, and the driver cannot open it: name the folder of the socket"
        elif any(letter.isspace() or letter in "/?#[]@\\" for letter in host) or not _is_name(host):
            yield "has a host that is neither a name nor an address: correct it"


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
                "has a port outside 1 to 65535: correct it; in a password, write %3A for a :, %2F for a / and %40 "
                "for an @"
            )


def is_ipv6(host: str) -> bool:
    """Whether a host is an IPv6 address, with or without a zone."""
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True
