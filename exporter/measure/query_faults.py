"""Errors of the server -> faults with a remedy."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from exporter.model.fault import Fault
from exporter.model.sql import TableName, quote

PATIENCE_SECONDS: Final = 5
"""Seconds beyond the server's own time-out before the exporter gives up the connection."""

LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Errors of the driver for a lost connection; the second if the server ended the connection."""


_ENDED: Final = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionError,
)
"""Errors of a connection that the other side has ended; the last if the exporter was writing."""

_REJECTIONS: Final = frozenset(
    {"08", "0A", "20", "21", "22", "23", "2F", "38", "39", "3F", "42", "44", "54", "HV", "P0"}
)
"""Classes of SQLSTATE.  While the connection stands, 08 and HV concern the server of a foreign table."""


def is_rejection(error: asyncpg.PostgresError) -> bool:
    """Whether the server refused the statement for its content or data, not for lack of time or resources.

    Only then does the exporter ask for the parts apart: a busy server gets no further statements.
    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    state = error.sqlstate or ""
    return state in {"25006", "55000"} or state[:2] in _REJECTIONS


def is_uncountable(error: asyncpg.PostgresError) -> bool:
    """Whether to count the records apart: a single table may be unreadable or locked."""
    return is_rejection(error) or isinstance(error, asyncpg.LockNotAvailableError)


def is_refused_lock(error: asyncpg.PostgresError) -> bool:
    """Whether one table cannot be locked, for a reason that does not concern other tables."""
    return is_rejection(error) or isinstance(
        error, asyncpg.LockNotAvailableError | asyncpg.QueryCanceledError | asyncpg.DeadlockDetectedError
    )


ROLE: Final = "<role>"
"""Placeholder for the exporter's role in SQL of a remedy: messages never contain the name of the role."""


