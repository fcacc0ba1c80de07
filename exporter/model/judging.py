"""The numbers of a snapshot, and the limits that judge them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from exporter.model.advice import Advice
from exporter.model.metric import Metric
from exporter.model.sections import Pipeline
from exporter.text.figures import LimitUnit


class UnmeasuredError(Exception):
    """A number that every complete snapshot has is not there."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What one snapshot found, for whoever judges it: by name of metric, then by labels.  `clock` in Unix seconds.

    `measured` names the records that were: of those, what has no number is not there; of others nobody knows.
    """

    pipeline: Pipeline
    clock: float
    families: Mapping[Metric, Mapping[tuple[str, ...], float]]
    measured: frozenset[str] = frozenset()

    @property
    def numbers(self) -> dict[tuple[str, ...], float]:
        """Every number, by the name of its metric and its labels."""
        return {
            (metric.name, *labels): number
            for metric, family in self.families.items()
            for labels, number in family.items()
        }

    def get(self, metric: Metric, *labels: str) -> float | None:
        """A number, None where there is none to tell."""
        return self.families.get(metric, {}).get(labels)

    def total(self, metric: Metric, **labels: str) -> float | None:
        """The sum over all series with these labels, None where there is none of the metric for them."""
        places = {metric.labels.index(name): value for name, value in labels.items()}
        found = [
            number
            for values, number in self.families.get(metric, {}).items()
            if all(values[place] == value for place, value in places.items())
        ]
        return sum(found) if found else None

    def series(self, metric: Metric, first: str) -> dict[tuple[str, ...], float]:
        """The numbers of a metric for one record or check, by its further labels."""
        return {
            values[1:]: number for values, number in self.families.get(metric, {}).items() if values[:1] == (first,)
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

Per = Literal["pipeline", "record", "part"]
"""Of what a limit judges one number each."""


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
    says what the value stands for where it is no measurement, and is empty where it is one.  `per` says of what there
    is one number; None where only `read` knows.
    """

    read: Callable[[Readings, str], float | tuple[float, float] | None]
    promql: PromQL
    rests_on: PromQL | None = None
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

    return Judged(read, series_of(metric, **labels), whole=whole if labels else None, per=_PER[subject])


def total_of(metric: Metric) -> Judged:
    """The sum of all series of a metric, for the pipeline."""

    def read(readings: Readings, _subject: str) -> float:
        total = readings.total(metric)
        if total is None:
            raise UnmeasuredError
        return total

    def promql(select: Select) -> str:
        return f"sum without ({', '.join(metric.labels)}) ({select(metric)})"

    return Judged(read, promql, per="pipeline")


@dataclass(frozen=True, slots=True)
class Limit:
    """A judged value, with thresholds that the operator sets under `limits.NAME` of a pipeline.

    A `below` limit is broken by a value below the threshold.  `needs` are paths of keys of the pipeline without which
    the limit has no value.  An alert fires after the limit stays broken for `rounds` collections.  `former_name` is the
    key in configs of the last release.
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
    former_name: str = ""

    def __post_init__(self) -> None:
        """Refuse a number of another subject: the limit would read as not measured for ever."""
        if self.value.per not in (None, self.per):
            raise ValueError(f"limit {self.name}: its number is per {self.value.per}, the limit per {self.per}")

    def command(self, pipeline: str, record: str | None) -> tuple[str, ...]:
        """The words of the command that shows what to mend: the list of gaps, or the check where no list shows it."""
        if self.advice.gaps is None:
            return ("check",)
        about = ("--record", record) if record else ()
        return ("gaps", "--pipeline", pipeline, *about, *self.advice.gaps.split())
