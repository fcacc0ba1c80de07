"""The end of a snapshot: check that every row was visible."""

from collections.abc import Mapping, Sequence
from typing import Any

from exporter.measure.session import Session
from exporter.model.fault import CollectionError, Fault
from exporter.plan.transaction import (
    END,
    look_again,
    search,
    shape,
)


def foreign_table(subject: str) -> Fault:
    """The fault of a table on another server: the snapshot does not include that server."""
    return Fault(
        "row_security",
        f"{subject}: a foreign table: the exporter cannot see hidden rows on the other server, and the snapshot does "
        "not include the other server: read the table on its own server; a record may name its database",
    )


def changed_catalog(subject: str) -> Fault:
    """The fault of statements that may have used different catalogs."""
    return Fault(
        "catalog_change",
        f"{subject}: during the collection a partition was attached or detached, a function was replaced, or a schema "
        "or an enum was renamed: the exporter retries at the next interval",
    )


async def end(session: Session) -> tuple[str, ...]:
    """End the snapshot; returns the tables with rows that policies may hide.

    Raises CollectionError if a table was rewritten or is foreign, or if the catalog changed during the snapshot.
    """
    plan = session.plan
    subject = f"pipelines.{plan.pipeline.name}"
    if plan.search:
        await session.run(search(()), subject)
    tables = await session.run(plan.touched, subject)
    if rewritten := [table["name"] for table in tables if table["rewritten"]]:
        raise CollectionError(
            Fault(
                "table_rewrite",
                f"{subject}: {', '.join(rewritten)} was rewritten (TRUNCATE, ALTER TABLE, REFRESH) during the "
                "collection and would look empty: the exporter retries at the next interval",
            )
        )
    if foreign := [table["name"] for table in tables if table["is_foreign"]]:
        raise CollectionError(foreign_table(f"{subject}: {', '.join(foreign)}, read through a view or a sub-query"))
    restricted = [table for table in tables if table["restricted"]]
    switched = any(table["row_security"] != "off" for table in tables)
    if plan.database.row_security == "strict" and (restricted or switched):
        raise CollectionError(_switched(subject, tables, restricted))
    then = shape([table["id"] for table in tables])
    [[before]] = await session.run(then, subject)
    await session.run(END, "end")
    await session.run(look_again(plan.database), subject)
    [[after]] = await session.run(then, subject)
    await session.run(END, "end")
    if before != after:
        raise CollectionError(changed_catalog(subject))
    return (*(table["name"] for table in restricted), *session.restricted)


def _switched(subject: str, tables: Sequence[Mapping[str, Any]], restricted: Sequence[Mapping[str, Any]]) -> Fault:
    who = tables[0]["switches"] or "a function in the config's SQL or in a view"
    hidden = ", ".join(table["name"] for table in restricted) or "any table"
    return Fault(
        "row_security",
        f"{subject}: {who} switches row_security on, so policies may hide rows of {hidden}: ALTER ROLE <owner> "
        "BYPASSRLS for the owners of the functions and views that read the table, or remove the setting from the "
        "function",
    )
