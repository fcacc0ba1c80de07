"""A dimension of data health as a value.

A dimension names its keys of the config, the SQL by which it wants sessions and rows counted, measures that read the
counts, limits that judge the numbers, and lines for the report.  The stages (plan, measure, state, present) work on
these values and know no dimension by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from exporter.model.counting import Facet, Fact, GroupColumn, Measure, Part, Repeats, Scope, Spread, Total
from exporter.model.judging import Limit, Readings, UnmeasuredError
from exporter.model.listing import Members
from exporter.model.metric import Metric
from exporter.model.reporting import Breakdown, Caveat, ReportLine, Track
from exporter.model.sections import Key, Pipeline, Record


def _none(*_arguments: object) -> tuple[()]:
    return ()


@dataclass(frozen=True, slots=True)
class Charts:
    """What the page draws for a dimension: wholes in parts, and numbers over time."""

    breakdowns: Callable[[Readings], tuple[Breakdown, ...]] = _none
    tracks: tuple[Track, ...] = ()


def _no_segment(_scope: Scope) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Dimension:
    """One aspect of data health.  Most dimensions use a few of these; the smallest file to start from is `volume.py`.

    What it says:

    - `keys`: its own keys of the config.
    - `measures` and `limits`: its metrics, and the judged values.
    - `lists`: the members of numbers without a limit, by name; `every_list` adds those of its limits.
    - `lines`: its lines of the report.  `caveats`: why a pipeline is not healthy beside its limits.
    - `charts`: what the page draws.

    What it counts:

    - `parts`: the expressions of the config that the server may refuse apart from the rest.
    - `session_facts`: conditions on a session, for the SQL below.  `graces`: grace periods beside those of records.
    - `session_columns` group the cells of the sessions, and `session_totals` are computed per group, beside the count
      `sessions`.  Their SQL is over one cell with the columns `status`, `sessions`, `in_window`, `in_cohort`,
      `undated`, `future`, `eligible`, `analysed`, the facts, `early` and `due` of each grace period (see `states`),
      `oldest`, `newest_started`, `newest_completed` (timestamptz), and for the n-th record of the scope `rank_n` (the
      rank of its rows) and `required_n`.
    - `record_columns` and `record_totals` do the same for the sessions by the state of one record, beside the counts
      `sessions` and `rows`; `rank` and `required` are its own.
    - `spreads` are taken over the sessions of the cohort: SQL over one session, with `completed` and `arrived_n`, the
      time at which the rows of the n-th record satisfied the session.
    - `segment` is a text of a session, SQL over the sessions table: the analysed sessions are counted by segment, too,
      with `segment_totals` over the same cells as `session_totals`.  At most one dimension has segments.
    - `facets` tell the rows of a record table apart; `row_facts` are conditions on a row, and `row_totals` are computed
      per group, beside the count `rows`, over the facts, `keyed`, `valid` and `newest`.  `repeats` are what must not
      repeat.
    """

    name: str
    question: str
    measures: tuple[Measure, ...]
    keys: tuple[Key[Any], ...] = ()
    limits: tuple[Limit, ...] = ()
    lists: Mapping[str, Members] = field(default_factory=dict, hash=False)
    caveats: Callable[[Readings], tuple[Caveat, ...]] = _none
    lines: Callable[[Readings], tuple[ReportLine, ...]] = _none
    charts: Charts = Charts()
    parts: Callable[[Pipeline], tuple[Part, ...]] = _none
    session_facts: Callable[[Scope], tuple[Fact, ...]] = _none
    session_columns: Callable[[Scope], tuple[GroupColumn, ...]] = _none
    session_totals: Callable[[Scope], tuple[Total, ...]] = _none
    graces: Callable[[Pipeline], tuple[timedelta, ...]] = _none
    record_columns: Callable[[Record], tuple[GroupColumn, ...]] = _none
    record_totals: Callable[[Record], tuple[Total, ...]] = _none
    spreads: Callable[[Scope], tuple[Spread, ...]] = _none
    facets: Callable[[Record], tuple[Facet, ...]] = _none
    row_facts: Callable[[Record], tuple[Fact, ...]] = _none
    row_totals: Callable[[Record], tuple[Total, ...]] = _none
    repeats: Callable[[Record], tuple[Repeats, ...]] = _none
    segment: Callable[[Scope], str | None] = _no_segment
    segment_totals: Callable[[Scope], tuple[Total, ...]] = _none

    def __post_init__(self) -> None:
        """Refuse a limit beside another that is none of the pipeline: an alert would tell nothing, or any number."""
        of_pipeline = {limit.name for limit in self.limits if limit.per == "pipeline"}
        for limit in self.limits:
            if limit.beside and limit.beside not in of_pipeline:
                raise ValueError(f"limit {limit.name}: {limit.beside} is no limit of the pipeline in {self.name}")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Its metrics, each once."""
        return tuple(dict.fromkeys(measure.metric for measure in self.measures))

    @property
    def every_list(self) -> dict[str, Members]:
        """The members of its numbers by name: the name of a limit, else of a metric."""
        return {**{limit.name: limit.members for limit in self.limits if limit.members}, **self.lists}

    def explained(self, name: str, subject: str, readings: Readings) -> float:
        """The number of a list: the value of the limit with the name, else of the metric; raises UnmeasuredError."""
        for limit in self.limits:
            if limit.name == name:
                value = limit.value.read(readings, subject)
                if not isinstance(value, float):
                    raise UnmeasuredError
                return value
        [metric] = [metric for metric in self.metrics if metric.name == name]
        return readings.need(metric)
