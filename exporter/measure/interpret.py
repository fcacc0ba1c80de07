"""Counts -> numbers by metric and labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.model.counting import (
    SEGMENTED,
    CatalogMeasure,
    Cells,
    Measure,
    RecordMeasure,
    Rows,
    SessionMeasure,
)
from exporter.model.fault import Fault
from exporter.model.metric import Metric, Numbers, label_text
from exporter.model.sections import Pipeline
from exporter.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Counted:
    """The answers of the database: cells by record, and faults.

    `sessions`: the cells of the sessions by status, and by segment.  `of_record`: for each measured record the cells of
    its sessions by state, and its rows.
    """

    sessions: Cells
    of_record: Mapping[str, tuple[Cells, Rows]]
    record_faults: Mapping[str, Fault]
    part_faults: Mapping[str, Fault]


def interpret(plan: Plan, counted: Counted, facts: Sequence[Any]) -> dict[Metric, dict[tuple[str, ...], float]]:
    """Every measured number, by metric and labels; an unmeasured number is absent, never 0."""
    known = {
        (reading.measure.metric, reading.record): fact
        for reading, fact in zip(plan.catalog_readings, facts, strict=True)
    }
    found: dict[Metric, dict[tuple[str, ...], float]] = {}
    for measure in (measure for dimension in plan.dimensions for measure in dimension.measures):
        found.setdefault(measure.metric, {}).update(_measured(plan.pipeline, measure, counted, known))
    return found


def _measured(
    pipeline: Pipeline, measure: Measure, counted: Counted, known: Mapping[tuple[Metric, str], Any]
) -> dict[tuple[str, ...], float]:
    values: dict[tuple[str, ...], float] = {}
    match measure:
        case SessionMeasure():
            if not (measure.needs_every_record and counted.record_faults):
                subject = SEGMENTED if measure.by_segment else None
                values = _labelled(measure.read(pipeline, counted.sessions.only("subject", [subject])))
        case RecordMeasure():
            for name, (sessions, rows) in counted.of_record.items():
                if name in pipeline.stored or not measure.of_rows:
                    values |= _labelled(measure.read(pipeline.records[name], sessions, rows), name)
        case CatalogMeasure():
            for name in counted.of_record.keys() & pipeline.here.keys():
                values |= _labelled({(): float(known[measure.metric, name])}, name)
    return values


def _labelled(values: Numbers, *prefix: str) -> dict[tuple[str, ...], float]:
    return {(*prefix, *map(label_text, labels)): float(value) for labels, value in values.items()}
