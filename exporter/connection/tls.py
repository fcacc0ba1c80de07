"""TLS settings -> an SSL context.  Reads only the files that the settings name."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from exporter.connection.target import Tls

_PROTOCOLS: Final = ["postgresql"]
"""ALPN protocol of direct TLS: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL"""


class TlsFileError(Exception):
    """The file of the parameter `name` cannot be used; `why` is the reason, without the path."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name = name
        self.why = why


class NamedContext(ssl.SSLContext):
    """A context that checks the certificate against `host`, also if the connection is to an address of the host."""

    host: str | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - as the standard library has it
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Wrap like the standard library, with `host` as the server name."""
        return super().wrap_bio(incoming, outgoing, server_side, self.host or server_hostname, session)


def context(asked: Tls) -> NamedContext:
    """A new context, without files of the home directory; raises TlsFileError."""
    made = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = asked.mode == "verify-full"
    made.minimum_version = _version(asked.oldest)
    made.maximum_version = _version(asked.newest) if asked.newest else ssl.TLSVersion.MAXIMUM_SUPPORTED
    made.set_alpn_protocols(_PROTOCOLS)
    # As in libpq, sslmode=require checks the certificate if sslrootcert is set.
    if asked.root is None or asked.mode in ("allow", "prefer"):
        made.verify_mode = ssl.CERT_NONE
    elif asked.is_of_system:
        made.load_default_certs()
    else:
        _load(made.load_verify_locations, "sslrootcert", asked.root)
    if asked.revoked:
        _load(made.load_verify_locations, "sslcrl", asked.revoked)
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if asked.certificate:
        with _blaming("sslcert or sslkey"):
            # Without a password OpenSSL would prompt on the terminal.
            made.load_cert_chain(asked.certificate, asked.key, lambda: asked.key_password or "")
    return made


def _version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]


def _load(load: Callable[[str], None], name: str, path: str) -> None:
    with _blaming(name):
        load(path)


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise TlsFileError(name, f"not a valid certificate or key: {error.reason or 'unreadable'}") from None
    except (OSError, ValueError) as error:
        raise TlsFileError(name, getattr(error, "strerror", None) or type(error).__name__) from None
