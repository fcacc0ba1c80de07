"""The numbers of a snapshot, and the limits that judge them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from exporter.model.advice import Advice
from exporter.model.listing import Members
from exporter.model.metric import Metric
from exporter.model.sections import Pipeline
from exporter.text.figures import LimitUnit


class UnmeasuredError(Exception):
    """A number of every complete snapshot is missing."""


@dataclass(frozen=True, slots=True)
class Readings:
    """The numbers of a snapshot by metric, then by labels.  `clock` is in Unix seconds.

    `measured` names the measured records.  For a measured record, a missing number means that nothing exists; for other
    records, the number is unknown.
    """

    pipeline: Pipeline
    clock: float
    families: Mapping[Metric, Mapping[tuple[str, ...], float]]
    measured: frozenset[str] = frozenset()

    @property
    def numbers(self) -> dict[tuple[str, ...], float]:
        """Every number, by name of the metric and labels."""
        return {
            (metric.name, *labels): number
            for metric, family in self.families.items()
            for labels, number in family.items()
        }

    def get(self, metric: Metric, *labels: str) -> float | None:
        """A number, None without a measurement."""
        return self.families.get(metric, {}).get(labels)

    def total(self, metric: Metric, **labels: str) -> float | None:
        """The sum over all series of the metric with the given labels, None without a series."""
        places = {metric.labels.index(name): value for name, value in labels.items()}
        found = [
            number
            for values, number in self.families.get(metric, {}).items()
            if all(values[place] == value for place, value in places.items())
        ]
        return sum(found) if found else None

    def series(self, metric: Metric, first: str) -> dict[tuple[str, ...], float]:
        """The numbers of a metric for one record or check, by the further labels."""
        return {
            values[1:]: number for values, number in self.families.get(metric, {}).items() if values[:1] == (first,)
        }

    def all_of(self, metric: Metric, members: Iterable[str], *first: str) -> dict[str, float] | None:
        """The numbers of a metric by the last label, after the labels `first`; None without any.

        Raises UnmeasuredError if only some are there: every complete measurement has all `members`.
        """
        found = {member: self.get(metric, *first, member) for member in members}
        known = {member: value for member, value in found.items() if value is not None}
        if known and len(known) < len(found):
            raise UnmeasuredError
        return known or None

    def need(self, metric: Metric, *labels: str) -> float:
        """A number of every complete measurement; raises UnmeasuredError if missing."""
        value = self.get(metric, *labels)
        if value is None:
            raise UnmeasuredError
        return value


Per = Literal["pipeline", "record", "part"]
"""The subject of one judged number."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A judged value of a snapshot.

    `read` gives the value for the pipeline, or for the named record or part.  None means nothing to judge, for the
    reason `nothing`; `read` raises UnmeasuredError after a failed measurement.  A ratio comes with the number of
    sessions behind the ratio.  `whole` gives the number of counted sessions: without a session there is nothing to
    judge.  `in_words` says more than the value, as whose the value is or why nothing was measured, else is empty.
    `per` is the subject of the one number; None if only `read` knows.
    """

    read: Callable[[Readings, str], float | tuple[float, float] | None]
    nothing: str = "there is nothing to judge"
    whole: Callable[[Readings, str], float | None] | None = None
    in_words: Callable[[Readings, str], str] | None = None
    per: Per | None = None


_PER: Final[Mapping[tuple[str, ...], Per]] = {(): "pipeline", ("record",): "record", ("check",): "part"}


def number_of(metric: Metric, **labels: str) -> Judged:
    """The number of a metric, for the pipeline, or for each record or check; the other labels are as given.

    With given labels, the number is a count of sessions, and all series of the record or check are the whole.  Raises
    ValueError for a label that is neither given nor the record or the check: a limit judges one number.
    """
    subject = tuple(name for name in metric.labels if name not in labels)
    if subject not in _PER:
        raise ValueError(f"{metric.name}: give {' and '.join(subject)} a value, or judge the total")

    def read(readings: Readings, name: str) -> float:
        return readings.need(metric, *(labels.get(label, name) for label in metric.labels))

    def whole(readings: Readings, name: str) -> float | None:
        return readings.total(metric, **dict.fromkeys(subject, name))

    return Judged(read, whole=whole if labels else None, per=_PER[subject])


def total_of(metric: Metric) -> Judged:
    """The sum of all series of a metric, for the pipeline."""

    def read(readings: Readings, _subject: str) -> float:
        total = readings.total(metric)
        if total is None:
            raise UnmeasuredError
        return total

    return Judged(read, per="pipeline")


@dataclass(frozen=True, slots=True)
class Limit:
    """A judged value, with thresholds under `limits.NAME` of a pipeline.

    A `below` limit is broken by a value below the threshold.  `needs` are paths of keys of the pipeline without which
    the limit has no value.  `members` lists what a count counts; None if no list of its own shows that.  An alert
    fires after the limit stays broken for `rounds` collections.  `beside` names another limit of the dimension, with
    a number of the pipeline that the alert tells as well.  `chosen` are further words of the command, for a snapshot.
    `worst_of` counts sessions by a name and the state: the alert lists the names with the largest shares of gaps.
    `former_name` is the key in configs of the last release.
    """

    name: str
    unit: LimitUnit
    what: str
    value: Judged
    advice: Advice
    rounds: int = 10
    per: Per = "pipeline"
    below: bool = False
    needs: tuple[tuple[str, ...], ...] = ()
    members: Members | None = None
    beside: str = ""
    chosen: Callable[[Readings], tuple[str, ...]] | None = None
    worst_of: Metric | None = None
    former_name: str = ""

    def __post_init__(self) -> None:
        """Refuse a number of another subject: the limit would read as not measured for ever."""
        if self.value.per not in (None, self.per):
            raise ValueError(f"limit {self.name}: its number is per {self.value.per}, the limit per {self.per}")

    def is_broken(self, value: float, threshold: float) -> bool:
        """Whether a value is beyond a threshold; both in base units."""
        return value < threshold if self.below else value > threshold

    def command(self, pipeline: str, subject: str | None) -> tuple[str, ...]:
        """The words of the command that shows what the value counts: `list` or `gaps`, else `check`."""
        if self.members is not None:
            about = (f"--{self.members.label}", subject) if subject else ()
            return ("list", self.name, "--pipeline", pipeline, *about)
        if self.advice.gaps is None:
            return ("check",)
        about = ("--record", subject) if subject else ()
        return ("gaps", "--pipeline", pipeline, *about, *self.advice.gaps.split())
