"""A proposal -> a commented config, as YAML."""

import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from exporter.model.sql import text_literal
from exporter.setup.catalog import TableColumn
from exporter.setup.evidence import ROW_LIMIT, Value
from exporter.setup.naming import FAILED_WORDS, is_changing, status_of, words
from exporter.setup.proposal import (
    HOLDS,
    NOT_TEXT,
    PLAIN,
    SHOWN_VALUES,
    RecordDraft,
    SessionsDraft,
    described,
    grace_for,
    grace_of,
    name_for,
    status_like,
)
from exporter.setup.references import Pointer
from exporter.text.figures import format_value

WIDTH: Final = 110
"""Characters in a line of a comment."""


# --- Text


def propose(sessions: SessionsDraft, records: Sequence[RecordDraft], *, has_url: bool, left_out: Sequence[str]) -> str:
    """The text of a config.  `left_out`: tables that refer to the sessions but are not proposed, with the reason."""
    return "".join(line + "\n" for line in _lines(sessions, records, left_out, has_url=has_url))


def _lines(
    sessions: SessionsDraft, records: Sequence[RecordDraft], left_out: Sequence[str], *, has_url: bool
) -> Iterator[str]:
    yield from _comment(
        "Proposed by `session-health-exporter init` from names, types and rows.  Check every choice, above all "
        "`eligible` and the tables under `records`.  Then run: session-health-exporter config check --connect",
        0,
    )
    yield ""
    yield "databases:"
    if has_url:
        yield "  main:"
        yield "    url: ${DATABASE_URL}          # from the environment: the file holds no secret"
    else:
        yield "  main: {}                        # no url: the PG* environment variables apply"
    yield ""
    yield "pipelines:"
    yield f"  {name_for(sessions.relation.table, ())}:"
    yield from _window(sessions)
    yield from _grace(records, _end(sessions))
    yield from _sessions(sessions)
    yield "    records:"
    names: list[str] = []
    for record in records:
        names.append(name_for(record.relation.table, names))
        yield f"      {names[-1]}:"
        own = grace_of(record)
        yield from _record(record, _end(sessions), own if own != grace_for(records)[0] else None)
    if left_out:
        yield from _comment("Left out: " + "; ".join(left_out) + ".  To propose a table, name it with --record", 6)
    yield "    cohort: {window: 24h, maturity: 1h}   # for conversion: sessions started 1h to 25h ago"
    yield from _limits()


def _window(sessions: SessionsDraft) -> Iterator[str]:
    facts = sessions.facts
    if facts.newest is not None and not facts.is_recent:
        yield from _comment("No session started in the last 90 days.  With new sessions, write {last: 90d}", 4)
        since = date.fromordinal(max(1, facts.newest.toordinal() - 90))
        yield f"    window: {{since: {since.isoformat()}}}"
    else:
        yield "    window: {last: 90d}           # measured sessions, by start; or {since: 2025-08-01}"


def _grace(records: Sequence[RecordDraft], end: str) -> Iterator[str]:
    grace, is_measured = grace_for(records)
    known = ": 95 of 100 records come earlier" if is_measured else ".  CHECK: no delay is known"
    yield from _comment(f"Time from {end} until a missing record becomes a gap{known}", 4)
    yield f"    grace: {grace}"


def _sessions(draft: SessionsDraft) -> Iterator[str]:
    table, columns = draft.relation.table, draft.columns
    yield "    sessions:"
    if draft.others:
        others = ", ".join(other.written for other in draft.others)
        yield from _comment(f"Other possible tables of sessions (choose with --sessions): {others}", 6)
    yield f"      table: {scalar(table.written)}"
    yield from _computed([columns.started, *([columns.completed] if columns.completed else [])], 6)
    how = (
        "unique for each session"
        if draft.relation.is_unique([c.name for c in draft.key])
        else ("chosen by name: no unique index proves the key")
    )
    yield from _keyed("key", _list([column.name for column in draft.key]), how)
    status = columns.status or columns.flag
    if status is None:
        yield from _comment("No column looks like a status: the exporter does not tell sessions apart by status", 6)
    else:
        note = "chosen by name" if status_like(status) else "chosen by name and type"
        yield from _keyed("status", scalar(status.name), note)
    yield from _keyed("started_at", scalar(columns.started.name), _time_note(columns.started))
    if columns.completed is None:
        yield from _comment("No column looks like the time of completion: grace and delay count from the start", 6)
    else:
        yield from _keyed("completed_at", scalar(columns.completed.name), _time_note(columns.completed))
        if draft.eligible.from_start:
            yield from _keyed(
                "due_at", scalar(columns.started.name), "records come at the start: grace counts from here"
            )
    yield from _eligible(draft)


