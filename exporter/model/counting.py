"""What a dimension wants counted, the counts, and the numbers that are read from them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from exporter.model.metric import CellValue, Folded, LabelValue, Metric, Numbers
from exporter.model.sections import Pipeline, Record
from exporter.model.sql import Bindings


@dataclass(frozen=True, slots=True)
class GroupColumn:
    """Something that rows are grouped by: an SQL expression with a name; `open` if its values come from the data."""

    name: str
    sql: str
    open: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A condition on a session: SQL over the sessions table, with a name that totals use in double quotes.

    `sql` binds its values.  With `of_rows` the rows of every record are told apart by the fact too: it is a flag of
    their cells, false for a row without a session.
    """

    name: str
    sql: Callable[[Bindings], str]
    of_rows: bool = False


@dataclass(frozen=True, slots=True)
class Total:
    """A number of each group of rows: an SQL aggregate with a name, and how those of several groups become one."""

    name: str
    sql: str
    combined_by: Literal["sum", "min", "max"] = "sum"


@dataclass(frozen=True, slots=True)
class Spread:
    """How a number is spread over sessions: SQL (float8) over one session; where it is NULL the session is left out."""

    name: str
    sql: str


PERCENTILES: Final = (50, 95, 99)
"""What is told of a spread, by nearest rank: so many percent of the values are at most that."""


@dataclass(frozen=True, slots=True)
class Facet:
    """One way to tell the rows of a record apart, all SQL over its table.

    Usually rows of one session are grouped by `value` (text from the data) and by `category` (text from a closed set,
    of which `other` and `invalid` are the least known), in the same pass as for all other facets.  With `by` it is
    these expressions that group the rows, and their sessions play no part; then `where` leaves rows out, and `having`
    (over aggregates) groups.
    """

    name: str
    value: str = "null::text"
    category: str = "null::text"
    by: tuple[str, ...] = ()
    where: str | None = None
    having: str | None = None

    @property
    def per_session(self) -> bool:
        """Whether every row is counted, at its session."""
        return not self.by


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

    def newest(self, column: str) -> float | None:
        """The largest value of a time, in Unix seconds; None where no row has one."""
        return max((v for v in self.values(column) if isinstance(v, int | float)), default=None)

    def spread(self, column: str) -> tuple[int, dict[int, float]]:
        """On how many sessions a spread rests, and its percentiles; none where it rests on none."""
        count, *values = next((v for v in self.values(column) if isinstance(v, tuple)), (0,))
        return int(count), dict(zip(PERCENTILES, values, strict=True)) if count else {}

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


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one record, counted once for each of its facets; `whole` names one that has every row."""

    cells: Cells
    whole: str

    @property
    def all(self) -> Cells:
        """Every row once."""
        return self.facet(self.whole)

    def facet(self, name: str) -> Cells:
        """The rows as one facet tells them apart."""
        return self.cells.only("facet", [name])


@dataclass(frozen=True, slots=True)
class Part:
    """Something of a pipeline, beside its records, that may fail by itself: a name, and its keys below the pipeline."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What one statement of a pipeline is about: the records that it counts, and the parts that it may use."""

    pipeline: Pipeline
    records: tuple[Record, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class SessionMeasure:
    """Numbers about the sessions of a pipeline, read from the cells of the sessions.

    A total of a part that the server refused is no column of the cells.  With `needs_every_record` the measure is read
    only if every record table was measured: a total over some records would be wrong.
    """

    metric: Metric
    read: Callable[[Pipeline, Cells], Numbers]
    needs_every_record: bool = False


@dataclass(frozen=True, slots=True)
class RecordMeasure:
    """A number about one record: read from the cells of the sessions and from its own rows."""

    metric: Metric
    read: Callable[[Record, Cells, Rows], Numbers]


@dataclass(frozen=True, slots=True)
class CatalogMeasure:
    """A number about one record that PostgreSQL's catalog knows: a scalar SQL expression."""

    metric: Metric
    sql: Callable[[Pipeline, Record, Bindings], str]


Measure = SessionMeasure | RecordMeasure | CatalogMeasure
