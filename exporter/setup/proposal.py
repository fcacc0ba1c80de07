"""Tables of a database -> the most likely roles of tables and columns in a config.  No I/O.

The choices rest on names, types and values only: the proposed config states each reason for the operator.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from exporter.model.sql import TableName
from exporter.setup.catalog import ForeignKey, Relation, TableColumn, VisibleTable
from exporter.text.exits import NotMeasuredError

STATUS_WORDS: Final = ("status", "state", "phase", "stage", "step")
STARTED_WORDS: Final = (
    *("started", "start", "begun", "began", "begin", "created", "create", "creation", "opened", "placed", "ordered"),
    *("uploaded", "received", "submitted", "requested", "registered", "inserted"),
)
COMPLETED_WORDS: Final = (
    *("completed", "complete", "completion", "finished", "finish", "ended", "end", "done", "finalized", "closed"),
    *("paid", "succeeded", "fulfilled", "delivered", "processed", "shipped", "resolved", "approved"),
)
WRITTEN_WORDS: Final = (
    *("created", "create", "creation", "inserted", "written", "generated", "computed", "calculated", "issued"),
    *("recorded", "processed", "produced", "updated"),
)
DONE_WORDS: Final = frozenset((*COMPLETED_WORDS, "success", "successful", "ok"))
"""Parts of a status that mean a successful end of a session."""

UNDONE_WORDS: Final = frozenset({"not", "in", "to", "be", "partially", "partial", "awaiting", "pending", "never", "un"})
"""Parts that negate others: not_paid, to_be_completed."""

TEXTS: Final = frozenset({"text", "character varying", "character", "citext", "name"})

_UNNAMEABLE: Final = re.compile(r'^\s*$|^".*"$|\$[0-9]', re.DOTALL)

SHOWN_VALUES: Final = 12
"""Values in a comment, at most."""


class NoProposalError(NotMeasuredError):
    """Nothing can be proposed; the message has the reason and the remedy."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A table in short: the name, the rights of the role, and the columns that a config can name."""

    named: VisibleTable
    columns: tuple[TableColumn, ...]

    @property
    def table(self) -> TableName:
        """The name of the table."""
        return self.named.table


@dataclass(frozen=True, slots=True)
class Link:
    """A table with columns that reference the sessions' key, in key order: by a foreign key, or only by name."""

    outline: Outline
    columns: tuple[TableColumn, ...]
    by_foreign_key: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible table of sessions: likely columns, and the number of tables that reference the table."""

    outline: Outline
    status: TableColumn | None
    started: TableColumn | None
    completed: TableColumn | None
    pointing: int

    @property
    def weight(self) -> tuple[bool, bool, int, int]:
        """A larger weight is more likely."""
        looks = (self.status is not None) * 2 + (self.completed is not None) * 2 + (self.started is not None)
        is_session = "session" in {form for word in words(self.outline.table.name) for form in forms(word)}
        return (looks == 5, self.outline.named.kind != "view", looks + is_session, self.pointing)  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a column as text (None for NULL), and the number of rows."""

    text: str | None
    count: int


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """Facts from the rows of the sessions; None if unreadable.

    `newest`: the start of the newest session.  `is_recent`: `newest` is within the last 90 days.  `statuses`: values of
    the 90 days before `newest`.
    """

    newest: date | None
    is_recent: bool
    statuses: tuple[Value, ...] | None


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """Facts from the rows of a record: recent versions, and whether sessions have several rows; None if unreadable."""

    versions: tuple[Value, ...] | None
    has_several: bool | None


