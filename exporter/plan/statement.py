"""A statement as a value: SQL, values of placeholders, and the reading of the result.  No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from exporter import APPLICATION_NAME
from exporter.model.counting import Cells, Total
from exporter.model.metric import CellValue, Folded
from exporter.model.sql import Ago, Bound, Moment


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with numbered placeholders, the values of the placeholders, and the names of the result columns.

    `folding`: columns with values of the data, folded beyond the limit.  `totals`: the columns that are numbers of
    cells, and how those of several cells become one.  `is_ours`: the SQL is the exporter's, without
    SQL of the config.
    """

    title: str
    sql: str
    bound: tuple[Bound, ...] = ()
    columns: tuple[str, ...] = ()
    folding: frozenset[str] = frozenset()
    totals: tuple[Total, ...] = ()
    returns_rows: bool = True
    is_ours: bool = True

    def arguments(self, clock: datetime) -> list[object]:
        """The values in the order of the placeholders; `clock` is the time of the snapshot."""
        return [_at(value, clock) for value in self.bound]

    def read(self, rows: Sequence[Sequence[Any]]) -> Cells:
        """The cells of a result; the last column of a row tells whether the cell was folded."""
        open_places = [index for index, name in enumerate(self.columns) if name in self.folding]

        def cell(row: Sequence[Any]) -> tuple[CellValue, ...]:
            values = [tuple(map(float, value)) if isinstance(value, list) else value for value in row[:-1]]
            if row[-1]:
                for index in open_places:
                    values[index] = Folded.OTHER
            return tuple(values)

        return Cells(self.columns, tuple(cell(row) for row in rows))


def _at(value: Bound, clock: datetime) -> object:
    match value:
        case Moment.CLOCK:
            return clock
        case Ago():
            return value.before(clock)
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Cursor:
    """A result read in pieces: `prepare` and `open`, then `fetch` until no row comes, then `close`.

    An SQL cursor, not a prepared statement of the driver: a pooler in transaction mode would keep the names.
    https://www.postgresql.org/docs/current/sql-declare.html
    """

    prepare: Statement
    open: Statement
    fetch: Statement
    close: Statement


FETCHED: Final = 2_000
"""Rows of a cursor in one fetch."""


def marker(pipeline: str, what: str) -> str:
    """A comment that identifies a statement in pg_stat_activity; pg_stat_statements drops it before the first word."""
    return f"/* {APPLICATION_NAME}: {pipeline}: {what} */"
