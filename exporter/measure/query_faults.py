"""Why the server refused a statement, with the remedy."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from exporter.model.fault import Fault
from exporter.model.sql import TableName, quote

PATIENCE_SECONDS: Final = 5
"""How much longer than the server's own time-out we wait for its answer before we give the connection up."""

LOST: Final = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What the driver raises where the connection is gone; the second where the server said farewell unasked."""


_REJECTIONS: Final = frozenset(
    {"08", "0A", "20", "21", "22", "23", "2F", "38", "39", "3F", "42", "44", "54", "HV", "P0"}
)
"""Classes of SQLSTATE.  While our own connection stands, 08 and HV are about the server of a foreign table."""


def is_rejection(error: asyncpg.PostgresError) -> bool:
    """Whether the server refused the statement for what it says or meets, rather than for lack of time or means.

    Only then is it worth asking for the parts apart: a busy server is left in peace.
    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """
    state = error.sqlstate or ""
    return state in {"25006", "55000"} or state[:2] in _REJECTIONS


def is_uncountable(error: asyncpg.PostgresError) -> bool:
    """Whether it is worth counting the rest apart: one table may be what the server cannot read, or must wait for."""
    return is_rejection(error) or isinstance(error, asyncpg.LockNotAvailableError)


def is_refused_lock(error: asyncpg.PostgresError) -> bool:
    """Whether one table cannot be held, for a reason that says nothing about the others."""
    return is_rejection(error) or isinstance(
        error, asyncpg.LockNotAvailableError | asyncpg.QueryCanceledError | asyncpg.DeadlockDetectedError
    )


ROLE: Final = "<role>"
"""Stands for the role that the exporter connects as, in the SQL that mends something: its name is never told."""


_FAREWELLS: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""Why the server ends a connection: recovery within a savepoint, and a transaction that waits for us for too long."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a statement that failed, beside its error.

    `statement_timeout` in seconds.  `is_parsed`: the server has understood it, and computes, so that an error may tell
    a value.  `is_ours`: it holds no SQL of the config.  `schemas` are those of tables and functions, by their names.
    """

    statement_timeout: float
    is_replica: bool = False
    is_parsed: bool = False
    is_ours: bool = False
    schemas: Mapping[str, str] = field(default_factory=dict)


def query_fault(error: BaseException, subject: str, table: TableName | None, given: Circumstances) -> Fault:
    """Why a statement about `subject` (a key of the config) failed, which reads `table` (None: not one alone).

    The server's text is passed on only where it speaks of names, and of a statement that it did not yet compute:
    elsewhere it may quote a value of a row.
    """
    if isinstance(error.__cause__, _FAREWELLS):
        # The server ends the whole connection; the driver tells its reason as the cause.
        error = error.__cause__
    if not isinstance(error, asyncpg.PostgresError):
        if isinstance(error, TimeoutError):
            return Fault(
                "statement_timeout",
                f"{subject}: no answer {PATIENCE_SECONDS} s after its time-out: check the network, and whether a "
                "pooler has a free connection",
            )
        if given.is_replica and not isinstance(error, OSError):
            # Recovery ends a transaction that is in its way between two statements, too; the driver keeps no reason.
            return Fault(
                "recovery_conflict",
                f"{subject}: the replica ended the connection, most likely for its recovery: "
                "retried at the next interval",
            )
        return Fault("connect", f"{subject}: the connection was lost: is the server running?")
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
                f"{subject}: a function that the config's SQL calls does not find a table or function that it names "
                "without a schema, for the exporter searches none: "
                f"ALTER FUNCTION {_function_of(error)} SET search_path = <schema>, or write search_path: [SCHEMA] in "
                "the section of the database",
            )
        case asyncpg.ObjectNotInPrerequisiteStateError():
            return Fault("missing_object", f"{subject}: {_text(error)}: REFRESH the materialized view")
    if not given.is_parsed and (misnamed := _misnamed(error, subject)):
        return misnamed
    return _fault_by_class(error, subject, given)


def _misnamed(error: asyncpg.PostgresError, subject: str) -> Fault | None:
    """What the server does not know of what a statement names; None where it is another fault."""
    match error:
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError() | asyncpg.InvalidSchemaNameError():
            return Fault("missing_object", f"{subject}: {_text(error)}: create it, or correct the config")
        case asyncpg.UndefinedFunctionError() | asyncpg.UndefinedObjectError():
            return Fault(
                "type",
                f"{subject}: {_text(error)}: correct the config; a key of another type needs a cast, one of a type "
                "without equality (json, point) a view with the column as text, an operator or a type of an extension "
                "search_path: [SCHEMA] in the section of the database",
            )
        case asyncpg.DatatypeMismatchError() | asyncpg.CannotCoerceError():
            return Fault("type", f"{subject}: {_text(error)}: correct the config; a key of another type needs a cast")
    return None


