"""Database -> a proposed config: reads the catalog, and a bounded number of values."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from exporter.measure.guard import open_transaction
from exporter.measure.query_faults import is_refused_lock
from exporter.measure.session import Session
from exporter.model.fault import Fault
from exporter.model.sections import Database
from exporter.model.sql import TableName, parse_type_name, quote
from exporter.plan.statement import Statement
from exporter.setup.catalog import (
    ForeignKey,
    Names,
    Relation,
    Server,
    TableColumn,
    are_comparable,
    read_columns,
    read_foreign_keys,
    read_names,
    read_relation,
    read_server,
)
from exporter.setup.proposal import (
    Candidate,
    Link,
    NoProposalError,
    Outline,
    RecordDraft,
    RecordFacts,
    SessionFacts,
    SessionsDraft,
    Value,
    candidates,
    created_of,
    fallback_status,
    keys_of,
    link_of,
    status_of,
    times_of,
    usable,
    version_of,
)
from exporter.setup.proposed_yaml import propose
from exporter.setup.tables import judge_absence

ROW_LIMIT: Final = 100_000
"""Rows read for statuses and versions, at most."""

VALUE_LIMIT: Final = 200
"""Distinct values read, at most."""

RECORD_LIMIT: Final = 10
"""Tables proposed as records without --record, at most."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The text of a config, and remarks for the terminal."""

    text: str
    said: tuple[str, ...]


async def survey(
    database: Database, sessions: TableName | None, records: Sequence[TableName], *, has_url: bool
) -> Proposal:
    """Propose a config for the named tables, or else for the most likely tables of the database.

    Raises CollectionError, and NoProposalError if nothing can be proposed.
    """
    named = [table for table in (sessions, *records) if table is not None]
    async with open_transaction(database, named) as session:
        look = await _begin(session)
        found, links = await look.choose(
            sessions and session.located(sessions), [session.located(table) for table in records]
        )
        drafts = [await look.record(found, link) for link in links]
        kept = [draft for draft in drafts if draft is not None]
        if not kept:
            raise NoProposalError(look.no_records(found.relation.table))
        text = propose(found, kept, has_url=has_url, left_out=look.left_out)
    return Proposal(text, tuple(look.said))


async def _begin(session: Session) -> "_DatabaseSurvey":
    server, names = await read_server(session), await read_names(session)
    columns = await read_columns(session)
    outlines = [Outline(named, usable(columns.get(named.table, ()))) for named in names.tables]
    return _DatabaseSurvey(session, server, names, outlines, await read_foreign_keys(session))