def _computed(columns: Sequence[TableColumn], indent: int) -> Iterator[str]:
    """The computed columns that other keys name."""
    found = [column for column in columns if column.is_computed]
    if found:
        yield from _comment("Numbers that count from 1970, as times", indent)
        yield " " * indent + "computed:"
        for column in found:
            yield f"{' ' * indent}  {scalar(column.name)}: {scalar(column.sql)}"


def _time_note(column: TableColumn) -> str:
    if column.is_computed:
        return "chosen by name and values"
    if is_changing(column):
        return "CHECK: no other time was found, and this one changes with the row"
    if column.base == "timestamp without time zone":
        return "chosen by name; no time zone, read as UTC (or write timezone: Europe/Berlin)"
    return "chosen by name; a date, read as midnight in UTC" if column.base == "date" else "chosen by name and type"


def _eligible(draft: SessionsDraft) -> Iterator[str]:
    status, values = draft.columns.status, draft.facts.statuses()
    if not values and status is not None and status.labels:
        values = tuple(Value(label, 0) for label in status.labels)
    if values is None:
        found = "The sessions could not be read."
    elif not values:
        found = "The table has no rows yet."
    else:
        found = f"Statuses found: {_shown(values)}." if status is not None else ""
    yield from _comment(f"{found}{'  ' if found else ''}CHECK eligible: the sessions that must have records", 6)
    yield from _comment(draft.eligible.reason, 6)
    yield from _stuck(draft, values or ())
    completed = draft.columns.completed
    ended = f"{completed.sql} is not null" if draft.eligible.from_start and completed else draft.eligible.sql
    yield f"      completed: {_sql(ended)}"
    yield f"      eligible: {_sql(draft.eligible.sql)}"


def _end(draft: SessionsDraft) -> str:
    """The time from which grace and delay count, in words."""
    return "completion" if draft.columns.completed and not draft.eligible.from_start else "the start"


def _stuck(draft: SessionsDraft, values: Sequence[Value]) -> Iterator[str]:
    """The statuses of sessions on the way, in a comment."""
    ended = draft.eligible.statuses or frozenset()
    passing = [
        value.text
        for value in values
        if value.text is not None and value.text not in ended and FAILED_WORDS.isdisjoint(words(value.text))
    ]
    if ended and passing:
        yield from _comment(
            "Sessions that stay in a status for too long: choose the statuses and the time, and write:", 6
        )
        yield from _comment(f"stuck: {{statuses: {_flow(passing[:SHOWN_VALUES])}, after: 1d}}", 6)


def _record(draft: RecordDraft, end: str, grace: str | None) -> Iterator[str]:
    yield from _comment(f"{_evidence(draft, end)}  {_advice(draft)}", 8)
    if isinstance(draft.source.way, Pointer):
        pointer = draft.source.way
        sub_query = (
            f"exists (select 1 from {draft.relation.table.written} r "
            f"where r.{pointer.target.sql} = session.{pointer.column.sql})"
        )
        yield f"        exists: {scalar(sub_query)}"
        return
    link = draft.source.way
    yield f"        table: {scalar(draft.relation.table.written)}"
    parts = [
        f"{{column: {scalar(column.name)}, cast: {scalar(cast)}}}" if cast else scalar(column.name)
        for column, cast in zip(link.columns, draft.source.casts, strict=True)
    ]
    note = "the types differ" if any(draft.source.casts) else ""
    yield from _keyed("session_key", parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]", note, 8)
    if link.kind is not None and link.kind_value is not None:
        only = f"{link.kind.sql} = {text_literal(link.kind_value)}"
        yield from _keyed("where", _sql(only), "rows of this table also refer to other tables", 8)
    if draft.created:
        yield from _computed([draft.created], 8)
        yield from _keyed("created_at", scalar(draft.created.name), _time_note(draft.created), 8)
    if draft.split is not None:
        yield from _keyed("required_when", scalar(draft.split.sql), "nearly all these sessions have a row", 8)
    if grace is not None:
        yield from _keyed("grace", grace, "later than the other records", 8)
    yield from _valid(draft)
    yield from _version(draft)
    yield from _unique(draft)


