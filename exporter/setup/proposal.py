"""Facts about the tables of a database -> the choices of a proposed config.  No I/O."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from exporter.model.sql import TableName, text_literal
from exporter.setup.catalog import Relation, TableColumn
from exporter.setup.evidence import Columns, Group, RecordFacts, SessionFacts, Source, Split, Value
from exporter.setup.naming import (
    INTEGERS,
    STATUS_WORDS,
    done,
    flag_of,
    is_changing,
    is_text,
    status_of,
    times_of,
    words,
)
from exporter.setup.references import Link, Outline, Pointer, References, pointers_of
from exporter.text.exits import NotMeasuredError
from exporter.text.figures import format_value

SHOWN_VALUES: Final = 12
"""Values in a comment, at most."""

HOLDS: Final = 0.85
"""The share of sessions with a row from which on a table is proposed as a record."""

FEW: Final = (200, 0.75)
"""So few sessions tell little: the same share for them."""

HELD: Final = 0.95
"""The same for some parts of the window: a relation that held, and does not hold any more."""

HELD_PARTS: Final = 2
"""So many parts of the window."""

LEAST: Final = 5
"""Sessions of a part of the window, at least, for a share of the part."""

EVERY: Final = "true"
"""The SQL for every session."""

COMPLETED: Final = 0.1
"""The least share of sessions with a completion in a column that speaks for a table of sessions."""

LEAST_NEEDED: Final = 0.2
"""The share of sessions with a row from which on a condition is looked for that tells the sessions that need one."""

UNFINISHED: Final = 20
"""Unfinished sessions with rows, from which on records come before the end."""

FAN_OUT: Final = 20
"""Rows of another table of sessions for each row, from which on a table holds settings, and no sessions."""

WHOLE: Final = 0.9
"""The share from which on a relation is evidence for the choice of the table of sessions."""


class NoProposalError(NotMeasuredError):
    """Nothing can be proposed; the message has the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible table of sessions by its names: likely columns, and the tables that refer to it.

    `is_named`: the operator named the table.
    """

    outline: Outline
    columns: Columns
    pointing: tuple[TableName, ...]
    is_named: bool = False

    @property
    def looks(self) -> int:
        """How much the columns look like those of sessions: 5 with a status or flag, a start and a completion."""
        columns = self.columns
        has_start = columns.started != columns.completed
        has_status = columns.status is not None or columns.flag is not None
        return has_status * 2 + (columns.completed is not None) * 2 + has_start

    @property
    def weight(self) -> tuple[bool, bool, int, int]:
        """A larger weight is more likely."""
        is_session = "session" in {word.removesuffix("s") for word in words(self.outline.table.name)}
        return (self.looks == 5, self.outline.named.kind != "view", self.looks + is_session, len(self.pointing))  # noqa: PLR2004


def candidates(references: References) -> list[Candidate]:
    """Possible tables of sessions, the most likely first: with times, and with a reference from or to other tables."""
    found = []
    for outline in references.outlines.values():
        columns = columns_of(outline)
        pointing = tuple(references.pointing(outline.table))
        if columns is None or not outline.is_measurable:
            continue
        if pointing or (columns.completed and pointers_of(outline, references)):
            found.append(Candidate(outline, columns, pointing))
    return sorted(found, key=lambda candidate: candidate.weight, reverse=True)


def columns_of(outline: Outline, *, is_named: bool = False) -> Columns | None:
    """The likely columns of a table of sessions; None for a table without a time.

    A time that changes with every write is a start only where the operator names the table.
    """
    started, completed = times_of(outline.table.name, outline.columns)
    times = [column for column in outline.columns if column.is_time and (is_named or not is_changing(column))]
    start = started or completed or next(iter(times), None)
    if start is None:
        return None
    return Columns(status_of(outline.columns), flag_of(outline.columns), start, completed)


@dataclass(frozen=True, slots=True)
class Share:
    """How many sessions have a row: `held` is the share that some parts of the window reach."""

    with_row: int
    sessions: int
    held: float

    @property
    def ratio(self) -> float:
        """The share of sessions with a row."""
        return self.with_row / self.sessions


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate with a key, the possible records by that key, and the facts."""

    candidate: Candidate
    relation: Relation
    key: tuple[TableColumn, ...]
    sources: tuple[Source, ...]
    facts: SessionFacts
    left_out: tuple[str, ...] = ()

    def with_best_links(self) -> "Measured":
        """The same with one source for each table: of several links the one by which most sessions have a row."""
        best: dict[TableName, tuple[int, int]] = {}
        for n, source in enumerate(self.sources):
            rows = sum(group.with_row[n] or 0 for group in self.facts.groups or ())
            if source.table not in best or rows > best[source.table][0]:
                best[source.table] = (rows, n)
        kept = sorted(n for _, n in best.values())
        if len(kept) == len(self.sources):
            return self
        groups = self.facts.groups and tuple(
            replace(group, with_row=tuple(group.with_row[n] for n in kept)) for group in self.facts.groups
        )
        return replace(self, sources=tuple(self.sources[n] for n in kept), facts=replace(self.facts, groups=groups))

    @property
    def eligible(self) -> "Eligible":
        """The sessions that must have records."""
        return eligible_of(self.candidate.columns, self.facts, self.sources)

    @property
    def columns(self) -> Columns:
        """The columns from which records are due: without a completion that tells nothing of the records."""
        found = self.candidate.columns
        return replace(found, completed=None) if self.eligible.from_start else found

    def share(self, n: int) -> Share | None:
        """How many of the eligible sessions have a row of the n-th source, from 0; None without evidence."""
        wanted = self.eligible
        return share_of([group for group in self.facts.groups or () if wanted.has(group)], n)

    def verdicts(self) -> list[tuple[Source, Share | None]]:
        """The sources with their shares."""
        return [(source, self.share(n)) for n, source in enumerate(self.sources)]

    def held(self) -> list[tuple[Source, Share | None]]:
        """The sources that hold, and those without evidence against them."""
        found = enumerate(self.verdicts())
        return [(source, share) for n, (source, share) in found if self._is_record(n, source, share)]

    def records(self) -> list[tuple[Source, Share | None]]:
        """The sources that are proposed: those that hold; if none does, those with rows for some sessions."""
        return self.held() or [
            (source, share)
            for source, share in self.verdicts()
            if isinstance(source.way, Link) and share is not None and share.with_row
        ]

    def beside(self, others: Sequence["Measured"]) -> "Measured":
        """The same, with the tables that refer to the sessions by another key in `left_out`."""
        known = {source.table for source in self.sources}
        found = [
            (share.ratio if share else 0.0, source, other, share)
            for other in others
            for source, share in other.verdicts()
            if isinstance(source.way, Link) and source.table not in known
        ]
        # Of several keys the one that holds best, which comes last.
        out = {
            source.table: f"{source.table.written} (by another key, {_names(other.key)}"
            f"{f': {described(share)}' if share else ''}{self._by_way_of(other.key, source)})"
            for _, source, other, share in sorted(found, key=lambda one: one[0])
        }
        return replace(self, left_out=(*self.left_out, *out.values()))

    def _by_way_of(self, other: Sequence[TableColumn], source: Source) -> str:
        """The keys of the config with which a record refers to the sessions by another key; empty for several columns.

        The column is looked up in the sessions, because the sessions have one key for all records.
        """
        if len(self.key) != 1 or len(other) != 1 or not isinstance(source.way, Link):
            return ""
        sessions = self.relation.table.written
        own = source.same_key("record", [f"s.{other[0].sql}"])
        found = f"(select s.{self.key[0].sql} from {sessions} s where {own})"
        return f"; as a record write session_key: of_session and computed: {{of_session: {_flowing(found)}}}"

    def _is_record(self, n: int, source: Source, share: Share | None) -> bool:
        if isinstance(source.way, Pointer):
            return share is not None and holds(share) and self._is_late(n)
        if share is None:
            return source.way.by_foreign_key or not self.is_unreadable(n)
        return holds(share)

    def is_unreadable(self, n: int) -> bool:
        """Whether the server could not compare the rows of the n-th source with the sessions."""
        return any(group.with_row[n] is None for group in self.facts.groups or ())

    def _is_late(self, n: int) -> bool:
        """Whether a pointer is empty before the end of a session: a pointer to a result, not to a parent."""
        wanted = self.eligible
        others = share_of([group for group in self.facts.groups or () if not wanted.has(group)], n)
        return others is not None and others.ratio <= 1 - FEW[1]

    @property
    def proof(self) -> int:
        """The number of sources that hold for nearly every eligible session.

        Without the source that tells which sessions are eligible: each of these has a row.
        """
        telling = self.eligible.told_by
        return sum(
            share is not None and share.held >= WHOLE and source.table.written != telling
            for source, share in self.held()
        )

    @property
    def strength(self) -> tuple[int, int, int]:
        """A larger strength speaks for the key: sources that hold, of them by a foreign key, and all records."""
        declared = sum(isinstance(source.way, Link) and source.way.by_foreign_key for source, _ in self.held())
        return (self.proof, declared, len(self.records()))

    @property
    def size(self) -> int:
        """The number of sessions in the sample."""
        return sum(group.sessions for group in self.facts.groups or ())

    @property
    def looks(self) -> int:
        """How much the table looks like sessions: a completion that few sessions have, or need, counts for nothing."""
        completed = sum(group.sessions for group in self.facts.groups or () if group.is_completed)
        tells_nothing = completed < COMPLETED * self.size or self.eligible.sql == EVERY
        return self.candidate.looks - 2 * (self.candidate.columns.completed is not None and tells_nothing)

    @property
    def crowd(self) -> tuple[Source, float] | None:
        """A record with many rows for each session, if each record has: the table then holds settings, as a form does.

        None without such a record, or before the first ANALYZE.
        """
        own = self.candidate.outline.named.rows or 0
        found = [
            (source, (source.way.outline.named.rows or 0) / own)
            for source, _ in self.held()
            if own and isinstance(source.way, Link)
        ]
        crowded = [(source, rows) for source, rows in found if rows >= FAN_OUT]
        return max(crowded, key=lambda one: one[1], default=None) if len(crowded) == len(found) else None

    def contains(self, other: "Measured") -> bool:
        """Whether another possible table of sessions has many rows for each of these: the work of a tenant or form."""
        return (
            other.candidate.outline.table in self.candidate.pointing
            and other.proof > 0
            and other.size >= FAN_OUT * max(1, self.size)
        )


