"""What rules know of the judgement: the judged values and the broken limits, also while a pipeline is lost.

The exporter judges; the rules only read.  An alert that fires continues while nobody measures, and no alert starts.
"""

from typing import Final

from exporter.rules.rule import LOST_PIPELINES, Recording
from exporter.rules.settings import LOOKBACK_ROUNDS, OUTAGE_ROUNDS, RuleSettings
from exporter.state.self_metrics import LIMIT_BROKEN, LIMIT_VALUE

VALUE_KEPT: Final = "limit:session_health_limit_value:kept"
"""The judged value of each limit; of a lost pipeline the last known value."""

BROKEN_KEPT: Final = "limit:session_health_limit_broken:kept"
"""Whether each limit is broken; of a lost pipeline, for a firing alert, the last known standing."""

BROKEN_VALUE: Final = "limit:session_health_limit_value:broken"
"""The judged value of each broken limit, once for each severity."""

_OF_LIMIT: Final = ("limit", "record", "check")


def recordings(at: RuleSettings) -> tuple[Recording, ...]:
    """The recording rules, in order."""
    lost = at.selector(LOST_PIPELINES)
    firing = f"{at.selector('ALERTS', alertstate='firing')}[{at.rounds(LOOKBACK_ROUNDS)}]"
    value, broken = LIMIT_VALUE.full_name, LIMIT_BROKEN.full_name
    return (
        Recording(
            VALUE_KEPT,
            f"{at.last(LOOKBACK_ROUNDS, value)}\nor\n(\n"
            f"  {at.last(OUTAGE_ROUNDS, value)}\n"
            f"  and ignoring ({', '.join(_OF_LIMIT)})\n  {lost}\n)\n",
        ),
        Recording(
            BROKEN_KEPT,
            f"{at.last(LOOKBACK_ROUNDS, broken)}\nor\n(\n"
            f"  {at.last(OUTAGE_ROUNDS, broken)}\n"
            f"  and ignoring (alertname, alertstate)\n  last_over_time({firing})\n"
            f"  and ignoring ({', '.join((*_OF_LIMIT, 'severity'))})\n  {lost}\n)\n",
        ),
        Recording(
            BROKEN_VALUE,
            f"({at.selector(BROKEN_KEPT)} == 1)\n* ignoring (severity) group_left ()\n{at.selector(VALUE_KEPT)}\n",
        ),
    )