_FAREWELLS: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""Reasons of the server to end a connection: recovery within a savepoint, and an idle transaction."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The context of a failed statement.

    `statement_timeout`: seconds.  `is_parsed`: the server has parsed the statement, so that an error may quote a value.
    `is_ours`: the statement has no SQL of the config.  `is_of_rows`: rows of a record are read for another database.
    `casts` of the subject, for people.  `schemas`: schema by name of a table or function.
    """

    statement_timeout: float
    is_replica: bool = False
    is_parsed: bool = False
    is_ours: bool = False
    is_of_rows: bool = False
    casts: tuple[str, ...] = ()
    schemas: Mapping[str, str] = field(default_factory=dict)


def query_fault(error: BaseException, subject: str, table: TableName | None, given: Circumstances) -> Fault:
    """The fault of a statement about `subject` (a key of the config), on `table` (None: several tables).

    The message has the server's text only for unknown names and before the statement runs: later texts may quote a
    value of a row.
    """
    if isinstance(error.__cause__, _FAREWELLS):
        # The server ended the connection; the driver has the reason as the cause.
        error = error.__cause__
    if given.is_replica and isinstance(error, _ENDED):
        # Recovery may also end a transaction between two statements; the driver keeps no reason.
        return Fault(
            "recovery_conflict",
            f"{subject}: the replica ended the connection, probably for a recovery conflict: "
            "the exporter retries at the next interval",
        )
    if not isinstance(error, asyncpg.PostgresError):
        if isinstance(error, TimeoutError):
            return Fault(
                "statement_timeout",
                f"{subject}: no answer {PATIENCE_SECONDS} s after statement_timeout: check the network, and that the "
                "pooler has a free connection",
            )
        return Fault("connect", f"{subject}: the connection was lost: check that the server is running")
    if waited := _waited(error, subject, given):
        return waited
    match error:
        case asyncpg.InsufficientPrivilegeError() if _is_row_security(error):
            named = _named(error, table, given.schemas)
            remedy = f"{_see_every_row(named)}{_for_whom(named, table)}"
            return Fault("row_security", f"{subject}: {_text(error)}: {remedy}")
        case asyncpg.InsufficientPrivilegeError():
            return Fault("permission", f"{subject}: {_text(error)}: {_may_use(error, table, given.schemas)}")
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedFunctionError() if getattr(error, "context", None):
            return Fault(
                "missing_object",
                f"{subject}: a function in the config's SQL names a table or function without a schema, and the "
                "exporter searches no schema: "
                f"ALTER FUNCTION {_function_of(error)} SET search_path = <schema>, or write search_path: [SCHEMA] in "
                "the section of the database",
            )
        case asyncpg.ObjectNotInPrerequisiteStateError():
            return Fault("missing_object", f"{subject}: {_text(error)}: REFRESH the materialized view")
    if not given.is_parsed and (misnamed := _misnamed(error, subject)):
        return misnamed
    return _fault_by_class(error, subject, given)


def _misnamed(error: asyncpg.PostgresError, subject: str) -> Fault | None:
    """The fault of a name or type that the server does not know; None for other errors."""
    match error:
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError() | asyncpg.InvalidSchemaNameError():
            return Fault("missing_object", f"{subject}: {_text(error)}: create it, or correct the config")
        case asyncpg.UndefinedFunctionError() | asyncpg.UndefinedObjectError():
            return Fault(
                "type",
                f"{subject}: {_text(error)}: correct the config: a key of another type needs a cast; a type without "
                "equality (json, point) needs a view with the column as text; an operator or type of an extension "
                "needs search_path: [SCHEMA] in the section of the database",
            )
        case asyncpg.DatatypeMismatchError() | asyncpg.CannotCoerceError():
            return Fault("type", f"{subject}: {_text(error)}: correct the config; a key of another type needs a cast")
    return None


def _waited(error: asyncpg.PostgresError, subject: str, given: Circumstances) -> Fault | None:
    """The fault of a statement that took or waited too long; None for other errors."""
    match error:
        case asyncpg.QueryCanceledError() if subject == "begin":
            return Fault(
                "statement_timeout",
                f"{subject}: the server cancelled the first statement, by a statement_timeout of the role or the "
                f"database, or on request: ALTER ROLE {ROLE} SET statement_timeout = '30s'; the exporter sets its own",
            )
        case asyncpg.QueryCanceledError():
            remedy = (
                "leave out old rows with where"
                if given.is_of_rows
                else "add an index for the window, shorten the window"
            )
            return Fault(
                "statement_timeout",
                f"{subject}: the server cancelled the statement, after statement_timeout "
                f"({given.statement_timeout:g} s) or on request: {remedy}, or raise statement_timeout",
            )
        case asyncpg.IdleInTransactionSessionTimeoutError():
            return Fault(
                "statement_timeout",
                f"{subject}: the server ended the transaction after waiting for the exporter longer than "
                f"statement_timeout ({given.statement_timeout:g} s): check that the exporter gets CPU time and was not "
                "paused",
            )
        case asyncpg.LockNotAvailableError():
            return Fault(
                "lock_timeout",
                f"{subject}: another transaction holds an exclusive lock on a table: the exporter waits at most "
                "lock_timeout, and a quarter of deadlock_timeout while holding locks: end the other transaction, or "
                "raise lock_timeout",
            )
        case asyncpg.DeadlockDetectedError() if not given.is_replica:
            return Fault(
                "deadlock",
                f"{subject}: deadlock with another transaction, and the server ended the collection: "
                "the exporter retries at the next interval",
            )
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
            return Fault(
                "recovery_conflict",
                f"{subject}: the recovery of the replica cancelled the statement: the exporter retries at the next "
                "interval",
            )
    return None


_OUT_OF_LOCKS: Final = "53200"
"""Out of memory, also for a full shared lock table: LockAcquireExtended()."""


_OF_MANY_ROWS: Final = {"42803", "42P20"}
"""Grouping and windowing errors: a misplaced aggregate or window function.
https://www.postgresql.org/docs/current/errcodes-appendix.html"""


