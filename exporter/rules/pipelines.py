"""What rules know of a pipeline: whether any exporter measures the pipeline, and what is wrong with the measuring.

A pipeline is identified by all labels except labels that change with a restart: two exporters of one pipeline give one
series, and one alert.
"""

from typing import Final

from exporter.rules.rule import Recording
from exporter.rules.settings import LOOKBACK_ROUNDS, OUTAGE_ROUNDS, WARN_ROUNDS, RuleSettings
from exporter.state.self_metrics import INTERVAL, LAST_SUCCESS, MAX_AGE, UP, VERDICT

ANY_UP: Final = "pipeline:session_health_up:max"
"""1 if an exporter measures the pipeline completely, 0 if none does; absent if no exporter delivers the pipeline."""

DELIVERED: Final = "pipeline:session_health_collection_interval_seconds:max"
"""Every pipeline that an exporter delivers.  The metric has no labels of the pipeline's own: a new owner, and the
pipeline of the former owner is not absent."""

ALL_UP: Final = "pipeline:session_health_up:min"
"""1 if every exporter of the pipeline measures completely, else 0."""

LOST_PIPELINES: Final = "pipeline:session_health_up:lost"
"""The pipelines, now or recently delivered, that no exporter measures completely now, or whose verdict is unknown."""

FAULT: Final = "pipeline:session_health_fault"
"""A fault of the measuring, the first that applies: `failing`, `stale`, `unknown` or `no_data`."""

FAULT_KEPT: Final = "pipeline:session_health_fault:kept"
"""The same; of a pipeline that no exporter delivers, for a firing alert of a `severity`, the last known fault."""


def recordings(at: RuleSettings) -> tuple[Recording, ...]:
    """The recording rules, in order."""
    return (
        Recording(DELIVERED, at.merged("max", INTERVAL)),
        Recording(ANY_UP, at.merged("max", UP)),
        Recording(ALL_UP, at.merged("min", UP)),
        *(Recording(FAULT, expr, {"fault": fault}) for fault, expr in _faults(at).items()),
        Recording(LOST_PIPELINES, _lost(at)),
        Recording(FAULT_KEPT, _kept(at)),
    )


def _lost(at: RuleSettings) -> str:
    unknown = at.selector(FAULT, fault="unknown")
    measured = f"  {at.selector(ANY_UP)} == 1\n  unless ignoring (fault) {unknown}\n"
    return f"{at.last(OUTAGE_ROUNDS, ANY_UP)}\nunless (\n{measured})\n"


def delivered(at: RuleSettings, rounds: int) -> str:
    """PromQL: the pipelines that an exporter delivered within some rounds."""
    if at.has_recordings:
        return at.last(rounds, DELIVERED)
    return f"max without {at.but_passing()} (\n  {at.last(rounds, INTERVAL.full_name)}\n)"


def delivered_now(at: RuleSettings) -> str:
    """PromQL: the pipelines that an exporter delivers."""
    return at.selector(DELIVERED) if at.has_recordings else delivered(at, LOOKBACK_ROUNDS)


def with_fault(at: RuleSettings, fault: str, severity: str) -> str:
    """PromQL: the pipelines with a fault of the measuring, the first that applies.

    A fault that is kept for an alert of another severity does not count: no alert starts while nobody measures.
    """
    if at.has_recordings:
        return at.matching(FAULT_KEPT, fault=fault, severity=f"|{severity}")
    mean = f"avg_over_time({at.selector(UP.full_name)}[{at.rounds(2 * WARN_ROUNDS)}])"
    found = _conditions(at, at.merged("min", UP).rstrip(), f"min without {at.but_passing()} (\n  {mean}\n)")
    return found[fault] + "".join(f"unless (\n{found[other]})\n" for other in _COVERED_BY.get(fault, ()))


_COVERED_BY: Final = {"stale": ("failing",), "unknown": ("failing", "stale")}
"""The faults that apply before a fault."""


def _faults(at: RuleSettings) -> dict[str, str]:
    mean = f"avg_over_time({at.selector(ALL_UP)}[{at.rounds(2 * WARN_ROUNDS)}])"

    def but(*faults: str) -> str:
        return f"unless ignoring (fault)\n{at.matching(FAULT, fault='|'.join(faults))}\n" if faults else ""

    found = _conditions(at, at.selector(ALL_UP), mean)
    return {fault: expr + but(*_COVERED_BY.get(fault, ())) for fault, expr in found.items()}


def _conditions(at: RuleSettings, all_up: str, mean: str) -> dict[str, str]:
    """The condition of each fault, given whether all exporters measure completely, now and on average."""

    def verdict(name: str) -> str:
        return f"{at.merged('max', VERDICT, 'verdict', verdict=name).rstrip()} == 1\n"

    return {
        "failing": f"{all_up} == 0\nor {mean} < 0.9\n",
        "stale": f"time() - {at.merged('max', LAST_SUCCESS)}>\n{at.merged('max', MAX_AGE)}",
        "unknown": verdict("unknown"),
        "no_data": verdict("no_data"),
    }


def _kept(at: RuleSettings) -> str:
    firing = f"{at.matching('ALERTS', alertstate='firing', fault='.+')}[{at.rounds(LOOKBACK_ROUNDS)}]"
    return (
        f"{at.selector(FAULT)}\nor ignoring (severity) (\n"
        f"  max without (alertname, alertstate) (last_over_time({firing}))\n"
        f"  * ignoring (severity) group_left () {at.last(OUTAGE_ROUNDS, FAULT)}\n"
        f"  and ignoring (fault, severity) {at.selector(LOST_PIPELINES)}\n"
        f"  unless ignoring (fault, severity) {at.selector(ANY_UP)}\n)\n"
    )
