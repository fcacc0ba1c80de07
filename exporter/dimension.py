"""The vocabulary of data health: what is counted, how it is called, and what it needs.

A dimension is a value: the columns by which it wants rows counted, and measures that read the counts.
The stages (plan, collect, expose) work on these values and know no dimension by name.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from exporter.schema import Pipeline, Record
from exporter.sql import Bindings

PREFIX: Final = "session_health_"

LABEL_LENGTH: Final = 256
"""Characters of a value that become a label: what exceeds them never crosses the wire."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported gauge family.

    `labels` come after `database` and `pipeline`, which every family has.  `open_label` names the one
    whose values come from the data and are therefore capped.  Where there is a label `record`, it is
    the first and the stages fill it.
    https://prometheus.io/docs/practices/naming/
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    open_label: str | None = None

    @property
    def full_name(self) -> str:
        """The name on the page."""
        return PREFIX + self.name


class Folded(Enum):
    """Stands for the values beyond what is worth transporting or exporting."""

    OTHER = "<other>"


CellValue = str | bool | float | int | None | Folded
LabelValue = str | None | Folded


@dataclass(frozen=True, slots=True)
class Column:
    """Something that rows are grouped by: an SQL expression with a name; `open` if its values come from the data."""

    name: str
    sql: str
    open: bool = False


@dataclass(frozen=True, slots=True)
class Total:
    """A number of each group of rows: an SQL aggregate with a name, and how those of several groups become one."""

    name: str
    sql: str
    combined_by: Literal["sum", "min", "max"] = "sum"


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows of a table, counted: one cell for each combination of the grouping columns that occurs."""

    columns: tuple[str, ...]
    rows: tuple[tuple[CellValue, ...], ...]

    def where(self, **conditions: bool) -> "Cells":
        """The cells whose flags are as given."""
        wanted = [(self.columns.index(name), value) for name, value in conditions.items()]
        return Cells(
            self.columns,
            tuple(row for row in self.rows if all(row[i] is value for i, value in wanted)),
        )

    def only(self, column: str, values: Iterable[CellValue]) -> "Cells":
        """The cells whose `column` is one of `values`."""
        index, allowed = self.columns.index(column), frozenset(values)
        return Cells(self.columns, tuple(row for row in self.rows if row[index] in allowed))

    def values(self, column: str) -> list[CellValue]:
        """One column, cell by cell."""
        index = self.columns.index(column)
        return [row[index] for row in self.rows]

    def total(self, column: str) -> int:
        """The sum of a total; 0 where there is no cell, as no row was counted."""
        return sum(_count(value) for value in self.values(column))

    def oldest(self, column: str) -> float | None:
        """The smallest value of a time, in Unix seconds; None where no row has one."""
        return min((v for v in self.values(column) if isinstance(v, int | float)), default=None)

    def totals(self, column: str, *by: str) -> dict[tuple[LabelValue, ...], int]:
        """The sum of a total for each combination of the columns `by`."""
        at, places = self.columns.index(column), [self.columns.index(name) for name in by]
        result: dict[tuple[LabelValue, ...], int] = {}
        for row in self.rows:
            key = tuple(_label(row[place]) for place in places)
            result[key] = result.get(key, 0) + _count(row[at])
        return result


def _count(value: CellValue) -> int:
    # A count that is none (NULL, say) is a fault, and must never read as 0.
    if not isinstance(value, int):
        raise TypeError(f"a total is {type(value).__name__}, not a count")
    return value


def _label(value: CellValue) -> LabelValue:
    return value if value is None or isinstance(value, str | Folded) else str(value)


Values = Mapping[tuple[LabelValue, ...], float]
"""Label values, without those that the stages fill, and the number; what is not there is not exported."""


@dataclass(frozen=True, slots=True)
class SessionMeasure:
    """A number about the sessions of a pipeline.

    `read` gets the cells of the sessions; with `needs_every_record` it is asked only when every record
    table was measured, for a total over some of them would be wrong.
    """

    metric: Metric
    read: Callable[[Pipeline, Cells], Values]
    needs_every_record: bool = False


@dataclass(frozen=True, slots=True)
class RecordMeasure:
    """A number about one record: read from the cells of the sessions and from those of its own rows."""

    metric: Metric
    read: Callable[[Record, Cells, Cells], Values]


@dataclass(frozen=True, slots=True)
class CatalogMeasure:
    """A number about one record that PostgreSQL's catalog knows: a scalar SQL expression."""

    metric: Metric
    sql: Callable[[Pipeline, Record, Bindings], str]


Measure = SessionMeasure | RecordMeasure | CatalogMeasure


def _no_session_columns(_pipeline: Pipeline, _records: tuple[Record, ...], _bind: Bindings) -> tuple[Column, ...]:
    return ()


def _no_row_columns(_record: Record, _bind: Bindings) -> tuple[Column, ...]:
    return ()


def _no_row_totals(_record: Record, _bind: Bindings) -> tuple[Total, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Dimension:
    """One aspect of data health.

    `session_columns` group the sessions in the window, and `session_totals` are theirs beside `sessions`, the count.
    They are SQL over one session with the columns `status`, `started`, `completed` (timestamptz or NULL),
    `analysed` and, for the n-th of the records asked for, `best_n` and `required_n`.

    `row_columns` (text) group the rows of a record table, and `row_totals` are theirs beside `rows`: SQL over that
    table alone.  They are counted for each dimension apart, so that none changes another's numbers; a dimension
    without columns of its own gets the rows ungrouped.  In the cells, `sessions` counts the groups of rows of one
    session, and the flags `keyed`, `linked` and `analysed` say whether its key is there, its session exists, and
    is one of those analysed.
    """

    name: str
    question: str
    measures: tuple[Measure, ...]
    session_columns: Callable[[Pipeline, tuple[Record, ...], Bindings], tuple[Column, ...]] = _no_session_columns
    session_totals: tuple[Total, ...] = ()
    row_columns: Callable[[Record, Bindings], tuple[Column, ...]] = _no_row_columns
    row_totals: Callable[[Record, Bindings], tuple[Total, ...]] = _no_row_totals
