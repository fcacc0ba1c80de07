"""Integrity: does every record belong to an existing session?"""

from collections.abc import Iterator

from exporter.model.advice import Advice, Step
from exporter.model.counting import CatalogMeasure, Cells, RecordMeasure, Rows
from exporter.model.dimension import Dimension
from exporter.model.judging import Limit, Readings, number_of
from exporter.model.listing import RowList
from exporter.model.metric import Metric, Numbers
from exporter.model.reporting import ReportLine
from exporter.model.sections import Pipeline, Record
from exporter.model.sql import Bindings, quote, relation

ORPHANED = Metric("orphaned_records", "Rows whose session does not exist.", labels=("record",))
UNLINKED = Metric("unlinked_records", "Rows whose session key is NULL.", labels=("record",))
FOREIGN_KEY = Metric(
    "foreign_key_enforced",
    "1 if a validated foreign key enforces the link from the record to the session, else 0.",
    labels=("record",),
)


def _orphaned(_record: Record, sessions: Cells, _rows: Rows) -> Numbers:
    return {(): sessions.where(linked=False).total("rows")}


def _unlinked(_record: Record, _sessions: Cells, rows: Rows) -> Numbers:
    return {(): rows.all.where(keyed=False).total("rows")}


def _foreign_key(pipeline: Pipeline, record: Record, bind: Bindings) -> str:
    """1 if one constraint pairs exactly the configured columns.

    A constraint over a PERIOD proves nothing: rows of several sessions can cover the period together.  `conperiod`
    exists from PostgreSQL 18 on: the catalog row is read as JSON, where a missing column is NULL.  A constraint that is
    NOT ENFORCED is never validated.
    https://www.postgresql.org/docs/current/catalog-pg-constraint.html
    """
    if any(part.cast for part in record.session_key):
        return "0"  # A foreign key never converts types, and a key with a cast must be converted.
    ours = bind(tuple(part.column for part in record.session_key), "text[]")
    theirs = bind(pipeline.sessions.key, "text[]")
    return f"""(
    select count(*)::integer
    from (
      select 1
      from pg_catalog.pg_constraint c
      where c.contype = 'f' and c.convalidated
        and to_jsonb(c) ->> 'conperiod' is distinct from 'true'
        -- Nor where its triggers are disabled, or rows are in tables that inherit, which it does not reach.
        and not exists (
          select 1 from pg_catalog.pg_trigger g where g.tgconstraint = c.oid and g.tgenabled in ('D', 'R')
        )
        and not exists (
          select 1
          from pg_catalog.pg_inherits h
          join pg_catalog.pg_class p on p.oid = h.inhparent
          where h.inhparent in (c.conrelid, c.confrelid) and p.relkind = 'r'
        )
        and c.conrelid = {relation(record.table, bind)}
        and c.confrelid = {relation(pipeline.sessions.table, bind)}
        and (
          select array_agg(array[r.attname::text, s.attname::text] order by r.attname::text)
          from unnest(c.conkey, c.confkey) as paired(record_column, session_column)
          join pg_catalog.pg_attribute r on r.attrelid = c.conrelid and r.attnum = record_column
          join pg_catalog.pg_attribute s on s.attrelid = c.confrelid and s.attnum = session_column
        ) = (
          select array_agg(array[record_column, session_column] order by record_column)
          from unnest({ours}, {theirs}) as paired(record_column, session_column)
        )
      limit 1
    ) proof
  )"""


def _forbid_unlinked(pipeline: Pipeline, record: str) -> str:
    section = pipeline.records[record]
    columns = dict.fromkeys(part.column for part in section.session_key)
    if section.where or section.computed.keys() & columns:
        return ""  # Rows that `where` excludes may name no session.
    changes = ", ".join(f"alter column {quote(column)} set not null" for column in columns)
    return f"alter table {section.table.sql} {changes};"


def _lines_of(record: str, readings: Readings) -> Iterator[ReportLine]:
    enforced = readings.get(FOREIGN_KEY, record) == 1
    yield ReportLine(
        "operation",
        f"Rows of {record} whose session does not exist",
        readings.get(ORPHANED, record),
        record=record,
        good="none",
        limit="orphaned_records",
        evidence="enforced" if enforced else "measured",
        brief="orphans",
    )
    yield ReportLine(
        "operation",
        f"Rows of {record} without a session key",
        readings.get(UNLINKED, record),
        record=record,
        good="none",
        limit="unlinked_records",
        brief="rows without a key",
    )


def _lines(readings: Readings) -> tuple[ReportLine, ...]:
    return tuple(line for record in readings.pipeline.stored for line in _lines_of(record, readings))


INTEGRITY = Dimension(
    name="integrity",
    question="Does every record belong to an existing session?",
    measures=(
        RecordMeasure(ORPHANED, _orphaned, of_rows=True),
        RecordMeasure(UNLINKED, _unlinked, of_rows=True),
        CatalogMeasure(FOREIGN_KEY, _foreign_key),
    ),
    limits=(
        Limit(
            "orphaned_records",
            "count",
            "Rows whose session does not exist",
            number_of(ORPHANED),
            Advice(
                "Records belong to sessions that do not exist.",
                "Rows have a session key that is missing in the sessions table, in or out of the window.  If "
                "`session_health_foreign_key_enforced` is 1, the database prevents such rows.",
                (
                    "Sessions were deleted without the records.",
                    "Records were restored or copied from another database.",
                ),
                (
                    "List the rows with the missing session keys (`list orphaned_records`).",
                    "Restore the sessions or delete the rows.",
                    Step(
                        "Add a foreign key: first `not valid`, then validate the key after the cleanup", is_at_home=True
                    ),
                ),
            ),
            per="record",
            needs=(("records", "*", "table"),),
            members=RowList(lambda _pipeline, _record: "keyed and not linked", by_session=True),
        ),
        Limit(
            "unlinked_records",
            "count",
            "Rows whose session key is NULL",
            number_of(UNLINKED),
            Advice(
                "Records have no session: the session key is NULL.",
                "Rows have NULL in the session key: the session of the row is unknown.  A foreign key accepts NULL.",
                (
                    "The worker wrote the row before the session was known, and never set the key.",
                    "A foreign key with `on delete set null` removed the key with the session.",
                ),
                (
                    "List the rows (`list unlinked_records`).",
                    "Set the session key or delete the rows.",
                    Step("For a table (not a view), forbid NULL", _forbid_unlinked),
                ),
            ),
            per="record",
            needs=(("records", "*", "table"),),
            members=RowList(lambda _pipeline, _record: "not keyed"),
        ),
    ),
    lines=_lines,
)
