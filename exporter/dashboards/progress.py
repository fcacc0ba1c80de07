"""Progress of a backfill: the completed share, the pace, and the estimated end."""

from typing import Final

from exporter.dashboards.promql import by, labels_of, rounded_down, selector
from exporter.model.metric import Metric

PACE: Final = "1h"
"""The period for the pace: work in batches has no pace in minutes."""

SLOWEST: Final = 1 / 86400
"""The slowest pace in sessions per second: less than one a day is no progress."""


def most(metric: Metric, **labels: str) -> str:
    """The largest value in the time range."""
    kept = [label for label in labels_of(metric) if label not in labels]
    return f"max {by(kept)} (max_over_time({selector(metric, **labels)}[$__range]))"


def pace(metric: Metric, **labels: str) -> str:
    """The decrease per second, from a straight line through the last hour."""
    kept = [label for label in labels_of(metric) if label not in labels]
    return f"avg {by(kept)} (0 - deriv({selector(metric, **labels)}[{PACE}]))"


def remaining(left: str, paced: str) -> str:
    """The seconds until nothing is left; no number without progress; both vectors have the same labels."""
    return f"{left} / ({paced} > {SLOWEST:.2g})"


def done_share(left: str, peak: str) -> str:
    """The completed share of the largest value in the time range; no number if the largest value is 0."""
    return rounded_down(f"(1 - {left} / ({peak} > 0))")
