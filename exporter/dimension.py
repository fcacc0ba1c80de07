"""The vocabulary of data health: what is counted, how it is called, and what it needs.

A dimension is a value: its keys of the config, the columns by which it wants rows counted, measures that read the
counts, and limits by which they are judged.  The stages (plan, collect, judge, expose) work on these values and know
no dimension by name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, Protocol

from exporter.keys import Link
from exporter.schema import Key, LimitUnit, Pipeline, Record
from exporter.sql import Bindings, only_rows, quote
from exporter.terminal import printable

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


WINDOW_START: Final = Metric(
    "window_start_timestamp_seconds",
    "From when on sessions are looked at, by their start: as the config says, or as of the served snapshot.",
)
SNAPSHOT_TIME: Final = Metric(
    "snapshot_timestamp_seconds", "When the served snapshot was taken, by the database's clock."
)
"""What is told of every pipeline by the stages, for a dimension to refer to.  Ages in PromQL are as of the snapshot, as
those that are judged: Prometheus' clock may be another, and goes on while nothing is measured."""


class Folded(Enum):
    """Stands for the values beyond what is worth transporting or exporting."""

    OTHER = "<other>"


CellValue = str | bool | float | int | tuple[float, ...] | None | Folded
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


Values = Mapping[tuple[LabelValue, ...], float]
"""Label values, without those that the stages fill, and the number; what is not there is not exported."""


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
    """A number about the sessions of a pipeline.

    `read` gets the cells of the sessions; with `needs_every_record` it is asked only when every record
    table was measured, for a total over some of them would be wrong.
    """

    metric: Metric
    read: Callable[[Pipeline, Cells], Values]
    needs_every_record: bool = False


@dataclass(frozen=True, slots=True)
class PartMeasure:
    """A number about one part: read from the cells of the sessions; its name is the first label."""

    metric: Metric
    read: Callable[[Pipeline, Part, Cells], Values]


@dataclass(frozen=True, slots=True)
class RecordMeasure:
    """A number about one record: read from the cells of the sessions and from its own rows."""

    metric: Metric
    read: Callable[[Record, Cells, Rows], Values]


@dataclass(frozen=True, slots=True)
class CatalogMeasure:
    """A number about one record that PostgreSQL's catalog knows: a scalar SQL expression."""

    metric: Metric
    sql: Callable[[Pipeline, Record, Bindings], str]


Measure = SessionMeasure | PartMeasure | RecordMeasure | CatalogMeasure


class UnmeasuredError(Exception):
    """A number that every complete snapshot has is not there."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What one snapshot found, for whoever judges it: by name of metric, then by labels.  `clock` in Unix seconds.

    `measured` names the records that were: of those, what has no number is not there; of others nobody knows.
    """

    pipeline: Pipeline
    clock: float
    families: Mapping[str, Mapping[tuple[str, ...], float]]
    measured: frozenset[str] = frozenset()

    def get(self, metric: Metric, *labels: str) -> float | None:
        """A number, None where there is none to tell."""
        return self.families.get(metric.name, {}).get(labels)

    def total(self, metric: Metric, **labels: str) -> float | None:
        """The sum over all series with these labels, None where there is none of the metric for them."""
        places = {metric.labels.index(name): value for name, value in labels.items()}
        found = [
            number
            for values, number in self.families.get(metric.name, {}).items()
            if all(values[place] == value for place, value in places.items())
        ]
        return sum(found) if found else None

    def series(self, metric: Metric, first: str) -> dict[tuple[str, ...], float]:
        """The numbers of a metric for one record or check, by its further labels."""
        return {
            values[1:]: number
            for values, number in self.families.get(metric.name, {}).items()
            if values[:1] == (first,)
        }

    def need(self, metric: Metric, *labels: str) -> float:
        """A number that is always there when it was measured; raises UnmeasuredError."""
        value = self.get(metric, *labels)
        if value is None:
            raise UnmeasuredError
        return value


class Select(Protocol):
    """Writes PromQL for the series of a metric that have these labels: `select(GAPS, reason="missing")`."""

    def __call__(self, metric: Metric, /, **labels: str) -> str:
        """The selector, with whatever else whoever asks wants of it."""
        ...


PromQL = Callable[[Select], str]


def series_of(metric: Metric, **labels: str) -> PromQL:
    """Those of a metric that have these labels, without them: one for each pipeline, record or check."""

    def written(select: Select) -> str:
        selector = select(metric, **labels)
        return f"max without ({', '.join(labels)}) ({selector})" if labels else selector

    return written


