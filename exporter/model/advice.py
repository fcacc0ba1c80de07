"""The texts of an alert and a runbook: the meaning, the causes and the steps."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from exporter.model.keys import Link
from exporter.model.sections import Pipeline
from exporter.model.sql import only_rows, quote
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
class AsRead:
    """A pipeline with full names of tables, and the comparison of keys by record.

    The SQL is for the operator: one line, with `records` and `sessions` for the rows of the two tables.
    """

    pipeline: Pipeline
    links: Mapping[str, Link]

    def rows(self, record: str, *conditions: str) -> str:
        """A FROM item: the rows of a record that pass `where` and `conditions`."""
        section = self.pipeline.records[record]
        return f"{only_rows(section.table, 'record', (section.where or '', *conditions))} as records"

    def sessions(self, *conditions: str) -> str:
        """A FROM item: the sessions that pass `sessions.where` and `conditions`, in or out of the window."""
        return self.owners(self.pipeline.sessions.where or "", *conditions)

    def owners(self, *conditions: str) -> str:
        """A FROM item: the rows that pass `conditions`, sessions or not: a row of a record may point at each."""
        return f"{only_rows(self.pipeline.sessions.table, 'session', conditions)} as sessions"

    def is_linked(self, record: str) -> str:
        """A condition on `records` and `sessions`: whether the row belongs to the session."""
        parts = zip(self.links[record], self.pipeline.sessions.key, self.keys(record), strict=True)
        held = [one.holds(f"sessions.{quote(own)}", one.of_record.format(theirs)) for one, own, theirs in parts]
        return " and ".join(held).replace(" operator(pg_catalog.=) ", " = ")

    def keys(self, record: str) -> list[str]:
        """The columns of `records` with the session key."""
        return [f"records.{quote(part.column)}" for part in self.pipeline.records[record].session_key]


@dataclass(frozen=True, slots=True)
class Step:
    """A step in Markdown, and the SQL for a pipeline and the judged record or check.

    The SQL is empty if a config has no SQL for the step.
    """

    text: str
    sql: Callable[[AsRead, str], str]


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

    def steps(self, read: AsRead, subject: str) -> tuple[str, ...]:
        """The steps of `mend` with the SQL for a pipeline, and the judged record or check."""
        return tuple(step if isinstance(step, str) else _typed(step, read, subject) for step in self.mend)


def _typed(step: Step, read: AsRead, subject: str) -> str:
    sql = step.sql(read, subject)
    return f"{step.text}: {code(sql)}" if sql else f"{step.text}."


def code(text: str) -> str:
    """A text as code within a line of Markdown."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{printable(text)}{space}{ticks}"