@dataclass(slots=True)
class _DatabaseSurvey:
    """The survey of one database: the catalog, and the remarks so far."""

    session: Session
    server: Server
    names: Names
    outlines: Sequence[Outline]
    foreign_keys: Sequence[ForeignKey]
    said: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    async def choose(
        self, wanted: TableName | None, records: Sequence[TableName]
    ) -> tuple[SessionsDraft, tuple[Link, ...]]:
        """The table of sessions, and the tables that reference the sessions; raises NoProposalError."""
        named = [await self.outline(table) for table in records]
        ranked = candidates(self.outlines, self.foreign_keys)
        if wanted is not None:
            tried = [await self.outline(wanted)]
        else:
            tried = [candidate.outline for candidate in ranked if candidate.outline.named.may_read]
        if not tried:
            raise NoProposalError(self.nothing(ranked))
        refusals = []
        for outline in tried:
            others = tuple(other.table for other in tried if other is not outline)[:RECORD_LIMIT]
            try:
                return await self.around(outline, named, others)
            except NoProposalError as error:
                refusals.append(error)
        raise refusals[0]

    async def around(
        self, outline: Outline, named: Sequence[Outline], others: tuple[TableName, ...]
    ) -> tuple[SessionsDraft, tuple[Link, ...]]:
        """A proposal with `outline` as the table of sessions; raises NoProposalError if no table references it."""
        relation = await self.relation(outline)
        keys = keys_of(relation, self.foreign_keys)
        found = next(filter(None, (self.links(outline, key, named) for key in keys)), None)
        if found is None:
            raise NoProposalError(self.no_records(outline.table, named))
        draft = await self.sessions(outline, relation, found.key, others)
        if others:
            self.said.append(
                f"chosen as the table of sessions: {outline.table.written}; also possible: "
                f"{', '.join(other.written for other in others)} (choose with --sessions)"
            )
        self.left_out += found.left_out
        self.said += found.said
        return draft, found.links

    async def outline(self, table: TableName) -> Outline:
        """The outline of a named table; raises NoProposalError."""
        relation = await read_relation(self.session, table)
        if relation is None:
            absent = judge_absence((), table, self.names, self.server.role)
            raise NoProposalError("\n".join(filter(None, (absent.message, absent.remedy))))
        outline = next((outline for outline in self.outlines if outline.table == relation.table), None)
        if outline is None or outline.named.kind == "foreign table":
            raise NoProposalError(
                f"{table.written} is a {relation.kind}, and the exporter does not measure it: name a table or a view"
            )
        if not outline.named.may_read:
            grants = "\n".join(outline.named.grants(self.server.role))
            raise NoProposalError(f"the role may not read {table.written}:\n{grants}")
        return outline

    async def relation(self, outline: Outline) -> Relation:
        """The full description of a table; raises NoProposalError if the table has been dropped."""
        relation = await read_relation(self.session, outline.table)
        if relation is None:
            raise NoProposalError(f"{outline.table.written} was dropped during init: run init again")
        return relation

    def links(self, sessions: Outline, key: tuple[TableColumn, ...], named: Sequence[Outline]) -> "_Links | None":
        """The tables that reference the sessions by `key`: every named table, else the likely tables.

        None if there is no table, or if a named table does not reference the sessions.
        """
        found, left_out, said = [], [], []
        for outline in named or self.outlines:
            if outline.table == sessions.table or outline.named.kind == "foreign table":
                continue
            link = link_of(outline, sessions.table, key, self.foreign_keys)
            if link is None:
                continue
            if outline.named.may_read:
                found.append(link)
            else:
                left_out.append(f"{outline.table.written} (the role may not read it)")
                said.append("\n".join([f"left out: {left_out[-1]}:", *outline.named.grants(self.server.role)]))
        if not found or (named and len(found) < len(named)):
            return None
        # A view beside tables repeats their rows.  For sessions in a view, records are views too.
        likes = [link for link in found if (link.outline.named.kind == "view") == (sessions.named.kind == "view")]
        kept = found if named else (likes or found)[:RECORD_LIMIT]
        left_out += [f"{link.outline.table.written} (name it with --record)" for link in found if link not in kept]
        return _Links(key, tuple(kept), tuple(left_out), tuple(said))

    async def sessions(
        self, outline: Outline, relation: Relation, key: tuple[TableColumn, ...], others: tuple[TableName, ...]
    ) -> SessionsDraft:
        """The draft of the sessions, with facts from the rows; raises NoProposalError."""
        started, completed = times_of(outline)
        started = started or completed or next((column for column in outline.columns if column.is_time), None)
        if started is None:
            raise NoProposalError(
                f"{outline.table.written} has no column with a time, and the window needs one: name another table with "
                "--sessions, or a view with a time"
            )
        status = status_of(outline) or fallback_status(outline, key)
        facts = await self.session_facts(relation, status, started)
        return SessionsDraft(relation, key, status, started, completed, facts, others)

    async def session_facts(self, relation: Relation, status: TableColumn, started: TableColumn) -> SessionFacts:
        """The start of the newest session, and the statuses of the 90 days before."""
        table, start = relation.table.sql, quote(started.name)
        # Python's dates begin in year 1.
        known = f"isfinite({start}) and {start} >= '0001-01-01' and {start} <= clock_timestamp()"
        newest = f"max({start}) filter (where {known})"
        [row] = await self.ask(
            f"select ({newest})::date, coalesce({newest} >= clock_timestamp() - interval '90 days', false) "
            f"from {table}",
            relation,
        ) or [(None, False)]
        recent = f"{start} >= {_literal(row[0])} - 90" if row[0] else "true"
        return SessionFacts(row[0], row[1], await self.values(relation, status, recent))

    async def record(self, sessions: SessionsDraft, link: Link) -> RecordDraft | None:
        """The draft of a record, with facts from the rows; None if the columns cannot be compared with the key."""
        relation = await self.relation(link.outline)
        casts = []
        for own, key in zip(link.columns, sessions.key, strict=True):
            cast = await self.cast(own, key)
            if cast is None:
                types = f"{own.name} is {own.type}, {key.name} of the sessions {key.type}"
                self.left_out.append(f"{relation.table.written} (keys not comparable: {types})")
                return None
            casts.append(cast or None)
        created, version = created_of(link.outline), version_of(link.outline)
        return RecordDraft(
            relation, link, tuple(casts), created, version, await self.record_facts(relation, link, created, version)
        )

    async def cast(self, own: TableColumn, key: TableColumn) -> str | None:
        """The type for `cast`: empty if no cast is needed, None if no cast helps."""
        if await are_comparable(self.session, own.base, key.base):
            return ""
        try:
            parse_type_name(key.base)
        except ValueError:
            return None
        return key.base if await are_comparable(self.session, f"{own.base}::{key.base}", key.base) else None

    async def record_facts(
        self, relation: Relation, link: Link, created: TableColumn | None, version: TableColumn | None
    ) -> RecordFacts:
        """The versions of the 30 days before the newest row, and whether sessions have several rows."""
        table, recent = relation.table.sql, "true"
        if created is not None:
            at = quote(created.name)
            newest = f"select max({at}) filter (where isfinite({at}) and {at} <= clock_timestamp()) from {table}"
            recent = f"({at} >= ({newest}) - interval '30 days') is not false"
        keys = ", ".join(quote(column.name) for column in link.columns)
        present = " and ".join(f"{quote(column.name)} is not null" for column in link.columns)
        several = await self.ask(
            f"select exists (select 1 from (select {keys} from {table} where {present} limit {ROW_LIMIT}) s "
            f"group by {keys} having count(*) > 1)",
            relation,
        )
        versions = await self.values(relation, version, recent) if version else None
        return RecordFacts(versions, several[0][0] if several else None)

    async def values(self, relation: Relation, column: TableColumn, recent: str) -> tuple[Value, ...] | None:
        """The values of a column in recent rows, the most frequent first; None if the values cannot be read."""
        name = quote(column.name)
        rows = await self.ask(
            f"select {name}::text, count(*) from (select {name} from {relation.table.sql} where {recent} "
            f"limit {ROW_LIMIT}) s group by 1 order by 2 desc, 1 limit {VALUE_LIMIT}",
            relation,
        )
        return None if rows is None else tuple(Value(text, count) for text, count in rows)

    async def ask(self, sql: str, relation: Relation) -> list[Any] | None:
        """The rows of a query about a table; None, with a remark, if the server refuses or times out."""
        answer = await self.session.attempt(Statement("look", sql), relation.table.written, is_refused_lock)
        if not isinstance(answer, Fault):
            return answer
        if answer.message not in self.said:
            self.said.append(answer.message)
        return None

    def nothing(self, ranked: Sequence[Candidate]) -> str:
        """The message if no table can be the table of sessions."""
        if ranked:
            outline = ranked[0].outline
            pointing = [
                other
                for other in self.outlines
                if other.table != outline.table
                and link_of(other, outline.table, [*outline.columns[:1]], self.foreign_keys) is not None
            ]
            grants = [line for one in (outline, *pointing) for line in one.named.grants(self.server.role)]
            return "\n".join(
                [f"{outline.table.written} looks like the table of sessions, but the role may not read it:", *grants]
            )
        if not self.outlines:
            return "the database has no tables: check the database in the url"
        return (
            f"no table of {len(self.outlines)} looks like the table of sessions (with a status, times, and references "
            "from other tables by foreign keys or columns such as order_id): name the tables with --sessions and "
            "--record"
        )

    def no_records(self, sessions: TableName, named: Sequence[Outline] = ()) -> str:
        """The message if no table, or not every named table, can be a record."""
        whose = " and ".join(outline.table.written for outline in named)
        return (
            f"{f'not all of {whose} reference' if named else 'no table references'} {sessions.written}, by a foreign "
            f"key or by a column named after the table{''.join(f'; left out: {why}' for why in self.left_out)}: name "
            "other tables with --sessions and --record, or write session_key by hand into a copy of config.yaml"
        )


@dataclass(frozen=True, slots=True)
class _Links:
    """The tables that point at the sessions by `key`, those left out, and what is to be said of them."""

    key: tuple[TableColumn, ...]
    links: tuple[Link, ...]
    left_out: tuple[str, ...]
    said: tuple[str, ...]


def _literal(day: date) -> str:
    return f"date '{day.isoformat()}'"
