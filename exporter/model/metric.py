"""Metrics: name, help text and labels; and the values of labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

METRIC_PREFIX: Final = "session_health_"

NO_STATUS: Final = "<none>"
"""The status of sessions without a column of the status."""

LABEL_LENGTH: Final = 256
"""Characters of a label value; the database cuts longer texts."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported gauge family.

    `labels` come after `database` and `pipeline`, the labels of every family.  `open_label` names the label whose
    values come from the data and are therefore capped.  A label `record` is always the first, and the stages fill the
    value.
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
    "Start of the window: `window.since`, or the time of the served snapshot minus `window.last`.",
)
SNAPSHOT_TIME: Final = Metric("snapshot_timestamp_seconds", "Time of the served snapshot, by the database's clock.")
"""Metrics of every pipeline, filled by the stages; dimensions refer to the metrics.  Ages in PromQL are relative to the
snapshot, like judged ages: Prometheus' clock may differ, and continues without a measurement."""


class Folded(Enum):
    """Stands for the values beyond the caps on transport and export."""

    OTHER = "<other>"


CellValue = str | bool | float | int | tuple[float, ...] | None | Folded
LabelValue = str | None | Folded


Numbers = Mapping[tuple[LabelValue, ...], float]
"""Label values (without the labels that the stages fill) and the number; absent numbers are not exported."""


_SPECIAL: Final = {"<null>": None, "<empty>": ""}
_RESERVED: Final = frozenset({*_SPECIAL, Folded.OTHER.value})


def label_text(value: LabelValue) -> str:
    r"""A value of the database as a label.

    NULL is `<null>`, the empty string `<empty>`, values beyond the cap `<other>`.  Text equal to a reserved label, with
    or without leading backslashes, gets one more backslash: two values never share a label.
    """
    if value is None:
        return "<null>"
    if isinstance(value, Folded):
        return str(value.value)
    if value == "":
        return "<empty>"
    return "\\" + value if value.lstrip("\\") in _RESERVED else value


def is_folded(label: str) -> bool:
    """Whether a label stands for many values."""
    return label == Folded.OTHER.value


def label_value(label: str) -> str | None:
    """The value of the database behind a label; raises LookupError for `<other>`, which stands for many values."""
    if is_folded(label):
        raise LookupError
    if label in _SPECIAL:
        return _SPECIAL[label]
    return label[1:] if label.lstrip("\\") in _RESERVED else label
