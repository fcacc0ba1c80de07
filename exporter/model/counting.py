"""What a dimension wants counted, the counts, and the numbers that are read from them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from exporter.model.metric import CellValue, Folded, LabelValue, Metric, Numbers
from exporter.model.sections import Pipeline, Record
from exporter.model.sql import Bindings


@dataclass(frozen=True, slots=True)
class GroupColumn:
    """Something that cells are grouped by: an SQL expression with a name; `open` if its values come from the data."""

    name: str
    sql: str
    open: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """A condition on a row of a table: SQL over that table, with a name that totals use in double quotes.

    `sql` binds its values.  With `of_rows` a fact about a session also tells the rows of every record apart, and is
    computed for the sessions of any time; other facts are false outside the window and the cohort.  `once_settled` is
    the value of the fact for a session that nobody needs to look at again; None if both are normal.
    """

    name: str
    sql: Callable[[Bindings], str]
    of_rows: bool = False
    once_settled: bool | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """A number of each group of cells: an SQL aggregate with a name, and how those of several groups become one."""

    name: str
    sql: str
    combined_by: Literal["sum", "min", "max", "lines"] = "sum"


def sessions_where(condition: str) -> str:
    """SQL for a total: the number of sessions for which a condition over a cell is true."""
    return f"coalesce(sum(sessions) filter (where {condition}), 0)::bigint"


def rows_where(condition: str) -> str:
    """SQL for a total: the number of rows for which a condition over a cell is true."""
    return f"coalesce(sum(rows) filter (where {condition}), 0)::bigint"


@dataclass(frozen=True, slots=True)
class Spread:
    """How a number is spread over the sessions of the cohort: SQL (float8) over one session; NULL is left out."""

    name: str
    sql: str


PERCENTILES: Final = (50, 95, 99)
"""What is told of a spread, by nearest rank: so many percent of the values are at most that."""


@dataclass(frozen=True, slots=True)
class Facet:
    """One way to tell the rows of a record apart: by a text, which is SQL over its table.

    The text may be long: the stages cut it to the length of a label.  `known` has the category of each text that the
    config names; every other text, and NULL, has the category `other`.
    """

    name: str
    text: str = "null::text"
    known: Mapping[str, str] = field(default_factory=dict)
    other: str | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """What a facet calls some rows: the text, cut to the length of a label, and the category."""

    text: str | None
    category: str | None


SEGMENTED: Final = ""
"""The subject of the cells of sessions by segment: no record has this name."""

Values = Mapping[str, Mapping[str, tuple[Value, ...]]]
"""The values of each facet, by the name of the record and of the facet."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows that repeat the values of some columns; a row with a NULL in one of the columns repeats nothing."""

    name: str
    columns: tuple[str, ...]


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
    """What was counted of one record.

    `cells`: its rows, once for each of its facets; `whole` names one that has every row.  `sessions`: for each facet
    the analysed sessions by `value` and `category`, each once for each value.  `spreads`: how the numbers of the
    cohort's sessions are spread.  `repeats`: for each `Repeats` the rows beyond the first.
    """

    cells: Cells
    whole: str
    sessions: Mapping[str, Cells] = field(default_factory=dict)
    spreads: Mapping[str, tuple[int, Mapping[int, float]]] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)

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


COHORT_PART: Final = Part("cohort", "cohort")
"""The cohort: its totals and spreads are counted where a scope has this part."""


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
    only if every record table was measured: a total over some records would be wrong.  `by_segment`: from the cells of
    the analysed sessions by segment.
    """

    metric: Metric
    read: Callable[[Pipeline, Cells], Numbers]
    needs_every_record: bool = False
    by_segment: bool = False


@dataclass(frozen=True, slots=True)
class RecordMeasure:
    """A number about one record: read from the cells of the sessions by its state, and from its own rows.

    `of_rows`: the number is about rows of a table, and absent for a record without a table (`exists`).
    """

    metric: Metric
    read: Callable[[Record, Cells, Rows], Numbers]
    of_rows: bool = False


@dataclass(frozen=True, slots=True)
class CatalogMeasure:
    """A number about one record that PostgreSQL's catalog knows: a scalar SQL expression."""

    metric: Metric
    sql: Callable[[Pipeline, Record, Bindings], str]


Measure = SessionMeasure | RecordMeasure | CatalogMeasure
