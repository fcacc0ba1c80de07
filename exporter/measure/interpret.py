"""Counts -> numbers by metric and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.model.counting import (
    CatalogMeasure,
    Cells,
    Measure,
    PartMeasure,
    RecordMeasure,
    Rows,
    SessionMeasure,
)
from exporter.model.dimension import Dimension
from exporter.model.fault import Fault
from exporter.model.metric import Metric, Numbers
from exporter.plan.plan import Plan
from exporter.state.snapshot import label_text


@dataclass(frozen=True, slots=True)
class Counted:
    """The answers of the database: cells by record, and faults.

    `sessions`: the cells of the sessions, with the states of every record if all records were counted together.
    `of_record`: for each measured record the cells of the sessions and the rows.  `parts`: paths of measured parts.
    """

    sessions: Cells
    of_record: Mapping[str, tuple[Cells, Rows]]
    parts: frozenset[str]
    record_faults: Mapping[str, Fault]
    part_faults: Mapping[str, Fault]


def interpret(plan: Plan, counted: Counted, facts: Sequence[Any]) -> dict[Metric, dict[tuple[str, ...], float]]:
    """Every measured number, by metric and labels; an unmeasured number is absent, never 0."""
    known = {
        (id(reading.measure), reading.record): fact for reading, fact in zip(plan.catalog_readings, facts, strict=True)
    }
    found: dict[Metric, dict[tuple[str, ...], float]] = {}
    for dimension in plan.dimensions:
        for measure in dimension.measures:
            found.setdefault(measure.metric, {}).update(_measured(plan, dimension, measure, counted, known))
    return found


def _measured(
    plan: Plan, dimension: Dimension, measure: Measure, counted: Counted, known: Mapping[tuple[int, str], Any]
) -> dict[tuple[str, ...], float]:
    pipeline = plan.pipeline
    values: dict[tuple[str, ...], float] = {}
    match measure:
        case SessionMeasure():
            if not (measure.needs_every_record and counted.record_faults):
                values = _labelled(measure.read(pipeline, counted.sessions))
        case PartMeasure():
            for part in dimension.parts(pipeline):
                if part.path in counted.parts:
                    values |= _labelled(measure.read(pipeline, part, counted.sessions), part.name)
        case RecordMeasure():
            for name, (sessions, rows) in counted.of_record.items():
                values |= _labelled(measure.read(pipeline.records[name], sessions, rows), name)
        case CatalogMeasure():
            for name in counted.of_record:
                values |= _labelled({(): float(known[id(measure), name])}, name)
    return values


def _labelled(values: Numbers, *prefix: str) -> dict[tuple[str, ...], float]:
    return {(*prefix, *map(label_text, labels)): float(value) for labels, value in values.items()}
