"""What the exporter says of itself, and of each pipeline beside what was measured: metrics with their values."""

import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from exporter import __version__
from exporter.model.fault import REASONS
from exporter.model.metric import SNAPSHOT_TIME, WINDOW_START, Metric
from exporter.state.board import Board, Standing
from exporter.state.judge import VERDICTS
from exporter.state.snapshot import RESULTS

Values = Iterable[tuple[tuple[str, ...], float | None]]
"""Label values and a number; None for no series."""

VERDICT: Final = Metric(
    "verdict",
    "1 for the verdict that holds, 0 for the others: unhealthy where a critical limit is broken, else unknown "
    "while anything is not measured or judged.",
    ("verdict",),
)
LIMIT: Final = Metric(
    "limit",
    "The limits of the config, in base units: counts, shares from 0 to 1, seconds.",
    ("limit", "severity"),
)
LIMIT_MIN_SESSIONS: Final = Metric(
    "limit_min_sessions",
    "From how many sessions on a limit on a ratio says anything.",
    ("limit",),
)
UP: Final = Metric("up", "1 when the last collection measured everything and its values are served, else 0.")
RECORD_UP: Final = Metric(
    "record_up",
    "1 when the last collection measured this record and its values are served, else 0.",
    ("record",),
)
RESTRICTED: Final = Metric(
    "visibility_restricted",
    "1 where row_security: allow met a policy, so that only the rows which it shows were measured, else 0.",
)
FOLDED_SERIES: Final = Metric(
    "folded_series",
    "Series of a metric that are added up in <other>, beyond max_label_values; what the database had added up "
    "already, beyond 10,000 values, counts as one.",
    ("metric",),
)
MAX_AGE: Final = Metric("max_age_seconds", "At what age a snapshot is withdrawn, with all that was measured in it.")
INTERVAL: Final = Metric(
    "collection_interval_seconds",
    "How long after one collection the next one starts; later where the database is slow or cannot be looked at.",
)
REPLICA_LAG: Final = Metric(
    "replica_lag_seconds",
    "How far the replica was behind when the served snapshot was taken; absent where the database is none.",
)
LAST_SUCCESS: Final = Metric(
    "last_success_timestamp_seconds",
    "When a collection last measured everything, by the exporter's clock; absent until one has.",
)
COLLECTION_DURATION: Final = Metric("collection_duration_seconds", "How long the last collection took.")
COLLECTIONS: Final = Metric(
    "collections_total",
    "Collections: success (all measured), partial (records or checks were not), failure (no snapshot).",
    ("result",),
)
COLLECTION_ERRORS: Final = Metric("collection_errors_total", "Why collections did not measure everything.", ("reason",))
RELOAD_SUCCESSFUL: Final = Metric(
    "config_last_reload_successful", "1 when the config was last read without a mistake, else 0."
)
RELOAD_SUCCESS_TIME: Final = Metric(
    "config_last_reload_success_timestamp_seconds", "When the config that is in force was read."
)
BUILD_INFO: Final = Metric(
    "exporter_build_info",
    "1; the labels say what is running.",
    labels=("version", "python_version", "revision"),
)


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """A family about the measuring itself: `values` gives label values and a number, None for no series."""

    metric: Metric
    values: Callable[[Standing], Values]
    is_counter: bool = False


def _up(standing: Standing) -> Values:
    # What is withdrawn is not measured any more, however well the last collection went.
    served = standing.snapshot is not None
    yield (), float(served and standing.last is not None and standing.last.result == "success")


def _record_up(standing: Standing) -> Values:
    faults = standing.record_faults
    for record in standing.records:
        yield (record,), float(standing.snapshot is not None and record not in faults)


def _snapshot_time(standing: Standing) -> Values:
    yield (), standing.snapshot.taken_at if standing.snapshot else None


def _folded(standing: Standing) -> Values:
    for metric, count in standing.snapshot.folded.items() if standing.snapshot else ():
        yield (metric,), count


def _replica_lag(standing: Standing) -> Values:
    yield (), standing.snapshot.replica_lag if standing.snapshot else None


def _last_success(standing: Standing) -> Values:
    yield (), standing.last_success


def _duration(standing: Standing) -> Values:
    yield (), standing.last.duration if standing.last else None


def _collections(standing: Standing) -> Values:
    for result in RESULTS:
        yield (result,), standing.results[result]


def _errors(standing: Standing) -> Values:
    for reason in REASONS:
        yield (reason,), standing.errors[reason]


def _verdict(standing: Standing) -> Values:
    for verdict in VERDICTS:
        yield (verdict,), float(verdict == standing.verdict)


def _limits(standing: Standing) -> Values:
    for limit, severity, bound in standing.limits:
        yield (limit, severity), bound


def _min_sessions(standing: Standing) -> Values:
    for limit, count in standing.min_sessions:
        yield (limit,), count


def _interval(standing: Standing) -> Values:
    yield (), standing.config.interval.total_seconds()


def _max_age(standing: Standing) -> Values:
    yield (), standing.max_age


def _window_start(standing: Standing) -> Values:
    snapshot = standing.snapshot
    yield (), standing.config.window.start(snapshot.taken_at) if snapshot else None


def _restricted(standing: Standing) -> Values:
    yield (), float(bool(standing.snapshot.restricted)) if standing.snapshot else None


SELF_METRICS: Final = (
    SelfMetric(
        VERDICT,
        _verdict,
    ),
    SelfMetric(
        LIMIT,
        _limits,
    ),
    SelfMetric(
        LIMIT_MIN_SESSIONS,
        _min_sessions,
    ),
    SelfMetric(UP, _up),
    SelfMetric(
        RECORD_UP,
        _record_up,
    ),
    SelfMetric(
        RESTRICTED,
        _restricted,
    ),
    SelfMetric(
        FOLDED_SERIES,
        _folded,
    ),
    SelfMetric(
        SNAPSHOT_TIME,
        _snapshot_time,
    ),
    SelfMetric(
        WINDOW_START,
        _window_start,
    ),
    SelfMetric(MAX_AGE, _max_age),
    SelfMetric(
        INTERVAL,
        _interval,
    ),
    SelfMetric(
        REPLICA_LAG,
        _replica_lag,
    ),
    SelfMetric(
        LAST_SUCCESS,
        _last_success,
    ),
    SelfMetric(COLLECTION_DURATION, _duration),
    SelfMetric(
        COLLECTIONS,
        _collections,
        is_counter=True,
    ),
    SelfMetric(
        COLLECTION_ERRORS,
        _errors,
        is_counter=True,
    ),
)


@dataclass(frozen=True, slots=True)
class ProgramMetric:
    """A family about the program as a whole: it carries no labels but its own."""

    metric: Metric
    values: Callable[[Board], Values]


def revision() -> str:
    """The commit that an image was built from, by its environment; `unknown` elsewhere."""
    return os.environ.get("SESSION_HEALTH_REVISION") or "unknown"


def _build_info(_board: Board) -> Values:
    yield (__version__, platform.python_version(), revision()), 1


def _reload_succeeded(board: Board) -> Values:
    yield (), float(board.reload.succeeded)


def _reload_success_time(board: Board) -> Values:
    yield (), board.reload.last_success


PROGRAM_METRICS: Final = (
    ProgramMetric(
        RELOAD_SUCCESSFUL,
        _reload_succeeded,
    ),
    ProgramMetric(
        RELOAD_SUCCESS_TIME,
        _reload_success_time,
    ),
    ProgramMetric(
        BUILD_INFO,
        _build_info,
    ),
)