def _flowing(sql: str) -> str:
    """SQL as YAML within braces: quoted if a mark means something there, and `$` doubled, which begins a variable."""
    is_plain = not re.search(r"[]{}\[,#&*!|>%@`\"'$]|: ", sql)
    return sql if is_plain else json.dumps(sql.replace("$", "$$"), ensure_ascii=False)


def _names(columns: Sequence[TableColumn]) -> str:
    return ", ".join(column.name for column in columns)


def holds(share: Share) -> bool:
    """Whether a relation is a record of the sessions, perhaps with faults."""
    many, of_few = FEW
    return share.ratio >= (HOLDS if share.sessions >= many else of_few) or (share.held >= HELD and share.with_row > 0)


def share_of(groups: Sequence[Group], n: int) -> Share | None:
    """The share of mature sessions with a row of the n-th source; None without such sessions."""
    known = [(group, with_row) for group in groups if (with_row := group.with_row[n]) is not None]
    sessions, with_row = sum(group.mature for group, _ in known), sum(count for _, count in known)
    if not sessions:
        return None
    parts = {group.part for group, _ in known}
    by_part = [
        (sum(g.mature for g, _ in known if g.part == part), sum(count for g, count in known if g.part == part))
        for part in parts
    ]
    best = sorted((found / all_ for all_, found in by_part if all_ >= LEAST), reverse=True)[:HELD_PARTS]
    return Share(with_row, sessions, min(best) if len(best) == HELD_PARTS else with_row / sessions)


