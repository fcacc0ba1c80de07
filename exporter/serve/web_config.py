"""The file of `--web.config.file`: TLS, passwords, headers and a limit of requests.

The format is the one of the Prometheus exporter toolkit:
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
No message quotes a value of the file: the file has hashes of passwords, and a password by mistake.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from exporter.config.read import ConfigError, Problem, parse_sections
from exporter.model.sections import Section
from exporter.model.values import Duration, KeyPath, check_not_empty
from exporter.text.files import MB, FileRefusedError, read_bytes
from exporter.text.names import known_names

LARGEST: Final = MB
"""Bytes of the file, and of each file that it names."""

HIGHEST_COST: Final = 16
"""The highest cost of a hash: a check takes 4 to 5 s.  Each further step doubles the time of every wrong password."""

SUITES: Final[Mapping[str, str]] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""Suites of TLS 1.2 by Go's name (https://pkg.go.dev/crypto/tls#CipherSuites), as OpenSSL calls each."""

ALWAYS: Final = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""The suites of TLS 1.3, which Go and Python always allow."""

CURVES: Final[Mapping[str, str]] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
"""Curves by Go's name, as OpenSSL calls each."""

HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""The headers that the file may set, with the possible values; any value if there are none."""

FILES: Final = ("cert_file", "key_file", "client_ca_file")
"""The keys of `tls_server_config` that name a file."""

_HASH: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_OLD_VERSIONS: Final = ("TLS10", "TLS11")
_UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_VERIFIED: Final = ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
_INLINE: Final = "is not read from this file: write the PEM text to a file of its own, and name the file with"

ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]
Version = Literal["TLS12", "TLS13"]


def cost_of(password_hash: str) -> int:
    """The cost of a valid hash: a check takes 2 to the power of the cost rounds."""
    return int(password_hash[4:6])


def _check_text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    if not value.isprintable():
        raise ValueError("has a control character: remove it")
    return value


def _check_client_auth(value: object) -> object:
    if value in _UNVERIFIED:
        raise ValueError(
            "asks for a certificate without checking it, which Python cannot do, and which protects nothing: "
            "write RequireAndVerifyClientCert, or VerifyClientCertIfGiven"
        )
    return value


def _check_version(value: object) -> object:
    if value in _OLD_VERSIONS:
        # https://www.rfc-editor.org/rfc/rfc8996
        raise ValueError("TLS 1.0 and 1.1 are insecure and not supported: write TLS12 or TLS13")
    return value


def _check_suite(value: str) -> str:
    if value not in SUITES and value not in ALWAYS:
        raise ValueError(f"is not a known suite{known_names(value, [*SUITES, *ALWAYS])}")
    return value


def _check_curves(value: tuple[str, ...]) -> tuple[str, ...]:
    if any(curve not in CURVES for curve in value):
        raise ValueError(f"must have one of {', '.join(CURVES)}")
    if len(value) > 1:
        raise ValueError("Python's TLS takes one curve: keep one, or remove the key for the order of OpenSSL")
    return value


def _check_header(value: str) -> str:
    if value not in HEADERS:
        raise ValueError(f"is not a header that can be set{known_names(value, HEADERS)}")
    return value


def _check_header_value(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("must be one line of ASCII")
    return value.strip()


def _check_user(value: str) -> str:
    if ":" in value:
        # https://www.rfc-editor.org/rfc/rfc7617#section-2
        raise ValueError("a user with a colon cannot log in: choose another name")
    return _check_text(value)


def _check_hash(value: object) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError("is not a bcrypt hash: write the output of htpasswd -nBC 10 \"\" | tr -d ':\\n'")
    if not 4 <= cost_of(value) <= HIGHEST_COST:  # noqa: PLR2004 - the least of bcrypt
        raise ValueError(f"has a cost outside 4 to {HIGHEST_COST}: hash the password again, as with htpasswd -nBC 10")
    return value


def _parse_list(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Word = Annotated[str, AfterValidator(_check_text)]
Words = Annotated[tuple[Word, ...], BeforeValidator(_parse_list), AfterValidator(check_not_empty)]
Suites = Annotated[tuple[Annotated[str, AfterValidator(_check_suite)], ...], BeforeValidator(_parse_list)]
Curves = Annotated[tuple[str, ...], BeforeValidator(_parse_list), AfterValidator(_check_curves)]
HeaderName = Annotated[str, AfterValidator(_check_header)]
HeaderValue = Annotated[str, AfterValidator(_check_header_value)]
User = Annotated[str, AfterValidator(_check_user)]
PasswordHash = Annotated[str, BeforeValidator(_check_hash)]


class TlsServer(Section):
    """How the server speaks TLS."""

    refused: ClassVar[Mapping[str, str]] = {
        "cert": f"{_INLINE} cert_file",
        "key": f"{_INLINE} key_file",
        "client_ca": f"{_INLINE} client_ca_file",
    }

    cert_file: Word
    """The certificate of the server with its chain, in PEM.  A relative path begins at the folder of the web config."""
    key_file: Word
    """The private key of the certificate, in PEM, without a passphrase."""
    client_auth_type: Annotated[ClientAuth, BeforeValidator(_check_client_auth)] = "NoClientCert"
    """Whether a client shows a certificate that `client_ca_file` signs."""
    client_ca_file: Word | None = None
    """The authorities of client certificates, in PEM."""
    client_allowed_sans: Words | None = None
    """The subject alternative names of clients, of which a certificate must have one; None for every name."""
    min_version: Annotated[Version, BeforeValidator(_check_version)] = "TLS12"
    """The oldest version of TLS."""
    max_version: Annotated[Version, BeforeValidator(_check_version)] = "TLS13"
    """The newest version of TLS."""
    cipher_suites: Suites = ()
    """The suites of TLS 1.2, by Go's name; without any, the suites of OpenSSL."""
    prefer_server_cipher_suites: bool = True
    """Whether the order of `cipher_suites` decides, or the order of the client."""
    curve_preferences: Curves = ()
    """The curve of the key exchange; without one, the curves of OpenSSL."""

    @property
    def requires_client(self) -> bool:
        """Whether a client without a certificate is refused."""
        return self.client_auth_type == "RequireAndVerifyClientCert"


