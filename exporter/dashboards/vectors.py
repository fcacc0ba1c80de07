"""The vectors and columns that several dashboards show."""

from typing import Final

from exporter.dashboards import links, palette
from exporter.dashboards.panels import (
    PanelColumn,
)
from exporter.dashboards.promql import (
    latest,
    rounded_up_time,
    summed,
    total,
)
from exporter.dimensions.coverage import ELIGIBLE, GAP_SESSIONS, RECORD_SESSIONS
from exporter.model.metric import SNAPSHOT_TIME
from exporter.state.self_metrics import RECORD_UP

MEASURED: Final = latest(RECORD_UP)
GAPS: Final = latest(ELIGIBLE, state="gap")
ALL_GAPS: Final = total(GAPS)
ANALYSED: Final = summed(ELIGIBLE, "state")
REQUIRED: Final = summed(RECORD_SESSIONS, "state", 'state!="not_required"')
RECORD_GAPS: Final = summed(GAP_SESSIONS, "reason")
AGE: Final = rounded_up_time(f"time() - {latest(SNAPSHOT_TIME)}")

THIS_PIPELINE: Final = PanelColumn(
    "Pipeline", link=("Only this pipeline", links.drill_down(links.OVERVIEW, pipeline="Pipeline"))
)
THIS_RECORD: Final = PanelColumn(
    "Record",
    link=("Versions of this record", links.drill_down(links.VERSIONS, pipeline="Pipeline", record="Record")),
)
LANES: Final = 12
"""Lanes of a timeline, at most."""

NARROW: Final = 78
"""Width of a column with a count, in pixels."""

IS_MEASURED: Final = PanelColumn(
    "Measured", width=NARROW, texts={1: ("✓ yes", palette.PLAIN), 0: ("? NO", palette.UNKNOWN)}
)
"""Beside numbers that are absent where the config has no key: an absent number is unknown if this is NO."""