# --- Which sessions must have records


@dataclass(frozen=True, slots=True)
class Eligible:
    """The sessions that must have records: SQL over the sessions, and the reason.

    `statuses`: the statuses of such sessions, None if the status does not decide; `by_flag` and `by_completion` tell
    whether the flag or the completion decides.  `is_guess`: nothing tells which sessions are done.  `told_by`: the
    table whose rows tell.  `from_start`: records come at the start, so that a completion tells nothing of them.
    """

    sql: str
    reason: str
    statuses: frozenset[str | None] | None = None
    by_flag: bool = False
    by_completion: bool = False
    is_guess: bool = False
    told_by: str | None = None
    from_start: bool = False

    def has(self, group: Group) -> bool:
        """Whether the sessions of a group are eligible."""
        if self.statuses is not None:
            return group.status in self.statuses
        if self.by_flag:
            return group.is_flagged is True
        return group.is_completed or not self.by_completion


def eligible_of(columns: Columns, facts: SessionFacts, sources: Sequence[Source] = ()) -> Eligible:
    """The sessions that must have records: by the names of statuses, by a flag, by completion, or by their rows.

    `sources` are those of the facts.
    """
    statuses = _statuses(columns, facts)
    if columns.status is not None and is_text(columns.status):
        ended = done(value.text for value in statuses if value.text is not None)
        if ended:
            return _by_status(columns.status, ended, "Chosen by the names of the statuses")
    if columns.flag is not None:
        return Eligible(
            columns.flag.sql, f"{columns.flag.name} tells by its name whether a session is done", by_flag=True
        )
    if columns.status is not None:
        found = _settled(facts.groups or (), columns, sources)
        if found is not None and _is_needed_always(facts.groups or (), found[0], sources):
            reason = "Sessions of every status have rows of the records: every session is eligible"
            return Eligible(EVERY, reason, from_start=True)
        if found is not None:
            return replace(_by_status(columns.status, *found[:2]), told_by=found[2])
    if columns.completed is not None and _has_rows_always(
        [group for group in facts.groups or () if group.is_completed],
        [group for group in facts.groups or () if not group.is_completed],
        sources,
    ):
        reason = f"Sessions without {columns.completed.name} have rows of the records, too: every session is eligible"
        return Eligible(EVERY, reason, from_start=True)
    if columns.completed is not None:
        sql = f"{columns.completed.sql} is not null"
        unlike = "No status looks like the end of a session: a" if columns.status else "A"
        return Eligible(sql, f"{unlike} session with a completion is eligible", by_completion=True)
    unlike = "No status" if columns.status else "No column"
    return Eligible(EVERY, f"{unlike} tells whether a session is done: every session is eligible", is_guess=True)


