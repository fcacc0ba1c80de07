"""The vocabulary of data health: what is counted, how it is called, and what it needs.

A dimension is a value: its keys of the config, the columns by which it wants rows counted, measures that read the
counts, and limits by which they are judged.  The stages (plan, collect, judge, expose) work on these values and know
no dimension by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exporter.model.counting import Facet, GroupColumn, Measure, Part, Scope, Spread, Total
from exporter.model.judging import Limit, Readings
from exporter.model.metric import Metric
from exporter.model.reporting import Breakdown, Caveat, ReportLine, Track
from exporter.model.sections import Key, Pipeline, Record
from exporter.model.sql import Bindings


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
    lines: Callable[[Readings], tuple[ReportLine, ...]] = _none
    breakdowns: Callable[[Readings], tuple[Breakdown, ...]] = _none
    tracks: tuple[Track, ...] = ()
    parts: Callable[[Pipeline], tuple[Part, ...]] = _none
    session_facts: Callable[[Scope, Bindings], tuple[GroupColumn, ...]] = _none
    session_columns: Callable[[Scope, Bindings], tuple[GroupColumn, ...]] = _none
    session_totals: Callable[[Scope, Bindings], tuple[Total, ...]] = _none
    session_spreads: Callable[[Scope, Bindings], tuple[Spread, ...]] = _none
    facets: Callable[[Record, Bindings], tuple[Facet, ...]] = _none
    row_totals: Callable[[Record, Bindings], tuple[Total, ...]] = _none
    owner_flags: Callable[[Scope, Bindings], tuple[GroupColumn, ...]] = _none

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Its families, each once."""
        return tuple(dict.fromkeys(measure.metric for measure in self.measures))
