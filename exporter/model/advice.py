"""The texts of an alert and a runbook: the meaning, the causes and the steps."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from exporter.model.sections import Pipeline
from exporter.text.terminal import printable

Dashboard = Literal["overview", "versions", "timeliness", "exporter"]

DASHBOARDS: Final[Mapping[Dashboard, str]] = {
    "overview": "Overview",
    "versions": "Versions",
    "timeliness": "Timeliness and conversion",
    "exporter": "Exporter",
}
"""The titles of the dashboards."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step in Markdown, and the SQL for a pipeline, with full names of tables, and the judged record.

    The SQL is empty if a config has no SQL for the step.  `is_at_home`: impossible for a record in another database.
    """

    text: str
    sql: Callable[[Pipeline, str], str] = lambda _pipeline, _record: ""
    is_at_home: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """The texts for the on-call engineer, in alerts and runbooks.

    `summary` is one sentence, the same for every subject.  `means`, `causes` (the likeliest first) and `mend` (steps
    in order) are Markdown.  `dashboard` is the best dashboard.  `gaps` are further options of the command `gaps`,
    besides pipeline and record; None if `gaps` does not list the affected sessions.
    """

    summary: str
    means: str
    causes: tuple[str, ...]
    mend: tuple[str | Step, ...]
    dashboard: Dashboard = "overview"
    gaps: str | None = None

    def steps(self, pipeline: Pipeline, subject: str) -> tuple[str, ...]:
        """The steps of `mend` with the SQL for a pipeline, and the judged record."""
        elsewhere = pipeline.elsewhere
        return tuple(
            step if isinstance(step, str) else _typed(step, pipeline, subject)
            for step in self.mend
            if isinstance(step, str) or not (step.is_at_home and subject in elsewhere)
        )


def _typed(step: Step, pipeline: Pipeline, subject: str) -> str:
    sql, elsewhere = step.sql(pipeline, subject), pipeline.elsewhere
    there = f", in the database {elsewhere[subject].database}" if sql and subject in elsewhere else ""
    return f"{step.text}{there}: {code(sql)}" if sql else f"{step.text}."


def code(text: str) -> str:
    """A text as code within a line of Markdown."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{printable(text)}{space}{ticks}"
