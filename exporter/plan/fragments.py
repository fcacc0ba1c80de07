"""Pieces of SQL for several statements: keys, rows, and the ends of the window and the cohort."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from exporter.model.keys import Link
from exporter.model.ranges import Keyed
from exporter.model.sections import Pipeline, Record, Sessions
from exporter.model.sql import (
    OURS,
    Ago,
    Bindings,
    Moment,
    condition,
    moment,
    quote,
    with_values,
)
from exporter.model.states import (
    PASSES,
)

SessionKey = tuple[str, ...]
"""The key of a session: a text for each column of `sessions.key`."""


def window_start(pipeline: Pipeline, bind: Bindings) -> str:
    """SQL for the start of the window."""
    if pipeline.window.since is not None:
        return bind(pipeline.window.since, "timestamptz")
    return bind(Ago(pipeline.window.last or timedelta(0)), "timestamptz")


def session_keys(pipeline: Pipeline) -> list[str]:
    """The columns of the key of the sessions, as `key_1` and so on."""
    sessions = pipeline.sessions
    return [f"{column_of(sessions, column)} as key_{n}" for n, column in enumerate(sessions.key, start=1)]


def column_of(section: Sessions | Record, column: str) -> str:
    """A column of a section's table, qualified with the table."""
    return f"{quote(section.table.name)}.{quote(column)}"


def record_keys(record: Record, link: Link) -> list[str]:
    """The key columns of a record, converted by the link."""
    return [
        one.of_record.format(column_of(record, part.column)) for part, one in zip(record.session_key, link, strict=True)
    ]


def named_keys(record: Record, link: Link) -> list[str]:
    """The key columns of a record, as `key_1` and so on."""
    return [f"{key} as key_{n}" for n, key in enumerate(record_keys(record, link), start=1)]


def in_keys(column: str, part: Keyed, kind: str, bind: Bindings) -> list[str]:
    """SQL conditions: a column is in a range of keys."""
    found = [f"{column} is {'' if part.missing else 'not '}null"]
    if part.low is not None:
        found.append(f"{column} operator(pg_catalog.>=) {bind(part.low, 'text')}::{kind}")
    if part.high is not None:
        found.append(f"{column} operator(pg_catalog.<) {bind(part.high, 'text')}::{kind}")
    return found


_EXISTS: Final = "exists for us"
"""Whether a row of a record passes `where`."""


def rows_from(record: Record) -> tuple[str, str]:
    """A FROM item with the rows of a record and the result of `valid`, and the condition for rows that count."""
    values = [(name, condition(sql)) for name, sql in ((_EXISTS, record.where), (PASSES, record.valid)) if sql]
    return with_values(record.source, values), f"{OURS}.{quote(_EXISTS)}" if record.where else "true"


def newest_in_sql(record: Record, bind: Bindings) -> str:
    """SQL over one row: its time, unless in the future; NULL if the record has no times."""
    if record.created_at is None:
        return "null::timestamptz"
    written = moment(column_of(record, record.created_at), record.timezone, bind)
    return f"case when {written} <= {bind(Moment.CLOCK, 'timestamptz')} then {written} end"


def comma_list(items: Sequence[str], indent: int = 2) -> str:
    """SQL items separated by commas, one per line."""
    return (",\n" + " " * indent).join(items)


def cohort_end(pipeline: Pipeline, bind: Bindings) -> str:
    """SQL for the end of the cohort."""
    maturity = pipeline.cohort.maturity if pipeline.cohort else timedelta(0)
    return bind(Ago(maturity), "timestamptz")


def cohort_start(pipeline: Pipeline, bind: Bindings) -> str:
    """SQL for the start of the cohort."""
    cohort = pipeline.cohort
    length = cohort.maturity + cohort.window if cohort else timedelta(0)
    return bind(Ago(length), "timestamptz")
