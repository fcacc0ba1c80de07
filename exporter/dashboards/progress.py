"""Progress of a backfill: the remaining work, the pace, and the estimated end."""

from typing import Final

from exporter.dashboards import palette
from exporter.dashboards.promql import by, first_of, labels_of, latest, selector, share
from exporter.model.metric import Metric

PACE: Final = "1h"
"""The period for the pace: work in batches has no pace in minutes."""

SLOWEST: Final = 1 / 86400
"""The slowest pace in sessions per second: less than one a day is no progress."""
LONGEST: Final = 90 * 86400
"""The longest estimate, in seconds."""

DONE: Final = 0
NO_PROGRESS: Final = 10**12
ETA_TEXTS: Final = {DONE: ("✓ done", palette.GOOD), NO_PROGRESS: ("no progress", palette.WARNING)}

NOTHING_TO_DO: Final = -1
SHARE_TEXTS: Final = {NOTHING_TO_DO: ("nothing to do", palette.GOOD)}


def most(metric: Metric, **labels: str) -> str:
    """The largest value in the time range."""
    kept = [label for label in labels_of(metric) if label not in labels]
    return f"max {by(kept)} (max_over_time({selector(metric, **labels)}[$__range]))"


def pace(metric: Metric, **labels: str) -> str:
    """The decrease per second, from a straight line through the last hour; only of measured series."""
    kept = [label for label in labels_of(metric) if label not in labels]
    return f"(0 - avg {by(kept)} (deriv({selector(metric, **labels)}[{PACE}])) and {latest(metric, **labels)})"


def remaining(left: str, paced: str) -> str:
    """The seconds until nothing is left, `DONE` or `NO_PROGRESS`; both vectors have the same labels."""
    estimate = f"({left}) / (({paced}) > {SLOWEST:.8f})"
    return first_of(f"0 * (({left}) == 0)", f"({estimate}) < {LONGEST}", f"0 * ({left}) + {NO_PROGRESS}")


def done_share(left: str, peak: str) -> str:
    """The completed share of the largest value in the time range; `NOTHING_TO_DO` if the largest value is 0."""
    return first_of(share(f"({peak}) - ({left})", peak), f"0 * ((({peak}) == 0) and ({left})) + {NOTHING_TO_DO}")
