"""A URL and the PG* variables -> `Target`: hosts, login, TLS and time-outs.

https://www.postgresql.org/docs/current/libpq-connect.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from exporter.connection.parameters import (
    HARMLESS,
    MODES,
    READ,
    UNREAD,
    Mistake,
    Parameters,
    UrlError,
    wrong,
)
from exporter.connection.url import read_url

DEFAULT_PORT: Final = 5432


@dataclass(frozen=True, slots=True)
class Place:
    """One host of a target: a name, an address, or the folder of a socket."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Whether the host is the folder of a socket."""
        return self.host.startswith("/")


@dataclass(frozen=True, slots=True)
class Tls:
    """The TLS settings.  Files are paths; None if no file is named."""

    mode: str = "prefer"
    is_direct: bool = False
    root: str | None = None
    certificate: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)
    revoked: str | None = None
    oldest: str = "TLSv1.2"
    newest: str | None = None

    @property
    def is_of_system(self) -> bool:
        """Whether the exporter trusts the certificate authorities of the operating system."""
        return self.root == "system"


@dataclass(frozen=True, slots=True)
class Target:
    """Hosts, login and TLS.  None: neither the URL nor the environment has a value.

    `is_named`: the URL or the environment names the hosts.  `timeout` is in seconds, for each host.
    """

    places: tuple[Place, ...]
    is_named: bool
    user: str | None
    password: str | None = field(repr=False)
    password_file: str | None
    database: str | None
    timeout: int | None
    tls: Tls
    wanted: str
    """libpq's target_session_attrs."""
    is_shuffled: bool
    options: str | None
    kerberos_service: str | None
    gss_library: Literal["gssapi", "sspi"]


def target(url: str | None, environ: Mapping[str, str]) -> Target:
    """Read a URL, and the PG* variables for parameters that the URL lacks; raises UrlError."""
    of_url = read_url(url) if url is not None else {}
    said = {**read_variables(environ, of_url), **of_url}
    found: list[Mistake] = []
    places = _places(said, found)
    tls = _tls(said, found)
    if found:
        raise UrlError(found)
    return Target(
        places=places,
        is_named="host" in said,
        user=said.get("user"),
        password=said.get("password"),
        password_file=said.get("passfile"),
        database=said.get("dbname"),
        timeout=int(said["connect_timeout"]) if "connect_timeout" in said else None,
        tls=tls,
        wanted=said.get("target_session_attrs", "any"),
        is_shuffled=said.get("load_balance_hosts") == "random",
        options=said.get("options"),
        kerberos_service=said.get("krbsrvname"),
        gss_library="sspi" if said.get("gsslib") == "sspi" else "gssapi",
    )


DEFAULT_HOSTS: Final = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp", "localhost")  # noqa: S108
"""Tried in turn if no host is named: the usual socket folders, then localhost."""


def _places(said: Parameters, found: list[Mistake]) -> tuple[Place, ...]:
    named = said.get("host", "").split(",") if said.get("host") else []
    hosts = named or list(DEFAULT_HOSTS)
    ports = said.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if "" in named:
        found.append(Mistake("the list of hosts", "has an empty part: remove the comma, or name the host"))
    if len(ports) != len(hosts):
        found.append(
            Mistake(
                "the list of ports", f"has {len(ports)} ports for {len(hosts)} hosts: name one port, or {len(hosts)}"
            )
        )
        return ()
    return tuple(Place(host, int(port or DEFAULT_PORT)) for host, port in zip(hosts, ports, strict=True))


def _tls(said: Parameters, found: list[Mistake]) -> Tls:
    root = said.get("sslrootcert")
    mode = said.get("sslmode", "verify-full" if root == "system" else "prefer")
    is_direct = said.get("sslnegotiation") == "direct"
    if mode in ("verify-ca", "verify-full") and root is None:
        found.append(
            Mistake(
                f"sslmode={mode}",
                "needs sslrootcert: name the file with the CA certificate, or write sslrootcert=system for the CAs of "
                "the operating system",
            )
        )
    if root == "system" and mode != "verify-full":
        found.append(
            Mistake("sslrootcert=system", "needs sslmode=verify-full: write sslmode=verify-full, or remove sslmode")
        )
    if is_direct and MODES.index(mode) < MODES.index("require"):
        found.append(
            Mistake("sslnegotiation=direct", "needs sslmode=require, verify-ca or verify-full: write one of the three")
        )
    return Tls(
        mode=mode,
        is_direct=is_direct,
        root=root,
        certificate=said.get("sslcert"),
        key=said.get("sslkey"),
        key_password=said.get("sslpassword"),
        revoked=said.get("sslcrl"),
        oldest=said.get("ssl_min_protocol_version", "TLSv1.2"),
        newest=said.get("ssl_max_protocol_version"),
    )


def read_variables(environ: Mapping[str, str], apart_from: Parameters) -> Parameters:
    """The PG* variables without the parameters in `apart_from`; an empty variable is ignored.  Raises UrlError."""
    found: list[Mistake] = []
    said = {}
    for name, parameter in READ.items():
        if parameter.variable and name not in apart_from and (value := environ.get(parameter.variable)):
            said[name] = value
            found += (Mistake(parameter.variable, message) for message in wrong(name, value))
    if found:
        raise UrlError(found)
    return said


def unread(url: str | None, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Remedies by variable: variables of libpq that are set, would change the connection, and are not read."""
    try:
        said = read_url(url) if url is not None else {}
    except UrlError:
        return {}
    is_whole = {"host", "user", "dbname"} <= said.keys()
    return {
        variable: remedy
        for variable, (name, remedy) in UNREAD.items()
        if (value := environ.get(variable))
        and name not in said
        and value.lower() not in HARMLESS.get(variable, ())
        and not (name == "service" and is_whole)
    }


_LINE: Final = re.compile(":".join([r"((?:[^:\\]|\\.)*)"] * 5) + "(?::.*)?")


def password_in(text: str, place: Place, database: str, user: str) -> str | None:
    """The password of a place in the text of a password file; None if no line matches.

    https://www.postgresql.org/docs/current/libpq-pgpass.html
    """
    hosts = {place.host, "localhost"} if place.is_socket else {place.host}
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is None or line.startswith("#"):
            continue
        fields = [re.sub(r"\\(.)", r"\1", part) for part in found.groups()]
        wanted = (hosts, {str(place.port)}, {database}, {user})
        if all(part == "*" or part in known for part, known in zip(fields, wanted, strict=False)):
            return fields[4]
    return None
