"""What a database looks like -> the config that it most likely needs, as commented text.  No I/O.

Nothing but names, types and values speaks for a choice, so each is said beside it, for a person to judge.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from exporter.catalog import Column, ForeignKey, Named, Relation
from exporter.sql import TableName

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

WIDTH: Final = 110
"""Where a comment breaks."""


class NoProposalError(Exception):
    """Nothing can be proposed; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A table from afar: its name, what we may do with it, and its columns as far as a config can name them."""

    named: Named
    columns: tuple[Column, ...]

    @property
    def table(self) -> TableName:
        """Its name."""
        return self.named.table


@dataclass(frozen=True, slots=True)
class Link:
    """A table whose columns point at the sessions' key, in its order; by a foreign key, else by their names alone."""

    outline: Outline
    columns: tuple[Column, ...]
    by_foreign_key: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table that looks like one of sessions: what speaks for it, and how many tables point at it."""

    outline: Outline
    status: Column | None
    started: Column | None
    completed: Column | None
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
    key: tuple[Column, ...]
    status: Column
    started: Column
    completed: Column | None
    facts: SessionFacts
    others: tuple[TableName, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordDraft:
    """A record as proposed; `casts` has the type to convert a column of the link to, None where none is needed."""

    relation: Relation
    link: Link
    casts: tuple[str | None, ...]
    created: Column | None
    version: Column | None
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


def pick(columns: Iterable[Column], wanted: Sequence[str]) -> Column | None:
    """The column whose name has the most telling of the wanted words, the shortest such; None where none has any."""
    found = [
        (min(wanted.index(word) for word in own if word in wanted), len(own), column)
        for column in columns
        if not {*(own := words(column.name))}.isdisjoint(wanted)
    ]
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def is_text(column: Column) -> bool:
    """Whether its values are texts, or labels of an enum."""
    return column.base in TEXTS or bool(column.labels)


def usable(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Those that a config can name, alone and within an expression."""
    return tuple(column for column in columns if not _UNNAMEABLE.search(column.name))


def status_of(outline: Outline) -> Column | None:
    """The column that most likely holds the status."""
    return pick((c for c in outline.columns if is_text(c)), STATUS_WORDS) or pick(
        (c for c in outline.columns if not c.is_time), STATUS_WORDS
    )


def times_of(outline: Outline) -> tuple[Column | None, Column | None]:
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


def keys_of(sessions: Relation, foreign_keys: Sequence[ForeignKey]) -> list[tuple[Column, ...]]:
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
    outline: Outline, sessions: TableName, key: Sequence[Column], foreign_keys: Sequence[ForeignKey]
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


def version_of(outline: Outline) -> Column | None:
    """The column that most likely holds the version of what wrote a row."""
    fitting = [c for c in outline.columns if words(c.name)[-1:] == ["version"] and not c.is_time]
    return pick((c for c in fitting if is_text(c)), ["version"]) or pick(fitting, ["version"])


def created_of(outline: Outline) -> Column | None:
    """The column that most likely says when a row was written."""
    return pick((column for column in outline.columns if column.is_time), WRITTEN_WORDS)


def fallback_status(outline: Outline, key: Sequence[Column]) -> Column:
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


# --- Text


def propose(sessions: SessionsDraft, records: Sequence[RecordDraft], *, has_url: bool, left_out: Sequence[str]) -> str:
    """The text of a config.  `left_out` says what points at the sessions and is not among the records, and why."""
    return "".join(line + "\n" for line in _lines(sessions, records, left_out, has_url=has_url))


def _lines(
    sessions: SessionsDraft, records: Sequence[RecordDraft], left_out: Sequence[str], *, has_url: bool
) -> Iterator[str]:
    yield from _comment(
        "Proposed by `session-health-exporter init` from names, types and values: judge each choice, above all "
        "eligible and which tables are records.  Then: session-health-exporter config check --connect",
        0,
    )
    yield ""
    yield "databases:"
    if has_url:
        yield "  main:"
        yield "    url: ${DATABASE_URL}          # filled from the environment, so that no secret is in this file"
    else:
        yield "  main: {}                        # without a url the PG* environment variables decide"
    yield ""
    yield "pipelines:"
    yield f"  {name_for(sessions.relation.table, ())}:"
    yield from _window(sessions)
    yield "    grace: 5m                     # how late may a record be before it counts as a gap?"
    yield from _sessions(sessions)
    yield "    records:"
    names: list[str] = []
    for record in records:
        names.append(name_for(record.relation.table, names))
        yield f"      {names[-1]}:"
        yield from _record(record)
    if left_out:
        yield from _comment("Left out: " + "; ".join(left_out), 6)
    yield "    cohort: {window: 24h, maturity: 1h}   # sessions so old that it is settled who completes, and how fast"
    yield from _limits()