@dataclass(frozen=True, slots=True)
class Judged:
    """A value that is held against a threshold, said twice: of a snapshot, and in PromQL of the page's series.

    `read` gives it for the pipeline, or for the record or part whose name it gets.  None stands for nothing to judge,
    and `nothing` says why, in words; it raises UnmeasuredError where something was not measured.  A ratio comes with
    the number of sessions that it rests on.  `promql` gives one series for each of these, with the labels of the
    pipeline, the record or the check, and none where there is nothing to judge; `rests_on` gives that number of
    sessions.  `whole` gives how many sessions a count was taken of: of none, there is nothing to judge.  `in_words`
    says what the value stands for where it is no measurement, and is empty where it is one.
    """

    read: Callable[[Readings, str], float | tuple[float, float] | None]
    promql: PromQL
    rests_on: PromQL | None = None
    nothing: str = "there is nothing to judge"
    whole: Callable[[Readings, str], float | None] | None = None
    in_words: Callable[[Readings, str], str] | None = None


def number_of(metric: Metric, **labels: str) -> Judged:
    """The number of a metric for the record or part that is judged, its further labels being as given.

    With further labels that is a count of sessions, and all of the metric are the whole.
    """
    values = [labels[name] for name in metric.labels if name in labels]

    def read(readings: Readings, subject: str) -> float:
        return readings.need(metric, subject, *values)

    def whole(readings: Readings, subject: str) -> float | None:
        return readings.total(metric, **{metric.labels[0]: subject})

    return Judged(read, series_of(metric, **labels), whole=whole if labels else None)


Dashboard = Literal["overview", "versions", "timeliness", "exporter"]

DASHBOARDS: Final[Mapping[Dashboard, str]] = {
    "overview": "Overview",
    "versions": "Versions",
    "timeliness": "Timeliness and conversion",
    "exporter": "Exporter",
}
"""What each is called."""


@dataclass(frozen=True, slots=True)
class AsRead:
    """A pipeline as the database was asked: every table under its full name, and by record how keys are compared.

    Its SQL is for people to type: one line, with `records` and `sessions` for the rows of the two tables.
    """

    pipeline: Pipeline
    links: Mapping[str, Link]

    def rows(self, record: str, *conditions: str) -> str:
        """A FROM item: the rows of a record that exist for us and for which `conditions` hold."""
        section = self.pipeline.records[record]
        return f"{only_rows(section.table, 'record', (section.where or '', *conditions))} as records"

    def sessions(self, *conditions: str) -> str:
        """A FROM item: the sessions, in or out of the window, for which `conditions` hold."""
        return f"{only_rows(self.pipeline.sessions.table, 'session', conditions)} as sessions"

    def is_linked(self, record: str) -> str:
        """A condition on `records` and `sessions`: whether the row is of the session."""
        parts = zip(self.links[record], self.pipeline.sessions.key, self.keys(record), strict=True)
        held = [one.holds(f"sessions.{quote(own)}", one.of_record.format(theirs)) for one, own, theirs in parts]
        return " and ".join(held).replace(" operator(pg_catalog.=) ", " = ")

    def keys(self, record: str) -> list[str]:
        """The columns of `records` that name a session."""
        return [f"records.{quote(part.column)}" for part in self.pipeline.records[record].session_key]


@dataclass(frozen=True, slots=True)
class Step:
    """A step to take, in Markdown, and the SQL to type for it, of a pipeline and the record or check that is judged.

    The SQL is empty where there is none to type for a config: then the words are all.
    """

    text: str
    sql: Callable[[AsRead, str], str]


@dataclass(frozen=True, slots=True)
class Advice:
    """What whoever is told of a fault needs to know, for alerts and runbooks.

    `summary` is one sentence, the same for every subject.  `means`, `causes` (the likeliest first) and `mend` (steps
    in order) are Markdown.  `dashboard` shows it best.  `gaps` are the options of the command that lists what to mend,
    beside those that name the pipeline and the record; None where it lists nothing of the kind.
    """

    summary: str
    means: str
    causes: tuple[str, ...]
    mend: tuple[str | Step, ...]
    dashboard: Dashboard = "overview"
    gaps: str | None = None

    def steps(self, read: AsRead, subject: str) -> tuple[str, ...]:
        """The steps of `mend` with the SQL for a pipeline, and the record or check that is judged."""
        return tuple(step if isinstance(step, str) else _typed(step, read, subject) for step in self.mend)


def _typed(step: Step, read: AsRead, subject: str) -> str:
    sql = step.sql(read, subject)
    return f"{step.text}: {code(sql)}" if sql else f"{step.text}."


