"""A proposal -> a commented config, as YAML."""

import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from exporter.setup.catalog import TableColumn
from exporter.setup.proposal import (
    NOT_TEXT,
    PLAIN,
    SHOWN_VALUES,
    RecordDraft,
    SessionsDraft,
    Value,
    done_values,
    is_text,
    name_for,
    status_like,
)

WIDTH: Final = 110
"""Characters in a line of a comment."""


# --- Text


def propose(sessions: SessionsDraft, records: Sequence[RecordDraft], *, has_url: bool, left_out: Sequence[str]) -> str:
    """The text of a config.  `left_out`: tables that reference the sessions but are not proposed, with the reason."""
    return "".join(line + "\n" for line in _lines(sessions, records, left_out, has_url=has_url))


def _lines(
    sessions: SessionsDraft, records: Sequence[RecordDraft], left_out: Sequence[str], *, has_url: bool
) -> Iterator[str]:
    yield from _comment(
        "Proposed by `session-health-exporter init` from names, types and values.  Check every choice, above all "
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
    yield "    grace: 5m                     # time from completion until a missing record becomes a gap"
    yield from _sessions(sessions)
    yield "    records:"
    names: list[str] = []
    for record in records:
        names.append(name_for(record.relation.table, names))
        yield f"      {names[-1]}:"
        yield from _record(record)
    if left_out:
        yield from _comment("Left out: " + "; ".join(left_out), 6)
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


def _sessions(draft: SessionsDraft) -> Iterator[str]:
    table = draft.relation.table
    yield "    sessions:"
    if draft.others:
        others = ", ".join(other.written for other in draft.others)
        yield from _comment(f"Other possible tables of sessions (choose with --sessions): {others}", 6)
    yield f"      table: {scalar(table.written)}"
    how = (
        "unique for each session"
        if draft.relation.is_unique([c.name for c in draft.key])
        else ("chosen by name: no unique index proves the key")
    )
    yield from _keyed("key", _list([column.name for column in draft.key]), how)
    status = (
        "chosen by name"
        if status_like(draft.status)
        else "CHECK: no column looks like a status; the exporter counts sessions by this column"
    )
    yield from _keyed("status", scalar(draft.status.name), status)
    yield from _keyed("started_at", scalar(draft.started.name), _time_note(draft.started))
    completed = draft.completed or draft.started
    note = _time_note(completed) if draft.completed else "CHECK: no column looks like the time of completion"
    yield from _keyed("completed_at", scalar(completed.name), note)
    yield from _eligible(draft, completed)


def _time_note(column: TableColumn) -> str:
    if column.base == "timestamp without time zone":
        return "chosen by name; no time zone, read as UTC (or write timezone: Europe/Berlin)"
    return "chosen by name; a date, read as midnight in UTC" if column.base == "date" else "chosen by name and type"


def _eligible(draft: SessionsDraft, completed: TableColumn) -> Iterator[str]:
    values = draft.facts.statuses
    if not values and draft.status.labels:
        values = tuple(Value(label, 0) for label in draft.status.labels)
    if values is None:
        yield from _comment("The statuses could not be read.  CHECK eligible: the sessions that must have records", 6)
    elif values:
        yield from _comment(
            f"Statuses found: {_shown(values)}.  CHECK eligible: the sessions that must have records", 6
        )
    else:
        yield from _comment("The table has no rows yet.  CHECK eligible: the sessions that must have records", 6)
    done = done_values(values or ()) if is_text(draft.status) else []
    literals = ", ".join("'" + value.replace("'", "''") + "'" for value in done[:SHOWN_VALUES])
    if not done:
        expression = f"{completed.sql} is not null"
        yield from _comment("No status looks like the end of a session: a session with a completion is eligible", 6)
    elif len(done) == 1:
        expression = f"{draft.status.sql} = {literals}"
    else:
        expression = f"{draft.status.sql} in ({literals})"
    yield f"      completed: {_sql(expression)}"
    yield f"      eligible: {_sql(expression)}"


def _record(draft: RecordDraft) -> Iterator[str]:
    why = (
        "A foreign key references the sessions."
        if draft.link.by_foreign_key
        else ("No foreign key, but a column named after the sessions.")
    )
    yield from _comment(
        f"{why}  Remove this record if not every eligible session must have a row, or write required_when.", 8
    )
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
        known = "no row has a version yet" if draft.facts.versions is not None else "the rows could not be read"
        yield from _comment(f"{name} looks like the version, but {known}.  When the version is known, write:", 8)
        yield from _comment(f"version: {{column: {scalar(name)}, current: '…'}}", 8)
        return
    yield from _comment(
        f"Recent versions: {_shown(versions)}.  CHECK current (the most frequent) and accepted (other good versions)", 8
    )
    yield "        version:"
    yield f"          column: {scalar(name)}"
    yield f"          current: {scalar(versions[0].text or '', always_quote=True)}"
    yield "          accepted: []            # other versions that satisfy the record"


def _unique(draft: RecordDraft) -> Iterator[str]:
    keys = [column.name for column in draft.link.columns]
    proved = [index.columns for index in draft.relation.indexes if index.proves_unique and {*index.columns} >= {*keys}]
    if proved:
        names = [name for name in proved[0] if name]
        yield from _keyed("unique", _flow(names), "a unique index exists", 8)
    elif draft.facts.has_several:
        yield from _comment("Some sessions have several rows.  If every session should have only one row, write:", 8)
        yield from _comment(f"unique: {_flow(keys)}", 8)
    else:
        yield from _keyed("unique", _flow(keys), "one row per session; more rows are duplicates", 8)


def _limits() -> Iterator[str]:
    yield "    limits:                       # thresholds for alerts; nothing else is judged, see docs/metrics.md"
    yield "      sessions_with_gap: {critical: 0}"
    yield "      gap_age: {warning: 15m, critical: 1h}"
    yield "      # conversion_ratio: {warning: 0.9, min_sessions: 20}   # share of completed sessions with every record"


def _shown(values: Sequence[Value]) -> str:
    """Values with their numbers of rows, shortened for a comment."""
    listed = [
        f"{'NULL' if value.text is None else scalar(value.text[:40])}{f' ({value.count})' if value.count else ''}"
        for value in values[:SHOWN_VALUES]
    ]
    return ", ".join(listed) + (f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else "")


_PLAIN_SQL: Final = re.compile(r"[a-z_][a-z0-9_]* (= '\w+'|in \(('\w+', )*'\w+'\)|is not null)", re.ASCII)


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
            yield " " * indent + f"# {line}"
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield " " * indent + f"# {line}"


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else _escaped(letter)
