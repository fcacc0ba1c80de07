"""The lines, bars and curves of a dimension for the report and the page."""

from dataclasses import dataclass
from typing import Literal

from exporter.model.metric import Metric
from exporter.text.figures import LimitUnit
from exporter.text.terminal import Tone

Chapter = Literal[
    "base",
    "completeness",
    "impact",
    "finding",
    "state",
    "versions",
    "consistency",
    "quality",
    "operation",
    "arrival",
]
"""The chapter of a line: analysed sessions, complete sessions, total impact, missing records, existing records,
versions, consistency of versions, quality, links between rows and sessions, arrival of sessions and records."""

Evidence = Literal["measured", "enforced", "by_definition", "visible", "two_databases", "not_measured"]
"""The evidence of a line: counted in this snapshot, enforced by a constraint, true by the config, counted in the rows
that policies show, counted with rows of another database (a snapshot of its own), or not measured."""


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One line of the report: a value, and the whole.

    The whole is `of` (None without a whole), or with `of_analysed` the analysed sessions.  `record` names the record,
    None for the sessions.  A value of None with `words` was measured: `words` replace the value.  A value of None
    without `words` was not measured: `reason` explains a cause other than a fault, `remedy` names the missing keys of
    the config.  `good` says which value is good without a limit; None only informs.  `limit` names the limit that
    judges the line, for the record or the part `subject`.  `since` is the start of an age (Unix seconds).  `brief`
    names the counted things, for the summary of a pipeline; empty for a detail.
    """

    chapter: Chapter
    text: str
    value: float | None
    of: float | None = None
    record: str | None = None
    unit: LimitUnit = "count"
    good: Literal["all", "none"] | None = None
    limit: str | None = None
    subject: str | None = None
    evidence: Evidence = "measured"
    words: str = ""
    reason: str = ""
    remedy: str = ""
    of_analysed: bool = False
    since: float | None = None
    brief: str = ""

    @property
    def is_perfect(self) -> bool:
        """Whether the value is good under any limit: all, or none."""
        if self.evidence == "by_definition":
            return True
        return self.good is not None and self.value is not None and self.value == (self.of if self.good == "all" else 0)


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a whole; `count` is None without a measurement."""

    name: str
    count: float | None
    tone: Tone


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A whole as a sum of parts, for a bar; `record` names the record, None for the sessions."""

    text: str
    slices: tuple[Slice, ...]
    record: str | None = None

    @property
    def whole(self) -> float | None:
        """The sum, None unless every part was measured."""
        counts = [part.count for part in self.slices if part.count is not None]
        return sum(counts) if len(counts) == len(self.slices) else None

    def shade(self, part: Slice) -> int:
        """The number of earlier parts of the same tone with a count: parts of one tone differ by the shade."""
        earlier = self.slices[: self.slices.index(part)]
        return sum(other.tone == part.tone and bool(other.count) for other in earlier)


@dataclass(frozen=True, slots=True)
class Track:
    """A number of the pipeline as a curve over time; `good` names the better side."""

    text: str
    metric: Metric
    labels: tuple[str, ...]
    good: Literal["many", "none"]


@dataclass(frozen=True, slots=True)
class Caveat:
    """A reason besides the limits for a verdict other than healthy."""

    verdict: Literal["unknown", "no_data"]
    message: str
