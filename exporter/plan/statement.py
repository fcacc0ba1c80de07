"""A statement as a value: its SQL, what fills its placeholders, and how its result is read.  No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from exporter import APPLICATION_NAME
from exporter.model.counting import Cells
from exporter.model.metric import CellValue, Folded
from exporter.model.sql import Bound, Moment


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with numbered placeholders, the values that fill them, and the names of its result's columns.

    `folding` names the columns whose values come from the data, and are folded beyond the limit.  `is_ours`: all of its
    SQL is the exporter's, and none of the config's.
    """

    title: str
    sql: str
    bound: tuple[Bound, ...] = ()
    columns: tuple[str, ...] = ()
    folding: frozenset[str] = frozenset()
    returns_rows: bool = True
    is_ours: bool = True

    def arguments(self, clock: datetime) -> list[object]:
        """The values in the order of the placeholders; `clock` is the snapshot's."""
        return [clock if value is Moment.CLOCK else value for value in self.bound]

    def read(self, rows: Sequence[Sequence[Any]]) -> Cells:
        """The cells of a result of this statement; its last column says whether a cell was folded."""
        open_places = [index for index, name in enumerate(self.columns) if name in self.folding]

        def cell(row: Sequence[Any]) -> tuple[CellValue, ...]:
            values = [tuple(map(float, value)) if isinstance(value, list) else value for value in row[:-1]]
            if row[-1]:
                for index in open_places:
                    values[index] = Folded.OTHER
            return tuple(values)

        return Cells(self.columns, tuple(cell(row) for row in rows))


@dataclass(frozen=True, slots=True)
class Cursor:
    """A result that is read piece by piece: `prepare` and `open`, then `fetch` until it returns no row, then `close`.

    It is held by the server under a name in SQL, not by the driver as a prepared statement: of those a pooler in
    transaction mode keeps the names.
    https://www.postgresql.org/docs/current/sql-declare.html
    """

    prepare: Statement
    open: Statement
    fetch: Statement
    close: Statement


FETCHED: Final = 2_000
"""Rows of a cursor that cross the wire at a time."""


def marker(pipeline: str, what: str) -> str:
    """Says whose a statement is, in pg_stat_activity; never before its first word: pg_stat_statements drops that."""
    return f"/* {APPLICATION_NAME}: {pipeline}: {what} */"