def _window(sessions: SessionsDraft) -> Iterator[str]:
    facts = sessions.facts
    if facts.newest is not None and not facts.is_recent:
        yield from _comment("No session started within the last 90 days; once there are new ones: {last: 90d}", 4)
        since = date.fromordinal(max(1, facts.newest.toordinal() - 90))
        yield f"    window: {{since: {since.isoformat()}}}"
    else:
        yield "    window: {last: 90d}           # sessions by their start; or {since: 2025-08-01}"


def _sessions(draft: SessionsDraft) -> Iterator[str]:
    table = draft.relation.table
    yield "    sessions:"
    if draft.others:
        others = ", ".join(other.written for other in draft.others)
        yield from _comment(f"Other tables look like sessions too (choose with --sessions): {others}", 6)
    yield f"      table: {scalar(table.written)}"
    how = (
        "tells sessions apart"
        if draft.relation.is_unique([c.name for c in draft.key])
        else ("by its name: no unique index proves that it tells sessions apart")
    )
    yield from _keyed("key", _list([column.name for column in draft.key]), how)
    status = (
        "by its name"
        if status_like(draft.status)
        else "CHECK: no column looks like a status; sessions are counted by it"
    )
    yield from _keyed("status", scalar(draft.status.name), status)
    yield from _keyed("started_at", scalar(draft.started.name), _time_note(draft.started))
    completed = draft.completed or draft.started
    note = _time_note(completed) if draft.completed else "CHECK: no column says when a session was completed"
    yield from _keyed("completed_at", scalar(completed.name), note)
    yield from _eligible(draft, completed)


def status_like(column: Column) -> bool:
    """Whether it is a status by its name."""
    return not {*words(column.name)}.isdisjoint(STATUS_WORDS)


def _time_note(column: Column) -> str:
    if column.base == "timestamp without time zone":
        return "by its name; without a zone it is read as UTC (or timezone: Europe/Berlin)"
    return "by its name; a date, read as its midnight in UTC" if column.base == "date" else "by its name and type"


def _eligible(draft: SessionsDraft, completed: Column) -> Iterator[str]:
    values = draft.facts.statuses
    if not values and draft.status.labels:
        values = tuple(Value(label, 0) for label in draft.status.labels)
    if values is None:
        yield from _comment("The statuses could not be looked up: which sessions must have records?", 6)
    elif values:
        yield from _comment(f"Statuses found: {_shown(values)}.  Which of them must have records?", 6)
    else:
        yield from _comment("The table has no rows yet: which sessions must have records?", 6)
    done = done_values(values or ()) if is_text(draft.status) else []
    literals = ", ".join("'" + value.replace("'", "''") + "'" for value in done[:SHOWN_VALUES])
    if not done:
        expression = f"{completed.sql} is not null"
        yield from _comment("No status says that a session is done, so its completion does", 6)
    elif len(done) == 1:
        expression = f"{draft.status.sql} = {literals}"
    else:
        expression = f"{draft.status.sql} in ({literals})"
    yield f"      completed: {_sql(expression)}"
    yield f"      eligible: {_sql(expression)}"


def _record(draft: RecordDraft) -> Iterator[str]:
    why = (
        "A foreign key points at the sessions."
        if draft.link.by_foreign_key
        else ("No foreign key, but a column named after the sessions.")
    )
    yield from _comment(f"{why}  Remove it if not every eligible session must have a row (or say required_when).", 8)
    yield f"        table: {scalar(draft.relation.table.written)}"
    parts = [
        f"{{column: {scalar(column.name)}, cast: {scalar(cast)}}}" if cast else scalar(column.name)
        for column, cast in zip(draft.link.columns, draft.casts, strict=True)
    ]
    note = "the types differ" if any(draft.casts) else ""
    yield from _keyed("session_key", parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]", note, 8)
    if draft.created:
        yield from _keyed("created_at", scalar(draft.created.name), _time_note(draft.created), 8)
    yield from _version(draft)
    yield from _unique(draft)


