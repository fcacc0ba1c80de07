"""What a database looks like -> the config that it most likely needs, as commented text.  No I/O.

Nothing but names, types and values speaks for a choice, so each is said beside it, for a person to judge.
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
"""Parts of a status that say that a session has come to its end, as it should."""

UNDONE_WORDS: Final = frozenset({"not", "in", "to", "be", "partially", "partial", "awaiting", "pending", "never", "un"})
"""Parts that turn the meaning of the others: not_paid, to_be_completed."""

TEXTS: Final = frozenset({"text", "character varying", "character", "citext", "name"})

_UNNAMEABLE: Final = re.compile(r'^\s*$|^".*"$|\$[0-9]', re.DOTALL)

SHOWN_VALUES: Final = 12
"""A comment lists so many values at most."""


class NoProposalError(NotMeasuredError):
    """Nothing can be proposed; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A table from afar: its name, what we may do with it, and its columns as far as a config can name them."""

    named: VisibleTable
    columns: tuple[TableColumn, ...]

    @property
    def table(self) -> TableName:
        """Its name."""
        return self.named.table


@dataclass(frozen=True, slots=True)
class Link:
    """A table whose columns point at the sessions' key, in its order; by a foreign key, else by their names alone."""

    outline: Outline
    columns: tuple[TableColumn, ...]
    by_foreign_key: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table that looks like one of sessions: what speaks for it, and how many tables point at it."""

    outline: Outline
    status: TableColumn | None
    started: TableColumn | None
    completed: TableColumn | None
    pointing: int

    @property
    def weight(self) -> tuple[bool, bool, int, int]:
        """The heavier, the more likely."""
        looks = (self.status is not None) * 2 + (self.completed is not None) * 2 + (self.started is not None)
        is_session = "session" in {form for word in words(self.outline.table.name) for form in forms(word)}
        return (looks == 5, self.outline.named.kind != "view", looks + is_session, self.pointing)  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a column as text, None for NULL, and how many rows have it."""

    text: str | None
    count: int


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What the rows of the sessions say; None where it could not be looked up.

    `newest` is the start of the newest, `is_recent` whether that is within the last 90 days; `statuses` are of the
    90 days before it.
    """

    newest: date | None
    is_recent: bool
    statuses: tuple[Value, ...] | None


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What the rows of a record say; None where it could not be looked up: versions of late, rows per session."""

    versions: tuple[Value, ...] | None
    has_several: bool | None