def code(text: str) -> str:
    """A text as code within a line of Markdown, to be taken as it is."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{printable(text)}{space}{ticks}"


@dataclass(frozen=True, slots=True)
class Limit:
    """What an operator may set a threshold for: `limits.NAME` of a pipeline.

    A `below` limit is broken by a value below it.  `needs` are paths of keys of the pipeline without which there is
    never anything to judge.  An alert is raised when it stays broken for so many `rounds` of collecting.
    """

    name: str
    unit: LimitUnit
    what: str
    value: Judged
    advice: Advice
    rounds: int = 10
    per: Literal["pipeline", "record", "part"] = "pipeline"
    below: bool = False
    needs: tuple[tuple[str, ...], ...] = ()


Chapter = Literal[
    "base", "finding", "impact", "state", "versions", "quality", "completeness", "consistency", "operation"
]
"""Where a line of the report belongs: the number analysed, what is missing, what that amounts to, what is there, its
versions, how good it is, whether everything is covered, whether versions are consistent, how the pipeline does."""

Evidence = Literal["measured", "enforced", "by_definition", "visible", "not_measured"]
"""What a line rests on: counted in this snapshot, ruled out by a constraint of the database, said by the config,
counted of those rows that policies show, or nothing."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report: what `value` is, and of how many.

    That is `of`, None where it is part of nothing, or with `of_analysed` the sessions analysed.  `record` is the one
    that it is about, None for the sessions.  A value of None with `words` was looked for, and they say what is there
    instead; without it was not measured.  `reason` says why, where that is no fault, and `remedy` which keys of the
    config would have it measured.  `good` says when it is fine by itself; None
    only informs.  `limit` names the one that judges it: of the record, or of the part `subject`.
    """

    chapter: Chapter
    text: str
    value: float | None
    of: float | None = None
    record: str | None = None
    unit: LimitUnit = "count"
    good: Literal["all", "none"] | None = None
    limit: str | None = None
    subject: str | None = None
    evidence: Evidence = "measured"
    words: str = ""
    reason: str = ""
    remedy: str = ""
    of_analysed: bool = False


Tone = Literal["good", "warning", "bad", "neutral"]


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a whole; `count` is None where it was not measured."""

    name: str
    count: float | None
    tone: Tone


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A whole in parts that add up to it, for a bar; `record` is the one that it is about, None for the sessions."""

    text: str
    slices: tuple[Slice, ...]
    record: str | None = None

    @property
    def whole(self) -> float | None:
        """The sum, None unless every part was measured."""
        counts = [part.count for part in self.slices if part.count is not None]
        return sum(counts) if len(counts) == len(self.slices) else None


@dataclass(frozen=True, slots=True)
class Track:
    """A number of the pipeline that is drawn over time; `good` says which side is the better one."""

    text: str
    metric: Metric
    labels: tuple[str, ...]
    good: Literal["many", "none"]


@dataclass(frozen=True, slots=True)
class Caveat:
    """What keeps a pipeline from being healthy beside its limits, and why in words."""

    verdict: Literal["unknown", "no_data"]
    message: str


def _none(*_arguments: object) -> tuple[()]:
    return ()


@dataclass(frozen=True, slots=True)
class Dimension:
    """One aspect of data health.

    `keys` are its own keys of the config.  `parts` are what of a pipeline may fail by itself.  `lines` are
    what the report says of it, `breakdowns` what bars show and `tracks` what is drawn over time.

    `session_facts` are SQL over the sessions table, for the columns below to use by their (quoted) names.
    `session_columns` group the sessions in the window and in the cohort, `session_totals` are theirs beside
    `sessions`, the count, and `session_spreads` are over all of them: SQL over one session with the columns `status`,
    `started`, `completed` (timestamptz or NULL), `in_window`, `in_cohort`, `analysed` and, for the n-th of the records
    asked for, `best_n`, `required_n`, and `first_n`, when its first row came that satisfies.

    `facets` tell the rows of a record table apart, and `row_totals` are theirs beside `rows`: SQL over that table
    alone.  In their cells `value` and `category` are the facet's, `sessions` counts the groups of rows of one session,
    and the flags `keyed`, `linked` and `analysed` say whether its key is there, its session exists, and is one of
    those analysed.  `owner_flags` are more such flags: SQL over the sessions table, false where there is no session.
    """

    name: str
    question: str
    measures: tuple[Measure, ...]
    keys: tuple[Key[Any], ...] = ()
    limits: tuple[Limit, ...] = ()
    caveats: Callable[[Readings], tuple[Caveat, ...]] = _none
    lines: Callable[[Readings], tuple[Line, ...]] = _none
    breakdowns: Callable[[Readings], tuple[Breakdown, ...]] = _none
    tracks: tuple[Track, ...] = ()
    parts: Callable[[Pipeline], tuple[Part, ...]] = _none
    session_facts: Callable[[Scope, Bindings], tuple[Column, ...]] = _none
    session_columns: Callable[[Scope, Bindings], tuple[Column, ...]] = _none
    session_totals: Callable[[Scope, Bindings], tuple[Total, ...]] = _none
    session_spreads: Callable[[Scope, Bindings], tuple[Spread, ...]] = _none
    facets: Callable[[Record, Bindings], tuple[Facet, ...]] = _none
    row_totals: Callable[[Record, Bindings], tuple[Total, ...]] = _none
    owner_flags: Callable[[Scope, Bindings], tuple[Column, ...]] = _none

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Its families, each once."""
        return tuple(dict.fromkeys(measure.metric for measure in self.measures))
