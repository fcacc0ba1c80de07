"""Why a connection failed, with the remedy."""

import errno
import socket
import ssl
from typing import Final

import asyncpg

from exporter.connection.dial import HungUpError, NobodyError, StrangerError
from exporter.connection.flood import MOST as FLOOD
from exporter.connection.flood import FloodError
from exporter.connection.parameters import UrlError
from exporter.connection.tls import TlsFileError
from exporter.measure.query_faults import ROLE
from exporter.model.fault import Fault


def connect_fault(error: Exception, timeout: float) -> Fault:
    """The fault of a failed connection.  Messages of the driver are not used: they contain hosts and users."""
    match error:
        case UrlError():
            return Fault("connect", "; ".join(map(str, error.mistakes)))
        case NobodyError():
            faults = [(number, connect_fault(refusal, timeout)) for number, refusal in error.refusals]
            told = [f"host {number}: {fault.message}" for number, fault in faults]
            return Fault("connect", f"every one of {len(faults)} hosts refused: {'; '.join(told)}")
        case TlsFileError():
            return Fault(
                "connect", f"the file of {error.name} cannot be used ({error.why}): correct the path or the file"
            )
        case OSError():
            return Fault("connect", _unreachable(error, timeout))
        case asyncpg.PostgresError():
            return _refusal(error)
        case asyncpg.TargetServerAttributeNotMatched():
            return Fault(
                "connect",
                "the server does not match target_session_attrs of the url (such as a standby for primary): correct "
                "target_session_attrs or the host",
            )
        case asyncpg.InternalClientError() | asyncpg.InterfaceError():
            return Fault(
                "connect",
                f"the server does not answer like PostgreSQL ({type(error).__name__}): check host and port of the url",
            )
        case _:
            return Fault("internal", type(error).__name__)


def _refusal(error: asyncpg.PostgresError) -> Fault:
    """The fault of a connection that the server refused."""
    match error:
        case asyncpg.InvalidAuthorizationSpecificationError():
            return Fault(
                "authentication",
                "the server refused the role or the password: check role, password and pg_hba.conf; the password comes "
                "from the url, from password_file, or from the file that passfile or PGPASSFILE names; a changed "
                "variable of the environment needs a restart",
            )
        case asyncpg.InvalidCatalogNameError():
            return Fault("connect", "the database does not exist: check its name in the url")
        case asyncpg.InsufficientPrivilegeError():
            return Fault(
                "permission",
                f"the role may not connect: GRANT CONNECT ON DATABASE <database> TO {ROLE}, with database and role "
                "of the url",
            )
        case asyncpg.TooManyConnectionsError():
            return Fault(
                "connect",
                "the server has no free connection: raise max_connections or the CONNECTION LIMIT of the role",
            )
        case asyncpg.SerializationError():
            # At login the server reads the catalog, and the replay may need an exclusive lock.
            return Fault(
                "recovery_conflict",
                "the recovery of the replica cancelled the login: the exporter retries at the next interval",
            )
        case asyncpg.ConnectionDoesNotExistError():
            return Fault("connect", _HUNG_UP)
        case asyncpg.ProtocolViolationError():
            # PgBouncer's answer to every refusal.
            return Fault(
                "connect",
                "a pooler refused the connection: check role, password, database and the parameters of the url, "
                "and see the log of the pooler",
            )
    return Fault(
        "connect",
        f"the server refuses connections ({type(error).__name__}, SQLSTATE {error.sqlstate}): see the server's log",
    )


_OF_ANOTHER_HOST: Final = frozenset({62, 64})
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH: OpenSSL's messages contain the host."""


_HUNG_UP: Final = (
    "the connection was closed before the login: check that PostgreSQL is behind this port, and running behind a proxy "
    "or pooler"
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
        case FloodError():
            return (
                f"the server sent more than {FLOOD >> 20} MB before the login: check that PostgreSQL is behind "
                "host and port of the url, and use sslmode=verify-full against a stranger on the way"
            )
        case StrangerError():
            return "the server is not PostgreSQL, or cannot serve: check host and port, and the log of the server"
        case socket.gaierror():
            return "the name of the host is unknown: check the host of the url, and DNS"
        case ssl.SSLCertVerificationError() if error.verify_code in _OF_ANOTHER_HOST:
            return (
                "the server's certificate is for another host name: connect with a name in the certificate or, if "
                "sslrootcert is your own CA, with sslmode=verify-ca"
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
            return "connection refused: check host and port, and that the server is running"
        case ConnectionError() if type(error) is ConnectionError:
            # Raised by the driver: the server refused TLS, or did not answer the request.
            return "the server has no TLS, or refused TLS: turn on ssl on the server, or change sslmode in the url"
        case FileNotFoundError() | PermissionError():
            return (
                "the folder of the server's socket does not exist or may not be opened: check the host of the url, and "
                "that the server is running"
            )
        case _:
            return "the server cannot be reached: check address, port and network"