def _fault_by_class(error: asyncpg.PostgresError, subject: str, given: Circumstances) -> Fault:
    state = error.sqlstate or ""
    if state == "22P05":
        return Fault(
            "invalid_sql",
            f"{subject}: the config has a character outside the encoding of the database (SQLSTATE {state}): correct "
            "the versions, the values or the SQL",
        )
    if state == "22021":
        return Fault(
            "type",
            f"{subject}: holds text that is not UTF-8 (SQLSTATE {state}): correct the rows, or the database's encoding",
        )
    if state.startswith("22") and not given.is_parsed:
        return Fault("invalid_sql", f"{subject}: {_text(error)}: correct the SQL in the config")
    # At run time an unknown name comes from a row, such as has_table_privilege(column).
    if state == "22P02" and given.casts:
        return Fault(
            "type",
            f"{subject}: a text does not fit the type of a key ({', '.join(given.casts)}): write cast: text, so that "
            "such a row has no session and counts as orphaned, or leave such rows out with where",
        )
    if state[:2] in {"22", "23"} or (given.is_parsed and not given.is_ours and state[:2] == "42"):
        return Fault(
            "type",
            f"{subject}: a value of a row or of the config does not fit ({type(error).__name__}, SQLSTATE {state}): "
            "check casts and expressions",
        )
    if given.is_ours and state[:2] in {"0A", "42"}:
        return Fault(
            "internal",
            f"{subject}: the server refuses the exporter's own SQL (SQLSTATE {state}): use PostgreSQL 14 or newer; "
            "products that only speak its protocol are not supported",
        )
    if state in _OF_MANY_ROWS and not given.is_parsed:
        return Fault(
            "invalid_sql",
            f"{subject}: {_text(error)}: the exporter computes the SQL of the config for one row at a time: "
            "write the aggregate or window function in a sub-query",
        )
    if state == "25006" or state[:2] in {"0A", "42"}:
        said = f"{type(error).__name__}, SQLSTATE {state}" if given.is_parsed else _text(error)
        return Fault(
            "invalid_sql",
            f"{subject}: {said}: correct the SQL in the config; `queries` prints the whole statement",
        )
    if state[:2] in {"P0", "38", "39"}:
        return Fault(
            "invalid_sql",
            f"{subject}: a function in the config's SQL raised an exception (SQLSTATE {state}): correct the function, "
            "or do not call the function for these rows",
        )
    if state[:2] == "08" and subject == "begin":
        # PgBouncer cuts the connection in a pool_mode without transactions: https://www.pgbouncer.org/features.html
        return Fault(
            "connect",
            "begin: the connection ended at the start of the transaction: check that the server behind the pooler is "
            "running, that the pool has a free connection (query_wait_timeout, PAUSE), and that pool_mode is "
            "transaction or session",
        )
    if state[:2] in {"08", "57"}:
        return Fault(
            "connect",
            f"{subject}: the server, or the server of a foreign table, ended the connection ({type(error).__name__}): "
            "see the log of the server",
        )
    if state == _OUT_OF_LOCKS and _is_about_locks(error):
        return Fault(
            "internal",
            f"{subject}: the server's table of locks is full: raise max_locks_per_transaction (each partition and each "
            "index takes a lock)",
        )
    if state[:2] == "53":
        return Fault(
            "internal",
            f"{subject}: the server has too little memory or disk for the statement ({type(error).__name__}, SQLSTATE "
            f"{state}): shorten the window, or raise temp_file_limit or work_mem of the role",
        )
    return Fault("internal", f"{subject}: {type(error).__name__}, SQLSTATE {state}")


_NAME_IN_TEXT: Final = re.compile(r'"(?P<quoted>[^"]+)"|(?P<last>[^\s"]+)$')


