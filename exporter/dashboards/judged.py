"""The judged values of every limit in PromQL, and the comparison with the thresholds.

A limit has its own PromQL; this module adds the values for nothing to judge.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from exporter.dashboards.promql import (
    IS_WHOLE,
    PIPELINE,
    by,
    first_of,
    latest,
    named,
    rounded_down,
    rounded_up,
    rounded_up_time,
    selector_of_any,
)
from exporter.dimensions import DIMENSIONS
from exporter.dimensions.coverage import GAP_SESSIONS
from exporter.dimensions.freshness import NEWEST_DUE, NEWEST_RECORD
from exporter.dimensions.timeliness import DELAYED
from exporter.model.judging import Limit
from exporter.model.metric import METRIC_PREFIX, Metric
from exporter.state.self_metrics import LIMIT, LIMIT_MIN_SESSIONS, UP

LIMITS: Final = tuple(limit for dimension in DIMENSIONS for limit in dimension.limits)
"""Every limit of a config, in the order of the dimensions."""

COUNTED: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for dimension in DIMENSIONS
    for metric in dimension.metrics
    if metric.labels == ("record",) and metric.name in {limit.name for limit in LIMITS}
}
"""Counts of rows of a record whose limit has the same name."""

_GAPS: Final = f"sum {by(PIPELINE)} ({latest(GAP_SESSIONS)})"

_NOTHING_TO_JUDGE: Final[Mapping[str, str]] = {
    "gap_age": f"0 * ({_GAPS} == 0) and {IS_WHOLE}",
    "newest_record_age": f"0 * {first_of(latest(NEWEST_RECORD), latest(NEWEST_DUE))}",
    "processing_delay_p95": f"0 * ({latest(DELAYED)} == 0) - 1",
}
"""By name of a limit: 0 if everything is measured without a gap or late record, -1 without a session with a delay."""

VALUES: Final[Mapping[str, str]] = {
    limit.name: first_of(limit.value.promql(latest), *filter(None, [_NOTHING_TO_JUDGE.get(limit.name)]))
    for limit in LIMITS
}
"""By name of a limit: the judged value of each pipeline, record or check."""

RESTS_ON: Final[Mapping[str, str]] = {
    limit.name: f"({limit.value.rests_on(latest)})" for limit in LIMITS if limit.value.rests_on is not None
}
"""By name of a limit on a ratio: the number of sessions behind the ratio."""


def shown(name: str, vector: str | None = None) -> str:
    """The judged value, or a similar vector, for display: rounded towards the broken side of the limit."""
    limit = next(one for one in LIMITS if one.name == name)
    value = VALUES[name] if vector is None else vector
    if limit.unit == "count":
        return value
    if limit.unit == "seconds":
        return rounded_up_time(value)
    return rounded_down(value) if limit.below else rounded_up(value)


_ROW: Final = (*PIPELINE, "limit")


def bound(severity: str, name: str) -> str:
    """The threshold of one limit, for each pipeline with the limit."""
    return latest(LIMIT, limit=name, severity=severity)


def with_enough_sessions(name: str, vector: str) -> str:
    """The values of a limit, without ratios of too few sessions."""
    if name not in RESTS_ON:
        return f"({vector})"
    return (
        f"(({vector}) unless on ({', '.join(PIPELINE)}) ({RESTS_ON[name]} < {latest(LIMIT_MIN_SESSIONS, limit=name)}))"
    )


def _values(limits: Sequence[Limit], *, to_show: bool = False) -> str:
    """For each pipeline and limit, configured or not, the worst value."""

    def one(limit: Limit) -> str:
        worst_one = f"{'min' if limit.below else 'max'} {by(PIPELINE)} ({VALUES[limit.name]})"
        return named(shown(limit.name, worst_one) if to_show else worst_one, "limit", limit.name)

    alike = [limit.name for limit in limits if limit.name in COUNTED]
    values = [one(limit) for limit in limits if limit.name not in COUNTED]
    return first_of(*([_of_counts(alike)] if alike else []), *values)


def _of_counts(names: Sequence[str]) -> str:
    """The counts whose metric has the name of the limit, in one query."""
    series = selector_of_any([COUNTED[name] for name in names])
    by_name = f"max {by((*PIPELINE, '__name__'))} ({series})"
    return f"max {by(_ROW)} ({named(by_name, 'limit', '$1', '__name__', f'{METRIC_PREFIX}(.+)')})"


def worst(limits: Sequence[Limit]) -> str:
    """For each pipeline and configured limit the worst value; -1 for a ratio without a session."""
    none = [named(f"0 * ({RESTS_ON[name]} == 0) - 1", "limit", name) for name in _names(limits) if name in RESTS_ON]
    return f"({first_of(_values(limits, to_show=True), *none)} and {configured(limits)})"


def configured(limits: Sequence[Limit]) -> str:
    """Each pipeline and configured limit."""
    return f"max {by(_ROW)} ({latest(LIMIT, _one_of(limits))})"


def _names(limits: Sequence[Limit]) -> list[str]:
    return [limit.name for limit in limits]


def _one_of(limits: Sequence[Limit]) -> str:
    return f'limit=~"{"|".join(_names(limits))}"'


def bounds(severity: str, limits: Sequence[Limit]) -> str:
    """For each pipeline and limit the threshold of a severity."""
    return latest(LIMIT, _one_of(limits), severity=severity)


WITHIN, TOO_FEW, WARNED, NOT_KNOWN, BROKEN = 0, 1, 2, 3, 4
_RANKS: Final = {"warning": WARNED, "critical": BROKEN}


def standing(limits: Sequence[Limit]) -> str:
    """For each pipeline and limit the judgement of the worst value."""
    few = [
        named(f"0 * ({base} < {latest(LIMIT_MIN_SESSIONS, limit=name)} or {base} == 0) + {TOO_FEW}", "limit", name)
        for name, base in RESTS_ON.items()
        if name in _names(limits)
    ]
    set_as = {name: latest(LIMIT, _one_of(limits), f'severity="{name}"') for name in _RANKS}
    ranks = [f"0 * {set_as[name]} + {rank}" for name, rank in _RANKS.items()]
    beyond = [
        f"{latest(LIMIT, _one_of(chosen))} {than} on ({', '.join(_ROW)}) group_left () {_values(chosen)}"
        for than, chosen in (
            ("<", [limit for limit in limits if not limit.below]),
            (">", [limit for limit in limits if limit.below]),
        )
        if chosen
    ]
    broken = f"max {by(_ROW)} ({first_of(*ranks)} and {first_of(*beyond)})"
    # After a failed measurement, the remaining values do not prove that a limit is within.
    within = f"0 * {configured(limits)} + {WITHIN} and on ({', '.join(PIPELINE)}) ({latest(UP)} == 1)"
    return first_of(*few, broken, within, f"0 * {configured(limits)} + {NOT_KNOWN}")
