"""Database -> a proposed config: reads the catalog, and a bounded number of rows.

One short transaction for the catalog, one for each table of sessions that is measured, and one for the records.
"""

import asyncio
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from exporter.measure.guard import open_transaction
from exporter.measure.session import Session
from exporter.model.sections import Database
from exporter.model.sql import TableName
from exporter.setup.catalog import (
    Names,
    Relation,
    Server,
    TableColumn,
    read_columns,
    read_foreign_keys,
    read_names,
    read_relation,
    read_server,
)
from exporter.setup.evidence import LONG_DAYS, WINDOW_DAYS, Evidence, Source, Split, epoch_columns
from exporter.setup.naming import created_of, names_key, usable, version_of, words
from exporter.setup.proposal import (
    LEAST_NEEDED,
    Candidate,
    Measured,
    NoProposalError,
    RecordDraft,
    SessionsDraft,
    candidates,
    columns_of,
    described,
    left_out,
)
from exporter.setup.proposed_yaml import propose
from exporter.setup.references import (
    Link,
    Outline,
    Pointer,
    References,
    keys_of,
    links_of,
    pointers_of,
    references_of,
)
from exporter.setup.tables import judge_absence

LOOK_TIMEOUT: Final = timedelta(seconds=5)
"""The time-out of a statement, if the config of the database has no shorter one."""

MEASURED_SECONDS: Final = 60.0
"""After so many seconds no further table of sessions is measured."""

CANDIDATES: Final = 12
"""Possible tables of sessions that are measured, at most."""

CANDIDATES_LOOKED_AT: Final = 60
"""Possible tables of sessions that are looked at for rows, at most."""

SPLITS: Final = 8
"""Records of one table of sessions for which a condition is looked for, at most."""

DOUBTFUL: Final = 0.99
"""The share of sessions with a row below which a condition is looked for."""

FILLED: Final = 0.02
"""The least share of sessions with a value in a column that has a role."""

STARTED: Final = 0.95
"""The share of sessions with a start from which on no other column is looked for."""

SOURCES: Final = 20
"""Possible records of one table of sessions that are measured, at most."""

RECORD_LIMIT: Final = 10
"""Tables proposed as records without --record, at most."""

LIKELY: Final = 3
"""How much a table must look like sessions, of 5, to be proposed without rows that speak for it."""

FEW_SESSIONS: Final = 50
"""Rows of a table of sessions below which a larger table is likelier: employees are few, and orders are many."""

KEYS: Final = 3
"""Keys of one table of sessions that are tried, at most."""

Ask = Callable[[Sequence[str]], int]
"""Asks the operator which of several texts is right; returns the place, from 0."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The text of a config, and remarks for the terminal."""

    text: str
    said: tuple[str, ...]


async def survey(
    database: Database,
    sessions: TableName | None,
    records: Sequence[TableName],
    *,
    has_url: bool,
    ask: Ask | None = None,
) -> Proposal:
    """Propose a config for the named tables, or else for the tables that the evidence speaks for.

    `ask` is asked where several tables may be the table of sessions.  Raises CollectionError, and NoProposalError if
    nothing can be proposed.
    """
    quick = database.model_copy(update={"statement_timeout": min(database.statement_timeout, LOOK_TIMEOUT)})
    named = [table for table in (sessions, *records) if table is not None]
    async with open_transaction(quick, named) as session:
        look = await _read(session)
        await look.add_epochs(session)
        wanted = None if sessions is None else await look.outline(session, session.located(sessions))
        with_records = [await look.outline(session, session.located(table)) for table in records]
        tried = await look.with_rows(session, look.tried(wanted))
    measured, refusals = await _measure(quick, look, tried, with_records, WINDOW_DAYS)
    if not measured:
        measured, _ = await _measure(quick, look, tried, with_records, LONG_DAYS)
    if not measured:
        raise refusals[0] if wanted or not with_records else NoProposalError(_unreferenced(tried, with_records))
    chosen = await _choose(measured, ask)
    others = _others(chosen, tried, measured)
    if others:
        look.said.append(
            f"chosen as the table of sessions: {chosen.relation.table.written}; also possible: "
            f"{', '.join(shlex.quote(other.written) for other in others)} (choose with --sessions)"
        )
    if chosen.crowd is not None and not with_records:
        source, rows = chosen.crowd
        look.said.append(
            f"a row of {chosen.relation.table.written} has about {rows:.0f} rows of {source.table.written}: if these "
            f"rows are the sessions, write --sessions {shlex.quote(source.table.written)}"
        )
    if not chosen.held() and not with_records:
        look.said.append(
            f"no table has a row for most sessions of {chosen.relation.table.written}: keep the proposed records that "
            "every session needs, or write required_when, SQL that is true for the sessions that need the record"
        )
    if chosen.eligible.is_guess and chosen.candidate.columns.status is not None:
        look.said.append(
            f"no status of {chosen.relation.table.written} tells whether a session is done, so that every session is "
            "eligible: write eligible, or records of finished sessions alone are missed or proposed wrongly"
        )
    async with open_transaction(quick) as session:
        drafts = await _records(session, look, chosen, with_records)
    draft = SessionsDraft(chosen.relation, chosen.key, chosen.candidate.columns, chosen.facts, chosen.eligible, others)
    kept = frozenset(draft.source for draft in drafts)
    text = propose(draft, drafts, has_url=has_url, left_out=tuple(left_out(chosen, kept)))
    return Proposal(text, tuple(dict.fromkeys([*look.said, *_grants(look, chosen.candidate)])))


