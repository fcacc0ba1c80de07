"""The SQL of the config, checked before the exporter reads a row."""

from collections.abc import Callable, Sequence
from typing import Final

import asyncpg

from exporter.measure.query_faults import is_refused_lock
from exporter.measure.session import Session
from exporter.model.fault import CollectionError, Fault
from exporter.plan.expressions import (
    Expression,
    called,
    compared,
    harmless,
    has_sub_query,
    is_of_its_statement,
    is_sampled,
    is_volatile,
    planned,
    qualified,
    unfound,
    written,
)
from exporter.plan.plan import Plan, is_of_every_session
from exporter.plan.transaction import (
    Kind,
    schema_of,
    silent_types,
)


async def read_expressions(session: Session, *, are_columns: bool) -> None:
    """Find the computed columns, or the other expressions, that the server refuses, before any row is read."""
    plan = session.plan
    subject = f"pipelines.{plan.pipeline.name}"
    asked = [
        one
        for one in plan.expressions
        if one.is_column is are_columns and (one.record is None or one.record not in session.faults)
    ]
    if not asked:
        return
    if isinstance(await look_at(session, asked, f"{subject}.{plan.part_of(asked[0])}"), Fault):
        for one in asked:
            whole, refused = await qualify(session, one, f"{subject}.{plan.part_of(one)}")
            if isinstance(refused, Fault):
                _lose(session, one, refused)
            else:
                session.plan = session.plan.about(written(session.plan.pipeline, whole))
    for one, fault in await misread(session, plan, asked):
        _lose(session, one, fault)


def _lose(session: Session, one: Expression, fault: Fault) -> None:
    """Note the fault of an expression for its record or part; raises CollectionError if nothing can be measured."""
    if one.record is not None:
        session.faults = {one.record: fault, **session.faults}
    elif is_of_every_session(one):
        raise CollectionError(fault)
    else:
        session.part_faults = {session.plan.part_of(one): fault, **session.part_faults}


async def misread(session: Session, plan: Plan, asked: Sequence[Expression]) -> list[tuple[Expression, Fault]]:
    """Expressions that the server accepts, but computes with the operators of another type.

    Example: citext converts to text.  If the schema of citext is not searched, the server silently uses the operators
    of text.  The expressions must be planned before: planning locks the tables.
    """
    if not asked:
        return []
    words = {one.path: frozenset(compared(one.sql)) for one in asked}
    columns = sorted(frozenset().union(*words.values()))
    found = await session.run(silent_types(columns, session.database.search_path), f"pipelines.{plan.pipeline.name}")
    return [
        (
            one,
            Fault(
                "invalid_sql",
                f"pipelines.{plan.pipeline.name}.{plan.part_of(one)}: {column} is {kind}, and the exporter does not "
                f"search the schema with the operators of this type: write search_path: [{schema}] in the section of "
                f"the database or, to compare as text, {column}::text",
            ),
        )
        for one in asked
        for column, kind, schema in found
        if column in words[one.path]
    ]


NAMES_LIMIT: Final = 20
"""At most this many names without a schema are looked up in one expression."""


async def qualify(session: Session, one: Expression, subject: str) -> tuple[Expression, list[str] | Fault]:
    """The expression with schemas before bare names of tables and functions, and the result of `look_at`.

    The exporter does not use the role's search_path: a user of the database could shadow operators and functions of
    the server.  A name that the server does not know is looked up once in the role's search_path.
    """
    left = NAMES_LIMIT
    while True:
        errors: list[asyncpg.PostgresError] = []
        found = await look_at(session, [one], subject, errors.append)
        named = _unfound(one, errors[-1]) if errors and left else None
        if named is None:
            return one, found
        at, name, kind = named
        schemas = await session.run(schema_of(kind, name, session.searched), subject)
        if not schemas:
            return one, found
        [[schema]] = schemas
        session.schemas = {**session.schemas, name: schema}
        one, left = qualified(one, at, schema), left - 1


def _unfound(one: Expression, error: asyncpg.PostgresError) -> tuple[int, str, Kind] | None:
    kind: Kind
    match error:
        case asyncpg.UndefinedTableError():
            kind = "table"
        case asyncpg.UndefinedFunctionError():
            kind = "function"
        case asyncpg.UndefinedObjectError():
            kind = "type"
        case _:
            return None
    named = unfound(one, int(getattr(error, "position", None) or 0))
    return (*named, kind) if named else None


async def look_at(
    session: Session,
    asked: Sequence[Expression],
    subject: str,
    refused: Callable[[asyncpg.PostgresError], None] = lambda _: None,
) -> list[str] | Fault:
    """The server's plan for the expressions, line by line, or the fault; reads no row.

    `refused` gets the error of the server, if any.
    """
    rows = await session.attempt(planned(asked), subject, is_refused_lock, refused=refused)
    if isinstance(rows, Fault):
        return rows
    lines = [row[0] for row in rows]
    if why := await _unsteady(session, asked, lines, subject):
        return Fault("invalid_sql", f"{subject}: {why}")
    return lines


async def _unsteady(session: Session, asked: Sequence[Expression], plan: Sequence[str], subject: str) -> str | None:
    """The reason why the values of the expressions may change between statements; None for stable expressions."""
    if any(is_sampled(plan) or is_of_its_statement(one.sql) for one in asked):
        return (
            "samples rows or reads the start of the statement, and the exporter computes it in several statements: "
            "remove TABLESAMPLE, and use now() for the time"
        )
    if not is_volatile(plan):
        return None
    if len(asked) == 1 and not has_sub_query(asked[0].sql):
        [[returns_nothing]] = await session.run(harmless(called(asked[0].sql)), subject)
        if returns_nothing:
            return None
    return (
        "calls a volatile function, with a new value at each call: call a stable function (now() for the time), or "
        "declare your own function as stable: ALTER FUNCTION <function> STABLE"
    )
