"""Metrics -> PromQL: the building blocks of all expressions in the dashboards.

Two exporters may measure one database and deliver every series twice: each bare selector is reduced to the maximum
before any sum.  `$job`, `$instance`, `$database`, `$pipeline` and `$record` are the variables of the dashboards, and
filter every selector with the label.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from exporter.model.metric import Metric
from exporter.state.self_metrics import PROGRAM_METRICS, RECORD_UP, UP

PIPELINE: Final = ("database", "pipeline")
"""The labels that identify a pipeline."""

_PROGRAM: Final = frozenset(program.metric for program in PROGRAM_METRICS)
_TARGET: Final = ('job=~"$job"', 'instance=~"$instance"')
_OF_PIPELINE: Final = ('database=~"$database"', 'pipeline=~"$pipeline"')


def labels_of(metric: Metric) -> tuple[str, ...]:
    """The labels of a family on the page, without labels of the target."""
    return metric.labels if metric in _PROGRAM else (*PIPELINE, *metric.labels)


def selector(metric: Metric, *matchers: str, **labels: str) -> str:
    """The series chosen by the variables, with further labels by value or as matchers (`state!="gap"`)."""
    given = [f'{name}="{value}"' for name, value in labels.items()]
    return f"{metric.full_name}{{{', '.join([*_chosen(metric), *given, *matchers])}}}"


def selector_of_any(metrics: Sequence[Metric]) -> str:
    """The series of several metrics with the same labels."""
    names = "|".join(metric.full_name for metric in metrics)
    one_of = f'__name__=~"{names}"'
    return f"{{{', '.join([one_of, *_chosen(metrics[0])])}}}"


def _chosen(metric: Metric) -> list[str]:
    of_record = ['record=~"$record"'] if "record" in metric.labels else []
    return [*_TARGET, *(() if metric in _PROGRAM else _OF_PIPELINE), *of_record]


def target_selector(name: str) -> str:
    """The series of the scrape, written by Prometheus: `up`, `scrape_duration_seconds`."""
    return f"{name}{{{', '.join(_TARGET)}}}"


def by(labels: Iterable[str]) -> str:
    """`by (a, b)`."""
    return f"by ({', '.join(labels)})"


def latest(metric: Metric, /, *matchers: str, **labels: str) -> str:
    """A gauge, once per pipeline and per label without a given value."""
    kept = [label for label in labels_of(metric) if label not in labels]
    return f"max {by(kept)} ({selector(metric, *matchers, **labels)})"


def summed(metric: Metric, over: str, *matchers: str, **labels: str) -> str:
    """The sum of a gauge over one label."""
    kept = [label for label in labels_of(metric) if label not in labels and label != over]
    return f"sum {by(kept)} ({latest(metric, *matchers, **labels)})"


SEEN: Final = f"max {by(PIPELINE)} (max_over_time({selector(UP)}[$__range]))"
"""Each pipeline scraped in the time range."""

IS_WHOLE: Final = f"min {by(PIPELINE)} (max {by((*PIPELINE, 'record'))} ({selector(RECORD_UP)})) == 1"
"""The pipelines whose chosen records are all measured."""


def of_all(aggregate: str, vector: str, among: str = SEEN) -> str:
    """One number for all chosen pipelines; no number if a pipeline has no number, to prevent an incomplete sum.

    Graphs look `among` the pipelines scraped at each moment: a time range of a month for each point costs too much.
    """
    return f"({aggregate} ({vector}) unless on () ({among} unless on ({', '.join(PIPELINE)}) ({vector})))"


SHARE_DECIMALS: Final = 3
"""Decimals of a percentage."""
_GRID: Final = 10 ** (2 + SHARE_DECIMALS)


def rounded_down(share: str) -> str:
    """A share for display, rounded down: 99.9999 % is not 100 %.  The rounding tolerates the error of a float."""
    return f"(floor(({share}) * {_GRID} + 1e-6) / {_GRID})"


def rounded_up(share: str) -> str:
    """A share of faults for display, rounded up: a small share is not 0."""
    return f"(ceil(({share}) * {_GRID} - 1e-6) / {_GRID})"


def rounded_up_time(seconds: str) -> str:
    """A duration for display, in whole seconds: a value beyond a limit never reads as the limit."""
    return f"ceil({seconds})"


def share(part: str, whole: str) -> str:
    """A share from 0 to 1 of two vectors with the same labels, rounded down; no value if the whole is 0."""
    return rounded_down(f"({part}) / (({whole}) > 0)")


def named(vector: str, label: str, value: str, of: str = "", pattern: str = "") -> str:
    """The vector with one more label, with a fixed value or a value from another label by pattern."""
    return f'label_replace({vector}, "{label}", "{value}", "{of}", "{pattern}")'


def first_of(*vectors: str) -> str:
    """For each set of labels, the first vector with the set."""
    return f"({' or '.join(f'({vector})' for vector in vectors)})"


def or_unknown(vector: str, rows: str) -> str:
    """The vector, with NaN for each missing row of `rows`: the table shows the unknown value."""
    return f"({vector} or NaN * {rows})"
