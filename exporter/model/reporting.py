"""What a dimension contributes to the report and the page."""

from dataclasses import dataclass
from typing import Literal

from exporter.model.metric import Metric
from exporter.text.figures import LimitUnit
from exporter.text.terminal import Tone

Chapter = Literal[
    "base", "finding", "impact", "state", "versions", "quality", "completeness", "consistency", "operation"
]
"""Where a line of the report belongs: the number analysed, what is missing, what that amounts to, what is there, its
versions, how good it is, whether everything is covered, whether versions are consistent, how the pipeline does."""

Evidence = Literal["measured", "enforced", "by_definition", "visible", "not_measured"]
"""What a line rests on: counted in this snapshot, ruled out by a constraint of the database, said by the config,
counted of those rows that policies show, or nothing."""


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One line of the report: what `value` is, and of how many.

    That is `of`, None where it is part of nothing, or with `of_analysed` the sessions analysed.  `record` is the one
    that it is about, None for the sessions.  A value of None with `words` was looked for, and they say what is there
    instead; without it was not measured.  `reason` says why, where that is no fault, and `remedy` which keys of the
    config would have it measured.  `good` says when it is fine by itself; None
    only informs.  `limit` names the one that judges it: of the record, or of the part `subject`.
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


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a whole; `count` is None where it was not measured."""

    name: str
    count: float | None
    tone: Tone


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A whole in parts that add up to it, for a bar; `record` is the one that it is about, None for the sessions."""

    text: str
    slices: tuple[Slice, ...]
    record: str | None = None

    @property
    def whole(self) -> float | None:
        """The sum, None unless every part was measured."""
        counts = [part.count for part in self.slices if part.count is not None]
        return sum(counts) if len(counts) == len(self.slices) else None


@dataclass(frozen=True, slots=True)
class Track:
    """A number of the pipeline that is drawn over time; `good` says which side is the better one."""

    text: str
    metric: Metric
    labels: tuple[str, ...]
    good: Literal["many", "none"]


@dataclass(frozen=True, slots=True)
class Caveat:
    """What keeps a pipeline from being healthy beside its limits, and why in words."""

    verdict: Literal["unknown", "no_data"]
    message: str