async def _read(session: Session) -> "_Look":
    server, names = await read_server(session), await read_names(session)
    columns = await read_columns(session)
    # The rows of a table that inherits from another table are rows of the other table, too.
    tables = [named for named in names.tables if not named.is_heir]
    outlines = [Outline(named, usable(columns.get(named.table, ()))) for named in tables]
    return _Look(server, names, references_of(outlines, await read_foreign_keys(session)))


@dataclass(slots=True)
class _Look:
    """The catalog of one database, and the remarks so far."""

    server: Server
    names: Names
    references: References
    said: list[str] = field(default_factory=list)

    async def outline(self, session: Session, table: TableName) -> Outline:
        """The outline of a named table; raises NoProposalError."""
        relation = await read_relation(session, table)
        if relation is None:
            absent = judge_absence((), table, self.names, self.server.role)
            raise NoProposalError("\n".join(filter(None, (absent.message, absent.remedy))))
        outline = self.references.outlines.get(relation.table)
        if outline is None or not outline.is_measurable:
            raise NoProposalError(
                f"{table.written} is a {relation.kind}, and the exporter does not measure it: name a table or a view"
                if relation.kind not in ("table", "view")
                else f"the rows of {table.written} are also rows of the table that it inherits from: name that table"
            )
        if not outline.named.may_read:
            grants = "\n".join(outline.named.grants(self.server.role))
            raise NoProposalError(f"the role may not read {table.written}:\n{grants}")
        return outline

    def tried(self, wanted: Outline | None) -> list[Candidate]:
        """The candidates to measure, the most likely first; raises NoProposalError."""
        if wanted is not None:
            columns = columns_of(wanted, is_named=True)
            if columns is None:
                raise NoProposalError(
                    f"{wanted.table.written} has no column with a time, and the window needs one: name another table "
                    "with --sessions, or compute the time from other columns (sessions.computed in docs/config.md)"
                )
            return [Candidate(wanted, columns, tuple(self.references.pointing(wanted.table)), is_named=True)]
        ranked = candidates(self.references)
        readable = [candidate for candidate in ranked if candidate.outline.named.may_read]
        if not readable:
            raise NoProposalError(self.nothing(ranked))
        return readable

    async def add_epochs(self, session: Session) -> None:
        """Add computed times for numbers that count from 1970 to the outlines."""
        outlines = self.references.outlines
        found = await epoch_columns(session, [*outlines.values()])
        whole = {
            table: replace(outline, columns=(*outline.columns, *found.get(table, ())))
            for table, outline in outlines.items()
        }
        self.references = replace(self.references, outlines=whole)

    async def with_rows(self, session: Session, ranked: Sequence[Candidate]) -> Sequence[Candidate]:
        """The candidates to measure: the most likely of those with rows, and of all if no table has rows."""
        looked_at = ranked[:CANDIDATES_LOOKED_AT]
        filled = await Evidence(session, self.said).with_rows([one.outline.table for one in looked_at])
        known = [one for one in looked_at if filled is None or one.outline.table in filled]
        return (known or looked_at)[:CANDIDATES]

    def nothing(self, ranked: Sequence[Candidate]) -> str:
        """The message if no table can be the table of sessions."""
        outlines = self.references.outlines
        if ranked:
            first = ranked[0]
            grants = [
                line
                for one in (first.outline, *(outlines[table] for table in first.pointing))
                for line in one.named.grants(self.server.role)
            ]
            head = f"{first.outline.table.written} looks like the table of sessions, but the role may not read it:"
            return "\n".join([head, *grants])
        if not outlines:
            return "the database has no tables: check the database in the url"
        return (
            f"no table of {len(outlines)} looks like the table of sessions (with a status, times, and references "
            "from other tables by foreign keys or columns such as order_id): name the tables with --sessions and "
            "--record"
        )