def _evidence(draft: RecordDraft, end: str) -> str:
    """How the record refers to the sessions, and what its rows say."""
    way = draft.source.way
    if isinstance(way, Pointer):
        how = f"The column {way.column.name} of the sessions refers to this table, and is empty in most other sessions."
    elif way.kind is not None:
        how = f"The column {way.kind.name} of this table names the sessions."
    elif way.by_foreign_key:
        how = "A foreign key references the sessions."
    else:
        how = "No foreign key of this table, but a column named after the sessions."
    found = "No eligible session of the sample is old enough to tell whether the relation holds."
    if draft.split is not None:
        split = draft.split
        found = f"{split.with_row:,} of {split.sessions:,} eligible sessions with required_when have a row."
    elif draft.share:
        found = f"{described(draft.share)}."
    elif draft.is_unreadable:
        found = "The rows could not be compared with the sessions."
    if draft.facts.delays is not None:
        half, most = (format_value(max(0.0, seconds), "seconds") for seconds in draft.facts.delays)
        found += f"  Delay after {end}: half within {half}, 95 of 100 within {most}."
        if draft.facts.delays[0] < 0:
            part = "nearly all" if draft.facts.delays[1] < 0 else "half"
            found += f"  CHECK: {part} of the rows come before {end}."
    return f"{found}  {how}"


def _advice(draft: RecordDraft) -> str:
    if draft.split is not None:
        return "CHECK required_when: chosen by the rows."
    if draft.share is not None and draft.share.ratio < HOLDS <= draft.share.held:
        return "CHECK: the relation held in a part of the window alone, as in an outage, or another table replaced it."
    if draft.share is not None and draft.share.with_row == draft.share.sessions:
        return "Remove this record if not every eligible session must have a row."
    return "Remove this record if not every eligible session must have a row, or write required_when."


def _valid(draft: RecordDraft) -> Iterator[str]:
    """The statuses of the rows, if some rows are no good records."""
    link, statuses = draft.link, draft.facts.statuses or ()
    status = status_of(link.outline.columns) if link else None
    texts = [value.text for value in statuses if value.text is not None]
    failed = [text for text in texts if not FAILED_WORDS.isdisjoint(words(text))]
    if status is None or not failed:
        return
    good = ", ".join([text_literal(text) for text in texts if text not in failed][:SHOWN_VALUES])
    yield from _comment(f"Statuses of the rows: {_shown(statuses)}.  If only some rows are good records, write:", 8)
    yield from _comment(f"valid: {_sql(f'{status.sql} in ({good})')}", 8)


def _version(draft: RecordDraft) -> Iterator[str]:
    if draft.version is None:
        if draft.link is not None:
            yield from _comment(
                "No column is named version.  If rows have a version, and old rows are a gap, write:", 8
            )
            yield from _comment("version: {column: …, current: '…'}", 8)
        return
    versions, name = _versions(draft), draft.version.name
    if not versions:
        known = "no row has a version yet" if draft.facts.versions is not None else "the rows could not be read"
        yield from _comment(f"{name} looks like the version, but {known}.  When the version is known, write:", 8)
        yield from _comment(f"version: {{column: {scalar(name)}, current: '…'}}", 8)
        return
    found = f"Versions of the last 90 days: {_shown(versions)}.  CHECK current, the most frequent of the last 30 days"
    more = ".  Remove a version from accepted if sessions with only rows of the version are a gap (outdated)"
    yield from _comment(found + (more if len(versions) > 1 else ""), 8)
    yield "        version:"
    yield f"          column: {scalar(name)}"
    yield f"          current: {scalar(versions[0].text or '', always_quote=True)}"
    others = _flow([value.text or "" for value in versions[1:MOST_ACCEPTED]])
    yield f"          accepted: {others:<13} # other versions that satisfy the record"


