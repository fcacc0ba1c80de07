"""Parts of a table: ranges of starts, and ranges of keys."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Started:
    """A range of starts: from `low`, before `high`; None for no end.  With `undated` the sessions without a start."""

    low: datetime | None = None
    high: datetime | None = None
    undated: bool = False


@dataclass(frozen=True, slots=True)
class Keyed:
    """A range of the first column of a key, as text: from `low`, before `high`; None for no end.

    With `missing` the rows where the column is NULL.
    """

    low: str | None = None
    high: str | None = None
    missing: bool = False
