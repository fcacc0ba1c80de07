"""A dimension of data health as a value.

A dimension names its keys of the config, the SQL by which it wants sessions and rows counted, measures that read the
counts, limits that judge the numbers, and lines for the report.  The stages (plan, measure, state, present) work on
these values and know no dimension by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exporter.model.counting import Facet, Fact, GroupColumn, Measure, Part, Scope, Spread, Total
from exporter.model.judging import Limit, Readings
from exporter.model.metric import Metric
from exporter.model.reporting import Breakdown, Caveat, ReportLine, Track
from exporter.model.sections import Key, Pipeline, Record
from exporter.model.sql import Bindings


def _none(*_arguments: object) -> tuple[()]:
    return ()


@dataclass(frozen=True, slots=True)
class Charts:
    """What the page draws for a dimension: wholes in parts, and numbers over time."""

    breakdowns: Callable[[Readings], tuple[Breakdown, ...]] = _none
    tracks: tuple[Track, ...] = ()


@dataclass(frozen=True, slots=True)
class Dimension:
    """One aspect of data health.  Most dimensions use a few of these; the smallest file to start from is `volume.py`.

    What it says:

    - `keys`: its own keys of the config.
    - `measures` and `limits`: its metrics, and the judged values.
    - `lines`: its lines of the report.  `caveats`: why a pipeline is not healthy beside its limits.
    - `charts`: what the page draws.

    What it counts:

    - `parts`: the expressions of the config that the server may refuse apart from the rest.
    - `session_facts`: conditions on a session, for the SQL below.
    - `session_columns` group the sessions of the window and the cohort; `session_totals` are computed per group, beside
      the count `sessions`, and a `Spread` over all of them.  Their SQL is over one session with the columns `status`,
      `started`, `completed` (timestamptz or NULL), `in_window`, `in_cohort`, `analysed`, and for the n-th record of the
      scope `best_n` (the rank of its best row), `required_n` and `first_n` (the time of its first row that satisfies).
    - `facets` tell the rows of a record table apart; `row_totals` are computed per group, beside the count `rows`.
      Their SQL is over that table.  In the cells, `value` and `category` are those of the facet, `sessions` counts
      groups of rows of one session, and the flags `keyed`, `linked` and `analysed` say that the row has a key, that its
      session exists, and that its session is analysed.
    """

    name: str
    question: str
    measures: tuple[Measure, ...]
    keys: tuple[Key[Any], ...] = ()
    limits: tuple[Limit, ...] = ()
    caveats: Callable[[Readings], tuple[Caveat, ...]] = _none
    lines: Callable[[Readings], tuple[ReportLine, ...]] = _none
    charts: Charts = Charts()
    parts: Callable[[Pipeline], tuple[Part, ...]] = _none
    session_facts: Callable[[Scope], tuple[Fact, ...]] = _none
    session_columns: Callable[[Scope, Bindings], tuple[GroupColumn, ...]] = _none
    session_totals: Callable[[Scope, Bindings], tuple[Total | Spread, ...]] = _none
    facets: Callable[[Record, Bindings], tuple[Facet, ...]] = _none
    row_totals: Callable[[Record, Bindings], tuple[Total, ...]] = _none

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Its metrics, each once."""
        return tuple(dict.fromkeys(measure.metric for measure in self.measures))
