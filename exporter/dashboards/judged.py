"""The judgement of the exporter in panels: the value of a limit, the standing, and the thresholds.

A dashboard compares nothing with a limit: the exporter has judged.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from exporter.dashboards import palette
from exporter.dashboards.panels import Query
from exporter.dashboards.promql import (
    GONE,
    PIPELINE,
    SEEN,
    by,
    latest,
    rounded_down,
    rounded_up,
    rounded_up_time,
    selector,
)
from exporter.dimensions import DIMENSIONS
from exporter.model.judging import Limit
from exporter.model.standing import STANDINGS, Standing, Verdict, in_words
from exporter.state.self_metrics import LIMIT, LIMIT_LEVEL, LIMIT_VALUE, VERDICT_LEVEL
from exporter.text.figures import LimitUnit

LIMITS: Final = tuple(limit for dimension in DIMENSIONS for limit in dimension.limits)
"""Every limit of a config, in the order of the dimensions."""

_BY_NAME: Final = {limit.name: limit for limit in LIMITS}
_ROW: Final = (*PIPELINE, "limit")

STANDING_TEXTS: Final = {
    Standing.NOTED.level: ("- nothing to judge", palette.NOTHING),
    Standing.FINE.level: ("✓ within", palette.GOOD),
    Standing.TOO_FEW.level: ("∅ too few", palette.NOTHING),
    Standing.WARNING.level: ("! warning", palette.WARNING),
    Standing.UNKNOWN.level: ("? unknown", palette.UNKNOWN),
    Standing.CRITICAL.level: ("✕ critical", palette.CRITICAL),
}
"""The sign, the word and the colour of a standing."""

_GROUNDS: Final[dict[Verdict, str]] = {
    "healthy": palette.GOOD_GROUND,
    "no_data": palette.NOTHING,
    "degraded": palette.WARNING_GROUND,
    "unknown": palette.UNKNOWN_GROUND,
    "unhealthy": palette.CRITICAL_GROUND,
}

NOT_SCRAPED: Final = (Standing.UNKNOWN.level + Standing.CRITICAL.level) / 2
"""A pipeline that is no longer scraped ranks between unknown and unhealthy."""

VERDICT_TEXTS: Final = dict(
    sorted(
        {
            **{
                float(STANDINGS[verdict].level): (f"{STANDINGS[verdict].glyph} {in_words(verdict).upper()}", ground)
                for verdict, ground in _GROUNDS.items()
            },
            NOT_SCRAPED: ("? NOT SCRAPED", palette.UNKNOWN_GROUND),
        }.items()
    )
)
"""The text of each verdict by level, and the background colour."""

VERDICT: Final = latest(VERDICT_LEVEL)
"""The verdict of each pipeline; the worse verdict if two exporters disagree."""

VERDICT_OR_LOST: Final = (
    f"max {by(PIPELINE)} ({selector(VERDICT_LEVEL)} or on ({', '.join(PIPELINE)}) 0 * {SEEN} + {NOT_SCRAPED})"
)
"""The verdict, also of pipelines that were scraped in the time range and are no longer scraped."""


def _shown(unit: LimitUnit, value: str, *, below: bool = False) -> str:
    """A value for display: rounded towards the broken side of the limit."""
    if unit == "count":
        return value
    if unit == "seconds":
        return rounded_up_time(value)
    return rounded_down(value) if below else rounded_up(value)


def values(name: str, *labels: str) -> str:
    """For each pipeline (and record or check, if among the labels) the judged value, for display."""
    limit = _BY_NAME[name]
    each = f"{_worst(limit)} {by((*PIPELINE, *labels))} ({selector(LIMIT_VALUE, limit=name)})"
    return _shown(limit.unit, each, below=limit.below)


def worst(name: str) -> str:
    """The worst value of all chosen pipelines, records and checks with a threshold, else of all; for display."""
    limit, value = _BY_NAME[name], selector(LIMIT_VALUE, limit=name)
    with_threshold = f"{value} and on ({', '.join((*PIPELINE, 'record', 'check'))}) {selector(LIMIT_LEVEL, limit=name)}"
    return _shown(limit.unit, f"{_worst(limit)} ({with_threshold} or on () {value})", below=limit.below)


def _worst(limit: Limit) -> str:
    return "min" if limit.below else "max"


def with_standing(number: str, name: str, *, over_time: bool = False) -> tuple[Query, Query]:
    """A number, and the worst standing of a limit as sign and word; without the limit in the config, the number.

    A pipeline that is no longer scraped counts as unknown: the number is of the other pipelines.
    """
    level = f"max ({selector(LIMIT_LEVEL, limit=name)} or 0 * ({GONE}) + {Standing.UNKNOWN.level})"
    return (
        Query(number, "value", over_time=over_time),
        Query(level, "limit", texts=STANDING_TEXTS),
    )


def standings(name: str, *labels: str) -> str:
    """For each pipeline (and record or check, if among the labels) the standing of a limit with a threshold."""
    return f"max {by((*PIPELINE, *labels))} ({selector(LIMIT_LEVEL, limit=name)})"


def bound_lines(name: str) -> tuple[Query, ...]:
    """The thresholds of a limit as dashed lines; with several pipelines the tightest."""
    tightest = "max" if _BY_NAME[name].below else "min"
    return tuple(
        Query(f"{tightest} ({selector(LIMIT, limit=name, severity=severity)})", f"{severity} limit", color, dashed=True)
        for severity, color in palette.SEVERITIES.items()
    )


_OF_UNIT: Final[Mapping[LimitUnit, str]] = {
    "count": ".+_(gap|sessions|records|checks)",
    "ratio": ".+_ratio",
    "seconds": ".+_(age|p95)",
}
"""The names of the limits of a unit."""


def all_values(unit: LimitUnit) -> str:
    """For each pipeline and limit of a unit, the worst value, for display."""
    high, low = (
        [limit.name for limit in LIMITS if limit.unit == unit and limit.below is below] for below in (False, True)
    )
    if not low:
        return _shown(unit, f"max {by(_ROW)} ({selector(LIMIT_VALUE, _of(unit))})")
    return " or ".join(
        _shown(unit, f"{side} {by(_ROW)} ({selector(LIMIT_VALUE, _named(names))})", below=names is low)
        for names, side in ((high, "max"), (low, "min"))
    )


def all_bounds(severity: str, unit: LimitUnit) -> str:
    """For each pipeline and limit of a unit the threshold of a severity."""
    return f"max {by(_ROW)} ({selector(LIMIT, _of(unit), severity=severity)})"


def all_standings(unit: LimitUnit) -> str:
    """For each pipeline and limit of a unit with a threshold, the worst standing."""
    return f"max {by(_ROW)} ({selector(LIMIT_LEVEL, _of(unit))})"


def _named(names: Iterable[str]) -> str:
    return f'limit=~"{"|".join(names)}"'


def _of(unit: LimitUnit) -> str:
    return f'limit=~"{_OF_UNIT[unit]}"'


_LEVELS: Final = f"max {by((*_ROW, 'record', 'check'))} ({selector(LIMIT_LEVEL)})"

BROKEN: Final = f"{_LEVELS} >= {Standing.WARNING.level} or 0 * ({GONE}) + {NOT_SCRAPED}"
"""Every limit that is broken or unknown, and every pipeline that is no longer scraped."""

COUNTS: Final = f'count_values("level", {_LEVELS} >= {Standing.WARNING.level})'
"""The number of limits for each bad standing, by `level`."""

COUNT_WORDS: Final = {
    str(Standing.WARNING.level): (Standing.WARNING.spoken, palette.WARNING),
    str(Standing.UNKNOWN.level): (Standing.UNKNOWN.spoken, palette.UNKNOWN),
    str(Standing.CRITICAL.level): (Standing.CRITICAL.spoken, palette.CRITICAL),
}
"""The word and the colour of each level in `COUNTS`."""