def _waited(error: asyncpg.PostgresError, subject: str, given: Circumstances) -> Fault | None:
    """Why the server ended something that took or waited too long; None where it did not."""
    match error:
        case asyncpg.QueryCanceledError():
            return Fault(
                "statement_timeout",
                f"{subject}: ended by the server, after statement_timeout ({given.statement_timeout:g} s), or "
                "cancelled by somebody: add an index for the window, shorten it, or raise statement_timeout",
            )
        case asyncpg.IdleInTransactionSessionTimeoutError():
            return Fault(
                "statement_timeout",
                f"{subject}: the server ended the transaction, for it had to wait for us longer than statement_timeout "
                f"({given.statement_timeout:g} s): was this process stopped?",
            )
        case asyncpg.LockNotAvailableError():
            return Fault(
                "lock_timeout",
                f"{subject}: another transaction holds an exclusive lock on a table: a wait ends after lock_timeout, "
                "and after a quarter of the server's deadlock_timeout while other tables are held",
            )
        case asyncpg.DeadlockDetectedError() if not given.is_replica:
            return Fault(
                "deadlock",
                f"{subject}: another transaction and ours waited for each other's locks, and the server ended ours: "
                "retried at the next interval",
            )
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
            return Fault(
                "recovery_conflict",
                f"{subject}: cancelled by the replica's recovery: retried at the next interval",
            )
    return None


_OUT_OF_LOCKS: Final = "53200"
"""The server's class for memory, and what it says where the shared table of locks is full: LockAcquireExtended()."""


_OF_MANY_ROWS: Final = {"42803", "42P20"}
"""Grouping and windowing errors: an aggregate or a window function where none may be.
https://www.postgresql.org/docs/current/errcodes-appendix.html"""


def _fault_by_class(error: asyncpg.PostgresError, subject: str, given: Circumstances) -> Fault:
    state = error.sqlstate or ""
    if state == "22P05":
        return Fault(
            "invalid_sql",
            f"{subject}: the config has a sign that the database's encoding lacks (SQLSTATE {state}): correct the "
            "versions, the values or the SQL",
        )
    if state == "22021":
        return Fault(
            "type",
            f"{subject}: holds text that is not UTF-8 (SQLSTATE {state}): correct the rows, or the database's encoding",
        )
    if state.startswith("22") and not given.is_parsed:
        return Fault("invalid_sql", f"{subject}: {_text(error)}: correct the SQL in the config")
    # Once it computes, what the server does not know is a name that it was given by a row: has_table_privilege(column).
    if state[:2] in {"22", "23"} or (given.is_parsed and not given.is_ours and state[:2] == "42"):
        return Fault(
            "type",
            f"{subject}: a value of a row or of the config does not fit ({type(error).__name__}, SQLSTATE {state}): "
            "check casts and expressions",
        )
    if given.is_ours and state[:2] in {"0A", "42"}:
        return Fault(
            "internal",
            f"{subject}: the server refuses the exporter's own SQL (SQLSTATE {state}): is it PostgreSQL 14 or newer, "
            "and no product that only speaks its protocol?",
        )
    if state in _OF_MANY_ROWS and not given.is_parsed:
        return Fault(
            "invalid_sql",
            f"{subject}: {_text(error)}: the exporter computes the SQL of the config for one row at a time: "
            "write such a function in a sub-query of its own",
        )
    if state == "25006" or state[:2] in {"0A", "42"}:
        said = f"{type(error).__name__}, SQLSTATE {state}" if given.is_parsed else _text(error)
        return Fault(
            "invalid_sql",
            f"{subject}: {said}: correct the SQL in the config, see it whole with `queries`",
        )
    if state[:2] in {"P0", "38", "39"}:
        return Fault(
            "invalid_sql",
            f"{subject}: a function that the config's SQL calls raised an exception (SQLSTATE {state}): correct the "
            "function, or do not call it for such rows",
        )
    if state[:2] == "08" and subject == "begin":
        # PgBouncer cuts the connection where its mode knows no transactions: https://www.pgbouncer.org/features.html
        return Fault(
            "connect",
            "begin: the connection ended where the transaction begins: is the server of a pooler down, "
            "or its pool without a free connection (query_wait_timeout, PAUSE)? its pool_mode must be transaction or "
            "session",
        )
    if state[:2] in {"08", "57"}:
        return Fault(
            "connect", f"{subject}: the server, or a foreign table's, ended the connection ({type(error).__name__})"
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
            f"{subject}: the server lacks memory or disk for it ({type(error).__name__}, SQLSTATE {state}): shorten "
            "the window, or raise temp_file_limit or work_mem of the role",
        )
    return Fault("internal", f"{subject}: {type(error).__name__}, SQLSTATE {state}")


