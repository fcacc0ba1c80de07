"""Work that is being done: how much is left, how fast it goes, and when it ends if it goes on like that."""

from typing import Final

from exporter.dashboards import palette
from exporter.dashboards.promql import by, first_of, labels_of, latest, selector, share
from exporter.model.metric import Metric

PACE: Final = "1h"
"""Over so long the pace is taken: work that comes in batches has no pace in minutes."""

SLOWEST: Final = 1 / 86400
"""Of a pace, in sessions a second: less than one a day is none."""
LONGEST: Final = 90 * 86400
"""Beyond so many seconds an estimate says nothing."""

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
    """How many fewer there are, a second, as a straight line through the last hour has it; only of what is measured."""
    kept = [label for label in labels_of(metric) if label not in labels]
    return f"(0 - avg {by(kept)} (deriv({selector(metric, **labels)}[{PACE}])) and {latest(metric, **labels)})"


def remaining(left: str, paced: str) -> str:
    """In how many seconds nothing is left, `DONE` or `NO_PROGRESS`; both vectors have the same labels."""
    estimate = f"({left}) / (({paced}) > {SLOWEST:.8f})"
    return first_of(f"0 * (({left}) == 0)", f"({estimate}) < {LONGEST}", f"0 * ({left}) + {NO_PROGRESS}")


def done_share(left: str, peak: str) -> str:
    """What of the largest value in the time range is gone, as a share; `NOTHING_TO_DO` where it was 0."""
    return first_of(share(f"({peak}) - ({left})", peak), f"0 * ((({peak}) == 0) and ({left})) + {NOTHING_TO_DO}")