def _statuses(columns: Columns, facts: SessionFacts) -> tuple[Value, ...]:
    found = facts.statuses()
    if not found and columns.status is not None:
        return tuple(Value(label, 0) for label in columns.status.labels)
    return found or ()


def _by_status(status: TableColumn, values: Sequence[str], reason: str) -> Eligible:
    shown = values[:SHOWN_VALUES]
    literals = shown if status.base in INTEGERS else [text_literal(value) for value in shown]
    sql = f"{status.sql} = {literals[0]}" if len(literals) == 1 else f"{status.sql} in ({', '.join(literals)})"
    return Eligible(sql, reason, statuses=frozenset(shown))


def _settled(
    groups: Sequence[Group], columns: Columns, sources: Sequence[Source]
) -> tuple[list[str], str, str | None] | None:
    """The statuses whose sessions have a completion or rows of records, unlike other statuses; None without any.

    Also the reason, and the table whose rows tell.  Of several records the answer that most of them give.
    """
    by_status: dict[str, list[Group]] = {}
    for group in groups:
        if group.status is not None:
            by_status.setdefault(group.status, []).append(group)
    # A few sessions tell nothing.
    by_status = {s: found for s, found in by_status.items() if sum(group.sessions for group in found) >= LEAST}
    if not 1 < len(by_status) <= SHOWN_VALUES:
        return None
    if columns.completed is not None:
        shares = {
            status: sum(g.sessions for g in found if g.is_completed) / sum(g.sessions for g in found)
            for status, found in by_status.items()
        }
        if found := _apart(shares):
            return found, "Nearly all sessions of these statuses have a completion, and nearly none of the others", None
    answers: dict[tuple[str, ...], list[str]] = {}
    for n, source in enumerate(sources):
        shared = {status: share_of(found, n) for status, found in by_status.items()}
        if found := _apart({status: share.ratio for status, share in shared.items() if share is not None}, HOLDS):
            answers.setdefault(tuple(found), []).append(source.table.written)
    if not answers:
        return None
    statuses, telling = max(answers.items(), key=lambda answer: (len(answer[1]), -len(answer[0])))
    reason = f"Nearly all sessions of these statuses have a row of {telling[0]}, and nearly none of the others"
    return [*statuses], reason, telling[0]


def _is_needed_always(groups: Sequence[Group], statuses: Sequence[str], sources: Sequence[Source]) -> bool:
    """Whether the sessions of other statuses have the rows that those of `statuses` have, too: as of a subscription."""
    own = [group for group in groups if group.status in statuses]
    return _has_rows_always(own, [group for group in groups if group.status not in statuses], sources)