# --- Measuring


async def _measure(
    database: Database, look: _Look, tried: Sequence[Candidate], named: Sequence[Outline], days: int
) -> tuple[list[Measured], list[NoProposalError]]:
    """The candidates with records by the sessions of so many days, and why others have none."""
    until = time.monotonic() + MEASURED_SECONDS
    measured, refusals = [], []
    for candidate in tried:
        if time.monotonic() > until:
            look.said.append(
                f"not measured, because {MEASURED_SECONDS:.0f} s are over: {candidate.outline.table.written} "
                "(choose with --sessions)"
            )
            continue
        async with open_transaction(database) as session:
            try:
                measured.append(await _measured(session, look, candidate, named, days))
            except NoProposalError as error:
                refusals.append(error)
    return measured, refusals


async def _measured(
    session: Session, look: _Look, candidate: Candidate, named: Sequence[Outline], days: int
) -> Measured:
    """A candidate with its best key; raises NoProposalError if no table is a record."""
    table = candidate.outline.table
    relation = await read_relation(session, table)
    if relation is None:
        raise NoProposalError(f"{table.written} was dropped during init: run init again")
    candidate = await _filled(session, look, candidate, relation)
    keys = keys_of(relation, look.references)
    if not keys:
        raise NoProposalError(
            f"{table.written} has no primary key, no unique index and no column id: write sessions.key by hand into a "
            "copy of config.yaml"
        )
    evidence, found = Evidence(session, look.said, days), []
    for key in keys[:KEYS]:
        sources, out = await _sources(evidence, look, candidate, key, named)
        if named and len(sources) < len(named):
            continue
        facts = await evidence.session_facts(relation, candidate.columns, key, sources)
        found.append(Measured(candidate, relation, key, tuple(sources), facts, tuple(out)).with_best_links())
    # A table that hardly looks like sessions needs rows that speak for it.
    is_likely = candidate.looks >= LIKELY
    if candidate.is_named:
        with_records = [one for one in found if named or one.records()]
    else:
        with_records = [one for one in found if (one.held() if is_likely else one.proof)]
    if with_records:
        best = max(with_records, key=lambda one: one.strength)
        return best.beside([one for one in found if one is not best])
    grants = _grants(look, candidate)
    raise NoProposalError("\n".join([_no_records(table, found, named), *grants]))


async def _filled(session: Session, look: _Look, candidate: Candidate, relation: Relation) -> Candidate:
    """The candidate with columns that have values in its rows; raises NoProposalError without a time."""
    outline = candidate.outline
    roles = [c for c in outline.columns if c.is_time or c in (candidate.columns.status, candidate.columns.flag)]
    filled = await Evidence(session, look.said).filled(relation, candidate.columns.started, roles)

    def without(*names: str) -> Outline:
        return replace(outline, columns=tuple(column for column in outline.columns if column.name not in names))

    empty = [name for name, share in filled.items() if share < FILLED]
    columns = columns_of(without(*empty), is_named=candidate.is_named)
    if columns is None:
        raise NoProposalError(f"{outline.table.written} has no time in its rows: name another table with --sessions")
    if filled.get(columns.started.name, 1.0) < STARTED:
        # A session without a start is outside every window.
        other = columns_of(without(*empty, columns.started.name), is_named=candidate.is_named)
        if other is not None and filled.get(other.started.name, 0.0) >= STARTED:
            columns = replace(columns, started=other.started)
    return replace(candidate, columns=columns)