class HttpServer(Section):
    """What the server adds to each answer."""

    http2: bool = True
    """Whether HTTP/2 is allowed.  The server speaks HTTP/1.1, which every client of HTTP/2 speaks as well."""
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict)
    """Headers of each answer, in place of the exporter's own."""

    @property
    def sent(self) -> dict[str, str]:
        """The headers with a value: a blank value sets nothing."""
        return {name: value for name, value in self.headers.items() if value}


class RateLimit(Section):
    """A limit for the requests of all clients together."""

    interval: Duration
    """Time until one more request is allowed; 0 for no limit."""
    burst: Annotated[int, Field(ge=1)] = 1
    """The requests that are allowed at once after a pause."""


class WebConfig(Section):
    """The whole file."""

    tls_server_config: TlsServer | None = None
    """TLS; without this section the server speaks plain HTTP."""
    http_server_config: HttpServer = Field(default_factory=HttpServer)
    """Headers."""
    basic_auth_users: dict[User, PasswordHash] = Field(default_factory=dict, repr=False)
    """The users and the bcrypt hashes of the passwords; without users no password is asked for."""
    rate_limit: RateLimit | None = None
    """The limit of requests; None for no limit."""

    @property
    def is_authenticated(self) -> bool:
        """Whether each client has to show a password or a certificate."""
        return bool(self.basic_auth_users) or (
            self.tls_server_config is not None and self.tls_server_config.requires_client
        )


FileFaults = Callable[[Mapping[str, Any]], Iterator[tuple[str, str]]]
"""The faults of the files that the values of `tls_server_config` name: the key, and the fault with the remedy."""


def read_web_config(path: Path, file_faults: FileFaults) -> WebConfig:
    """Read the file at `path` and ask about the files that it names; raises ConfigError with every mistake."""
    source = str(path)
    data, fault = read_regular(path)
    if fault is not None:
        raise ConfigError(source, (Problem("", fault),))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(source, (Problem("", f"is not UTF-8 at byte {error.start}: save it as UTF-8"),)) from None

    def faults(written: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
        yield from contradictions(written)
        for key, message in file_faults(_section(written, "tls_server_config")):
            yield ("tls_server_config", key), message

    return parse_sections(text, WebConfig, source, _is_secret, faults)


def read_regular(path: Path) -> tuple[bytes, str | None]:
    """The content of a file, or the fault with the remedy."""
    try:
        return read_bytes(path, LARGEST), None
    except FileRefusedError as error:
        return b"", f"is {error}: name another file"
    except OSError as error:
        absent = isinstance(error, FileNotFoundError | NotADirectoryError)
        remedy = "correct the path" if absent else "check the path and its permissions"
        return b"", f"cannot be read ({error.strerror}): {remedy}"


def contradictions(written: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """The contradictions between keys: path and message, also if other values are invalid."""
    tls, place = _section(written, "tls_server_config"), "tls_server_config"
    client_auth = tls.get("client_auth_type", "NoClientCert")
    if client_auth in _VERIFIED and "client_ca_file" not in tls:
        yield (place, "client_auth_type"), "needs client_ca_file: name the authorities that sign the certificates"
    if client_auth == "NoClientCert" and "client_ca_file" in tls:
        yield (place, "client_ca_file"), "has no effect: add client_auth_type: RequireAndVerifyClientCert"
    if client_auth in ("NoClientCert", "VerifyClientCertIfGiven") and "client_allowed_sans" in tls:
        yield (
            (place, "client_allowed_sans"),
            "does not bind a client without a certificate: write client_auth_type: RequireAndVerifyClientCert",
        )
    oldest, newest = tls.get("min_version", "TLS12"), tls.get("max_version", "TLS13")
    if (oldest, newest) == ("TLS13", "TLS12"):
        yield (place, "max_version"), "is older than min_version: exchange the two"
    suites = tls.get("cipher_suites")
    if suites and isinstance(suites, list) and oldest == "TLS12" and all(suite in [*ALWAYS] for suite in suites):
        yield (place, "cipher_suites"), "has no suite of TLS 1.2: add one, or write min_version: TLS13"
    headers = _section(_section(written, "http_server_config"), "headers")
    for name, value in headers.items():
        allowed = HEADERS.get(name)
        if allowed and isinstance(value, str) and value.strip() and value.strip() not in allowed:
            yield ("http_server_config", "headers", name), f"must be {' or '.join(allowed)}"


def _section(written: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The section if it is a mapping, else an empty one."""
    found = written.get(name)
    return found if isinstance(found, dict) else {}


def _is_secret(path: KeyPath) -> bool:
    """Whether the value at a path is secret, or may be secret by mistake."""
    return path == ("tls_server_config", "key") or (path[:1] == ("basic_auth_users",) and len(path) > 1)
