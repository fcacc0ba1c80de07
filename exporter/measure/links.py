"""The comparison of each record key with `sessions.key`, by the types in the database."""

from collections.abc import Sequence

from exporter.measure.query_faults import is_rejection
from exporter.measure.session import Session, subject_of
from exporter.model.fault import Fault
from exporter.model.keys import Cast, Equality, KeyType, Link, UnlikeError, cast_type, equality_of, read_key_columns
from exporter.model.sections import KeyPart
from exporter.model.sql import Bindings, quote
from exporter.plan.plan import KeyPlace, Plan
from exporter.plan.statement import Statement
from exporter.plan.transaction import (
    schema_of,
)


async def links_of(session: Session, plan: Plan) -> tuple[dict[str, Link], dict[str, Fault], dict[KeyPlace, str]]:
    """The link of each record to the sessions, the faults of records whose key cannot be compared, and the types."""
    pipeline = plan.pipeline
    rows = [*await session.run(plan.keys, plan.subject), *session.computed_keys]
    types = {(column.record, column.place): column.type for column in read_key_columns(rows)}
    links: dict[str, Link] = {}
    faults: dict[str, Fault] = {}
    for name, record in pipeline.stored.items():
        pairs = [
            (types[None, place], types[name, place], part)
            for place, part in enumerate(record.session_key)
            if (None, place) in types and (name, place) in types
        ]
        # The measuring statement reports a missing column.
        if len(pairs) == len(record.session_key):
            link = await _link(session, pairs, subject_of(plan, name))
            if isinstance(link, Fault):
                faults[name] = link
            else:
                links[name] = link
    return links, faults, {place: kind.shown for place, kind in types.items()}


async def _link(session: Session, pairs: Sequence[tuple[KeyType, KeyType, KeyPart]], subject: str) -> Link | Fault:
    link: list[Equality] = []
    for theirs, ours, part in pairs:
        cast = await _cast(session, ours, part, subject) if part.cast else None
        if isinstance(cast, Fault):
            return cast
        try:
            link.append(equality_of(theirs, ours, part, cast))
        except UnlikeError as error:
            return Fault("type", f"{subject}.session_key: {part.column} {error}")
    return tuple(link)


async def _cast(session: Session, column: KeyType, part: KeyPart, subject: str) -> Cast | Fault:
    """The target type of a cast: named with a schema, or found in the search path of the role."""
    name = part.cast or ""
    while True:
        bind = Bindings()
        sql = cast_type(column, name, bind)
        found = await session.attempt(Statement("type of a cast", sql, tuple(bind.values)), subject, is_rejection)
        if found and not isinstance(found, Fault):
            *kind, is_lossless = found[0]
            return Cast(KeyType(*kind), name, is_lossless)
        schemas = await session.run(schema_of("type", name, session.searched), subject)
        if not schemas or name != part.cast:
            return Fault(
                "type",
                f"{subject}.session_key: the server has no type {part.cast}: write the SQL name of a type, such as "
                "uuid or bigint",
            )
        name = f"{quote(schemas[0][0])}.{quote(name)}"