def _has_rows_always(own: Sequence[Group], others: Sequence[Group], sources: Sequence[Source]) -> bool:
    """Whether sessions that look unfinished have the rows that the finished have."""
    if sum(group.mature for group in others) < UNFINISHED:
        return False
    # A pointer may be one to a parent, which every session has.
    links = [n for n, source in enumerate(sources) if isinstance(source.way, Link)]
    shares = [(share_of(own, n), share_of(others, n)) for n in links]
    known = [(one, other) for one, other in shares if one is not None and other is not None and one.ratio >= WHOLE]
    return bool(known) and all(other.ratio >= WHOLE for _, other in known)


def _apart(shares: dict[str, float], least: float = WHOLE) -> list[str] | None:
    """The statuses with a share near 1, of at least `least`, if every other status has a share near 0."""
    high = [status for status, share in shares.items() if share >= least]
    low = [status for status, share in shares.items() if share <= 1 - WHOLE]
    return high if high and low and len(high) + len(low) == len(shares) else None


# --- What is written


@dataclass(frozen=True, slots=True)
class RecordDraft:
    """A proposed record: the table, how it refers to the sessions, and the facts."""

    relation: Relation
    source: Source
    share: Share | None
    created: TableColumn | None
    version: TableColumn | None
    facts: RecordFacts
    is_unreadable: bool = False
    split: Split | None = None

    @property
    def link(self) -> Link | None:
        """The link to the sessions; None if the session points at its record."""
        return self.source.way if isinstance(self.source.way, Link) else None


@dataclass(frozen=True, slots=True)
class SessionsDraft:
    """The proposed sessions; `others` may be the table of sessions as well."""

    relation: Relation
    key: tuple[TableColumn, ...]
    columns: Columns
    facts: SessionFacts
    eligible: Eligible
    others: tuple[TableName, ...] = ()


GRACES: Final = (
    *(("5m", 300), ("15m", 900), ("30m", 1800), ("1h", 3600), ("2h", 7200), ("6h", 21600), ("12h", 43200)),
    *(("1d", 86400), ("2d", 172800), ("3d", 259200), ("7d", 604800), ("14d", 1209600), ("30d", 2592000)),
)
"""Durations for `grace`, with their seconds."""


def grace_of(record: RecordDraft) -> str | None:
    """The shortest usual grace period that covers 95 of 100 delays of a record; None without a measured delay."""
    if record.facts.delays is None:
        return None
    _, most = record.facts.delays
    return next((text for text, seconds in GRACES if seconds >= most), GRACES[-1][0])


def grace_for(records: Sequence[RecordDraft]) -> tuple[str, bool]:
    """The grace period of the pipeline, that of its fastest record, and whether a delay was measured."""
    usual = [text for text, _ in GRACES]
    found = [grace for grace in map(grace_of, records) if grace is not None]
    return min(found, key=usual.index, default=usual[0]), bool(found)


def left_out(measured: Measured, kept: Collection[Source]) -> Iterator[str]:
    """The tables that refer to the sessions and are not in `kept`, with the evidence."""
    for source, share in measured.verdicts():
        if source in kept or isinstance(source.way, Pointer):
            continue
        if share is not None:
            yield f"{source.table.written} ({described(share)})"
        elif measured.is_unreadable(measured.sources.index(source)):
            yield f"{source.table.written} (the server cannot compare the keys)"
    yield from measured.left_out


def described(share: Share) -> str:
    """A share in words: 149 of 157 eligible sessions have a row (94.9%)."""
    return (
        f"{share.with_row:,} of {share.sessions:,} eligible sessions have a row ({format_value(share.ratio, 'ratio')})"
    )


def status_like(column: TableColumn) -> bool:
    """Whether the name of a column is a name for a status."""
    return not {*words(column.name)}.isdisjoint(STATUS_WORDS)


def name_for(table: TableName, taken: Sequence[str]) -> str:
    """A name for a pipeline or record from the name of the table, and different from `taken`."""
    plain = "_".join(re.sub(r"[^A-Za-z0-9]", "", word) for word in words(table.name))
    base = re.sub(r"_+", "_", plain).strip("_")[:30] or "records"
    if not PLAIN.fullmatch(base) or NOT_TEXT.fullmatch(base):
        base = f"table_{base}"
    return next(name for n in range(1, len(taken) + 2) if (name := base if n == 1 else f"{base}_{n}") not in taken)


# --- YAML

PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
NOT_TEXT: Final = re.compile(r"y|n|yes|no|true|false|on|off|null", re.IGNORECASE)
"""Booleans and nulls of YAML 1.1: https://yaml.org/type/bool.html"""
