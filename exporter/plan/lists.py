"""Statements for `list`: the sessions or rows that a number counts, by the conditions of the number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from exporter.model.counting import Scope
from exporter.model.dimension import Dimension
from exporter.model.keys import Link
from exporter.model.listing import RowList, SessionList
from exporter.model.sections import Record
from exporter.model.sql import Bindings, conjunction, moment, quote, relation, unquoted
from exporter.model.states import is_valid
from exporter.plan.fragments import column_of, comma_list, named_keys, record_keys, rows_from
from exporter.plan.gaps import declared
from exporter.plan.joined import NUMBERED, SEGMENT, owners_of_rows
from exporter.plan.listed import listed_sessions
from exporter.plan.statement import Cursor, Statement, marker


@dataclass(frozen=True, slots=True)
class Selection:
    """The members of a number: SQL for a FROM item after WITH clauses, and the values of its placeholders.

    `session`: SQL for the key of the session.  `row`: SQL for the primary key of a row, by column.  `columns`: SQL for
    further texts, by name.  `order`: the sort key; the number of a member comes last.  `counted`: SQL for the members
    that the number counts; a list may show more.
    """

    title: str
    pipeline: str
    defined: str
    source: str
    session: tuple[str, ...]
    columns: Mapping[str, str]
    order: tuple[str, ...]
    bind: Bindings
    row: Mapping[str, str] = field(default_factory=dict)
    counted: str = "true"

    @property
    def cursor(self) -> Cursor:
        """The cursor over the members.

        Columns: the number of the member, whether the number counts the member, then texts: `session`, `row` and
        `columns`.
        """
        texts = [*self.session, *self.row.values(), *self.columns.values()]
        selected = [NUMBERED, f"({self.counted}) is true", *(f"{sql}::text" for sql in texts)]
        ordered = ", ".join([*self.order, NUMBERED])
        sql = f"{self.defined}select\n  {comma_list(selected)}\nfrom {self.source}\norder by {ordered}"
        return declared(self.title, self.pipeline, sql, self.bind)

    @property
    def count(self) -> Statement:
        """The statement that counts: all, the different, and those that the number counts."""
        sql = (
            f"{self.defined}select {marker(self.pipeline, self.title)}\n"
            f"  count(*), pg_catalog.count(distinct {NUMBERED}), count(*) filter (where {self.counted})\n"
            f"from {self.source}"
        )
        return Statement(f"count of {self.title}", sql, tuple(self.bind.values), is_ours=False)


def selected_sessions(
    name: str, listed: SessionList, dimension: Dimension, scope: Scope, subject: str, segment: str | None
) -> Selection:
    """The sessions that a number counts: key, status and times.  `segment`: SQL over the sessions table, or None."""
    bind, pipeline = Bindings(), scope.pipeline
    judged = listed_sessions(scope, {}, (dimension,), bind, segment=segment)
    keys = [f"key_{n}" for n in range(1, len(pipeline.sessions.key) + 1)]
    columns = {
        "status": "status" if pipeline.sessions.status else "null",
        "started_at": "started",
        "completed_at": "completed" if pipeline.sessions.completed_at else "null",
    }
    if segment is not None:
        columns["segment"] = SEGMENT
    title = f"{name} {subject}".strip()
    return Selection(
        title,
        pipeline.name,
        f"with {judged}\n",
        f"judged\nwhere {listed.where(pipeline, subject)}",
        tuple(keys),
        columns,
        ("coalesce(completed, started)", *keys),
        bind,
    )


def selected_rows(
    name: str,
    listed: RowList,
    dimension: Dimension,
    scope: Scope,
    link: Link,
    row_key: Sequence[str],
) -> Selection:
    """The rows of the only record of `scope` that a number counts: primary key, session key and time.

    `row_key`: the columns of the primary key; empty if the table has none.
    """
    bind, pipeline, [record] = Bindings(), scope.pipeline, scope.records
    source, wanted = rows_from(record)
    width = range(1, len(link) + 1)
    created = "null::timestamptz"
    if record.created_at:
        created = moment(column_of(record, record.created_at), record.timezone, bind)
    own = [column_of(record, part.column) for part in record.session_key]
    facts = {quote(fact.name): fact.sql(bind) for fact in dimension.row_facts(record)}
    texts = {quote(column): sql for column, sql in listed.columns(record, bind).items()}
    read = {
        **{f"session_{n}": f"{column}::text" for n, column in enumerate(own, start=1)},
        **{f"row_{n}": f"{column_of(record, column)}::text" for n, column in enumerate(row_key, start=1)},
        "created": created,
        "keyed": conjunction([f"{key} is not null" for key in record_keys(record, link)]),
        "valid": f"({is_valid(record, bind)}) is true",
        **facts,
        **texts,
    }
    known = [*named_keys(record, link), *(f"{sql} as {column}" for column, sql in read.items())]
    rows = f"""
    select
      row_number() over () as {NUMBERED},
      {comma_list(known, 6)}
    from {source}
    where {wanted}
    offset 0"""
    if listed.by_session:
        rows = _with_session(rows, dimension, scope, link, bind)
    sessions = [f"session_{n}" for n in width]
    order = map(quote, listed.ordered_by)
    return Selection(
        f"{name} {record.name}",
        pipeline.name,
        "",
        f"({rows}\n) listed\nwhere {listed.where(pipeline, record)}",
        tuple(sessions),
        {"created_at": "created", **{unquoted(column): column for column in texts}},
        (*order, "created", *sessions),
        bind,
        {column: f"row_{n}" for n, column in enumerate(row_key, start=1)},
        listed.counted,
    )


def _with_session(rows: str, dimension: Dimension, scope: Scope, link: Link, bind: Bindings) -> str:
    """SQL for the rows, with `linked` and the session facts that tell rows apart; false without a session."""
    owners = owners_of_rows(scope, (dimension,), bind, known=["true as linked"])
    flags = ["linked", *owners.flags]
    same = " and ".join(one.holds(f"s.key_{k}", f"r.key_{k}") for k, one in enumerate(link, start=1))
    return f"""
    select r.*, {", ".join(f"coalesce(s.{flag}, false) as {flag}" for flag in flags)}
    from ({rows}
    ) r
    left join ({owners.sql}
    ) s on {same}
    offset 0"""


def primary_key(record: Record, pipeline: str) -> Statement:
    """The columns of the primary key of a record table, in order: one row each."""
    bind = Bindings()
    sql = f"""select {marker(pipeline, f"primary key of {record.name}")} a.attname::text
from pg_catalog.pg_index i
cross join lateral pg_catalog.unnest(i.indkey::int2[]) with ordinality as keyed (number, place)
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = keyed.number
where i.indrelid = {relation(record.table, bind)} and i.indisprimary and i.indisvalid
order by keyed.place"""
    return Statement(f"primary key of {record.name}", sql, tuple(bind.values))