def _version(draft: RecordDraft) -> Iterator[str]:
    if draft.version is None:
        return
    versions = [value for value in draft.facts.versions or () if value.text and value.text.strip()]
    name = draft.version.name
    if not versions:
        known = "no row has one yet" if draft.facts.versions is not None else "the rows could not be looked up"
        yield from _comment(f"{name} seems to be its version, but {known}.  When it is known:", 8)
        yield from _comment(f"version: {{column: {scalar(name)}, current: '…'}}", 8)
        return
    yield from _comment(
        f"Versions of late: {_shown(versions)}.  Is the most frequent one current, and are others good enough?", 8
    )
    yield "        version:"
    yield f"          column: {scalar(name)}"
    yield f"          current: {scalar(versions[0].text or '', always_quote=True)}"
    yield "          accepted: []            # older versions that count as well"


def _unique(draft: RecordDraft) -> Iterator[str]:
    keys = [column.name for column in draft.link.columns]
    proved = [index.columns for index in draft.relation.indexes if index.proves_unique and {*index.columns} >= {*keys}]
    if proved:
        names = [name for name in proved[0] if name]
        yield from _keyed("unique", _flow(names), "a unique index proves it", 8)
    elif draft.facts.has_several:
        yield from _comment("Some sessions have several rows.  If they should have one:", 8)
        yield from _comment(f"unique: {_flow(keys)}", 8)
    else:
        yield from _keyed("unique", _flow(keys), "one row per session: more would be duplicates", 8)


def _limits() -> Iterator[str]:
    yield "    limits:                       # from where on it is a fault; nothing else is judged, see docs/metrics.md"
    yield "      gap_sessions: {critical: 0}"
    yield "      gap_age: {warning: 15m, critical: 1h}"
    yield "      # conversion_ratio: {warning: 0.9, min_sessions: 20}   # those with every record, of the completed"


def _shown(values: Sequence[Value]) -> str:
    """Values with how many rows have them, as far as a comment should go."""
    listed = [
        f"{'NULL' if value.text is None else scalar(value.text[:40])}{f' ({value.count})' if value.count else ''}"
        for value in values[:SHOWN_VALUES]
    ]
    return ", ".join(listed) + (f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else "")


# --- YAML

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_PLAIN_SQL: Final = re.compile(r"[a-z_][a-z0-9_]* (= '\w+'|in \(('\w+', )*'\w+'\)|is not null)", re.ASCII)
_NOT_TEXT: Final = re.compile(r"y|n|yes|no|true|false|on|off|null", re.IGNORECASE)
"""What YAML 1.1 takes for a boolean or for nothing: https://yaml.org/type/bool.html"""


def scalar(text: str, *, always_quote: bool = False) -> str:
    """Text as our config reads it back: quoted where YAML needs it, `$` doubled, for it would begin a variable."""
    text = text.replace("$", "$$")
    if not always_quote and _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    if all(letter.isprintable() for letter in text):
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _sql(expression: str) -> str:
    """The same outside of brackets, where simple SQL needs no quotes."""
    return expression if _PLAIN_SQL.fullmatch(expression) else scalar(expression)


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def _flow(names: Sequence[str]) -> str:
    return f"[{', '.join(scalar(name) for name in names)}]"


def _list(names: Sequence[str]) -> str:
    return scalar(names[0]) if len(names) == 1 else _flow(names)


def _keyed(key: str, value: str, note: str = "", indent: int = 6) -> Iterator[str]:
    line = " " * indent + f"{key}: {value}"
    yield f"{line:<33} # {note}" if note else line


def _comment(text: str, indent: int) -> Iterator[str]:
    """Lines of a comment; what cannot be printed, a line break in a name say, is escaped."""
    line = ""
    for word in "".join(map(_visible, text)).split(" "):
        if line and len(line) + len(word) + 1 > WIDTH - indent:
            yield " " * indent + f"# {line}"
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield " " * indent + f"# {line}"


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else _escaped(letter)


def name_for(table: TableName, taken: Sequence[str]) -> str:
    """A name for a pipeline or a record, made of a table's; no two are the same."""
    plain = "_".join(re.sub(r"[^A-Za-z0-9]", "", word) for word in words(table.name))
    base = re.sub(r"_+", "_", plain).strip("_")[:30] or "records"
    if not _PLAIN.fullmatch(base) or _NOT_TEXT.fullmatch(base):
        base = f"table_{base}"
    return next(name for n in range(1, len(taken) + 2) if (name := base if n == 1 else f"{base}_{n}") not in taken)
