"""Metrics -> PromQL: every expression of the dashboards is put together from these.

Two exporters may watch one database, so every series is there twice: each bare selector is taken as the maximum over
them before anything is added up.  `$job`, `$instance`, `$database`, `$pipeline` and `$record` are the variables of
the dashboards, and every selector is filtered by those that its labels have.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from exporter.model.metric import Metric
from exporter.state.self_metrics import PROGRAM_METRICS, RECORD_UP, UP

PIPELINE: Final = ("database", "pipeline")
"""The labels that tell pipelines apart."""

_PROGRAM: Final = frozenset(program.metric for program in PROGRAM_METRICS)
_TARGET: Final = ('job=~"$job"', 'instance=~"$instance"')
_OF_PIPELINE: Final = ('database=~"$database"', 'pipeline=~"$pipeline"')


def labels_of(metric: Metric) -> tuple[str, ...]:
    """The labels of a family on the page, beside those of the target."""
    return metric.labels if metric in _PROGRAM else (*PIPELINE, *metric.labels)


def selector(metric: Metric, *matchers: str, **labels: str) -> str:
    """The series that the variables choose, with further labels by value or as matchers (`state!="gap"`)."""
    given = [f'{name}="{value}"' for name, value in labels.items()]
    return f"{metric.full_name}{{{', '.join([*_chosen(metric), *given, *matchers])}}}"


def selector_of_any(metrics: Sequence[Metric]) -> str:
    """The series of several metrics that have the same labels."""
    names = "|".join(metric.full_name for metric in metrics)
    one_of = f'__name__=~"{names}"'
    return f"{{{', '.join([one_of, *_chosen(metrics[0])])}}}"


def _chosen(metric: Metric) -> list[str]:
    of_record = ['record=~"$record"'] if "record" in metric.labels else []
    return [*_TARGET, *(() if metric in _PROGRAM else _OF_PIPELINE), *of_record]


def target_selector(name: str) -> str:
    """The series of the scrape itself, which Prometheus makes: `up`, `scrape_duration_seconds`."""
    return f"{name}{{{', '.join(_TARGET)}}}"


def by(labels: Iterable[str]) -> str:
    """`by (a, b)`."""
    return f"by ({', '.join(labels)})"


def latest(metric: Metric, /, *matchers: str, **labels: str) -> str:
    """A gauge, once for each pipeline and each of its labels that is not given by value."""
    kept = [label for label in labels_of(metric) if label not in labels]
    return f"max {by(kept)} ({selector(metric, *matchers, **labels)})"


def summed(metric: Metric, over: str, *matchers: str, **labels: str) -> str:
    """The sum of a gauge over one of its labels."""
    kept = [label for label in labels_of(metric) if label not in labels and label != over]
    return f"sum {by(kept)} ({latest(metric, *matchers, **labels)})"


SEEN: Final = f"max {by(PIPELINE)} (max_over_time({selector(UP)}[$__range]))"
"""Each pipeline that was scraped at any moment of the time range."""

IS_WHOLE: Final = f"min {by(PIPELINE)} (max {by((*PIPELINE, 'record'))} ({selector(RECORD_UP)})) == 1"
"""The pipelines whose chosen records are all measured."""


def of_all(aggregate: str, vector: str, among: str = SEEN) -> str:
    """One number for all chosen pipelines; none where one of them has none, for it would be of the others alone.

    Graphs look `among` those that are scraped at each moment: a time range of a month for each point costs too much.
    """
    return f"({aggregate} ({vector}) unless on () ({among} unless on ({', '.join(PIPELINE)}) ({vector})))"


SHARE_DECIMALS: Final = 3
"""Of a percentage on a screen."""
_GRID: Final = 10 ** (2 + SHARE_DECIMALS)


def rounded_down(share: str) -> str:
    """A share as it is shown: 99.9999 % is not all.  What lies on the grid but for the error of a float stays."""
    return f"(floor(({share}) * {_GRID} + 1e-6) / {_GRID})"


def rounded_up(share: str) -> str:
    """A share of what is wrong as it is shown: a little is not nothing."""
    return f"(ceil(({share}) * {_GRID} - 1e-6) / {_GRID})"


def rounded_up_time(seconds: str) -> str:
    """A duration as it is shown, in whole seconds: what is beyond a limit does not read as the limit."""
    return f"ceil({seconds})"


def share(part: str, whole: str) -> str:
    """A share from 0 to 1 of two vectors with the same labels, rounded down; none where the whole is 0."""
    return rounded_down(f"({part}) / (({whole}) > 0)")


def named(vector: str, label: str, value: str, of: str = "", pattern: str = "") -> str:
    """The vector with one more label; its value may be taken from what a pattern finds in another one."""
    return f'label_replace({vector}, "{label}", "{value}", "{of}", "{pattern}")'


def first_of(*vectors: str) -> str:
    """For each set of labels the first vector that has it."""
    return f"({' or '.join(f'({vector})' for vector in vectors)})"


def or_unknown(vector: str, rows: str) -> str:
    """The vector, and not a number for each of `rows` that it lacks: what is not known has a place to say so."""
    return f"({vector} or NaN * {rows})"