async def _sources(
    evidence: Evidence, look: _Look, candidate: Candidate, key: tuple[TableColumn, ...], named: Sequence[Outline]
) -> tuple[list[Source], list[str]]:
    """The possible records by a key: every named table, else the tables that refer to the sessions, and pointers."""
    found: list[Source] = []
    out: list[str] = []
    table, references = candidate.outline.table, look.references
    for link in _links(candidate, key, named, references):
        if not link.outline.named.may_read:
            out.append(f"{link.outline.table.written} (the role may not read it)")
            continue
        whole = await evidence.kind_of(link, table)
        if whole is None:
            continue
        source = await evidence.source(whole, key)
        if isinstance(source, Source):
            found.append(source)
        else:
            out.append(f"{link.outline.table.written} (keys not comparable: {source})")
    if named:
        return found, out
    for pointer in pointers_of(candidate.outline, references):
        is_back = any(one.table == pointer.outline.table for one in found)
        if pointer.outline.named.may_read and not is_back and await evidence.points(pointer):
            found.append(Source(pointer))
    out += [f"{source.table.written} (not measured)" for source in found[SOURCES:]]
    return found[:SOURCES], out


def _links(
    candidate: Candidate, key: tuple[TableColumn, ...], named: Sequence[Outline], references: References
) -> list[Link]:
    """The tables that refer to the sessions by a key, foreign keys first."""
    table, is_view = candidate.outline.table, candidate.outline.named.kind == "view"
    others = dict.fromkeys([*candidate.pointing, *references.named.get((), ())])
    # Keys of several columns have names of their own: only one table is compared with all.
    by_key = [one for one, outline in references.outlines.items() if len(key) == 1 and _names(outline, table, key[0])]
    looked = dict.fromkeys([*others, *(references.outlines if candidate.is_named else by_key)])
    outlines = named or [references.outlines[one] for one in looked]
    found = []
    for outline in outlines:
        if outline.table != table and outline.is_measurable:
            found += links_of(outline, table, key, references)
    # A view beside tables repeats their rows.  For sessions in a view, records are views too.
    alike = [link for link in found if (link.outline.named.kind == "view") == is_view]
    kept = found if named else (alike or found)
    return sorted(kept, key=lambda link: not link.by_foreign_key) if not named else kept


def _names(outline: Outline, table: TableName, key: TableColumn) -> bool:
    """Whether a column is named after a key of the sessions other than id: booking_ref of bookings.ref."""
    return any(words(key.name) != ["id"] and names_key(one.name, table.name, key.name) for one in outline.columns)


def _no_records(table: TableName, found: Sequence[Measured], named: Sequence[Outline]) -> str:
    """The message if no table, or not every named table, can be a record."""
    whose = " and ".join(outline.table.written for outline in named)
    verdicts = [verdict for one in found for verdict in one.verdicts() if not isinstance(verdict[0].way, Pointer)]
    weak = dict.fromkeys(
        f"{source.table.written}: {described(share)}" for source, share in verdicts if share is not None
    )
    if weak and not named:
        return (
            f"no table has a row for most sessions of {table.written} ({'; '.join(weak)}): name the tables whose rows "
            "are missing with --record, or choose another table with --sessions"
        )
    out = dict.fromkeys(why for one in found for why in one.left_out)
    return (
        f"{f'not all of {whose} reference' if named else 'no table references'} {table.written}, by a foreign "
        f"key or by a column named after the table{''.join(f'; left out: {why}' for why in out)}: name "
        "other tables with --sessions and --record, or write session_key by hand into a copy of config.yaml"
    )


def _unreferenced(tried: Sequence[Candidate], named: Sequence[Outline]) -> str:
    """The message if the operator named records alone, and no table of sessions fits them."""
    looked_at = ", ".join(candidate.outline.table.written for candidate in tried)
    whose = " and ".join(outline.table.written for outline in named)
    return (
        f"{whose}: no foreign key and no column named after a table leads to a table of sessions (looked at "
        f"{looked_at}): name the table of sessions with --sessions, or write session_key by hand into a copy of "
        "config.yaml"
    )


# --- Choosing


