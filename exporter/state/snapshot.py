"""The result of one collection of a pipeline: numbers and faults."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from exporter.model.elsewhere import Elsewhere
from exporter.model.fault import Fault
from exporter.model.judging import Readings
from exporter.model.metric import Folded, Metric
from exporter.state.judge import Judgement
from exporter.state.swept import Swept

Result = Literal["success", "partial", "failure"]
RESULTS: Final[tuple[Result, ...]] = get_args(Result)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All numbers of a pipeline at one moment, judged.

    `readings` has the numbers, and the moment by the database's clock.  `record_faults` has the records that could not
    be measured, `part_faults` other parts of the pipeline, by their keys below the pipeline: their numbers, and the
    totals that need them, are absent.  `restricted` names the tables with a policy that hides rows from the role.
    `folded` has for each metric with an open label how many series are added up in `<other>`.  `replica_lag` is the
    lag of the database behind its primary, in seconds; None for a primary.  `clock_offset` is the database's clock
    minus the exporter's, in seconds.  `identity` tells databases apart; None if the server hides the identity.
    `found` has, for each table without a schema in the config, the table that was
    read.  `swept` bounds numbers
    that are sums of slices; None for numbers of one moment.  `elsewhere` has the records of other databases, by name.
    """

    readings: Readings
    record_faults: Mapping[str, Fault]
    part_faults: Mapping[str, Fault]
    restricted: tuple[str, ...]
    folded: Mapping[str, int]
    judgement: Judgement
    replica_lag: float | None = None
    clock_offset: float = 0.0
    identity: str | None = None
    found: Mapping[str, str] = field(default_factory=dict)
    swept: Swept | None = None
    elsewhere: Mapping[str, Elsewhere] = field(default_factory=dict)

    @property
    def pipeline(self) -> str:
        """The name of the pipeline."""
        return self.readings.pipeline.name

    @property
    def taken_at(self) -> float:
        """The moment of the snapshot by the database's clock, in Unix seconds."""
        return self.readings.clock


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection: the snapshot, or the fault that prevented a snapshot.

    `duration` is in seconds; `ended_at` is by the exporter's clock, in Unix seconds.  `age` is the age of the numbers
    at the end of the collection, in seconds: at most the duration, and on a replica the lag.
    """

    snapshot: Snapshot | None
    fault: Fault | None
    duration: float
    ended_at: float
    age: float = 0.0

    @property
    def result(self) -> Result:
        """`success` if everything was measured, `partial` if a record or another part was not."""
        if self.snapshot is None:
            return "failure"
        return "partial" if self.snapshot.record_faults or self.snapshot.part_faults else "success"

    @property
    def faults(self) -> tuple[Fault, ...]:
        """All faults."""
        if self.snapshot is None:
            return (self.fault,) if self.fault else ()
        return (*self.snapshot.record_faults.values(), *self.snapshot.part_faults.values())


def fold(metric: Metric, values: Mapping[tuple[str, ...], float], limit: int) -> dict[tuple[str, ...], float]:
    """Keep at most `limit` series of a metric with an open label, and add up the rest in `<other>`.

    Series of class current or accepted come first, then the largest.
    """
    if metric.open_label is None:
        return dict(values)
    place = metric.labels.index(metric.open_label)
    class_place = metric.labels.index("class") if "class" in metric.labels else None
    other = Folded.OTHER.value

    def precedence(item: tuple[tuple[str, ...], float]) -> tuple[bool, float, tuple[str, ...]]:
        labels, value = item
        known = class_place is not None and labels[class_place] in ("current", "accepted")
        return (not known, -value, labels)

    ordered = sorted((item for item in values.items() if item[0][place] != other), key=precedence)
    folded = [item for item in values.items() if item[0][place] == other]
    result = dict(ordered[:limit])
    for labels, value in [*ordered[limit:], *folded]:
        merged = (*labels[:place], other, *labels[place + 1 :])
        result[merged] = result.get(merged, 0) + value
    return result


def folded(metric: Metric, values: Mapping[tuple[str, ...], float], limit: int) -> int:
    """The number of series that `fold` adds up in `<other>`; a sum made by the database counts as one series."""
    if metric.open_label is None:
        return 0
    place = metric.labels.index(metric.open_label)
    already = sum(labels[place] == Folded.OTHER.value for labels in values)
    return max(0, len(values) - already - limit) + already
