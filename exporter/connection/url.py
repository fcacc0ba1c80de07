"""A URL -> parameters, or every mistake at once.

The reader follows libpq.  An ambiguous URL is refused.
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
"""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from exporter.connection.parameters import (
    BY_DRIVER,
    KNOWN,
    REFUSED,
    Mistake,
    Parameters,
    UrlError,
    is_ipv6,
    wrong,
)
from exporter.text.names import nearest

_FORM: Final = "write postgresql://user@host:5432/database"
_OURS: Final = ("postgresql://", "postgres://")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)|jdbc:[a-z]+(?=:)|sqlite(?=:)")
_RELATED: Final = re.compile(
    r"(?i:jdbc:postgres(ql)?|r2dbc:.*|(postgres(ql)?|postgis|psql|pgsql|pgx5?|cockroachdb|timescale(db)?|redshift)(\+.*)?)"
)
_OTHERS: Final = frozenset(
    (
        "mysql",
        "mysqlx",
        "mariadb",
        "sqlite",
        "sqlserver",
        "mssql",
        "oracle",
        "mongodb",
        "mongodb+srv",
        "redis",
        "http",
        "https",
    )
)
_KEY_VALUE: Final = re.compile(r"(?:host|hostaddr|port|user|password|dbname|service|sslmode)\s*=")
_PARTS: Final = re.compile(r"(?:(?P<login>[^/@]*)@)?(?P<hosts>[^/?]*)(?:/(?P<dbname>[^?]*))?(?:\?(?P<query>.*))?")
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_BLANK: Final = "has a space or a line break: remove it, or write %20 for a space in a password"


def _no_url(text: str) -> str | None:
    """The fault of a text that is not a PostgreSQL URL; None if the text may be a URL."""
    if text.startswith("\ufeff"):
        return "begins with a byte order mark: save the file as UTF-8 without BOM"
    if text[:1] in "'\"`" and text:
        return "has quotes around it: remove the quotes (readers of environment files may keep quotes)"
    bare = text.strip()
    if bare.startswith(("psql ", "DATABASE_URL=", "export ")):
        return "has words before postgresql://: remove the words"
    if not bare.startswith(_OURS):
        scheme = _SCHEME.match(bare)
        if _KEY_VALUE.match(bare):
            return f"is a list of key=value: {_FORM}"
        if scheme and _RELATED.fullmatch(scheme[0]):
            return (
                f"begins with {scheme[0]}, the form of another driver: {_FORM}, with only postgresql:// before the user"
            )
        if scheme:
            what = f"with {scheme[0]}://, " if scheme[0].lower() in _OTHERS else ""
            return (
                f"begins {what}like the url of another kind of service; the exporter measures only PostgreSQL: {_FORM}"
            )
        return f"must begin with postgresql://: {_FORM}; for a variable write ${{DATABASE_URL}}"
    if any(letter.isspace() or not letter.isprintable() for letter in text):
        return _BLANK
    return None


def _odd_parts(login: str | None, hosts: str, dbname: str, query: str) -> str | None:
    """The fault of a URL with ambiguous parts; None if user, password, hosts and database are clear."""
    if "?" in (login or ""):
        return "has a ? before the @: write %3F for a ? in user or password"
    if "@" in hosts or "@" in dbname:
        where = "more than one @ before the database" if "@" in hosts else "an @ after the first /"
        return f"has {where}: in user and password write %40 for an @, and %2F for a /"
    if "#" in hosts + dbname + query:
        return "has a #: write %23"
    if "/" in dbname:
        return "has a second / after the host: remove it, or write %2F for a / in the name of the database"
    return None


def read_url(text: str) -> Parameters:
    """The parameters of a URL; raises UrlError."""
    complaint = _no_url(text)
    parts = _PARTS.fullmatch(text.partition("://")[2])
    if complaint is None and parts is None:
        complaint = f"cannot be read: {_FORM}"
    if complaint is None and parts is not None:
        complaint = _odd_parts(parts["login"], parts["hosts"], parts["dbname"] or "", parts["query"] or "")
    if complaint is not None or parts is None:
        raise UrlError([Mistake("the url", complaint or _FORM)])
    reading = _Reading()
    reading.read(parts)
    reading.check("the url")
    if reading.found:
        raise UrlError(reading.found)
    return reading.said