def _named(error: asyncpg.PostgresError, table: TableName | None, schemas: Mapping[str, str]) -> TableName | None:
    """The table in the text of an error, with schema if known; None if the text names no table."""
    if getattr(error, "context", None):
        return None  # Raised inside a function: any table is possible.
    found = _NAME_IN_TEXT.search(_text(error))
    name = found and (found["quoted"] or found["last"])
    if not name or (table and name in (table.name, table.schema)):
        return table
    return TableName(schemas.get(name), name) if name.isidentifier() else None


def _for_whom(named: TableName | None, table: TableName | None) -> str:
    """A note for tables behind a view: a view reads with the rights of its owner."""
    if table is None or named is None or named == table:
        return ""
    return f"; if a view reads the table, replace {ROLE} with the view's owner: see `config check --connect`"


_FUNCTION_IN_CONTEXT: Final = re.compile(r'^PL/pgSQL function (\S+\([^()]*\)) line|^SQL function ("[^"]+")')
"""The first line of the context; for other languages of the server the function is unknown."""


def _function_of(error: asyncpg.PostgresError) -> str:
    """The SQL name of the function in which the server failed, or a placeholder."""
    found = _FUNCTION_IN_CONTEXT.match(getattr(error, "context", None) or "")
    return (found[1] or found[2]) if found else "<function>"


_KIND_IN_TEXT: Final = re.compile(r"permission denied for (function|schema) ")
"""Only for English messages; for other languages a table is the best guess."""


def _may_use(error: asyncpg.PostgresError, table: TableName | None, schemas: Mapping[str, str]) -> str:
    named, kind = _named(error, table, schemas), _KIND_IN_TEXT.match(_text(error))
    if kind is None or named is None or named == table:
        return f"{_may_read(named)}{_for_whom(named, table)}"
    if kind[1] == "schema":
        return f"GRANT USAGE ON SCHEMA {quote(named.name)} TO {ROLE}"
    return f"GRANT EXECUTE ON FUNCTION {named.sql} TO {ROLE}"


def _may_read(table: TableName | None) -> str:
    if table is None:
        return f"GRANT SELECT ON the table TO {ROLE}, and USAGE ON the SCHEMA of the table"
    schema = f"GRANT USAGE ON SCHEMA {quote(table.schema)} TO {ROLE}; " if table.schema else ""
    return f"{schema}GRANT SELECT ON {table.sql} TO {ROLE}"


def _see_every_row(table: TableName | None) -> str:
    """The remedy for hidden rows.  A view reads with the rights of its owner, except with security_invoker.

    https://www.postgresql.org/docs/current/sql-createview.html#id-1.9.3.97.6
    """
    name = table.sql if table else "the table"
    view = TableName(table.schema, f"every_{table.name}").sql if table else "every_row"
    return (
        f"policies may hide rows from this role, so nothing is counted: ALTER ROLE {ROLE} BYPASSRLS; or, as the owner "
        f"of a table without FORCE ROW LEVEL SECURITY, CREATE VIEW {view} AS SELECT * FROM {name}; GRANT SELECT ON "
        f"{view} TO {ROLE}, and name the view in the config"
    )


def _is_row_security(error: asyncpg.PostgresError) -> bool:
    # SQLSTATE 42501 also means missing rights, and the text is translated: only the routine is specific.
    return getattr(error, "server_source_function", None) == "check_enable_rls"


def _is_about_locks(error: asyncpg.PostgresError) -> bool:
    # The hint names the setting in every language.
    return "max_locks_per_transaction" in str(getattr(error, "hint", "") or "")


def _text(error: asyncpg.PostgresError) -> str:
    """The server's text, but not the text of a platform function: it may quote a value of a row."""
    message = None if getattr(error, "context", None) else getattr(error, "message", None)
    # The text may quote the rest of the statement.
    first, cut, _ = str(message or type(error).__name__).partition("\n")
    return f"{first}…" if cut else first
