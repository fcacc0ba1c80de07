"""Ledger -> the cells that a full pass would have counted: the sums of all slices.  No I/O."""

from collections.abc import Collection, Sequence

from exporter.measure.records import CONDITION, RowCount
from exporter.model.counting import COHORT_PART, SEGMENTED, Cells, Rows, Total
from exporter.model.metric import CellValue
from exporter.plan.plan import Plan
from exporter.state.ledger import Ledger, RowSlice, added


def summed(plan: Plan, ledger: Ledger, totals: Sequence[Total]) -> tuple[Cells, dict[str, tuple[Cells, Rows]]]:
    """The sums of all slices: the cells of the sessions, and for each record its sessions and its rows."""
    parts = [ledger.hot, *(cells for one in ledger.slices for cells in (one.settled, one.open))]
    if ledger.cohort and not ledger.cohort.fault:
        cells = added([*parts, ledger.cohort.cells], totals)
    else:
        # What is not counted is absent, never 0.
        cells = _without(added(parts, totals), plan.totals_of(COHORT_PART))
    spreads = ledger.cohort.spreads if ledger.cohort else {}
    of_record: dict[str, tuple[Cells, Rows]] = {}
    for name in plan.pipeline.records:
        of_one = cells.only("subject", [name])
        if name not in plan.pipeline.stored:
            of_record[name] = (of_one.only("facet", [None]), CONDITION.with_sessions(of_one, spreads))
            continue
        slices = [one for one in ledger.rows if one.record == name]
        of_rows = plan.rows(name)
        rows = added([one.rows for one in slices], of_rows.totals)
        rows = _with_maxima(rows, of_one, of_rows.totals) if rows.columns else Cells(of_rows.columns, ())
        counted_repeats = {repeated for one in slices for repeated in one.repeats}
        repeats = {repeated: sum(one.repeats.get(repeated, 0) for one in slices) for repeated in counted_repeats}
        counted = RowCount(Rows(rows, plan.facets(name)[0].name, repeats=repeats), ledger.values.get(name, {}))
        states = of_one.only("facet", [None])
        of_record[name] = (_with_owners(plan, states, slices, totals), counted.with_sessions(of_one, spreads))
    return cells.only("subject", [None, SEGMENTED]), of_record


def _without(cells: Cells, names: Collection[str]) -> Cells:
    """The cells without some columns."""
    kept = [place for place, name in enumerate(cells.columns) if name not in names]
    rows = tuple(tuple(row[place] for place in kept) for row in cells.rows)
    return Cells(tuple(cells.columns[place] for place in kept), rows)


def _with_maxima(rows: Cells, latest: Cells, totals: Sequence[Total]) -> Cells:
    """The rows with the maxima of the latest rows, in the first cell: the maximum of some rows is one of all rows."""
    if not rows.rows or not latest.rows:
        return rows
    first = list(rows.rows[0])
    for total in totals:
        if total.combined_by == "max":
            newest = latest.newest(total.name)
            place = rows.columns.index(total.name)
            first[place] = max((v for v in (first[place], newest) if isinstance(v, int | float)), default=None)
    return Cells(rows.columns, (tuple(first), *rows.rows[1:]))


def _with_owners(plan: Plan, states: Cells, slices: Sequence[RowSlice], totals: Sequence[Total]) -> Cells:
    """The sessions by state, with the rows by their session from the slices of rows instead of those met by session."""
    at = {name: index for index, name in enumerate(states.columns)}
    rows = [tuple(0 if i == at["rows"] else value for i, value in enumerate(row)) for row in states.rows]
    counts = {total.name for total in totals if total.combined_by == "sum"}
    blank: list[CellValue] = [0 if name in counts else None for name in states.columns]
    for one in slices:
        for (linked, *told), count in one.owners:
            row = list(blank)
            row[at["linked"]], row[at["rows"]] = linked, count
            for name, value in zip(plan.flags, told, strict=True):
                row[at[name]] = value
            rows.append(tuple(row))
    return Cells(states.columns, tuple(rows))