@dataclass(frozen=True, slots=True)
class SessionsDraft:
    """The proposed sessions; `completed` is None if no column looks like the time of completion."""

    relation: Relation
    key: tuple[TableColumn, ...]
    status: TableColumn
    started: TableColumn
    completed: TableColumn | None
    facts: SessionFacts
    others: tuple[TableName, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordDraft:
    """A proposed record; `casts` has a type for each column of the link, None if no cast is needed."""

    relation: Relation
    link: Link
    casts: tuple[str | None, ...]
    created: TableColumn | None
    version: TableColumn | None
    facts: RecordFacts


# --- Names


def words(name: str) -> list[str]:
    """The words of a name: `orderId`, `order_id` and `Order ID` are all order, id."""
    return [word.casefold() for word in re.split(r"[\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)) if word]


def forms(word: str) -> set[str]:
    """A word and its possible singulars."""
    found = {word}
    for ending, singular in (("ies", "y"), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            found.add(word.removesuffix(ending) + singular)
    return found


def _spelt(column: Sequence[str], table: Sequence[str]) -> bool:
    """Whether the words of a column are the words of a table's name, singular or plural."""
    return len(column) == len(table) and all(
        forms(own) & forms(other) for own, other in zip(column, table, strict=True)
    )


def names_key(column: str, table: str, key: str) -> bool:
    """Whether a column is named after the key of a table.

    `session_id` and `assessment_session_id` both match assessment_sessions.id.  A column with the name of a key of
    several words also matches.
    """
    own, of_table, of_key = words(column), words(table), words(key)
    if len(of_key) > 1 and own == of_key:
        return True
    tails = [of_table[start:] for start in range(len(of_table))]
    endings = [of_key, ["id"], ["uuid"], ["key"]]
    return any(own[-len(e) :] == e and _spelt(own[: -len(e)], tail) for e in endings if e for tail in tails)


def pick(columns: Iterable[TableColumn], wanted: Sequence[str]) -> TableColumn | None:
    """The column with the earliest of the wanted words, and of several the shortest name; None without a match."""
    found = [
        (min(wanted.index(word) for word in own if word in wanted), len(own), column)
        for column in columns
        if not {*(own := words(column.name))}.isdisjoint(wanted)
    ]
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def is_text(column: TableColumn) -> bool:
    """Whether the values are texts or enum labels."""
    return column.base in TEXTS or bool(column.labels)


def usable(columns: Iterable[TableColumn]) -> tuple[TableColumn, ...]:
    """The columns that a config can name, also in expressions."""
    return tuple(column for column in columns if not _UNNAMEABLE.search(column.name))


def status_of(outline: Outline) -> TableColumn | None:
    """The most likely column of the status; None without a match."""
    return pick((c for c in outline.columns if is_text(c)), STATUS_WORDS) or pick(
        (c for c in outline.columns if not c.is_time), STATUS_WORDS
    )


def times_of(outline: Outline) -> tuple[TableColumn | None, TableColumn | None]:
    """The most likely columns of start and completion; None without a match."""
    times = [column for column in outline.columns if column.is_time]
    completed = pick(times, COMPLETED_WORDS)
    return pick((column for column in times if column != completed), STARTED_WORDS), completed


# --- Tables


def candidates(outlines: Sequence[Outline], foreign_keys: Sequence[ForeignKey]) -> list[Candidate]:
    """Possible tables of sessions, the most likely first: with times, and referenced by other tables."""
    found = []
    for outline in outlines:
        if outline.named.kind == "foreign table":
            continue
        started, completed = times_of(outline)
        status = status_of(outline)
        pointing = {key.table for key in foreign_keys if key.target == outline.table} | {
            other.table
            for other in outlines
            if any(names_key(column.name, outline.table.name, "id") for column in other.columns)
        }
        pointing.discard(outline.table)
        if pointing and (started or completed) and (status or completed):
            found.append(Candidate(outline, status, started, completed, len(pointing)))
    return sorted(found, key=lambda candidate: candidate.weight, reverse=True)


def keys_of(sessions: Relation, foreign_keys: Sequence[ForeignKey]) -> list[tuple[TableColumn, ...]]:
    """Possible keys of the sessions, the most likely first; raises NoProposalError if there is no key.

    The order: primary key, targets of foreign keys, other unique indexes, then by name, because a view or a partitioned
    table may lack an index on id.
    """
    proved = [index.columns for index in sessions.indexes if index.proves_unique]
    pointed = [key.target_columns for key in foreign_keys if key.target == sessions.table]
    named = [
        (column.name,)
        for column in sessions.columns
        if words(column.name) in (["id"], ["uuid"]) or names_key(column.name, sessions.table.name, "id")
    ]
    nameable = {column.name: column for column in usable(sessions.columns)}
    found = [
        tuple(nameable[name] for name in names if name is not None)
        for names in [*proved[:1], *pointed, *proved[1:], *named]
        if all(name in nameable for name in names)
    ]
    if not found:
        raise NoProposalError(
            f"{sessions.table.written} has no primary key, no unique index and no column id: write sessions.key by "
            "hand into a copy of config.yaml"
        )
    return list(dict.fromkeys(found))


def link_of(
    outline: Outline, sessions: TableName, key: Sequence[TableColumn], foreign_keys: Sequence[ForeignKey]
) -> Link | None:
    """The link of a table to the sessions; None without a reference."""
    own = {column.name: column for column in outline.columns}
    names = [column.name for column in key]
    for foreign in foreign_keys:
        if foreign.table == outline.table and foreign.target == sessions and {*foreign.target_columns} == {*names}:
            pairs = dict(zip(foreign.target_columns, foreign.columns, strict=True))
            if all(pairs[name] in own for name in names):
                return Link(outline, tuple(own[pairs[name]] for name in names), by_foreign_key=True)
    found = []
    for name in names:
        fitting = [
            column
            for column in outline.columns
            if names_key(column.name, sessions.name, name) or (len(names) > 1 and column.name == name)
        ]
        if not fitting:
            return None
        found.append(fitting[0])
    return Link(outline, tuple(found), by_foreign_key=False) if len({*found}) == len(found) else None


def version_of(outline: Outline) -> TableColumn | None:
    """The most likely column of the version; None without a match."""
    fitting = [c for c in outline.columns if words(c.name)[-1:] == ["version"] and not c.is_time]
    return pick((c for c in fitting if is_text(c)), ["version"]) or pick(fitting, ["version"])


def created_of(outline: Outline) -> TableColumn | None:
    """The most likely column with the time of the write; None without a match."""
    return pick((column for column in outline.columns if column.is_time), WRITTEN_WORDS)


def fallback_status(outline: Outline, key: Sequence[TableColumn]) -> TableColumn:
    """A column to count sessions by, if no column looks like a status."""
    rest = [column for column in outline.columns if column not in key and not column.is_time]
    few = [column for column in rest if column.labels or column.base == "boolean"]
    return next(iter([*few, *filter(is_text, rest), *rest, *key]))


def done_values(statuses: Sequence[Value]) -> list[str]:
    """The statuses that mean a successful end of a session."""
    return [
        value.text
        for value in statuses
        if value.text is not None
        and not {*words(value.text)}.isdisjoint(DONE_WORDS)
        and {*words(value.text)}.isdisjoint(UNDONE_WORDS)
    ]


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
