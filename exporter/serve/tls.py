"""`tls_server_config` -> an SSL context of the server, and the faults of the files that it names."""

import ipaddress
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from exporter.serve.web_config import CURVES, FILES, SUITES, TlsServer, read_regular

_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENTS: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_PROTOCOLS: Final = ["http/1.1"]
"""ALPN protocols.  A client that offers only others, such as h2, gets HTTP/1.1."""


class TlsError(Exception):
    """A context cannot be made: the key of `tls_server_config`, and the fault with the remedy."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key = key
        self.message = message


class NamedClients(ssl.SSLContext):
    """A context of a server that may admit only some clients; `allowed_sans` is None for every client."""

    allowed_sans: frozenset[str] | None = None


class _Connection(ssl.SSLObject):
    """A connection that ends in the handshake if the certificate of the client has no allowed name."""

    def do_handshake(self) -> None:
        """Shake hands; raises SSLCertVerificationError for another client."""
        super().do_handshake()
        context = self.context
        allowed = context.allowed_sans if isinstance(context, NamedClients) else None
        if allowed is not None and allowed.isdisjoint(_names(self.getpeercert())):
            raise ssl.SSLCertVerificationError(1, "no subject alternative name of the client is allowed")


class NewestContext(ssl.SSLContext):
    """A context that hands each new connection to the context in force at this moment.

    An `sni_callback` could not: https://docs.openssl.org/master/man3/SSL_set_SSL_CTX/ replaces the certificate, and
    keeps versions, suites and the verification of clients.
    """

    newest: Callable[[], ssl.SSLContext | None]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - as the standard library has it
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Wrap by the newest context; asyncio calls this method for each connection."""
        context = self.newest()
        if context is None:
            raise ssl.SSLError("TLS is not configured")
        return context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def newest_context(newest: Callable[[], ssl.SSLContext | None]) -> NewestContext:
    """The context of a listener, for connections by what `newest` returns when a client connects."""
    made = NewestContext(ssl.PROTOCOL_TLS_SERVER)
    made.newest = newest
    return made


def server_context(tls: TlsServer, folder: Path) -> ssl.SSLContext:
    """A new context; relative paths begin at `folder`.  Raises TlsError."""
    made = NamedClients(ssl.PROTOCOL_TLS_SERVER)
    made.sslobject_class = _Connection
    made.minimum_version = _VERSIONS[tls.min_version]
    made.maximum_version = _VERSIONS[tls.max_version]
    made.set_alpn_protocols(_PROTOCOLS)
    if not tls.prefer_server_cipher_suites:
        made.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    suites = [SUITES[suite] for suite in tls.cipher_suites if suite in SUITES]
    with _supported("cipher_suites"):
        if suites:
            made.set_ciphers(":".join(suites))
    with _supported("curve_preferences"):
        for curve in tls.curve_preferences:
            made.set_ecdh_curve(CURVES[curve])
    if fault := _pair_fault(made, folder / tls.cert_file, folder / tls.key_file):
        raise TlsError(*fault)
    if tls.client_ca_file is not None and (message := _authority_fault(made, folder / tls.client_ca_file)):
        raise TlsError("client_ca_file", message)
    made.verify_mode = _CLIENTS[tls.client_auth_type]
    if tls.client_allowed_sans is not None:
        made.allowed_sans = frozenset(map(_canonical, tls.client_allowed_sans))
    return made


@contextmanager
def _supported(key: str) -> Iterator[None]:
    try:
        yield
    except (ssl.SSLError, ValueError):
        raise TlsError(key, "is not supported by the OpenSSL of this machine: choose another, or remove it") from None


def file_faults(written: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, str]]:
    """The faults of the files that `tls_server_config` names, as written: the key, and the fault with the remedy.

    Only files are looked at, so that one run reports every mistake.
    """
    good = {}
    for key, path in named_files(written, folder):
        _, fault = read_regular(path)
        if fault is None:
            good[key] = path
        else:
            yield key, fault
    if {"cert_file", "key_file"} <= good.keys():
        found = _pair_fault(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), good["cert_file"], good["key_file"])
        if found:
            yield found
    if "client_ca_file" in good:
        message = _authority_fault(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), good["client_ca_file"])
        if message:
            yield "client_ca_file", message


def named_files(written: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Path]]:
    """The keys of `tls_server_config` that name a file, with the file."""
    for key in FILES:
        name = written.get(key)
        if isinstance(name, str) and name.strip():
            yield key, folder / name


def _pair_fault(context: ssl.SSLContext, certificate: Path, key: Path) -> tuple[str, str] | None:
    """Load a certificate and its key; the key of the section and the fault, None if both are loaded."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(certificate)
    except (OSError, ValueError):
        return "cert_file", "is not a certificate in PEM: name the certificate, with its chain"
    asked: list[str] = []

    def passphrase() -> str:
        # Without a function OpenSSL would ask for a passphrase on the terminal.
        asked.append("")
        return ""

    try:
        context.load_cert_chain(certificate, key, passphrase)
    except ssl.SSLError as error:
        reason = error.reason or ""
        if asked:
            return "key_file", "has a passphrase: name a key without one (openssl pkey -in KEY -out NEW)"
        if reason == "KEY_VALUES_MISMATCH":
            return "key_file", "is not the key of the certificate: name the key of cert_file"
        if "SMALL" in reason or "WEAK" in reason:
            return "cert_file", f"is too weak for OpenSSL ({reason}): use a larger key and SHA-256"
        return "key_file", "is not a private key in PEM: name the key of cert_file"
    except (OSError, ValueError) as error:
        return "key_file", f"cannot be read ({getattr(error, 'strerror', None) or type(error).__name__}): check it"
    return None


def _authority_fault(context: ssl.SSLContext, authorities: Path) -> str | None:
    """Load the authorities of clients; the fault, None if the authorities are loaded."""
    try:
        context.load_verify_locations(authorities)
    except (OSError, ValueError):
        return "is not a list of certificates in PEM: name the authorities of the clients"
    return None


def _names(certificate: Mapping[str, Any] | None) -> Iterator[str]:
    """The subject alternative names of a verified certificate: DNS, IP, e-mail and URI, without the kind."""
    for _, name in (certificate or {}).get("subjectAltName", ()):
        yield _canonical(name)


def _canonical(name: str) -> str:
    """A name as text to compare; OpenSSL and operators write addresses of IPv6 in several ways."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name