@dataclass(slots=True)
class _Reading:
    """The state of reading a URL: parameters and mistakes so far."""

    said: dict[str, str] = field(default_factory=dict)
    found: list[Mistake] = field(default_factory=list)

    def report(self, message: str) -> None:
        self.found.append(Mistake("the url", message))

    def read(self, parts: re.Match[str]) -> None:
        """Read the parts of a well-formed URL."""
        user, colon, password = (parts["login"] or "").partition(":")
        self._take("user", user, "in the user")
        if colon:
            self._take("password", password, "in the password")
        self._take_hosts(parts["hosts"])
        self._take("dbname", parts["dbname"] or "", "in the name of the database")
        if parts["query"]:
            # With an @ in the query, the query may be the rest of a password.
            self._take_query(parts["query"], is_certain="@" not in parts["query"])

    def check(self, subject: str) -> None:
        """Check the values of known parameters."""
        for name, value in self.said.items():
            self.found += (Mistake(subject, message) for message in wrong(name, value))

    def _decoded(self, text: str, where: str) -> str:
        if _PERCENT.search(text):
            self.report(f"has a % {where} without two hexadecimal digits: write %25 for a %")
            return ""
        try:
            decoded = unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            self.report(f"has a %… {where} that is not UTF-8: encode the text as UTF-8")
            return ""
        if "\0" in decoded:
            self.report(f"has %00 {where}, which PostgreSQL cannot read: remove it")
            return ""
        return decoded

    def _take(self, name: str, text: str, where: str) -> None:
        if decoded := self._decoded(text, where):
            self.said[name] = decoded

    def _take_hosts(self, text: str) -> None:
        if not text:
            return
        hosts, ports = [], []
        for part in text.split(","):
            host, port = self._host(part, is_alone="," not in text)
            hosts.append(host)
            ports.append(port)
        if any(hosts):
            self.said["host"] = ",".join(hosts)
        if any(ports):
            self.said["port"] = ",".join(ports)

    def _host(self, text: str, *, is_alone: bool) -> tuple[str, str]:
        bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
        if bracketed:
            host, port = self._decoded(bracketed[1], "in a host"), bracketed[2] or ""
            if not is_ipv6(host):
                self.report("has brackets around a host that is not an IPv6 address: remove the brackets or correct it")
        elif text.count(":") > 1 or text[:1] == "[":
            self.report(
                "has a host with several colons: write an IPv6 address in brackets, such as [::1]:5432, and one port"
            )
            return "", ""
        else:
            before, _, port = text.partition(":")
            host = self._decoded(before, "in a host")
            if not host and not is_alone:
                self.report("has an empty part in the list of hosts: remove the comma, or name the host")
        return host, self._decoded(port, "in a port")

    def _take_query(self, query: str, *, is_certain: bool) -> None:
        seen = set()
        for number, part in enumerate(query.split("&"), 1):
            raw, equals, value = part.partition("=")
            name = self._decoded(raw, "in the name of a parameter")
            name = BY_DRIVER.get(name, name)
            shown = f"the parameter {name}" if name in KNOWN else "a parameter"
            if not equals or not raw or not value:
                self.report(f"has {shown} (number {number}) without a name or a value: write name=value, or remove it")
            elif name in seen and name in KNOWN:
                self.report(f"has {shown} twice: keep one")
            elif name in KNOWN:
                self._take(name, value, f"in the parameter {name}")
            elif name:
                self._refuse(name, number, is_certain=is_certain)
            seen.add(name)

    def _refuse(self, name: str, number: int, *, is_certain: bool) -> None:
        near = nearest(name.lower(), KNOWN)
        if advice := REFUSED.get(name.lower()):
            self.report(f"has the parameter {name}, which {advice}")
        elif not is_certain or not _PLAIN_NAME.fullmatch(name):
            self.report(f"has an unknown parameter (number {number}): remove it; for a ? in a password write %3F")
        elif near:
            self.report(f"has the unknown parameter {name}; did you mean {near}?")
        else:
            self.report(
                f"has the unknown parameter {name}: remove it; for a server setting write options=-c%20NAME%3DVALUE"
            )
