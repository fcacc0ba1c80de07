"""What rules know of the judgement: the judged values and the broken limits, also while a pipeline is lost.

The exporter judges; the rules only read.  An alert that fires continues while nobody measures, and no alert starts.
"""

from collections.abc import Iterable
from typing import Final

from exporter.rules.pipelines import LOST_PIPELINES
from exporter.rules.rule import Recording
from exporter.rules.settings import LOOKBACK_ROUNDS, OUTAGE_ROUNDS, RuleSettings
from exporter.state.self_metrics import LIMIT, LIMIT_BROKEN, LIMIT_VALUE

VALUE: Final = "limit:session_health_limit_value:worst"
"""The judged value of each limit, of several exporters the worst."""

BROKEN: Final = "limit:session_health_limit_broken:max"
"""1 if any exporter judges the limit as broken, else 0."""

VALUE_KEPT: Final = "limit:session_health_limit_value:kept"
"""The judged value of each limit; of a lost pipeline the last known value."""

BROKEN_KEPT: Final = "limit:session_health_limit_broken:kept"
"""Whether each limit is broken; of a lost pipeline, for a firing alert, the last known standing."""

BROKEN_VALUE: Final = "limit:session_health_limit_value:broken"
"""The judged value of each broken limit, once for each severity."""


def recordings(at: RuleSettings, below: Iterable[str]) -> tuple[Recording, ...]:
    """The recording rules, in order; `below` names the limits that a value below the threshold breaks."""
    lost = at.selector(LOST_PIPELINES)
    firing = f"{at.selector('ALERTS', alertstate='firing')}[{at.rounds(LOOKBACK_ROUNDS)}]"
    of_limit = "limit, record, check"
    return (
        Recording(VALUE, _worst(at, "|".join(below))),
        Recording(BROKEN, at.merged("max", LIMIT_BROKEN)),
        Recording(
            VALUE_KEPT,
            f"{at.selector(VALUE)}\nor (\n  {at.last(OUTAGE_ROUNDS, VALUE)}\n  and ignoring ({of_limit}) {lost}\n)\n",
        ),
        Recording(
            BROKEN_KEPT,
            f"{at.selector(BROKEN)}\nor (\n  {at.last(OUTAGE_ROUNDS, BROKEN)}\n"
            f"  and ignoring (alertname, alertstate) last_over_time({firing})\n"
            f"  and ignoring ({of_limit}, severity) {lost}\n)\n",
        ),
        Recording(
            BROKEN_VALUE,
            f"({at.selector(BROKEN_KEPT)} == 1)\n* ignoring (severity) group_left () {at.selector(VALUE_KEPT)}\n",
        ),
    )


def _worst(at: RuleSettings, below: str) -> str:
    merged = {"min": at.matching(LIMIT_VALUE.full_name, limit=below), "max": at.selector(LIMIT_VALUE.full_name)}
    return "or\n".join(
        f"{side} without {at.but_passing()} (\n  last_over_time({series}[{at.rounds(LOOKBACK_ROUNDS)}])\n)\n"
        for side, series in merged.items()
    )


def broken_value(at: RuleSettings, limit: str) -> str:
    """PromQL: the judged value of a broken limit, once for each severity; without recorded series also -1 within."""
    if at.has_recordings:
        return at.selector(BROKEN_VALUE, limit=limit)
    broken, value = (at.last(LOOKBACK_ROUNDS, metric.full_name, limit=limit) for metric in (LIMIT_BROKEN, LIMIT_VALUE))
    return (
        f"max without {at.but_passing()} (\n  ({broken} == 1)\n  * ignoring (severity) group_left () {value}\n"
        f"  or {broken} - 1\n)\n"
    )


def threshold(at: RuleSettings, limit: str) -> str:
    """PromQL: the threshold of a limit, with the labels of `broken_value`."""
    broken, bound = (at.last(LOOKBACK_ROUNDS, metric.full_name, limit=limit) for metric in (LIMIT_BROKEN, LIMIT))
    return f"max without {at.but_passing()} (\n  {broken} * 0\n  + ignoring (record, check) group_left () {bound}\n)\n"
