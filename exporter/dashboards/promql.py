"""Metrics -> PromQL: the building blocks of all expressions in the dashboards.

Two exporters may measure one database and deliver every series twice: each bare selector is reduced to the maximum
before any sum.  `$job`, `$instance`, `$database`, `$pipeline` and `$record` are the variables of the dashboards, and
filter every selector with the label.
"""

from collections.abc import Iterable
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
    """The series chosen by the variables, with further labels by value or as matchers (`state!="gap"`).

    Series of limits have a record or a check or neither: the choice of a record leaves the series without a record.
    """
    wanted = 'record=~"$record|"' if "limit" in metric.labels else 'record=~"$record"'
    of_record = [wanted] if "record" in metric.labels else []
    chosen = [*_TARGET, *(() if metric in _PROGRAM else _OF_PIPELINE), *of_record]
    given = [f'{name}="{value}"' for name, value in labels.items()]
    return f"{metric.full_name}{{{', '.join([*chosen, *given, *matchers])}}}"


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


SEEN: Final = f"max_over_time({selector(UP)}[$__range])"
"""Each pipeline of each exporter scraped in the time range."""

GONE: Final = f"{SEEN} unless on ({', '.join(PIPELINE)}) {selector(UP)}"
"""Each pipeline of each exporter scraped in the time range, and no longer scraped."""


def total(vector: str) -> str:
    """The sum for all chosen pipelines: NaN if a pipeline of the time range has no number, to prevent a partial sum."""
    return f"sum ({vector} or on ({', '.join(PIPELINE)}) NaN * {SEEN})"


def total_of_records(vector: str) -> str:
    """The sum for all chosen records: NaN if a record of the time range has no number."""
    seen = f"max_over_time({selector(RECORD_UP)}[$__range])"
    return f"sum ({vector} or on ({', '.join((*PIPELINE, 'record'))}) NaN * {seen})"


SHARE_DECIMALS: Final = 3
"""Decimals of a percentage."""
_GRID: Final = 10 ** (2 + SHARE_DECIMALS)


def rounded_down(share: str) -> str:
    """A share for display, rounded down: 99.9999 % is not 100 %.  The rounding tolerates the error of a float."""
    return f"floor({share} * {_GRID} + 1e-6) / {_GRID}"


def rounded_up(share: str) -> str:
    """A share of faults for display, rounded up: a small share is not 0."""
    return f"ceil({share} * {_GRID} - 1e-6) / {_GRID}"


def rounded_up_time(seconds: str) -> str:
    """A duration for display, in whole seconds: a value beyond a limit never reads as the limit."""
    return f"ceil({seconds})"


def share(part: str, whole: str) -> str:
    """A share from 0 to 1 of two vectors with the same labels, rounded down; no value if the whole is 0."""
    return rounded_down(f"{part} / ({whole} > 0)")


def named(vector: str, label: str, value: str) -> str:
    """The vector with one more label."""
    return f'label_replace({vector}, "{label}", "{value}", "", "")'