def _versions(draft: RecordDraft) -> list[Value]:
    """The versions of recent rows, the most frequent of the newest rows first."""
    return [value for value in draft.facts.versions or () if value.text and value.text.strip()]


MOST_ACCEPTED: Final = 24
"""Versions that satisfy a proposed record, at most."""


def _several(per_session: Sequence[tuple[int, int]], keys: Sequence[str]) -> Iterator[str]:
    """The number of rows that sessions have, in a comment."""
    sessions, read = sum(count for _, count in per_session), sum(rows * count for rows, count in per_session)
    rows, alike = per_session[0]
    # Of a larger table some rows are read, and not all rows of a session.
    if rows > 1 and sessions >= LEAST_ALIKE and alike >= ALIKE * sessions and read < ROW_LIMIT:
        found = f"{alike:,} of {sessions:,} sessions with a row have {rows} rows."
        yield from _comment(f"{found}  If every session needs as many, write:", 8)
        yield from _comment(f"rows: {rows}", 8)
    yield from _comment("Some sessions have several rows.  If every session should have only one row, write:", 8)
    yield from _comment(f"unique: {_flow(keys)}", 8)


ALIKE: Final = 0.9
"""The share of sessions with equally many rows from which on the number may be what a session needs."""

LEAST_ALIKE: Final = 20
"""Sessions with a row that tell, at least."""


def _unique(draft: RecordDraft) -> Iterator[str]:
    if draft.link is None:
        return
    keys = [column.name for column in draft.link.columns]
    proved = [index.columns for index in draft.relation.indexes if index.proves_unique and {*index.columns} >= {*keys}]
    if proved:
        names = [name for name in proved[0] if name]
        yield from _keyed("unique", _flow(names), "a unique index exists", 8)
    elif any(rows > 1 for rows, _ in draft.facts.per_session or ()):
        yield from _several(draft.facts.per_session or (), keys)
    elif draft.version is not None and _versions(draft):
        # A backfill may add a row of the current version beside an outdated row.
        note = "one row per session and version; more rows are duplicates"
        yield from _keyed("unique", _flow([*keys, draft.version.name]), note, 8)
    else:
        yield from _keyed("unique", _flow(keys), "one row per session; more rows are duplicates", 8)


def _limits() -> Iterator[str]:
    yield "    limits:                       # thresholds for alerts; nothing else is judged, see docs/metrics.md"
    yield "      sessions_with_gap: {critical: 0}"
    yield "      gap_age: {warning: 15m, critical: 1h}"
    yield "      # newest_record_age: {critical: 6h}   # longest expected time without a new row: else a worker is down"
    yield "      # orphaned_records: {warning: 0}      # rows whose session does not exist; today: see `report`"
    yield "      # conversion_ratio: {warning: 0.9, min_sessions: 20}   # share of completed sessions with every record"


def _shown(values: Sequence[Value]) -> str:
    """Values with their numbers of rows, shortened for a comment."""
    listed = [
        f"{'NULL' if value.text is None else scalar(value.text[:40])}{f' ({value.count})' if value.count else ''}"
        for value in values[:SHOWN_VALUES]
    ]
    return ", ".join(listed) + (f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else "")


_PLAIN_SQL: Final = re.compile(r"[a-z_][a-z0-9_]* (= '?\w+'?|in \(('?\w+'?, )*'?\w+'?\)|is not null)", re.ASCII)


def scalar(text: str, *, always_quote: bool = False) -> str:
    """Text as YAML of the config: quoted if needed, and `$` doubled, because `$` would begin a variable."""
    text = text.replace("$", "$$")
    if not always_quote and PLAIN.fullmatch(text) and not NOT_TEXT.fullmatch(text):
        return text
    if all(letter.isprintable() for letter in text):
        return "'" + text.replace("'", "''") + "'"
    return '"' + "".join(map(_escaped, text)) + '"'


def _sql(expression: str) -> str:
    """SQL as YAML outside brackets: simple SQL needs no quotes."""
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
    """Lines of a comment; unprintable characters, such as a line break in a name, are escaped."""
    line = ""
    for word in "".join(map(_visible, text)).split(" "):
        if line and len(line) + len(word) + 1 > WIDTH - indent:
            yield " " * indent + f"# {line.rstrip()}"
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield " " * indent + f"# {line}"


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else _escaped(letter)