@dataclass(frozen=True, slots=True)
class SessionsDraft:
    """The sessions as proposed; None for a time that no column seems to hold."""

    relation: Relation
    key: tuple[TableColumn, ...]
    status: TableColumn
    started: TableColumn
    completed: TableColumn | None
    facts: SessionFacts
    others: tuple[TableName, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordDraft:
    """A record as proposed; `casts` has the type to convert a column of the link to, None where none is needed."""

    relation: Relation
    link: Link
    casts: tuple[str | None, ...]
    created: TableColumn | None
    version: TableColumn | None
    facts: RecordFacts


# --- Names


def words(name: str) -> list[str]:
    """`orderId`, `order_id` and `Order ID` are all order, id."""
    return [word.casefold() for word in re.split(r"[\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)) if word]


def forms(word: str) -> set[str]:
    """A word and what it may be the plural of."""
    found = {word}
    for ending, singular in (("ies", "y"), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            found.add(word.removesuffix(ending) + singular)
    return found


def _spelt(column: Sequence[str], table: Sequence[str]) -> bool:
    """Whether words of a column are those of a table's name, in the singular or not."""
    return len(column) == len(table) and all(
        forms(own) & forms(other) for own, other in zip(column, table, strict=True)
    )


def names_key(column: str, table: str, key: str) -> bool:
    """Whether a column is named after the key of a table.

    `session_id` is of assessment_sessions.id, as `assessment_session_id` is; so is a column of the key's own name
    where that says whose it is.
    """
    own, of_table, of_key = words(column), words(table), words(key)
    if len(of_key) > 1 and own == of_key:
        return True
    tails = [of_table[start:] for start in range(len(of_table))]
    endings = [of_key, ["id"], ["uuid"], ["key"]]
    return any(own[-len(e) :] == e and _spelt(own[: -len(e)], tail) for e in endings if e for tail in tails)


def pick(columns: Iterable[TableColumn], wanted: Sequence[str]) -> TableColumn | None:
    """The column whose name has the most telling of the wanted words, the shortest such; None where none has any."""
    found = [
        (min(wanted.index(word) for word in own if word in wanted), len(own), column)
        for column in columns
        if not {*(own := words(column.name))}.isdisjoint(wanted)
    ]
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def is_text(column: TableColumn) -> bool:
    """Whether its values are texts, or labels of an enum."""
    return column.base in TEXTS or bool(column.labels)


def usable(columns: Iterable[TableColumn]) -> tuple[TableColumn, ...]:
    """Those that a config can name, alone and within an expression."""
    return tuple(column for column in columns if not _UNNAMEABLE.search(column.name))


def status_of(outline: Outline) -> TableColumn | None:
    """The column that most likely holds the status."""
    return pick((c for c in outline.columns if is_text(c)), STATUS_WORDS) or pick(
        (c for c in outline.columns if not c.is_time), STATUS_WORDS
    )


def times_of(outline: Outline) -> tuple[TableColumn | None, TableColumn | None]:
    """The columns that most likely hold the start and the completion."""
    times = [column for column in outline.columns if column.is_time]
    completed = pick(times, COMPLETED_WORDS)
    return pick((column for column in times if column != completed), STARTED_WORDS), completed


# --- Tables


def candidates(outlines: Sequence[Outline], foreign_keys: Sequence[ForeignKey]) -> list[Candidate]:
    """The tables that look like sessions, the most likely first: others point at them, and they have times."""
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
    """The columns that may tell sessions apart, the most likely first.

    The primary key, what foreign keys point at, other unique indexes; then by name, for a view or a partitioned table
    has no index on its id alone.  Raises NoProposalError where there are none.
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
            f"{sessions.table.written} has neither a primary key, nor a unique index, nor a column called id: write "
            "sessions.key by hand, into a copy of config.yaml"
        )
    return list(dict.fromkeys(found))


def link_of(
    outline: Outline, sessions: TableName, key: Sequence[TableColumn], foreign_keys: Sequence[ForeignKey]
) -> Link | None:
    """How a table points at the sessions; None where it does not seem to."""
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
    """The column that most likely holds the version of what wrote a row."""
    fitting = [c for c in outline.columns if words(c.name)[-1:] == ["version"] and not c.is_time]
    return pick((c for c in fitting if is_text(c)), ["version"]) or pick(fitting, ["version"])


def created_of(outline: Outline) -> TableColumn | None:
    """The column that most likely says when a row was written."""
    return pick((column for column in outline.columns if column.is_time), WRITTEN_WORDS)


def fallback_status(outline: Outline, key: Sequence[TableColumn]) -> TableColumn:
    """Something to count sessions by where no column looks like a status."""
    rest = [column for column in outline.columns if column not in key and not column.is_time]
    few = [column for column in rest if column.labels or column.base == "boolean"]
    return next(iter([*few, *filter(is_text, rest), *rest, *key]))


def done_values(statuses: Sequence[Value]) -> list[str]:
    """The statuses that say that a session has come to its end, as it should."""
    return [
        value.text
        for value in statuses
        if value.text is not None
        and not {*words(value.text)}.isdisjoint(DONE_WORDS)
        and {*words(value.text)}.isdisjoint(UNDONE_WORDS)
    ]


def status_like(column: TableColumn) -> bool:
    """Whether it is a status by its name."""
    return not {*words(column.name)}.isdisjoint(STATUS_WORDS)


def name_for(table: TableName, taken: Sequence[str]) -> str:
    """A name for a pipeline or a record, made of a table's; no two are the same."""
    plain = "_".join(re.sub(r"[^A-Za-z0-9]", "", word) for word in words(table.name))
    base = re.sub(r"_+", "_", plain).strip("_")[:30] or "records"
    if not PLAIN.fullmatch(base) or NOT_TEXT.fullmatch(base):
        base = f"table_{base}"
    return next(name for n in range(1, len(taken) + 2) if (name := base if n == 1 else f"{base}_{n}") not in taken)


# --- YAML

PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
NOT_TEXT: Final = re.compile(r"y|n|yes|no|true|false|on|off|null", re.IGNORECASE)
"""What YAML 1.1 takes for a boolean or for nothing: https://yaml.org/type/bool.html"""
