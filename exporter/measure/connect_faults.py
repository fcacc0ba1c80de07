"""Why a connection failed, with the remedy."""

import errno
import socket
import ssl
from typing import Final

import asyncpg

from exporter.connection.dial import HungUpError, NobodyError, StrangerError
from exporter.connection.parameters import UrlError
from exporter.connection.tls import TlsFileError
from exporter.measure.query_faults import ROLE
from exporter.model.fault import Fault


def connect_fault(error: Exception, timeout: float) -> Fault:
    """Why no connection could be made.  The driver's texts name hosts and users, so ours take their place."""
    match error:
        case UrlError():
            return Fault("connect", "; ".join(map(str, error.mistakes)))
        case NobodyError():
            faults = [(number, connect_fault(refusal, timeout)) for number, refusal in error.refusals]
            told = [f"host {number}: {fault.message}" for number, fault in faults]
            return Fault("connect", f"none of the {len(faults)} hosts lets us in: {'; '.join(told)}")
        case TlsFileError():
            return Fault("connect", f"the file of {error.name} cannot be used ({error.why}): correct it in the url")
        case OSError():
            return Fault("connect", _unreachable(error, timeout))
        case asyncpg.PostgresError():
            return _refusal(error)
        case asyncpg.TargetServerAttributeNotMatched():
            return Fault("connect", "the server is not what target_session_attrs of the url asks for: check both")
        case asyncpg.InternalClientError() | asyncpg.InterfaceError():
            return Fault(
                "connect",
                f"the driver cannot talk to what answers there ({type(error).__name__}): is it PostgreSQL?",
            )
        case _:
            return Fault("internal", type(error).__name__)


def _refusal(error: asyncpg.PostgresError) -> Fault:
    """Why the server lets us not in."""
    match error:
        case asyncpg.InvalidAuthorizationSpecificationError():
            return Fault(
                "authentication",
                "the server refused the role or its password: check them, and pg_hba.conf; a file of passwords is "
                "read where passfile, or PGPASSFILE, names it",
            )
        case asyncpg.InvalidCatalogNameError():
            return Fault("connect", "the database does not exist: check its name in the url")
        case asyncpg.InsufficientPrivilegeError():
            return Fault(
                "permission",
                f"the role may not connect: GRANT CONNECT ON DATABASE <database> TO {ROLE}, both as in the url",
            )
        case asyncpg.TooManyConnectionsError():
            return Fault(
                "connect",
                "the server has no connection left for us: raise max_connections or the role's limit",
            )
        case asyncpg.SerializationError():
            # To let us in, the server reads its catalog, which the replay may want to itself.
            return Fault(
                "recovery_conflict",
                "cancelled by the replica's recovery while we connected: retried at the next interval",
            )
        case asyncpg.ConnectionDoesNotExistError():
            return Fault("connect", _HUNG_UP)
        case asyncpg.ProtocolViolationError():
            # What PgBouncer answers, whatever it refuses.
            return Fault(
                "connect",
                "a pooler refused the connection: check role, password, database and the parameters of the url, "
                "and see its log",
            )
    return Fault("connect", f"the server refuses connections ({type(error).__name__}, SQLSTATE {error.sqlstate})")


_OF_ANOTHER_HOST: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH: OpenSSL's words for them name the host."""


_HUNG_UP: Final = (
    "the connection was closed before we were let in: is PostgreSQL behind this port, and is it up behind its proxy or "
    "pooler?"
)


def _unreachable(error: OSError, timeout: float) -> str:
    match error:
        case OSError() if error.errno in (errno.EMFILE, errno.ENFILE):
            return (
                "too many open files: raise the limit of the exporter (ulimit -n, LimitNOFILE= of systemd, "
                "--ulimit nofile= of docker)"
            )
        case HungUpError() | ConnectionResetError():
            return _HUNG_UP
        case StrangerError():
            return "what answers there is not PostgreSQL, or cannot serve: check host and port, and the server's log"
        case socket.gaierror():
            return "the name of the host is not known: check address, port and network"
        case ssl.SSLCertVerificationError() if error.verify_code in _OF_ANOTHER_HOST:
            return (
                "the server's certificate is for another host name: connect by a name that it holds, or, where "
                "sslrootcert is an authority of your own, with sslmode=verify-ca"
            )
        case ssl.SSLCertVerificationError():
            return f"the server's certificate is not trusted ({error.verify_message}): check sslrootcert"
        case ssl.SSLError():
            return (
                f"TLS failed ({error.reason or type(error).__name__}): check sslmode, sslrootcert, sslcert and sslkey "
                "in the url, and the server's ssl settings"
            )
        case TimeoutError():
            return f"no answer within {timeout:g} s: check address, network and firewall, or raise connect_timeout"
        case ConnectionRefusedError():
            return "connection refused: is the server running, and are host and port right?"
        case ConnectionError() if type(error) is ConnectionError:
            # The driver's own: the server said no, or nothing, when it was asked for TLS.
            return "the server speaks no TLS, or refused it: turn on its ssl setting, or change sslmode in the url"
        case FileNotFoundError() | PermissionError():
            return (
                "the folder of the server's socket is not there, or may not be opened: check the host of the url, and "
                "whether the server is running"
            )
        case _:
            return "the server cannot be reached: check address, port and network"