_NAME_IN_TEXT: Final = re.compile(r'"(?P<quoted>[^"]+)"|(?P<last>[^\s"]+)$')


def _named(error: asyncpg.PostgresError, table: TableName | None, schemas: Mapping[str, str]) -> TableName | None:
    """The table that an error is about: its schema is known where it is the one that was asked for."""
    if getattr(error, "context", None):
        return None  # Raised within a function, which may read any table.
    found = _NAME_IN_TEXT.search(_text(error))
    name = found and (found["quoted"] or found["last"])
    if not name or (table and name in (table.name, table.schema)):
        return table
    return TableName(schemas.get(name), name) if name.isidentifier() else None


def _for_whom(named: TableName | None, table: TableName | None) -> str:
    """Who else a remedy may be for: a view reads with the rights of its owner."""
    if table is None or named is None or named == table:
        return ""
    return f"; where a view reads it, its owner takes the place of {ROLE}: `config check --connect` tells who"


_FUNCTION_IN_CONTEXT: Final = re.compile(r'^PL/pgSQL function (\S+\([^()]*\)) line|^SQL function ("[^"]+")')
"""Of the first line; in other languages of the server the function is left blank."""


def _function_of(error: asyncpg.PostgresError) -> str:
    """The function in which the server failed, as SQL has its name."""
    found = _FUNCTION_IN_CONTEXT.match(getattr(error, "context", None) or "")
    return (found[1] or found[2]) if found else "<function>"


_KIND_IN_TEXT: Final = re.compile(r"permission denied for (function|schema) ")
"""Where the server speaks English; for others a table is the best guess."""


def _may_use(error: asyncpg.PostgresError, table: TableName | None, schemas: Mapping[str, str]) -> str:
    named, kind = _named(error, table, schemas), _KIND_IN_TEXT.match(_text(error))
    if kind is None or named is None or named == table:
        return f"{_may_read(named)}{_for_whom(named, table)}"
    if kind[1] == "schema":
        return f"GRANT USAGE ON SCHEMA {quote(named.name)} TO {ROLE}"
    return f"GRANT EXECUTE ON FUNCTION {named.sql} TO {ROLE}"


def _may_read(table: TableName | None) -> str:
    if table is None:
        return f"GRANT SELECT ON the table TO {ROLE}, and USAGE ON its SCHEMA"
    schema = f"GRANT USAGE ON SCHEMA {quote(table.schema)} TO {ROLE}; " if table.schema else ""
    return f"{schema}GRANT SELECT ON {table.sql} TO {ROLE}"


def _see_every_row(table: TableName | None) -> str:
    """How the role gets to see what a policy hides.  A view reads with the rights of its owner, unless told not to.

    https://www.postgresql.org/docs/current/sql-createview.html#id-1.9.3.97.6
    """
    name = table.sql if table else "the table"
    view = TableName(table.schema, f"every_{table.name}").sql if table else "every_row"
    return (
        f"rows may be hidden from this role, so none are counted: ALTER ROLE {ROLE} BYPASSRLS; or, as an owner of the "
        f"table whom no policy binds (no FORCE), CREATE VIEW {view} AS SELECT * FROM {name}; GRANT SELECT ON {view} TO "
        f"{ROLE}, and name the view in the config"
    )


def _is_row_security(error: asyncpg.PostgresError) -> bool:
    # Both share SQLSTATE 42501 and the text is translated; the routine that raised it is neither.
    return getattr(error, "server_source_function", None) == "check_enable_rls"


def _is_about_locks(error: asyncpg.PostgresError) -> bool:
    # Its hint names the setting, in every language.
    return "max_locks_per_transaction" in str(getattr(error, "hint", "") or "")


def _text(error: asyncpg.PostgresError) -> str:
    """The server's words; not those of a function of the platform, which may tell a value of a row."""
    message = None if getattr(error, "context", None) else getattr(error, "message", None)
    # It may quote the rest of the statement, most of which is ours.
    first, cut, _ = str(message or type(error).__name__).partition("\n")
    return f"{first}…" if cut else first