async def _choose(measured: Sequence[Measured], ask: Ask | None) -> Measured:
    ranked = sorted(measured, key=lambda one: _weight(one, measured), reverse=True)
    likely = [one for one in ranked if one.candidate.looks >= min(LIKELY, ranked[0].candidate.looks)]
    if ask is None or len(likely) == 1:
        return ranked[0]
    # In a thread: Ctrl-C ends the wait for an answer.
    return likely[await asyncio.to_thread(ask, [_account(one) for one in likely])]


def _weight(one: Measured, measured: Sequence[Measured]) -> tuple[int, ...]:
    """A larger weight is more likely: of two tables with equal evidence the parent."""
    _, is_table, _, pointing = one.candidate.weight
    looks, is_whole = one.looks, one.looks == 5  # noqa: PLR2004 - as in Candidate.looks
    others = [other.candidate for other in measured if other is not one and other.proof and other.looks >= looks]
    is_parent = any(other.outline.table in one.candidate.pointing for other in others)
    is_work = one.crowd is None and not any(one.contains(other) for other in measured)
    has_evidence = any(share is not None for _, share in one.held())
    by_rows = (has_evidence, bool(one.held()), is_work, looks >= LIKELY)
    return (
        *by_rows,
        is_whole,
        is_table,
        one.proof > 0,
        looks,
        one.size >= FEW_SESSIONS,
        is_parent,
        one.proof,
        pointing,
    )


def _account(one: Measured) -> str:
    """A candidate in one line, with its records."""
    records = [f"{source.table.written}{f' ({described(share)})' if share else ''}" for source, share in one.records()]
    return f"{one.relation.table.written}, with {'; '.join(records)}"


def _others(chosen: Measured, tried: Sequence[Candidate], measured: Sequence[Measured]) -> tuple[TableName, ...]:
    """Other tables that look like sessions, or whose rows have records."""
    least = min(LIKELY, chosen.candidate.looks)
    proved = [one.relation.table for one in measured if one.proof]
    looks = [other.outline.table for other in tried if other.looks >= least and other.pointing]
    return tuple(table for table in dict.fromkeys([*looks, *proved]) if table != chosen.relation.table)


def _grants(look: _Look, candidate: Candidate) -> list[str]:
    """For each table that the role may not read: the SQL that lets the role read the table."""
    role, outlines = look.server.role, look.references.outlines
    hidden = [outlines[table] for table in candidate.pointing if not outlines[table].named.may_read]
    return [
        "\n".join([f"left out: {one.table.written} (the role may not read it):", *one.named.grants(role)])
        for one in hidden
    ]


# --- Records


async def _splits(evidence: Evidence, chosen: Measured) -> dict[Source, Split]:
    """Conditions on the sessions that need a record, for records that many sessions lack."""
    found: dict[Source, Split] = {}
    doubtful = [
        source
        for source, share in chosen.verdicts()
        if share is not None and LEAST_NEEDED <= share.ratio < DOUBTFUL and not isinstance(source.way, Pointer)
    ]
    for source in doubtful[:SPLITS]:
        split = await evidence.split(chosen.relation, chosen.columns, chosen.key, chosen.eligible.sql, source)
        if split is not None:
            found[source] = split
    return found


async def _records(session: Session, look: _Look, chosen: Measured, named: Sequence[Outline]) -> list[RecordDraft]:
    evidence, drafts = Evidence(session, look.said), []
    splits = await _splits(evidence, chosen)
    proposed = chosen.verdicts() if named else chosen.records()[:RECORD_LIMIT]
    proposed += [one for one in chosen.verdicts() if one[0] in splits and one not in proposed]
    for source, share in proposed:
        relation = await read_relation(session, source.table)
        if relation is None:
            continue
        is_link, columns = isinstance(source.way, Link), source.way.outline.columns
        facts = await evidence.record_facts(chosen.relation, chosen.columns, chosen.key, chosen.eligible.sql, source)
        drafts.append(
            RecordDraft(
                relation,
                source,
                share,
                created_of(source.table.name, columns) if is_link else None,
                version_of(columns) if is_link else None,
                facts,
                chosen.is_unreadable(chosen.sources.index(source)),
                splits.get(source),
            )
        )
    return drafts
