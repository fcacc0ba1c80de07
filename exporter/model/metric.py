"""A metric: its name, its help text and its labels; and the values that labels take."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

METRIC_PREFIX: Final = "session_health_"

LABEL_LENGTH: Final = 256
"""Characters of a value that become a label: what exceeds them never crosses the wire."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported gauge family.

    `labels` come after `database` and `pipeline`, which every family has.  `open_label` names the one
    whose values come from the data and are therefore capped.  Where there is a label `record`, it is
    the first and the stages fill it.
    https://prometheus.io/docs/practices/naming/
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    open_label: str | None = None

    @property
    def full_name(self) -> str:
        """The name on the page."""
        return METRIC_PREFIX + self.name


WINDOW_START: Final = Metric(
    "window_start_timestamp_seconds",
    "From when on sessions are looked at, by their start: as the config says, or as of the served snapshot.",
)
SNAPSHOT_TIME: Final = Metric(
    "snapshot_timestamp_seconds", "When the served snapshot was taken, by the database's clock."
)
"""What is told of every pipeline by the stages, for a dimension to refer to.  Ages in PromQL are as of the snapshot, as
those that are judged: Prometheus' clock may be another, and goes on while nothing is measured."""


class Folded(Enum):
    """Stands for the values beyond what is worth transporting or exporting."""

    OTHER = "<other>"


CellValue = str | bool | float | int | tuple[float, ...] | None | Folded
LabelValue = str | None | Folded


Numbers = Mapping[tuple[LabelValue, ...], float]
"""Label values, without those that the stages fill, and the number; what is not there is not exported."""
