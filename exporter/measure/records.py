"""The rows of one record, counted without a join; what the join adds is filled in later."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from exporter.measure.query_faults import is_uncountable
from exporter.measure.session import Session, subject_of
from exporter.model.counting import PERCENTILES, Cells, Facet, Rows, Value, Values
from exporter.model.fault import Fault
from exporter.model.metric import CellValue
from exporter.plan.plan import Plan
from exporter.plan.rows import values_of
from exporter.plan.statement import Statement

Spreads = Mapping[str, tuple[int, Mapping[int, float]]]
"""By name of a spread: the number of sessions, and the percentiles."""


@dataclass(frozen=True, slots=True)
class RowCount:
    """The rows of one record, and the values of each facet that the statement about sessions must tell apart.

    `rows.sessions` has only the facets with too many values for this.
    """

    rows: Rows
    values: Mapping[str, tuple[Value, ...]]

    def agrees_with(self, sessions: Cells) -> bool:
        """Whether the join met each row with a key once; `sessions` has the cells of the record's sessions."""
        return self is CONDITION or sessions.total("rows") == self.rows.all.where(keyed=True).total("rows")

    def with_sessions(self, sessions: Cells, spreads: Spreads) -> Rows:
        """The rows with the sessions by value, from the cells of the record's sessions, and with the spreads."""
        found: dict[str, list[tuple[str | None, str | None, int]]] = {facet: [] for facet in self.values}
        for (facet, said), count in sessions.totals("sessions", "facet", "nth").items():
            if facet is not None and facet in found:
                text, category = json.loads(str(said))
                found[str(facet)].append((text, category, count))
        by_value = {facet: Cells(("value", "category", "sessions"), tuple(counted)) for facet, counted in found.items()}
        return replace(self.rows, sessions={**self.rows.sessions, **by_value}, spreads=spreads)


CONDITION: Final = RowCount(Rows(Cells((), ()), ""), {})
"""A record without a table: there are no rows to count."""


class UnknownValueError(Exception):
    """A row has a value that the statement did not tell apart."""


def with_values_named(cells: Cells, values: Values) -> Cells:
    """The cells with each value itself, as JSON, in place of its number; raises UnknownValueError.

    Numbers differ between statements, so that only cells with names can be added up.
    """
    subject, facet, nth = (cells.columns.index(name) for name in ("subject", "facet", "nth"))

    def named(row: tuple[CellValue, ...]) -> tuple[CellValue, ...]:
        if row[facet] is None or row[subject] is None:
            return row
        known = values[str(row[subject])][str(row[facet])]
        place = int(str(row[nth]))
        if place >= len(known):
            raise UnknownValueError
        return (*row[:nth], json.dumps([known[place].text, known[place].category]), *row[nth + 1 :])

    return Cells(cells.columns, tuple(map(named, cells.rows)))


async def count_rows(session: Session, plan: Plan, name: str) -> RowCount | Fault:
    """Count the rows of a record; a fault if the server refuses."""
    subject = subject_of(plan, name)

    async def ask(statement: Statement) -> list[Any] | Fault:
        return await session.attempt(statement, subject, is_uncountable)

    statement, facets = plan.rows(name), plan.facets(name)
    rows = await ask(statement)
    if isinstance(rows, Fault):
        return rows
    cells = statement.read(rows)
    repeats: dict[str, int] = {}
    for of, one in plan.repeats:
        if of == name:
            counting = plan.repeated(name, one)
            counted = await ask(counting) if counting else [(0,)]
            if isinstance(counted, Fault):
                return counted
            repeats[one.name] = counted[0][0]
    values = values_of(cells, facets)
    sessions = await _sessions_of_many(session, plan, name, [facet for facet in facets if facet.name not in values])
    if isinstance(sessions, Fault):
        return sessions
    return RowCount(Rows(cells, facets[0].name, sessions=sessions, repeats=repeats), values)


async def _sessions_of_many(
    session: Session, plan: Plan, name: str, facets: Sequence[Facet]
) -> dict[str, Cells] | Fault:
    """The sessions by value, for facets with many values."""
    if not facets:
        return {}
    statement = plan.many_values(name, facets)
    rows = await session.attempt(statement, subject_of(plan, name), is_uncountable)
    if isinstance(rows, Fault):
        return rows
    cells = statement.read(rows)
    return {facet.name: cells.only("facet", [facet.name]) for facet in facets}


def read_spreads(statement: Statement | None, rows: Sequence[Sequence[Any]]) -> Spreads:
    """The spreads in the result of `Plan.delays`."""
    if statement is None or not rows:
        return {}
    found: dict[str, tuple[int, Mapping[int, float]]] = {}
    for name, column in zip(statement.columns, rows[0], strict=True):
        count, *values = map(float, filter(None, column))
        found[name] = (int(count), dict(zip(PERCENTILES, values, strict=True)) if count else {})
    return found
